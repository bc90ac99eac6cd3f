//! What keytrail needs of the world outside, as traits, and how its configuration files are read. Adapters implement them; stages take `&dyn` of them.
//!
//! Every trait's comment states consistency, durability, idempotency, who retries, and what an
//! attacker who controls the implementation can do. Methods block: an adapter over an asynchronous
//! SDK drives its own runtime.

pub mod section;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use keytrail_model::{Fatal, Timestamp};

/// Why a store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// May or may not have been applied; the same call may succeed later.
    Retryable(String),
    /// No space is left; nothing was applied.
    Full(String),
    /// Configuration, permission or damage: trying again will not help.
    Fatal(String),
}

impl StoreError {
    /// Stable code, as in metrics, logs and state machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Retryable(_) => "Retryable.Store",
            Self::Full(_) => "Retryable.StoreFull",
            Self::Fatal(_) => "Fatal.Store",
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retryable(m) | Self::Full(m) | Self::Fatal(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Fatal {
    fn from(e: StoreError) -> Self {
        Self::new(e.code(), e.to_string())
    }
}

/// Outcome of a conditional put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// The object is new and durable.
    Created,
    /// An object of that name was there; it is untouched.
    Exists,
}

/// Ranged access to one object, whose bytes do not change while it is open.
pub trait BlobRead: Send + Sync {
    /// Size in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; an object that ends before is [`StoreError::Fatal`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError>;
}

/// Objects under string keys (`a/b/c`: segments of `[A-Za-z0-9._=-]`, never `.` or `..`).
///
/// Consistency: a call that returned is seen by every later one, in any process. Durability: what a
/// put returned for survives a power cut. Idempotency: every call can be repeated. Retries: the
/// adapter for seconds; callers do not. An attacker who controls it can withhold and delete, and can
/// give other bytes: readers check every object against a hash of the sealed log.
pub trait BlobStore: Send + Sync {
    /// The whole object, or `None`.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Opens an object for ranged reads, or `None`.
    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError>;

    /// Puts an object unless the key is taken; all or nothing.
    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError>;

    /// As [`put_if_absent`](Self::put_if_absent), with a local file's bytes. The file is gone or
    /// useless afterwards, whatever the outcome: on the same file system it is moved.
    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError>;

    /// Puts an object in place of what is there; readers see the old or the new one, whole.
    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// As [`replace`](Self::replace), if what is there is `expected` (`None`: nothing); linearizable over all processes. The
    /// key has two segments. A repeated swap that was applied answers `Lost`.
    fn swap(&self, key: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Swap, StoreError>;

    /// Deletes an object; one that is not there is no error.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Keys that start with `prefix`, ascending.
    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError>;
}

/// The largest record that a [`Stream`] takes, its key included.
pub const MAX_STREAM_RECORD_BYTES: usize = 1 << 20;

/// Records of a stream that were not put, or not surely.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unput {
    /// So many from the first on are durable.
    pub durable: usize,
    /// Why those behind them are not: `Retryable` may or may not have been applied to some of them.
    pub error: StoreError,
}

/// A stream of records, each under a key: records of one key are read in the order in which they were put.
///
/// Consistency: records of one key are read in their order; what was put again, or had to be, is read again, and a
/// record may stand before one that precedes it, followed by both in order: readers go by what records say of
/// themselves. Durability: records that were put survive the loss of a data center for the stream's retention.
/// Idempotency: none; the same records may be put again. Retries: the adapter for seconds, with the same bytes in the
/// same order from the first one on that is not durable; then callers, who keep the records. One call at a time per
/// key: two at once have no order. Each call ends within a minute. An attacker who controls it can withhold, repeat,
/// reorder and forge records: what they say is chained, and readers check the chain.
pub trait Stream: Send + Sync {
    /// Puts records of a key (1 to 256 characters), each of at most [`MAX_STREAM_RECORD_BYTES`] with its key; all are
    /// durable on `Ok`.
    fn put(&self, key: &str, records: &[&[u8]]) -> Result<(), Unput>;
}

/// Outcome of a compare-and-swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swap {
    /// The new value is durable.
    Done,
    /// The value was not the expected one; nothing changed.
    Lost,
}

/// One small value that several writers may race for: the log's lock checkpoint.
///
/// Consistency: linearizable over all processes. Durability: as for [`BlobStore`]. Idempotency: a
/// repeated swap that was applied answers `Lost`; callers read again. Retries: callers, from the read.
/// An attacker who controls it can roll the log back, which `verify --known` and witnesses notice.
pub trait CheckpointStore: Send + Sync {
    /// The value, or `None` before the first swap.
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the value if it is still `expected` (`None`: not there yet).
    fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError>;
}

/// An object of a bucket, whoever put it there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ObjectName {
    /// The bucket.
    pub bucket: String,
    /// Any key that S3 allows.
    pub key: String,
    /// One version of it, where the bucket keeps versions.
    pub version: Option<String>,
}

/// What a listing says of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Objects of any bucket under any key, which others put there for keytrail to read.
///
/// Consistency: as for [`BlobStore`]. Durability and retention: those of whoever owns the bucket. Idempotency: every call
/// can be repeated. Retries: the adapter for seconds; callers do not. An attacker who controls it can withhold and give
/// other bytes: an input is named in the log by the hash of what was read.
pub trait RawObjects: Send + Sync {
    /// Opens an object for ranged reads, or `None`.
    fn open(&self, name: &ObjectName) -> Result<Option<Box<dyn BlobRead>>, StoreError>;

