//! Tests of the archive crate through its public interface, in one binary.

// The helpers here are tests too, which clippy.toml lets unwrap; clippy knows only marked functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod object;
mod rows;
mod schema;
mod sort;
mod uids;
