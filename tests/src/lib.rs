//! What tests and benches of keytrail share; no part of the product.
//!
//! What it is: the seeded load generator. What it is not: it uses no code of keytrail, so that a mistake
//! there cannot hide itself here. In: a [`load::Load`]. Out: log files.

pub mod load;
