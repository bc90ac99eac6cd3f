//! What the sidecar counts, as Prometheus reads it (text format 0.0.4), and why it would refuse.
//!
//! Labels are from closed lists: phases and codes. Nothing of a record is in them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Recorded, Refusal};
use crate::ship::Shipped;

/// How close to each other in time records are told apart by age.
const MARK: Duration = Duration::from_secs(1);

/// A record: epoch and number.
pub type Sealed = (u64, u64);

/// Counts since the process started.
#[derive(Default)]
pub struct Counts(Mutex<State>);

#[derive(Default)]
struct State {
    phases: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<&'static str, u64>,
    repeated: u64,
    record_bytes: u64,
    commits: u64,
    syncing: Duration,
    epoch: u64,
    open: u64,
    used_bytes: u64,
    free_bytes: u64,
    full: bool,
    shipped_segments: u64,
    shipped_bytes: u64,
    fallback_segments: u64,
    fallback: bool,
    shipped: Option<Sealed>,
    sealed: Option<Sealed>,
    newest: Option<Sealed>,
    freed_segments: u64,
    seal_errors: u64,
    ship_errors: u64,
    /// Records with the time from which on they were there, oldest first; sealed ones are gone.
    marks: VecDeque<(Sealed, Instant)>,
    /// The same, but that shipped ones are gone.
    unshipped: VecDeque<(Sealed, Instant)>,
    /// Number of the oldest intent of this epoch without an outcome.
    oldest_open: Option<u64>,
    limits: Option<(Duration, Duration)>,
    stopping: bool,
    poisoned: bool,
}

impl Counts {
    /// None yet; records are to be sealed within these times, before an alarm and before a refusal.
    pub fn new(limits: Option<(Duration, Duration)>) -> Self {
        let this = Self::default();
        this.with(|s| s.limits = limits);
        this
    }

    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        // A thread that counts does not panic while it holds the lock; if it did, the counts are still sound.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records were made of this kind.
    pub fn recorded(&self, phase: &'static str, bytes: usize) {
        self.with(|s| {
            *s.phases.entry(phase).or_default() += 1;
            s.record_bytes += bytes as u64;
        });
    }

    /// A line came that is on record already.
    pub fn repeated(&self) {
        self.with(|s| s.repeated += 1);
    }

    /// An entry was answered.
    pub fn answered(&self, answer: &Result<Recorded, Refusal>) {
        if let Err(refusal) = answer {
            self.with(|s| *s.refusals.entry(refusal.code()).or_default() += 1);
        }
    }

    /// Records were made: this is the newest, and so many operations wait for their outcome.
    pub fn made(&self, newest: Sealed, open: usize) {
        self.with(|s| {
            (s.epoch, s.open, s.newest) = (newest.0, open as u64, Some(newest));
            mark(&mut s.marks, newest);
            mark(&mut s.unshipped, newest);
        });
    }

    /// So many syncs were done, and took so long in all.
    pub fn written(&self, commits: u64, syncing: Duration) {
        self.with(|s| (s.commits, s.syncing) = (commits, syncing));
    }

    /// What room there is, and whether it is too little for another operation.
    pub fn room(&self, used_bytes: u64, free_bytes: u64, full: bool) {
        self.with(|s| (s.used_bytes, s.free_bytes, s.full) = (used_bytes, free_bytes, full));
    }

    /// The oldest intent of this epoch without an outcome.
    pub fn waits_since(&self, oldest_open: Option<u64>) {
        self.with(|s| s.oldest_open = oldest_open);
    }

    /// Whether records up to that one hold an intent without an outcome.
    pub fn has_open(&self, epoch: u64, last_seq: u64) -> bool {
        self.with(|s| s.epoch == epoch && s.oldest_open.is_some_and(|open| open <= last_seq))
    }

    /// Segments of an epoch were shipped.
    pub fn shipped(&self, epoch: u64, shipped: &Shipped) {
        self.with(|s| {
            let to = (epoch, shipped.last_seq);
            s.shipped_segments += shipped.segments;
            s.shipped_bytes += shipped.bytes;
            s.fallback = shipped.fallback;
            if shipped.fallback {
                s.fallback_segments += shipped.segments;
            }
            s.shipped = Some(to);
            unmark(&mut s.unshipped, to);
        });
    }

    /// A segment could not be shipped.
    pub fn ship_failed(&self) {
        self.with(|s| s.ship_errors += 1);
    }

    /// A sealed checkpoint covers all records up to this one.
    pub fn sealed(&self, to: Sealed, freed: u64) {
        self.with(|s| {
            s.sealed = Some(to);
            s.freed_segments += freed;
            unmark(&mut s.marks, to);
        });
    }

    /// What is sealed could not be checked.
    pub fn seal_failed(&self) {
        self.with(|s| s.seal_errors += 1);
    }

    /// The spool can be written no more.
    pub fn poisoned(&self) {
        self.with(|s| s.poisoned = true);
    }

    /// Nothing is taken on any more.
    pub fn stopping(&self) {
        self.with(|s| s.stopping = true);
    }

    /// Whether the spool can be written no more.
    pub fn is_poisoned(&self) -> bool {
        self.with(|s| s.poisoned)
    }

    /// For how long the oldest unsealed record waits.
    pub fn unsealed_for(&self) -> Duration {
        self.with(|s| s.unsealed_for())
    }

