//! Findings on how epochs follow each other, and on their keys.

use std::collections::BTreeMap;

use super::super::control::Last;
use super::super::epoch::at;
use super::{Source, Whole};
use crate::finding::Code;

impl Whole {
    /// Whether its last record is that one.
    fn ends_with(&self, last: &Last) -> bool {
        let of_record = self.part.as_ref().filter(|p| p.last == self.last).map(|p| p.last_leaf);
        last.seq == self.last
            && (of_record == Some(last.hash)
                || self.others.leaves.contains(&(last.seq, last.hash))
                || self.runs.ends.contains(&(last.seq, last.hash)))
    }

    /// Whether anything is known of the hash of its last record: a run may end it.
    fn last_is_known(&self) -> bool {
        self.part.as_ref().is_some_and(|p| p.last == self.last)
            || at(&self.runs.ends, self.last).next().is_some()
    }
}

impl Source<'_> {
    /// How epochs follow each other.
    pub(super) fn epochs(&mut self, wholes: &[Whole]) {
        // Epoch -> which other one continues it.
        let mut continued: BTreeMap<u64, u64> = BTreeMap::new();
        for (i, whole) in wholes.iter().enumerate() {
            self.key(whole);
            self.closes(whole);
            let epoch = whole.epoch;
            let earlier = &wholes[..i];
            let Some(opening) = &whole.control.opening else {
                self.complete = false;
                // What is wrong with it was said; what is missing, too.
                if !whole.control.opening_is_bad && !earlier.is_empty() {
                    self.unchecked.epochs_unlinked += 1;
                }
                continue;
            };
            let before = earlier.last().map(|w| w.epoch);
            let why = match (opening.last, before) {
                (None, None) => None,
                (None, Some(before)) => {
                    Some(format!("epoch {epoch} continues no other one, although epoch {before} is here"))
                }
                (Some(last), _) if last.epoch >= epoch => {
                    Some(format!("epoch {epoch} continues epoch {}, which is not before it", last.epoch))
                }
                (Some(last), None) => {
                    self.complete = false;
                    if !self.end.ranged {
                        self.unchecked.of_sources.push(format!(
                            "what lies before epoch {epoch} of `{}`, the first one that is here: it continues \
                             record {} of epoch {}",
                            self.name, last.seq, last.epoch
                        ));
                    }
                    None
                }
                (Some(last), Some(before)) => {
                    let other = continued.insert(last.epoch, epoch);
                    let found = earlier.binary_search_by_key(&last.epoch, |w| w.epoch);
                    follows(epoch, &last, before, found.ok().map(|at| &earlier[at]), other)
                }
            };
            if let Some(message) = why {
                self.complete = false;
                self.find((epoch, 0), Code::EpochUnlinked, message);
            }
        }
    }

    fn key(&mut self, whole: &Whole) {
        let Some(opening) = &whole.control.opening else { return };
        if self.keys.is_empty() {
            self.unchecked.keys += 1;
        } else if let Err(why) = opening.verify(self.name, whole.epoch, self.keys) {
            let message =
                format!("record 0 of epoch {}: nobody vouches for the key of the epoch: {why}", whole.epoch);
            self.find((whole.epoch, 0), Code::SigInvalid, message);
        }
    }

    fn closes(&mut self, whole: &Whole) {
        let (epoch, last) = (whole.epoch, whole.last);
        for seq in whole.control.closes.iter().filter(|seq| **seq < last) {
            let message =
                format!("record {seq} of epoch {epoch} closes the epoch: the last one here is {last}");
            self.find((epoch, *seq), Code::EpochUnlinked, message);
        }
    }
}

/// Why an epoch does not follow the one that it names, among those before it.
fn follows(
    epoch: u64,
    last: &Last,
    before: u64,
    found: Option<&Whole>,
    other: Option<u64>,
) -> Option<String> {
    let named = last.epoch;
    if let Some(other) = other {
        return Some(format!("epochs {other} and {epoch} both continue epoch {named}"));
    }
    let Some(found) = found else {
        return Some(format!(
            "epoch {epoch} continues epoch {named}, which is not here, although epoch {before} is"
        ));
    };
    if named < before {
        return Some(format!("epoch {epoch} continues epoch {named}, although epoch {before} is here"));
    }
    if found.ends_with(last) {
        return None;
    }
    Some(if last.seq != found.last {
        format!(
            "epoch {epoch} continues record {} of epoch {named}: the last one here is {}",
            last.seq, found.last
        )
    } else if found.last_is_known() {
        format!("epoch {epoch} continues record {} of epoch {named}, which has another hash here", last.seq)
    } else {
        return None;
    })
}
