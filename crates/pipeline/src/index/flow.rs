//! Objects to documents to a server: one thread reads, some send.
//!
//! What it is: the order of it, and how far all of it is done: the cursor moves over an entry of the log once each
//! row of it and of all before it has an outcome.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use keytrail_archive::Projection;
use keytrail_index::{Bulk, Event, Op, Writer};
use keytrail_model::{Column, Day, Fatal, Timestamp};
use keytrail_ports::BlobStore;

use super::ahead::Marks;
use super::cursor::{Cursor, backlog};
use super::plan::{self, Pending, Rows};
use super::sender::{Counts, Halt, Sender, Wait};
use super::setup::{self, Server};
use super::{Indexed, Indexing};
use crate::objects;
use crate::readable::snapshot::Kept;
use crate::readable::{Readable, SealedObject};
use crate::trail::Trail;

/// A body, and how far the log is in it and those before it.
struct Part {
    bulk: Bulk,
    next: u64,
    rows: u64,
}

/// Keeps an index up with a log: what it knows of both from one time to the next.
#[derive(Debug)]
pub struct Indexer {
    readable: Readable,
    /// What entries before this one retired is not known.
    begun: u64,
    /// The server, once its templates were looked at.
    ready: Option<Ready>,
}

/// A server that documents can be sent to.
#[derive(Clone, Debug)]
pub struct Ready {
    pub server: Server,
    /// The lifecycle policy of its indices.
    pub policy: Option<String>,
}

impl Default for Indexer {
    fn default() -> Self {
        Self { readable: Readable::with_history(), begun: 0, ready: None }
    }
}

impl Indexer {
    /// Begins at what is kept of the log, where all that the index has not came later: it needs to know what was replaced
    /// since. One that has begun goes on as it is.
    ///
    /// # Errors
    /// As [`Log::published`](crate::seal::Log::published).
    pub fn resume(&mut self, trail: &Trail<'_>, namespace: &str) -> Result<(), Fatal> {
        if self.readable.size > 0 {
            return Ok(());
        }
        let (kept, head) = (Kept::read(trail)?, trail.log().published()?);
        if let (Some(kept), Some(head)) = (kept, head)
            && kept.size <= head.size - backlog(trail, namespace, head.size)?
            && let Some(readable) = kept.readable(trail, &head)?
        {
            self.begun = readable.size;
            self.readable = readable.and_history();
        }
        Ok(())
    }

