//! `keytrail query`: SQL over the archive, in builds that have it. The others say how to get one.

#[cfg(not(feature = "sql"))]
mod absent;
#[cfg(feature = "sql")]
mod sql;

#[cfg(not(feature = "sql"))]
pub use absent::{QueryArgs, query};
#[cfg(feature = "sql")]
pub use sql::{QueryArgs, query};
