//! The records of one epoch, as they come.

use std::collections::{BTreeMap, BTreeSet};

use keytrail_model::Hash;

use super::control::Control;
use super::part::{Item, Kind, Part};
use super::record::{Phase, Record};

/// Records that may wait for those before them; beyond that the first of them begin a part of their own.
const MAX_AHEAD: usize = 1 << 16;

/// Half of a leaf hash: tells another record at the same place from a copy.
type Print = [u8; 16];

fn print(leaf: &Hash) -> Print {
    let mut print = [0; 16];
    print.copy_from_slice(&leaf.0[..16]);
    print
}

#[derive(Debug)]
struct Folded {
    part: Part,
    prints: Vec<Print>,
}

impl Folded {
    fn of(seq: u64, item: Item) -> Self {
        Self { prints: vec![print(&item.leaf)], part: Part::of(seq, item) }
    }

    fn push(&mut self, item: Item) {
        self.prints.push(print(&item.leaf));
        self.part.join(Part::of(self.part.last + 1, item));
    }
}

/// A hash at a place, as `prev` or as leaf.
pub(super) type Placed = BTreeSet<(u64, Hash)>;

/// What a set has at a place.
pub(super) fn at(set: &Placed, seq: u64) -> impl Iterator<Item = &Hash> {
    set.range((seq, Hash([0; 32]))..=(seq, Hash([0xff; 32]))).map(|(_, hash)| hash)
}

/// Other records at a place that is taken.
#[derive(Default, Debug)]
pub(super) struct Others {
    /// Their hashes.
    pub(super) leaves: Placed,
    /// And those that they say are before them.
    prevs: Placed,
}

impl Others {
    /// Whether one of the records at a place continues one of those before it, where the first of each, with
    /// that leaf and that `prev`, do not.
    pub(super) fn link(&self, seq: u64, leaf: &Hash, prev: &Hash) -> bool {
        let Some(before) = seq.checked_sub(1) else { return false };
        self.leaves.contains(&(before, *prev))
            || self.prevs.contains(&(seq, *leaf))
            || at(&self.leaves, before).any(|leaf| self.prevs.contains(&(seq, *leaf)))
    }
}

/// Records of which only the ends are known.
#[derive(Default, Debug)]
pub(super) struct Runs {
    pub(super) spans: BTreeSet<(u64, u64)>,
    /// First number, and hash of the record before.
    pub(super) starts: Placed,
    /// Last number, and its hash.
    pub(super) ends: Placed,
}

impl Runs {
    /// The last record of all of them.
    pub(super) fn last(&self) -> Option<u64> {
        self.ends.last().map(|(seq, _)| *seq)
    }
}

/// The records of one epoch.
#[derive(Default, Debug)]
pub(super) struct Epoch {
    /// Boxed: a map keeps room for eleven, and most epochs have one.
    folded: BTreeMap<u64, Box<Folded>>,
    ahead: BTreeMap<u64, Item>,
    pub(super) others: Others,
    /// Receipts, and whether their record came.
    pub(super) wanted: BTreeMap<(u64, Hash), bool>,
    pub(super) runs: Runs,
    pub(super) control: Control,
    /// Places that have a record.
    pub(super) records: u64,
    /// Of these, such as cannot be read.
    pub(super) unknown: u64,
    pub(super) withheld: u64,
}

impl Epoch {
    /// Takes a record.
    pub(super) fn add(&mut self, record: &Record<'_>) {
        if !self.claim(record.seq, record.prev, record.leaf) {
            return;
        }
        let id = || record.op_id.as_deref().map(Into::into);
        let kind = match record.phase {
            Phase::EpochOpen => {
                self.control.open(record);
                Kind::Plain
            }
            Phase::Head => Kind::Head(self.control.head(record)),
            Phase::Gap => {
                self.control.gap(record);
                Kind::Plain
            }
            Phase::EpochClose => {
                self.control.close(record);
                Kind::Plain
            }
            Phase::Intent => id().map_or(Kind::Opaque, Kind::Intent),
            Phase::Outcome => id().map_or(Kind::Opaque, Kind::Outcome),
            Phase::Deny | Phase::Heartbeat | Phase::Foreign => Kind::Plain,
            Phase::Unknown => Kind::Opaque,
        };
        if record.seq == 0 && !matches!(record.phase, Phase::EpochOpen | Phase::Unknown) {
            self.control.opening_is_bad = true;
            let message = format!("record 0 of epoch {} does not open it", record.epoch);
            self.control.flaws.push((0, crate::Code::EpochUnlinked, message));
        }
        self.unknown += u64::from(record.phase == Phase::Unknown);
        let clocks = record.clocks;
        self.fold(record.seq, Item { prev: record.prev, leaf: record.leaf, clocks, kind });
    }

