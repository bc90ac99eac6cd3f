//! Findings on the records of each epoch: what is missing, what does not link up, clocks and silence.

use std::collections::BTreeMap;

use keytrail_model::Hash;

use super::super::control::printable;
use super::super::epoch::Epoch;
use super::super::part::{Flaw, WALL_TOLERANCE_NS, back_ns};
use super::{Source, Whole, seconds};
use crate::finding::Code;

/// A source that is not closed lets so much time pass after its last record, seen from the archive.
const MAX_TAIL_NS: u64 = 180_000_000_000;

impl Source<'_> {
    /// Compares the ends of runs with what is beside them.
    pub(super) fn runs_link(&mut self, number: u64, epoch: &Epoch) {
        let runs = &epoch.runs;
        let mut find = |seq: u64, what: &str| {
            let message = format!("record {seq} of epoch {number} {what}");
            self.find((number, seq), Code::ChainBreak, message);
        };
        for (first, prev) in &runs.starts {
            let linked = match first.checked_sub(1) {
                // Its own `prev` is compared.
                _ if epoch.has(*first) => true,
                None => *prev == Hash::default(),
                Some(before) if epoch.has(before) => epoch.may_have(before, prev),
                Some(before) => {
                    let (from, to) = ((before, Hash([0; 32])), (before, Hash([0xff; 32])));
                    runs.ends.contains(&(before, *prev)) || runs.ends.range(from..=to).next().is_none()
                }
            };
            if !linked {
                find(*first, "begins a sealed run that does not continue the record before");
            }
        }
        for (last, _) in &runs.ends {
            if let Some(prev) = epoch.prev_behind(*last)
                && !runs.ends.contains(&(*last, prev))
            {
                find(last + 1, "does not continue the sealed run before it");
            }
        }
    }

    /// Numbers that are missing.
    pub(super) fn gaps(&mut self, wholes: &[Whole]) {
        for (i, whole) in wholes.iter().enumerate() {
            let epoch = whole.epoch;
            if i == 0 && whole.first > 0 {
                self.complete = false;
                if !self.end.ranged {
                    self.unchecked.of_sources.push(format!(
                        "what lies before record {} of epoch {epoch} of `{}`, the first one that is here",
                        whole.first, self.name
                    ));
                }
            }
            // What was lost is told of in the epoch itself, or in the next one.
            let told: BTreeMap<u64, (u64, u64, &str, u64)> = wholes[i..wholes.len().min(i + 2)]
                .iter()
                .flat_map(|w| w.control.told.iter().map(move |(seq, told)| (w.epoch, *seq, told)))
                .map(|(e, seq, told)| (told.first_seq, (e, seq, told.cause.as_str(), told.last_seq)))
                .collect();
            for (first, last) in &whole.holes.missing {
                self.complete = false;
                let mut message = if first == last {
                    format!("record {first} of epoch {epoch} is missing")
                } else {
                    let count = last - first + 1;
                    format!("records {first} to {last} of epoch {epoch} are missing, {count}")
                };
                if let Some((_, (e, seq, cause, _))) =
                    told.range(..=last).next_back().filter(|(_, told)| told.3 >= *first)
                {
                    let cause = printable(cause);
                    message.push_str(&format!(": record {seq} of epoch {e} tells the cause, `{cause}`"));
                }
                self.find((epoch, *first), Code::Gap, message);
            }
        }
    }

    /// What is wrong with records, or between two of them.
    pub(super) fn records(&mut self, wholes: &mut [Whole]) {
        for whole in &mut *wholes {
            let epoch = whole.epoch;
            for (seq, code, message) in std::mem::take(&mut whole.control.flaws) {
                self.complete &= code != Code::EpochUnlinked;
                self.find((epoch, seq), code, message);
            }
            let mut leaves = whole.others.leaves.iter().map(|(seq, _)| *seq).peekable();
            let first_fork = leaves.peek().copied();
            while let Some(seq) = leaves.next() {
                self.complete = false;
                let mut versions = 2;
                while leaves.next_if_eq(&seq).is_some() {
                    versions += 1;
                }
                let message =
                    format!("record {seq} of epoch {epoch} is here with {versions} different hashes");
                self.find((epoch, seq), Code::Fork, message);
            }
            let Some(part) = &mut whole.part else { continue };
            self.unchecked.heads_behind += part.heads_behind;
            let flaws = std::mem::take(&mut part.flaws);
            let breaks = flaws.iter().filter(|(_, f)| matches!(f, Flaw::Break { .. } | Flaw::NotFirst));
            let first_break = breaks.map(|(seq, _)| *seq).min();
            for (seq, flaw) in flaws {
                let unlinked =
                    first_break.is_some_and(|b| b <= seq) || first_fork.is_some_and(|fork| fork < seq);
                if matches!(flaw, Flaw::Root) && unlinked {
                    self.unchecked.heads_behind += 1;
                } else {
                    let (code, message) = describe(epoch, seq, &flaw);
                    self.find((epoch, seq), code, message);
                }
            }
        }
        self.between_epochs(wholes);
        self.tail(wholes);
    }

    fn between_epochs(&mut self, wholes: &[Whole]) {
        let clocks = |w: &Whole| w.part.as_ref().and_then(|p| p.clocks).map(|c| (w.epoch, c));
        let mut clocks = wholes.iter().filter_map(clocks);
        let Some(mut before) = clocks.next() else { return };
        for next in clocks {
            let ((epoch, (_, last)), (next_epoch, (first, _))) = (before, next);
            let back = back_ns(last.clocks.wall_ns, first.clocks.wall_ns);
            if back > WALL_TOLERANCE_NS {
                let message = format!(
                    "record {} of epoch {next_epoch} is {} earlier than record {} of epoch {epoch}",
                    first.seq,
                    seconds(back),
                    last.seq
                );
                self.find((next_epoch, first.seq), Code::TimeRegression, message);
            }
            before = next;
        }
    }

    /// The end of the newest epoch.
    fn tail(&mut self, wholes: &[Whole]) {
        let Some(whole) = wholes.last() else { return };
        let Some(part) = &whole.part else { return };
        let (epoch, last) = (whole.epoch, part.last);
        let is_closed = whole.control.closes.contains(&last);
        let signed = whole.control.last_head.map_or(part.first, |head| head + 1);
        let tail = (last + 1).saturating_sub(signed).saturating_sub(u64::from(is_closed));
        if tail > 0 {
            self.unchecked.of_sources.push(format!(
                "the last {tail} records of epoch {epoch} of `{}`: no head signs them yet",
                self.name
            ));
        }
        let Some(until) = self.end.archived_until_ns.filter(|_| !is_closed && !self.end.ranged) else {
            return;
        };
        let Some((_, at)) = part.clocks.filter(|_| whole.last == last) else { return };
        let silence = back_ns(until, at.clocks.wall_ns);
        if silence > MAX_TAIL_NS {
            let message = format!(
                "record {} of epoch {epoch} is the last one, {} before the end of the archive, and does not \
                 close the epoch: expected a heartbeat after 60 s",
                at.seq,
                seconds(silence)
            );
            self.find((epoch, at.seq), Code::TailSilent, message);
        }
    }
}

