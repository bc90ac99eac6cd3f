//! Archiving and sealing by two who know nothing of each other.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keytrail_adapters::memory::{Fault, Faults, Faulty, ManualClock};
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::input::{Input, Limits};
use keytrail_pipeline::pending::{self, Archived, Batch, Done, Opened, RawObject, Sealed};
use keytrail_pipeline::{Options, Trail, compact, ingest};
use keytrail_ports::{
    BlobRead, BlobStore, CheckpointStore, ListedObject, ObjectName, RawObjects, StoreError,
};

use crate::memory::{Memory, TARGET, keyless};

/// A raw object in memory.
struct Text(Vec<u8>);

impl BlobRead for Text {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let at = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
}

pub fn options(threads: usize) -> Options {
    let limits = Limits::default();
    Options { ingest: ingest::Options { threads, format: None, limits }, object_bytes: TARGET }
}

fn name(key: &str) -> ObjectName {
    ObjectName { bucket: "raw".into(), key: key.into(), version: None }
}

fn input(key: &str, text: &str) -> Input {
    Input::object(&name(key), Some(Box::new(Text(text.as_bytes().to_vec()))))
}

fn batch(objects: &[(&str, String)]) -> Opened {
    let object = |(key, text): &(&str, String)| RawObject {
        bucket: "raw".into(),
        key: (*key).to_owned(),
        version: None,
        bytes: text.len() as u64,
    };
    let batch = Batch { batch: "b".into(), objects: objects.iter().map(object).collect(), from: 0 };
    let inputs = objects.iter().map(|(key, text)| input(key, text)).collect();
    Opened { batch, inputs, left_out: Vec::new() }
}

pub fn archive_with(
    trail: &Memory,
    store: &dyn BlobStore,
    lock: &dyn CheckpointStore,
    objects: &[(&str, String)],
) -> Result<Archived, Fatal> {
    let stop = AtomicBool::new(false);
    trail.with(store, lock, |t| {
        pending::archive(t, &mut Sealed::default(), &batch(objects), &options(2), &stop)
    })
}

pub fn archive(trail: &Memory, objects: &[(&str, String)]) -> Archived {
    archive_with(trail, &trail.store, &trail.lock, objects).unwrap()
}

/// So many hours later.
fn archive_later(trail: &Memory, objects: &[(&str, String)], hours: i64) -> Archived {
    let clock = ManualClock::new(Timestamp(1_700_000_000_000_000 + hours * 3_600_000_000));
    let stop = AtomicBool::new(false);
    trail.with(&trail.store, &trail.lock, |t| {
        let later = Trail { clock: &clock, ..*t };
        pending::archive(&later, &mut Sealed::default(), &batch(objects), &options(2), &stop).unwrap()
    })
}

pub fn seal_with(trail: &Memory, store: &dyn BlobStore, lock: &dyn CheckpointStore) -> Result<Done, Fatal> {
    trail
        .with(store, lock, |t| pending::seal(t, &mut Sealed::default(), &|_| Ok(()), &AtomicBool::new(false)))
}

pub fn seal(trail: &Memory) -> Done {
    seal_with(trail, &trail.store, &trail.lock).unwrap()
}

/// Everything but state.
fn contents(trail: &Memory) -> BTreeMap<String, Vec<u8>> {
    let keys = trail.store.list("").unwrap();
    let kept = keys.into_iter().filter(|key| !key.starts_with("state/"));
    kept.map(|key| (key.clone(), trail.store.get(&key).unwrap().unwrap())).collect()
}

