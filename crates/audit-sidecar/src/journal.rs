//! Entries in, durable records out.
//!
//! What it is: what every protocol hands its entries to. One thread makes records of all that wait, in their
//! order, writes them with one sync, and answers ([`crate::spool::group`]). What it is not: it speaks no
//! protocol and ships nothing. In: [`Entry`]s. Out: [`Recorded`] once the record is durable, or the
//! [`Refusal`] of a record that nobody may count on.

mod counts;
mod recent;
mod recorder;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keytrail_model::Receipt;
use tokio::sync::oneshot;

use crate::spool::group::{Answer, Group, Limits, Refused, start};
use crate::spool::{Spool, SpoolError};

pub use counts::{Counts, Sealed};
pub use recent::Recent;
pub use recorder::{Recorder, RecorderSettings, unknown_outcome};

/// The longest foreign line, without its line feed.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Entries that may wait for the writer.
const QUEUE: usize = 8_192;

/// What is to be put on record.
#[derive(Debug)]
pub enum Entry {
    /// An operation is about to be asked of the HSM.
    Intent {
        /// Its id.
        op_id: String,
        /// A JSON object of the schema's `intent`.
        body: String,
    },
    /// What came of it.
    Outcome {
        /// Its id.
        op_id: String,
        /// A JSON object with `result`, and `key`, `target_key_id`, `output`, `timings` as far as they are known.
        body: String,
    },
    /// An operation that policy refused.
    Deny {
        /// Its id.
        op_id: String,
        /// A JSON object of the schema's `deny`.
        body: String,
    },
    /// A line of somebody else, without its line feed, whose writer waits for the answer.
    Foreign(Bytes),
    /// A line of somebody else whose writer has gone on: refusing it would refuse nothing.
    Written(Bytes),
}

/// An entry that is on record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Where it stands.
    pub receipt: Receipt,
    /// Whether it would survive a power cut: false where the mode does not wait for that.
    pub durable: bool,
    /// Where the intent of an outcome stands.
    pub intent: Option<Receipt>,
}

/// Why nothing may be counted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The entry is not what the schema defines.
    Body(String),
    /// The entry is larger than any record.
    TooLarge,
    /// No operation of that id is open.
    OperationUnknown,
    /// An operation of that id is open.
    OperationExists,
    /// The spool is at high water: what room there is belongs to outcomes of operations that are open.
    Full,
    /// Records wait for longer to be sealed than the configuration allows.
    Unsealed,
    /// Too many entries wait.
    Busy,
    /// It took too long: the record may become durable yet.
    Slow,
    /// The sidecar stops.
    Stopping,
    /// The spool cannot be written any more; the process ends.
    Poisoned,
}

impl Refusal {
    /// Stable code, as in answers, logs and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Body(_) => "Rejected.Body",
            Self::TooLarge => "Rejected.TooLarge",
            Self::OperationUnknown => "Rejected.OperationUnknown",
            Self::OperationExists => "Rejected.OperationExists",
            Self::Full => "Retryable.SpoolFull",
            Self::Unsealed => "Retryable.Unsealed",
            Self::Busy => "Retryable.Busy",
            Self::Slow => "Retryable.Slow",
            Self::Stopping => "Retryable.Stopping",
            Self::Poisoned => "Fatal.Spool",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body(why) => f.write_str(why),
            Self::TooLarge => write!(f, "a line of more than {MAX_LINE_BYTES} bytes"),
            Self::OperationUnknown => f.write_str("no operation of that id is open"),
            Self::OperationExists => f.write_str("an operation of that id is open already"),
            Self::Full => {
                f.write_str("the spool is at high water: no operation is taken on until segments are freed")
            }
            Self::Unsealed => {
                f.write_str("records wait too long to be sealed: no operation is taken on until they are")
            }
            Self::Busy => f.write_str("too many entries wait"),
            Self::Slow => f.write_str("the record is not durable in time, and may become so yet"),
            Self::Stopping => f.write_str("the sidecar stops"),
            Self::Poisoned => f.write_str("the spool cannot be written any more"),
        }
    }
}

type Reply = oneshot::Sender<Result<Recorded, Refusal>>;

/// What the writer is handed.
enum Item {
    Entry(Entry, Reply),
    /// Time for heads, heartbeats and what is overdue.
    Tick,
    /// The last of all, with the reason.
    Close(String, Reply),
}

/// A record that was made, and who waits until it is durable.
struct Made(Option<(Reply, Result<Recorded, Refusal>)>);

/// Answers who waits. Where the spool failed, their channels close, which is the answer.
struct Waiting;

impl Answer<Made> for Waiting {
    fn answer(self, made: Result<Made, SpoolError>) {
        if let Ok(Made(Some((reply, result)))) = made {
            // Whoever asked may have gone.
            let _unheard = reply.send(result);
        }
    }
}

