//! RFC 6962 hashes (section 2.1) and a root that is folded leaf by leaf in O(log n) memory.

use sha2::{Digest, Sha256};

use crate::hash::Hash;
use crate::sha256::of_two;

/// `SHA-256(0x00 || bytes)`.
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    let mut h = Sha256::new();
    h.update([0]);
    h.update(bytes);
    Hash(h.finalize().into())
}

/// `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::digest(node(left, right)).into())
}

fn node(left: &Hash, right: &Hash) -> [u8; 65] {
    let mut block = [1; 65];
    block[1..33].copy_from_slice(&left.0);
    block[33..].copy_from_slice(&right.0);
    block
}

/// Folds leaf hashes into the root of the tree over them.
#[derive(Clone, Default, Debug)]
pub struct RootBuilder {
    /// Roots of the perfect subtrees that the leaves so far make, widest first.
    peaks: Vec<Hash>,
    size: u64,
}

impl RootBuilder {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        let mut n = self.size;
        while n & 1 == 1 {
            // The size's trailing one bits are perfect subtrees of the same width as `node`.
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
            n >>= 1;
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Appends a leaf to each of two trees that have as many, by what the leaves are over: what an object has
    /// of a row. Both trees are folded at once, which is faster than one after the other. Gives the hashes of
    /// the leaves.
    pub fn push_both(&mut self, other: &mut Self, leaves: [&Hash; 2]) -> [Hash; 2] {
        let leaf = |hash: &Hash| {
            let mut bytes = [0; 33];
            bytes[1..].copy_from_slice(&hash.0);
            bytes
        };
        let hashes = of_two(&leaf(leaves[0]), &leaf(leaves[1]));
        let [mut node, mut beside] = hashes;
        if self.size != other.size {
            self.push(node);
            other.push(beside);
            return hashes;
        }
        let mut n = self.size;
        while n & 1 == 1 {
            if let (Some(left), Some(right)) = (self.peaks.pop(), other.peaks.pop()) {
                [node, beside] = of_two(&self::node(&left, &node), &self::node(&right, &beside));
            }
            n >>= 1;
        }
        self.peaks.push(node);
        other.peaks.push(beside);
        self.size += 1;
        other.size += 1;
        hashes
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root (of the empty tree: SHA-256 of nothing).
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Hash::of(b""),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The sibling hashes from leaf `index` up to the root over `leaves` (RFC 6962 section 2.1.1); empty for
/// an index outside of them.
pub fn audit_path(leaves: &[Hash], index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let (mut rest, mut at) = (leaves, index);
    while rest.len() > 1 && at < rest.len() {
        let (left, right) = rest.split_at(rest.len().next_power_of_two() / 2);
        let (own, sibling) = if at < left.len() { (left, right) } else { (right, left) };
        at -= if at < left.len() { 0 } else { left.len() };
        let mut root = RootBuilder::new();
        sibling.iter().for_each(|l| root.push(*l));
        path.push(root.root());
        rest = own;
    }
    path.reverse();
    path
}

/// Root over leaves given as bytes.
pub fn root_of<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    let mut b = RootBuilder::new();
    for leaf in leaves {
        b.push(leaf_hash(leaf));
    }
    b.root()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962 section 2.1, word for word.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves.len() {
            0 => Hash::of(b""),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&by_definition(&leaves[..k]), &by_definition(&leaves[k..]))
            }
        }
    }

    #[test]
    fn trees_folded_at_once_are_those_folded_alone() {
        let hashes: Vec<Hash> = (0u32..70).map(|i| Hash::of(&i.to_be_bytes())).collect();
        for ahead in 0..3 {
            let (mut a, mut b) = (RootBuilder::new(), RootBuilder::new());
            let (mut alone, mut beside) = (RootBuilder::new(), RootBuilder::new());
            for early in &hashes[..ahead] {
                a.push(leaf_hash(&early.0));
                alone.push(leaf_hash(&early.0));
            }
            for two in hashes.windows(2) {
                a.push_both(&mut b, [&two[0], &two[1]]);
                alone.push(leaf_hash(&two[0].0));
                beside.push(leaf_hash(&two[1].0));
                assert_eq!((a.root(), b.root()), (alone.root(), beside.root()));
                assert_eq!((a.size(), b.size()), (alone.size(), beside.size()));
            }
        }
    }

    #[test]
    fn folded_root_is_the_defined_root() {
        let leaves: Vec<Hash> = (0u32..130).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        for n in 0..=leaves.len() {
            let mut b = RootBuilder::new();
            leaves[..n].iter().for_each(|l| b.push(*l));
            assert_eq!(b.root(), by_definition(&leaves[..n]), "{n} leaves");
        }
    }
}