/// Two batches: records of three days, some of them in both, and refused ones.
fn batches() -> [Vec<(&'static str, String)>; 2] {
    [
        vec![("a", keyless(1) + &keyless(2) + "{\"broken\n"), ("b", keyless(3))],
        vec![("c", keyless(2) + &keyless(4) + "no json\n"), ("d", keyless(1) + "{\"broken\n")],
    ]
}

#[test]
fn it_is_one_machines_path_cut_in_two() {
    let (one, two) = (Memory::new(), Memory::new());
    let mut sealed = Sealed::default();
    for objects in batches() {
        let inputs: Vec<Input> = objects.iter().map(|(key, text)| input(key, text)).collect();
        let limits = Limits::default();
        let ingest = ingest::Options { threads: 2, format: None, limits };
        let options = Options { ingest, object_bytes: TARGET };
        let run = one.with(&one.store, &one.lock, |trail| {
            keytrail_pipeline::run(trail, &inputs, &options, &Quiet, &AtomicBool::new(false)).unwrap()
        });
        let archived = archive(&two, &objects);
        assert_eq!((archived.counts, archived.next), (run.total, None));
        let done = two
            .with(&two.store, &two.lock, |t| {
                pending::seal(t, &mut sealed, &|_| Ok(()), &AtomicBool::new(false))
            })
            .unwrap();
        assert_eq!((done.head, done.copies), (run.checkpoint, 0));
    }
    assert_eq!(contents(&one), contents(&two));
    assert_eq!(two.verify().findings, []);
}

struct Quiet;

impl keytrail_pipeline::Progress for Quiet {
    fn at(&self, _: u64, _: u64, _: u64) {}
    fn sealed(&self, _: u64, _: u64) {}
}

/// What a trail holds in the end, however it came there.
fn holds(trail: &Memory) -> (u64, BTreeMap<String, u32>) {
    let size = trail.with(&trail.store, &trail.lock, |t| t.log().recover().unwrap().size);
    assert_eq!(trail.store.list("state/pending/").unwrap(), [""; 0]);
    assert_eq!(trail.verify().findings, []);
    (trail.rows(size), trail.named(size))
}

fn expected() -> (u64, BTreeMap<String, u32>) {
    let trail = Memory::new();
    batches().iter().for_each(|objects| {
        archive(&trail, objects);
        seal(&trail);
    });
    holds(&trail)
}

#[test]
fn what_two_archive_at_once_is_sealed_once() {
    let trail = Memory::new();
    let [first, second] = batches();
    assert_eq!(archive(&trail, &first).counts.accepted, 3);
    assert_eq!(archive(&trail, &second).counts.accepted, 3, "it cannot know of the first");
    archive(&trail, &first);
    let taken = Mutex::new(Vec::new());
    let done = trail.with(&trail.store, &trail.lock, |t| {
        let told = |object: &RawObject| {
            taken.lock().unwrap().push(object.key.clone());
            Ok(())
        };
        pending::seal(t, &mut Sealed::default(), &told, &AtomicBool::new(false))
    });
    let done = done.unwrap();
    // The third is the first: a batch is named by what it holds.
    assert_eq!((done.batches, done.rows, done.copies, done.waiting), (2, 4, 2, 0));
    assert_eq!(holds(&trail), expected());
    let mut taken = taken.into_inner().unwrap();
    taken.sort();
    taken.dedup();
    assert_eq!(taken, ["a", "b", "c", "d"]);
    // Delivered once more, a day later.
    for objects in batches() {
        let again = archive_later(&trail, &objects, 24);
        assert_eq!(
            (again.counts.accepted, again.counts.duplicates),
            (0, again.counts.read - again.counts.rejected)
        );
    }
    let before = contents(&trail);
    let done = seal(&trail);
    assert_eq!((done.batches, done.entries), (2, 0));
    assert_eq!(contents(&trail), before);
}

#[test]
fn what_is_delivered_again_after_compaction_adds_nothing() {
    let trail = Memory::new();
    let objects: Vec<(String, String)> =
        (0..6).map(|n| (format!("o{n}"), keyless(1).replace("Decrypt", &format!("Decrypt{n}")))).collect();
    for (key, text) in &objects {
        archive(&trail, &[(key, text.clone())]);
    }
    assert_eq!(seal(&trail).rows, 6);
    // One that was archived before, and is sealed after the compaction.
    archive(&trail, &[("o0", objects[0].1.clone())]);
    let mut readable = trail.readable(seal(&trail).head.size);
    let compacted = trail.with(&trail.store, &trail.lock, |t| {
        compact::when_it_pays(t, &mut readable, TARGET, 1, &AtomicBool::new(false)).unwrap()
    });
    assert_eq!((compacted.replaced.0, compacted.rows), (6, 6));
    for (key, text) in &objects {
        archive_later(&trail, &[(key, text.clone())], 30);
    }
    assert_eq!(seal(&trail).entries, 0);
    assert_eq!(holds(&trail).0, 6);
}

#[test]
fn what_comes_again_a_day_later_and_before_a_seal_is_sealed_once() {
    let trail = Memory::new();
    let [first, second] = batches();
    for objects in [&first, &second] {
        archive(&trail, objects);
    }
    let before = trail.store.list("archive/").unwrap().len();
    for objects in [&second, &first] {
        archive_later(&trail, objects, 24);
    }
    assert_eq!(
        trail.store.list("archive/").unwrap().len(),
        before,
        "rows name an object, not when they came"
    );
    let done = seal(&trail);
    assert_eq!((done.batches, done.rows), (4, 4));
    assert_eq!(holds(&trail), expected());
}

#[test]
fn killed_at_any_write_it_loses_and_doubles_nothing() {
    let expected = expected();
    let mut cases = 0;
    for fault in [Fault::KilledBefore, Fault::KilledAfter, Fault::NotApplied, Fault::Applied] {
        let mut at = 1;
        loop {
            let trail = Memory::new();
            let faults = Faults::new(at, fault);
            let (store, lock) = (
                Faulty::new(&trail.store as &dyn BlobStore, &faults),
                Faulty::new(&trail.lock as &dyn CheckpointStore, &faults),
            );
            // Both batches wait, and one of them comes twice.
            let [first, second] = batches();
            let mut failed = false;
            for objects in [&first, &second, &first] {
                failed |= archive_with(&trail, &store, &lock, objects).is_err();
            }
            failed |= seal_with(&trail, &store, &lock).is_err();
            // What was not acknowledged is delivered again.
            if failed {
                for objects in [&second, &first] {
                    archive(&trail, objects);
                }
            }
            seal(&trail);
            assert_eq!(holds(&trail), expected, "{fault:?} {at}");
            cases += 1;
            if faults.writes() < at {
                break;
            }
            at += 1;
        }
    }
    assert!(cases > 100, "{cases}");
}

#[test]
fn sealers_at_once_seal_each_batch_once() {
    for _ in 0..10 {
        let trail = Memory::new();
        for n in 0..12u32 {
            // Neighbours share a record.
            archive(&trail, &[("o", keyless(1 + n) + &keyless(2 + n))]);
        }
        let moved = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3 {
                        match seal_with(&trail, &trail.store, &trail.lock) {
                            Ok(_) => {}
                            Err(e) if e.code == "Retryable.LogMoved" => {
                                moved.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
        });
        seal(&trail);
        assert_eq!(holds(&trail).0, 13);
    }
}

#[test]
fn what_time_did_not_suffice_for_is_left_and_goes_on() {
    /// Asks to stop once so many pieces were read.
    struct Slow<'a>(Text, &'a AtomicBool);
    impl BlobRead for Slow<'_> {
        fn len(&self) -> u64 {
            self.0.len()
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
            if offset >= 8 << 20 {
                self.1.store(true, Ordering::Relaxed);
            }
            self.0.read_at(offset, buf)
        }
    }
    let line = |n: usize| keyless(1 + n as u32 % 9).replace("Decrypt", &format!("Decrypt{n}"));
    let large: String = (0..100_000).map(line).collect();
    let (trail, whole) = (Memory::new(), Memory::new());
    let objects = [("small", keyless(1)), ("large", large.clone()), ("last", keyless(2))];
    let expected = archive(&whole, &objects).counts;
    let stop: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let mut left = batch(&objects).batch;
    let (mut calls, mut accepted, mut of_first) = (0, 0, Vec::new());
    loop {
        let texts: BTreeMap<&str, &str> = objects.iter().map(|(key, text)| (*key, text.as_str())).collect();
        let inputs: Vec<Input> = left
            .objects
            .iter()
            .map(|object| {
                let text = Text(texts[object.key.as_str()].as_bytes().to_vec());
                match calls {
                    0 => Input::object(&object.name(), Some(Box::new(Slow(text, stop)))),
                    _ => Input::object(&object.name(), Some(Box::new(text))),
                }
            })
            .collect();
        stop.store(false, Ordering::Relaxed);
        let done = trail
            .with(&trail.store, &trail.lock, |t| {
                let opened = Opened { batch: left.clone(), inputs, left_out: Vec::new() };
                pending::archive(t, &mut Sealed::default(), &opened, &options(1), stop)
            })
            .unwrap();
        calls += 1;
        accepted += done.counts.accepted;
        match done.next {
            Some(next) => {
                assert!(next.objects.len() == 2 && next.from > 0, "{next:?}");
                of_first = trail.store.list("archive/").unwrap();
                left = next;
            }
            None => break,
        }
    }
    assert_eq!(calls, 2);
    // What was read of the last batch before is read again, and found to be there.
    assert!(accepted >= expected.accepted && accepted < expected.accepted + 20_000, "{accepted}");
    trail.with(&trail.store, &trail.lock, |t| t.log().recover().unwrap());
    let lost = trail.copy();
    seal(&trail);
    seal(&whole);
    assert_eq!(holds(&trail), holds(&whole));

    // Where something of the first part is lost, the second does not close the object: it is given again.
    lost.store.delete(&of_first[0]).unwrap();
    let told = Mutex::new(Vec::new());
    let done = lost.with(&lost.store, &lost.lock, |t| {
        let taken = |object: &RawObject| {
            told.lock().unwrap().push(object.key.clone());
            Ok(())
        };
        pending::seal(t, &mut Sealed::default(), &taken, &AtomicBool::new(false)).unwrap()
    });
    assert_eq!((done.batches, done.waiting), (1, 1));
    assert!(done.unreadable[0].contains("part of a raw object"), "{:?}", done.unreadable);
    assert_eq!(*told.lock().unwrap(), ["last"]);
    let waits = lost.store.list("state/pending/").unwrap().remove(0);
    lost.store.delete(&waits).unwrap();
    archive(&lost, &objects);
    seal(&lost);
    assert_eq!(
        lost.with(&lost.store, &lost.lock, |t| lost.rows(t.log().recover().unwrap().size)),
        holds(&whole).0
    );
}

