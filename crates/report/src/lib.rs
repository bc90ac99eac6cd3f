//! The weekly report: one typed model, written as `report.json`, and one self-contained page made from it.
//!
//! What it is: the form of a report. What it is not: it reads no archive, computes no number and gives no
//! verdict; the fold that fills the model is in `pipeline`. No I/O, no clock, no configuration.
//! In: a [`Report`]. Out: [`Report::to_json`] and [`html::page`].
//!
//! Texts that come from logs are hostile, and end in an auditor's browser: everything is escaped, and the page
//! has neither script nor anything to load. `schemas/report.md` and `schemas/report.v1.schema.json` document
//! the JSON.

pub mod html;
pub mod model;

pub use model::Report;
