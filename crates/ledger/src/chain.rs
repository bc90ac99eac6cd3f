//! Checks the chains of sources: what the records themselves prove (INTEGRITY sections 2 and 5).
//!
//! What it is: records in any order in, [`Finding`]s out. What it is not: it reads no archive, knows nothing
//! of the log, and checks neither the text of callers' records nor the checkpoints that epochs embed, which
//! are handed on as [`Anchor`]s. In: [`Record`]s; what is known of withheld ones; sealed runs of those whose
//! bytes are gone; public keys; receipts. Out: [`Checked`].
//!
//! Records that follow each other are folded into one part, whatever order they come in; only those that
//! wait for one before them are kept, and of those only what is needed. A part keeps what is open (intents
//! without outcome), what is wrong, and 16 bytes a record: without them another record at an old place could
//! not be told from a copy. Of two records at one place the content of the first to come is checked.

mod control;
mod epoch;
mod holes;
mod part;
mod range;
mod record;
mod source;

use std::collections::BTreeMap;

use keytrail_model::{Hash, Receipt};

use crate::finding::Finding;
use crate::note::VerifierKey;

use epoch::Epoch;
use source::Found;

pub use control::epoch_key_message;
pub use record::{Clocks, Phase, Record};

/// What is known of how far the records go.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct End {
    /// Only a range of time was read: what lies before the first and behind the last record of a source is
    /// not judged.
    pub ranged: bool,
    /// The newest archived time of the log, nanoseconds since 1970-01-01 UTC.
    pub archived_until_ns: Option<i64>,
}

/// What was looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Sources.
    pub sources: u64,
    /// Epochs, with those of which only runs are there.
    pub epochs: u64,
    /// Places that have a record, withheld or not.
    pub records: u64,
    /// Signed heads.
    pub heads: u64,
}

/// A checkpoint of the archive's log that an epoch embeds: the epoch began not before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// Whose chain.
    pub source: String,
    /// The epoch.
    pub epoch: u64,
    /// The record that has it.
    pub seq: u64,
    /// When that record says it was made, nanoseconds since 1970-01-01 UTC.
    pub time_ns: i64,
    /// The checkpoint, as a signed note that nobody has checked yet.
    pub note: String,
}

/// What a check gives.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Checked {
    /// All that is wrong, by source, epoch and number.
    pub findings: Vec<Finding>,
    /// What was not checked, and why.
    pub unchecked: Vec<String>,
    /// What was looked at.
    pub counts: Counts,
    /// Checkpoints of the log, by source and epoch.
    pub anchors: Vec<Anchor>,
}

/// The chains of all sources, as far as their records came.
#[derive(Debug)]
pub struct Chains {
    keys: Vec<VerifierKey>,
    sources: BTreeMap<Box<str>, BTreeMap<u64, Epoch>>,
    /// Records and runs with numbers beyond 63 bits, which no source gives.
    unplaced: u64,
}

impl Chains {
    /// No records yet. `audit_keys` are the public keys of sidecars, named `<organization>/<source>`: they
    /// vouch for the keys of epochs. Each of `receipts` demands its record.
    pub fn new(audit_keys: &[VerifierKey], receipts: Vec<Receipt>) -> Self {
        let mut chains = Self { keys: audit_keys.to_vec(), sources: BTreeMap::new(), unplaced: 0 };
        for receipt in receipts {
            // One with larger numbers is missing as well.
            if let Some(epoch) = chains.place(&receipt.source, receipt.epoch) {
                epoch.wanted.insert((receipt.seq, receipt.leaf_hash), false);
            }
        }
        chains
    }

    /// Takes a record.
    pub fn add(&mut self, record: &Record<'_>) {
        if let Some(epoch) = self.epoch(&record.source, record.epoch, record.seq) {
            epoch.add(record);
        }
    }

    /// Takes a record whose bytes are withheld: it is linked and hashed, its content is not checked.
    pub fn add_withheld(&mut self, source: &str, epoch: u64, seq: u64, prev: Hash, leaf: Hash) {
        if let Some(epoch) = self.epoch(source, epoch, seq) {
            epoch.add_withheld(seq, prev, leaf);
        }
    }

    /// Takes a sealed run, from its first record, which has that `prev`, to the last one with its hash. It
    /// fills what records leave: its ends are linked, and heads behind it are not checked.
    pub fn add_run(
        &mut self,
        source: &str,
        epoch: u64,
        first_seq: u64,
        last_seq: u64,
        first_prev: Hash,
        last_hash: Hash,
    ) {
        if first_seq > last_seq {
            self.unplaced += 1;
        } else if let Some(epoch) = self.epoch(source, epoch, last_seq) {
            epoch.runs.spans.insert((first_seq, last_seq));
            epoch.runs.starts.insert((first_seq, first_prev));
            epoch.runs.ends.insert((last_seq, last_hash));
        }
    }

    /// Judges what came.
    pub fn finish(self, end: End) -> Checked {
        let mut found = Found::default();
        for (name, epochs) in self.sources {
            source::judge(&name, epochs, &self.keys, end, &mut found);
        }
        let mut unchecked = found.unchecked.into_notes();
        if self.unplaced > 0 {
            unchecked.push(format!("{} records or runs with numbers that no source gives", self.unplaced));
        }
        Checked { findings: found.findings, unchecked, counts: found.counts, anchors: found.anchors }
    }

    fn epoch(&mut self, source: &str, epoch: u64, seq: u64) -> Option<&mut Epoch> {
        if epoch > record::MAX_NUMBER || seq > record::MAX_NUMBER {
            self.unplaced += 1;
            return None;
        }
        self.place(source, epoch)
    }

    /// The epoch, which is always there: a new one where there was none.
    fn place(&mut self, source: &str, epoch: u64) -> Option<&mut Epoch> {
        if !self.sources.contains_key(source) {
            self.sources.insert(source.into(), BTreeMap::new());
        }
        Some(self.sources.get_mut(source)?.entry(epoch).or_default())
    }
}

#[cfg(test)]
mod tests;
