//! `seal-archive`: pending batches to the log.

use std::sync::{Arc, Mutex, PoisonError};

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::pending::{self, RawObject, Sealed};
use keytrail_ports::RawObjects;
use serde::Serialize;

use super::{Nothing, RawStore};
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct SealArchive {
    trail: TrailPorts,
    raw: RawStore,
    objects: Arc<dyn RawObjects>,
    sealed: Mutex<Sealed>,
}

/// What was sealed.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Batches.
    sealed: u64,
    /// Entries of the log.
    entries: u64,
    /// The log's size.
    size: u64,
    /// Its root, Base64.
    root: String,
    /// Batches that wait.
    waiting: u64,
}

impl SealArchive {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let trail = TrailPorts::of(environment, &aws, Locks::New);
        Ok(Self::new(trail, RawStore::of(environment, &aws), Arc::new(aws.objects())))
    }

    /// Of these ports.
    pub fn new(trail: TrailPorts, raw: RawStore, objects: Arc<dyn RawObjects>) -> Self {
        Self { trail, raw, objects, sealed: Mutex::default() }
    }
}

impl Handler for SealArchive {
    type Event = Nothing;
    type Answer = Answer;

    fn handle(&self, _: Nothing, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let mut sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let stop = call.stop();
        let untagged = Mutex::new(Vec::new());
        let done = self.trail.with(|trail, _| {
            self.trail.log_keys(trail)?;
            let close = |object: &RawObject| {
                let stays = self.raw.staging().close(&*self.objects, object)?;
                untagged.lock().unwrap_or_else(PoisonError::into_inner).extend(stays);
                Ok(())
            };
            pending::seal(trail, &mut sealed, &close, stop.flag())
        })?;
        line.count("BatchesSealed", done.batches);
        line.count("RowsSealed", done.rows);
        line.count("CopiesLeftOut", done.copies);
        line.count("Retries", done.retries.into());
        line.count("BatchesUnreadable", done.unreadable.len() as u64);
        if let Some(why) = done.unreadable.first() {
            line.field("unreadable", why.as_str());
        }
        let untagged = untagged.into_inner().unwrap_or_else(PoisonError::into_inner);
        line.count("ObjectsNotTagged", untagged.len() as u64);
        if let Some(why) = untagged.first() {
            line.field("not_tagged", why.as_str());
        }
        if let Some((oldest, _)) = done.archived {
            line.since("SealLagSeconds", oldest, self.trail.clock.now().0);
        }
        Ok(Answer {
            sealed: done.batches,
            entries: done.entries,
            size: done.head.size,
            root: done.head.root_base64(),
            waiting: done.waiting,
        })
    }
}
