//! All epochs of one source, once all that is there has come.

mod epochs;
mod links;
mod operations;

use std::collections::BTreeMap;
use std::mem::take;

use super::control::Control;
use super::epoch::{Epoch, Others, Runs};
use super::holes::{Holes, Span};
use super::part::{Flaw, Part};
use super::{Anchor, Counts, End};
use crate::finding::{Code, Finding};
use crate::note::VerifierKey;

/// What is left open, over all sources.
#[derive(Default, Debug)]
pub(super) struct Unchecked {
    pub(super) keys: u64,
    pub(super) heads_unverified: u64,
    pub(super) heads_behind: u64,
    pub(super) epochs_unlinked: u64,
    pub(super) in_flight: u64,
    pub(super) intents: u64,
    pub(super) outcomes: u64,
    pub(super) withheld: u64,
    pub(super) unknown: u64,
    pub(super) in_runs: u64,
    pub(super) receipts_outside: u64,
    pub(super) receipts_expired: u64,
    /// What is said of one source.
    pub(super) of_sources: Vec<String>,
}

impl Unchecked {
    pub(super) fn into_notes(self) -> Vec<String> {
        let counted = [
            (self.keys, "keys of {n} epochs: give the sidecars' public keys"),
            (self.heads_unverified, "signatures of {n} heads: the keys of their epochs are not here"),
            (self.heads_behind, "roots of {n} heads: not all records before them are here"),
            (
                self.epochs_unlinked,
                "what {n} epochs continue: the records that open them are not here or cannot be read",
            ),
            (
                self.in_flight,
                "{n} operations without outcome that began less than 10 minutes before the last record, or before an \
                 epoch that began less than a minute before it",
            ),
            (
                self.intents,
                "{n} operations without outcome: it may be among records whose content is not known",
            ),
            (self.outcomes, "{n} outcomes without intent: not all records that may have it are here"),
            (self.withheld, "content of {n} records that are withheld"),
            (self.unknown, "content of {n} records that cannot be read or are of a kind that is not known"),
            (self.in_runs, "{n} records that are known as parts of sealed runs only"),
            (self.receipts_outside, "{n} receipts for records outside of what was read"),
            (self.receipts_expired, "{n} receipts for records that are known as parts of sealed runs only"),
        ];
        let counted = counted.into_iter().filter(|(n, _)| *n > 0);
        counted.map(|(n, text)| text.replace("{n}", &n.to_string())).chain(self.of_sources).collect()
    }
}

/// What is found, over all sources.
#[derive(Default, Debug)]
pub(super) struct Found {
    pub(super) findings: Vec<Finding>,
    pub(super) unchecked: Unchecked,
    pub(super) counts: Counts,
    pub(super) anchors: Vec<Anchor>,
}

/// One epoch, put together.
struct Whole {
    epoch: u64,
    /// `None`: only runs are there.
    part: Option<Part>,
    holes: Holes,
    runs: Runs,
    control: Control,
    first: u64,
    last: u64,
    others: Others,
}

/// Epoch and number of the first and of the last record.
type Seen = Option<((u64, u64), (u64, u64))>;

/// One source.
struct Source<'a> {
    name: &'a str,
    keys: &'a [VerifierKey],
    end: End,
    /// Epoch, number, what is wrong.
    findings: Vec<(u64, u64, Code, String)>,
    unchecked: &'a mut Unchecked,
    /// Nothing is missing, and all of it can be read.
    complete: bool,
}

