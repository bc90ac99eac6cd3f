//! `archive-events`: raw objects to archive objects, quarantine and a pending batch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keytrail_adapters::aws::Aws;
use keytrail_model::{Counts, Fatal};
use keytrail_pipeline::pending::{self, Batch, Sealed};
use keytrail_ports::RawObjects;
use serde::{Deserialize, Serialize};

use super::RawStore;
use crate::line::Unit;
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct ArchiveEvents {
    trail: TrailPorts,
    raw: RawStore,
    objects: Arc<dyn RawObjects>,
    sealed: Mutex<Sealed>,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Wanted {
    /// By a state machine, which gives it so much time.
    Timed {
        /// The batch.
        input: Batch,
        /// How long it waits.
        seconds: u64,
    },
    /// A batch.
    Batch(Batch),
}

/// What became of a batch.
#[derive(Debug, Serialize)]
pub struct Archived {
    batch: String,
    counts: Counts,
    /// Where it waits to be sealed.
    pending: String,
    more: bool,
    /// What time did not suffice for.
    next: Option<Batch>,
}

impl ArchiveEvents {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let raw = RawStore::of(environment, &aws);
        Ok(Self::new(TrailPorts::of(environment, &aws, Locks::New), raw, Arc::new(aws.objects())))
    }

    /// Of these ports.
    pub fn new(trail: TrailPorts, raw: RawStore, objects: Arc<dyn RawObjects>) -> Self {
        Self { trail, raw, objects, sealed: Mutex::default() }
    }
}

impl Handler for ArchiveEvents {
    type Event = Wanted;
    type Answer = Archived;

    fn handle(&self, wanted: Wanted, call: &Call, line: &mut Line) -> Result<Archived, Fatal> {
        let (batch, stop) = match wanted {
            Wanted::Timed { input, seconds } => (input, call.stop_within(Duration::from_secs(seconds))),
            Wanted::Batch(batch) => (batch, call.stop()),
        };
        line.field("batch", batch.batch.as_str());
        line.metric("BytesRead", Unit::Bytes, batch.objects.iter().map(|o| o.bytes).sum::<u64>() as f64);
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.trail.with(|trail, config| {
            let opened = pending::open(&*self.objects, &batch, &config.sources)?;
            line.count("ObjectsUnreadable", opened.left_out.len() as u64);
            if let Some((object, why)) = opened.left_out.first() {
                line.field("unreadable", format!("s3://{}/{}: {why}", object.bucket, object.key));
            }
            let options = self.trail.options();
            pending::archive(trail, &mut sealed, &opened, &options, stop.flag())
        })?;
        let now = self.trail.clock.now();
        // One that is back-filled was never open.
        if let Some(since) = self.raw.staging().archived(&done.objects, now)? {
            line.since("RawLagSeconds", since.0, now.0);
        }
        // Somebody is at it: the sweep gives it to nobody else.
        if let Some(rest) = done.next.as_ref().and_then(|next| next.objects.first()) {
            self.raw.staging().driven(std::slice::from_ref(rest), now)?;
        }
        let Counts { accepted, duplicates, rejected, .. } = done.counts;
        line.count("RecordsAccepted", accepted);
        line.count("RecordsDuplicate", duplicates);
        line.count("RecordsRejected", rejected);
        line.count("RecordsDeferred", done.next.as_ref().map_or(0, |next| next.objects.len() as u64));
        if let Some(newest) = done.newest {
            line.since("ArchiveLagSeconds", newest.0, now.0);
        }
        line.field("pending", done.pending.as_str());
        Ok(Archived {
            batch: batch.batch,
            counts: done.counts,
            pending: done.pending,
            more: done.next.is_some(),
            next: done.next,
        })
    }
}
