//! Bulk bodies to a server, until each of their items has an outcome.
//!
//! What it is: sends, reads answers item by item, waits and sends again what has to wait, parts what is refused as a
//! whole until the culprit stands alone. What it is not: it does not know where documents come from. In: a [`Bulk`].
//! Out: counts, or why the rest has to be left for later.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_index::{Answer, Bulk, Deferral, IndexName, Item, Outcome, answer, creation, is_block};
use keytrail_model::Fatal;
use keytrail_ports::{IndexBody, IndexRequest, Method, Reply, Unreachable};
use serde_json::{Value, json};

use super::Indexing;
use super::dead_letter::DeadLetter;
use super::flow::Ready;

/// What is asked for of an answer.
const BULK: &str = "_bulk?filter_path=errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,\
                    items.*.error.caused_by";

/// The first wait, and the longest, before something is sent again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How often somebody who waits looks whether to stop.
const WATCH: Duration = Duration::from_millis(100);

/// One of so many documents that are there already is compared with ours.
const COMPARED: u16 = 100;

/// Fields in which documents with the same id are the same.
const SAME: [&str; 3] = ["event.dataset", "@timestamp", "event.id"];

/// Why not all was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Halt {
    /// The server takes nothing now.
    Parked(Deferral),
    /// Asked to stop.
    Stopped,
    /// It would not help to try again.
    Fatal(Fatal),
}

/// Outcomes so far.
#[derive(Default)]
pub struct Counts {
    pub created: u64,
    pub replaced: u64,
    pub duplicates: u64,
    pub dead_letters: BTreeMap<String, u64>,
}

/// Sends, from several threads at once.
pub struct Sender<'a> {
    with: &'a Indexing<'a>,
    ready: &'a Ready,
    counts: Mutex<Counts>,
    /// Indices that are there.
    made: Mutex<Made>,
    gate: Gate,
    stop: &'a AtomicBool,
}

#[derive(Default)]
struct Made {
    there: BTreeSet<IndexName>,
    new: usize,
}

impl<'a> Sender<'a> {
    pub fn new(with: &'a Indexing<'a>, ready: &'a Ready, stop: &'a AtomicBool) -> Self {
        Self {
            with,
            ready,
            counts: Mutex::default(),
            made: Mutex::default(),
            gate: Gate::new(with.settings.connections),
            stop,
        }
    }

