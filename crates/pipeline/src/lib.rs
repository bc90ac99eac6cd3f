//! The order of the stages: what happens to an entry between its bytes and the sealed archive.
//!
//! Start with [`run()`]: it shows the path. What it is: orchestration of the pure crates over the
//! ports. What it is not: it knows no file system, no cloud, no command line.
//! In: [`input::Input`]s and a [`Trail`]. Out: a [`Summary`], and what is durable in the trail's store.

pub mod alerts;
mod archiver;
mod chain;
pub mod cloudtrail_digests;
pub mod compact;
mod concurrent;
pub mod config;
pub mod conflicts;
pub mod decisions;
mod dedup;
pub mod expire;
pub mod explain;
pub mod export;
pub mod follow;
mod hashes;
pub mod holds;
pub mod index;
pub mod ingest;
pub mod input;
mod lineage;
mod object_check;
pub mod objects;
pub mod pending;
pub mod quarantine;
#[cfg(feature = "sql")]
pub mod query;
pub mod readable;
mod recover;
pub mod relocate;
pub mod renormalize;
pub mod report;
mod retention;
mod rewrite;
pub mod run;
mod same_value;
pub mod seal;
pub mod sequence;
mod sink;
pub mod sources;
pub mod staging;
pub mod tables;
mod tagged;
mod taken;
mod tally;
pub mod trail;
pub mod verify;
pub mod withhold;

// What binaries need of the stages' types: they depend on the pipeline alone.
pub use config::Config;
pub use keytrail_enrich::{Table, Tables};
pub use keytrail_ledger::{Checkpoint, Code, Finding, LogKeys, VerifierKey};
pub use keytrail_normalize::{Format, Masker};
pub use run::{Options, Progress, Summary, run};
pub use trail::Trail;