/// Judges a source.
pub(super) fn judge(
    name: &str,
    epochs: BTreeMap<u64, Epoch>,
    keys: &[VerifierKey],
    end: End,
    found: &mut Found,
) {
    let mut source = Source {
        name,
        keys,
        end,
        findings: Vec::new(),
        unchecked: &mut found.unchecked,
        complete: !end.ranged,
    };
    let seen = source.seen(&epochs);
    let mut wholes: Vec<Whole> = Vec::new();
    for (number, epoch) in epochs {
        let unmet = epoch.unmet();
        let Some(ends) = epoch.ends() else {
            source.receipts(number, &unmet, &[], seen);
            continue;
        };
        found.counts.epochs += 1;
        found.counts.records += epoch.records;
        found.counts.heads += epoch.control.heads;
        let whole = source.whole(number, epoch, ends, wholes.is_empty());
        source.receipts(number, &unmet, &whole.holes.filled, seen);
        wholes.push(whole);
    }
    found.counts.sources += u64::from(!wholes.is_empty());
    source.gaps(&wholes);
    source.records(&mut wholes);
    source.epochs(&wholes);
    for whole in &mut wholes {
        if let Some(opening) = &mut whole.control.opening
            && let Some(note) = opening.checkpoint.take()
        {
            let (source, epoch) = (name.to_owned(), whole.epoch);
            found.anchors.push(Anchor { source, epoch, seq: 0, time_ns: opening.wall_ns, note });
        }
    }
    source.operations(wholes);
    source.findings.sort();
    source.findings.dedup();
    let element = format!("keytrail.key_operation {name}");
    found.findings.extend(
        source
            .findings
            .into_iter()
            .map(|(_, _, code, message)| Finding::new(code, element.as_str(), message)),
    );
}

impl Source<'_> {
    fn find(&mut self, (epoch, seq): (u64, u64), code: Code, message: String) {
        self.findings.push((epoch, seq, code, message));
    }

    /// Places of the first and the last record.
    fn seen(&self, epochs: &BTreeMap<u64, Epoch>) -> Seen {
        let mut seen = epochs.iter().filter_map(|(n, e)| e.ends().map(|(a, b)| ((*n, a), (*n, b))));
        let (first, last) = seen.next()?;
        Some((first, seen.next_back().map_or(last, |(_, last)| last)))
    }

    /// Judges receipts whose record did not come: its number, and whether another one has its place.
    fn receipts(&mut self, number: u64, unmet: &[(u64, bool)], filled: &[Span], seen: Seen) {
        for (seq, taken) in unmet {
            let place = (number, *seq);
            let outside = seen.is_none_or(|(first, last)| place < first || place > last);
            let in_run = filled.partition_point(|(_, last)| last < seq);
            if *taken {
                let message = format!("record {seq} of epoch {number} has another hash than its receipt");
                self.find(place, Code::ReceiptMissing, message);
            } else if filled.get(in_run).is_some_and(|(first, _)| first <= seq) {
                self.unchecked.receipts_expired += 1;
            } else if self.end.ranged && outside {
                self.unchecked.receipts_outside += 1;
            } else {
                let message =
                    format!("record {seq} of epoch {number}, for which there is a receipt, is not here");
                self.find(place, Code::ReceiptMissing, message);
            }
        }
    }

    /// Puts an epoch together.
    fn whole(&mut self, number: u64, mut epoch: Epoch, (first, last): Span, is_first: bool) -> Whole {
        self.runs_link(number, &epoch);
        self.unchecked.withheld += epoch.withheld;
        self.unchecked.unknown += epoch.unknown;
        self.unchecked.heads_unverified += epoch.control.unverified_heads();
        let (control, runs, others) =
            (take(&mut epoch.control), take(&mut epoch.runs), take(&mut epoch.others));
        let parts = epoch.into_parts();
        let from = if is_first { first } else { 0 };
        let holes = Holes::between(&parts, from, runs.spans.iter().copied(), runs.last());
        let part = parts.into_iter().reduce(|mut whole, next| {
            whole.join(next);
            whole
        });
        let part = part.map(|mut part| {
            part.end();
            part.flaws.retain(|(seq, flaw)| match flaw {
                Flaw::Break { leaf, prev } => !others.link(*seq, leaf, prev),
                _ => true,
            });
            part
        });
        let count = |spans: &[Span]| spans.iter().fold(0u64, |n, (a, b)| n.saturating_add(b - a + 1));
        self.unchecked.in_runs = self.unchecked.in_runs.saturating_add(count(&holes.filled));
        Whole { epoch: number, part, holes, runs, control, first, last, others }
    }
}

/// Nanoseconds as seconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000)
}
