//! Counts by name, where whoever writes logs chooses the names: exact up to a number of names, and honest
//! beyond it.
//!
//! A table that would have more names than its limit drops all of them and says so; sums are kept beside it. So
//! what it says depends neither on the order of rows nor on how they lie in objects.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

/// Names that a table holds at most.
pub const LIMIT: usize = 20_000;

/// The parts of a name; a part may be missing.
pub type Name = Vec<Option<String>>;

/// What can be added up.
pub trait Tallied: Default {
    /// Adds another part's.
    fn add(&mut self, other: Self);
}

/// Values by name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(from = "Option<Vec<(Name, V)>>", into = "Option<Vec<(Name, V)>>")]
#[serde(bound(serialize = "V: Clone + Serialize", deserialize = "V: Deserialize<'de>"))]
pub struct Names<V> {
    /// `None`: there are more than [`LIMIT`].
    all: Option<BTreeMap<Name, V>>,
}

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { all: Some(BTreeMap::new()) }
    }
}

impl<V> From<Option<Vec<(Name, V)>>> for Names<V> {
    fn from(list: Option<Vec<(Name, V)>>) -> Self {
        Self { all: list.map(|list| list.into_iter().collect()) }
    }
}

impl<V> From<Names<V>> for Option<Vec<(Name, V)>> {
    fn from(names: Names<V>) -> Self {
        names.all.map(|all| all.into_iter().collect())
    }
}

impl<V: Tallied> Names<V> {
    /// Adds all of another table.
    pub fn merge(&mut self, other: Self) {
        let (Some(all), Some(others)) = (&mut self.all, other.all) else {
            self.all = None;
            return;
        };
        for (name, value) in others {
            all.entry(name).or_default().add(value);
            if all.len() > LIMIT {
                self.all = None;
                return;
            }
        }
    }
}

impl<V> Names<V> {
    /// The names; `None`: too many.
    pub fn all(&self) -> Option<&BTreeMap<Name, V>> {
        self.all.as_ref()
    }

    /// The value of a name; `None` where it has none, or there are too many.
    pub fn get(&self, name: &Name) -> Option<&V> {
        self.all.as_ref()?.get(name)
    }
}

/// A table in the making: names are looked up without a copy.
pub struct Gathering<V> {
    all: Option<HashMap<Box<[u8]>, V>>,
    key: Vec<u8>,
}

impl<V: Default> Gathering<V> {
    /// An empty one.
    pub fn new() -> Self {
        Self { all: Some(HashMap::new()), key: Vec::new() }
    }

    /// The value of a name; `None`: there are too many.
    pub fn of(&mut self, name: &[Option<&str>]) -> Option<&mut V> {
        self.key.clear();
        for part in name {
            let text = part.unwrap_or_default();
            self.key.push(u8::from(part.is_some()));
            self.key.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.key.extend_from_slice(text.as_bytes());
        }
        let is_new = !self.all.as_ref()?.contains_key(self.key.as_slice());
        if is_new && self.all.as_ref().is_some_and(|all| all.len() >= LIMIT) {
            self.all = None;
        }
        let all = self.all.as_mut()?;
        if is_new {
            all.insert(self.key.as_slice().into(), V::default());
        }
        all.get_mut(self.key.as_slice())
    }

    /// The table.
    pub fn finish(self) -> Names<V> {
        Names { all: self.all.map(|all| all.into_iter().map(|(key, v)| (decode(&key), v)).collect()) }
    }
}

fn decode(mut key: &[u8]) -> Name {
    let mut name = Vec::new();
    while let Some((&[there, a, b, c, d], rest)) = key.split_first_chunk::<5>() {
        let (text, rest) = rest.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
        // It was made of texts.
        name.push((there == 1).then(|| String::from_utf8_lossy(text).into_owned()));
        key = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
    struct Count(u64);

    impl Tallied for Count {
        fn add(&mut self, other: Self) {
            self.0 += other.0;
        }
    }

    fn gather<'a>(names: impl Iterator<Item = [Option<&'a str>; 2]>) -> Names<Count> {
        let mut gathering = Gathering::<Count>::new();
        for name in names {
            if let Some(count) = gathering.of(&name) {
                count.0 += 1;
            }
        }
        gathering.finish()
    }

    #[test]
    fn names_are_told_apart() {
        let names = [
            [Some("ab"), Some("c")],
            [Some("a"), Some("bc")],
            [None, Some("")],
            [Some(""), None],
            [None, None],
        ];
        let mut table = gather(names.iter().copied().chain([names[2]]));
        assert_eq!(table.all().unwrap().len(), 5);
        assert_eq!(table.get(&vec![None, Some(String::new())]), Some(&Count(2)));
        table.merge(table.clone());
        assert_eq!(table.get(&vec![None, Some(String::new())]), Some(&Count(4)));
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Names<Count>>(&json).unwrap(), table);
    }

    #[test]
    fn too_many_are_none() {
        let names: Vec<String> = (0..=LIMIT).map(|n| n.to_string()).collect();
        let some = gather(names[1..].iter().map(|n| [Some(n.as_str()), None]));
        assert_eq!(some.all().unwrap().len(), LIMIT);
        let mut merged = gather([[Some("0"), None]].into_iter());
        merged.merge(some.clone());
        assert_eq!(merged.all(), None);
        assert_eq!(gather(names.iter().map(|n| [Some(n.as_str()), None])).all(), None);
        let mut again = some;
        again.merge(merged);
        assert_eq!(again.all(), None);
    }
}
