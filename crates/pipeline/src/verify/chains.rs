//! Chains of sources, end to end: archived records, refused ones and sealed runs, against receipts and the log.
//!
//! What it is: it hands what the archive has to [`keytrail_ledger::chain`], from all threads that read objects, and
//! says what only the archive can tell: what was delivered twice or out of order, calls of Vault that were begun and
//! not ended, checkpoints of the log that an epoch cannot have seen. In: batches of rows, quarantine entries, runs.
//! Out: findings.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use keytrail_archive::{Batch, StoredRow};
use keytrail_ledger::chain::{Anchor, Chains, Counts, End, Record};
use keytrail_ledger::proof::{consistency_proof, verify_consistency};
use keytrail_ledger::{Checkpoint, Code, Finding, LogKeys};
use keytrail_model::manifest::RunItem;
use keytrail_model::row::text;
use keytrail_model::{Column, Fatal, Hash, Reject};
use keytrail_normalize::Format;
use keytrail_normalize::sequence::{Position, is_chained, of_refused};
use keytrail_ports::BlobStore;

use super::calls::Calls;
use super::{Options, Report};
use crate::quarantine::Entry;
use crate::readable::Readable;

/// How far a source's clock may be behind that of the archive.
const SKEW_NS: i64 = 60_000_000_000;

/// What came so far; nothing where chains are not followed.
pub(crate) struct Followed(Option<Mutex<Seen>>);

struct Seen {
    chains: Chains,
    calls: Calls,
    findings: Vec<Finding>,
}

impl Followed {
    /// Nothing came yet.
    pub fn new(options: &Options<'_>) -> Self {
        Self(options.gaps.then(|| {
            let chains = Chains::new(&options.audit_keys, options.receipts.clone());
            Mutex::new(Seen { chains, calls: Calls::default(), findings: Vec::new() })
        }))
    }

    fn with(&self, work: impl FnOnce(&mut Seen)) {
        if let Some(seen) = &self.0 {
            // What a thread that panicked had added is whole.
            work(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Takes the rows of a batch of the object of that name.
    pub fn rows(&self, object: &str, batch: &Batch) {
        if self.0.is_none() || !batch.has(Column::KeytrailLedgerSource) {
            return;
        }
        let rows: Vec<StoredRow<'_>> = batch.rows().filter(|row| is_chained(row.columns)).collect();
        let bytes: Vec<Option<Cow<'_, [u8]>>> = rows.iter().map(record_bytes).collect();
        let records: Vec<Option<Record<'_>>> =
            bytes.iter().map(|bytes| bytes.as_deref().and_then(Record::parse)).collect();
        self.with(|seen| {
            for ((row, bytes), record) in rows.iter().zip(&bytes).zip(&records) {
                seen.calls.add(row);
                let claimed = Position::of_row(Format::KeyOperation, row.columns);
                match (record, claimed) {
                    (Some(record), claimed) => {
                        let leaf = claimed.and_then(|p| p.leaf);
                        if leaf != Some(record.leaf) {
                            seen.findings.push(Finding::new(
                                Code::LeafMismatch,
                                format!("{object} row {} uid {}", row.number, row.uid),
                                "`keytrail_ledger_leaf_hash` is not the leaf hash of the record's bytes",
                            ));
                        }
                        seen.chains.add(record);
                    }
                    (None, Some(claimed)) if bytes.is_none() => seen.withheld(&claimed),
                    (None, _) => seen.findings.push(Finding::new(
                        Code::LeafMismatch,
                        format!("{object} row {} uid {}", row.number, row.uid),
                        "it has a place in a chain, and its bytes are no record of one",
                    )),
                }
            }
        });
    }

    /// Takes a refused record: it is there, whatever is wrong with it.
    pub fn refused(&self, entry: &Entry) {
        self.with(|seen| {
            of_refused(&entry.original, None, &mut |position| {
                if position.format != Format::KeyOperation {
                    return;
                }
                match Record::parse(&entry.original) {
                    Some(record) => seen.chains.add(&record),
                    None => seen.withheld(&position),
                }
                let told = match Reject::by_code(&entry.header.code) {
                    Some(Reject::SegmentDuplicate) => Some((Code::Dup, "twice in its segment")),
                    Some(Reject::SegmentOrder) => Some((Code::Reorder, "out of its place in its segment")),
                    _ => None,
                };
                if let Some((code, how)) = told {
                    seen.findings.push(Finding::new(
                        code,
                        format!("{} {}", position.format.dataset(), position.source),
                        format!(
                            "record {} of epoch {} was delivered {how}: {}",
                            position.seq, position.epoch, entry.key
                        ),
                    ));
                }
            });
        });
    }

    /// Takes runs that the log lists, where not all records could be read.
    pub fn runs<'a>(&self, runs: impl Iterator<Item = &'a RunItem>) {
        self.with(|seen| {
            for run in runs.filter(|run| run.dataset == Format::KeyOperation.dataset()) {
                let number = |n: i64| u64::try_from(n).ok();
                let (epoch, first, last) = (number(run.epoch), number(run.first_seq), number(run.last_seq));
                let (Some(epoch), Some(first), Some(last)) = (epoch, first, last) else { continue };
                let prev = Hash::from_hex(&run.first_prev).unwrap_or_default();
                seen.chains.add_run(&run.source, epoch, first, last, prev, run.last_hash);
            }
        });
    }

    /// Judges all that came.
    pub fn finish(
        self,
        store: &dyn BlobStore,
        readable: &Readable,
        options: &Options<'_>,
        report: &mut Report,
    ) -> Result<Counts, Fatal> {
        let Some(seen) = self.0 else { return Ok(Counts::default()) };
        let Seen { chains, calls, mut findings } = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ranged = options.from.is_some() || options.to.is_some() || options.first_leaf > 0;
        let newest = readable.objects().map(|o| o.archived).max();
        let archived_until_ns = newest.map(|micros| micros.saturating_mul(1_000));
        let checked = chains.finish(End { ranged, archived_until_ns });
        report.findings.append(&mut findings);
        report.findings.extend(checked.findings);
        report.unchecked.extend(checked.unchecked);
        calls.finish(ranged, report);
        for anchor in &checked.anchors {
            check_anchor(store, readable, &options.keys, anchor, report)?;
        }
        Ok(checked.counts)
    }
}

impl Seen {
    /// Takes a record of which only the columns are there.
    fn withheld(&mut self, position: &Position<'_>) {
        let number = |n: i64| u64::try_from(n).ok();
        let (Some(epoch), Some(seq)) = (number(position.epoch), number(position.seq)) else { return };
        if let (Some(prev), Some(leaf)) = (Hash::from_hex(&position.prev), position.leaf) {
            self.chains.add_withheld(&position.source, epoch, seq, prev, leaf);
        }
    }
}

/// The record's bytes; `None`: they are withheld.
fn record_bytes<'a>(row: &StoredRow<'a>) -> Option<Cow<'a, [u8]>> {
    let original = row.original?;
    Some(match text(row.columns, Column::KeytrailLedgerEnvelope) {
        Some(envelope) => Cow::Owned([envelope.as_bytes(), b"\n", original].concat()),
        None => Cow::Borrowed(original),
    })
}

