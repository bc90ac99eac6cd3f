//! The main job: audit logs in, a proven Parquet archive out. Read this first.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_ledger::Checkpoint;
use keytrail_model::{Counts, Fatal};

use crate::archiver::Archiver;
use crate::compact::Compacted;
use crate::ingest::{self, Step, ingest};
use crate::input::Input;
use crate::recover::recover;
use crate::sequence::Gap;
use crate::sources;
use crate::trail::Trail;

/// How a run works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How inputs are read.
    pub ingest: ingest::Options,
    /// Size at which an archive object is closed, in bytes.
    pub object_bytes: u64,
}

/// Told how far a run is.
pub trait Progress {
    /// Inflated bytes and records so far, and inputs done.
    fn at(&self, bytes: u64, records: u64, inputs: u64);
    /// A seal is done: the log's size, and rows in the archive that are new by this run.
    fn sealed(&self, tree_size: u64, rows: u64);
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// All records.
    pub total: Counts,
    /// By source: its declared name, else the format that its records were taken for.
    pub sources: BTreeMap<String, Counts>,
    /// By code of rejection.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Control messages of log subscriptions. They hold no record, so they are not among those read.
    pub controls: u64,
    /// Ranges of numbers that are missing between records of one source and were not before.
    pub gaps: u64,
    /// The first of them.
    pub first_gaps: Vec<Gap>,
    /// Inputs taken in whole.
    pub inputs: u64,
    /// Their bytes as they came.
    pub input_bytes: u64,
    /// Their bytes inflated.
    pub inflated_bytes: u64,
    /// New archive objects and their bytes.
    pub objects: (u64, u64),
    /// Log size before the run.
    pub first_leaf: u64,
    /// The log's head after the run.
    pub checkpoint: Checkpoint,
    /// What was compacted at its end.
    pub compacted: Compacted,
    /// Asked to stop before all inputs were read.
    pub stopped: bool,
}

/// Ingests, archives and seals `inputs`. What a killed run left is finished or undone first, so the
/// same inputs can be given again at any time. A `stop` seals what was read and returns.
pub fn run(
    trail: &Trail<'_>,
    inputs: &[Input],
    options: &Options,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Summary, Fatal> {
    let readable = recover(trail)?;
    let mut archiver = Archiver::new(trail, readable, inputs, options)?;
    let stopped = || Fatal::new(STOPPED, "asked to stop");
    let read = ingest(trail, inputs, &options.ingest, &mut |step| {
        if stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        match step {
            Step::Records(records) => archiver.add(records)?,
            Step::EndOfInput(input, summary) => archiver.end_of_input(input, &summary),
        }
        let (bytes, records, done) = archiver.progress();
        progress.at(bytes, records, done);
        if archiver.due() {
            let size = archiver.seal()?;
            progress.sealed(size, archiver.accepted());
        }
        Ok(archiver.take_emptied())
    });
    let stopped = match read {
        Err(fatal) if fatal.code == STOPPED => true,
        other => other.map(|()| false)?,
    };
    let size = archiver.seal()?;
    progress.sealed(size, archiver.accepted());
    let compacted = archiver.compact(stop)?;
    let summary = archiver.summary(stopped, compacted)?;
    sources::remember(trail, &summary.sources)?;
    Ok(summary)
}

const STOPPED: &str = "Retryable.Stopped";
