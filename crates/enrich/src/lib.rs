//! What an organization knows of keys, principals, networks and accounts, joined with its events.
//!
//! What it is: typed tables ([`Table`]: [`Key`], [`Principal`], [`Network`], [`Account`], [`geo::Places`]),
//! read from bytes with every problem at once ([`read`], [`Reading`]), put together ([`Tables`]), and the
//! join ([`Enricher`]): the row that was valid at an event's own time. What it is not: it opens no file, reads
//! no clock, knows no Parquet (rows of it come as [`keytrail_model::table::Record`]s), and changes nothing of
//! an event. In: bytes of tables, and rows in the row encoding. Out: enrichment columns in the row encoding,
//! beside the row's own: no digest covers them, a replay with other tables gives the same events.
//!
//! The key inventory is for reports too: [`Tables::keys`] gives all its rows ([`Key`]: `id`, `arn`, `alias`,
//! owner, purpose, tier, team, cryptoperiod, algorithm, origin, state, activated, rotated, validity), and
//! `keytrail_key_declared_id` of an event is [`Key::name`] of the row that it was joined with.
//!
//! | columns | from |
//! | --- | --- |
//! | `keytrail_key_declared_id`, `_declared_alias`, `_owner`, `_purpose`, `_team`, `_tier` | `keys` |
//! | `keytrail_actor_person`, `_team`, `_role`, `_privileged`, `_service` | `principals` |
//! | `keytrail_source_zone`, `_site` | `networks` |
//! | `cloud_account_name`, `keytrail_account_owner`, `_tier` | `accounts` |
//! | `source_geo_country_iso_code`, `source_geo_city_name`, `source_as_number`, `source_as_organization_name` | `geoip` |
//! | `keytrail_tables` | which tables gave the row a value, `<name>@<16 hex digits>` |
//!
//! `schemas/tables.md` documents the files.

mod account;
mod cryptoperiod;
mod csv;
mod enricher;
mod fields;
pub mod geo;
mod index;
mod json;
mod key;
mod network;
mod principal;
mod problem;
mod ranges;
mod table;
mod tables;
mod validity;
mod yaml;

pub use account::Account;
pub use cryptoperiod::Cryptoperiod;
pub use enricher::{Enricher, LOOKED_UP, table_kind};
pub use fields::{Field, fields_of};
pub use key::Key;
pub use network::Network;
pub use principal::Principal;
pub use problem::Problem;
pub use table::{Content, Format, Reading, Table, read};
pub use tables::Tables;
pub use validity::{Validity, time};

/// Bytes of a table's file at most.
pub const MAX_TABLE_BYTES: u64 = 256 << 20;

/// Rows of a table at most.
pub const MAX_ROWS: u64 = 2_000_000;

/// Columns of a table at most.
pub const MAX_COLUMNS: usize = 256;

/// Bytes of a value at most.
pub const MAX_VALUE_BYTES: usize = 4 << 10;
