//! Enrichment tables as other stages see them: what a manifest says of one, and a row before it has types.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::time::Timestamp;

/// What a table tells of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Cloud accounts, projects and subscriptions.
    Accounts,
    /// Places and autonomous systems of addresses, an MMDB file.
    Geoip,
    /// The key inventory.
    Keys,
    /// Networks and their zones.
    Networks,
    /// Persons and workloads behind principals.
    Principals,
}

impl TableKind {
    /// All kinds, by name.
    pub const ALL: [Self; 5] = [Self::Accounts, Self::Geoip, Self::Keys, Self::Networks, Self::Principals];

    /// The name as configured and recorded.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accounts => "accounts",
            Self::Geoip => "geoip",
            Self::Keys => "keys",
            Self::Networks => "networks",
            Self::Principals => "principals",
        }
    }

    /// The kind of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A table that rows were enriched with, as manifests record it. Tables ascend by kind, name and hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRef {
    /// What it tells of.
    pub kind: TableKind,
    /// Its name in the configuration, at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// SHA-256 of the file.
    pub sha256: Hash,
}

/// Bytes of a table's name at most.
pub const MAX_NAME_BYTES: usize = 64;

/// Tables that one manifest records at most: they have to fit into an entry.
pub const MAX_TABLES: usize = 64;

impl TableRef {
    /// As object names are made of it: `<kind>/<name>@<sha256>`.
    pub fn version(&self) -> String {
        format!("{}/{}@{}", self.kind.name(), self.name, self.sha256)
    }

    /// As `keytrail_tables` holds it: `<name>@<first 16 hex digits of the SHA-256>`.
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, &self.sha256.to_hex()[..16])
    }
}

/// A row of a table before its values have types.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Its number, from 1; a line of headings does not count.
    pub number: u64,
    /// Where it begins in the file, from 1, where the format has lines.
    pub line: Option<u64>,
    /// What stands under which name. A name stands once.
    pub cells: Vec<(String, Cell)>,
}

/// A value of a row before it has a type.
#[derive(Clone, PartialEq, Debug)]
pub enum Cell {
    /// None.
    Null,
    /// A text as it stands.
    Text(String),
    /// True or false.
    Bool(bool),
    /// A time.
    Time(Timestamp),
    /// Several texts.
    List(Vec<String>),
    /// Of a type that no column has; its name.
    Other(&'static str),
}
