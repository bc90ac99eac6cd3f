//! The types that keytrail's stages hand to each other: records, events, rows, outcomes, manifests.
//!
//! What it is: plain values, hashes and the functions that give an event its identity and its place.
//! What it is not: it does no I/O, reads no clock, knows no source and no file format.
//! In: bytes of a record and what a normalizer read from it. Out: [`Row`]s, [`Manifest`]s, counts.

pub mod action;
pub mod column;
pub mod digest;
pub mod event;
pub mod hash;
pub mod json;
pub mod key_operation;
pub mod manifest;
pub mod merkle;
pub mod outcome;
pub mod place;
pub mod printable;
pub mod receipt;
pub mod reject;
pub mod row;
pub mod segment;
pub mod sha256;
pub mod table;
pub mod time;

pub use action::ActionClass;
pub use column::{Column, ColumnSet, Kind};
pub use event::{AuditEvent, Identity, Value};
pub use hash::{Hash, Uid};
pub use manifest::{Detail, Manifest};
pub use outcome::{BatchOutcome, Counts, Fatal};
pub use place::{Day, Partition};
pub use receipt::Receipt;
pub use reject::{Reject, Rejection};
pub use row::{Row, RowBuffer};
pub use table::{TableKind, TableRef};
pub use time::Timestamp;

/// Version of the archive's column set, stored as `keytrail_schema` in each row.
pub const SCHEMA_VERSION: i64 = 1;
