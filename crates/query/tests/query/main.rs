//! Statements on real archive objects.

// The helpers here are tests too, which clippy.toml lets expect; clippy knows only marked functions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod objects;
mod statements;
mod trail;
mod views;
