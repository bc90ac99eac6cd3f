//! `compact-archive`: small archive objects to large ones, which are locked for the whole retention.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keytrail_adapters::aws::Aws;
use keytrail_adapters::local::SystemClock;
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::pending::{self, Sealed};
use keytrail_ports::StoreError;
use serde::Serialize;

use super::Nothing;
use crate::trail::{Locks, lock};
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct CompactArchive {
    trail: TrailPorts,
    sealed: Mutex<Sealed>,
    keep: Option<Keep>,
}

/// Extends the lock of an object.
type Extend = dyn Fn(&str) -> Result<(), StoreError> + Send + Sync;

/// Objects that compaction leaves as they are: their lock is extended before it ends.
struct Keep {
    after: Duration,
    extend: Box<Extend>,
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
        let trail = TrailPorts::of(environment, &aws, Locks::Kept);
        let data = environment.s3("KEYTRAIL_DATA");
        let store = aws.store(&data.bucket, &data.key);
        let keep = lock(environment).map(|(lock, archive)| Keep {
            // Half of the time that new objects are locked for.
            after: Duration::from_secs(u64::from(archive.days) * 86_400 / 2),
            extend: Box::new(move |key| store.extend_lock(key, lock, &SystemClock)),
        });
        Ok(Self { trail, sealed: Mutex::default(), keep })
    }
}

impl Handler for CompactArchive {
    type Event = Nothing;
    type Answer = Answer;

    fn handle(&self, _: Nothing, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = call.stop();
        let (done, hidden, kept) = self.trail.with(|trail, _| {
            let done = pending::compact(trail, &mut sealed, &self.trail.options(), stop.flag())?;
            let kept = match &self.keep {
                None => 0,
                Some(Keep { after, extend }) => {
                    let before = Timestamp(trail.clock.now().0 - after.as_micros() as i64);
                    pending::keep(trail, &sealed, before, stop.flag(), &|key| Ok(extend(key)?))?
                }
            };
            let has_time = !stop.flag().load(Ordering::Relaxed);
            let hidden = if has_time { pending::hide_orphans(trail, &mut sealed)? } else { 0 };
            Ok((done, hidden, kept))
        })?;
        line.count("OrphansHidden", hidden);
        line.count("LocksExtended", kept);
        line.count("ObjectsReplaced", done.replaced.0);
        line.count("RowsRewritten", done.rows);
        if !done.skipped.is_empty() {
            line.field("skipped", done.skipped);
        }
        let more = stop.flag().load(Ordering::Relaxed);
        Ok(Answer { replaced: done.replaced.0, made: done.made.0, rows: done.rows, more })
    }
}