    /// How many records of this epoch wait to be sealed.
    pub fn unsealed_records(&self) -> u64 {
        self.with(|s| s.behind(s.sealed))
    }

    /// Why no operation would be taken on now.
    pub fn refusal(&self) -> Option<Refusal> {
        self.with(|s| s.refusal())
    }

    /// All of it.
    pub fn render(&self) -> String {
        self.with(|s| s.render())
    }
}

impl State {
    fn unsealed_for(&self) -> Duration {
        oldest(&self.marks)
    }

    /// Records of this epoch that come after one.
    fn behind(&self, done: Option<Sealed>) -> u64 {
        match (self.newest, done) {
            (Some((epoch, seq)), Some((at, done))) if epoch == at => seq.saturating_sub(done),
            (Some((_, seq)), _) => seq + 1,
            (None, _) => 0,
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        let late = self.limits.is_some_and(|(_, deny)| self.unsealed_for() > deny);
        [
            (self.poisoned, Refusal::Poisoned),
            (self.stopping, Refusal::Stopping),
            (self.full, Refusal::Full),
            (late, Refusal::Unsealed),
        ]
        .into_iter()
        .find_map(|(holds, refusal)| holds.then_some(refusal))
    }

    fn render(&self) -> String {
        let mut out = String::new();
        labelled(&mut out, "records_total", "records made", "phase", &self.phases);
        labelled(&mut out, "refusals_total", "entries refused", "code", &self.refusals);
        let unsealed = self.unsealed_for();
        let alarm = self.limits.is_some_and(|(alarm, _)| unsealed > alarm);
        for (name, kind, help, value) in [
            (
                "repeated_lines_total",
                "counter",
                "foreign lines that were on record already",
                self.repeated as f64,
            ),
            ("record_bytes_total", "counter", "bytes of records", self.record_bytes as f64),
            ("commits_total", "counter", "writes with a sync", self.commits as f64),
            ("sync_seconds_total", "counter", "time that syncs took", self.syncing.as_secs_f64()),
            ("epoch", "gauge", "epoch of the source", self.epoch as f64),
            ("operations_open", "gauge", "operations without an outcome", self.open as f64),
            ("spool_used_bytes", "gauge", "bytes that the spool takes", self.used_bytes as f64),
            ("spool_free_bytes", "gauge", "bytes that records may still take", self.free_bytes as f64),
            ("spool_full", "gauge", "1: at high water", f64::from(self.full)),
            ("spool_poisoned", "gauge", "1: it cannot be written", f64::from(self.poisoned)),
            ("shipped_segments_total", "counter", "segments shipped", self.shipped_segments as f64),
            ("shipped_bytes_total", "counter", "bytes of shipped segments", self.shipped_bytes as f64),
            (
                "fallback_segments_total",
                "counter",
                "segments that went to the bucket in place of the stream",
                self.fallback_segments as f64,
            ),
            ("fallback", "gauge", "1: the bucket is used in place of the stream", f64::from(self.fallback)),
            ("ship_errors_total", "counter", "failed attempts to ship", self.ship_errors as f64),
            ("seal_errors_total", "counter", "failed checks of what is sealed", self.seal_errors as f64),
            ("freed_segments_total", "counter", "segments freed", self.freed_segments as f64),
            (
                "unshipped_records",
                "gauge",
                "records of this epoch not shipped",
                self.behind(self.shipped) as f64,
            ),
            (
                "unshipped_seconds",
                "gauge",
                "age of the oldest record that is not shipped",
                oldest(&self.unshipped).as_secs_f64(),
            ),
            (
                "unsealed_records",
                "gauge",
                "records of this epoch not sealed",
                self.behind(self.sealed) as f64,
            ),
            ("unsealed_seconds", "gauge", "age of the oldest unsealed record", unsealed.as_secs_f64()),
            ("unsealed_alarm", "gauge", "1: unsealed for longer than the alarm allows", f64::from(alarm)),
        ] {
            head(&mut out, name, kind, help);
            let _fits_into_memory = writeln!(out, "keytrail_sidecar_{name} {value}");
        }
        out
    }
}

/// Notes when a record was there, if the last note is not too close.
fn mark(marks: &mut VecDeque<(Sealed, Instant)>, record: Sealed) {
    let now = Instant::now();
    if marks.back().is_none_or(|(_, at)| now.duration_since(*at) >= MARK) {
        marks.push_back((record, now));
    }
}

/// Forgets records up to one.
fn unmark(marks: &mut VecDeque<(Sealed, Instant)>, to: Sealed) {
    while marks.front().is_some_and(|(record, _)| *record <= to) {
        marks.pop_front();
    }
}

fn oldest(marks: &VecDeque<(Sealed, Instant)>) -> Duration {
    marks.front().map_or(Duration::ZERO, |(_, at)| at.elapsed())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _fits_into_memory =
        write!(out, "# HELP keytrail_sidecar_{name} {help}\n# TYPE keytrail_sidecar_{name} {kind}\n");
}

fn labelled(out: &mut String, name: &str, help: &str, label: &str, values: &BTreeMap<&'static str, u64>) {
    head(out, name, "counter", help);
    for (value, count) in values {
        let _fits_into_memory = writeln!(out, "keytrail_sidecar_{name}{{{label}=\"{value}\"}} {count}");
    }
}
