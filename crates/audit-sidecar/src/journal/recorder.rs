//! Makes records of entries, one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keytrail_model::key_operation::Id;
use keytrail_model::{Hash, Receipt};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chain::{Chain, Given, Phase, compact, completed, validate};
use crate::config::Mode;
use crate::spool::{Room, Spool, SpoolError};

use super::{Counts, Entry, Item, Made, Recent, Recorded, Refusal};

/// A head comes at the latest after this long, where there are new records.
const HEAD_INTERVAL: Duration = Duration::from_secs(1);

/// A heartbeat comes after this long.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Room is measured after so many bytes of records, a sixteenth of the smallest segment.
const MEASURED_BYTES: usize = 64 << 10;

/// What a recorder goes by.
pub struct RecorderSettings {
    /// When a record is durable, against its operation.
    pub mode: Mode,
    /// After this long without an outcome an operation's is recorded as unknown.
    pub operation_timeout: Duration,
}

/// Owns the chain; appends its records to the spool.
pub struct Recorder {
    chain: Chain,
    recent: Recent,
    settings: RecorderSettings,
    counts: Arc<Counts>,
    record: Vec<u8>,
    head_at: Instant,
    heartbeat_at: Instant,
    /// Bytes of records since it was measured how much room there is.
    unmeasured_bytes: usize,
}

impl Recorder {
    /// Of a chain whose epoch was begun in the spool.
    pub fn new(chain: Chain, recent: Recent, counts: Arc<Counts>, settings: RecorderSettings) -> Self {
        let now = Instant::now();
        counts.made((chain.epoch(), chain.records().saturating_sub(1)), chain.open().len());
        Self {
            chain,
            recent,
            settings,
            counts,
            record: Vec::new(),
            unmeasured_bytes: 0,
            head_at: now,
            heartbeat_at: now,
        }
    }

    /// Makes the records of an item.
    pub(super) fn take(&mut self, item: Item, spool: &mut Spool) -> Result<Made, SpoolError> {
        let made = match item {
            Item::Tick => {
                self.tick(spool)?;
                Made(None)
            }
            Item::Close(reason, reply) => {
                let receipt = self.close(&reason, spool)?;
                Made(Some((reply, Ok(Recorded { receipt, durable: true, intent: None }))))
            }
            Item::Entry(entry, reply) => {
                let result = match self.admit(&entry) {
                    Some(refusal) => Err(refusal),
                    None => self.put(entry, spool)?,
                };
                if result.as_ref().is_ok_and(|recorded| recorded.durable) {
                    Made(Some((reply, result)))
                } else {
                    // Whoever asked may have gone.
                    let _unheard = reply.send(result);
                    Made(None)
                }
            }
        };
        if self.chain.head_is_due() {
            self.head(spool)?;
        }
        // Many that come at once do not wait for the time to measure.
        if self.unmeasured_bytes >= MEASURED_BYTES {
            self.measure(spool)?;
        }
        self.counts
            .made((self.chain.epoch(), self.chain.records().saturating_sub(1)), self.chain.open().len());
        Ok(made)
    }

    /// Why an entry is not taken on now. What completes an operation that happened is taken as long as there is
    /// room at all.
    fn admit(&self, entry: &Entry) -> Option<Refusal> {
        let begins = match entry {
            Entry::Intent { .. } | Entry::Deny { .. } => true,
            Entry::Outcome { .. } | Entry::Written(_) => false,
            Entry::Foreign(line) => !is_response(line),
        };
        self.counts.refusal().filter(|_| begins)
    }

    fn put(&mut self, entry: Entry, spool: &mut Spool) -> Result<Result<Recorded, Refusal>, SpoolError> {
        let durable = |receipt| Recorded { receipt, durable: true, intent: None };
        match entry {
            Entry::Intent { op_id, body } => match self.new_operation(&op_id, &body, Phase::Intent) {
                Err(refusal) => Ok(Err(refusal)),
                Ok(body) => {
                    let receipt = self.own(Phase::Intent, Some(&op_id), &body, spool)?;
                    let durable = self.settings.mode == Mode::Strict;
                    Ok(Ok(Recorded { receipt, durable, intent: None }))
                }
            },
            Entry::Deny { op_id, body } => match self.new_operation(&op_id, &body, Phase::Deny) {
                Err(refusal) => Ok(Err(refusal)),
                Ok(body) => Ok(Ok(durable(self.own(Phase::Deny, Some(&op_id), &body, spool)?))),
            },
            Entry::Outcome { op_id, body } => {
                let Some(open) = self.chain.open().get(&op_id) else {
                    return Ok(Err(Refusal::OperationUnknown));
                };
                let body = compact(&body);
                let whole = Given::parse(&body).and_then(|given| completed(&open.intent, &given));
                let (intent, relaxed) = (open.receipt.clone(), is_public_read(&open.intent));
                match whole {
                    Err(e) => Ok(Err(Refusal::Body(e.to_string()))),
                    Ok(body) => {
                        let receipt = self.own(Phase::Outcome, Some(&op_id), &body, spool)?;
                        let durable = !(relaxed && self.settings.mode == Mode::Relaxed);
                        Ok(Ok(Recorded { receipt, durable, intent: Some(intent) }))
                    }
                }
            }
            Entry::Foreign(line) | Entry::Written(line) => {
                let hash = Hash::of(&line);
                if let Some(receipt) = self.recent.get(&hash) {
                    self.counts.repeated();
                    return Ok(Ok(durable(receipt.clone())));
                }
                self.record.clear();
                let receipt = self.chain.foreign(&line, &mut self.record);
                self.append(Phase::Foreign, receipt.seq, spool)?;
                self.recent.add(hash, receipt.clone());
                Ok(Ok(durable(receipt)))
            }
        }
    }