#[test]
fn a_store_that_does_not_answer_is_no_property_of_the_input() {
    struct Down(u64);
    impl BlobRead for Down {
        fn len(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), StoreError> {
            Err(StoreError::Retryable("timed out".into()))
        }
    }
    let trail = Memory::new();
    let mut opened = batch(&[("a", keyless(1)), ("b", keyless(2)), ("c", keyless(3))]);
    opened.inputs[1] = Input::object(&name("b"), Some(Box::new(Down(100))));
    let e = trail.with(&trail.store, &trail.lock, |t| {
        let stop = AtomicBool::new(false);
        pending::archive(t, &mut Sealed::default(), &opened, &options(2), &stop).unwrap_err()
    });
    assert_eq!(e.to_string(), "Retryable.Store: timed out");
    assert_eq!(trail.store.list("").unwrap(), [""; 0]);
}

#[test]
fn an_object_that_cannot_be_opened_stays_open_and_keeps_no_others() {
    struct Bucket;
    impl RawObjects for Bucket {
        fn open(&self, name: &ObjectName) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
            match name.key.as_str() {
                "gone" => Ok(None),
                "denied" => Err(StoreError::Fatal("denied".into())),
                "slow" => Err(StoreError::Retryable("slow".into())),
                _ => Ok(Some(Box::new(Text(keyless(1).into_bytes())))),
            }
        }
        fn list(
            &self,
            _: &str,
            _: &str,
            _: &mut dyn FnMut(ListedObject) -> Result<(), StoreError>,
        ) -> Result<(), StoreError> {
            Ok(())
        }
        fn mark_taken(&self, _: &ObjectName) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let asked = |keys: &[&str]| {
        let objects: Vec<_> = keys.iter().map(|key| (*key, String::new())).collect();
        Batch { from: 7, ..batch(&objects).batch }
    };
    let opened = pending::open(&Bucket, &asked(&["gone", "a", "denied"]), &[]).unwrap();
    assert_eq!((opened.inputs.len(), opened.batch.objects[0].key.as_str(), opened.batch.from), (1, "a", 0));
    let why: Vec<_> = opened.left_out.iter().map(|(o, why)| (o.key.as_str(), why.as_str())).collect();
    assert_eq!(why, [("gone", "there is no such object"), ("denied", "denied")]);
    assert_eq!(pending::open(&Bucket, &asked(&["a", "slow"]), &[]).unwrap_err().code, "Retryable.Store");
    assert_eq!(pending::open(&Bucket, &asked(&["a"]), &[]).unwrap().batch.from, 7);
}

