//! The chain of a source: what turns an entry into a record (INTEGRITY section 2).
//!
//! What it is: one epoch of one source. It gives each record its number, the hash of the one before and the
//! time, folds the tree that heads are signed over, and knows which operations are open. What it is not: it
//! writes nothing; the journal appends what it makes, in the order it was made. In: validated entries. Out: the
//! bytes of records, and [`Receipt`]s.

mod body;
mod opening;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use ed25519_dalek::{Signer as _, SigningKey};
use keytrail_ledger::{Checkpoint, VerifierKey};
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::{Hash, Receipt};

pub use body::{BodyError, Given, compact, completed, validate};
pub use opening::Opening;

/// Records after which a head is due.
pub const HEAD_RECORDS: u64 = 256;

/// Kind of a record that the sidecar makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// First of an epoch.
    EpochOpen,
    /// Before the HSM is asked.
    Intent,
    /// What came of it.
    Outcome,
    /// Refused by policy.
    Deny,
    /// Sign of life.
    Heartbeat,
    /// Signed checkpoint of the records before.
    Head,
    /// Records that were lost.
    Gap,
    /// Last of an epoch that ended well.
    EpochClose,
    /// Somebody else's line.
    Foreign,
}

impl Phase {
    /// As records spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EpochOpen => "epoch_open",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Deny => "deny",
            Self::Heartbeat => "heartbeat",
            Self::Head => "head",
            Self::Gap => "gap",
            Self::EpochClose => "epoch_close",
            Self::Foreign => "foreign",
        }
    }
}

/// Reads the time for records.
pub trait Clocks: Send {
    /// Wall clock, nanoseconds since 1970-01-01 UTC.
    fn wall_ns(&self) -> i64;

    /// Nanoseconds since the epoch was opened; never runs back.
    fn mono_ns(&self) -> u64;
}

/// The system's clocks, from now on.
pub struct SystemClocks(Instant);

