//! All tables together: what is looked up in them, and rows that contradict each other.

use keytrail_model::{TableKind, TableRef};

use crate::index::{Index, Scope, Version};
use crate::key::Name;
use crate::network::Network;
use crate::principal::Principal;
use crate::problem::{Problem, Problems};
use crate::ranges::{Builder, Ranges};
use crate::table::{Content, Table};
use crate::{Account, Key};

/// Tables to enrich with.
#[derive(Default)]
pub struct Tables {
    tables: Vec<Table>,
    pub(crate) keys: Index,
    pub(crate) principals: Index,
    pub(crate) accounts: Index,
    pub(crate) networks: Ranges,
    /// Databases of places; the one that counts most comes last.
    pub(crate) places: Vec<u32>,
    /// Rows of each kind, by what the indexes call them.
    rows: [Vec<RowRef>; TableKind::ALL.len()],
}

/// A row: its table, and its place there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef {
    pub table: u32,
    pub row: u32,
}

/// Spaces of names in an index.
pub(crate) mod space {
    /// Whole ARNs of keys.
    pub const ARN: u8 = b'r';
    /// Ids of keys, principals and accounts.
    pub const ID: u8 = b'i';
    /// Aliases of keys.
    pub const ALIAS: u8 = b'a';
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.tables.iter().map(|t| &t.reference)).finish()
    }
}

impl Tables {
    /// Puts tables together; of one kind, they are as one.
    ///
    /// # Errors
    /// By table: rows that hold at the same time and are about the same thing.
    pub fn new(tables: Vec<Table>) -> Result<Self, Vec<(usize, Problem)>> {
        let mut all = Self::default();
        let mut networks = Builder::default();
        let mut problems: Vec<Problems> = tables.iter().map(|_| Problems::default()).collect();
        for (number, table) in tables.iter().enumerate() {
            let rows = &mut all.rows[table.reference.kind as usize];
            let mut insert = |row: usize, what: &str, insert: &mut dyn FnMut(u32) -> Result<(), u32>| {
                // Rows are bounded; the first name of a row numbers it.
                let this = RowRef { table: number as u32, row: row as u32 };
                if rows.last().is_none_or(|last| (last.table, last.row) != (this.table, this.row)) {
                    rows.push(this);
                }
                if let Err(other) = insert(rows.len() as u32 - 1) {
                    let other = rows[other as usize];
                    if (other.table, other.row) != (this.table, this.row) {
                        problems[number].push(overlap(&tables, this, other, what));
                    }
                }
            };
            match &table.content {
                Content::Keys(keys) => {
                    for (n, key) in keys.iter().enumerate() {
                        for name in &key.names {
                            let (space, text, scope) = named(key, name);
                            insert(n, text, &mut |row| {
                                let version = Version { validity: key.validity, row };
                                all.keys.insert(space, text, &scope, version)
                            });
                        }
                    }
                }
                Content::Principals(principals) => {
                    for (n, principal) in principals.iter().enumerate() {
                        let scope: Scope<'_> =
                            [principal.dataset.as_deref(), principal.account.as_deref(), None, None];
                        for name in &principal.names {
                            insert(n, name, &mut |row| {
                                let version = Version { validity: principal.validity, row };
                                all.principals.insert(space::ID, name, &scope, version)
                            });
                        }
                    }
                }
                Content::Accounts(accounts) => {
                    for (n, account) in accounts.iter().enumerate() {
                        insert(n, &account.id, &mut |row| {
                            let version = Version { validity: account.validity, row };
                            all.accounts.insert(space::ID, &account.id, &[None; 4], version)
                        });
                    }
                }
                Content::Networks(rows) => {
                    for (n, network) in rows.iter().enumerate() {
                        insert(n, &network.prefix.to_string(), &mut |row| {
                            networks.insert(network.prefix, Version { validity: network.validity, row })
                        });
                    }
                }
                Content::Geoip(_) => all.places.insert(0, number as u32),
            }
        }
        let found: Vec<(usize, Problem)> =
            (0..).zip(problems).flat_map(|(n, p)| p.take().into_iter().map(move |p| (n, p))).collect();
        if !found.is_empty() {
            return Err(found);
        }
        all.networks = networks.finish();
        all.tables = tables;
        Ok(all)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The tables, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter()
    }

    /// What manifests record of them, ascending.
    pub fn references(&self) -> Vec<TableRef> {
        let mut all: Vec<TableRef> = self.tables.iter().map(|t| t.reference.clone()).collect();
        all.sort_unstable();
        all
    }

    /// All rows of the key inventory, table after table.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let keys = self.tables.iter().filter_map(|t| match &t.content {
            Content::Keys(keys) => Some(keys),
            _ => None,
        });
        keys.flatten()
    }

    pub(crate) fn table(&self, number: u32) -> Option<&Table> {
        self.tables.get(number as usize)
    }

    /// Where the row of a kind stands that an index calls so.
    pub(crate) fn place(&self, kind: TableKind, row: u32) -> Option<RowRef> {
        self.rows[kind as usize].get(row as usize).copied()
    }

    pub(crate) fn key(&self, place: RowRef) -> Option<&Key> {
        match &self.table(place.table)?.content {
            Content::Keys(rows) => rows.get(place.row as usize),
            _ => None,
        }
    }

    pub(crate) fn principal(&self, place: RowRef) -> Option<&Principal> {
        match &self.table(place.table)?.content {
            Content::Principals(rows) => rows.get(place.row as usize),
            _ => None,
        }
    }

    pub(crate) fn account(&self, place: RowRef) -> Option<&Account> {
        match &self.table(place.table)?.content {
            Content::Accounts(rows) => rows.get(place.row as usize),
            _ => None,
        }
    }

    pub(crate) fn network(&self, place: RowRef) -> Option<&Network> {
        match &self.table(place.table)?.content {
            Content::Networks(rows) => rows.get(place.row as usize),
            _ => None,
        }
    }
}

/// A name of a key, and within what it is one of a kind. An ARN says all of it.
fn named<'k>(key: &'k Key, name: &'k Name) -> (u8, &'k str, Scope<'k>) {
    let dataset = key.dataset.as_deref();
    let store = if key.arn.is_some() { None } else { key.store.as_deref() };
    let scope = [dataset, key.account.as_deref(), key.region.as_deref(), store];
    match name {
        Name::Arn(arn) => (space::ARN, arn, [dataset, None, None, None]),
        Name::Id(id) => (space::ID, id, scope),
        Name::Alias(alias) => (space::ALIAS, alias, scope),
    }
}

fn overlap(tables: &[Table], this: RowRef, other: RowRef, what: &str) -> Problem {
    let at = |row: RowRef| {
        let table = tables.get(row.table as usize);
        table.and_then(|t| Some((t, t.places.get(row.row as usize).copied()?)))
    };
    let (row, line) = at(this).map_or((None, None), |(_, (row, line))| (Some(row), line));
    let before = at(other).map_or_else(String::new, |(table, (row, line))| {
        let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
        let table = if this.table == other.table {
            String::new()
        } else {
            format!(" of the table `{}`", table.reference.name)
        };
        format!("row {row}{line}{table}")
    });
    let what = crate::fields::clipped(what);
    let message = format!(
        "`{what}` is also in {before}, which holds at the same time, expected `valid_from` and `valid_to` apart"
    );
    Problem { row, line, column: String::new(), message }
}