    /// Hands out what is listed below a prefix, in the order of keys, until `each` fails.
    fn list(
        &self,
        bucket: &str,
        prefix: &str,
        each: &mut dyn FnMut(ListedObject) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Marks an object as taken in, so that the owner of the bucket may let it expire.
    fn mark_taken(&self, name: &ObjectName) -> Result<(), StoreError>;
}

/// Outcome of starting a piece of work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Started {
    /// It was started.
    New,
    /// Work of that name was started before, and is not started twice.
    Before,
}

/// Starts executions of state machines.
///
/// Consistency: a name is started once, as far as the service remembers it (90 days; machines of the express kind:
/// never, the same name starts again). Durability: none that can be relied on: an execution that was started may vanish,
/// which the sweep makes harmless. Idempotency: whoever runs the work can run it twice. Retries: the adapter for seconds.
/// An attacker who controls it can withhold work, and start any that its rights allow.
pub trait Workflow: Send + Sync {
    /// Starts the machine (its ARN) with a JSON input of at most 256 KiB, under a name of at most 80 of `[A-Za-z0-9_-]`.
    fn start(&self, machine: &str, name: &str, input: &str) -> Result<Started, StoreError>;
}

/// A message of a queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it says.
    pub body: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// What [`Queue::done`] takes.
    pub receipt: String,
}

/// A queue that delivers at least once.
///
/// Consistency: none; messages come in any order, and may come again. Durability: a message stays until it is done, or the
/// queue's retention ends. Idempotency: every call can be repeated. Retries: the adapter for seconds. An attacker who
/// controls it can withhold, repeat and forge messages.
pub trait Queue: Send + Sync {
    /// Takes up to so many messages (at most 10); they are hidden from others for the queue's time.
    fn receive(&self, max: usize) -> Result<Vec<Message>, StoreError>;

    /// Takes a message out of the queue for good.
    fn done(&self, receipt: &str) -> Result<(), StoreError>;
}

/// Signs checkpoints with Ed25519 (RFC 8032).
///
/// Deterministic: the same message gives the same signature. Retries: the adapter for seconds. An
/// attacker who controls it can sign any head: witnesses and readers who keep an older one notice forks.
pub trait Signer: Send + Sync {
    /// Name in the signature line (C2SP signed-note): the log's origin.
    fn name(&self) -> &str;

    /// The public key, 32 bytes.
    fn public_key(&self) -> [u8; 32];

    /// The signature over `message`, 64 bytes.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], StoreError>;
}

/// The time of day.
///
/// An attacker who controls it can back-date the archived time: outside witnesses bound it.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Timestamp;
}

/// Something that people are to be told.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Stays the same however often it is sent: letters, digits and `_`.
    pub id: &'a str,
    /// When it is sent.
    pub at: Timestamp,
    /// A JSON object.
    pub body: &'a [u8],
}

/// Why a receiver did not take a notice. The text says what happened, never what was sent or where a
/// secret address leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotifyError {
    /// It did not answer, or not now: it may or may not have taken the notice.
    Retryable(String),
    /// It does not want this notice: the same one will not be taken later, unless somebody changes something.
    Refused(String),
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retryable(m) | Self::Refused(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for NotifyError {}

/// Hands notices to a receiver: a program, a web server.
///
/// Consistency: none; notices may arrive in any order. Durability: `Ok` means that the receiver acknowledged
/// the notice, and is the only thing that does. Idempotency: the same notice may be handed over again, with
/// the same id and body; receivers drop repeats by the id. Retries: the adapter for seconds, callers for
/// minutes and longer. Each call ends within a minute. An attacker who controls the receiver reads what
/// notices say; one between can withhold notices, and where they are signed neither forge nor change them.
pub trait Notifier: Send + Sync {
    /// Sends a notice; returns once it was acknowledged.
    fn notify(&self, notice: &Notice<'_>) -> Result<(), NotifyError>;
}

/// What a search index is asked.
#[derive(Clone, Copy, Debug)]
pub struct IndexRequest<'a> {
    /// What is done.
    pub method: Method,
    /// Path and query, as they are sent: `_bulk?filter_path=errors`.
    pub path: &'a str,
    /// What is sent with it.
    pub body: IndexBody<'a>,
}

/// Method of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Reads.
    Get,
    /// Whether something is there.
    Head,
    /// Asks or adds.
    Post,
    /// Puts in place of what is there.
    Put,
    /// Takes away.
    Delete,
}

/// Body of a request.
#[derive(Clone, Copy, Debug)]
pub enum IndexBody<'a> {
    /// None.
    Empty,
    /// A JSON text.
    Json(&'a [u8]),
    /// Newline-delimited JSON.
    Lines(&'a [u8]),
}

/// What a search index answered, whatever it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Status of HTTP.
    pub status: u16,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What it said.
    pub body: Vec<u8>,
}

/// Why there is no answer. The text has no credentials in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// Nobody answered, not in time, or not to the end: the request may or may not have been applied.
    Retryable(String),
    /// Whoever answered is not to be trusted, or configuration is wrong: trying again will not help.
    Fatal(String),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retryable(m) | Self::Fatal(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for Unreachable {}

/// A server of a search index, in the protocol of Elasticsearch.
///
/// Consistency: what was written is found once the index was refreshed, and read by its id at once. Durability:
/// as the answer says of each item. Idempotency: requests may be sent again; `create` and ids that follow from
/// content make that harmless. Retries: callers, who alone can read an answer item by item; an adapter sends each
/// request once. Each call ends within the adapter's timeout. An attacker who controls it can withhold, change and
/// invent what readers find: the archive is the truth, and `reconcile` compares.
pub trait EventIndex: Send + Sync {
    /// Sends a request and waits for the whole answer.
    fn send(&self, request: &IndexRequest<'_>) -> Result<Reply, Unreachable>;
}
