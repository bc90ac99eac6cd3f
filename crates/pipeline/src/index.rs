//! The search index as a projection of the archive: every event of the sealed log, once.
//!
//! What it is: what of the log is not yet indexed (`plan`), its rows as bulk bodies, what became of each of them,
//! and how far all of it is known to be done (`cursor`). What it is not: it never delays the archive, and is no
//! second truth: an index that was lost is made again from the archive. In: a trail's store and a
//! [`EventIndex`]. Out: documents on the server, [`Indexed`].
//!
//! An object's rows are sent in the order of the log with `create`, whose ids are the events' own: what was sent
//! before is answered with 409 and is there once. Rows that `renormalize` or `withhold` changed take the place of
//! those before them.

mod ahead;
mod cursor;
mod dead_letter;
mod documents;
mod expire;
mod flow;
mod hour;
mod pages;
mod plan;
mod point;
mod reconcile;
mod search;
mod sender;
mod setup;

use std::collections::BTreeMap;
use std::time::Duration;

use keytrail_index::{Fields, Filter, IndexName, Layouts, Limits, Namespace};
use keytrail_model::{Day, Fatal, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::{BlobStore, EventIndex};

pub use cursor::backlog;
pub use expire::expire;
pub use flow::Indexer;
pub use hour::Hour;
pub use keytrail_index::{FieldName, Mistake, Search, Total, UnknownField};
pub use reconcile::{Difference, Reconciled};
pub use search::{Found, Searching, search};
pub use setup::{Installed, Server, Setup, identify, install};

/// How events are indexed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Part of all names of indices.
    pub namespace: Namespace,
    /// How indices are cut.
    pub layouts: Layouts,
    /// Which events are indexed.
    pub filter: Filter,
    /// Documents have `event.original`.
    pub original: bool,
    /// Events older than this, by their own time, stay in the archive alone.
    pub retention: Option<Duration>,
    /// How large a body may become.
    pub limits: Limits,
    /// Requests at once, at most.
    pub connections: usize,
    /// Indices made in one go, at most: event times may be anything.
    pub new_indices: usize,
    /// How long a server that takes nothing is asked again before the rest is left for later.
    pub patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: Namespace::default(),
            layouts: Layouts::default(),
            filter: Filter::default(),
            original: false,
            retention: None,
            limits: Limits::default(),
            connections: 4,
            new_indices: 500,
            patience: Duration::from_secs(30),
        }
    }
}

impl Settings {
    fn fields(&self) -> Fields {
        Fields { original: self.original }
    }

    /// The index of a dataset's events of a day.
    fn index_of(&self, dataset: &str, day: Day) -> IndexName {
        IndexName::of(dataset, &self.namespace, self.layouts.of(day).period, day)
    }

    /// Whether all events of a day are older than what the index keeps.
    fn is_expired(&self, day: Day, now: Timestamp) -> bool {
        match day {
            Day::Dated(day) => self.is_past(day + 1, now),
            Day::Undated => false,
        }
    }

    /// Whether all that was before a day is older than what the index keeps.
    fn is_past(&self, day: i64, now: Timestamp) -> bool {
        self.retention.is_some_and(|retention| {
            let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
            day.saturating_mul(86_400_000_000) <= now.0.saturating_sub(retention)
        })
    }
}

/// What indexing needs.
#[derive(Clone, Copy)]
pub struct Indexing<'a> {
    /// The trail.
    pub store: &'a dyn BlobStore,
    /// Tags the cursor; without it, what is kept of it is not believed.
    pub masker: Option<&'a Masker>,
    /// The server.
    pub index: &'a dyn EventIndex,
    /// How.
    pub settings: &'a Settings,
    /// When.
    pub now: Timestamp,
    /// The log's size, as far as it is sealed now.
    pub size: &'a (dyn Fn() -> Result<u64, Fatal> + Sync),
    /// Told how far it is.
    pub told: &'a dyn Told,
}

/// Told how far indexing is.
pub trait Told: Sync {
    /// So many of so many rows have an outcome.
    fn at(&self, done: u64, of: u64);
}

/// What became of rows.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Indexed {
    /// New documents.
    pub created: u64,
    /// Documents that took another's place.
    pub replaced: u64,
    /// They were there already.
    pub duplicates: u64,
    /// The server refused them for ever: they are dead letters, by the server's type of error.
    pub dead_letters: BTreeMap<String, u64>,
    /// Older than what the index keeps.
    pub expired: u64,
    /// Left out, as configuration says.
    pub not_indexed: u64,
    /// Rows that are not indexed yet.
    pub pending: u64,
    /// Why: its code and what the server said.
    pub parked: Option<(&'static str, String)>,
    /// All entries of the log before this one are indexed.
    pub cursor: u64,
}
