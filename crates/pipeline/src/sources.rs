//! What was heard of each source, and what is missing: the account that `keytrail sources` shows and that
//! metrics and alarms are made of (ARCHITECTURE rule 7: absence is an event).
//!
//! What it is: a fold over the sealed log, footers of archive objects and headers of quarantine entries,
//! which goes on where it stopped. What it is not: it proves nothing (`verify` does) and reads no originals.
//! In: the readable set and the declared sources. Out: an [`Account`] for each declared source, and for each
//! other name that rows or refused records have.
//!
//! Duplicates are not in the archive: runs add them up in `state/duplicates`, since that file was made.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use keytrail_archive::{Projection, Rows, Selection, census};
use keytrail_model::row::text;
use keytrail_model::{Column, Counts, Fatal, Hash, Timestamp};
use keytrail_normalize::Format;
use keytrail_normalize::sequence::Position;
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use crate::config::DeclaredSource;
use crate::readable::{Readable, SealedObject, add_runs, sealed_detail};
use crate::sequence::{Gap, Sequences};
use crate::tally::format_of;
use crate::trail::Trail;
use crate::{conflicts, objects, quarantine};

mod heard;

pub use heard::heard;

/// What is known of a source.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// Its declared name, else the format of its undeclared records, else `unknown`.
    pub name: String,
    /// `event.dataset` of its rows; `None` where there is none and nothing is declared.
    pub dataset: Option<String>,
    /// Whether it is declared now.
    pub declared: bool,
    /// How long it may be silent.
    pub longest_silence: Option<Duration>,
    /// Archived events.
    pub events: u64,
    /// Time of its newest event.
    pub last_event: Option<Timestamp>,
    /// When an event of it was archived last.
    pub last_heard: Option<Timestamp>,
    /// Ranges of missing records.
    pub gaps: u64,
    /// Refused records in quarantine, byte-identical ones once.
    pub rejected: u64,
    /// Records that were there already, as runs counted them.
    pub duplicates: u64,
}

impl Account {
    /// Microseconds that it may still be silent at `now`; below 0, it is overdue. `None` where silence is not
    /// limited, or nothing was ever heard.
    pub fn silence_left_micros(&self, now: Timestamp) -> Option<i64> {
        let longest = i64::try_from(self.longest_silence?.as_micros()).unwrap_or(i64::MAX);
        Some(longest.saturating_sub(now.0.saturating_sub(self.last_heard?.0)))
    }

    /// Whether it is silent for longer than it may be; one that was never heard is.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.longest_silence.is_some() && self.silence_left_micros(now).is_none_or(|left| left < 0)
    }
}

/// What takes reading more than footers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Measures {
    /// Events in the 24 hours up to the source's newest event.
    pub last_day: u64,
    /// Events of one producer key that differ.
    pub conflicts: u64,
}

/// All accounts, as far as the log has been read.
#[derive(Default, Debug)]
pub struct Accounts {
    /// By SHA-256 of the object: rows by source.
    objects: HashMap<Hash, BTreeMap<String, Rows>>,
    details: HashSet<String>,
    sequences: Sequences,
    refused: HashMap<String, String>,
    /// Sources of numbered records, by what their numbers run within.
    streams: HashMap<(Format, String), String>,
    duplicates: BTreeMap<String, u64>,
    since: Option<Timestamp>,
}

/// The accounts at one moment: [`Accounts::read`] once.
pub fn account(
    store: &dyn BlobStore,
    readable: &Readable,
    declared: &[Arc<DeclaredSource>],
) -> Result<(Vec<Account>, Accounts), Fatal> {
    let mut accounts = Accounts::default();
    let list = accounts.read(store, readable, declared)?;
    Ok((list, accounts))
}

impl Accounts {
    /// Reads what is new since the last call: objects, detail objects, quarantine entries. Declared sources
    /// come first, in their order, the others by name.
    pub fn read(
        &mut self,
        store: &dyn BlobStore,
        readable: &Readable,
        declared: &[Arc<DeclaredSource>],
    ) -> Result<Vec<Account>, Fatal> {
        self.read_objects(store, readable)?;
        for (key, sealed) in &readable.details {
            if !self.details.contains(key) {
                add_runs(&mut self.sequences, &sealed_detail(store, sealed)?.runs);
                self.details.insert(key.clone());
            }
        }
        for key in store.list("quarantine/")? {
            if let Entry::Vacant(new) = self.refused.entry(key) {
                // What cannot be read was put there by others; verify names it.
                let Ok(header) = quarantine::header(store, new.key()) else { continue };
                new.insert(header.source);
            }
        }
        let counted = Duplicates::load(store)?;
        (self.duplicates, self.since) = (counted.duplicates, counted.since.map(Timestamp));
        let mut all = self.heard_by_name(readable, declared);
        self.add_missing(store, readable, &mut all)?;
        Ok(listed(all, declared))
    }

