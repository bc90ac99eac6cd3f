//! Records of one epoch that follow each other, folded into what their neighbours need to know.
//!
//! A record is the smallest part; parts that follow each other are joined into one, and it does not matter
//! in which order. So what is found does not depend on how records come.

use std::collections::BTreeMap;

use keytrail_model::Hash;

use super::range::Range;
use super::record::Clocks;

/// Records up to the next head: 256 by design, one more that time brought, and some for later designs.
const MAX_RECORDS: u64 = 264;

/// Time with records up to the next head: one second by design, and a writer may wait for its disk.
const MAX_ACTIVE_NS: u64 = 10_000_000_000;

/// Of the time between two records no more than this counts as time with records.
const ACTIVE_NS: u64 = 1_000_000_000;

/// Between two records: twice the heartbeats' interval.
const MAX_SILENCE_NS: u64 = 120_000_000_000;

/// So far the wall clock may be set back.
pub(super) const WALL_TOLERANCE_NS: u64 = 1_000_000_000;

/// A record as far as its neighbours are concerned.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) prev: Hash,
    pub(super) leaf: Hash,
    pub(super) clocks: Option<Clocks>,
    pub(super) kind: Kind,
}

/// What a record does.
#[derive(Debug)]
pub(super) enum Kind {
    Plain,
    /// With the root that it signs; `None`: it cannot be read, or is of another size.
    Head(Option<Hash>),
    Intent(Box<str>),
    Outcome(Box<str>),
    /// Nobody knows: it may be any of these.
    Opaque,
}

/// Something wrong with a record, or between it and the one before.
#[derive(Debug)]
pub(super) enum Flaw {
    /// The hash of the record before, and what this one says it is.
    Break {
        leaf: Hash,
        prev: Hash,
    },
    /// The first record names one before it.
    NotFirst,
    MonoBack(u64),
    WallBack(u64),
    Silent(u64),
    Headless(Stretch),
    Root,
}

/// Records since a head.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stretch {
    /// How many; of outcomes that follow each other, one: those that nobody said are recorded in one go.
    pub(super) records: u64,
    /// Time in which they came.
    pub(super) active_ns: u64,
}

/// An intent without outcome.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intent {
    pub(super) seq: u64,
    pub(super) mono_ns: Option<u64>,
}

/// Operations, as brackets: an outcome closes the newest intent of its operation that is open.
#[derive(Default, Debug)]
pub(super) struct Operations {
    /// Outcomes whose intent is not among these records, in order.
    pub(super) closed: Vec<(Box<str>, u64)>,
    /// Intents whose outcome is not, oldest first.
    pub(super) open: BTreeMap<Box<str>, Vec<Intent>>,
}

impl Operations {
    fn append(&mut self, next: Self) {
        for (id, seq) in next.closed {
            if !close(&mut self.open, &id) {
                self.closed.push((id, seq));
            }
        }
        for (id, mut intents) in next.open {
            self.open.entry(id).or_default().append(&mut intents);
        }
    }
}

/// Closes the newest intent of an operation; false where none is open.
pub(super) fn close<T>(open: &mut BTreeMap<Box<str>, Vec<T>>, id: &str) -> bool {
    let Some(intents) = open.get_mut(id) else { return false };
    intents.pop();
    if intents.is_empty() {
        open.remove(id);
    }
    true
}

/// When a record was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) seq: u64,
    pub(super) clocks: Clocks,
}

/// Records that follow each other.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) first_prev: Hash,
    pub(super) last_leaf: Hash,
    /// Of the first and the last record that has clocks.
    pub(super) clocks: Option<(At, At)>,
    /// Over all but the last record, by what the one behind each says is its hash: so an edited record leaves
    /// the roots behind it right. `None` behind a hole.
    tree: Option<Range>,
    /// Heads whose root needs what lies before: number, root, the leaves of this part before it.
    heads: Vec<(u64, Hash, Range)>,
    /// Heads behind a hole: nobody can compute their root.
    pub(super) heads_behind: u64,
    /// The first record that is a head, or may be, or from where on heads are due; what lies before it.
    lead: Option<(u64, Stretch)>,
    /// What lies behind the last such record.
    tail: Stretch,
    begins_with_outcome: bool,
    ends_with_outcome: bool,
    pub(super) operations: Operations,
    /// Records that may be anything.
    pub(super) opaque: Vec<(u64, u64)>,
    pub(super) flaws: Vec<(u64, Flaw)>,
}

impl Part {
    /// One record.
    pub(super) fn of(seq: u64, item: Item) -> Self {
        let at = item.clocks.map(|clocks| At { seq, clocks });
        let outcome = matches!(item.kind, Kind::Outcome(_));
        let mut part = Self {
            first: seq,
            last: seq,
            first_prev: item.prev,
            last_leaf: item.leaf,
            clocks: at.map(|at| (at, at)),
            tree: Some(Range::before(seq)),
            heads: Vec::new(),
            heads_behind: 0,
            // A head is due from the first record of an epoch on.
            lead: (seq == 0).then(|| (0, Stretch::default())),
            tail: Stretch { records: 1, active_ns: 0 },
            begins_with_outcome: outcome,
            ends_with_outcome: outcome,
            operations: Operations::default(),
            opaque: Vec::new(),
            flaws: Vec::new(),
        };
        if seq == 0 && item.prev != Hash::default() {
            part.flaws.push((0, Flaw::NotFirst));
        }
        if matches!(item.kind, Kind::Head(_) | Kind::Opaque) {
            part.lead = Some((seq, Stretch::default()));
            part.tail = Stretch::default();
        }
        match item.kind {
            Kind::Head(Some(root)) => part.head(seq, root, Range::before(seq)),
            Kind::Intent(id) => {
                let intent = Intent { seq, mono_ns: item.clocks.map(|c| c.mono_ns) };
                part.operations.open.insert(id, vec![intent]);
            }
            Kind::Outcome(id) => part.operations.closed.push((id, seq)),
            Kind::Opaque => part.opaque.push((seq, seq)),
            Kind::Plain | Kind::Head(None) => {}
        }
        part
    }

