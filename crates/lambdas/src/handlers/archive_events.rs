//! `archive-events`: raw objects to archive objects, quarantine and a pending batch.

use std::sync::{Arc, Mutex, PoisonError};

use keytrail_adapters::aws::Aws;
use keytrail_model::{Counts, Fatal};
use keytrail_pipeline::pending::{self, Batch, Sealed};
use keytrail_ports::RawObjects;
use serde::Serialize;

use crate::line::Unit;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct ArchiveEvents {
    trail: TrailPorts,
    raw: Arc<dyn RawObjects>,
    sealed: Mutex<Sealed>,
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
        Ok(Self::new(TrailPorts::of(environment, &aws, true), Arc::new(aws.objects())))
    }

    /// Of these ports.
    pub fn new(trail: TrailPorts, raw: Arc<dyn RawObjects>) -> Self {
        Self { trail, raw, sealed: Mutex::default() }
    }
}

impl Handler for ArchiveEvents {
    type Event = Batch;
    type Answer = Archived;

    fn handle(&self, batch: Batch, call: &Call, line: &mut Line) -> Result<Archived, Fatal> {
        line.field("batch", batch.batch.as_str());
        line.metric("BytesRead", Unit::Bytes, batch.objects.iter().map(|o| o.bytes).sum::<u64>() as f64);
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = call.stop();
        let done = self.trail.with(|trail, config| {
            let inputs = pending::inputs(&*self.raw, &batch, &config.sources)?;
            let options = self.trail.options();
            pending::archive(trail, &mut sealed, &batch, &inputs, &options, stop.flag())
        })?;
        let Counts { accepted, duplicates, rejected, .. } = done.counts;
        line.count("RecordsAccepted", accepted);
        line.count("RecordsDuplicate", duplicates);
        line.count("RecordsRejected", rejected);
        line.count("RecordsDeferred", done.next.as_ref().map_or(0, |next| next.objects.len() as u64));
        if let Some(newest) = done.newest {
            line.since("ArchiveLagSeconds", newest.0, self.trail.clock.now().0);
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
