//! What the log says up to a checkpoint, as far as reports ask: the readable set, what was added by which
//! entry, what expired, and what was refused.

use std::collections::{BTreeMap, HashSet};

use keytrail_model::manifest::{DetailRef, ManifestKind};
use keytrail_model::{Day, Fatal, Manifest};
use keytrail_ports::BlobStore;

use super::week::Week;
use crate::readable::{Readable, SealedObject, sealed_detail};
use crate::tally::UNKNOWN;
use crate::{quarantine, seal};

/// What cannot be said of a quarantine entry that is not there.
const MISSING: &str = "missing";

/// New rows that an entry sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Added {
    /// The entry.
    pub leaf: u64,
    /// Their dataset.
    pub dataset: String,
    /// Their day, days since 1970-01-01; the others are of no week.
    pub day: i64,
    /// How many.
    pub rows: u64,
}

/// The log up to a checkpoint.
pub struct Sealed {
    /// Entries of the log.
    pub size: u64,
    /// Objects that are readable there.
    pub readable: Readable,
    /// The newest archived time, microseconds since 1970.
    pub as_of: Option<i64>,
    /// By ascending leaf index.
    pub added: Vec<Added>,
    /// The newest entry that added rows to a week.
    pub newest: BTreeMap<Week, u64>,
    /// Detail objects that list refused records, by the entry that names them.
    lists: Vec<(u64, DetailRef)>,
    days: BTreeMap<Day, Vec<SealedObject>>,
}

/// Refused records by source, code and the entry that named them.
pub type Refused = BTreeMap<(String, String, u64), u64>;

impl Sealed {
    /// Reads the first `size` entries.
    pub fn load(store: &dyn BlobStore, size: u64) -> Result<Self, Fatal> {
        let mut readable = Readable::with_history();
        let (mut as_of, mut added, mut lists) = (None, Vec::new(), Vec::new());
        seal::read_entries(store, size, 0, size, &mut |leaf, bytes| {
            let manifest = Manifest::parse(bytes)
                .map_err(|e| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {e}")))?;
            as_of = as_of.max(Some(manifest.archived));
            if !manifest.kind.retires() {
                lists.push((leaf, manifest.detail.clone()));
            }
            if let (ManifestKind::Add, Some(rows)) = (manifest.kind, &manifest.rows)
                && let Some(Day::Dated(day)) = Day::parse(&rows.day)
            {
                added.push(Added { leaf, dataset: rows.dataset.clone(), day, rows: rows.count });
            }
            readable.add(leaf, manifest)
        })?;
        let newest = added.iter().map(|added: &Added| (Week::of_day(added.day), added.leaf)).collect();
        let mut days: BTreeMap<Day, Vec<SealedObject>> = BTreeMap::new();
        for (partition, objects) in &readable.partitions {
            days.entry(partition.day).or_default().extend(objects.iter().cloned());
        }
        Ok(Self { size, readable, as_of, added, newest, lists, days })
    }

    /// Reads what is listed of refused records.
    pub fn refused(&self, store: &dyn BlobStore) -> Result<Refused, Fatal> {
        let mut refused = Refused::new();
        let mut seen = HashSet::new();
        for (leaf, list) in &self.lists {
            for entry in sealed_detail(store, list)?.quarantine {
                if seen.insert(entry.sha256) {
                    let (source, code) = match quarantine::header(store, &entry.key) {
                        Ok(header) => (header.source, header.code),
                        // `verify` names it.
                        Err(_) => (UNKNOWN.to_owned(), MISSING.to_owned()),
                    };
                    *refused.entry((source, code, *leaf)).or_default() += 1;
                }
            }
        }
        Ok(refused)
    }

    /// The objects of a day, dataset after dataset.
    pub fn of_day(&self, day: Day) -> &[SealedObject] {
        self.days.get(&day).map_or(&[], Vec::as_slice)
    }

    /// Weeks that have events, ascending.
    pub fn weeks(&self) -> Vec<Week> {
        let mut weeks: Vec<Week> = self
            .days
            .keys()
            .filter_map(|day| match day {
                Day::Dated(day) => Some(Week::of_day(*day)),
                Day::Undated => None,
            })
            .collect();
        weeks.dedup();
        weeks
    }

    /// Objects of a week that retention took: each with the entry that retired it.
    pub fn expired(&self, week: Week) -> impl Iterator<Item = (&SealedObject, u64)> {
        let in_week =
            move |day: &str| matches!(Day::parse(day), Some(Day::Dated(d)) if Week::of_day(d) == week);
        self.readable
            .history()
            .values()
            .filter(move |r| r.kind == ManifestKind::Expire && in_week(&r.object.rows.day))
            .map(|r| (&r.object, r.by))
    }
}
