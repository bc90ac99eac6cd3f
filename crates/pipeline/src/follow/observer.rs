//! What an observer of a service is told: notices, how things are, seals.

use std::collections::BTreeMap;
use std::time::Duration;

use keytrail_ledger::Checkpoint;
use keytrail_model::{Counts, Fatal};

use super::Lag;
use crate::archiver::Archiver;
use crate::compact::Compacted;
use crate::readable::Readable;
use crate::sequence::Gap;
use crate::trail::Trail;

/// What happens beside the records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A file or folder cannot be read; it is tried again.
    Unreadable {
        /// Its name.
        file: String,
        /// Why.
        why: String,
    },
    /// A file was cut short or written anew: it is read from its start.
    WrittenAnew {
        /// Its name.
        file: String,
    },
    /// A file is gone, and bytes that were seen of it could not be read.
    Vanished {
        /// Its name.
        file: String,
        /// How many.
        unread_bytes: u64,
    },
    /// Positions of an earlier process are not gone by: everything is read again.
    NoPositions {
        /// Why.
        why: String,
    },
    /// The store does not take it: everything since the last seal is read again after a pause.
    Retrying {
        /// The error.
        error: Fatal,
        /// The pause.
        pause: Duration,
    },
}

/// How things are between two polls.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct State {
    /// Files that are followed.
    pub files: u64,
    /// Bytes seen and not read.
    pub unread_bytes: u64,
    /// Records read and not sealed.
    pub unsealed_records: u64,
    /// Their bytes, inflated.
    pub unsealed_bytes: u64,
    /// Bytes read since the last call, as they came.
    pub read_bytes: u64,
    /// Sources of which records were read since the last call.
    pub heard: Vec<String>,
}

/// A seal.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The log's head.
    pub head: Checkpoint,
    /// Size of the log before.
    pub first_leaf: u64,
    /// Counts since the last seal, by source.
    pub sources: BTreeMap<String, Counts>,
    /// Refused records since the last seal, by code.
    pub rejected: BTreeMap<&'static str, u64>,
    /// New archive objects and their bytes.
    pub objects: (u64, u64),
    /// Numbers that are missing between what was sealed since the last seal and other records.
    pub gaps: Vec<Gap>,
    /// From the appearance of records to this seal.
    pub lag: Lag,
}

impl Sealed {
    /// Counts of all sources.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.sources.values().for_each(|c| total += *c);
        total
    }
}

/// Is told what happens.
pub trait Observer {
    /// Something that a person should know.
    fn notice(&mut self, notice: &Notice);
    /// A poll is done. Nothing else writes to the trail meanwhile.
    fn polled(&mut self, trail: &Trail<'_>, readable: &Readable, state: &State) -> Result<(), Fatal>;
    /// A seal is done, and positions are written. Nothing else writes to the trail meanwhile.
    fn sealed(&mut self, trail: &Trail<'_>, seal: &Sealed) -> Result<(), Fatal>;
    /// Archive objects were made one.
    fn compacted(&mut self, compacted: &Compacted);
}

/// What was told of an archiver's counts, which go on from its start.
#[derive(Default)]
pub(super) struct Told {
    sources: BTreeMap<String, Counts>,
    rejected: BTreeMap<&'static str, u64>,
    objects: (u64, u64),
    /// Size of the log that was told of.
    pub(super) size: u64,
}

impl Told {
    /// Nothing was told since the log had this size.
    pub(super) fn from(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// What is new since the last call.
    pub(super) fn since(&mut self, archiver: &mut Archiver<'_>, head: Checkpoint, lag: Lag) -> Sealed {
        let now = Self {
            sources: archiver.counts(),
            rejected: archiver.rejected().clone(),
            objects: archiver.written(),
            size: head.size,
        };
        let before = std::mem::replace(self, now);
        let counts = |(source, now): (&String, &Counts)| {
            let then = before.sources.get(source).copied().unwrap_or_default();
            let counts = Counts {
                read: now.read - then.read,
                accepted: now.accepted - then.accepted,
                duplicates: now.duplicates - then.duplicates,
                rejected: now.rejected - then.rejected,
                conflicts: now.conflicts - then.conflicts,
                variants: now.variants - then.variants,
            };
            (source.clone(), counts)
        };
        let rejected = |(code, now): (&&'static str, &u64)| {
            let new = now - before.rejected.get(code).copied().unwrap_or_default();
            (new > 0).then_some((*code, new))
        };
        Sealed {
            head,
            first_leaf: before.size,
            sources: self.sources.iter().map(counts).collect(),
            rejected: self.rejected.iter().filter_map(rejected).collect(),
            objects: (self.objects.0 - before.objects.0, self.objects.1 - before.objects.1),
            gaps: archiver.take_gaps(),
            lag,
        }
    }
}
