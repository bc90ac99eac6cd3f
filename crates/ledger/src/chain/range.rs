//! Subtrees over a stretch of a tree's leaves: what a root needs of them (RFC 6962 section 2.1).
//!
//! A stretch that does not begin at leaf 0 has no root of its own. Its perfect, aligned subtrees are kept
//! until what lies before it is there: at most two for each level.

use keytrail_model::Hash;
use keytrail_model::merkle::node_hash;

/// The subtrees of some leaves that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Range {
    /// Level and hash, from left to right.
    nodes: Vec<(u32, Hash)>,
    /// The leaf behind the last one.
    end: u64,
}

impl Range {
    /// No leaves, before that one.
    pub(super) fn before(leaf: u64) -> Self {
        Self { nodes: Vec::new(), end: leaf }
    }

    /// Appends a leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        self.end += 1;
        self.nodes.push((0, leaf));
        self.merge();
    }

    /// Appends the leaves that follow these.
    pub(super) fn append(&mut self, next: &Self) {
        for (level, hash) in &next.nodes {
            self.end += 1 << level;
            self.nodes.push((*level, *hash));
            self.merge();
        }
    }

    /// Makes one of two subtrees as long as the last two are halves of an aligned one.
    fn merge(&mut self) {
        while let [.., (left_level, left), (level, right)] = self.nodes[..]
            && left_level == level
            && self.end.trailing_zeros() > level
        {
            self.nodes.truncate(self.nodes.len() - 2);
            self.nodes.push((level + 1, node_hash(&left, &right)));
        }
    }

    /// The root over them, if they begin at leaf 0.
    pub(super) fn root(&self) -> Hash {
        let mut nodes = self.nodes.iter().rev();
        match nodes.next() {
            None => Hash::of(b""),
            Some((_, last)) => nodes.fold(*last, |right, (_, left)| node_hash(left, &right)),
        }
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::merkle::{RootBuilder, leaf_hash};

    use super::*;

    #[test]
    fn stretches_make_the_root_wherever_they_are_cut() {
        let leaves: Vec<Hash> = (0u8..41).map(|i| leaf_hash(&[i])).collect();
        let range = |from: usize, to: usize| {
            let mut range = Range::before(from as u64);
            leaves[from..to].iter().for_each(|leaf| range.push(*leaf));
            range
        };
        for end in 0..=leaves.len() {
            let mut root = RootBuilder::new();
            leaves[..end].iter().for_each(|l| root.push(*l));
            for first in 0..=end {
                for second in first..=end {
                    let mut whole = range(0, first);
                    let mut rest = range(first, second);
                    rest.append(&range(second, end));
                    whole.append(&rest);
                    assert_eq!(whole.root(), root.root(), "0..{first}..{second}..{end}");
                }
            }
        }
    }
}
