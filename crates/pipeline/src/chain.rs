//! Runs of numbered records (INTEGRITY section 4): what a manifest's detail says of the sources whose
//! records carry epoch, seq and prev, and of HSMs, whose records are numbered and not chained.

use std::collections::BTreeMap;

use keytrail_model::Hash;
use keytrail_model::manifest::RunItem;
use keytrail_model::merkle::leaf_hash;
use keytrail_normalize::Format;
use keytrail_normalize::sequence::Position;

/// Runs that are contiguous in seq, by source and epoch.
#[derive(Default, Debug)]
pub(crate) struct Chains {
    /// (format, source, epoch) -> first seq -> the run.
    runs: BTreeMap<(Format, String, i64), BTreeMap<i64, Run>>,
}

#[derive(Debug)]
struct Run {
    first_prev: String,
    last_seq: i64,
    last_hash: Hash,
}

impl Chains {
    /// Takes a record, archived or refused.
    pub fn add(&mut self, position: Position<'_>, original: &[u8]) {
        let Position { format, source, epoch, seq, prev, leaf } = position;
        let runs = self.runs.entry((format, source.into_owned(), epoch)).or_default();
        // A number that is used twice is a conflict of its events; the run that holds it stays whole.
        if runs.range(..=seq).next_back().is_some_and(|(_, run)| seq <= run.last_seq) {
            return;
        }
        let mut run = Run {
            first_prev: prev.into_owned(),
            last_seq: seq,
            last_hash: leaf.unwrap_or_else(|| leaf_hash(original)),
        };
        let mut first = seq;
        if let Some((&before, r)) = runs.range(..seq).next_back()
            && r.last_seq == seq - 1
            && let Some(r) = runs.remove(&before)
        {
            (first, run.first_prev) = (before, r.first_prev);
        }
        if let Some(after) = seq.checked_add(1).and_then(|next| runs.remove(&next)) {
            (run.last_seq, run.last_hash) = (after.last_seq, after.last_hash);
        }
        runs.insert(first, run);
    }

    /// Hands the runs over, in order of dataset, source, epoch and seq.
    pub fn take(&mut self) -> Vec<RunItem> {
        let runs = std::mem::take(&mut self.runs);
        runs.into_iter()
            .flat_map(|((format, source, epoch), runs)| {
                runs.into_iter().map(move |(first_seq, r)| RunItem {
                    dataset: format.dataset().to_owned(),
                    epoch,
                    first_prev: r.first_prev,
                    first_seq,
                    last_hash: r.last_hash,
                    last_seq: r.last_seq,
                    source: source.clone(),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(numbers: &[(i64, &str)]) -> Vec<(i64, String, i64, Hash)> {
        let mut chains = Chains::default();
        for (seq, original) in numbers {
            let prev = format!("prev-{seq}").into();
            let position = Position {
                format: Format::KeyOperation,
                source: "hsm-1".into(),
                epoch: 3,
                seq: *seq,
                prev,
                leaf: None,
            };
            chains.add(position, original.as_bytes());
        }
        let runs = chains.take().into_iter();
        assert!(chains.take().is_empty());
        runs.map(|r| (r.first_seq, r.first_prev, r.last_seq, r.last_hash)).collect()
    }

    #[test]
    fn runs_join_in_any_order() {
        assert_eq!(
            runs(&[(5, "5"), (0, "0"), (2, "2"), (1, "1"), (7, "7"), (6, "6")]),
            [(0, "prev-0".into(), 2, leaf_hash(b"2")), (5, "prev-5".to_owned(), 7, leaf_hash(b"7"))]
        );
    }

    #[test]
    fn a_number_used_twice_shortens_no_run() {
        let numbers =
            [(0, "0"), (1, "1"), (2, "2"), (0, "other 0"), (1, "other 1"), (2, "other 2"), (3, "3")];
        assert_eq!(runs(&numbers), [(0, "prev-0".to_owned(), 3, leaf_hash(b"3"))]);
    }
}
