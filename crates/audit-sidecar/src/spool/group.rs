//! Group commit: many hand in, one thread writes, each gets an answer once its record is durable.
//!
//! What it is: a bounded queue and the one thread that owns the [`Spool`]. It takes all that is queued, makes
//! records of it, commits once, and answers each. It waits for nobody: what comes while the disk syncs is the
//! next commit. What it is not: it knows no records; a closure makes them, in the order of the queue, and is
//! the only one that numbers and chains them. In: items and where their answers go. Out: what the closure made
//! of each, once it is durable, or why it is not.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use super::error::SpoolError;
use super::writer::Spool;

/// Where an answer goes. It must not block: the next commit waits for it.
pub trait Answer<R>: Send + 'static {
    /// Gives the answer; one that nobody waits for any more is dropped.
    fn answer(self, result: Result<R, SpoolError>);
}

/// For threads: a channel of one place.
impl<R: Send + 'static> Answer<R> for SyncSender<Result<R, SpoolError>> {
    fn answer(self, result: Result<R, SpoolError>) {
        // Neither full nor waited for: nobody is there to be told.
        let _unheard = self.try_send(result);
    }
}

/// For anything else: what takes the answer.
impl<R: 'static> Answer<R> for Box<dyn FnOnce(Result<R, SpoolError>) + Send> {
    fn answer(self, result: Result<R, SpoolError>) {
        self(result);
    }
}

/// How much goes into one commit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items that may wait; more are refused.
    pub queued: usize,
    /// Items of one commit.
    pub records: usize,
    /// A commit with so many bytes takes no more items.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { queued: 4096, records: 4096, bytes: 4 << 20 }
    }
}

/// Hands items to the writer; copies do so from other threads. The writer ends when all copies are gone.
pub struct Group<T, A> {
    queue: SyncSender<(T, A)>,
}

/// An item that was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused<T, A> {
    /// As many wait as may: later there is room again.
    Full(T, A),
    /// The writer is gone.
    Ended(T, A),
}

impl<T, A> Clone for Group<T, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T, A> Group<T, A> {
    /// Hands in an item, or says that there is no room for it; never waits.
    pub fn try_submit(&self, item: T, answer: A) -> Result<(), Refused<T, A>> {
        self.queue.try_send((item, answer)).map_err(|e| match e {
            TrySendError::Full((item, answer)) => Refused::Full(item, answer),
            TrySendError::Disconnected((item, answer)) => Refused::Ended(item, answer),
        })
    }

    /// Hands in an item, and waits for room in the queue.
    pub fn submit(&self, item: T, answer: A) -> Result<(), Refused<T, A>> {
        self.queue.send((item, answer)).map_err(|e| Refused::Ended(e.0.0, e.0.1))
    }
}

/// The thread that writes.
pub struct Writer<F> {
    thread: JoinHandle<(Spool, F)>,
}

impl<F> Writer<F> {
    /// Waits until every [`Group`] is gone and all that was handed in is answered; gives back the spool.
    pub fn join(self) -> thread::Result<(Spool, F)> {
        self.thread.join()
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts the writer. `record` makes records of an item with [`Spool::append`], none, one or more, and gives
/// what is to be answered once they are durable; its own error is answered at once.
pub fn start<T, A, R, F>(spool: Spool, limits: Limits, record: F) -> std::io::Result<(Group<T, A>, Writer<F>)>
where
    T: Send + 'static,
    A: Answer<R>,
    R: 'static,
    F: FnMut(T, &mut Spool) -> Result<R, SpoolError> + Send + 'static,
{
    let (sender, receiver) = sync_channel(limits.queued);
    let run = move || run(spool, limits, record, &receiver);
    let thread = thread::Builder::new().name("spool".to_owned()).spawn(run)?;
    Ok((Group { queue: sender }, Writer { thread }))
}

fn run<T, A, R, F>(mut spool: Spool, limits: Limits, mut record: F, queue: &Receiver<(T, A)>) -> (Spool, F)
where
    A: Answer<R>,
    F: FnMut(T, &mut Spool) -> Result<R, SpoolError>,
{
    let mut written: Vec<(A, R)> = Vec::new();
    while let Ok(first) = queue.recv() {
        let mut next = Some(first);
        while let Some((item, answer)) = next.take() {
            match record(item, &mut spool) {
                Ok(result) => written.push((answer, result)),
                Err(e) => answer.answer(Err(e)),
            }
            if written.len() >= limits.records || spool.pending_bytes() >= limits.bytes {
                break;
            }
            // Empty or closed: what there is makes the group.
            next = queue.try_recv().ok();
        }
        match spool.commit() {
            Ok(_) => written.drain(..).for_each(|(answer, result)| answer.answer(Ok(result))),
            Err(e) => written.drain(..).for_each(|(answer, _)| answer.answer(Err(e.clone()))),
        }
    }
    (spool, record)
}
