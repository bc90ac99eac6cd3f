use std::collections::BTreeMap;

use keytrail_adapters::local::{LocalCheckpoint, LocalStore};
use keytrail_adapters::memory::{Fault, Faults, Faulty, MemoryCheckpoint, MemorySigner, MemoryStore};
use keytrail_ledger::{Audit, AuditedEntry, Checkpoint, LogKeys, VerifierKey};
use keytrail_ports::{BlobStore, CheckpointStore, Put, Signer, StoreError, Swap};

use super::{LOCK, LOG, Log, read_entries};

const ORIGIN: &str = "example.org/log";

fn verifier(signer: &MemorySigner) -> VerifierKey {
    VerifierKey::new(signer.name(), signer.public_key()).unwrap()
}

fn batch(name: &str, n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{name} {i}").into_bytes()).collect()
}

fn audit_log(
    store: &dyn BlobStore,
    keys: &LogKeys,
    known: Option<&Checkpoint>,
    on_entry: &mut dyn FnMut(AuditedEntry<'_>),
) -> Audit {
    let files: Vec<String> = store.list(LOG).unwrap().iter().map(|f| f[LOG.len()..].to_owned()).collect();
    let read = |path: &str| store.get(&format!("{LOG}{path}")).map_err(|e| e.to_string());
    keytrail_ledger::audit(&read, &files, Some(keys), known, on_entry).unwrap()
}

/// Audits the log and gives its entries with how often each is there.
fn entries(store: &dyn BlobStore, keys: &LogKeys) -> BTreeMap<Vec<u8>, u32> {
    let mut all = BTreeMap::new();
    let mut order = Vec::new();
    let audit = audit_log(store, keys, None, &mut |e| {
        assert!(e.agrees);
        *all.entry(e.bytes.to_vec()).or_default() += 1;
        order.push(e.bytes.to_vec());
    });
    assert_eq!(audit.findings, []);
    assert!(audit.authentic);
    let size = audit.checkpoint.unwrap().size;
    let mut read = Vec::new();
    read_entries(store, size, 0, size, &mut |i, e| {
        assert_eq!(i, read.len() as u64);
        read.push(e.to_vec());
        Ok(())
    })
    .unwrap();
    assert_eq!(read, order);
    all
}

#[test]
fn an_append_leaves_a_log_and_nothing_else() {
    let (store, lock, signer) = (MemoryStore::new(), MemoryCheckpoint::new(), MemorySigner::new(ORIGIN, 1));
    let log = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
    let keys = LogKeys::of(verifier(&signer));
    assert_eq!(log.recover().unwrap().size, 0);
    assert_eq!(store.list("").unwrap(), ["log/checkpoint"]);
    let mut size = 0;
    for (i, n) in [1, 254, 1, 1, 255, 600, 3].into_iter().enumerate() {
        let head = log.append(None, &batch(&i.to_string(), n)).unwrap();
        size += n as u64;
        assert_eq!(head.size, size);
        assert_eq!(log.recover().unwrap(), head);
        assert_eq!(entries(&store, &keys).len() as u64, size);
        assert!(store.list("").unwrap().iter().all(|k| k.starts_with("log/")));
        let partial = store.list("log/tile/").unwrap().iter().filter(|k| k.contains(".p/")).count();
        assert!(partial <= 3, "superseded partial tiles are gone");
    }
    let mut some = Vec::new();
    read_entries(&store, size, 254, 258, &mut |i, _| {
        some.push(i);
        Ok(())
    })
    .unwrap();
    assert_eq!(some, [254, 255, 256, 257]);
    assert_eq!(log.append(None, &[]).unwrap().size, size);
}

/// Every write of a series of appends fails in every way; then a new process goes on.
#[test]
fn killed_at_every_write() {
    let signer = MemorySigner::new(ORIGIN, 1);
    let keys = LogKeys::of(verifier(&signer));
    let sizes = [3, 252, 2, 300];
    let mut cases = 0;
    for fault in [Fault::NotApplied, Fault::Applied, Fault::KilledBefore, Fault::KilledAfter] {
        for at in 1.. {
            let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
            let faults = Faults::new(at, fault);
            let faulty_store = Faulty::new(&store as &dyn BlobStore, &faults);
            let faulty_lock = Faulty::new(&lock as &dyn CheckpointStore, &faults);
            let log = Log { store: &faulty_store, lock: &faulty_lock, signers: &[&signer], origin: ORIGIN };
            let after = Log { store: &store, lock: &lock, ..log };
            let mut acknowledged = Vec::new();
            let mut failed = Vec::new();
            for (i, n) in sizes.into_iter().enumerate() {
                let new = batch(&i.to_string(), n);
                match log.append(None, &new) {
                    Ok(_) => acknowledged.extend(new),
                    Err(e) => {
                        assert!(e.code.starts_with("Retryable."), "{e}");
                        failed.push(new);
                    }
                }
            }
            after.recover().unwrap();
            let there = entries(&store, &keys);
            let what = format!("{fault:?} at write {at}");
            assert!(there.values().all(|n| *n == 1), "{what}: doubled");
            assert!(acknowledged.iter().all(|e| there.contains_key(e)), "{what}: lost");
            for new in &failed {
                let n = new.iter().filter(|e| there.contains_key(*e)).count();
                assert!(n == 0 || n == new.len(), "{what}: half a batch");
                // What is not there is appended again.
                if n == 0 {
                    after.append(None, new).unwrap();
                }
            }
            let there = entries(&store, &keys);
            assert_eq!(there.len(), sizes.iter().sum::<usize>(), "{what}");
            assert!(there.values().all(|n| *n == 1), "{what}");
            assert!(store.list("").unwrap().iter().all(|k| k.starts_with("log/")), "{what}: left over");
            let partial = store.list("log/tile/").unwrap().iter().filter(|k| k.contains(".p/")).count();
            assert!(partial <= 3, "{what}: superseded tiles are left");
            cases += 1;
            if faults.writes() < at {
                break;
            }
        }
    }
    assert!(cases > 150, "{cases}");
}

/// A swap that was applied and answers that it was lost, while another sealer is already ahead.
#[test]
fn a_swap_that_lies_doubles_nothing() {
    struct Lies<'a> {
        inner: &'a dyn CheckpointStore,
        other: Log<'a>,
        answer: Result<Swap, StoreError>,
        once: std::sync::atomic::AtomicBool,
    }
    impl CheckpointStore for Lies<'_> {
        fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
            self.inner.read()
        }
        fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
            let done = self.inner.compare_and_swap(expected, new)?;
            if self.once.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return Ok(done);
            }
            self.other.append(None, &batch("other", 5)).unwrap();
            self.answer.clone()
        }
    }
    for answer in [Ok(Swap::Lost), Err(StoreError::Retryable("timed out".into()))] {
        let (store, lock, signer) =
            (MemoryStore::new(), MemoryCheckpoint::new(), MemorySigner::new(ORIGIN, 1));
        let other = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
        other.append(None, &batch("first", 2)).unwrap();
        let lies = Lies { inner: &lock, other, answer, once: false.into() };
        let head = Log { lock: &lies, ..other }.append(None, &batch("mine", 3)).unwrap();
        assert_eq!(head.size, 5);
        let there = entries(&store, &LogKeys::of(verifier(&signer)));
        assert_eq!((there.len(), there.values().max()), (10, Some(&1)));
    }
}

