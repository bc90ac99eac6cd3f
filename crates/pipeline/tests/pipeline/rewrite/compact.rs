//! Small objects become one.

use std::sync::atomic::AtomicBool;

use keytrail_adapters::memory::{Fault, Faults, Faulty};
use keytrail_archive::StoredRow;
use keytrail_model::{Column, Fatal, Manifest};
use keytrail_pipeline::compact::{self, Compacted};
use keytrail_ports::{BlobStore, CheckpointStore};

use super::{codes, events, forge, inputs, manifests, set_column, set_rows, settled, size, trail_of};
use crate::memory::{Memory, TARGET};

fn compact(trail: &Memory) -> Result<Compacted, Fatal> {
    compact_with(trail, &trail.store, &trail.lock)
}

fn compact_with(
    trail: &Memory,
    store: &dyn BlobStore,
    lock: &dyn CheckpointStore,
) -> Result<Compacted, Fatal> {
    trail.with(store, lock, |t| compact::compact(t, TARGET, 1, &AtomicBool::new(false)).map(|(_, done)| done))
}

#[test]
fn small_objects_become_one_and_a_replay_adds_nothing() {
    let trail = trail_of(4);
    let before = events(&trail);
    assert_eq!(before.len(), 8);
    let compacted = trail.run(&inputs(4, 5)).unwrap().compacted;
    assert_eq!((compacted.replaced.0, compacted.made.0, compacted.rows), (5, 1, 10));
    settled(&trail, "compacted");
    assert_eq!(trail.store.list("archive/").unwrap().len(), 1);
    let after = size(&trail);
    assert!(compact(&trail).unwrap().is_nothing());
    let total = trail.run(&inputs(0, 5)).unwrap().total;
    assert_eq!((total.accepted, total.duplicates), (0, 10));
    assert_eq!(size(&trail), after);
    // Late events of that day, until it pays again: what was made of others is made into one of more.
    for i in 5..30 {
        trail.run(&inputs(i, i + 1)).unwrap();
    }
    settled(&trail, "late events");
    let readable = trail.readable(size(&trail));
    assert!(readable.objects().count() < 8 && readable.objects().any(|o| o.rows.count > 20));
    assert_eq!(events(&trail).len(), 60);
    assert!(before.is_subset(&events(&trail)));
}

#[test]
fn a_compaction_killed_at_any_write_loses_and_doubles_nothing() {
    let expected = {
        let trail = trail_of(5);
        settled(&trail, "undisturbed");
        events(&trail)
    };
    let before = trail_of(4);
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::NotApplied, Fault::Applied] {
        let (mut at, mut unfinished) = (1, 0);
        loop {
            let trail = before.copy();
            let faults = Faults::new(at, fault);
            let (store, lock): (&dyn BlobStore, &dyn CheckpointStore) = (&trail.store, &trail.lock);
            let (store, lock) = (Faulty::new(store, &faults), Faulty::new(lock, &faults));
            let killed = trail.run_with(&store, &lock, &inputs(4, 5));
            if faults.writes() < at {
                killed.unwrap();
                break;
            }
            let what = format!("{fault:?} at {at}");
            // What was left behind is said, and nothing else is wrong.
            for finding in trail.verify().findings {
                assert_eq!(finding.code.as_str(), "FILE_UNLISTED", "{what}: {finding}");
                unfinished += u64::from(finding.message.contains("left behind"));
            }
            trail.run(&inputs(4, 5)).unwrap();
            settled(&trail, &what);
            assert_eq!(events(&trail), expected, "{what}");
            at += 1;
        }
        assert!(at > 30, "the run has only {at} writes");
        assert!(unfinished > 0, "no kill between seal and delete");
    }
}

#[test]
fn damaged_objects_are_left_alone() {
    let trail = trail_of(4);
    let key = trail.store.list("archive/").unwrap().remove(1);
    let mut bytes = trail.store.get(&key).unwrap().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    trail.store.replace(&key, &bytes).unwrap();
    let compacted = trail.run(&inputs(4, 5)).unwrap().compacted;
    assert_eq!(compacted.replaced.0, 0);
    assert!(compacted.skipped[0].contains(&key), "{compacted:?}");
    assert_eq!(trail.store.list("archive/").unwrap().len(), 5);
    let found = trail.verify().findings;
    assert_eq!((found.len(), found[0].code.as_str()), (1, "OBJECT_MISMATCH"));
}