    pub fn into_counts(self) -> Counts {
        self.counts.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all items of a body.
    pub fn send(&self, bulk: &Bulk) -> Result<(), Halt> {
        let refused = self.deliver(bulk)?;
        if refused.is_empty() {
            return Ok(());
        }
        let mut letters = Bulk::new(self.with.settings.limits);
        for (letter, _) in &refused {
            letter.push(&mut letters, true);
        }
        // A document that its index refused may hold what this one's parser refuses, too.
        let again = self.deliver_letters(&letters)?;
        if !again.is_empty() {
            let mut heads = Bulk::new(self.with.settings.limits);
            again
                .iter()
                .filter_map(|n| refused.get(*n))
                .for_each(|(letter, _)| letter.push(&mut heads, false));
            if !self.deliver_letters(&heads)?.is_empty() {
                let why = "the index of dead letters does not take what keytrail writes to it: somebody changed its mapping";
                return Err(Halt::Parked(Deferral::Blocked(why.into())));
            }
        }
        let mut counts = lock(&self.counts);
        for (_, kind) in refused {
            *counts.dead_letters.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    /// Sends dead letters; gives the numbers of those that are refused.
    fn deliver_letters(&self, letters: &Bulk) -> Result<Vec<usize>, Halt> {
        let mut again = Vec::new();
        self.until_done(letters.clone(), &mut |_, item, outcome| {
            if matches!(outcome, Outcome::Rejected { .. }) {
                again.extend(letters.items().iter().position(|i| i.uid == item.uid));
            }
        })?;
        Ok(again)
    }

    /// Sends documents; gives those that are refused, with the server's type of error.
    fn deliver(&self, bulk: &Bulk) -> Result<Vec<(DeadLetter, String)>, Halt> {
        let (mut refused, mut compared) = (Vec::new(), Vec::new());
        let mut counts = Counts::default();
        let (settings, now) = (self.with.settings, self.with.now);
        let sent = self.until_done(bulk.clone(), &mut |bulk, item, outcome| match outcome {
            Outcome::Created => counts.created += 1,
            Outcome::Replaced => counts.replaced += 1,
            Outcome::Duplicate => {
                counts.duplicates += 1;
                if u16::from_be_bytes([item.uid.0[0], item.uid.0[1]]).is_multiple_of(COMPARED) {
                    compared.push((bulk.index_of(item).clone(), bulk.document(item).to_vec(), item.uid));
                }
            }
            Outcome::Rejected { kind, reason } => {
                let letter = DeadLetter::of(bulk, item, (kind, reason), settings, now);
                refused.push((letter, kind.clone()));
            }
            Outcome::Deferred(_) | Outcome::NoIndex | Outcome::Denied(_) => {}
        });
        // What was taken is there, whatever became of the rest.
        let mut all = lock(&self.counts);
        all.created += counts.created;
        all.replaced += counts.replaced;
        all.duplicates += counts.duplicates;
        drop(all);
        sent?;
        self.compare(&compared)?;
        Ok(refused)
    }

    /// Sends a body until all of its items have an outcome that stays, each of which is told once.
    fn until_done(&self, bulk: Bulk, settled: &mut dyn FnMut(&Bulk, &Item, &Outcome)) -> Result<(), Halt> {
        let mut open = vec![bulk];
        let mut wait = Wait::new(self.with.settings.patience);
        while let Some(bulk) = open.pop() {
            if bulk.is_empty() {
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(Halt::Stopped);
            }
            self.make(&bulk)?;
            let (deferral, asked, left) = match self.once(&bulk)? {
                (Answer::Items(outcomes), asked) => {
                    let (mut again, mut why) = (Vec::new(), None);
                    for (n, (item, outcome)) in bulk.items().iter().zip(&outcomes).enumerate() {
                        match outcome {
                            Outcome::Deferred(deferral) => {
                                again.push(n);
                                why = Some(deferral.clone());
                            }
                            Outcome::NoIndex => {
                                again.push(n);
                                lock(&self.made).there.remove(bulk.index_of(item));
                                why.get_or_insert(Deferral::Failed("an index is not there".into()));
                            }
                            Outcome::Denied(said) => return Err(denied(said)),
                            other => settled(&bulk, item, other),
                        }
                    }
                    let Some(why) = why else {
                        wait.begin_again();
                        continue;
                    };
                    if again.len() < bulk.items().len() {
                        wait.begin_again();
                    }
                    (why, asked, bulk.some(again))
                }
                (Answer::Deferred(deferral), asked) => (deferral, asked, bulk),
                (Answer::TooLarge, _) => {
                    let reason = "413: larger than the server takes, alone";
                    part(&bulk, ("too_large", reason), &mut open, settled);
                    continue;
                }
                (Answer::Refused(reason), _) => {
                    part(&bulk, ("bulk_refused", &reason), &mut open, settled);
                    continue;
                }
                (Answer::Denied(said), _) => return Err(denied(&said)),
            };
            if matches!(deferral, Deferral::Busy(_)) {
                self.gate.narrow();
            }
            if !wait.wait(asked, self.stop) {
                return Err(if self.stop.load(Ordering::Relaxed) {
                    Halt::Stopped
                } else {
                    Halt::Parked(deferral)
                });
            }
            open.push(left);
        }
        Ok(())
    }

    /// A request, and what the server asks to wait.
    fn once(&self, bulk: &Bulk) -> Result<(Answer, Option<Duration>), Halt> {
        let _permit = self.gate.enter();
        let request = IndexRequest { method: Method::Post, path: BULK, body: IndexBody::Lines(bulk.body()) };
        match self.with.index.send(&request) {
            Ok(Reply { status, retry_after, body }) => {
                let answer = answer(bulk, status, &body);
                if matches!(answer, Answer::Items(_)) {
                    self.gate.widen();
                }
                Ok((answer, retry_after))
            }
            Err(Unreachable::Retryable(why)) => Ok((Answer::Deferred(Deferral::Failed(why)), None)),
            Err(Unreachable::Fatal(why)) => Err(Halt::Fatal(Fatal::new("Fatal.IndexServer", why))),
        }
    }

    /// Makes the indices of a body that are not there.
    fn make(&self, bulk: &Bulk) -> Result<(), Halt> {
        let mut wait = Wait::new(self.with.settings.patience);
        for name in bulk.indices() {
            while !lock(&self.made).there.contains(name) {
                let path = name.as_str();
                let request = |method, body| self.with.index.send(&IndexRequest { method, path, body });
                let reply = match request(Method::Head, IndexBody::Empty) {
                    Ok(Reply { status: 404, .. }) => {
                        let new = lock(&self.made).new;
                        if new >= self.with.settings.new_indices {
                            return Err(Halt::Parked(Deferral::Blocked(format!(
                                "{new} indices were made at once and `{path}` would be one more: event times are \
                                 spread; raise `new_indices` if they are right"
                            ))));
                        }
                        let layout = self.with.settings.layouts.of_index(name);
                        let body =
                            creation(name, layout, self.ready.server.kind, self.ready.policy.as_deref());
                        let put = request(Method::Put, IndexBody::Json(body.to_string().as_bytes()));
                        if matches!(put, Ok(Reply { status: 200, .. })) {
                            lock(&self.made).new += 1;
                        }
                        put
                    }
                    other => other,
                };
                let mut asked = None;
                let deferral = match reply {
                    Ok(Reply { status: 200, .. }) => None,
                    // Somebody else made it meanwhile.
                    Ok(Reply { status: 400, body, .. }) if exists(&body) => None,
                    Ok(Reply { status: status @ (401 | 403), body, .. }) => {
                        match super::setup::refusal(status, &body) {
                            said if is_block(&said) => Some(Deferral::Blocked(said)),
                            said => return Err(denied(&said)),
                        }
                    }
                    Ok(Reply { status: status @ 400..=499, body, .. }) if status != 429 && status != 408 => {
                        let said = super::setup::refusal(status, &body);
                        let why = format!("the server refuses to make the index `{path}`: {said}");
                        return Err(Halt::Parked(Deferral::Blocked(why)));
                    }
                    Ok(Reply { status, retry_after, body }) => {
                        let said = super::setup::refusal(status, &body);
                        let busy = status == 429;
                        asked = retry_after;
                        Some(if busy { Deferral::Busy(said) } else { Deferral::Failed(said) })
                    }
                    Err(Unreachable::Retryable(why)) => Some(Deferral::Failed(why)),
                    Err(Unreachable::Fatal(why)) => {
                        return Err(Halt::Fatal(Fatal::new("Fatal.IndexServer", why)));
                    }
                };
                match deferral {
                    None => {
                        lock(&self.made).there.insert(name.clone());
                    }
                    Some(deferral) if !wait.wait(asked, self.stop) => {
                        let stopped = self.stop.load(Ordering::Relaxed);
                        return Err(if stopped { Halt::Stopped } else { Halt::Parked(deferral) });
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Whether documents that were there already are ours: a uid holds the event's content, so they are, unless
    /// somebody else wrote them.
    fn compare(&self, ours: &[(IndexName, Vec<u8>, keytrail_model::Uid)]) -> Result<(), Halt> {
        if ours.is_empty() {
            return Ok(());
        }
        let docs: Vec<Value> = ours
            .iter()
            .map(|(index, _, uid)| json!({"_index": index.as_str(), "_id": uid.to_string()}))
            .collect();
        let body = json!({"docs": docs}).to_string();
        let path = format!("_mget?_source_includes={}", SAME.join(","));
        let request =
            IndexRequest { method: Method::Post, path: &path, body: IndexBody::Json(body.as_bytes()) };
        // Whoever cannot be asked now is asked another time: these are samples.
        let Ok(Reply { status: 200, body, .. }) = self.with.index.send(&request) else { return Ok(()) };
        let Ok(there) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
        for ((index, document, uid), there) in ours.iter().zip(there["docs"].as_array().into_iter().flatten())
        {
            let mine: Value = serde_json::from_slice(document).unwrap_or_default();
            let other = SAME.into_iter().find(|field| {
                let of = |document| field.split('.').fold(document, |at: &Value, segment| &at[segment]);
                of(&mine) != of(&there["_source"])
            });
            // An answer in another order says nothing.
            let of_it = there["found"] == true && there["_id"] == uid.to_string();
            if let Some(field) = other.filter(|_| of_it) {
                let why = format!("`{index}` holds another event as {uid}: `{field}` differs");
                return Err(Halt::Fatal(Fatal::new("Fatal.IndexConflict", why)));
            }
        }
        Ok(())
    }
}

/// Two parts of a body that was refused as a whole; an item that stands alone is the culprit.
fn part(
    bulk: &Bulk,
    (kind, reason): (&str, &str),
    open: &mut Vec<Bulk>,
    settled: &mut dyn FnMut(&Bulk, &Item, &Outcome),
) {
    let items = bulk.items().len();
    if let [item] = bulk.items() {
        settled(bulk, item, &Outcome::Rejected { kind: kind.into(), reason: reason.into() });
        return;
    }
    open.push(bulk.some(items / 2..items));
    open.push(bulk.some(0..items / 2));
}

fn denied(said: &str) -> Halt {
    Halt::Fatal(Fatal::new("Fatal.IndexDenied", format!("the server does not let keytrail write: {said}")))
}

fn exists(body: &[u8]) -> bool {
    memchr::memmem::find(body, b"resource_already_exists_exception").is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked left is whole: nothing below a lock can fail halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exponential back-off with full jitter, up to a time in which nothing went on.
pub struct Wait {
    next: Duration,
    patience: Duration,
    began: Option<Instant>,
}

impl Wait {
    pub fn new(patience: Duration) -> Self {
        Self { next: FIRST_WAIT, patience, began: None }
    }

    /// Something went on.
    fn begin_again(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Waits, at least as long as the server asked; `false` where patience ended or somebody wants to stop.
    pub fn wait(&mut self, asked: Option<Duration>, stop: &AtomicBool) -> bool {
        let began = *self.began.get_or_insert_with(Instant::now);
        let jitter = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
        let wait = self.next.mul_f64(jitter).max(asked.unwrap_or_default());
        self.next = (self.next * 2).min(LONGEST_WAIT);
        if began.elapsed().saturating_add(wait) > self.patience {
            return false;
        }
        let until = Instant::now() + wait;
        while !stop.load(Ordering::Relaxed) {
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => thread::sleep(left.min(WATCH)),
                _ => return true,
            }
        }
        false
    }
}

/// How many requests are on their way at once: fewer when the server is busy, slowly more when it is not.
struct Gate {
    state: Mutex<GateState>,
    free: Condvar,
    most: usize,
}

struct GateState {
    under_way: usize,
    limit: usize,
    /// Answers since the limit was changed.
    answers: usize,
}

struct Permit<'a>(&'a Gate);

impl Gate {
    fn new(most: usize) -> Self {
        let most = most.max(1);
        Self {
            state: Mutex::new(GateState { under_way: 0, limit: most, answers: 0 }),
            free: Condvar::new(),
            most,
        }
    }

    fn enter(&self) -> Permit<'_> {
        let mut state = lock(&self.state);
        while state.under_way >= state.limit {
            state = self.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.under_way += 1;
        Permit(self)
    }

    fn narrow(&self) {
        let mut state = lock(&self.state);
        state.limit = (state.limit / 2).max(1);
        state.answers = 0;
    }

    fn widen(&self) {
        let mut state = lock(&self.state);
        state.answers += 1;
        if state.answers >= 8 * state.limit && state.limit < self.most {
            state.limit += 1;
            state.answers = 0;
            self.free.notify_one();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).under_way -= 1;
        self.0.free.notify_one();
    }
}