    /// Takes what is known of a record without its bytes.
    pub(super) fn add_withheld(&mut self, seq: u64, prev: Hash, leaf: Hash) {
        if self.claim(seq, prev, leaf) {
            self.withheld += 1;
            self.fold(seq, Item { prev, leaf, clocks: None, kind: Kind::Opaque });
        }
    }

    /// Whether a record is the first at its place; another one there is kept as such.
    fn claim(&mut self, seq: u64, prev: Hash, leaf: Hash) -> bool {
        if let Some(met) = self.wanted.get_mut(&(seq, leaf)) {
            *met = true;
        }
        let Some(taken) = self.print(seq) else {
            self.records += 1;
            return true;
        };
        if taken != print(&leaf) {
            self.others.leaves.insert((seq, leaf));
            self.others.prevs.insert((seq, prev));
        }
        false
    }

    fn print(&self, seq: u64) -> Option<Print> {
        if let Some(item) = self.ahead.get(&seq) {
            return Some(print(&item.leaf));
        }
        let (first, folded) = self.folded.range(..=seq).next_back()?;
        folded.prints.get(usize::try_from(seq - first).ok()?).copied()
    }

    /// Whether a record is there.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.print(seq).is_some()
    }

    /// Whether a record that is there may have that leaf hash.
    pub(super) fn may_have(&self, seq: u64, leaf: &Hash) -> bool {
        self.print(seq) == Some(print(leaf)) || self.others.leaves.contains(&(seq, *leaf))
    }

    fn fold(&mut self, seq: u64, item: Item) {
        let before = self.folded.range_mut(..seq).next_back().map(|(_, folded)| folded);
        match before.filter(|folded| folded.part.last.checked_add(1) == Some(seq)) {
            Some(folded) => {
                folded.push(item);
                follow(folded, &mut self.ahead);
            }
            None => {
                self.ahead.insert(seq, item);
                if seq == 0 || self.ahead.len() > MAX_AHEAD {
                    self.begin();
                }
            }
        }
    }

    /// The first record that waits begins a part.
    fn begin(&mut self) {
        if let Some((seq, item)) = self.ahead.pop_first() {
            let mut folded = Folded::of(seq, item);
            follow(&mut folded, &mut self.ahead);
            self.folded.insert(seq, Box::new(folded));
        }
    }

    /// All parts, in order.
    pub(super) fn into_parts(mut self) -> Vec<Part> {
        while !self.ahead.is_empty() {
            self.begin();
        }
        self.folded.into_values().map(|folded| folded.part).collect()
    }

    /// First and last number that is there, as record or in a run.
    pub(super) fn ends(&self) -> Option<(u64, u64)> {
        let first = [
            self.folded.keys().next().copied(),
            self.ahead.keys().next().copied(),
            self.runs.spans.first().map(|(first, _)| *first),
        ];
        let last = [
            self.folded.values().next_back().map(|f| f.part.last),
            self.ahead.keys().next_back().copied(),
            self.runs.last(),
        ];
        first.into_iter().flatten().min().zip(last.into_iter().flatten().max())
    }

    /// Numbers of receipts whose record did not come, and whether another one has its place.
    pub(super) fn unmet(&self) -> Vec<(u64, bool)> {
        let unmet = self.wanted.iter().filter(|(_, met)| !**met);
        unmet.map(|((seq, _), _)| (*seq, self.has(*seq))).collect()
    }

    /// What the record behind a hole says is before it.
    pub(super) fn prev_behind(&self, hole: u64) -> Option<Hash> {
        let seq = hole.checked_add(1).filter(|_| !self.has(hole))?;
        let waiting = self.ahead.get(&seq).map(|item| item.prev);
        waiting.or_else(|| self.folded.get(&seq).map(|folded| folded.part.first_prev))
    }
}

/// Appends the records that wait for this part.
fn follow(folded: &mut Folded, ahead: &mut BTreeMap<u64, Item>) {
    while let Some(next) = folded.part.last.checked_add(1)
        && let Some(item) = ahead.remove(&next)
    {
        folded.push(item);
    }
}
