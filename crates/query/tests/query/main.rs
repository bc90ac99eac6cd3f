//! Statements on real archive objects.

mod objects;
mod statements;
mod trail;
mod views;
