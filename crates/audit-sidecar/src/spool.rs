//! The spool: records on the disk of the sidecar until a sealed checkpoint covers them.
//!
//! What it is: segments (`keytrail_model::segment`) in a folder that one process writes, and small files of
//! state beside them. What it is not: it looks into no record, and never removes one to make room. In: records
//! with their number, from one thread. Out: what is durable, and the same bytes in the same order for
//! shipping, from any thread.
//!
//! ```text
//! <epoch, 20 digits>-<first seq, 20 digits>.ktseg    a segment
//! spare.tmp                                          the next one: its place on the disk is taken
//! <name>.state                                       a small file, replaced as a whole
//! *.tmp                                              not finished; removed at the next start
//! ```
//!
//! **Durable.** [`Spool::append`] writes to memory. [`Spool::commit`] writes all of it with one write and
//! returns once `fdatasync` did: what came before that may be lost, what comes back is not. A segment's file
//! has its whole length from the start and is written with zeros a piece ahead, so that a commit changes no
//! metadata, which would take the file system a second write. A segment appears under its name with a durable
//! header, and the next one only after the footer of the one before is durable.
//!
//! **Poison.** After a write or sync that failed nobody knows what is on disk, and a second `fsync` that
//! succeeds means nothing. So the first failure ends the spool: every later call gives the same error, and the
//! process has to end. [`Spool::begin`] on a full disk is the exception: nothing was recorded yet.
//!
//! **Recovery.** [`Spool::open`] reads every segment. What was written last and not whole (a power cut, a kill
//! in the middle of a write) is cut from the newest segment and reported: no caller was told that it is
//! durable. Bad bytes with a whole record or a footer behind them, or in any other segment, are damage: they
//! are reported, stay as they are, and what is behind them is read on. The newest segment is then closed: a
//! new start is a new epoch and a new segment.
//!
//! **Space.** Two segments' places are taken ahead: the one that is written, and the spare. When they hold
//! less than [`Settings::reserve_bytes`], new operations are to be refused ([`Room::high_water`]); what is in
//! flight can still be recorded.

mod error;
mod files;
pub mod group;
mod reader;
mod recovery;
mod shared;
mod walk;
mod window;
mod writer;

#[cfg(any(test, feature = "memory"))]
pub mod memory;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keytrail_model::Hash;

pub use error::SpoolError;
pub use files::{FileAccess, Files, OsFiles};
pub use reader::{Batch, SpoolReader};
pub use walk::Wrong;
pub use writer::Spool;

/// How a spool is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of a segment's file, at least [`LEAST_SEGMENT_BYTES`]. A record that does not fit gets one of its
    /// own size.
    pub segment_bytes: u64,
    /// Bytes that all segments together should not exceed: at this many no spare is made, so that
    /// [`Room::high_water`] comes. What was begun is still recorded, beyond it if need be. At least two segments.
    pub max_bytes: u64,
    /// Bytes that are to be left for what is in flight. No more than half a segment counts: the end of each would be
    /// high water.
    pub reserve_bytes: u64,
    /// Zeros are written so far ahead of the records. With 0 every commit changes metadata of the file.
    pub zero_ahead_bytes: u64,
    /// The clock of the headers: nanoseconds since 1970-01-01.
    pub now_ns: fn() -> i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: 8 << 30,
            reserve_bytes: 32 << 20,
            zero_ahead_bytes: 1 << 20,
            now_ns: wall_clock_ns,
        }
    }
}

/// The smallest segment.
pub const LEAST_SEGMENT_BYTES: u64 = 4096;

impl Settings {
    /// What is wrong with them, if anything is.
    pub fn check(&self) -> Result<(), SpoolError> {
        let Self { segment_bytes, max_bytes, .. } = *self;
        let wrong = if segment_bytes < LEAST_SEGMENT_BYTES {
            format!("segments of {segment_bytes} bytes: expected at least {LEAST_SEGMENT_BYTES}")
        } else if max_bytes / 2 < segment_bytes {
            format!("a spool of {max_bytes} bytes: expected room for two segments of {segment_bytes}")
        } else {
            return Ok(());
        };
        Err(SpoolError::Settings(wrong))
    }

    /// The reserve as it counts.
    fn held_back_bytes(&self) -> u64 {
        self.reserve_bytes.min(self.segment_bytes / 2)
    }
}

/// The system's clock, nanoseconds since 1970-01-01.
pub fn wall_clock_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// What a spool had in it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The segments, oldest first; those in which a record can be read. All of them are closed now.
    pub segments: Vec<Segment>,
    /// What was cut from the end of the newest.
    pub truncated: Option<Truncated>,
    /// What is wrong with the others, and with what is before the end of the newest. It is as it was.
    pub damaged: Vec<Damage>,
}

/// A segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its epoch.
    pub epoch: u64,
    /// Number of its first record.
    pub first_seq: u64,
    /// Number of the last that can be read.
    pub last_seq: u64,
    /// Leaf hash of that one.
    pub last_hash: Hash,
    /// Records that can be read.
    pub records: u64,
    /// When it was begun, nanoseconds since 1970-01-01.
    pub created_ns: i64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Its file.
    pub path: PathBuf,
    /// Whether it had been closed when the spool was opened; of [`SpoolReader::segments`] all are.
    pub closed: bool,
}

/// What was written last and not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Truncated {
    /// Epoch of the segment.
    pub epoch: u64,
    /// The number that the first record which is gone would have had.
    pub expected_seq: u64,
    /// Where it was.
    pub at_bytes: u64,
    /// Bytes from there to the last that was written.
    pub dropped_bytes: u64,
}

/// Something wrong with a segment. In one that had not been closed, at the end of what is readable, it can also be
/// what a power cut left of the last commit: a disk writes the sectors of one write in any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Its file.
    pub path: PathBuf,
    /// Its epoch.
    pub epoch: u64,
    /// The number that was expected there.
    pub expected_seq: u64,
    /// Where in the file.
    pub at_bytes: u64,
    /// How many bytes, if it is a matter of bytes.
    pub bytes: u64,
    /// What it is.
    pub wrong: Wrong,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, expected_seq, at_bytes, bytes, wrong, .. } = self;
        write!(f, "`{}` at byte {at_bytes}, {bytes} bytes, record {expected_seq}: {wrong}", path.display())
    }
}

/// What is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Durable {
    /// The epoch.
    pub epoch: u64,
    /// Number of the last durable record; `None`: there is none in this epoch yet.
    pub seq: Option<u64>,
}

/// How much room there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that can still be written: those that are held, and what the disk and the limit allow beyond.
    pub free_bytes: u64,
    /// Bytes whose place on the disk is taken and empty.
    pub held_bytes: u64,
    /// Bytes that the spool takes of the disk.
    pub used_bytes: u64,
    /// Fewer are held than what is in flight may need, or more is used than should be: nothing new is to be begun.
    pub high_water: bool,
}

/// What was done since the spool was opened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Records that became durable.
    pub records: u64,
    /// Their bytes, without what the layout adds.
    pub bytes: u64,
    /// Commits that wrote something.
    pub commits: u64,
    /// How long their syncs took, in all.
    pub syncing: Duration,
}