impl SystemClocks {
    /// The epoch is opened now.
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clocks for SystemClocks {
    fn wall_ns(&self) -> i64 {
        wall_ns()
    }

    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The wall clock now, nanoseconds since 1970-01-01 UTC.
pub fn wall_ns() -> i64 {
    let now = jiff::Timestamp::now().as_nanosecond();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// An operation whose outcome is not known yet.
#[derive(Clone, Debug)]
pub struct Open {
    /// Where its intent stands.
    pub receipt: Receipt,
    /// Body of its intent, as it was recorded.
    pub intent: Box<str>,
    /// When it was opened, on the monotonic clock of its epoch.
    pub since_ns: u64,
}

/// One epoch of a source.
pub struct Chain {
    source: String,
    origin: String,
    epoch: u64,
    next_seq: u64,
    prev: Hash,
    tree: RootBuilder,
    key: SigningKey,
    clocks: Box<dyn Clocks>,
    /// Operations that wait for their outcome, by id.
    open: HashMap<String, Open>,
    /// Bytes of their intents: what is to be kept free for their outcomes follows from it.
    open_bytes: u64,
    /// Number of the last head.
    last_head: u64,
}

impl Chain {
    /// A new epoch, with no record yet: the first one to append is [`Phase::EpochOpen`].
    pub fn new(
        organization: &str,
        source: &str,
        epoch: u64,
        key: SigningKey,
        clocks: Box<dyn Clocks>,
    ) -> Self {
        Self {
            source: source.to_owned(),
            origin: format!("{organization}/{source}/{epoch}"),
            epoch,
            next_seq: 0,
            prev: Hash([0; 32]),
            tree: RootBuilder::new(),
            key,
            clocks,
            open: HashMap::new(),
            open_bytes: 0,
            last_head: 0,
        }
    }

    /// Whose chain it is.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.next_seq
    }

    /// Leaf hash of the last record; zeros where there is none.
    pub fn last_hash(&self) -> Hash {
        self.prev
    }

    /// Operations without an outcome.
    pub fn open(&self) -> &HashMap<String, Open> {
        &self.open
    }

    /// Bytes to keep free for the outcomes of all open operations: an outcome repeats what its intent says, and
    /// adds what came of it.
    pub fn reserved_bytes(&self) -> u64 {
        self.open_bytes + self.open.len() as u64 * OUTCOME_EXTRA_BYTES
    }

    /// Nanoseconds since the epoch was opened.
    pub fn mono_ns(&self) -> u64 {
        self.clocks.mono_ns()
    }

    /// Whether records were made since the last head.
    pub fn has_news(&self) -> bool {
        self.next_seq > self.last_head + 1
    }

    /// Whether so many records were made since the last head that one is due.
    pub fn head_is_due(&self) -> bool {
        self.next_seq >= self.last_head + HEAD_RECORDS
    }

    /// Makes a record of the sidecar's own, of a body that was validated.
    pub fn own(&mut self, phase: Phase, op_id: Option<&str>, body: &str, out: &mut Vec<u8>) -> Receipt {
        let mut text = self.envelope(phase, op_id, body.len());
        let _fits_into_memory = write!(text, r#","body":{body}}}"#);
        let receipt = self.link(text.as_bytes());
        match (phase, op_id) {
            (Phase::Intent, Some(id)) => {
                self.open_bytes += body.len() as u64;
                let (receipt, since_ns) = (receipt.clone(), self.clocks.mono_ns());
                let open = Open { receipt, intent: body.into(), since_ns };
                self.open.insert(id.to_owned(), open);
            }
            (Phase::Outcome, Some(id)) => {
                if let Some(open) = self.open.remove(id) {
                    self.open_bytes -= open.intent.len() as u64;
                }
            }
            _ => {}
        }
        out.extend_from_slice(text.as_bytes());
        receipt
    }

    /// Makes a record of a foreign line, which stands in it byte for byte.
    pub fn foreign(&mut self, line: &[u8], out: &mut Vec<u8>) -> Receipt {
        let mut text = self.envelope(Phase::Foreign, None, line.len());
        text.push_str("}\n");
        let mut record = text.into_bytes();
        record.extend_from_slice(line);
        let receipt = self.link(&record);
        out.append(&mut record);
        receipt
    }

    /// Makes a head: the signed checkpoint of all records before it.
    pub fn head(&mut self, out: &mut Vec<u8>) -> Result<Receipt, String> {
        let checkpoint =
            Checkpoint { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() };
        let verifier = VerifierKey::new(&self.origin, self.key.verifying_key().to_bytes())?;
        let signature = self.key.sign(checkpoint.body().as_bytes()).to_bytes();
        let note = checkpoint.to_note(&[(&verifier, signature)]).to_bytes();
        let note = String::from_utf8(note).map_err(|e| e.to_string())?;
        self.last_head = self.next_seq;
        let body = format!(r#"{{"checkpoint":{}}}"#, quoted(&note));
        Ok(self.own(Phase::Head, None, &body, out))
    }

    /// The envelope up to where the body or the end follows.
    fn envelope(&self, phase: Phase, op_id: Option<&str>, more: usize) -> String {
        let mut text = String::with_capacity(320 + more);
        let _fits_into_memory = write!(
            text,
            r#"{{"v":1,"source":{},"epoch":{},"seq":{},"prev":"{}","phase":"{}""#,
            quoted(&self.source),
            self.epoch,
            self.next_seq,
            self.prev.to_hex(),
            phase.name(),
        );
        if let Some(id) = op_id {
            let _fits_into_memory = write!(text, r#","op_id":{}"#, quoted(id));
        }
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.clocks.wall_ns())).unwrap_or_default();
        let _fits_into_memory = write!(text, r#","time":"{time}","mono_ns":{}"#, self.clocks.mono_ns());
        text
    }

    /// Takes a record as the newest.
    fn link(&mut self, record: &[u8]) -> Receipt {
        let leaf = leaf_hash(record);
        let receipt =
            Receipt { source: self.source.clone(), epoch: self.epoch, seq: self.next_seq, leaf_hash: leaf };
        self.tree.push(leaf);
        self.prev = leaf;
        self.next_seq += 1;
        receipt
    }
}

/// What an outcome has that its intent has not: result, hash and length of the output, timings, envelope.
const OUTCOME_EXTRA_BYTES: u64 = 2_048;

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