    /// Checks what is said of an operation that is not known yet; gives its body as it is recorded.
    fn new_operation(&self, op_id: &str, body: &str, phase: Phase) -> Result<String, Refusal> {
        let quoted = serde_json::Value::from(op_id).to_string();
        if let Err(e) = serde_json::from_str::<Id<'_>>(&quoted) {
            return Err(Refusal::Body(format!("`op_id`: {e}")));
        }
        if self.chain.open().contains_key(op_id) {
            return Err(Refusal::OperationExists);
        }
        let body = compact(body);
        validate(phase, &body).map_err(|e| Refusal::Body(e.to_string()))?;
        Ok(body)
    }

    fn own(
        &mut self,
        phase: Phase,
        op_id: Option<&str>,
        body: &str,
        spool: &mut Spool,
    ) -> Result<Receipt, SpoolError> {
        self.record.clear();
        let receipt = self.chain.own(phase, op_id, body, &mut self.record);
        self.append(phase, receipt.seq, spool)?;
        Ok(receipt)
    }

    fn append(&mut self, phase: Phase, seq: u64, spool: &mut Spool) -> Result<(), SpoolError> {
        self.counts.recorded(phase.name(), self.record.len());
        self.unmeasured_bytes += self.record.len();
        spool.append(seq, &self.record)
    }

    fn head(&mut self, spool: &mut Spool) -> Result<(), SpoolError> {
        self.record.clear();
        let receipt = self.chain.head(&mut self.record).map_err(SpoolError::Order)?;
        self.head_at = Instant::now();
        self.append(Phase::Head, receipt.seq, spool)
    }

    /// Says whether there is room for operations that begin.
    fn measure(&mut self, spool: &Spool) -> Result<Room, SpoolError> {
        let room = spool.room()?;
        let full = room.high_water || room.held_bytes < self.chain.reserved_bytes();
        self.counts.room(room.used_bytes, room.free_bytes, full);
        self.unmeasured_bytes = 0;
        Ok(room)
    }

    /// What time brings.
    fn tick(&mut self, spool: &mut Spool) -> Result<(), SpoolError> {
        let room = self.measure(spool)?;
        self.counts.waits_since(self.chain.open().values().map(|open| open.receipt.seq).min());
        let deadline = self.chain.mono_ns().saturating_sub(nanoseconds(self.settings.operation_timeout));
        let overdue = self.chain.open().iter().filter(|(_, open)| open.since_ns < deadline);
        let overdue: Vec<(String, Box<str>)> =
            overdue.map(|(id, open)| (id.clone(), open.intent.clone())).collect();
        for (op_id, intent) in overdue {
            self.unknown(&op_id, &intent, "the service said no outcome in time", spool)?;
        }
        if self.heartbeat_at.elapsed() >= HEARTBEAT_INTERVAL {
            self.heartbeat_at = Instant::now();
            let body = format!(
                r#"{{"in_flight":{},"unshipped_records":{},"unshipped_bytes":{},"spool_free_bytes":{},"oldest_unshipped_ns":{}}}"#,
                self.chain.open().len(),
                self.counts.unsealed_records(),
                room.used_bytes,
                room.free_bytes,
                nanoseconds(self.counts.unsealed_for()),
            );
            self.own(Phase::Heartbeat, None, &body, spool)?;
        }
        if self.chain.has_news() && self.head_at.elapsed() >= HEAD_INTERVAL {
            self.head(spool)?;
        }
        Ok(())
    }

    /// Records that nobody knows what came of an operation.
    fn unknown(&mut self, op_id: &str, intent: &str, why: &str, spool: &mut Spool) -> Result<(), SpoolError> {
        let body = unknown_outcome(intent, why).map_err(SpoolError::Order)?;
        self.own(Phase::Outcome, Some(op_id), &body, spool)?;
        Ok(())
    }

    /// The last records of the epoch: outcomes that nobody will say any more, a head, the end.
    fn close(&mut self, reason: &str, spool: &mut Spool) -> Result<Receipt, SpoolError> {
        let open: Vec<(String, Box<str>)> =
            self.chain.open().iter().map(|(id, open)| (id.clone(), open.intent.clone())).collect();
        for (op_id, intent) in open {
            self.unknown(&op_id, &intent, "the sidecar stopped before the service said the outcome", spool)?;
        }
        self.head(spool)?;
        let body =
            format!(r#"{{"records":{},"reason":{}}}"#, self.chain.records(), serde_json::Value::from(reason));
        self.own(Phase::EpochClose, None, &body, spool)
    }
}

/// The outcome of an operation of which nobody knows what came.
pub fn unknown_outcome(intent: &str, why: &str) -> Result<String, String> {
    let result = serde_json::json!({ "unknown": why }).to_string();
    let result: Box<RawValue> = RawValue::from_string(result).map_err(|e| e.to_string())?;
    completed(intent, &Given::unknown(&result)).map_err(|e| e.to_string())
}

/// Whether a line says what came of a call, as OpenBao and Vault write it: its refusal would leave an
/// operation that happened without its record.
fn is_response(line: &[u8]) -> bool {
    memmem::find(&line[..line.len().min(256)], br#""type":"response""#).is_some()
        || memmem::find(&line[line.len().saturating_sub(64)..], br#""type":"response""#).is_some()
}

/// Whether an operation reads what is public: it checks a signature or asks about a key.
fn is_public_read(intent: &str) -> bool {
    #[derive(Deserialize)]
    struct Asked<'a> {
        operation: &'a str,
    }
    serde_json::from_str::<Asked<'_>>(intent).is_ok_and(|i| matches!(i.operation, "verify" | "access"))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
