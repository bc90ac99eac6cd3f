//! A set of hashes that grows to millions: those that were known at the start stand side by side, 32 bytes each.

use std::collections::HashSet;

use keytrail_model::Hash;

/// The set.
#[derive(Clone, Default, Debug)]
pub struct Hashes {
    /// Ascending.
    known: Vec<Hash>,
    new: HashSet<Hash>,
}

impl Hashes {
    /// Of these.
    pub fn of(mut known: Vec<Hash>) -> Self {
        known.sort_unstable();
        known.dedup();
        Self { known, new: HashSet::new() }
    }

    /// Whether it is one of them.
    pub fn contains(&self, hash: &Hash) -> bool {
        self.new.contains(hash) || self.known.binary_search(hash).is_ok()
    }

    /// Adds one; `false`: it was there.
    pub fn insert(&mut self, hash: Hash) -> bool {
        self.known.binary_search(&hash).is_err() && self.new.insert(hash)
    }

    /// Takes one out that was not known at the start.
    pub fn remove(&mut self, hash: &Hash) {
        self.new.remove(hash);
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Hash> {
        self.known.iter().chain(&self.new)
    }
}

impl Extend<Hash> for Hashes {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, hashes: T) {
        hashes.into_iter().for_each(|hash| {
            self.insert(hash);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_there_once() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Hash::of(bytes));
        let mut hashes = Hashes::of(vec![b, a, b]);
        assert_eq!((hashes.insert(a), hashes.insert(c), hashes.insert(c)), (false, true, false));
        assert!(hashes.contains(&b) && hashes.contains(&c) && !hashes.contains(&Hash::of(b"d")));
        assert_eq!(hashes.iter().count(), 3);
    }
}
