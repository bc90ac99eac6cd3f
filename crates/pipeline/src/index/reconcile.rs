//! Whether the index holds what the archive holds.
//!
//! What it is: a comparison of both, for each index and hour of the events' own time, by number and by a digest that no
//! order changes; where they differ, event by event; and the repair of the index from the archive. What it is not: a
//! proof of what documents say beside their event's hash. In: the readable set, a server. Out: [`Reconciled`].
//!
//! Both may go on meanwhile: an hour that differs is looked at again, the index before the archive.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_archive::{Projection, Selection};
use keytrail_index::{IndexName, Op};
use keytrail_model::{Column, Day, Fatal, Hash, Timestamp, Uid};
use keytrail_ports::{IndexBody, Method, Reply};
use serde_json::{Value, json};

use super::cursor::Cursor;
use super::documents::{self, Document};
use super::flow::{Indexer, Ready};
use super::hour::{DAY, HOUR, Hour, in_hour, of_hour, times};
use super::plan::{self, Pending, Rows};
use super::sender::Wait;
use super::setup::{self, ask, indices, refusal};
use super::{Indexed, Indexing};
use crate::input::STOPPED;
use crate::objects;
use crate::readable::SealedObject;

/// Events of a difference that are named, of each kind.
const NAMED: usize = 10;

/// Ids in one request.
const MOST_IDS: usize = 1_000;

/// What was found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reconciled {
    /// Events of the archive that the index should hold.
    pub events: u64,
    /// Documents of the index.
    pub documents: u64,
    /// Hours compared.
    pub hours: u64,
    /// Events that the index should not hold, as configuration says.
    pub not_indexed: u64,
    /// Events that are older than what the index keeps.
    pub expired: u64,
    /// Events that are not there and are known not to be indexed yet.
    pub pending: u64,
    /// Events that are not there and are dead letters.
    pub dead_letters: u64,
    /// Where both differ.
    pub differences: Vec<Difference>,
}

/// An hour in which index and archive differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The index.
    pub index: IndexName,
    /// When.
    pub hour: Hour,
    /// Events of the archive that are not in the index; the first of them.
    pub missing: (u64, Vec<String>),
    /// Documents with another event hash than the event of the same uid.
    pub changed: (u64, Vec<String>),
    /// Documents of no event that should be there.
    pub foreign: (u64, Vec<String>),
    /// The index was repaired, and both are the same now.
    pub repaired: bool,
}

/// Number and digest of events, which no order changes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    count: u64,
    sum: u128,
}

impl Tally {
    fn add(&mut self, id: &str, hash: Option<Hash>) {
        let mut bytes = id.as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(hash.into_iter().flat_map(|hash| hash.0));
        let digest = Hash::of(&bytes).0;
        let number = digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte));
        self.count += 1;
        self.sum = self.sum.wrapping_add(number);
    }
}

/// Events of the archive in one hour: hash, and whether they are known not to be indexed yet.
type Events = BTreeMap<Uid, (Hash, bool)>;

/// An index as a whole.
struct Compared {
    hours: u64,
    differing: Vec<Hour>,
    events: u64,
    documents: u64,
    not_indexed: u64,
}

/// What of an hour differs.
#[derive(Default)]
struct Found {
    missing: BTreeSet<Uid>,
    changed: BTreeSet<Uid>,
    foreign: Vec<String>,
    pending: u64,
    dead_letters: u64,
}

impl Found {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.foreign.is_empty()
    }
}

impl Indexer {
    /// Compares the index with the archive, and repairs it where they differ, if asked to.
    ///
    /// # Errors
    /// `Retryable.Index*`: the server does not answer, or takes nothing. `Fatal.IndexDenied`, `Fatal.IndexServer`.
    pub fn reconcile(
        &mut self,
        with: &Indexing<'_>,
        repair: bool,
        stop: &AtomicBool,
    ) -> Result<Reconciled, Fatal> {
        let ready = match repair {
            true => self.prepare(with, stop)?,
            false => Ready { server: setup::identify(with.index)?, policy: None },
        };
        let mut comparison = Comparison { with, ready, indexer: self, stop, done: 0, of: 0 };
        comparison.all(repair)
    }
}

struct Comparison<'a> {
    with: &'a Indexing<'a>,
    ready: Ready,
    indexer: &'a mut Indexer,
    stop: &'a AtomicBool,
    done: u64,
    of: u64,
}

