//! SQL over the sealed archive: the only crate that knows DataFusion.
//!
//! What it is: the table `events` over the objects of the readable set, the views of `schemas/query/`, and a
//! statement's way from its text to written rows, within limits of memory and time. What it is not: it opens no
//! trail, lists no folder and proves nothing; `verify` does that. It writes nothing but rows.
//! In: [`Archive`] (objects as plain values, and how to open one), SQL. Out: bytes of a table, CSV or JSON.
//!
//! Start with [`run()`].

mod events;
mod exact;
mod mistake;
mod object;
mod prune;
mod reader;
mod rows;
pub mod run;
mod session;
mod statement;
mod value;

pub use object::{Archive, Object, Open, Read};
pub use rows::Format;
pub use run::{Options, Ran, run};
pub use session::VIEWS;
