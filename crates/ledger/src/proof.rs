//! Inclusion and consistency proofs (RFC 9162 sections 2.1.3 and 2.1.4).
//!
//! Making one reads O(log n) tiles through a closure; it is right only if the tiles are: check it
//! against a checkpoint's root, as whoever receives it does.

use std::collections::HashMap;

use keytrail_model::Hash;
use keytrail_model::merkle::node_hash;

use crate::tile::{Level, Tile, WIDTH};
use crate::tree::{Edge, Read, TreeError, fold, perfect_root, read_hashes};

/// The proof that leaf `index` is in the tree of `size` leaves: sibling hashes, leaf to root.
pub fn inclusion_proof(index: u64, size: u64, read: &mut Read<'_>) -> Result<Vec<Hash>, TreeError> {
    if index >= size {
        return Err(TreeError::OutOfRange(format!("there is no leaf {index} in a tree of {size} leaves")));
    }
    let mut nodes = Nodes::new(size, read);
    let (mut lo, mut hi) = (0, size);
    let mut path = Vec::new();
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            path.push(nodes.root(middle, hi)?);
            hi = middle;
        } else {
            path.push(nodes.root(lo, middle)?);
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `new` leaves is the tree of `old` leaves with entries appended.
pub fn consistency_proof(old: u64, new: u64, read: &mut Read<'_>) -> Result<Vec<Hash>, TreeError> {
    if old > new {
        return Err(TreeError::OutOfRange(format!("a tree of {new} leaves has no prefix of {old}")));
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut nodes = Nodes::new(new, read);
    let (mut lo, mut hi) = (0, new);
    let mut path = Vec::new();
    while old != hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            path.push(nodes.root(middle, hi)?);
            hi = middle;
        } else {
            path.push(nodes.root(lo, middle)?);
            lo = middle;
        }
    }
    if lo != 0 {
        path.push(nodes.root(lo, hi)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `proof` shows that the leaf with that hash is at `index` of the tree (RFC 9162 2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut f, mut s) = (index, size - 1);
    let mut r = *leaf;
    for p in proof {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            r = node_hash(p, &r);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            r = node_hash(&r, p);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && r == *root
}

/// Whether `proof` shows that the second tree starts with the first (RFC 9162 2.1.4.2). The empty
/// tree is a prefix of every tree, by an empty proof.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> bool {
    if old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == Edge::new().root();
    }
    let (first, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        match proof.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    if proof.is_empty() {
        return false;
    }
    let (mut f, mut s) = (old - 1, new - 1);
    while f & 1 == 1 {
        f >>= 1;
        s >>= 1;
    }
    let (mut fr, mut sr) = (first, first);
    for c in rest {
        if s == 0 {
            return false;
        }
        if f & 1 == 1 || f == s {
            fr = node_hash(c, &fr);
            sr = node_hash(c, &sr);
            while f & 1 == 0 && f != 0 {
                f >>= 1;
                s >>= 1;
            }
        } else {
            sr = node_hash(&sr, c);
        }
        f >>= 1;
        s >>= 1;
    }
    s == 0 && fr == *old_root && sr == *new_root
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// Hashes of a stored tree's nodes.
struct Nodes<'a, 'r> {
    size: u64,
    read: &'a mut Read<'r>,
    tiles: HashMap<(u8, u64), Vec<Hash>>,
}

impl<'a, 'r> Nodes<'a, 'r> {
    fn new(size: u64, read: &'a mut Read<'r>) -> Self {
        Self { size, read, tiles: HashMap::new() }
    }

    /// Root over the leaves `lo..hi`; `lo` is a multiple of a power of two not below `hi - lo`, or 0.
    fn root(&mut self, lo: u64, hi: u64) -> Result<Hash, TreeError> {
        // The range's perfect subtrees, widest first, are the one bits of its length.
        let mut peaks = Vec::new();
        let mut from = lo;
        while from < hi {
            let log2 = (hi - from).ilog2();
            peaks.push(self.perfect(log2, from >> log2)?);
            from += 1 << log2;
        }
        let mut right = None;
        for peak in peaks.into_iter().rev() {
            right = fold(&[peak], right);
        }
        right.ok_or_else(|| TreeError::OutOfRange(format!("no leaves from {lo} to {hi}")))
    }

    /// The node over the leaves `index << log2 .. (index + 1) << log2`.
    fn perfect(&mut self, log2: u32, index: u64) -> Result<Hash, TreeError> {
        // A tile of level L holds every eighth row of the tree; rows between are folded from it.
        let (level, rows) = ((log2 / 8) as u8, log2 % 8);
        let first = index << rows;
        let (number, at) = (first / WIDTH, (first % WIDTH) as usize);
        if !self.tiles.contains_key(&(level, number)) {
            let tile = Tile::at(Level::Hashes(level), number, self.size)
                .ok_or_else(|| TreeError::OutOfRange(format!("no tile {number} at level {level}")))?;
            self.tiles.insert((level, number), read_hashes(tile, self.read)?);
        }
        self.tiles
            .get(&(level, number))
            .and_then(|hashes| hashes.get(at..at + (1 << rows)))
            .map(perfect_root)
            .ok_or_else(|| TreeError::OutOfRange(format!("no node {index} at height {log2}")))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use keytrail_model::merkle::leaf_hash;
    use proptest::prelude::*;
    use serde::Deserialize;
    use sha2::Sha256;

    use super::*;
    use crate::tree::tests::{entry, log};

    #[derive(Deserialize)]
    struct Vectors {
        inclusion: Vec<Inclusion>,
        consistency: Vec<Consistency>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inclusion {
        name: String,
        leaf_idx: u64,
        tree_size: u64,
        root: Option<String>,
        leaf_hash: Option<String>,
        proof: Option<Vec<String>>,
        want_err: bool,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Consistency {
        name: String,
        size1: u64,
        size2: u64,
        root1: Option<String>,
        root2: Option<String>,
        proof: Option<Vec<String>>,
        want_err: bool,
    }

    fn vectors() -> Vectors {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/merkle/vectors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// `None`: not a SHA-256, which our types cannot hold.
    fn hash(text: Option<&String>) -> Option<Hash> {
        let bytes = STANDARD.decode(text?).unwrap();
        bytes.try_into().ok().map(Hash)
    }

    fn hashes(list: Option<&Vec<String>>) -> Option<Vec<Hash>> {
        list.into_iter().flatten().map(|h| hash(Some(h))).collect()
    }

    #[test]
    fn the_vectors_of_others() {
        let v = vectors();
        assert_eq!((v.inclusion.len(), v.consistency.len()), (31, 22));
        for c in &v.inclusion {
            let parts = hash(c.root.as_ref()).zip(hash(c.leaf_hash.as_ref())).zip(hashes(c.proof.as_ref()));
            let good = parts.is_some_and(|((root, leaf), proof)| {
                verify_inclusion(&leaf, c.leaf_idx, c.tree_size, &proof, &root)
            });
            assert_eq!(good, !c.want_err, "{}", c.name);
        }
        for c in &v.consistency {
            let parts = hash(c.root1.as_ref()).zip(hash(c.root2.as_ref())).zip(hashes(c.proof.as_ref()));
            let good =
                parts.is_some_and(|((r1, r2), proof)| verify_consistency(c.size1, &r1, c.size2, &r2, &proof));
            assert_eq!(good, !c.want_err, "{}", c.name);
        }
    }

    fn flat(proof: &[Hash]) -> Vec<u8> {
        proof.iter().flat_map(|h| h.0).collect()
    }

    #[test]
    fn proofs_are_those_of_ct_merkle() {
        let (files, ..) = log(&[700]);
        let mut read = |p: &str| Ok(files.get(p).cloned());
        let mut oracle = MemoryBackedTree::<Sha256, Vec<u8>>::new();
        let mut roots = vec![Edge::new().root()];
        for i in 0..700 {
            oracle.push(entry(i));
            let mut root = Hash::default();
            root.0.copy_from_slice(oracle.root().as_bytes());
            roots.push(root);
        }
        for index in (0..700).step_by(13).chain([255, 256, 511, 512, 699]) {
            let proof = inclusion_proof(index, 700, &mut read).unwrap();
            assert_eq!(flat(&proof), oracle.prove_inclusion(index as usize).as_bytes(), "leaf {index}");
            assert!(verify_inclusion(&leaf_hash(&entry(index)), index, 700, &proof, &roots[700]));
        }
        for old in (1..700).step_by(11).chain([256, 512, 699]) {
            let proof = consistency_proof(old, 700, &mut read).unwrap();
            assert_eq!(flat(&proof), oracle.prove_consistency((700 - old) as usize).as_bytes(), "size {old}");
            assert!(verify_consistency(old, &roots[old as usize], 700, &roots[700], &proof));
            assert!(!verify_consistency(old, &roots[old as usize - 1], 700, &roots[700], &proof));
        }
    }

    #[test]
    fn a_place_outside_is_refused() {
        let e = inclusion_proof(3, 3, &mut |_| Ok(None)).unwrap_err();
        assert_eq!(e.to_string(), "there is no leaf 3 in a tree of 3 leaves");
        let e = consistency_proof(4, 3, &mut |_| Ok(None)).unwrap_err();
        assert_eq!(e.to_string(), "a tree of 3 leaves has no prefix of 4");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_proof_of_small_trees_verifies(size in 1u64..600, a: u64, b: u64) {
            let (files, _, root) = log(&[size]);
            let mut read = |p: &str| Ok(files.get(p).cloned());
            let (index, old) = (a % size, b % (size + 1));
            let proof = inclusion_proof(index, size, &mut read).unwrap();
            let leaf = leaf_hash(&entry(index));
            prop_assert!(verify_inclusion(&leaf, index, size, &proof, &root));
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof, &leaf_hash(&root.0)));
            let proof = consistency_proof(old, size, &mut read).unwrap();
            prop_assert!(verify_consistency(old, &log(&[old]).2, size, &root, &proof));
        }

        #[test]
        fn no_proof_panics(old: u64, new: u64, n in 0usize..70) {
            let proof = vec![Hash::default(); n];
            prop_assert!(!verify_inclusion(&proof.first().copied().unwrap_or_default(), old, new, &proof, &Hash::of(b"x")));
            prop_assert!(!verify_consistency(old, &Hash::of(b"y"), new, &Hash::of(b"x"), &proof));
        }
    }
}
