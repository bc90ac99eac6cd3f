//! Runs of chained records (INTEGRITY section 4): what a manifest's detail says of the sources whose
//! records carry epoch, seq and prev.

use std::collections::BTreeMap;

use keytrail_model::manifest::RunItem;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::row::{Encoded, Row, columns, text};
use keytrail_model::{Column, Hash};

/// Runs that are contiguous in seq, by source and epoch.
#[derive(Default, Debug)]
pub(crate) struct Chains {
    /// (source, epoch) -> first seq -> the run.
    runs: BTreeMap<(String, i64), BTreeMap<i64, Run>>,
}

#[derive(Debug)]
struct Run {
    first_prev: String,
    last_seq: i64,
    last_hash: Hash,
}

impl Chains {
    /// Takes a row; one without a chain is none of ours.
    pub fn add(&mut self, row: Row<'_>) {
        if !row.head.chained {
            return;
        }
        let Some(source) = text(row.columns, Column::KeytrailLedgerSource) else { return };
        let (mut epoch, mut seq, mut prev) = (None, None, None);
        for (column, value) in columns(row.columns) {
            match (column, value) {
                (Column::KeytrailLedgerEpoch, Encoded::Int(n)) => epoch = Some(n),
                (Column::KeytrailLedgerSeq, Encoded::Int(n)) => seq = Some(n),
                (Column::KeytrailLedgerPrev, Encoded::Text(t)) => prev = Some(t),
                _ => {}
            }
        }
        let (Some(epoch), Some(seq)) = (epoch, seq) else { return };
        let runs = self.runs.entry((source.to_owned(), epoch)).or_default();
        // A number that is used twice is a conflict of its events; the run that holds it stays whole.
        if runs.range(..=seq).next_back().is_some_and(|(_, run)| seq <= run.last_seq) {
            return;
        }
        let last_hash = leaf_hash(row.original);
        let mut run = Run { first_prev: prev.unwrap_or_default().to_owned(), last_seq: seq, last_hash };
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

    /// Hands the runs over, in order of source, epoch and seq.
    pub fn take(&mut self) -> Vec<RunItem> {
        let runs = std::mem::take(&mut self.runs);
        runs.into_iter()
            .flat_map(|((source, epoch), runs)| {
                runs.into_iter().map(move |(first_seq, r)| RunItem {
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
    use keytrail_model::row::{Content, Provenance};
    use keytrail_model::{AuditEvent, RowBuffer};

    use super::*;

    fn rows(records: &[(i64, &str)]) -> RowBuffer {
        let mut rows = RowBuffer::new();
        for (seq, original) in records {
            let mut e = AuditEvent::new("keytrail.key_operation", "keytrail");
            e.text(Column::KeytrailLedgerSource, "hsm-1");
            e.int(Column::KeytrailLedgerEpoch, 3);
            e.int(Column::KeytrailLedgerSeq, *seq);
            e.text(Column::KeytrailLedgerPrev, format!("prev-{seq}"));
            rows.push(&e, original.as_bytes(), Content::AsIs, Provenance { input: 0, offset: 0 });
        }
        rows
    }

    #[test]
    fn runs_join_in_any_order() {
        let rows = rows(&[(5, "5"), (0, "0"), (2, "2"), (1, "1"), (7, "7"), (6, "6")]);
        let mut chains = Chains::default();
        rows.rows().for_each(|r| chains.add(r));
        let runs: Vec<_> =
            chains.take().into_iter().map(|r| (r.first_seq, r.first_prev, r.last_seq, r.last_hash)).collect();
        assert_eq!(
            runs,
            [(0, "prev-0".into(), 2, leaf_hash(b"2")), (5, "prev-5".to_owned(), 7, leaf_hash(b"7"))]
        );
        assert!(chains.take().is_empty());
    }

    #[test]
    fn a_number_used_twice_shortens_no_run() {
        let rows =
            rows(&[(0, "0"), (1, "1"), (2, "2"), (0, "other 0"), (1, "other 1"), (2, "other 2"), (3, "3")]);
        let mut chains = Chains::default();
        rows.rows().for_each(|r| chains.add(r));
        let runs: Vec<_> =
            chains.take().into_iter().map(|r| (r.first_seq, r.last_seq, r.last_hash)).collect();
        assert_eq!(runs, [(0, 3, leaf_hash(b"3"))]);
    }
}