    fn read_objects(&mut self, store: &dyn BlobStore, readable: &Readable) -> Result<(), Fatal> {
        // An object that was replaced counts no more.
        let mut before = std::mem::take(&mut self.objects);
        for object in readable.objects() {
            let sha256 = object.object.sha256;
            let rows = match before.remove(&sha256) {
                Some(rows) => rows,
                None => {
                    let key = &object.object.key;
                    census(&objects::open(store, key)?).map_err(|e| objects::at(key, e))?
                }
            };
            self.objects.insert(sha256, rows);
        }
        Ok(())
    }

    /// Since when duplicates are counted.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Who was heard, and who is declared.
    fn heard_by_name(
        &self,
        readable: &Readable,
        declared: &[Arc<DeclaredSource>],
    ) -> BTreeMap<String, Account> {
        let mut all: BTreeMap<String, Account> = BTreeMap::new();
        for object in readable.objects() {
            for (source, rows) in self.objects.get(&object.object.sha256).into_iter().flatten() {
                let account = all.entry(source.clone()).or_default();
                account.dataset = Some(object.rows.dataset.clone());
                account.events = account.events.saturating_add(rows.count);
                account.last_event = account.last_event.max(rows.newest);
                account.last_heard = account.last_heard.max(rows.heard);
            }
        }
        for source in declared {
            let account = all.entry(source.name.clone()).or_default();
            account.declared = true;
            account.dataset = Some(source.format.dataset().to_owned());
            account.longest_silence = source.longest_silence;
        }
        all
    }

    /// What was refused, what came twice, and what did not come.
    fn add_missing(
        &mut self,
        store: &dyn BlobStore,
        readable: &Readable,
        all: &mut BTreeMap<String, Account>,
    ) -> Result<(), Fatal> {
        for source in self.refused.values() {
            all.entry(source.clone()).or_default().rejected += 1;
        }
        for (source, count) in &self.duplicates {
            all.entry(source.clone()).or_default().duplicates = *count;
        }
        let gaps: Vec<Gap> = self.sequences.gaps().collect();
        self.find_streams(store, readable, &gaps)?;
        for gap in gaps {
            let source =
                self.streams.get(&(gap.format, gap.source)).map_or(gap.format.name(), String::as_str);
            all.entry(source.to_owned()).or_default().gaps += 1;
        }
        Ok(())
    }

