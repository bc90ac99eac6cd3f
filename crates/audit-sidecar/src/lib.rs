//! The audit sidecar: no result of a key service without a durable, chained record.
//!
//! What it is: the process beside a key service (or beside a stock OpenBao or Vault) that takes its records,
//! chains them, keeps them in a spool on disk, and ships them. What it is not: it interprets no record of
//! another's, and never loses one to make room. In: records over a socket. Out: receipts, and segments.

pub mod chain;
pub mod config;
pub mod journal;
pub mod keeper;
pub mod sealed;
pub mod server;
pub mod service;
pub mod ship;
pub mod shipping;
pub mod spool;
pub mod start;
