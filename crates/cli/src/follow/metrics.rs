//! What is counted while files are followed, as Prometheus reads it (text format 0.0.4).
//!
//! Labels are from closed lists: sources, outcomes, codes. Nothing of a record or a file name is in them.

mod index;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use keytrail_model::{Counts, Timestamp};
use keytrail_pipeline::follow::{BUCKETS, Notice, Sealed, State};

pub use index::IndexMetrics;

/// Metrics that several threads count in.
#[derive(Clone)]
pub struct SharedMetrics(Arc<Mutex<Metrics>>);

impl SharedMetrics {
    /// Of these.
    pub fn of(metrics: Metrics) -> Self {
        Self(Arc::new(Mutex::new(metrics)))
    }

    /// Counts, or reads what was counted.
    pub fn with<T>(&self, with: impl FnOnce(&mut Metrics) -> T) -> T {
        // A thread that renders does not panic while it holds the lock; if it did, the counts are still sound.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Counts since the process started.
pub struct Metrics {
    sources: BTreeMap<String, Counts>,
    rejected: BTreeMap<&'static str, u64>,
    retries: BTreeMap<&'static str, u64>,
    heard: BTreeMap<String, Instant>,
    buckets: [u64; BUCKETS.len()],
    lag: (u64, f64),
    state: State,
    read_bytes: u64,
    seals: u64,
    objects: (u64, u64),
    log_size: u64,
    last_seal: Option<Timestamp>,
    vanished_bytes: u64,
    /// Of a search index, where one is kept.
    pub index: Option<IndexMetrics>,
}

impl Metrics {
    /// Nothing has happened yet. These sources are declared: each is silent from now on.
    pub fn of<'a>(declared: impl Iterator<Item = &'a str>) -> Self {
        let now = Instant::now();
        Self {
            sources: BTreeMap::new(),
            rejected: BTreeMap::new(),
            retries: BTreeMap::new(),
            heard: declared.map(|source| (source.to_owned(), now)).collect(),
            buckets: [0; BUCKETS.len()],
            lag: (0, 0.0),
            state: State::default(),
            read_bytes: 0,
            seals: 0,
            objects: (0, 0),
            log_size: 0,
            last_seal: None,
            vanished_bytes: 0,
            index: None,
        }
    }

    /// Something beside the records happened.
    pub fn notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Retrying { error, .. } => {
                *self.retries.entry(error.code).or_default() += 1;
            }
            Notice::Vanished { unread_bytes, .. } => self.vanished_bytes += unread_bytes,
            _ => {}
        }
    }

    /// A poll is done.
    pub fn polled(&mut self, state: &State) {
        self.read_bytes += state.read_bytes;
        let now = Instant::now();
        self.heard.extend(state.heard.iter().map(|source| (source.clone(), now)));
        self.state = state.clone();
    }

    /// A seal is done.
    pub fn sealed(&mut self, seal: &Sealed, now: Timestamp) {
        for (source, counts) in &seal.sources {
            *self.sources.entry(source.clone()).or_default() += *counts;
        }
        for (code, n) in &seal.rejected {
            *self.rejected.entry(code).or_default() += n;
        }
        for (total, n) in self.buckets.iter_mut().zip(seal.lag.buckets) {
            *total += n;
        }
        self.lag = (self.lag.0 + seal.lag.records, self.lag.1 + seal.lag.sum_seconds);
        self.seals += 1;
        self.objects = (self.objects.0 + seal.objects.0, self.objects.1 + seal.objects.1);
        self.log_size = seal.head.size;
        self.last_seal = Some(now);
        self.index.iter_mut().for_each(|index| index.sealed(seal.head.size));
        self.state.unsealed_records = 0;
        self.state.unsealed_bytes = 0;
    }

    /// The page.
    pub fn render(&self) -> String {
        let mut page = Page(String::new());
        page.family("keytrail_build_info", "gauge", "The version that runs, as a label.");
        page.sample("keytrail_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.family("keytrail_events_total", "counter", "Records that were sealed, by source and outcome.");
        for (source, c) in &self.sources {
            for (outcome, n) in
                [("accepted", c.accepted), ("duplicate", c.duplicates), ("rejected", c.rejected)]
            {
                page.sample("keytrail_events_total", &[("source", source), ("outcome", outcome)], n);
            }
        }
        page.family(
            "keytrail_shared_ids_total",
            "counter",
            "Accepted events that share their producer's id with another, by whether they differ as JSON.",
        );
        for (source, c) in &self.sources {
            for (kind, n) in [("conflict", c.conflicts), ("variant", c.variants)] {
                page.sample("keytrail_shared_ids_total", &[("source", source), ("kind", kind)], n);
            }
        }
        page.family("keytrail_quarantine_entries_total", "counter", "Rejected records, by code.");
        for (code, n) in &self.rejected {
            page.sample("keytrail_quarantine_entries_total", &[("code", code)], n);
        }
        let help =
            "Time since the last record of a source was read; of a declared one, at most since the start.";
        page.family("keytrail_silence_seconds", "gauge", help);
        for (source, last) in &self.heard {
            let seconds = last.elapsed().as_secs_f64();
            page.sample("keytrail_silence_seconds", &[("source", source)], format!("{seconds:.3}"));
        }
        self.lag(&mut page);
        let read = self.read_bytes;
        page.single("keytrail_read_bytes_total", "counter", "Bytes read of followed files.", read);
        let files = self.state.files;
        page.single("keytrail_followed_files", "gauge", "Files that are followed.", files);
        let unread = self.state.unread_bytes;
        page.single("keytrail_unread_bytes", "gauge", "Bytes seen in followed files and not read.", unread);
        let lost = self.vanished_bytes;
        let help = "Bytes seen in files that vanished before they were read.";
        page.single("keytrail_vanished_bytes_total", "counter", help, lost);
        let records = self.state.unsealed_records;
        page.single("keytrail_unsealed_records", "gauge", "Records read and not sealed.", records);
        let bytes = self.state.unsealed_bytes;
        page.single("keytrail_unsealed_bytes", "gauge", "Their bytes, inflated.", bytes);
        page.single("keytrail_seals_total", "counter", "Seals.", self.seals);
        let (objects, bytes) = self.objects;
        page.single("keytrail_archive_objects_total", "counter", "Archive objects written.", objects);
        page.single("keytrail_archive_bytes_total", "counter", "Their bytes.", bytes);
        page.single("keytrail_log_entries", "gauge", "Entries of the log at the last seal.", self.log_size);
        if let Some(at) = self.last_seal {
            let at = format!("{:.3}", at.0 as f64 / 1e6);
            page.single("keytrail_last_seal_timestamp_seconds", "gauge", "When the last seal was.", at);
        }
        page.family(
            "keytrail_retries_total",
            "counter",
            "Pauses after a failure that may pass, by its code.",
        );
        for (code, n) in &self.retries {
            page.sample("keytrail_retries_total", &[("code", code)], n);
        }
        self.index.iter().for_each(|index| index.render(&mut page));
        if let Some(bytes) = resident_bytes() {
            page.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes);
        }
        page.0
    }

    fn lag(&self, page: &mut Page) {
        let name = "keytrail_lag_seconds";
        page.family(name, "histogram", "From the appearance of a record in its file to its seal.");
        let mut up_to = 0;
        for (limit, n) in BUCKETS.iter().zip(self.buckets) {
            up_to += n;
            page.sample("keytrail_lag_seconds_bucket", &[("le", &limit.to_string())], up_to);
        }
        page.sample("keytrail_lag_seconds_bucket", &[("le", "+Inf")], self.lag.0);
        page.sample("keytrail_lag_seconds_sum", &[], format!("{:.3}", self.lag.1));
        page.sample("keytrail_lag_seconds_count", &[], self.lag.0);
    }
}

/// Memory of this process, as Linux tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// A page in the making. Writing to a string does not fail.
pub struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        // Names of sources and codes need no escaping.
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.0, "{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}