    /// Appends records that come later in the epoch; between the two there may be a hole.
    pub(super) fn join(&mut self, next: Self) {
        let follows = next.first == self.last + 1;
        if follows && self.last_leaf != next.first_prev {
            self.flaws.push((next.first, Flaw::Break { leaf: self.last_leaf, prev: next.first_prev }));
        }
        let active_ns = self.join_clocks(&next, follows);
        self.join_stretches(&next, follows, active_ns);
        match self.tree.take().filter(|_| follows) {
            None => self.heads_behind += next.heads_behind + next.heads.len() as u64,
            Some(mut tree) => {
                tree.push(next.first_prev);
                for (seq, root, before) in next.heads {
                    let mut whole = tree.clone();
                    whole.append(&before);
                    self.head(seq, root, whole);
                }
                self.heads_behind += next.heads_behind;
                self.tree = next.tree.map(|next| {
                    tree.append(&next);
                    tree
                });
            }
        }
        for (first, last) in next.opaque {
            match self.opaque.last_mut() {
                Some((_, end)) if *end + 1 == first => *end = last,
                _ => self.opaque.push((first, last)),
            }
        }
        self.operations.append(next.operations);
        self.flaws.extend(next.flaws);
        self.ends_with_outcome = next.ends_with_outcome;
        (self.last, self.last_leaf) = (next.last, next.last_leaf);
    }

    /// Compares the times on both sides; gives the time with records between them.
    fn join_clocks(&mut self, next: &Self, follows: bool) -> u64 {
        let mut active_ns = 0;
        self.clocks = match (self.clocks, next.clocks) {
            (Some((first, before)), Some((after, last))) => {
                let (from, to) = (before.clocks, after.clocks);
                let silence = to.mono_ns.saturating_sub(from.mono_ns);
                if from.mono_ns > to.mono_ns {
                    self.flaws.push((after.seq, Flaw::MonoBack(from.mono_ns - to.mono_ns)));
                }
                let back = back_ns(from.wall_ns, to.wall_ns);
                if back > WALL_TOLERANCE_NS {
                    self.flaws.push((after.seq, Flaw::WallBack(back)));
                }
                if follows && before.seq == self.last && after.seq == next.first {
                    active_ns = silence.min(ACTIVE_NS);
                    if silence > MAX_SILENCE_NS {
                        self.flaws.push((after.seq, Flaw::Silent(silence)));
                    }
                }
                Some((first, last))
            }
            (one, other) => one.or(other),
        };
        active_ns
    }

    fn join_stretches(&mut self, next: &Self, follows: bool, active_ns: u64) {
        let (bound, mut stretch) = match next.lead {
            Some((seq, stretch)) => (Some(seq), stretch),
            None => (None, next.tail),
        };
        if follows {
            if self.ends_with_outcome && next.begins_with_outcome {
                stretch.records = stretch.records.saturating_sub(1);
            }
            stretch.records = stretch.records.saturating_add(self.tail.records);
            stretch.active_ns =
                stretch.active_ns.saturating_add(self.tail.active_ns).saturating_add(active_ns);
        } else {
            // What the hole has may be a head: both sides are judged for themselves.
            self.judge(self.last, self.tail);
            self.lead.get_or_insert((self.last, Stretch::default()));
        }
        match bound {
            None => self.tail = stretch,
            Some(seq) => {
                if self.lead.is_some() {
                    self.judge(seq, stretch);
                } else {
                    self.lead = Some((seq, stretch));
                }
                self.tail = next.tail;
            }
        }
    }

    fn judge(&mut self, seq: u64, stretch: Stretch) {
        if stretch.records > MAX_RECORDS || stretch.active_ns > MAX_ACTIVE_NS {
            self.flaws.push((seq, Flaw::Headless(stretch)));
        }
    }

    /// Compares a head's root with the records before it, or keeps it until they are there.
    fn head(&mut self, seq: u64, root: Hash, before: Range) {
        if self.first != 0 {
            self.heads.push((seq, root, before));
        } else if before.root() != root {
            self.flaws.push((seq, Flaw::Root));
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) {
        if let Some((seq, stretch)) = self.lead {
            self.judge(seq, stretch);
        }
        self.judge(self.last, self.tail);
        self.heads_behind += self.heads.len() as u64;
        self.heads.clear();
    }
}

/// How far a wall clock ran back.
pub(super) fn back_ns(from: i64, to: i64) -> u64 {
    if to < from { from.abs_diff(to) } else { 0 }
}
