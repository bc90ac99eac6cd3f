//! What a report keeps of a day: sums, and tables by name. Days add up to weeks.
//!
//! In: the parts of a row that the report asks about (`Fields`). Out: [`DayFold`]s. Every part is a sum, a
//! minimum or a maximum, so neither the order of rows nor their place in objects matters.

use std::collections::BTreeMap;

use keytrail_model::ActionClass;
use serde::{Deserialize, Serialize};

use super::fields::{Fields, Kind};
use super::names::{Gathering, Names, Tallied};

const DAY_SECONDS: i64 = 86_400;

/// Raised when what is kept of a day changes: partial results of another version are not used.
pub const FOLD_VERSION: u32 = 1;

/// Operations, and those that failed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Count {
    /// All.
    pub operations: u64,
    /// Failed ones.
    pub failures: u64,
}

impl Count {
    fn one(&mut self, failed: bool) {
        self.operations += 1;
        self.failures += u64::from(failed);
    }
}

impl Tallied for Count {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.failures += other.failures;
    }
}

/// Dataset and name of a source.
pub type SourceName = (String, String);

/// What was heard of a source in a day.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct SourceDay {
    /// Events.
    pub events: u64,
    /// Events that no declaration claims.
    pub undeclared: u64,
    /// Operations.
    pub count: Count,
    /// First and last time, microseconds since 1970.
    pub times: Option<(i64, i64)>,
    /// Seconds of the first and last event since 1970, and the longest time between two seconds with events.
    pub heard: Option<(i64, i64, i64)>,
}

/// What an actor did.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// All operations.
    pub all: Count,
    /// Those of key management.
    pub keys: Count,
    /// Time of the last of these.
    pub last: Option<i64>,
}

impl Tallied for Actor {
    fn add(&mut self, other: Self) {
        self.all.add(other.all);
        self.keys.add(other.keys);
        self.last = self.last.max(other.last);
    }
}

/// The newest of texts: of the greatest time, then uid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Said {
    /// When.
    at: i64,
    /// By which event.
    uid: String,
    /// What.
    pub text: String,
}

/// What happened to a key.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Operations.
    pub count: Count,
    /// First and last of them.
    pub times: Option<(i64, i64)>,
    /// First creation or import that did not fail.
    pub created: Option<i64>,
    /// Last rotation that did not fail.
    pub rotated: Option<i64>,
    /// Last time its deletion was scheduled...
    pub scheduled: Option<i64>,
    /// ...and called off.
    pub cancelled: Option<i64>,
    /// Last destruction.
    pub destroyed: Option<i64>,
    /// Alias.
    pub alias: Option<Said>,
    /// Algorithm.
    pub algorithm: Option<Said>,
    /// State.
    pub state: Option<Said>,
}

impl Tallied for Key {
    fn add(&mut self, other: Self) {
        self.count.add(other.count);
        self.times = around(self.times, other.times);
        self.created = self.created.into_iter().chain(other.created).min();
        self.rotated = self.rotated.max(other.rotated);
        self.scheduled = self.scheduled.max(other.scheduled);
        self.cancelled = self.cancelled.max(other.cancelled);
        self.destroyed = self.destroyed.max(other.destroyed);
        for (mine, its) in [
            (&mut self.alias, other.alias),
            (&mut self.algorithm, other.algorithm),
            (&mut self.state, other.state),
        ] {
            if its > *mine {
                *mine = its;
            }
        }
    }
}

/// Privileged operations that differ in their time alone.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Group {
    /// How often.
    pub count: Count,
    /// Time and uid of the first.
    pub first: Option<(i64, String)>,
    /// Time of the last.
    pub last: i64,
}

impl Tallied for Group {
    fn add(&mut self, other: Self) {
        self.count.add(other.count);
        self.first = [self.first.take(), other.first].into_iter().flatten().min();
        self.last = self.last.max(other.last);
    }
}

/// What is kept of a day.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct DayFold {
    /// By dataset and source.
    #[serde(with = "pairs")]
    pub sources: BTreeMap<SourceName, SourceDay>,
    /// By action class, in the order of [`ActionClass::ALL`].
    pub classes: Vec<Count>,
    /// By kind of privileged operation, in the order of `Kind::ALL`.
    pub kinds: Vec<Count>,
    /// By dataset, account, actor.
    pub actors: Names<Actor>,
    /// By dataset, key.
    pub keys: Names<Key>,
    /// By kind, dataset, account, actor, action, key, outcome.
    pub privileged: Names<Group>,
}

