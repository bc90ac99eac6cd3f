//! Events to Parquet and back: the only crate that knows Arrow and Parquet.
//!
//! What it is: the writer and the reader of an archive object ([`ObjectWriter`], [`ObjectReader`]), the
//! external sorter that cuts a mixed stream of rows into slices of one partition ([`Sorter`]), and the
//! index by which ingest finds duplicates and conflicts ([`UidIndex`], [`PartitionIndex`]).
//! What it is not: it decides nothing about duplicates, seals nothing, knows no store: it writes to
//! [`std::io::Write`] and reads from [`ReadAt`]. It reads no clock and no configuration.
//! In: [`keytrail_model::RowBuffer`]s. Out: Parquet bytes with what a manifest says of them.
//!
//! The columns are those of [`keytrail_model::Column`]; `schemas/archive.md` documents them.

mod batch;
mod bounds;
pub mod census;
mod chunk;
mod columns;
mod decode;
mod dictionary;
mod digest;
mod enrichment;
mod error;
mod hybrid;
pub mod kept;
pub mod name;
pub mod object;
mod pages;
pub mod read;
mod read_at;
pub mod schema;
pub mod sort;
mod spill;
pub mod table;
pub mod uids;
mod values;

pub use census::{Rows, census};
pub use digest::Digests;
pub use enrichment::Enrichment;
pub use kept::Kept;
pub use name::object_key;
pub use object::{Finished, ObjectWriter};
pub use read::{Batch, Leaf, ObjectReader, Projection, ReadError, Selection, StoredRow};
pub use read_at::ReadAt;
pub use sort::Sorter;
pub use uids::{Entries, Found, PartitionIndex, UidIndex};
