//! The reading side: what is durable, in order, for shipping.

use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{FOOTER_BYTES, Footer, Header, RECORD_HEADER_BYTES, write_record};

use super::error::SpoolError;
use super::shared::{Shared, header_bytes};
use super::walk::{Step, Walk};
use super::{Counts, Damage, Room, Segment, Wrong};

/// Reads what is durable in a spool, in any thread, and frees what is not needed any more. A copy goes on
/// from the same place by itself. The folder stays locked as long as there is one.
#[derive(Clone)]
pub struct SpoolReader {
    shared: Arc<Shared>,
    place: Option<Place>,
    /// Changes of the spool that were there at the last look.
    seen: u64,
}

/// Records of one segment, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// As of a segment that begins with the first of these records.
    pub header: Header,
    /// Number and bytes of each; at least one.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Leaf hash of the last.
    pub last_hash: Hash,
    /// What was stepped over in between.
    pub damaged: Vec<Damage>,
}

/// Behind the last record that was read.
#[derive(Clone)]
struct Place {
    after: (u64, u64),
    /// Hash of that record.
    hash: Hash,
    /// First number of the segment, and where in it the next part is.
    first_seq: u64,
    at: u64,
}

/// A segment to read.
struct Source {
    path: PathBuf,
    epoch: u64,
    first_seq: u64,
    created_ns: i64,
    /// Where what is durable ends.
    end: u64,
}