    /// Indexes what the log holds and the index has not, as far as the server takes it. A `stop` ends it between two
    /// requests.
    ///
    /// # Errors
    /// `Fatal.Index*`: the server does not let keytrail in, or holds other events under the same ids. What it does
    /// not take now is no error: [`Indexed::parked`]. `Config.IndexLayout`: indices that are there are cut otherwise.
    pub fn index(&mut self, with: &Indexing<'_>, stop: &AtomicBool) -> Result<Indexed, Fatal> {
        let namespace = with.settings.namespace.as_str();
        let ready = match self.prepare(with, stop) {
            Ok(ready) => ready,
            Err(fatal) => {
                let parked = unprepared(fatal)?;
                // How much is waiting is known with its cursor alone, which is that of a server.
                let Some(ready) = &self.ready else { return Ok(parked) };
                let cursor = Cursor::read(with.store, with.masker, &ready.server.cluster, namespace)?;
                self.readable.extend(with.store, (with.size)()?)?;
                let pending = plan::pending(&self.readable, cursor.next);
                let pending = pending.iter().map(|p| p.object.rows.count).sum();
                return Ok(Indexed { pending, cursor: cursor.next, ..parked });
            }
        };
        let mut cursor = Cursor::read(with.store, with.masker, &ready.server.cluster, namespace)?;
        // This server is behind those that are known.
        if cursor.next < self.begun {
            *self = Self { ready: self.ready.take(), ..Self::default() };
        }
        let marks = Marks::read(&cursor)?;
        let ahead = marks.objects();
        let plan = |readable: &Readable, cursor: &Cursor<'_>| {
            let mut pending = plan::pending(readable, cursor.next);
            pending.retain(|p| p.op != Op::Create || !ahead.contains(&p.object.object.sha256));
            pending
        };
        let indexed = self.send(with, &ready, stop, &mut cursor, plan)?;
        marks.forget(&self.readable, cursor.next, with.now)?;
        self.readable.forget_history(cursor.next);
        Ok(Indexed { cursor: cursor.next, ..indexed })
    }

    /// Indexes archive objects that are not sealed yet, and marks them for [`index`](Self::index) to skip.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub fn index_ahead(
        &mut self,
        with: &Indexing<'_>,
        objects: &[SealedObject],
        stop: &AtomicBool,
    ) -> Result<Indexed, Fatal> {
        let ready = match self.prepare(with, stop) {
            Ok(ready) => ready,
            Err(fatal) => return unprepared(fatal),
        };
        let all = |object: &SealedObject| Pending { object: object.clone(), op: Op::Create, rows: Rows::All };
        let indexed = self.write(with, &ready, stop, |_| objects.iter().map(all).collect())?;
        if indexed.pending == 0 {
            let namespace = with.settings.namespace.as_str();
            let cursor = Cursor::read(with.store, with.masker, &ready.server.cluster, namespace)?;
            let marks = Marks::read(&cursor)?;
            objects.iter().try_for_each(|object| marks.put(object.object.sha256, with.now))?;
        }
        Ok(indexed)
    }

    /// Indexes archived events between two times again, in place of what is there; without times all of them, those
    /// without a time, too. How far the index follows the log is left as it is.
    ///
    /// # Errors
    /// As [`index`](Self::index).
    pub fn reindex(
        &mut self,
        with: &Indexing<'_>,
        (from, to): (Option<Timestamp>, Option<Timestamp>),
        stop: &AtomicBool,
    ) -> Result<Indexed, Fatal> {
        let ready = match self.prepare(with, stop) {
            Ok(ready) => ready,
            Err(fatal) => return unprepared(fatal),
        };
        self.write(with, &ready, stop, |readable| plan::between(readable, from, to))
    }

    /// When the oldest of what is not indexed was archived, microseconds since 1970, as of the last call.
    pub fn oldest_waiting(&self, indexed: &Indexed) -> Option<i64> {
        let waits = self.readable.objects().filter(|object| object.leaf >= indexed.cursor);
        waits.map(|object| object.archived).min()
    }

    /// What is known of the archive.
    pub(super) fn readable(&self) -> &Readable {
        &self.readable
    }

    /// Reads the log on to so many entries.
    pub(super) fn extend(&mut self, store: &dyn BlobStore, size: u64) -> Result<(), Fatal> {
        self.readable.extend(store, size)
    }

    /// Sends the rows that `plan` says; how far the index follows the log is left as it is.
    pub(super) fn write(
        &mut self,
        with: &Indexing<'_>,
        ready: &Ready,
        stop: &AtomicBool,
        plan: impl Fn(&Readable) -> Vec<Pending>,
    ) -> Result<Indexed, Fatal> {
        self.send(with, ready, stop, &mut (), |readable, ()| plan(readable))
    }

    /// Sends what `plan` says, once more where the archive was written anew meanwhile.
    fn send<R: Reached>(
        &mut self,
        with: &Indexing<'_>,
        ready: &Ready,
        stop: &AtomicBool,
        reached: &mut R,
        plan: impl Fn(&Readable, &R) -> Vec<Pending>,
    ) -> Result<Indexed, Fatal> {
        let mut indexed = Indexed::default();
        let sender = Sender::new(with, ready, stop);
        let mut size = (with.size)()?;
        loop {
            self.readable.extend(with.store, size)?;
            let pending = plan(&self.readable, reached);
            indexed.pending = pending.iter().map(|p| p.object.rows.count).sum();
            (indexed.expired, indexed.not_indexed) = (0, 0);
            let halt = match deliver(with, &sender, &pending, size, reached, stop, &mut indexed) {
                Ok(()) => {
                    // Of some objects not all rows were wanted.
                    indexed.pending = 0;
                    break;
                }
                Err(halt) => halt,
            };
            match halt {
                Halt::Parked(deferral) => {
                    indexed.parked = Some((deferral.code(), deferral.reason().to_owned()));
                    break;
                }
                Halt::Stopped => break,
                Halt::Fatal(fatal) => {
                    // An object that is not there was replaced, where the log went on meanwhile.
                    let before = size;
                    size = (with.size)()?;
                    if fatal.code != "Fatal.ObjectMissing" || size == before {
                        return Err(fatal);
                    }
                }
            }
        }
        let Counts { created, replaced, duplicates, dead_letters } = sender.into_counts();
        Ok(Indexed { created, replaced, duplicates, dead_letters, ..indexed })
    }

    /// The server as it is now, with its templates, asked as long as it may take to come back.
    pub(super) fn prepare(&mut self, with: &Indexing<'_>, stop: &AtomicBool) -> Result<Ready, Fatal> {
        let mut wait = Wait::new(with.settings.patience);
        loop {
            match self.identify(with) {
                Err(fatal) if is_delay(&fatal) && wait.wait(None, stop) => {}
                ended => return ended,
            }
        }
    }

    fn identify(&mut self, with: &Indexing<'_>) -> Result<Ready, Fatal> {
        let server = setup::identify(with.index)?;
        if let Some(ready) = self.ready.as_ref().filter(|ready| ready.server == server) {
            return Ok(ready.clone());
        }
        setup::check_layouts(with.index, with.settings)?;
        let policy = setup::install(with.index, server.kind, with.settings, false)?.policy;
        Ok(self.ready.insert(Ready { server, policy }).clone())
    }
}

