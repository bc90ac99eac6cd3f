//! Every write of a rewrite fails once in every way: the same command again ends where an undisturbed one does.

use std::collections::BTreeSet;

use keytrail_adapters::memory::{Fault, Faults, Faulty};
use keytrail_model::Fatal;
use keytrail_ports::{BlobStore, CheckpointStore};

use super::{expire, for_each_row, renormalize, settled, size, trail_of, withhold};
use crate::memory::Memory;

/// What does it, over stores that may fail.
type Action = fn(&Memory, &dyn BlobStore, &dyn CheckpointStore) -> Result<(), Fatal>;

/// All that is readable of each row: uid, hash, columns, and whether it has its original.
fn rows(trail: &Memory) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for object in trail.readable(size(trail)).objects() {
        for_each_row(&trail.store, &object.object.key, &mut |row| {
            let what = format!("{} {:?} {:?} {}", row.uid, row.hash, row.columns, row.original.is_some());
            assert!(rows.insert(what), "twice: {}", row.uid);
        });
    }
    rows
}

/// Fails each write of `action` upon `before` in each way, and does it again.
fn fails_anywhere(before: &Memory, least_writes: u64, action: Action) {
    let undisturbed = before.copy();
    action(&undisturbed, &undisturbed.store, &undisturbed.lock).unwrap();
    settled(&undisturbed, "undisturbed");
    let (expected, told) = (rows(&undisturbed), super::codes(&undisturbed));
    assert_ne!(rows(before), expected, "it does something");
    assert!(!super::manifests(&undisturbed).last().unwrap().replaces.is_empty());
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::NotApplied, Fault::Applied] {
        let (mut at, mut left_behind) = (1, 0);
        loop {
            let trail = before.copy();
            let faults = Faults::new(at, fault);
            let (store, lock): (&dyn BlobStore, &dyn CheckpointStore) = (&trail.store, &trail.lock);
            let (store, lock) = (Faulty::new(store, &faults), Faulty::new(lock, &faults));
            let failed = action(&trail, &store, &lock);
            if faults.writes() < at {
                failed.unwrap();
                break;
            }
            let what = format!("{fault:?} at {at}");
            // What was left behind is said, and nothing else is wrong.
            for finding in trail.verify().failures() {
                assert_eq!(finding.code.as_str(), "FILE_UNLISTED", "{what}: {finding}");
                left_behind += u64::from(finding.message.contains("left behind"));
            }
            let unharmed = [rows(before), expected.clone()].contains(&rows(&trail));
            assert!(unharmed, "{what}: one seal is all or nothing");
            action(&trail, &trail.store, &trail.lock).unwrap();
            settled(&trail, &what);
            assert_eq!(rows(&trail), expected, "{what}");
            assert_eq!(super::codes(&trail).len(), told.len(), "{what}");
            at += 1;
        }
        assert!(at > least_writes, "it has only {at} writes");
        assert!(left_behind > 0, "no failure between seal and delete");
    }
}

#[test]
fn a_renormalization_that_fails_anywhere_is_finished_by_the_next() {
    fails_anywhere(&renormalize::older(3), 15, renormalize::all);
}

#[test]
fn a_withholding_that_fails_anywhere_is_finished_by_the_next() {
    // Of the first object, a row is withheld already.
    let trail = trail_of(3);
    fails_anywhere(&trail, 15, withhold::some);
}

#[test]
fn an_expiry_that_fails_anywhere_is_finished_by_the_next() {
    fails_anywhere(&expire::old(3), 12, expire::all);
}
