//! Numbers that producers give their records, and those that are missing (`GAP`): per HSM by reboot counter
//! and sequence, per key-operation source by epoch and seq.
//!
//! What lies before the first and behind the last record of a stream is no gap. An HSM starts at 0 with
//! each reboot, and its counter goes on by one: what a reboot skips is missing, and where a whole counter
//! is, nobody knows how much.
//! In: positions, or runs of them. Out: [`Gap`]s. Memory is one run for records that follow each other, and
//! at worst one for each record.

use std::collections::BTreeMap;
use std::fmt;

use keytrail_ledger::{Code, Finding};
use keytrail_normalize::Format;
use keytrail_normalize::sequence::Position;

/// First number of a run -> its last one; no two touch.
type Runs = BTreeMap<i64, i64>;

/// The numbers that were seen.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sequences {
    /// Format -> source -> epoch or reboot counter -> runs.
    streams: BTreeMap<Format, BTreeMap<String, BTreeMap<i64, Runs>>>,
}

/// Numbers that are missing between two that were seen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Gap {
    /// What kind of record it is.
    pub format: Format,
    /// The chain's source, or the HSM.
    pub source: String,
    /// What is missing of it.
    pub missing: Missing,
}

/// What is missing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Missing {
    /// Records.
    Numbers {
        /// Epoch or reboot counter.
        epoch: i64,
        /// First number.
        first: i64,
        /// Last number.
        last: i64,
    },
    /// All records between two reboots, however many there were.
    Epochs {
        /// First reboot counter.
        first: i64,
        /// Last reboot counter.
        last: i64,
    },
}

impl Sequences {
    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes a record's position.
    pub fn add(&mut self, position: &Position<'_>) {
        self.add_run(position.format, &position.source, position.epoch, (position.seq, position.seq));
    }

    /// Takes records that are contiguous from the first number to the last.
    pub fn add_run(&mut self, format: Format, source: &str, epoch: i64, run: (i64, i64)) {
        let sources = self.streams.entry(format).or_default();
        if !sources.contains_key(source) {
            sources.insert(source.to_owned(), BTreeMap::new());
        }
        let Some(epochs) = sources.get_mut(source) else { return };
        insert(epochs.entry(epoch).or_default(), run);
    }

    /// Takes all that others saw.
    pub fn merge(&mut self, other: Self) {
        for (format, sources) in other.streams {
            for (source, epochs) in sources {
                for (epoch, runs) in epochs {
                    runs.into_iter().for_each(|run| self.add_run(format, &source, epoch, run));
                }
            }
        }
    }

    /// All runs: format, source, epoch or reboot counter, first and last number.
    pub fn runs(&self) -> impl Iterator<Item = (Format, &str, i64, (i64, i64))> {
        self.streams.iter().flat_map(|(format, sources)| {
            sources.iter().flat_map(move |(source, epochs)| {
                epochs.iter().flat_map(move |(epoch, runs)| {
                    runs.iter().map(move |(first, last)| (*format, source.as_str(), *epoch, (*first, *last)))
                })
            })
        })
    }

    /// What is missing, in order of format, source and number.
    pub fn gaps(&self) -> impl Iterator<Item = Gap> {
        self.streams.iter().flat_map(|(format, sources)| {
            sources.iter().flat_map(|(source, epochs)| {
                missing(*format, epochs).map(|missing| Gap {
                    format: *format,
                    source: source.clone(),
                    missing,
                })
            })
        })
    }

    /// Whether a gap lies between records that were seen here.
    pub fn surround(&self, gap: &Gap) -> bool {
        let Some(epochs) = self.streams.get(&gap.format).and_then(|s| s.get(&gap.source)) else {
            return false;
        };
        let before = |epoch: i64| epochs.range(..epoch).next().is_some();
        match gap.missing {
            Missing::Epochs { first, last } => before(first) && epochs.range(last..).next().is_some(),
            Missing::Numbers { epoch, first, last } => epochs.get(&epoch).is_some_and(|runs| {
                let starts = runs.keys().next().is_some_and(|start| *start < first);
                let rebooted = gap.format == Format::CloudHsm && before(epoch);
                (starts || rebooted) && runs.values().next_back().is_some_and(|end| *end > last)
            }),
        }
    }

    /// Gaps that lie not between what was seen before, of which this is a continuation.
    pub fn new_gaps(&self, before: &Self) -> impl Iterator<Item = Gap> {
        self.gaps().filter(|gap| !before.surround(gap))
    }
}

/// Puts a run among others; those that it meets become one with it.
fn insert(runs: &mut Runs, (mut first, mut last): (i64, i64)) {
    if let Some((&start, &end)) = runs.range(..=first).next_back()
        && end >= first.saturating_sub(1)
    {
        (first, last) = (start, last.max(end));
    }
    while let Some((&start, &end)) = runs.range(first..=last.saturating_add(1)).next() {
        runs.remove(&start);
        last = last.max(end);
    }
    runs.insert(first, last);
}

fn missing(format: Format, epochs: &BTreeMap<i64, Runs>) -> impl Iterator<Item = Missing> {
    let mut before: Option<i64> = None;
    epochs.iter().flat_map(move |(&epoch, runs)| {
        let earlier = before.replace(epoch).filter(|_| format == Format::CloudHsm);
        let skipped = earlier
            .filter(|earlier| *earlier < epoch - 1)
            .map(|earlier| Missing::Epochs { first: earlier + 1, last: epoch - 1 });
        // A stream's first number of all may be any; after a reboot it is 0.
        let expected = earlier.map(|_| 0);
        skipped.into_iter().chain(
            runs.iter()
                .scan(expected, move |expected, (&first, &last)| {
                    let gap = expected.filter(|e| *e < first).map(|e| Missing::Numbers {
                        epoch,
                        first: e,
                        last: first - 1,
                    });
                    *expected = last.checked_add(1);
                    Some(gap)
                })
                .flatten(),
        )
    })
}

