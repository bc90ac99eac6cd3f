//! The Merkle log over the archive: tiles, bundles, checkpoints, proofs and the audit of all of them.
//!
//! What it is: RFC 6962/9162 trees in the layout of C2SP `tlog-tiles`, heads as C2SP `tlog-checkpoint`
//! in a `signed-note`; and [`chain`], which checks the chains of records that sources make, each epoch of
//! which is a small log of its own. What it is not: it does no I/O (stored bytes come through a closure), reads no
//! clock, and never signs: it makes the bytes that a signer signs, and checks what it signed.
//! In: entries (manifests) and a reader of the log's files; records. Out: files to write, proofs, [`Finding`]s.
//! Paths are relative to the log's folder (`checkpoint`, `tile/...`), except in findings, which name
//! files by their path in the data folder (`log/tile/...`).

pub mod audit;
pub mod chain;
pub mod checkpoint;
pub mod cloudtrail_digest;
pub mod finding;
pub mod keys;
pub mod note;
pub mod proof;
pub mod staged;
pub mod tile;
pub mod tree;

pub use audit::{Audit, AuditedEntry, audit};
pub use chain::{Chains, Record};
pub use checkpoint::Checkpoint;
pub use finding::{Code, Finding};
pub use keys::LogKeys;
pub use note::{Note, VerifierKey};
pub use tile::{Tile, decode_bundle};
pub use tree::{Appended, Object, Read, TreeError, append};
