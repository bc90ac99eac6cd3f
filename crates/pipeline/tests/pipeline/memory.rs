//! A trail over stores in memory, for tests that look at every write.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use keytrail_adapters::memory::{ManualClock, MemoryCheckpoint, MemorySigner, MemoryStore};
use keytrail_model::{Detail, Fatal, Timestamp};
use keytrail_pipeline::input::{Input, Limits, Source};
use keytrail_pipeline::readable::Readable;
use keytrail_pipeline::verify::{self, Report};
use keytrail_pipeline::{
    LogKeys, Masker, Options, Progress, Summary, Tables, Trail, VerifierKey, ingest, run,
};
use keytrail_ports::{BlobStore, CheckpointStore, Signer};

/// Size of archive objects.
pub const TARGET: u64 = 1 << 20;

pub const ORIGIN: &str = "example.org/trail";

struct Quiet;

impl Progress for Quiet {
    fn at(&self, _: u64, _: u64, _: u64) {}
    fn sealed(&self, _: u64, _: u64) {}
}

/// A trail in memory.
pub struct Memory {
    pub store: MemoryStore,
    pub lock: MemoryCheckpoint,
    pub signer: MemorySigner,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            lock: MemoryCheckpoint::new(),
            signer: MemorySigner::new(ORIGIN, 1),
        }
    }

    /// The same trail once more.
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        for key in self.store.list("").unwrap() {
            copy.store.replace(&key, &self.store.get(&key).unwrap().unwrap()).unwrap();
        }
        copy.lock.compare_and_swap(None, &self.lock.read().unwrap().unwrap()).unwrap();
        copy
    }

    pub fn run(&self, inputs: &[Input]) -> Result<Summary, Fatal> {
        self.run_with(&self.store, &self.lock, inputs)
    }

    pub fn run_with(
        &self,
        store: &dyn BlobStore,
        lock: &dyn CheckpointStore,
        inputs: &[Input],
    ) -> Result<Summary, Fatal> {
        let limits = Limits::default();
        let options =
            Options { ingest: ingest::Options { threads: 2, format: None, limits }, object_bytes: TARGET };
        self.with(store, lock, |trail| run(trail, inputs, &options, &Quiet, &AtomicBool::new(false)))
    }

    /// Calls `with` with the trail over these stores.
    pub fn with<T>(
        &self,
        store: &dyn BlobStore,
        lock: &dyn CheckpointStore,
        with: impl FnOnce(&Trail<'_>) -> T,
    ) -> T {
        let scratch = tempfile::tempdir().unwrap();
        with(&Trail {
            store,
            lock,
            known: None,
            signers: &[&self.signer],
            origin: ORIGIN,
            clock: &ManualClock::new(Timestamp(1_700_000_000_000_000)),
            masker: &Masker::new(&[7; 32]),
            tables: &Tables::default(),
            scratch: scratch.path(),
        })
    }

    pub fn verify(&self) -> Report {
        let key = VerifierKey::new(ORIGIN, self.signer.public_key()).unwrap();
        let options = verify::Options {
            keys: LogKeys::of(key),
            pinned: true,
            known: None,
            from: None,
            to: None,
            first_leaf: 0,
            rederive: None,
            digests: None,
            threads: 1,
            gaps: true,
            audit_keys: Vec::new(),
            receipts: Vec::new(),
            writing: false,
        };
        verify::verify(&self.store, &options).unwrap()
    }

    pub fn readable(&self, size: u64) -> Readable {
        Readable::load(&self.store, size).unwrap()
    }

    /// Rows of the sealed objects.
    pub fn rows(&self, size: u64) -> u64 {
        self.readable(size).objects().map(|o| o.rows.count).sum()
    }

    /// How often each quarantine entry is named.
    pub fn named(&self, size: u64) -> BTreeMap<String, u32> {
        let mut named = BTreeMap::new();
        for key in self.readable(size).details.keys() {
            let detail = Detail::parse(&self.store.get(key).unwrap().unwrap()).unwrap();
            for q in detail.quarantine {
                *named.entry(q.key).or_default() += 1;
            }
        }
        named
    }
}

/// An input.
pub fn input(name: &str, text: impl Into<Vec<u8>>) -> Input {
    Input { name: name.into(), source: Source::Bytes(text.into()), declared: None }
}

/// An event without `eventID`: it has no key of its producer.
pub fn keyless(day: u32) -> String {
    format!(
        r#"{{"eventVersion":"1.02","userIdentity":{{"type":"Root","accountId":"111122223333"}},"eventTime":"2023-07-{day:02}T11:42:20Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","recipientAccountId":"111122223333"}}
"#
    )
}
