//! The pipeline over stores in memory.

// Helpers of tests panic as tests do; clippy knows tests by their attribute alone.
#![allow(clippy::unwrap_used)]

mod cold;
mod index;
mod memory;
mod orphans;
mod pending;
mod report;
mod rewrite;
mod run;
mod start;