/// What a batch that cannot be sealed holds is no reason to leave it out of another one.
#[test]
fn nothing_is_a_copy_of_what_is_not_sealed() {
    let trail = Memory::new();
    archive(&trail, &[("a", keyless(1) + &keyless(2))]);
    let detail = trail.store.list("detail/").unwrap().remove(0);
    // It comes first, and its lists are lost behind its rows.
    let key = trail.store.list("state/pending/").unwrap().remove(0);
    let first = "state/pending/00000000000000000001-aaaaaaaaaaaaaaaa";
    trail.store.replace(first, &trail.store.get(&key).unwrap().unwrap()).unwrap();
    trail.store.delete(&key).unwrap();
    archive(&trail, &[("b", keyless(1) + &keyless(3) + "refused\n")]);
    trail.store.delete(&detail).unwrap();
    let done = seal(&trail);
    assert_eq!((done.batches, done.rows, done.copies, done.waiting), (1, 2, 0, 1));
    assert!(done.unreadable[0].contains(&detail), "{:?}", done.unreadable);
    trail.store.delete(first).unwrap();
    // What it held is given again.
    archive(&trail, &[("a", keyless(1) + &keyless(2))]);
    seal(&trail);
    assert_eq!(holds(&trail).0, 3);
}

/// A process that lives on archives again what it archived before, as another would: the first may come to nothing.
#[test]
fn what_is_archived_again_is_listed_again() {
    let trail = Memory::new();
    let (mut sealed, stop) = (Sealed::default(), AtomicBool::new(false));
    let objects = [("a", keyless(1) + "{\"broken\n")];
    let mut archive = || {
        trail.with(&trail.store, &trail.lock, |t| {
            pending::archive(t, &mut sealed, &batch(&objects), &options(1), &stop).unwrap().pending
        })
    };
    let first = archive();
    trail.store.delete(&first).unwrap();
    assert_eq!(archive(), first);
    assert_eq!(trail.store.list("detail/").unwrap().len(), 1);
    seal(&trail);
    let (rows, named) = holds(&trail);
    assert_eq!((rows, named.len()), (1, 1));
}

