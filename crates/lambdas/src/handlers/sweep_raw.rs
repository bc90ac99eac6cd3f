//! `sweep-raw`: raw objects that are open for too long are given again, and what waits is counted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keytrail_adapters::aws::Aws;
use keytrail_model::Fatal;
use keytrail_pipeline::sources::heard;
use keytrail_pipeline::staging::{Open, batches, named};
use keytrail_pipeline::{index, pending};
use keytrail_ports::Workflow;
use serde::Serialize;

use super::{Nothing, RawStore, to_json};
use crate::line::Unit;
use crate::trail::Locks;
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// Objects that one call gives again, at most.
const MOST: usize = 10_000;

/// The function.
pub struct SweepRaw {
    trail: TrailPorts,
    raw: RawStore,
    workflow: Arc<dyn Workflow>,
    ingest: String,
    backfill: String,
    after: Duration,
    indexed: bool,
}

/// What waits.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Raw objects that no sealed manifest names.
    open: u64,
    /// Those that were given again.
    redriven: u64,
    /// For how long the oldest is open.
    oldest_seconds: u64,
    /// Entries of the log that are not indexed.
    index_backlog: u64,
    /// Batches that wait to be sealed.
    unsealed: u64,
}

impl SweepRaw {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let ingest = environment.text("KEYTRAIL_INGEST", "the ARN of the state machine ingest");
        let backfill = environment.text("KEYTRAIL_BACKFILL", "the ARN of the state machine backfill");
        let after = Duration::from_secs(60 * environment.number("KEYTRAIL_OPEN_MINUTES", 15));
        let indexed = environment.optional("KEYTRAIL_ELASTICSEARCH").is_some();
        let trail = TrailPorts::of(environment, &aws, Locks::None);
        let raw = RawStore::of(environment, &aws);
        Ok(Self::new(trail, raw, Arc::new(aws.workflow()), (ingest, backfill), after, indexed))
    }

    /// Of these ports.
    pub fn new(
        trail: TrailPorts,
        raw: RawStore,
        workflow: Arc<dyn Workflow>,
        (ingest, backfill): (String, String),
        after: Duration,
        indexed: bool,
    ) -> Self {
        Self { trail, raw, workflow, ingest, backfill, after, indexed }
    }
}

impl Handler for SweepRaw {
    type Event = Nothing;
    type Answer = Answer;

    fn handle(&self, _: Nothing, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let now = self.trail.clock.now();
        let staging = self.raw.staging();
        // Half of the time is for what is counted below.
        let stop = call.stop_within(call.left() / 2);
        let Open { count, oldest, due } = staging.sweep(now, self.after, MOST)?;
        let (small, large) = batches(due);
        let small = small.into_iter().map(|batch| (&self.ingest, batch));
        let large = large.into_iter().map(|object| (&self.backfill, named(vec![object])));
        let (mut redriven, mut lost) = (0, 0);
        for (machine, batch) in small.chain(large) {
            // What is left is open, and comes next time; what waits is counted in any case.
            if stop.flag().load(Ordering::Relaxed) {
                break;
            }
            // Each attempt has a name of its own.
            let attempt: String =
                call.request_id.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
            let name = format!("{}-{attempt}", batch.batch);
            // One that cannot be started keeps no others; it is open, and comes again.
            if let Err(e) = self.workflow.start(machine, &name, &to_json(&batch)?) {
                line.field("not_started", e.to_string());
                lost += 1;
                continue;
            }
            staging.driven(&batch.objects, now)?;
            redriven += batch.objects.len() as u64;
        }
        line.count("StartsLost", lost);
        let (unsealed, index_backlog, archived) = self.trail.with(|trail, config| {
            let (unsealed, archived) = pending::waiting(trail)?;
            let size = trail.log().published()?.map_or(0, |head| head.size);
            let namespace = config.index.settings.namespace.as_str();
            let backlog = if self.indexed { index::backlog(trail, namespace, size)? } else { 0 };
            Ok((unsealed, backlog, archived))
        })?;
        let oldest_seconds = oldest.map_or(0, |t| now.0.saturating_sub(t.0).max(0) as u64 / 1_000_000);
        line.count("OpenObjects", count);
        line.metric("OpenOldestSeconds", Unit::Seconds, oldest_seconds as f64);
        line.count("Redriven", redriven);
        line.count("IndexBacklogEntries", index_backlog);
        line.since("UnsealedAgeSeconds", archived.map_or(now.0, |t| t.0), now.0);
        // What is sealed for the first time is looked at: that can take its time.
        let silence = self.trail.with(|trail, config| {
            if config.sources.iter().all(|source| source.longest_silence.is_none()) {
                return Ok(0);
            }
            let accounts = heard(trail, &config.sources)?;
            let past = accounts.iter().filter_map(|account| account.silence_left_micros(now));
            Ok(past.map(|left| left.saturating_neg()).max().unwrap_or_default())
        })?;
        // Past the longest silence that is declared.
        line.metric("SourceSilenceSeconds", Unit::Seconds, silence.max(0) as f64 / 1e6);
        Ok(Answer { open: count, redriven, oldest_seconds, index_backlog, unsealed })
    }
}
