//! Tests of the archive crate through its public interface, in one binary.

mod object;
mod rows;
mod schema;
mod sort;
mod uids;