impl SpoolReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, place: None, seen: 0 }
    }

    /// The durable records behind (epoch, number), or from the oldest on: at least one, and no more than a
    /// segment of `max_bytes` has room for. `None`: there is none now.
    pub fn next(&mut self, after: Option<(u64, u64)>, max_bytes: usize) -> Result<Option<Batch>, SpoolError> {
        let (mut behind, mut damaged) = (None, Vec::new());
        while let Some(source) = self.source(after, behind) {
            let batch = self.read(&source, after, max_bytes, &mut damaged);
            if let Some(batch) = batch.map_err(|e| SpoolError::at("read", &source.path, &e))? {
                return Ok(Some(batch));
            }
            // Nothing in it can be read any more: its damage goes with the next batch.
            behind = Some((source.epoch, source.first_seq));
        }
        Ok(None)
    }

    /// Waits until the spool is another than when [`next`](Self::next) looked, by new durable records or else;
    /// whether it is. Of a spool that [ended](Self::ended) nothing is waited for.
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.wait(self.seen, timeout).changes != self.seen
    }

    /// Whether the writer is gone: nothing more comes.
    pub fn ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Why the spool takes nothing more, if so. What is durable can still be read.
    pub fn poison(&self) -> Option<SpoolError> {
        self.shared.state().poison.clone()
    }

    /// How much room there is.
    pub fn room(&self) -> Result<Room, SpoolError> {
        self.shared.room()
    }

    /// What was done since the spool was opened.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// The closed segments, oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.shared.state().closed.values().cloned().collect()
    }

    /// Frees the oldest closed segment, which has to be this one: a segment that is missing between others is
    /// damage.
    pub fn remove(&self, segment: &Segment) -> Result<(), SpoolError> {
        self.shared.remove(segment.epoch, segment.first_seq)
    }

    /// A small file of state (`a-z0-9-`); `None`: it was never written.
    pub fn read_state(&self, name: &str) -> Result<Option<Vec<u8>>, SpoolError> {
        self.shared.read_state(name)
    }

    /// Replaces a small file of state, durable on return: after a crash it is the old one or the new one.
    pub fn write_state(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        self.shared.write_state(name, bytes)
    }

    /// The first segment with a record behind `after`, itself behind the segment `behind`.
    fn source(&mut self, after: Option<(u64, u64)>, behind: Option<(u64, u64)>) -> Option<Source> {
        let state = self.shared.state();
        self.seen = state.changes;
        let segments = (behind.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut closed = state.closed.range(segments).map(|(_, segment)| segment);
        if let Some(s) = closed.find(|s| Some((s.epoch, s.last_seq)) > after) {
            return Some(Source {
                path: s.path.clone(),
                epoch: s.epoch,
                first_seq: s.first_seq,
                created_ns: s.created_ns,
                end: s.bytes,
            });
        }
        let open = state.open.as_ref().filter(|o| o.records > 0)?;
        let (epoch, first_seq) = (open.header.epoch, open.header.first_seq);
        if Some((epoch, first_seq)) <= behind || Some((epoch, first_seq + open.records - 1)) <= after {
            return None;
        }
        let (path, created_ns) = (open.path.clone(), open.header.created_ns);
        Some(Source { path, epoch, first_seq, created_ns, end: open.durable_bytes })
    }

    fn read(
        &mut self,
        source: &Source,
        after: Option<(u64, u64)>,
        max_bytes: usize,
        damaged: &mut Vec<Damage>,
    ) -> io::Result<Option<Batch>> {
        let file = self.shared.files.open(&source.path)?;
        let mut walk = Walk::new(file, source.end, source.first_seq)?;
        let mut prev = walk.header().map_or(Hash::default(), |h| h.prev);
        let place = self.place.take().filter(|p| p.first_seq == source.first_seq && Some(p.after) == after);
        let next_seq = match after {
            Some((epoch, seq)) if epoch == source.epoch => seq.saturating_add(1),
            _ => source.first_seq,
        };
        if let Some(place) = place.filter(|p| p.after.0 == source.epoch) {
            prev = place.hash;
            walk.resume_at(place.at, next_seq);
        }
        let mut room = max_bytes.saturating_sub(header_bytes(&self.shared.source) + FOOTER_BYTES);
        let mut records: Vec<(u64, Vec<u8>)> = Vec::new();
        // Where the last record before them is.
        let mut before = None;
        let mut at;
        loop {
            at = walk.at();
            match walk.step()? {
                Step::Record { seq, bytes } if seq < next_seq => {
                    before = Some((at + RECORD_HEADER_BYTES as u64, bytes.len()));
                }
                Step::Record { seq, bytes } => {
                    let framed_bytes = RECORD_HEADER_BYTES + bytes.len();
                    if framed_bytes > room && !records.is_empty() {
                        break;
                    }
                    room = room.saturating_sub(framed_bytes);
                    records.push((seq, bytes.to_vec()));
                }
                Step::Damaged { at, bytes, expected, wrong } => {
                    if expected >= next_seq {
                        damaged.push(source.damage(at, bytes, expected, wrong));
                    }
                }
                Step::End { torn: 0, .. } | Step::Footer(_) => break,
                Step::End { at, torn } => {
                    damaged.push(source.damage(at, torn, walk.expected(), Wrong::Bytes));
                    break;
                }
            }
        }
        if let Some((at, length)) = before {
            prev = leaf_hash(walk.bytes(at, length)?);
        }
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(None) };
        let last_hash = leaf_hash(&last.1);
        self.place =
            Some(Place { after: (source.epoch, last.0), hash: last_hash, first_seq: source.first_seq, at });
        let header = Header {
            source: self.shared.source.clone(),
            epoch: source.epoch,
            first_seq: first.0,
            prev,
            created_ns: source.created_ns,
        };
        Ok(Some(Batch { header, records, last_hash, damaged: std::mem::take(damaged) }))
    }
}

impl Source {
    fn damage(&self, at_bytes: u64, bytes: u64, expected_seq: u64, wrong: Wrong) -> Damage {
        Damage { path: self.path.clone(), epoch: self.epoch, expected_seq, at_bytes, bytes, wrong }
    }
}

impl Batch {
    /// Appends the records as a closed segment: header, records, footer.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.header.write(out);
        for (seq, bytes) in &self.records {
            write_record(out, *seq, bytes);
        }
        let last_seq = self.records.last().map_or(self.header.first_seq, |r| r.0);
        Footer { last_seq, records: self.records.len() as u64, last_hash: self.last_hash }.write(out);
    }
}