/// Lists of a batch that came to nothing say nothing new, whichever objects it had.
#[test]
fn lists_that_say_nothing_new_are_no_finding() {
    let trail = Memory::new();
    archive(&trail, &[("a", keyless(1)), ("b", keyless(2))]);
    archive(&trail, &[("b", keyless(2))]);
    assert_eq!(seal(&trail).copies, 1);
    assert_eq!(trail.verify().findings, []);
    // What it lists beside is.
    archive(&trail, &[("b", keyless(2)), ("c", keyless(3))]);
    for key in trail.store.list("state/pending/").unwrap() {
        trail.store.delete(&key).unwrap();
    }
    let findings = trail.verify().findings;
    let detail = findings.iter().find(|f| f.element.starts_with("detail/")).unwrap();
    assert_eq!(detail.code.as_str(), "FILE_UNLISTED");
}

/// Nobody can say of a row whether a sealed object that is lost has it, too: its batch waits, and keeps no others.
#[test]
fn a_lost_sealed_object_stops_its_own_partition_alone() {
    // Seals while as many batches wait for it, and says how often it wrote.
    let sealed = |waiting: usize| {
        let trail = Memory::new();
        archive(&trail, &[("a", keyless(1))]);
        seal(&trail);
        // Judged after the first, the second has its list written anew.
        archive_later(&trail, &[("b", keyless(2))], 1);
        archive_later(&trail, &[("b", keyless(2)), ("c", keyless(3))], 2);
        for i in 0..waiting {
            archive_later(&trail, &[("d", keyless(1).replace("Decrypt", &format!("Encrypt{i}")))], 3);
        }
        let lost = trail.readable(1).objects().next().unwrap().object.key.clone();
        let bytes = trail.store.get(&lost).unwrap().unwrap();
        trail.store.delete(&lost).unwrap();
        for uids in trail.store.list("state/uids/").unwrap() {
            trail.store.delete(&uids).unwrap();
        }
        let faults = Faults::new(0, Fault::NotApplied);
        let store = Faulty::new(&trail.store as &dyn BlobStore, &faults);
        let done = seal_with(&trail, &store, &trail.lock).unwrap();
        assert_eq!((done.rows, done.waiting), (2, waiting as u64));
        assert!(done.unreadable.len() == waiting && done.unreadable.iter().all(|why| why.contains(&lost)));
        trail.store.replace(&lost, &bytes).unwrap();
        assert_eq!(seal(&trail).rows, waiting as u64);
        assert_eq!(holds(&trail).0, 3 + waiting as u64);
        faults.writes()
    };
    // However many they are, the others are judged as often.
    assert_eq!(sealed(1), sealed(50));
}

