//! `compact-archive`: small archive objects to large ones, which are locked for the whole retention.

use std::sync::{Mutex, PoisonError};

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::pending::{self, Sealed};
use serde::Serialize;

use super::Nothing;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct CompactArchive {
    trail: TrailPorts,
    sealed: Mutex<Sealed>,
}

/// What was compacted.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Objects that were replaced.
    replaced: u64,
    /// Objects that were made.
    made: u64,
    /// Rows that were written again.
    rows: u64,
    /// Time ran short.
    more: bool,
}

impl CompactArchive {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        Ok(Self { trail: TrailPorts::of(environment, &aws, true), sealed: Mutex::default() })
    }
}

impl Handler for CompactArchive {
    type Event = Nothing;
    type Answer = Answer;

    fn handle(&self, _: Nothing, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = call.stop();
        let done = self
            .trail
            .with(|trail, _| pending::compact(trail, &mut sealed, &self.trail.options(), stop.flag()))?;
        line.count("ObjectsReplaced", done.replaced.0);
        line.count("RowsRewritten", done.rows);
        if !done.skipped.is_empty() {
            line.field("skipped", done.skipped);
        }
        let more = stop.flag().load(std::sync::atomic::Ordering::Relaxed);
        Ok(Answer { replaced: done.replaced.0, made: done.made.0, rows: done.rows, more })
    }
}
