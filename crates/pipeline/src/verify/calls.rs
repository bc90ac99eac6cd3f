//! Calls of OpenBao or Vault whose lines a chain carries: an intent is the line of a request, its outcome that of the
//! response. One without the other was refused in between, or lost.
//!
//! What OpenBao 2.7 and Vault write without a partner of the same call is told apart (seen on both): the probe of a
//! device that is enabled, a seal, an unwrapping of a token that is used up; the response to the call that enabled the
//! device, and the request that disables it.

use std::collections::HashMap;

use keytrail_archive::StoredRow;
use keytrail_ledger::{Code, Finding};
use keytrail_model::Column;
use keytrail_model::row::{Encoded, columns, text};
use keytrail_normalize::{Format, vault};

use super::Report;

/// Requests that have no response, wherever they stand.
const ALONE: [&str; 2] = ["sys/audit/test", "sys/seal"];

/// One that has none where it failed.
const UNWRAP: &str = "sys/wrapping/unwrap";

/// How long a call may take to be answered: one that is younger than that against the end of its chain is under way.
const UNDER_WAY_MICROS: i64 = 90_000_000;

/// Calls of which one line is there.
#[derive(Default)]
pub(super) struct Calls {
    open: HashMap<(String, String), Call>,
    /// The newest line of each source.
    newest: HashMap<String, i64>,
    /// Epoch and number of the first line of each source.
    first: HashMap<String, (i64, i64)>,
}

struct Call {
    is_request: bool,
    path: String,
    epoch: i64,
    seq: i64,
    time: i64,
    failed: bool,
}

impl Calls {
    /// Takes a row that has a place in a chain.
    pub fn add(&mut self, row: &StoredRow<'_>) {
        if text(row.columns, Column::EventDataset) != Some(vault::DATASET) {
            return;
        }
        let (mut source, mut id, mut is_request, mut path) = ("", "", None, "");
        let (mut epoch, mut seq, mut failed) = (0, 0, false);
        for (column, value) in columns(row.columns) {
            match (column, value) {
                (Column::KeytrailLedgerSource, Encoded::Text(t)) => source = t,
                (Column::KeytrailOperationId, Encoded::Text(t)) => id = t,
                (Column::KeytrailPhase, Encoded::Text(t)) => is_request = Some(t == "request"),
                (Column::KeytrailVaultPath, Encoded::Text(t)) => path = t,
                (Column::EventOutcome, Encoded::Text(t)) => failed = t == "failure",
                (Column::KeytrailLedgerEpoch, Encoded::Int(n)) => epoch = n,
                (Column::KeytrailLedgerSeq, Encoded::Int(n)) => seq = n,
                _ => {}
            }
        }
        let first = self.first.entry(source.to_owned()).or_insert((epoch, seq));
        *first = (*first).min((epoch, seq));
        let time = row.time.map_or(i64::MIN, |t| t.0);
        let newest = self.newest.entry(source.to_owned()).or_insert(time);
        *newest = (*newest).max(time);
        let Some(is_request) = is_request.filter(|_| !id.is_empty()) else { return };
        let key = (source.to_owned(), id.to_owned());
        match self.open.remove(&key) {
            Some(other) if other.is_request != is_request => {}
            // The same line under two numbers: the older one stays.
            Some(other) => {
                self.open.insert(key, other);
            }
            None => {
                self.open.insert(key, Call { is_request, path: path.to_owned(), epoch, seq, time, failed });
            }
        }
    }

    /// Tells what is left. Of a range, calls at its ends may have their other line outside of it.
    pub fn finish(self, ranged: bool, report: &mut Report) {
        let (mut alone, mut under_way) = (0_u64, 0_u64);
        for ((source, id), call) in self.open {
            let newest = self.newest.get(&source).copied().unwrap_or(i64::MAX);
            let is_first = self.first.get(&source) == Some(&(call.epoch, call.seq));
            let disables = call.path.starts_with("sys/audit/");
            let legitimate = match call.is_request {
                true => {
                    disables || ALONE.contains(&call.path.as_str()) || (call.failed && call.path == UNWRAP)
                }
                false => is_first || disables,
            };
            if legitimate {
                alone += 1;
                continue;
            }
            if ranged || (call.is_request && call.time.saturating_add(UNDER_WAY_MICROS) > newest) {
                under_way += 1;
                continue;
            }
            let (line, lacks) = match call.is_request {
                true => ("request", "response"),
                false => ("response", "request"),
            };
            let how = if call.failed { ", which failed," } else { "" };
            report.findings.push(Finding::new(
                Code::OrphanIntent,
                format!("{} {source}", Format::KeyOperation.dataset()),
                format!(
                    "record {} of epoch {}, the {line} of call `{id}`{how} has no {lacks}",
                    call.seq, call.epoch
                ),
            ));
        }
        if alone > 0 {
            report.unchecked.push(format!(
                "{alone} lines of calls that OpenBao and Vault log once: probes of devices, seals, tokens that are used up"
            ));
        }
        if under_way > 0 {
            report
                .unchecked
                .push(format!("{under_way} calls of OpenBao or Vault at the ends of what was read"));
        }
    }
}
