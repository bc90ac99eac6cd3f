//! Alerts: what people are to be told of the trail, and the telling.
//!
//! Alerts are a projection of the sealed log, as an index is: each receiver has a durable cursor over the
//! log, and what lies behind it is looked at by the [`Rule`]s after each seal. So alerts cost ingest nothing,
//! and what a killed run did not tell the next one tells: at least once, under the same id. What a verify
//! found and which sources are silent is noted beside ([`Engine::findings`], [`Engine::silent`]).
//!
//! What it is not: it decides nothing about events, writes nothing to the archive or its log, and knows no
//! program and no network: receivers are [`Notifier`](keytrail_ports::Notifier)s.
//! In: the sealed log, findings. Out: notices with the body of `schemas/alert.v1.schema.json`.

mod alert;
mod conflict;
mod engine;
mod event;
mod group;
mod hit;
mod receiver;
mod rule;
mod seals;
mod selectors;
mod state;

use std::collections::BTreeSet;

pub use alert::{Alert, Content, GroupKey, Place};
pub use engine::{Engine, preview};
pub use hit::Facts;
pub use receiver::{Receiver, Undelivered};
pub use rule::{Rule, Severity};

/// How alerts are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long further hits of a rule and key are held back after one was told, in microseconds.
    pub window_micros: i64,
    /// When records that go to quarantine are many.
    pub quarantine: QuarantineLimit,
    /// Rules that are not asked.
    pub off: BTreeSet<Rule>,
}

/// Within an hour, more than both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuarantineLimit {
    /// Refused records.
    pub records: u64,
    /// Percent of the records read.
    pub percent: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            window_micros: 15 * 60_000_000,
            quarantine: QuarantineLimit { records: 10, percent: 1 },
            off: BTreeSet::new(),
        }
    }
}