    /// Which source it is of whose numbers some are missing: its newest rows say it.
    fn find_streams(
        &mut self,
        store: &dyn BlobStore,
        readable: &Readable,
        gaps: &[Gap],
    ) -> Result<(), Fatal> {
        let mut columns = Position::COLUMNS.to_vec();
        columns.push(Column::KeytrailSource);
        let projection = Projection::Columns(columns);
        let is_open =
            |streams: &HashMap<_, _>, gap: &Gap| !streams.contains_key(&(gap.format, gap.source.clone()));
        let mut open: HashSet<(Format, String)> =
            gaps.iter().filter(|g| is_open(&self.streams, g)).map(|g| (g.format, g.source.clone())).collect();
        let mut newest_first: Vec<&SealedObject> = readable.objects().collect();
        newest_first.sort_by_key(|o| std::cmp::Reverse(o.leaf));
        for object in newest_first {
            let Some(format) = format_of(&object.rows.dataset) else { continue };
            if !open.iter().any(|(of, _)| *of == format) {
                continue;
            }
            let key = &object.object.key;
            for batch in objects::open(store, key)?.batches(&projection, Selection::All) {
                for row in batch.map_err(|e| objects::at(key, e))?.rows() {
                    let Some(position) = Position::of_row(format, row.columns) else { continue };
                    let stream = (position.format, position.source.into_owned());
                    if open.remove(&stream) {
                        let source = text(row.columns, Column::KeytrailSource).unwrap_or_default();
                        self.streams.insert(stream, source.to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    /// What columns tell of the accounts, by name: the rate from those of the last day of each source, conflicts
    /// from those of the whole archive.
    pub fn measure(
        &self,
        store: &dyn BlobStore,
        readable: &Readable,
        accounts: &[Account],
    ) -> Result<BTreeMap<String, Measures>, Fatal> {
        let mut measures: BTreeMap<String, Measures> = BTreeMap::new();
        let newest: HashMap<&str, i64> =
            accounts.iter().filter_map(|a| Some((a.name.as_str(), a.last_event?.0))).collect();
        let projection = Projection::Columns(vec![Column::KeytrailSource, Column::Timestamp]);
        for object in readable.objects() {
            let sources = self.objects.get(&object.object.sha256);
            let ends = sources.into_iter().flatten().filter_map(|(name, _)| newest.get(name.as_str()));
            let from = ends.min().map(|end| end.saturating_sub(DAY_MICROS));
            let Some(from) = from.filter(|from| object.rows.time_max.is_some_and(|max| max > *from)) else {
                continue;
            };
            let key = &object.object.key;
            let selection = Selection::Time { from: Timestamp(from), to: Timestamp(i64::MAX) };
            for batch in objects::open(store, key)?.batches(&projection, selection) {
                for row in batch.map_err(|e| objects::at(key, e))?.rows() {
                    let name = text(row.columns, Column::KeytrailSource).unwrap_or_default();
                    if let (Some(end), Some(time)) = (newest.get(name), row.time)
                        && time.0 > end.saturating_sub(DAY_MICROS)
                    {
                        match measures.get_mut(name) {
                            Some(measured) => measured.last_day += 1,
                            None => {
                                measures.insert(name.to_owned(), Measures { last_day: 1, conflicts: 0 });
                            }
                        }
                    }
                }
            }
        }
        conflicts::find(store, readable, &|_| true, &mut |conflict| {
            let source = conflict.events.first().and_then(|(_, e)| e.text(Column::KeytrailSource));
            if let Some(source) = source.filter(|_| conflict.differs) {
                measures.entry(source.to_owned()).or_default().conflicts += 1;
            }
            Ok(())
        })?;
        Ok(measures)
    }
}

/// The accounts, declared ones first.
fn listed(mut all: BTreeMap<String, Account>, declared: &[Arc<DeclaredSource>]) -> Vec<Account> {
    for (name, account) in &mut all {
        account.name = name.clone();
        if account.dataset.is_none() {
            account.dataset = Format::by_name(name).map(|f| f.dataset().to_owned());
        }
    }
    let mut list: Vec<Account> = declared.iter().filter_map(|source| all.remove(&source.name)).collect();
    list.extend(all.into_values());
    list
}

const DAY_MICROS: i64 = 86_400_000_000;

/// Where runs add up duplicates; it can be deleted, and counting begins anew.
const DUPLICATES: &str = "state/duplicates";

/// The file.
#[derive(Default, Serialize, Deserialize)]
struct Duplicates {
    /// By source.
    duplicates: BTreeMap<String, u64>,
    /// When it was made, microseconds since 1970.
    since: Option<i64>,
}

impl Duplicates {
    /// What is counted; nothing where the file is missing or broken: it is state.
    fn load(store: &dyn BlobStore) -> Result<Self, Fatal> {
        Ok(store.get(DUPLICATES)?.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default())
    }
}

/// Duplicates by source, and since when runs have counted them.
pub(crate) fn counted_duplicates(
    store: &dyn BlobStore,
) -> Result<(BTreeMap<String, u64>, Option<Timestamp>), Fatal> {
    let counted = Duplicates::load(store)?;
    Ok((counted.duplicates, counted.since.map(Timestamp)))
}

/// Adds the duplicates of a run.
pub(crate) fn remember(trail: &Trail<'_>, counts: &BTreeMap<String, Counts>) -> Result<(), Fatal> {
    let mut all = Duplicates::load(trail.store)?;
    if all.since.is_some() && counts.values().all(|c| c.duplicates == 0) {
        return Ok(());
    }
    all.since = all.since.or(Some(trail.clock.now().0));
    for (source, counts) in counts.iter().filter(|(_, c)| c.duplicates > 0) {
        let count = all.duplicates.entry(source.clone()).or_default();
        *count = count.saturating_add(counts.duplicates);
    }
    // A struct of strings and numbers always serialises.
    Ok(trail.store.replace(DUPLICATES, &serde_json::to_vec(&all).unwrap_or_default())?)
}
