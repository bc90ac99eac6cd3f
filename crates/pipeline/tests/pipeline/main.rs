//! The pipeline over stores in memory.

// Helpers of tests panic as tests do; clippy knows tests by their attribute alone.
#![allow(clippy::unwrap_used)]

mod index;
mod memory;
mod pending;
mod rewrite;
mod run;
mod start;
