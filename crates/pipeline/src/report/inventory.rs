//! The declared key inventory, as far as a report asks: which keys there are, and who answers for them.
//!
//! In: rows of tables. Out: the row of a key by what events call it. A report keeps the hashes of the tables, not
//! their rows: to make it again takes the same tables.

use std::collections::HashMap;

use keytrail_enrich::Tables;
use keytrail_model::Timestamp;
use keytrail_model::table::TableKind;
use keytrail_report::model::{DeclaredKey, InventoryRef, TableRef};

/// A key inventory of one or more tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    tables: Vec<TableRef>,
    keys: Vec<DeclaredKey>,
    /// Places in `keys` by name.
    names: HashMap<String, usize>,
}

impl Inventory {
    /// The key inventory of tables, by the rows that hold at a time; `None` where there is none.
    pub fn of(tables: &Tables, at: Timestamp) -> Option<Self> {
        let of_keys = tables.iter().filter(|t| t.reference.kind == TableKind::Keys);
        let refs: Vec<TableRef> = of_keys
            .map(|t| TableRef {
                name: t.reference.name.clone(),
                sha256: t.reference.sha256.to_string(),
                rows: t.rows(),
            })
            .collect();
        if refs.is_empty() {
            return None;
        }
        let mut inventory = Self { tables: refs, ..Self::default() };
        for key in tables.keys().filter(|key| key.validity.holds(Some(at))) {
            let said = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
            let declared = DeclaredKey {
                key: key.name().to_owned(),
                owner: said(&key.owner),
                purpose: said(&key.purpose),
            };
            let names = key.id.iter().chain(&key.arn).chain(&key.aliases).map(|name| &**name);
            inventory.add(declared, names);
        }
        Some(inventory)
    }

    /// Adds a key, and all that events may call it.
    fn add<'a>(&mut self, key: DeclaredKey, names: impl Iterator<Item = &'a str>) {
        for name in names {
            self.names.entry(folded(name)).or_insert(self.keys.len());
        }
        self.names.entry(folded(&key.key)).or_insert(self.keys.len());
        self.keys.push(key);
    }

    /// The tables.
    pub fn tables(&self) -> &[TableRef] {
        &self.tables
    }

    /// The place of a key that events call one of these names.
    pub fn find<'a>(&self, names: impl Iterator<Item = &'a str>) -> Option<usize> {
        names.filter_map(|name| self.names.get(&folded(name))).next().copied()
    }

    /// All keys.
    pub fn keys(&self) -> &[DeclaredKey] {
        &self.keys
    }

    /// As reports name it.
    pub fn reference(&self) -> InventoryRef {
        InventoryRef {
            names: self.tables.iter().map(|table| table.name.clone()).collect(),
            keys: self.keys.len() as u64,
        }
    }
}

/// A name as it is compared: the last part of an ARN, without `alias/`, in small letters.
fn folded(name: &str) -> String {
    let name = if name.starts_with("arn:") { name.rsplit([':', '/']).next().unwrap_or(name) } else { name };
    name.strip_prefix("alias/").unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_each_of_its_names() {
        let mut inventory = Inventory::default();
        let key = |name: &str| DeclaredKey { key: name.to_owned(), owner: None, purpose: None };
        inventory.add(key("1234ABCD"), ["alias/payments"].into_iter());
        inventory.add(key("arn:aws:kms:eu-west-1:111122223333:key/77"), std::iter::empty());
        for (name, place) in [
            ("1234abcd", Some(0)),
            ("payments", Some(0)),
            ("alias/payments", Some(0)),
            ("arn:aws:kms:us-east-1:1:key/1234abcd", Some(0)),
            ("77", Some(1)),
            ("78", None),
        ] {
            assert_eq!(inventory.find([name].into_iter()), place, "{name}");
        }
    }
}
