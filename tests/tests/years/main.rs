//! An archive of years: compacted, renormalized, withheld, expired. What whoever kills, damages or forges it
//! can do, and who notices.

mod archive;
mod damage;
mod forged;
mod kill;