/// Hands entries to the writer.
#[derive(Clone)]
pub struct Journal {
    group: Group<Item, Waiting>,
    counts: Arc<Counts>,
    answer_timeout: Duration,
}

type Make = Box<dyn FnMut(Item, &mut Spool) -> Result<Made, SpoolError> + Send>;

/// The thread that makes records and writes them.
pub struct Writer(crate::spool::group::Writer<Make>);

impl Writer {
    /// Waits until no [`Journal`] is left, and closes the epoch's last segment.
    pub fn join(self) -> Result<(), String> {
        let (mut spool, _) =
            self.0.join().map_err(|_| "the writer ended by a mistake of the program".to_owned())?;
        spool.close_epoch().map_err(|e| e.to_string())
    }
}

/// An entry that the writer has.
pub struct Pending {
    answer: oneshot::Receiver<Result<Recorded, Refusal>>,
    timeout: Duration,
}

impl Pending {
    /// Waits for the answer, until it is a refusal.
    pub async fn wait(self) -> Result<Recorded, Refusal> {
        match tokio::time::timeout(self.timeout, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::Poisoned),
            Err(_) => Err(Refusal::Slow),
        }
    }

    /// Waits for the answer however long it takes: for who can refuse nothing.
    pub async fn durable(self) -> Result<Recorded, Refusal> {
        self.answer.await.unwrap_or(Err(Refusal::Poisoned))
    }
}

impl Journal {
    /// Starts the writer of an epoch that was begun.
    pub fn start(
        mut recorder: Recorder,
        spool: Spool,
        counts: Arc<Counts>,
        answer_timeout: Duration,
    ) -> std::io::Result<(Self, Writer)> {
        let make: Make = Box::new(move |item, spool| recorder.take(item, spool));
        let limits = Limits { queued: QUEUE, ..Limits::default() };
        let (group, writer) = start(spool, limits, make)?;
        Ok((Self { group, counts, answer_timeout }, Writer(writer)))
    }

    /// Puts an entry on record.
    pub async fn record(&self, entry: Entry) -> Result<Recorded, Refusal> {
        let recorded = match self.submit(entry) {
            Ok(pending) => pending.wait().await,
            Err(refusal) => Err(refusal),
        };
        self.counts.answered(&recorded);
        recorded
    }

    /// Hands an entry over; refuses where too many wait.
    fn submit(&self, entry: Entry) -> Result<Pending, Refusal> {
        let (reply, pending) = self.pending();
        self.group.try_submit(Item::Entry(check(entry)?, reply), Waiting).map_err(|e| match e {
            Refused::Full(..) => Refusal::Busy,
            Refused::Ended(..) => Refusal::Stopping,
        })?;
        Ok(pending)
    }

    /// Hands an entry over once there is room in the queue.
    pub async fn submit_when_free(&self, entry: Entry) -> Result<Pending, Refusal> {
        let (reply, pending) = self.pending();
        let mut item = Item::Entry(check(entry)?, reply);
        loop {
            item = match self.group.try_submit(item, Waiting) {
                Ok(()) => return Ok(pending),
                Err(Refused::Ended(..)) => return Err(Refusal::Stopping),
                Err(Refused::Full(item, _)) => item,
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn pending(&self) -> (Reply, Pending) {
        let (reply, answer) = oneshot::channel();
        (reply, Pending { answer, timeout: self.answer_timeout })
    }

    /// Has the writer look at what time brings; one that is busy will look soon.
    pub fn tick(&self) {
        let _busy = self.group.try_submit(Item::Tick, Waiting);
    }

    /// Writes the epoch's last record: waits until it is durable.
    pub async fn close(&self, reason: &str) -> Result<(), Refusal> {
        let (reply, pending) = self.pending();
        let mut item = Item::Close(reason.to_owned(), reply);
        while let Err(refused) = self.group.try_submit(item, Waiting) {
            item = match refused {
                Refused::Ended(..) => return Err(Refusal::Poisoned),
                Refused::Full(item, _) => item,
            };
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pending.durable().await.map(|_| ())
    }

    /// All metrics, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.counts.render()
    }

    /// Whether the spool can be written no more.
    pub fn is_poisoned(&self) -> bool {
        self.counts.is_poisoned()
    }

    /// Why no operation would be taken on now.
    pub fn refusal(&self) -> Option<Refusal> {
        self.counts.refusal()
    }
}

/// What a record cannot hold is refused before it waits.
fn check(entry: Entry) -> Result<Entry, Refusal> {
    match &entry {
        Entry::Foreign(line) | Entry::Written(line) if line.len() > MAX_LINE_BYTES => Err(Refusal::TooLarge),
        Entry::Foreign(line) | Entry::Written(line) if line.is_empty() => {
            Err(Refusal::Body("expected a line".to_owned()))
        }
        _ => Ok(entry),
    }
}
