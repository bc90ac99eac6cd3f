//! The sorter against a sort in memory.

use std::collections::BTreeMap;

use keytrail_archive::Sorter;
use keytrail_archive::sort::{MAX_RUNS, THICK_ROWS};
use keytrail_model::{Day, Fatal, Partition, RowBuffer, Timestamp, Uid};
use proptest::prelude::*;

use crate::rows::{CLOUDTRAIL, Dice, push};

type Read = (Uid, Vec<u8>, Vec<u8>, u32, u64, bool);

/// What the sorter hands out, slice by slice; checks each slice's order and place.
#[derive(Default)]
struct Seen {
    slices: Vec<(Partition, Vec<Read>)>,
}

impl Seen {
    fn run(buffers: &[RowBuffer], budget_bytes: usize, folder: &std::path::Path) -> Self {
        let mut seen = Self::default();
        let mut out = |p: &Partition, rows: &[keytrail_model::Row<'_>]| -> Result<(), Fatal> {
            assert!(!rows.is_empty());
            assert!(rows.iter().all(|r| r.head.dataset == p.dataset && r.head.day == p.day));
            assert!(rows.is_sorted_by_key(|r| (r.head.sort_key(), r.head.input, r.head.offset)));
            let read = rows.iter().map(|r| {
                let h = r.head;
                assert_eq!(h.hash, keytrail_model::Hash::of(r.original));
                assert_eq!(Day::of(h.time), h.day);
                (h.uid, r.columns.to_vec(), r.original.to_vec(), h.input, h.offset, h.keyless)
            });
            seen.slices.push((p.clone(), read.collect()));
            Ok(())
        };
        let mut sorter = Sorter::new(folder, budget_bytes).unwrap();
        for b in buffers {
            sorter.push(b.clone(), &mut out).unwrap();
            assert!(sorter.held_bytes() < budget_bytes.max(1));
        }
        sorter.finish(&mut out).unwrap();
        assert_eq!(sorter.runs(), 0);
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "runs are deleted");
        seen
    }

    /// All rows by partition, each partition sorted.
    fn rows(&self) -> BTreeMap<Partition, Vec<Read>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (p, rows) in &self.slices {
            all.entry(p.clone()).or_default().extend(rows.clone());
        }
        all.values_mut().for_each(|r| r.sort());
        all
    }
}

fn shuffled(n: u64, days: u64, seed: u64) -> RowBuffer {
    let mut rows = RowBuffer::new();
    let mut dice = Dice(seed);
    for i in 0..n {
        let dataset = [CLOUDTRAIL, "vault.audit", "keytrail.operation"][dice.below(3) as usize];
        let day = 19_000 + dice.below(days).cast_signed();
        let time = match dice.below(20) {
            0 => None,
            1 => Some(Timestamp(-5)),
            _ => Some(Timestamp(day * 86_400_000_000 + dice.below(4).cast_signed())),
        };
        push(&mut rows, dataset, time, seed << 32 | i, format!("{i}").as_bytes());
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sorts_as_memory_does(
        sizes in prop::collection::vec(0u64..60, 1..8), days in 1u64..30, budget in 1usize..60_000, seed in 0u64..1000,
    ) {
        let buffers: Vec<_> = sizes.iter().zip(0..).map(|(n, i)| shuffled(*n, days, seed * 100 + i)).collect();
        let folder = tempfile::tempdir().unwrap();
        let spilled = Seen::run(&buffers, budget, folder.path());
        let held = Seen::run(&buffers, usize::MAX, folder.path());
        prop_assert_eq!(spilled.rows(), held.rows());
        // Nothing is thick here: each partition comes once, in order, whatever the budget.
        prop_assert!(spilled.slices == held.slices);
        prop_assert!(spilled.slices.is_sorted_by(|a, b| a.0 < b.0));
    }
}

#[test]
fn thick_partitions_go_out_at_once_and_thin_ones_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut buffers = vec![shuffled(2000, 300, 1)];
    let mut thick = RowBuffer::new();
    for i in 0..THICK_ROWS as u64 {
        push(&mut thick, CLOUDTRAIL, Some(Timestamp(19_400 * 86_400_000_000)), 1 << 50 | i, b"x");
    }
    buffers.push(thick);
    buffers.push(shuffled(500, 300, 2));
    let budget = buffers[0].bytes() + 1;
    let seen = Seen::run(&buffers, budget, folder.path());
    let first = &seen.slices[0];
    assert_eq!((first.0.day, first.1.len()), (Day::Dated(19_400), THICK_ROWS));
    assert!(seen.slices[1..].is_sorted_by(|a, b| a.0 < b.0));
    let again = Seen::run(&buffers, budget, folder.path());
    assert!(seen.slices == again.slices, "the same input gives the same slices");
    assert_eq!(seen.rows(), Seen::run(&buffers, usize::MAX, folder.path()).rows());
}

#[test]
fn many_runs_are_merged_in_passes() {
    let folder = tempfile::tempdir().unwrap();
    let buffers: Vec<_> = (0..2 * MAX_RUNS as u64 + 3).map(|i| shuffled(3, 50, i)).collect();
    let seen = Seen::run(&buffers, 1, folder.path());
    assert_eq!(seen.rows(), Seen::run(&buffers, usize::MAX, folder.path()).rows());
}

#[test]
fn what_a_killed_process_left_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("run-7.rows"), b"torn").unwrap();
    std::fs::write(folder.path().join("other"), b"kept").unwrap();
    Sorter::new(folder.path(), 1).unwrap();
    assert!(!folder.path().join("run-7.rows").exists());
    assert!(folder.path().join("other").exists());
}

#[test]
fn an_error_of_the_caller_stops_the_sorter() {
    let folder = tempfile::tempdir().unwrap();
    let mut sorter = Sorter::new(folder.path(), 1).unwrap();
    sorter.push(shuffled(10, 5, 1), &mut |_, _| Ok(())).unwrap();
    let e = sorter.finish(&mut |_, _| Err(Fatal::new("Fatal.Test", "stop"))).unwrap_err();
    assert_eq!(e.code, "Fatal.Test");
}