fn race(store: &(dyn BlobStore + Sync), lock: &(dyn CheckpointStore + Sync), each: usize) {
    const SEALERS: usize = 4;
    let signer = MemorySigner::new(ORIGIN, 1);
    let heads: Vec<Checkpoint> = std::thread::scope(|s| {
        let signer = &signer;
        let seal = |who: usize| {
            move || {
                let log = Log { store, lock, signers: &[signer], origin: ORIGIN };
                let one =
                    |i: usize| log.append(None, &batch(&format!("{who}/{i}"), 1 + (who * 7 + i * 13) % 40));
                (0..each).map(|i| one(i).unwrap()).collect::<Vec<_>>()
            }
        };
        let all: Vec<_> = (0..SEALERS).map(|who| s.spawn(seal(who))).collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let log = Log { store, lock, signers: &[&signer], origin: ORIGIN };
    let keys = LogKeys::of(verifier(&signer));
    let head = log.recover().unwrap();
    let there = entries(store, &keys);
    let total: usize = (0..SEALERS).flat_map(|w| (0..each).map(move |i| 1 + (w * 7 + i * 13) % 40)).sum();
    assert_eq!((there.len(), there.values().max(), head.size), (total, Some(&1), total as u64));
    for known in &heads {
        let audit = audit_log(store, &keys, Some(known), &mut |_| {});
        assert_eq!(audit.findings, [], "every head that was returned is of this history");
    }
    let staged: Vec<String> = store.list("log-staging/").unwrap();
    assert!(staged.iter().all(|k| k == LOCK), "{staged:?}");
}

#[test]
fn sealers_at_once_in_memory() {
    for _ in 0..5 {
        race(&MemoryStore::new(), &MemoryCheckpoint::new(), 25);
    }
}

#[test]
fn sealers_at_once_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    let lock = LocalCheckpoint::new(&store, LOCK).unwrap();
    race(&store, &lock, 10);
    let tops: Vec<String> = store.list("").unwrap();
    assert!(tops.iter().all(|k| k.starts_with("log/") || k == LOCK), "{tops:?}");
}

/// Sealers that die at random writes beside one that lives.
#[test]
fn the_living_clean_up_after_the_dead() {
    let signer = MemorySigner::new(ORIGIN, 1);
    for round in 0..40 {
        let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
        std::thread::scope(|s| {
            let (store, lock, signer) = (&store, &lock, &signer);
            for who in 0..3u64 {
                s.spawn(move || {
                    let faults = Faults::new(3 + (round * 7 + who * 11) % 60, Fault::KilledBefore);
                    let (store, lock) = (
                        Faulty::new(store as &dyn BlobStore, &faults),
                        Faulty::new(lock as &dyn CheckpointStore, &faults),
                    );
                    let log = Log { store: &store, lock: &lock, signers: &[signer], origin: ORIGIN };
                    let mut i = 0;
                    while log.append(None, &batch(&format!("{who}/{i}"), 20)).is_ok() {
                        i += 1;
                    }
                });
            }
            s.spawn(move || {
                let log = Log { store, lock, signers: &[signer], origin: ORIGIN };
                for i in 0..10 {
                    log.append(None, &batch(&format!("living/{i}"), 20)).unwrap();
                }
            });
        });
        let log = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
        log.append(None, &batch("last", 1)).unwrap();
        let there = entries(&store, &LogKeys::of(verifier(&signer)));
        assert!(there.values().all(|n| *n == 1));
        assert_eq!(there.keys().filter(|e| e.starts_with(b"living/")).count(), 200);
    }
}

#[test]
fn keys_rotate() {
    let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
    let (old, new) = (MemorySigner::new(ORIGIN, 1), MemorySigner::new(ORIGIN, 2));
    let with = |signers: &[&dyn Signer], name: &str| {
        Log { store: &store, lock: &lock, signers, origin: ORIGIN }
            .append(None, &batch(name, 10))
            .map(|h| h.size)
    };
    let mut keys = LogKeys::of(verifier(&old));
    assert_eq!(with(&[&old], "old").unwrap(), 10);
    let e = with(&[&new], "too early").unwrap_err();
    assert_eq!(e.code, "Fatal.LogKey");
    assert!(
        e.message.contains("`log-staging/lock`: no known key signed: signed by `example.org/log+"),
        "{e}"
    );
    keys.sign_from(&[verifier(&old), verifier(&new)], 20);
    assert_eq!(with(&[&old, &new], "both").unwrap(), 20);
    entries(&store, &keys);
    keys.sign_from(&[verifier(&new)], 30);
    assert_eq!(with(&[&new], "new").unwrap(), 30);
    entries(&store, &keys);
    let audit = audit_log(&store, &LogKeys::of(verifier(&old)), None, &mut |_| {});
    assert_eq!(audit.findings[0].code.as_str(), "SIG_INVALID");
}

fn two_entries() -> (MemoryStore, MemoryCheckpoint, MemorySigner) {
    let parts = (MemoryStore::new(), MemoryCheckpoint::new(), MemorySigner::new(ORIGIN, 1));
    let log = Log { store: &parts.0, lock: &parts.1, signers: &[&parts.2], origin: ORIGIN };
    log.append(None, &batch("a", 2)).unwrap();
    parts
}

#[test]
fn a_fork_is_fatal() {
    let (store, lock, signer) = two_entries();
    let fatal = |store: &MemoryStore, lock: &MemoryCheckpoint| {
        let log = Log { store, lock, signers: &[&signer], origin: ORIGIN };
        let e = log.append(None, &batch("x", 1)).unwrap_err();
        assert_eq!(log.recover().unwrap_err(), e);
        e
    };
    // The published head is of another tree of the same size.
    let (other, other_lock) = (MemoryStore::new(), MemoryCheckpoint::new());
    let log = Log { store: &other, lock: &other_lock, signers: &[&signer], origin: ORIGIN };
    log.append(None, &batch("b", 2)).unwrap();
    let good = store.get("log/checkpoint").unwrap().unwrap();
    store.replace("log/checkpoint", &other.get("log/checkpoint").unwrap().unwrap()).unwrap();
    let e = fatal(&store, &lock);
    assert_eq!(e.code, "Fatal.LogFork");
    assert!(e.message.contains("`log/checkpoint` says size 2 with root"), "{e}");
    store.replace("log/checkpoint", &good).unwrap();
    // The lock was set back.
    let older = lock.read().unwrap().unwrap();
    Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN }
        .append(None, &batch("c", 2))
        .unwrap();
    let newest = lock.read().unwrap().unwrap();
    lock.compare_and_swap(Some(&newest), &older).unwrap();
    assert_eq!(fatal(&store, &lock).code, "Fatal.LogFork");
    // The lock is gone.
    let e = fatal(&store, &MemoryCheckpoint::new());
    assert_eq!(e.code, "Fatal.LogFork");
    assert!(
        e.message.starts_with("`log-staging/lock` is missing, but the log has files, `log/checkpoint`"),
        "{e}"
    );
}

