//! The main job over stores in memory: what one run leaves for the next, also when it was killed.

use std::collections::{BTreeMap, BTreeSet};

use keytrail_adapters::memory::{Fault, Faults, Faulty, MemoryCheckpoint};
use keytrail_pipeline::explain;
use keytrail_pipeline::input::Input;
use keytrail_ports::{BlobStore, CheckpointStore};

use crate::memory::{Memory, input, keyless};

#[test]
fn a_second_copy_without_a_key_comes_in_a_later_run() {
    let trail = Memory::new();
    assert_eq!(trail.run(&[input("one", keyless(1))]).unwrap().total.accepted, 1);
    // The first of the two is the one that is there, the second another event of the same bytes.
    let total = trail.run(&[input("two", keyless(1) + &keyless(1))]).unwrap().total;
    assert_eq!((total.accepted, total.duplicates), (1, 1));
    assert_eq!(trail.verify().failures().count(), 0);
}

/// A trail and a batch of inputs for which every kind of file is written.
fn inputs() -> Vec<Input> {
    vec![
        input("a", keyless(1) + &keyless(2) + "{\"broken\n"),
        input("b", "no json at all\n".to_owned() + &keyless(2) + &keyless(3)),
    ]
}

#[test]
fn a_run_killed_at_any_write_loses_and_doubles_nothing() {
    let whole = Memory::new();
    whole.run(&[input("before", keyless(9))]).unwrap();
    let size = whole.run(&inputs()).unwrap().checkpoint.size;
    let (rows, named) = (whole.rows(size), whole.named(size));
    assert_eq!((rows, named.len()), (4, 2));
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::NotApplied, Fault::Applied] {
        let mut at = 1;
        loop {
            let trail = Memory::new();
            trail.run(&[input("before", keyless(9))]).unwrap();
            let faults = Faults::new(at, fault);
            let (store, lock): (&dyn BlobStore, &dyn CheckpointStore) = (&trail.store, &trail.lock);
            let killed = trail.run_with(&Faulty::new(store, &faults), &Faulty::new(lock, &faults), &inputs());
            if faults.writes() < at {
                killed.unwrap();
                break;
            }
            let after = trail.run(&inputs()).unwrap();
            let size = after.checkpoint.size;
            assert_eq!((trail.rows(size), trail.named(size)), (rows, named.clone()), "{fault:?} {at}");
            let report = trail.verify();
            assert_eq!(report.findings, [], "{fault:?} {at}");
            at += 1;
        }
        assert!(at > 10, "the run has only {at} writes");
    }
}

#[test]
fn an_archive_whose_log_is_gone_is_not_swept() {
    let trail = Memory::new();
    trail.run(&[input("a", keyless(1))]).unwrap();
    let archive = trail.store.list("archive/").unwrap();
    for key in trail.store.list("log/").unwrap() {
        trail.store.delete(&key).unwrap();
    }
    let trail = Memory { lock: MemoryCheckpoint::new(), ..trail };
    let e = trail.run(&[input("b", keyless(2))]).unwrap_err();
    assert_eq!(e.code, "Fatal.LogMissing");
    assert!(e.message.contains(&archive[0]) && e.message.contains("restore"), "{}", e.message);
    assert_eq!(trail.store.list("archive/").unwrap(), archive);
}

#[test]
fn what_is_no_quarantine_entry_is_never_sealed() {
    let trail = Memory::new();
    trail.run(&[input("a", keyless(1))]).unwrap();
    trail.store.put_if_absent("quarantine/README", b"not by keytrail").unwrap();
    trail.store.delete("state/clean").unwrap();
    let size = trail.run(&[input("b", keyless(2))]).unwrap().checkpoint.size;
    assert_eq!(trail.named(size), BTreeMap::new());
    trail.store.delete("quarantine/README").unwrap();
    assert_eq!(trail.verify().findings, []);
}

#[test]
fn many_small_inputs_are_sealed_in_parts() {
    let trail = Memory::new();
    let inputs: Vec<Input> = (0..20_001).map(|i| input("n", format!("{i}"))).collect();
    let inputs: Vec<Input> = inputs.into_iter().chain([input("a", keyless(1))]).collect();
    let size = trail.run(&inputs).unwrap().checkpoint.size;
    let largest = trail.readable(size).details.values().map(|d| d.count).max().unwrap();
    assert!(largest <= 20_001, "{largest} items in one detail object");
}

/// Vault names no instance: two audit devices tell the same request in two ways, and neither is wrong.
#[test]
fn sources_that_are_not_judged_have_no_conflicts() {
    let line = |salt: u32, i: u32| {
        format!(
            r#"{{"time":"2023-02-09T10:22:01.5Z","type":"request","auth":{{"client_token":"hmac-sha256:{salt}"}},"request":{{"id":"0f9b0d9a-0000-0000-0000-{i:012}","operation":"read","path":"transit/keys/a"}}}}
"#
        )
    };
    let device = |salt| (0..10_100).map(|i| line(salt, i)).collect::<String>();
    let trail = Memory::new();
    let total = trail.run(&[input("one", device(1)), input("two", device(2))]).unwrap().total;
    assert_eq!((total.accepted, total.conflicts, total.variants), (20_200, 0, 0));
}

#[test]
fn a_changed_event_is_not_explained_as_proven() {
    let trail = Memory::new();
    let head = trail.run(&[input("a", keyless(1))]).unwrap().checkpoint;
    let readable = trail.readable(head.size);
    let explained = explain::explain(&trail.store, &readable, &head, "").unwrap();
    assert!(explained.event.original.is_some_and(|o| o.starts_with(b"{\"eventVersion\"")));

    // Another trail's object, whole in itself, under the name of this one's.
    let other = Memory::new();
    let theirs = other.run(&[input("a", keyless(1).replace("Decrypt", "Encrypt"))]).unwrap().checkpoint;
    let object = |m: &Memory, size| m.readable(size).objects().next().unwrap().object.key.clone();
    let bytes = other.store.get(&object(&other, theirs.size)).unwrap().unwrap();
    trail.store.replace(&object(&trail, head.size), &bytes).unwrap();
    let e = explain::explain(&trail.store, &readable, &head, "").unwrap_err();
    assert_eq!(e.code, "Fatal.ArchiveDamaged");
    assert!(e.message.contains("has other rows than were sealed"), "{}", e.message);
}

#[test]
fn runs_are_determined_by_inputs_clock_and_keys() {
    let files = |trail: &Memory| -> BTreeSet<(String, Vec<u8>)> {
        let all = trail.store.list("").unwrap();
        all.into_iter().map(|k| (k.clone(), trail.store.get(&k).unwrap().unwrap())).collect()
    };
    let (a, b) = (Memory::new(), Memory::new());
    a.run(&inputs()).unwrap();
    b.run(&inputs()).unwrap();
    assert_eq!(files(&a), files(&b));
}
