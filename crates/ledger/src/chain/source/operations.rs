//! Findings on operations: intents without outcome, outcomes without intent.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::control::printable;
use super::super::part::{Intent, close};
use super::{Source, Whole};
use crate::finding::Code;

/// So long an operation may take.
const IN_FLIGHT_NS: u64 = 600_000_000_000;

/// So long an epoch may take to say that nobody knows what came of operations before it.
const BEGINNING_NS: u64 = 60_000_000_000;

/// Intents without outcome: operation -> epoch and intent.
type Open = BTreeMap<Box<str>, Vec<(u64, Intent)>>;

impl Source<'_> {
    /// Pairs what was open at the end of each epoch with what later ones say.
    pub(super) fn operations(&mut self, wholes: Vec<Whole>) {
        let mut open = Open::new();
        let mut unpaired: Vec<(u64, u64, Box<str>)> = Vec::new();
        let mut opaque: Vec<(u64, u64, u64)> = Vec::new();
        let newest = wholes.last().map(|w| {
            let end_ns = w.part.as_ref().and_then(|p| p.clocks).map(|(_, at)| at.clocks.mono_ns);
            (w.epoch, end_ns.filter(|_| w.control.closes.is_empty()))
        });
        for whole in wholes {
            let epoch = whole.epoch;
            opaque.extend(whole.holes.filled.iter().map(|(first, last)| (epoch, *first, *last)));
            let Some(part) = whole.part else { continue };
            opaque.extend(part.opaque.iter().map(|(first, last)| (epoch, *first, *last)));
            for (id, seq) in part.operations.closed {
                if !close(&mut open, &id) {
                    unpaired.push((epoch, seq, id));
                }
            }
            for (id, intents) in part.operations.open {
                open.entry(id).or_default().extend(intents.into_iter().map(|intent| (epoch, intent)));
            }
        }
        if self.complete && opaque.is_empty() {
            for (epoch, seq, id) in unpaired {
                let message = format!(
                    "record {seq} of epoch {epoch} is an outcome of the operation `{}`, which has no intent \
                     without outcome",
                    printable(&id)
                );
                self.find((epoch, seq), Code::OrphanIntent, message);
            }
        } else {
            self.unchecked.outcomes += unpaired.len() as u64;
        }
        self.open(open, opaque, newest);
    }

    /// Intents without outcome, the newest first: as many as there are records behind them that may be
    /// anything may have one.
    fn open(&mut self, open: Open, mut opaque: Vec<(u64, u64, u64)>, newest: Option<(u64, Option<u64>)>) {
        let mut intents: Vec<(u64, Intent, Box<str>)> = open
            .into_iter()
            .flat_map(|(id, at)| at.into_iter().map(move |(epoch, intent)| (epoch, intent, id.clone())))
            .collect();
        intents.sort_by_key(|(epoch, intent, _)| Reverse((*epoch, intent.seq)));
        opaque.sort();
        let mut spare = 0u64;
        for (epoch, intent, id) in intents {
            let seq = intent.seq;
            if let Some((newest, Some(end_ns))) = newest
                && match intent.mono_ns {
                    Some(ns) if newest == epoch => end_ns.saturating_sub(ns) < IN_FLIGHT_NS,
                    _ => end_ns < BEGINNING_NS,
                }
            {
                self.unchecked.in_flight += 1;
                continue;
            }
            while let Some((_, first, last)) = opaque.pop_if(|(e, first, _)| (*e, *first) > (epoch, seq)) {
                spare = spare.saturating_add(last - first + 1);
            }
            if spare > 0 {
                spare -= 1;
                self.unchecked.intents += 1;
            } else {
                let message =
                    format!("record {seq} of epoch {epoch}, operation `{}`, has no outcome", printable(&id));
                self.find((epoch, seq), Code::OrphanIntent, message);
            }
        }
    }
}