/// Appends a manifest of another trail, with what it names.
fn append(trail: &Memory, other: &Memory, manifest: &Manifest) {
    for key in [&manifest.detail.key, &manifest.object.as_ref().unwrap().key] {
        trail.store.replace(key, &other.store.get(key).unwrap().unwrap()).unwrap();
    }
    trail.with(&trail.store, &trail.lock, |t| t.log().append(None, &[manifest.to_bytes()])).unwrap();
}

/// Two writers archived the same events before either was sealed.
#[test]
fn copies_of_two_writers_become_one() {
    let (trail, other) = (trail_of(4), Memory::new());
    other.run(&[inputs(2, 3), inputs(9, 10)].concat()).unwrap();
    append(&trail, &other, &manifests(&other)[0]);
    let dup = codes(&trail);
    assert!(dup.len() == 2 && dup.iter().all(|f| f.starts_with("DUP ")), "{dup:#?}");

    let compacted = compact(&trail).unwrap();
    assert_eq!((compacted.replaced.0, compacted.rows, compacted.dropped), (5, 10, 2));
    settled(&trail, "without copies");
    assert_eq!(events(&trail).len(), 10);
    // A second level: the copies stay proven.
    for i in 10..14 {
        trail.run(&inputs(i, i + 1)).unwrap();
    }
    settled(&trail, "compacted again");
}

/// As before, by two versions: the copies are not alike, so both stay, and are named. The trail goes on.
#[test]
fn copies_that_differ_stay_and_stop_nothing() {
    let (trail, other) = (trail_of(4), Memory::new());
    other.run(&[inputs(2, 3), inputs(9, 10)].concat()).unwrap();
    let other = forge(&other, |manifests, store| {
        let outcome = |row: &StoredRow<'_>, push: &mut super::Push<'_>| {
            set_column(row, Column::EventOutcome, "unknown", push);
        };
        set_rows(store, &mut manifests[0], &mut { outcome });
    });
    append(&trail, &other, &manifests(&other)[0]);
    let compacted = compact(&trail).unwrap();
    assert_eq!((compacted.replaced.0, compacted.rows, compacted.dropped), (5, 12, 0));
    let dup = codes(&trail);
    assert!(dup.len() == 2 && dup.iter().all(|f| f.starts_with("DUP ")), "{dup:#?}");
    let total = trail.run(&inputs(0, 12)).unwrap().total;
    assert_eq!((total.accepted, total.duplicates), (14, 10));
}

/// Somebody who has no key puts an object without original bytes where the next one will go: whoever would
/// take it for theirs would lose the bytes. Nothing is sealed, nothing is replaced, and the next run clears it away.
#[test]
fn an_object_without_originals_is_taken_for_nobodys() {
    let plant = |from: &Memory, to: &Memory, manifest: &Manifest| {
        let mut planted = manifest.clone();
        let bytes = forge(from, |_, store| {
            set_rows(store, &mut planted, &mut |row, push| push(&StoredRow { original: None, ..*row }));
        });
        let key = &planted.object.as_ref().unwrap().key;
        assert_eq!(*key, manifest.object.as_ref().unwrap().key, "the name is the same");
        to.store.replace(key, &bytes.store.get(key).unwrap().unwrap()).unwrap();
    };
    // An object of new rows.
    let (trail, other) = (trail_of(1), Memory::new());
    other.run(&inputs(7, 8)).unwrap();
    plant(&other, &trail, &manifests(&other)[0]);
    let refused = trail.run(&inputs(7, 8)).unwrap_err();
    assert_eq!(refused.code, "Fatal.ObjectConflict");
    assert!(refused.message.contains("without the original bytes"), "{}", refused.message);
    assert_eq!(trail.run(&inputs(7, 8)).unwrap().total.accepted, 2);
    settled(&trail, "new rows");
    // One of others.
    let trail = trail_of(4);
    let after = trail.copy();
    after.run(&inputs(4, 5)).unwrap();
    plant(&after, &trail, manifests(&after).last().unwrap());
    assert_eq!(trail.run(&inputs(4, 5)).unwrap_err().code, "Fatal.ObjectConflict");
    trail.run(&inputs(4, 5)).unwrap();
    settled(&trail, "compacted");
    assert_eq!(events(&trail), events(&after));
}