#[test]
fn damage_is_fatal_and_not_built_on() {
    for path in ["log/tile/0/000.p/2", "log/tile/entries/000.p/2", "log/checkpoint"] {
        let (store, lock, signer) = two_entries();
        let mut bytes = store.get(path).unwrap().unwrap();
        bytes.truncate(bytes.len() - 1);
        store.replace(path, &bytes).unwrap();
        let before = lock.read().unwrap();
        let log = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
        let e = log.append(None, &batch("x", 1)).unwrap_err();
        assert_eq!(e.code, "Fatal.LogDamaged", "{path}: {e}");
        assert!(e.message.contains(path.trim_start_matches("log/")), "{path}: {e}");
        assert_eq!(lock.read().unwrap(), before);
    }
}

#[test]
fn a_staged_object_is_checked() {
    let signer = MemorySigner::new(ORIGIN, 1);
    let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
    // Killed after the swap: write 1 stages, write 2 swaps.
    let faults = Faults::new(2, Fault::KilledAfter);
    let (s, l) =
        (Faulty::new(&store as &dyn BlobStore, &faults), Faulty::new(&lock as &dyn CheckpointStore, &faults));
    Log { store: &s, lock: &l, signers: &[&signer], origin: ORIGIN }
        .append(None, &batch("a", 2))
        .unwrap_err();
    let key = store.list("log-staging/").unwrap().remove(0);
    let good = store.get(&key).unwrap().unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    store.replace(&key, &bad).unwrap();
    let log = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
    let e = log.recover().unwrap_err();
    assert_eq!((e.code, e.message.contains(&key)), ("Fatal.LogDamaged", true));
    // Without it the tiles are missing, and that is said.
    store.delete(&key).unwrap();
    let e = log.recover().unwrap_err();
    assert_eq!(e.to_string(), "Fatal.LogDamaged: `tile/0/000.p/2` of the log is missing");
    assert_eq!(store.put_if_absent(&key, &good).unwrap(), Put::Created);
    assert_eq!(log.recover().unwrap().size, 2);
}

#[test]
fn a_long_entry_is_refused_whole() {
    let (store, lock, signer) = two_entries();
    let log = Log { store: &store, lock: &lock, signers: &[&signer], origin: ORIGIN };
    let e = log.append(None, &[vec![1; 65_535], vec![1; 65_536]]).unwrap_err();
    assert_eq!(e.to_string(), "Fatal.LogEntry: entry 1 has 65536 bytes, a log entry has at most 65535");
    assert_eq!(log.append(None, &[vec![1; 65_535]]).unwrap().size, 3);
}

#[test]
fn a_foreign_signer_is_refused() {
    let (store, lock, _) = two_entries();
    let other = MemorySigner::new("elsewhere", 1);
    let e = Log { store: &store, lock: &lock, signers: &[&other], origin: ORIGIN }.recover().unwrap_err();
    assert_eq!(e.to_string(), "Fatal.LogKey: the key of `elsewhere` cannot sign the log `example.org/log`");
    let e = Log { store: &store, lock: &lock, signers: &[], origin: ORIGIN }.recover().unwrap_err();
    assert_eq!(e.to_string(), "Fatal.LogKey: the log has no key to sign with");
}