/// A server that does not answer costs delay alone; how much is waiting is known with its cursor, which is that of a
/// server.
fn unprepared(fatal: Fatal) -> Result<Indexed, Fatal> {
    match is_delay(&fatal) {
        true => Ok(Indexed { parked: Some((fatal.code, fatal.message)), ..Indexed::default() }),
        false => Err(fatal),
    }
}

fn is_delay(fatal: &Fatal) -> bool {
    fatal.code.starts_with("Retryable.Index")
}

/// Told that all entries of the log before one are done.
pub trait Reached {
    /// Before this one.
    fn advance(&mut self, next: u64) -> Result<(), Fatal>;
}

impl Reached for Cursor<'_> {
    fn advance(&mut self, next: u64) -> Result<(), Fatal> {
        Cursor::advance(self, next)
    }
}

/// Nobody wants to know.
impl Reached for () {
    fn advance(&mut self, _next: u64) -> Result<(), Fatal> {
        Ok(())
    }
}

/// Sends the rows of objects, in their order.
fn deliver(
    with: &Indexing<'_>,
    sender: &Sender<'_>,
    pending: &[Pending],
    size: u64,
    reached: &mut dyn Reached,
    stop: &AtomicBool,
    indexed: &mut Indexed,
) -> Result<(), Halt> {
    let of = indexed.pending;
    let halt: Mutex<Option<Halt>> = Mutex::new(None);
    let connections = with.settings.connections.max(1);
    let (parts, taken) = mpsc::sync_channel::<(u64, Part)>(1);
    let taken = Mutex::new(taken);
    let (done, outcomes) = mpsc::channel::<(u64, u64, u64)>();
    let halted = || halt.lock().unwrap_or_else(PoisonError::into_inner).is_some();
    let read = thread::scope(|scope| {
        for _ in 0..connections {
            let (done, halt, taken) = (done.clone(), &halt, &taken);
            scope.spawn(move || {
                loop {
                    let next = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, part)) = next else { return };
                    if halt.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                        continue;
                    }
                    // A mistake ends this, and not whoever waits for an outcome.
                    let sent = catch_unwind(AssertUnwindSafe(|| sender.send(&part.bulk)));
                    let internal = |_| {
                        Err(Halt::Fatal(Fatal::new("Fatal.Internal", "a thread that indexes ended early")))
                    };
                    match sent.unwrap_or_else(internal) {
                        // Whoever listens has gone where the whole is over.
                        Ok(()) => drop(done.send((number, part.next, part.rows))),
                        Err(e) => {
                            halt.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                        }
                    }
                }
            });
        }
        drop(done);
        let mut feed = Feed::new(with, parts);
        let mut order = Order::default();
        let mut read = Ok(());
        for pending in pending {
            if stop.load(Ordering::Relaxed) || halted() {
                break;
            }
            read = feed.object(pending, &halted);
            if read.is_err() {
                break;
            }
            order.take(&outcomes, reached, indexed)?;
            with.told.at(of - indexed.pending, of);
        }
        let whole = read.is_ok() && !stop.load(Ordering::Relaxed) && !halted();
        let (expired, not_indexed) = feed.end(whole.then_some(size));
        indexed.expired = expired;
        indexed.not_indexed = not_indexed;
        indexed.pending = indexed.pending.saturating_sub(expired);
        // All senders end once the last part is taken.
        for outcome in outcomes.iter() {
            order.add(outcome, reached, indexed)?;
            with.told.at(of - indexed.pending, of);
        }
        read.map_err(Halt::Fatal)
    });
    match halt.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(halt) => Err(halt),
        None if stop.load(Ordering::Relaxed) => Err(Halt::Stopped),
        None => read,
    }
}