/// Maps with two texts as key, as lists.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{SourceDay, SourceName};

    pub fn serialize<S: Serializer>(map: &BTreeMap<SourceName, SourceDay>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<SourceName, SourceDay>, D::Error> {
        Ok(Vec::<(SourceName, SourceDay)>::deserialize(from)?.into_iter().collect())
    }
}

impl DayFold {
    /// Adds a later day.
    pub fn add(&mut self, other: Self) {
        for (name, day) in other.sources {
            self.sources.entry(name).or_default().add_later(day);
        }
        add_all(&mut self.classes, other.classes);
        add_all(&mut self.kinds, other.kinds);
        self.actors.merge(other.actors);
        self.keys.merge(other.keys);
        self.privileged.merge(other.privileged);
    }

    /// Events.
    pub fn events(&self) -> u64 {
        self.sources.values().map(|s| s.events).sum()
    }

    /// Events of a dataset.
    pub fn events_of(&self, dataset: &str) -> u64 {
        self.sources.iter().filter(|((of, _), _)| of == dataset).map(|(_, s)| s.events).sum()
    }

    /// All operations.
    pub fn operations(&self) -> Count {
        sum(self.sources.values().map(|s| s.count))
    }

    /// Key operations.
    pub fn key_operations(&self) -> Count {
        sum(self.classes.iter().copied())
    }

    /// Privileged operations.
    pub fn privileged_operations(&self) -> Count {
        sum(self.kinds.iter().copied())
    }
}

impl SourceDay {
    fn add_later(&mut self, other: Self) {
        self.events += other.events;
        self.undeclared += other.undeclared;
        self.count.add(other.count);
        self.times = around(self.times, other.times);
        self.heard = match (self.heard, other.heard) {
            (Some((first, last, longest)), Some((next, end, its))) => {
                Some((first, end, longest.max(its).max(next - last)))
            }
            (mine, its) => mine.or(its),
        };
    }

    /// The longest time without an event between two moments that are around all of them, in seconds.
    pub fn longest_silence(&self, from_second: i64, to_second: i64) -> u64 {
        let longest = match self.heard {
            None => to_second - from_second,
            Some((first, last, longest)) => longest.max(first - from_second).max(to_second - last),
        };
        u64::try_from(longest).unwrap_or_default()
    }
}

/// The sum of counts.
pub fn sum(counts: impl Iterator<Item = Count>) -> Count {
    counts.fold(Count::default(), |mut all, count| {
        all.add(count);
        all
    })
}

fn add_all(all: &mut Vec<Count>, others: Vec<Count>) {
    all.resize(all.len().max(others.len()), Count::default());
    all.iter_mut().zip(others).for_each(|(mine, its)| mine.add(its));
}

fn around(a: Option<(i64, i64)>, b: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (a, b) {
        (Some((first, last)), Some((its_first, its_last))) => {
            Some((first.min(its_first), last.max(its_last)))
        }
        (a, b) => a.or(b),
    }
}

/// A bit for each second of a day.
type Seconds = Box<[u64]>;

/// A day in the making.
pub struct Folding {
    /// Seconds of the day's start since 1970; `None` of events without a usable time.
    start: Option<i64>,
    sources: BTreeMap<SourceName, (SourceDay, Seconds)>,
    classes: Vec<Count>,
    kinds: Vec<Count>,
    actors: Gathering<Actor>,
    keys: Gathering<Key>,
    privileged: Gathering<Group>,
}

impl Folding {
    /// Of a day since 1970-01-01; `None` of events without a usable time.
    pub fn new(day: Option<i64>) -> Self {
        Self {
            start: day.map(|day| day * DAY_SECONDS),
            sources: BTreeMap::new(),
            classes: vec![Count::default(); ActionClass::ALL.len()],
            kinds: vec![Count::default(); Kind::ALL.len()],
            actors: Gathering::new(),
            keys: Gathering::new(),
            privileged: Gathering::new(),
        }
    }