impl Comparison<'_> {
    fn all(&mut self, repair: bool) -> Result<Reconciled, Fatal> {
        let mut reconciled = Reconciled::default();
        self.read_log()?;
        self.of = self.indexer.readable().objects().map(|object| object.rows.count).sum();
        let there: BTreeSet<IndexName> = indices(self.with.index, self.with.settings)?
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !name.is_of_dead_letters())
            .collect();
        let wanted = self.indexer.readable().objects().filter_map(|object| self.index_of(object));
        let names: BTreeSet<IndexName> = wanted.chain(there.iter().cloned()).collect();
        reconciled.expired = self.expired();
        for name in names {
            let is_there = there.contains(&name);
            let Compared { hours, differing, events, documents, not_indexed } =
                self.again(|this| this.differing(&name, is_there))?;
            reconciled.hours += hours;
            reconciled.events += events;
            reconciled.documents += documents;
            reconciled.not_indexed += not_indexed;
            self.done += events + not_indexed;
            self.with.told.at(self.done, self.of);
            for hour in differing {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(Fatal::new(STOPPED, "asked to stop"));
                }
                let found = self.again(|this| this.compare(&name, hour))?;
                reconciled.pending += found.pending;
                reconciled.dead_letters += found.dead_letters;
                if !found.is_empty() {
                    reconciled.differences.push(self.difference(&name, hour, found, repair)?);
                }
            }
        }
        Ok(reconciled)
    }

    fn read_log(&mut self) -> Result<(), Fatal> {
        let size = (self.with.size)()?;
        self.indexer.extend(self.with.store, size)
    }

    /// The index of an object's rows; `None` where they are older than what it keeps.
    fn index_of(&self, object: &SealedObject) -> Option<IndexName> {
        let day = Day::parse(&object.rows.day).unwrap_or(Day::Undated);
        let settings = self.with.settings;
        (!settings.is_expired(day, self.with.now)).then(|| settings.index_of(&object.rows.dataset, day))
    }

    /// Objects with rows of an index.
    fn objects(&self, name: &IndexName) -> Vec<SealedObject> {
        let of = |object: &&SealedObject| self.index_of(object).as_ref() == Some(name);
        self.indexer.readable().objects().filter(of).cloned().collect()
    }

    /// The hour of an index that a time lies in; `None` where it is older than what the index keeps.
    fn hour_of(&self, name: &IndexName, time: Option<Timestamp>) -> Option<Hour> {
        let (Some((_, days)), Some(Timestamp(time))) = (name.time(), time) else { return Some(Hour::None) };
        let day = time.div_euclid(DAY);
        if !days.contains(&day) {
            return Some(Hour::None);
        }
        (!self.with.settings.is_expired(Day::Dated(day), self.with.now))
            .then(|| Hour::Of(time.div_euclid(HOUR)))
    }

    /// Rows that are older than what the index keeps.
    fn expired(&self) -> u64 {
        let objects = self.indexer.readable().objects();
        objects.filter(|object| self.index_of(object).is_none()).map(|object| object.rows.count).sum()
    }

    /// Reads once more, where the archive was written anew meanwhile, or the server did not answer.
    fn again<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Fatal>) -> Result<T, Fatal> {
        let mut wait = Wait::new(self.with.settings.patience);
        loop {
            let before = self.indexer.readable().size;
            match read(self) {
                Err(e) if e.code == "Fatal.ObjectMissing" => {
                    self.read_log()?;
                    if self.indexer.readable().size == before {
                        return Err(e);
                    }
                }
                Err(e) if e.code == "Retryable.IndexFailed" && wait.wait(None, self.stop) => {}
                read => return read,
            }
        }
    }

    /// The hours of an index whose numbers or digests differ.
    fn differing(&mut self, name: &IndexName, is_there: bool) -> Result<Compared, Fatal> {
        let mut there: BTreeMap<Hour, Tally> = BTreeMap::new();
        if is_there {
            self.refresh(name)?;
            let kind = self.ready.server.kind;
            documents::each(self.with.index, kind, name, json!({"match_all": {}}), &mut |document| {
                if let Some(hour) = self.hour_of(name, document.time) {
                    there.entry(hour).or_default().add(&document.id, document.hash);
                }
            })?;
        }
        let mut archived: BTreeMap<Hour, Tally> = BTreeMap::new();
        let mut not_indexed = 0;
        self.archived(name, None, &mut |event| match event {
            Archived::NotIndexed => not_indexed += 1,
            Archived::Event { uid, hash, hour, .. } => {
                archived.entry(hour).or_default().add(&uid.to_string(), Some(hash));
            }
        })?;
        let sum = |tallies: &BTreeMap<Hour, Tally>| tallies.values().map(|tally| tally.count).sum();
        let hours: BTreeSet<Hour> = there.keys().chain(archived.keys()).copied().collect();
        Ok(Compared {
            hours: hours.len() as u64,
            events: sum(&archived),
            documents: sum(&there),
            not_indexed,
            differing: hours.into_iter().filter(|hour| there.get(hour) != archived.get(hour)).collect(),
        })
    }

    /// What of an hour differs, in words, and repaired if that is wanted.
    fn difference(
        &mut self,
        name: &IndexName,
        hour: Hour,
        found: Found,
        repair: bool,
    ) -> Result<Difference, Fatal> {
        fn some<T: ToString>(all: impl ExactSizeIterator<Item = T>) -> (u64, Vec<String>) {
            (all.len() as u64, all.take(NAMED).map(|one| one.to_string()).collect())
        }
        let mut difference = Difference {
            index: name.clone(),
            hour,
            missing: some(found.missing.iter()),
            changed: some(found.changed.iter()),
            foreign: some(found.foreign.iter()),
            repaired: false,
        };
        if repair {
            self.repair(name, hour, found)?;
            difference.repaired = self.again(|this| this.compare(name, hour))?.is_empty();
        }
        Ok(difference)
    }

    /// What of an hour differs, event by event.
    fn compare(&mut self, name: &IndexName, hour: Hour) -> Result<Found, Fatal> {
        // In this order: whatever is behind the cursor is in the index, whatever is in the index is in the archive.
        let server = &self.ready.server.cluster;
        let namespace = self.with.settings.namespace.as_str();
        let next = Cursor::read(self.with.store, self.with.masker, server, namespace)?.next;
        let mut documents: Vec<Document> = Vec::new();
        if indices(self.with.index, self.with.settings)?.iter().any(|(there, _)| there == name) {
            self.refresh(name)?;
            let query = of_hour(name, hour);
            documents::each(self.with.index, self.ready.server.kind, name, query, &mut |document| {
                if self.hour_of(name, document.time) == Some(hour) {
                    documents.push(document);
                }
            })?;
        }
        self.read_log()?;
        let pending: BTreeSet<u64> =
            plan::pending(self.indexer.readable(), next).iter().map(|pending| pending.object.leaf).collect();
        let mut events = Events::new();
        self.archived(name, Some(hour), &mut |event| {
            if let Archived::Event { uid, hash, hour: its, leaf } = event
                && its == hour
            {
                events.insert(uid, (hash, pending.contains(&leaf)));
            }
        })?;
        let mut found = Found::default();
        for Document { id, hash, .. } in documents {
            match Uid::from_hex(&id).and_then(|uid| Some((uid, events.remove(&uid)?))) {
                Some((_, (ours, _))) if Some(ours) == hash => {}
                Some((uid, _)) => drop(found.changed.insert(uid)),
                None => found.foreign.push(id),
            }
        }
        found.pending = events.values().filter(|(_, pending)| *pending).count() as u64;
        found.missing = events.into_iter().filter(|(_, (_, pending))| !pending).map(|(uid, _)| uid).collect();
        found.dead_letters = self.without_dead_letters(&mut found.missing)?;
        found.foreign.sort();
        Ok(found)
    }

    /// Takes those away that are dead letters; gives their number.
    fn without_dead_letters(&self, missing: &mut BTreeSet<Uid>) -> Result<u64, Fatal> {
        let all: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let namespace = self.with.settings.namespace.as_str();
        let path = format!("keytrail-deadletter-{namespace}-*/_search?filter_path=hits.hits._id");
        let before = missing.len();
        for ids in all.chunks(MOST_IDS) {
            let body = json!({"size": ids.len(), "_source": false, "query": {"ids": {"values": ids}}});
            let said = self.asked(&path, IndexBody::Json(body.to_string().as_bytes()))?;
            for hit in said["hits"]["hits"].as_array().into_iter().flatten() {
                if let Some(uid) = hit["_id"].as_str().and_then(Uid::from_hex) {
                    missing.remove(&uid);
                }
            }
        }
        Ok((before - missing.len()) as u64)
    }

    /// Writes what is missing or changed, deletes what is of no event.
    fn repair(&mut self, name: &IndexName, hour: Hour, found: Found) -> Result<(), Fatal> {
        let wanted: BTreeSet<Uid> = found.missing.into_iter().chain(found.changed).collect();
        if !wanted.is_empty() {
            let wanted = Rc::new(wanted);
            let (from, to) = times(hour);
            let with = self.with;
            let of = |object: &SealedObject| {
                let day = Day::parse(&object.rows.day).unwrap_or(Day::Undated);
                with.settings.index_of(&object.rows.dataset, day) == *name && in_hour(object, hour)
            };
            let indexed: Indexed = self.indexer.write(with, &self.ready, self.stop, |readable| {
                let objects = readable.objects().filter(|object| of(object));
                let rows = Rows::Of(Rc::clone(&wanted), from, to);
                objects.map(|o| Pending { object: o.clone(), op: Op::Index, rows: rows.clone() }).collect()
            })?;
            if let Some((code, why)) = indexed.parked {
                return Err(Fatal::new(code, why));
            }
        }
        for ids in found.foreign.chunks(MOST_IDS) {
            let lines =
                ids.iter().map(|id| format!("{}\n", json!({"delete": {"_index": name.as_str(), "_id": id}})));
            let body: String = lines.collect();
            let request = IndexBody::Lines(body.as_bytes());
            let Reply { status, body, .. } = ask(self.with.index, Method::Post, "_bulk", request)?;
            if status != 200 {
                let said = refusal(status, &body);
                return Err(Fatal::new("Fatal.IndexServer", format!("documents are not deleted: {said}")));
            }
        }
        Ok(())
    }

    /// Hands over the archived events of an index, in one hour or all.
    fn archived(
        &mut self,
        name: &IndexName,
        hour: Option<Hour>,
        each: &mut dyn FnMut(Archived),
    ) -> Result<(), Fatal> {
        let mut columns = vec![Column::EventHash, Column::Timestamp];
        let filter = &self.with.settings.filter;
        if !filter.takes_all() {
            columns.extend([Column::KeytrailActionClass, Column::EventOutcome]);
        }
        let projection = Projection::Columns(columns);
        let mut objects = self.objects(name);
        objects.retain(|object| hour.is_none_or(|hour| in_hour(object, hour)));
        for object in objects {
            let selection = match hour {
                Some(hour @ Hour::Of(_)) => {
                    let (from, to) = times(hour);
                    Selection::Time { from, to }
                }
                Some(Hour::None) | None => Selection::All,
            };
            let reader = objects::open(self.with.store, &object.object.key)?;
            for batch in reader.batches(&projection, selection) {
                let batch = batch.map_err(|e| objects::at(&object.object.key, e))?;
                for row in batch.rows() {
                    let Some(hour) = self.hour_of(name, row.time) else { continue };
                    each(match filter.takes(&object.rows.dataset, row.columns) {
                        true => Archived::Event {
                            uid: row.uid,
                            hash: row.hash.unwrap_or_default(),
                            hour,
                            leaf: object.leaf,
                        },
                        false => Archived::NotIndexed,
                    });
                }
            }
        }
        Ok(())
    }

    /// Makes all that was written findable.
    fn refresh(&self, name: &IndexName) -> Result<(), Fatal> {
        self.asked(&format!("{name}/_refresh"), IndexBody::Empty).map(drop)
    }

    fn asked(&self, path: &str, body: IndexBody<'_>) -> Result<Value, Fatal> {
        let Reply { status, body, .. } = ask(self.with.index, Method::Post, path, body)?;
        match status {
            200 => Ok(serde_json::from_slice(&body).unwrap_or_default()),
            status => {
                let said = refusal(status, &body);
                Err(Fatal::new("Fatal.IndexServer", format!("the server refuses `{path}`: {said}")))
            }
        }
    }
}

/// A row of the archive.
enum Archived {
    /// Configuration leaves it out.
    NotIndexed,
    /// An event that the index should hold.
    Event { uid: Uid, hash: Hash, hour: Hour, leaf: u64 },
}
