//! The threads behind the writer: one ships what is durable, one frees what is sealed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keytrail_adapters::aws::Aws;
use keytrail_ledger::LogKeys;
use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;
use keytrail_ports::BlobStore as _;
use serde::{Deserialize, Serialize};

use crate::config::Archive;
use crate::journal::Counts;
use crate::sealed::Covered;
use crate::ship::{Destination, SEGMENT_BYTES};
use crate::spool::SpoolReader;

/// Small file of the spool's folder with the last shipped record.
const SHIPPED: &str = "shipped";

/// Small file of the spool's folder with the last record of what is shipped now, or was when the process ended.
const SHIPPING: &str = "shipping";

/// Small file of the spool's folder with what is sealed.
const SEALED: &str = "sealed";

/// How long a thread sleeps at most before it looks whether the sidecar stops.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a failed attempt is waited after at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often a failure that stays the same is told.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How often the log is looked at.
const SEAL_INTERVAL: Duration = Duration::from_secs(2);

/// A record, as small files name it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    epoch: u64,
    seq: u64,
}

/// Ships records in order until told to stop, and then what is left.
pub struct Shipper {
    reader: SpoolReader,
    to: Box<dyn Destination>,
    interval: Duration,
    counts: Arc<Counts>,
    after: Option<(u64, u64)>,
    /// Where what is shipped together ends. It is kept over a restart, so that what arrived without an answer comes
    /// again as the same bytes, and not together with records that were made since.
    until: Option<At>,
}

impl Shipper {
    /// Goes on where the last process stopped.
    pub fn new(
        reader: SpoolReader,
        to: Box<dyn Destination>,
        interval: Duration,
        counts: Arc<Counts>,
    ) -> Result<Self, String> {
        let state = |name| -> Result<Option<At>, String> {
            match reader.read_state(name).map_err(|e| e.to_string())? {
                Some(bytes) => {
                    serde_json::from_slice(&bytes).map(Some).map_err(|e| format!("the state `{name}`: {e}"))
                }
                None => Ok(None),
            }
        };
        let (after, until) = (state(SHIPPED)?.map(|s| (s.epoch, s.seq)), state(SHIPPING)?);
        Ok(Self { reader, to, interval, counts, after, until })
    }

    /// Works until `stop`, and then until everything is shipped or that fails.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut failing = Failing::default();
        let mut next = Instant::now() + self.interval;
        loop {
            let stops = stop.load(Ordering::Acquire);
            if !stops && Instant::now() < next {
                std::thread::sleep(PAUSE.min(self.interval));
                continue;
            }
            next = Instant::now() + self.interval;
            let shipped = if stops { self.ship_all() } else { self.ship_due() };
            match shipped {
                Ok(()) if stops => return,
                Ok(()) => {
                    failing = Failing::default();
                    self.reader.wait(PAUSE);
                }
                Err(error) => {
                    self.counts.ship_failed();
                    next = Instant::now() + failing.again(error, self.interval);
                    if stops {
                        return;
                    }
                }
            }
        }
    }

    /// Ships all that is durable, and what becomes so meanwhile.
    pub fn ship_all(&mut self) -> Result<(), String> {
        while self.ship_next()?.is_some() {}
        Ok(())
    }

    /// Ships what has come together. While entries come, something is durable after each segment that was shipped:
    /// what little that is waits for more until the next time.
    fn ship_due(&mut self) -> Result<(), String> {
        while self.ship_next()?.is_some_and(|bytes| bytes >= SEGMENT_BYTES / 2) {}
        Ok(())
    }

    /// Ships one segment; gives the bytes of its records. `None`: nothing more is durable.
    fn ship_next(&mut self) -> Result<Option<usize>, String> {
        let next = self.reader.next(self.after, SEGMENT_BYTES).map_err(|e| e.to_string())?;
        let Some(mut batch) = next else { return Ok(None) };
        let epoch = batch.header.epoch;
        match self.until {
            Some(until) if until.epoch == epoch && until.seq >= batch.header.first_seq => {
                let count = batch.records.iter().take_while(|(seq, _)| *seq <= until.seq).count();
                batch.records.truncate(count);
            }
            _ => {
                let until = batch.records.last().map(|(seq, _)| At { epoch, seq: *seq });
                self.note(SHIPPING, until)?;
                self.until = until;
            }
        }
        if batch.records.is_empty() {
            return Ok(None);
        }
        let shipped = self.to.ship(&batch.header, &batch.records)?;
        self.note(SHIPPED, Some(At { epoch, seq: shipped.last_seq }))?;
        self.after = Some((epoch, shipped.last_seq));
        self.counts.shipped(epoch, &shipped);
        Ok(Some(batch.records.iter().map(|(_, record)| record.len()).sum()))
    }

    fn note(&self, name: &str, at: Option<At>) -> Result<(), String> {
        let Some(at) = at else { return Ok(()) };
        let state = serde_json::to_vec(&at).map_err(|e| e.to_string())?;
        self.reader.write_state(name, &state).map_err(|e| e.to_string())
    }
}

/// Attempts that failed, one after the other.
#[derive(Default)]
struct Failing {
    pause: Duration,
    told: Option<(String, Instant)>,
}