/// Parts that are done, until those before them are.
#[derive(Default)]
struct Order {
    next: u64,
    early: BTreeMap<u64, u64>,
}

impl Order {
    fn take(
        &mut self,
        outcomes: &mpsc::Receiver<(u64, u64, u64)>,
        reached: &mut dyn Reached,
        indexed: &mut Indexed,
    ) -> Result<(), Halt> {
        outcomes.try_iter().try_for_each(|outcome| self.add(outcome, reached, indexed))
    }

    fn add(
        &mut self,
        (number, next, rows): (u64, u64, u64),
        reached: &mut dyn Reached,
        indexed: &mut Indexed,
    ) -> Result<(), Halt> {
        indexed.pending = indexed.pending.saturating_sub(rows);
        self.early.insert(number, next);
        let mut all = None;
        while let Some(next) = self.early.remove(&self.next) {
            self.next += 1;
            all = Some(next);
        }
        all.map_or(Ok(()), |next| reached.advance(next).map_err(Halt::Fatal))
    }
}

/// Rows to bodies.
struct Feed<'a> {
    with: &'a Indexing<'a>,
    parts: mpsc::SyncSender<(u64, Part)>,
    writer: Writer,
    bulk: Bulk,
    number: u64,
    /// Entries of the log before this one are in parts.
    next: u64,
    rows: u64,
    expired: u64,
    not_indexed: u64,
}

impl<'a> Feed<'a> {
    fn new(with: &'a Indexing<'a>, parts: mpsc::SyncSender<(u64, Part)>) -> Self {
        Self {
            with,
            parts,
            writer: Writer::new(with.settings.fields()),
            bulk: Bulk::new(with.settings.limits),
            number: 0,
            next: 0,
            rows: 0,
            expired: 0,
            not_indexed: 0,
        }
    }

    /// Sends the rows of an object.
    fn object(&mut self, pending: &Pending, halted: &dyn Fn() -> bool) -> Result<(), Fatal> {
        let Pending { object, op, rows } = pending;
        self.next = object.leaf;
        let day = Day::parse(&object.rows.day).unwrap_or(Day::Undated);
        let settings = self.with.settings;
        if settings.is_expired(day, self.with.now) {
            self.expired += object.rows.count;
            self.next = object.leaf + 1;
            return Ok(());
        }
        let index = settings.index_of(&object.rows.dataset, day);
        let reader = objects::open(self.with.store, &object.object.key)?;
        let projection = match settings.original {
            true => Projection::All,
            false => Projection::Columns(
                Column::ALL.into_iter().filter(|column| *column != Column::EventOriginal).collect(),
            ),
        };
        for batch in reader.batches(&projection, rows.selection()) {
            let batch = batch.map_err(|e| objects::at(&object.object.key, e))?;
            for row in batch.rows().filter(|row| rows.has(row)) {
                self.rows += 1;
                if !settings.filter.takes(&object.rows.dataset, row.columns) {
                    self.not_indexed += 1;
                    continue;
                }
                let event = Event {
                    uid: row.uid,
                    hash: row.hash.unwrap_or_default(),
                    ingested: row.ingested,
                    group: row.group,
                    input: row.input,
                    columns: row.columns,
                    enrichment: row.enrichment,
                    original: row.original,
                };
                self.bulk.push(*op, &index, &event, &mut self.writer);
                if self.bulk.is_full() {
                    self.flush();
                    if halted() {
                        return Ok(());
                    }
                }
            }
        }
        self.next = object.leaf + 1;
        Ok(())
    }

    fn flush(&mut self) {
        let bulk = std::mem::replace(&mut self.bulk, Bulk::new(self.with.settings.limits));
        let part = Part { bulk, next: self.next, rows: std::mem::take(&mut self.rows) };
        // Without senders there is nothing to be done with it.
        drop(self.parts.send((self.number, part)));
        self.number += 1;
    }

    /// Sends what is left; where all was read, the log's entries up to `size` are done with it. Gives the rows that
    /// were left out for their age, and those that configuration leaves out.
    fn end(mut self, size: Option<u64>) -> (u64, u64) {
        if let Some(size) = size {
            self.next = size;
        }
        if size.is_some() || !self.bulk.is_empty() {
            self.flush();
        }
        (self.expired, self.not_indexed)
    }
}
