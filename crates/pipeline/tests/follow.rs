//! Following over a store that fails: nothing is lost, nothing is doubled, and the service goes on by itself.

// Helpers of tests panic as tests do; clippy knows tests by their attribute alone.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keytrail_adapters::memory::{
    Fault, Faults, Faulty, ManualClock, MemoryCheckpoint, MemorySigner, MemoryStore,
};
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::compact::Compacted;
use keytrail_pipeline::config::Following;
use keytrail_pipeline::follow::{Notice, Observer, Options, Sealed, State, follow};
use keytrail_pipeline::input::{Input, Limits, Source};
use keytrail_pipeline::readable::Readable;
use keytrail_pipeline::{Masker, Progress, Tables, Trail, ingest, run};
use keytrail_ports::{BlobStore, CheckpointStore};

const ORIGIN: &str = "example.org/trail";

/// Writes a log on while it is followed, and ends when all of it is sealed.
struct Writer<'a> {
    log: PathBuf,
    pieces: Vec<Vec<u8>>,
    rows: u64,
    stop: &'a AtomicBool,
    retries: u64,
}

impl Observer for Writer<'_> {
    fn notice(&mut self, notice: &Notice) {
        self.retries += u64::from(matches!(notice, Notice::Retrying { .. }));
    }

    fn polled(&mut self, _: &Trail<'_>, readable: &Readable, _: &State) -> Result<(), Fatal> {
        if !self.pieces.is_empty() {
            let piece = self.pieces.remove(0);
            let mut log = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
            log.write_all(&piece).unwrap();
        }
        // A seal whose position could not be written is told of by what is readable after it.
        if readable.objects().map(|o| o.rows.count).sum::<u64>() == self.rows {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn compacted(&mut self, _: &Compacted) {}

    fn sealed(&mut self, _: &Trail<'_>, _: &Sealed) -> Result<(), Fatal> {
        Ok(())
    }
}

/// Follows a log of keyless records, many of them alike, over stores one of whose writes fails; gives how often it had
/// to try again, and how many writes there were.
fn followed(at: u64, fault: Fault) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
    let faults = Faults::new(at, fault);
    let (faulty_store, faulty_lock) =
        (Faulty::new(&store as &dyn BlobStore, &faults), Faulty::new(&lock as &dyn CheckpointStore, &faults));
    let trail = Trail {
        store: &faulty_store,
        lock: &faulty_lock,
        known: None,
        signers: &[&MemorySigner::new(ORIGIN, 1)],
        origin: ORIGIN,
        clock: &ManualClock::new(Timestamp(1_800_000_000_000_000)),
        masker: &Masker::new(&[7; 32]),
        tables: &Tables::default(),
        scratch: scratch.path(),
    };
    let line = |n: u32| {
        format!(
            "{{\"time\":\"2026-01-05T10:00:0{n}Z\",\"type\":\"request\",\"auth\":{{\"token_type\":\"default\"}},\
             \"request\":{{\"operation\":\"update\",\"namespace\":{{\"id\":\"root\"}},\"path\":\"sys/audit/x\"}}}}\n"
        )
    };
    let text: String = (0..30).map(|n| line(n % 3)).collect();
    let log = folder.path().join("a.log");
    let ingest = ingest::Options { threads: 2, format: None, limits: Limits::default() };
    let options = Options {
        run: keytrail_pipeline::Options { ingest, object_bytes: 1 << 20 },
        patterns: vec![log.clone().into_os_string()],
        sources: Vec::new(),
        own: Vec::new(),
        following: Following {
            poll_interval: Duration::from_millis(1),
            seal_interval: Duration::from_millis(1),
            still: Duration::from_secs(60),
            ..Following::default()
        },
        retry_pause: Duration::from_millis(1),
    };
    let stop = AtomicBool::new(false);
    let pieces = text.as_bytes().chunks(text.len() / 3 + 40).map(<[u8]>::to_vec).collect();
    let mut writer = Writer { log, pieces, rows: 30, stop: &stop, retries: 0 };
    let done = follow(&trail, &options, &mut writer, &stop);
    // The write that fails may be the very last one.
    assert!(done.is_ok() || writer.retries > 0, "{done:?}");
    let writes = faults.writes();
    // All of it again, over stores that work: the same rows are there.
    let trail = Trail { store: &store, lock: &lock, ..trail };
    let again = [Input { name: "again".into(), source: Source::Bytes(text.into()), declared: None }];
    let summary = run(&trail, &again, &options.run, &Quiet, &AtomicBool::new(false)).unwrap();
    assert_eq!((summary.total.accepted, summary.total.duplicates), (0, 30), "write {at}, {fault:?}");
    let readable = Readable::load(&store, summary.checkpoint.size).unwrap();
    assert_eq!(readable.objects().map(|o| o.rows.count).sum::<u64>(), 30, "write {at}, {fault:?}");
    (writer.retries, writes)
}

struct Quiet;

impl Progress for Quiet {
    fn at(&self, _: u64, _: u64, _: u64) {}
    fn sealed(&self, _: u64, _: u64) {}
}

#[test]
fn a_store_that_fails_is_waited_for() {
    let (retries, writes) = followed(0, Fault::NotApplied);
    assert_eq!(retries, 0);
    for at in 1..=writes {
        for fault in [Fault::NotApplied, Fault::Applied] {
            let (retries, _) = followed(at, fault);
            assert!(retries <= 1, "write {at}, {fault:?}: {retries}");
        }
    }
}