impl Gap {
    /// As `verify` tells it.
    pub fn finding(&self) -> Finding {
        Finding::new(Code::Gap, format!("{} {}", self.format.dataset(), self.source), self.to_string())
    }
}

impl fmt::Display for Gap {
    /// What is missing: numbers of an HSM in hexadecimal, as its log has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hsm = self.format == Format::CloudHsm;
        let number = |n: i64| if hsm { format!("{n:#x}") } else { n.to_string() };
        match self.missing {
            Missing::Epochs { first, last } => {
                let first_to_last = if first == last {
                    number(first)
                } else {
                    format!("{} to {}", number(first), number(last))
                };
                write!(f, "no record of reboot counter {first_to_last}: how many are missing is not known")
            }
            Missing::Numbers { epoch, first, last } => {
                let of = if hsm { "reboot counter" } else { "epoch" };
                let (epoch, count) = (number(epoch), i128::from(last) - i128::from(first) + 1);
                if first == last {
                    write!(f, "record {} of {of} {epoch} is missing", number(first))
                } else {
                    write!(
                        f,
                        "records {} to {} of {of} {epoch} are missing, {count}",
                        number(first),
                        number(last)
                    )
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(format: Format, runs: &[(i64, i64, i64)]) -> Sequences {
        let mut all = Sequences::default();
        for (epoch, first, last) in runs {
            all.add_run(format, "a", *epoch, (*first, *last));
        }
        all
    }

    fn told(sequences: &Sequences) -> Vec<String> {
        sequences.gaps().map(|g| g.to_string()).collect()
    }

    #[test]
    fn only_what_lies_between_is_missing() {
        use Format::KeyOperation;
        assert_eq!(told(&seen(KeyOperation, &[(3, 5, 9), (3, 2, 4), (7, 100, 100)])), Vec::<String>::new());
        assert_eq!(
            told(&seen(KeyOperation, &[(3, 5, 5), (3, 1, 1), (3, 7, 9), (4, 3, 3)])),
            ["records 2 to 4 of epoch 3 are missing, 3", "record 6 of epoch 3 is missing"]
        );
        let ends = seen(KeyOperation, &[(i64::MAX, i64::MAX, i64::MAX), (i64::MAX, 0, 0)]);
        assert_eq!(
            told(&ends),
            [format!("records 1 to {} of epoch {} are missing, {}", i64::MAX - 1, i64::MAX, i64::MAX - 1)]
        );
    }

    #[test]
    fn a_reboot_begins_at_zero_and_skips_no_counter() {
        use Format::CloudHsm;
        assert_eq!(told(&seen(CloudHsm, &[(0xe8, 29, 40), (0xe9, 0, 3)])), Vec::<String>::new());
        assert_eq!(
            told(&seen(CloudHsm, &[(0xe8, 29, 40), (0xe9, 2, 3), (0x107, 0, 0)])),
            [
                "records 0x0 to 0x1 of reboot counter 0xe9 are missing, 2",
                "no record of reboot counter 0xea to 0x106: how many are missing is not known",
            ]
        );
    }

    #[test]
    fn runs_join_in_any_order() {
        let mut numbers: Vec<i64> = (0..200).filter(|n| n % 7 != 3).collect();
        let mut sorted = Sequences::default();
        numbers.iter().for_each(|n| sorted.add_run(Format::KeyOperation, "a", 1, (*n, *n)));
        // As a hash would shuffle them.
        numbers.sort_by_key(|n| n * 7_919 % 211);
        let mut shuffled = Sequences::default();
        for n in &numbers {
            shuffled.add_run(
                Format::KeyOperation,
                "a",
                1,
                (*n, (*n + 1).min(n / 7 * 7 + if n % 7 < 3 { 2 } else { 6 })),
            );
        }
        assert_eq!(shuffled, sorted);
        assert_eq!(sorted.gaps().count(), 28);
        let mut merged = seen(Format::KeyOperation, &[(1, 3, 3)]);
        merged.merge(sorted.clone());
        assert_eq!((merged.gaps().count(), merged.new_gaps(&sorted).count()), (27, 0));
        merged.add_run(Format::KeyOperation, "a", 1, (300, 300));
        assert_eq!(merged.new_gaps(&sorted).count(), 1);
    }

    #[test]
    fn a_range_that_was_asked_for_answers_for_itself_alone() {
        let all = seen(Format::CloudHsm, &[(1, 0, 3), (1, 6, 9), (3, 4, 5)]);
        let gaps: Vec<Gap> = all.gaps().collect();
        let inside = |runs: &[(i64, i64, i64)]| {
            let seen = seen(Format::CloudHsm, runs);
            gaps.iter().map(|g| seen.surround(g)).collect::<Vec<_>>()
        };
        assert_eq!(inside(&[(1, 3, 3), (1, 6, 6)]), [true, false, false]);
        assert_eq!(inside(&[(1, 6, 9), (3, 5, 5)]), [false, true, true]);
        assert_eq!(inside(&[(3, 4, 5)]), [false, false, false]);
    }
}
