//! Rows by what events call them, within a scope, at a time.
//!
//! A row names none, some or all of its scope (dataset, account, region, store): what it names has to be
//! what the event says, what it does not name is not looked at. The row that names most is taken. A lookup
//! writes the wanted key into a buffer of its caller and asks a hash map once for each set of scopes that
//! some row names: it allocates nothing.

use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use keytrail_model::Timestamp;

use crate::validity::Validity;

/// Parts of a scope: dataset, account, region, store.
pub(crate) type Scope<'a> = [Option<&'a str>; SCOPES];

pub(crate) const SCOPES: usize = 4;

type Map = HashMap<Box<[u8]>, Vec<Version>, BuildHasherDefault<ahash::AHasher>>;

/// A row, and when it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub validity: Validity,
    pub row: u32,
}

/// The index of a table.
#[derive(Default)]
pub(crate) struct Index {
    map: Map,
    /// Sets of scopes that some row names, those of most first; a bit a scope.
    shapes: Vec<u8>,
}

impl Index {
    /// Adds a row under a name in a space of names. Gives the row that holds the place at some moment of the
    /// same time.
    pub fn insert(&mut self, space: u8, name: &str, scope: &Scope<'_>, version: Version) -> Result<(), u32> {
        let shape = (0..SCOPES).filter(|i| scope[*i].is_some()).fold(0, |shape, i| shape | 1 << i);
        if !self.shapes.contains(&shape) {
            self.shapes.push(shape);
            self.shapes.sort_by_key(|s| (std::cmp::Reverse(s.count_ones()), *s));
        }
        let mut key = Vec::new();
        write(&mut key, space, shape, name, scope);
        let versions = self.map.entry(key.into_boxed_slice()).or_default();
        // Sorted by their start and free of overlaps: only the neighbours can meet the new one.
        let at = versions.partition_point(|v| v.validity.from < version.validity.from);
        let neighbours = versions.iter().skip(at.saturating_sub(1)).take(2);
        if let Some(taken) = neighbours.into_iter().find(|v| v.validity.overlaps(&version.validity)) {
            return Err(taken.row);
        }
        versions.insert(at, version);
        Ok(())
    }

    /// The row that holds at that time, of those that name most of the scope.
    pub fn find(
        &self,
        key: &mut Vec<u8>,
        (space, name): (u8, &str),
        scope: &Scope<'_>,
        time: Option<Timestamp>,
    ) -> Option<u32> {
        for shape in &self.shapes {
            if (0..SCOPES).any(|i| shape >> i & 1 == 1 && scope[i].is_none()) {
                continue;
            }
            write(key, space, *shape, name, scope);
            if let Some(row) = self.map.get(&**key).and_then(|versions| at(versions, time)) {
                return Some(row);
            }
        }
        None
    }
}

/// The version that holds at that time; versions are sorted by their start, and do not overlap.
pub(crate) fn at(versions: &[Version], time: Option<Timestamp>) -> Option<u32> {
    let last = match time {
        Some(_) => versions.partition_point(|v| v.validity.from.is_none_or(|from| Some(from) <= time)),
        None => versions.len().min(1),
    };
    let version = versions.get(last.checked_sub(1)?)?;
    version.validity.holds(time).then_some(version.row)
}

/// What the map has a name under. No part of a scope holds the byte that ends it, which no UTF-8 text has.
fn write(key: &mut Vec<u8>, space: u8, shape: u8, name: &str, scope: &Scope<'_>) {
    key.clear();
    key.push(space);
    key.push(shape);
    for part in (0..SCOPES).filter(|i| shape >> i & 1 == 1).filter_map(|i| scope[i]) {
        key.extend_from_slice(part.as_bytes());
        key.push(0xff);
    }
    key.extend_from_slice(name.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    fn version(row: u32, from: &str, to: &str) -> Version {
        Version { validity: Validity { from: time(from), to: time(to) }, row }
    }

    const NOWHERE: Scope<'_> = [None; SCOPES];

    #[test]
    fn the_row_that_held_then_is_found() {
        let mut index = Index::default();
        for v in [
            version(1, "2023-02-01", "2023-03-01"),
            version(2, "2023-03-01", ""),
            version(0, "", "2023-01-01"),
        ] {
            index.insert(0, "k", &NOWHERE, v).unwrap();
        }
        let find = |t: &str| index.find(&mut Vec::new(), (0, "k"), &NOWHERE, time(t));
        assert_eq!(find("2022-12-31T23:59:59Z"), Some(0));
        assert_eq!(find("2023-01-01"), None);
        assert_eq!(find("2023-02-01"), Some(1));
        assert_eq!(find("2024-01-01"), Some(2));
        assert_eq!(find(""), None);
        assert_eq!(index.insert(0, "k", &NOWHERE, version(9, "2023-02-28", "2023-03-01")), Err(1));
        assert_eq!(index.insert(0, "k", &NOWHERE, version(9, "2024-02-28", "")), Err(2));
        assert_eq!(index.insert(0, "k", &NOWHERE, version(9, "", "")), Err(0));
        assert_eq!(index.insert(0, "k", &NOWHERE, version(3, "2023-01-01", "2023-02-01")), Ok(()));
        assert_eq!(index.insert(1, "k", &NOWHERE, version(4, "", "")), Ok(()));
    }

    #[test]
    fn the_row_that_names_most_counts() {
        let mut index = Index::default();
        let at = |account, region| [None, account, region, None];
        let always = |row| version(row, "", "");
        index.insert(0, "k", &at(None, None), always(0)).unwrap();
        index.insert(0, "k", &at(Some("1"), None), always(1)).unwrap();
        index.insert(0, "k", &at(Some("1"), Some("eu")), always(2)).unwrap();
        let find = |account, region| index.find(&mut Vec::new(), (0, "k"), &at(account, region), None);
        assert_eq!(find(Some("1"), Some("eu")), Some(2));
        assert_eq!(find(Some("1"), Some("us")), Some(1));
        assert_eq!(find(Some("2"), Some("eu")), Some(0));
        assert_eq!(find(None, Some("eu")), Some(0));
    }
}