fn describe(epoch: u64, seq: u64, flaw: &Flaw) -> (Code, String) {
    let of = format!("record {seq} of epoch {epoch}");
    match flaw {
        Flaw::Break { leaf, prev } => (
            Code::ChainBreak,
            format!("{of} says that the hash of the record before it is `{prev}`: that record has `{leaf}`"),
        ),
        Flaw::NotFirst => (
            Code::ChainBreak,
            format!("{of} says that there is a record before it: expected zeros in `prev`"),
        ),
        Flaw::MonoBack(ns) => {
            (Code::TimeRegression, format!("the monotonic clock of {of} runs back by {}", seconds(*ns)))
        }
        Flaw::WallBack(ns) => {
            (Code::TimeRegression, format!("the wall clock of {of} runs back by {}", seconds(*ns)))
        }
        Flaw::Silent(ns) => (
            Code::TailSilent,
            format!("{of} comes {} after the one before: expected a heartbeat after 60 s", seconds(*ns)),
        ),
        Flaw::Headless(stretch) => (
            Code::TailSilent,
            format!(
                "up to {of}, {} records in {} have no head: expected one after 256 records or 1 s",
                stretch.records,
                seconds(stretch.active_ns)
            ),
        ),
        Flaw::Root => (
            Code::Fork,
            format!("{of} is a head over other records than those before it, which link up: two histories"),
        ),
    }
}