impl Failing {
    /// Tells of one, if it is another than before; gives how long it is waited until the next attempt.
    fn again(&mut self, error: String, interval: Duration) -> Duration {
        self.pause = (self.pause * 2).clamp(interval.max(PAUSE), LONGEST_PAUSE.max(interval));
        let is_new = self.told.as_ref().is_none_or(|(told, at)| *told != error || at.elapsed() >= TELL_AGAIN);
        if is_new {
            tracing::error!(code = "Retryable.Ship", %error, "records were not shipped");
            self.told = Some((error, Instant::now()));
        }
        self.pause
    }
}

/// What the sidecar knows of the log, as it was left.
pub fn covered(reader: &SpoolReader) -> Result<Covered, String> {
    match reader.read_state(SEALED).map_err(|e| e.to_string())? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("the state `{SEALED}`: {e}")),
        None => Ok(Covered::default()),
    }
}

/// Reads an object of the archive; `None`: it is not there.
type ReadObject = dyn Fn(&str) -> Result<Option<Vec<u8>>, String> + Send;

fn open_archive(archive: &Archive) -> Result<Box<ReadObject>, String> {
    Ok(match archive {
        Archive::Folder(folder) => {
            let folder = folder.clone();
            Box::new(move |key| match std::fs::read(folder.join(key)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(format!("cannot read `{key}`: {e}")),
            })
        }
        Archive::S3 { bucket, prefix } => {
            let store = Aws::from_environment().map_err(|e| e.to_string())?.store(bucket, prefix);
            Box::new(move |key| store.get(key).map_err(|e| e.to_string()))
        }
    })
}

/// Frees segments that a sealed checkpoint covers.
pub struct Releaser {
    source: String,
    reader: SpoolReader,
    archive: Box<ReadObject>,
    keys: LogKeys,
    covered: Covered,
    counts: Arc<Counts>,
}

impl Releaser {
    /// Goes on from what is known of the log.
    pub fn new(
        source: &str,
        reader: SpoolReader,
        archive: &Archive,
        keys: &Path,
        counts: Arc<Counts>,
    ) -> Result<Self, String> {
        let text =
            std::fs::read_to_string(keys).map_err(|e| format!("cannot read `{}`: {e}", keys.display()))?;
        let keys = LogKeys::parse(&text).map_err(|e| format!("`{}`: {e}", keys.display()))?;
        let covered = covered(&reader)?;
        let archive = open_archive(archive)?;
        Ok(Self { source: source.to_owned(), reader, archive, keys, covered, counts })
    }

    /// What is covered.
    pub fn covered(&self) -> &Covered {
        &self.covered
    }

    /// Works until `stop`.
    pub fn run(mut self, stop: &AtomicBool) {
        let mut last: Option<String> = None;
        while !stop.load(Ordering::Acquire) {
            match self.release() {
                Ok(_) => last = None,
                Err(error) => {
                    self.counts.seal_failed();
                    // Once is enough until something changes.
                    if last.as_ref() != Some(&error) {
                        tracing::error!(code = "Fatal.Log", %error, "what is sealed is not proven: nothing is freed");
                    }
                    last = Some(error);
                }
            }
            let until = Instant::now() + SEAL_INTERVAL;
            while Instant::now() < until && !stop.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Looks at the log once; gives how many segments were freed.
    pub fn release(&mut self) -> Result<u64, String> {
        let spool = std::cell::RefCell::new(self.reader.clone());
        let own = |epoch, seq| own_record(&mut spool.borrow_mut(), epoch, seq);
        let next = self.covered.advance(&self.source, &self.keys, &*self.archive, &own)?;
        if next != self.covered {
            let state = serde_json::to_vec(&next).map_err(|e| e.to_string())?;
            self.reader.write_state(SEALED, &state).map_err(|e| e.to_string())?;
            self.covered = next;
        }
        let mut freed = 0;
        for segment in self.reader.segments() {
            let (epoch, first, last) = (segment.epoch, segment.first_seq, segment.last_seq);
            if !self.covered.has(epoch, first, last) || self.counts.has_open(epoch, last) {
                // Only the oldest may go: a segment that is missing between others would be damage.
                break;
            }
            self.reader.remove(&segment).map_err(|e| e.to_string())?;
            freed += 1;
        }
        if let Some(to) = self.covered.newest() {
            self.counts.sealed(to, freed);
        }
        Ok(freed)
    }
}

/// The hash before a record, and its own, where the spool still has it.
fn own_record(reader: &mut SpoolReader, epoch: u64, seq: u64) -> Option<(Hash, Hash)> {
    #[derive(Deserialize)]
    struct Linked {
        prev: Hash,
    }
    let before = match seq.checked_sub(1) {
        Some(before) => (epoch, before),
        None => (epoch.checked_sub(1)?, u64::MAX),
    };
    let batch = reader.next(Some(before), 1).ok()??;
    let (found, record) = batch.records.first()?;
    if batch.header.epoch != epoch || *found != seq {
        return None;
    }
    let end = memchr::memchr(b'\n', record).unwrap_or(record.len());
    let linked: Linked = serde_json::from_slice(&record[..end]).ok()?;
    Some((linked.prev, leaf_hash(record)))
}