/// An epoch that names a checkpoint began after it: it has to be one of this log, and the epoch no older.
fn check_anchor(
    store: &dyn BlobStore,
    readable: &Readable,
    keys: &LogKeys,
    anchor: &Anchor,
    report: &mut Report,
) -> Result<(), Fatal> {
    let Some(head) = report.checkpoint.clone() else { return Ok(()) };
    let place = format!("record {} of epoch {}", anchor.seq, anchor.epoch);
    let named = match keys.open(anchor.note.as_bytes()) {
        Ok(checkpoint) => checkpoint,
        Err(e) => {
            let what = format!("the checkpoint that {place} of `{}` names: {e}", anchor.source);
            report.unchecked.push(what);
            return Ok(());
        }
    };
    let element = format!("{} {}", Format::KeyOperation.dataset(), anchor.source);
    if !continues(store, &named, &head)? {
        let message = format!(
            "{place} names the checkpoint of size {}, signed by the log's keys, which the log does not continue",
            named.size
        );
        report.findings.push(Finding::new(Code::Fork, element, message));
        return Ok(());
    }
    let sealed = named.size.checked_sub(1).and_then(|leaf| {
        let history = readable.history().values().map(|r| &r.object);
        readable.objects().chain(history).find(|o| o.leaf == leaf).map(|o| o.archived)
    });
    if let Some(sealed) = sealed.map(|micros| micros.saturating_mul(1_000))
        && anchor.time_ns.saturating_add(SKEW_NS) < sealed
    {
        let message = format!(
            "{place} says that it is {} s older than the checkpoint of size {} that it names",
            (sealed - anchor.time_ns) / 1_000_000_000,
            named.size
        );
        report.findings.push(Finding::new(Code::Backdated, element, message));
    }
    Ok(())
}

fn continues(store: &dyn BlobStore, named: &Checkpoint, head: &Checkpoint) -> Result<bool, Fatal> {
    if named.size > head.size {
        return Ok(false);
    }
    if named.size == 0 {
        return Ok(true);
    }
    let mut log = |path: &str| store.get(&format!("log/{path}")).map_err(|e| e.to_string());
    match consistency_proof(named.size, head.size, &mut log) {
        Ok(proof) => Ok(verify_consistency(named.size, &named.root, head.size, &head.root, &proof)),
        // Tiles that are missing have findings of their own.
        Err(_) => Ok(true),
    }
}