/// What is lost before it was sealed is given again: its raw objects are not told to be taken in.
#[test]
fn a_lost_object_is_not_taken_for_a_copy() {
    let trail = Memory::new();
    archive(&trail, &[("a", keyless(1))]);
    archive(&trail, &[("b", keyless(2))]);
    let lost = trail.store.list("archive/").unwrap().remove(0);
    trail.store.delete(&lost).unwrap();
    let taken = Mutex::new(Vec::new());
    trail.with(&trail.store, &trail.lock, |t| {
        let told = |object: &RawObject| {
            taken.lock().unwrap().push(object.key.clone());
            Ok(())
        };
        pending::seal(t, &mut Sealed::default(), &told, &AtomicBool::new(false)).unwrap();
    });
    assert_eq!(taken.into_inner().unwrap().len(), 1);
    archive(&trail, &[("a", keyless(1))]);
    archive(&trail, &[("b", keyless(2))]);
    seal(&trail);
    assert_eq!(holds(&trail).0, 2);
}

#[test]
fn a_batch_that_somebody_else_made_is_not_sealed() {
    let trail = Memory::new();
    archive(&trail, &[("a", keyless(1))]);
    let key = trail.store.list("state/pending/").unwrap().remove(0);
    let mut bytes = trail.store.get(&key).unwrap().unwrap();
    let at = bytes.windows(8).position(|w| w == b"\"bytes\":").unwrap();
    bytes[at + 8] ^= 1;
    let forged = "state/pending/00000000000000000001-aaaaaaaaaaaaaaaa";
    trail.store.replace(forged, &bytes).unwrap();
    let done = seal(&trail);
    assert_eq!((done.batches, done.rows, done.waiting), (1, 1, 1));
    assert!(done.unreadable[0].contains("not tagged by this trail's key"), "{:?}", done.unreadable);
    trail.store.delete(forged).unwrap();
    assert_eq!(holds(&trail).0, 1);
}