    /// Adds a row of a dataset.
    pub fn add(&mut self, dataset: &str, row: &Fields<'_>) {
        let operation = row.is_operation();
        let failed = row.outcome == Some("failure");
        self.add_to_source(dataset, row, operation, failed);
        let (Some(time), true) = (row.time.filter(|_| self.start.is_some()), operation) else { return };
        let actor = row.actor();
        if let Some(known) = self.actors.of(&[Some(dataset), row.account, actor]) {
            known.all.one(failed);
            if row.class.is_some() {
                known.keys.one(failed);
                known.last = known.last.max(Some(time));
            }
        }
        let key = row.key(dataset);
        if let Some(class) = row.class {
            if let Some(count) = self.classes.get_mut(class as usize) {
                count.one(failed);
            }
            if let Some(key) = key.as_deref()
                && let Some(known) = self.keys.of(&[Some(dataset), Some(key)])
            {
                known.one(row, class, time, failed);
            }
        }
        if let Some(kind) = row.privileged(dataset) {
            if let Some(count) = self.kinds.get_mut(kind.index()) {
                count.one(failed);
            }
            let group = [
                Some(kind.name()),
                Some(dataset),
                row.account,
                actor,
                Some(row.action.unwrap_or_default()),
                key.as_deref(),
                row.outcome,
            ];
            if let Some(known) = self.privileged.of(&group) {
                known.count.one(failed);
                known.last = if known.first.is_none() { time } else { known.last.max(time) };
                if known.first.as_ref().is_none_or(|(first, _)| time <= *first) {
                    let first = (time, row.uid.to_string());
                    known.first = known.first.take().into_iter().chain([first]).min();
                }
            }
        }
    }

    fn add_to_source(&mut self, dataset: &str, row: &Fields<'_>, operation: bool, failed: bool) {
        // Sources are declared names and formats: few.
        let name = (dataset.to_owned(), row.source.unwrap_or_default().to_owned());
        let (source, seconds) = self.sources.entry(name).or_insert_with(|| {
            (SourceDay::default(), vec![0; (DAY_SECONDS as usize).div_ceil(64)].into_boxed_slice())
        });
        source.events += 1;
        source.undeclared += u64::from(row.undeclared);
        let (Some(start), Some(time)) = (self.start, row.time) else { return };
        if operation {
            source.count.one(failed);
        }
        source.times = around(source.times, Some((time, time)));
        if let Ok(second) = usize::try_from(time.div_euclid(1_000_000) - start)
            && let Some(bits) = seconds.get_mut(second / 64)
        {
            *bits |= 1 << (second % 64);
        }
    }

    /// What is kept.
    pub fn finish(self) -> DayFold {
        let start = self.start.unwrap_or_default();
        let sources = self.sources.into_iter().map(|(name, (mut source, seconds))| {
            source.heard = heard(&seconds).map(|(first, last, gap)| (start + first, start + last, gap));
            (name, source)
        });
        DayFold {
            sources: sources.collect(),
            classes: self.classes,
            kinds: self.kinds,
            actors: self.actors.finish(),
            keys: self.keys.finish(),
            privileged: self.privileged.finish(),
        }
    }
}

impl Key {
    fn one(&mut self, row: &Fields<'_>, class: ActionClass, time: i64, failed: bool) {
        self.count.one(failed);
        self.times = around(self.times, Some((time, time)));
        for (said, text) in [
            (&mut self.alias, row.key_alias),
            (&mut self.algorithm, row.key_algorithm),
            (&mut self.state, row.key_state),
        ] {
            // The uid only where it decides.
            if let Some(text) = text.filter(|_| said.as_ref().is_none_or(|s| s.at <= time)) {
                let new = Said { at: time, uid: row.uid.to_string(), text: text.to_owned() };
                if said.as_ref().is_none_or(|s| *s < new) {
                    *said = Some(new);
                }
            }
        }
        if failed {
            return;
        }
        let newest = |known: &mut Option<i64>| *known = (*known).max(Some(time));
        match class {
            ActionClass::Create | ActionClass::Import => {
                self.created = Some(self.created.map_or(time, |known| known.min(time)));
            }
            ActionClass::Rotate => newest(&mut self.rotated),
            ActionClass::ScheduleDeletion => newest(&mut self.scheduled),
            ActionClass::CancelDeletion => newest(&mut self.cancelled),
            ActionClass::Destroy => newest(&mut self.destroyed),
            _ => {}
        }
    }
}

/// The first and last second with events, and the longest time between two of them.
fn heard(seconds: &[u64]) -> Option<(i64, i64, i64)> {
    let mut found: Option<(i64, i64, i64)> = None;
    for (word, bits) in (0..).zip(seconds) {
        let mut bits = *bits;
        while bits != 0 {
            let second = word * 64 + i64::from(bits.trailing_zeros());
            bits &= bits - 1;
            found = Some(found.map_or((second, second, 0), |(first, last, longest)| {
                (first, second, longest.max(second - last))
            }));
        }
    }
    found
}
