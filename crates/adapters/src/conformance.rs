//! What every implementation of a port must do. Each function panics with what it did not.
//!
//! They are called from tests: of this crate, and of whoever adds an implementation.
#![expect(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]

use std::collections::BTreeSet;

use keytrail_model::Timestamp;
use keytrail_ports::{
    BlobStore, CheckpointStore, MAX_STREAM_RECORD_BYTES, Notice, Notifier, ObjectName, Put, RawObjects,
    StoreError, Stream, Swap,
};
#[cfg(feature = "aws")]
use {
    crate::aws::{Lock, LockMode, Removal, S3Store},
    keytrail_ports::Clock,
    std::sync::Arc,
};

/// Threads in a race.
const THREADS: u32 = 8;

/// The contract of [`BlobStore`], on an empty store. `folder` is where files to be put can be made.
pub fn blob_store(store: &dyn BlobStore, folder: &std::path::Path) {
    objects(store);
    keys(store);
    listing(store);
    ranges(store);
    files(store, folder);
    races(store);
}

fn objects(store: &dyn BlobStore) {
    assert_eq!(store.get("o/none").unwrap(), None);
    assert!(store.open("o/none").unwrap().is_none());
    assert_eq!(store.put_if_absent("o/a", b"one").unwrap(), Put::Created);
    assert_eq!(store.put_if_absent("o/a", b"two").unwrap(), Put::Exists);
    assert_eq!(store.get("o/a").unwrap().unwrap(), b"one");
    store.replace("o/a", b"three").unwrap();
    store.replace("o/b", b"").unwrap();
    assert_eq!(store.get("o/a").unwrap().unwrap(), b"three");
    assert_eq!(store.get("o/b").unwrap().unwrap(), b"");
    assert_eq!(store.get("o").unwrap(), None, "a prefix is no object");
    store.delete("o/a").unwrap();
    store.delete("o/a").unwrap();
    store.delete("none/of/these").unwrap();
    assert_eq!(store.get("o/a").unwrap(), None);
    assert_eq!(store.put_if_absent("o/a", b"four").unwrap(), Put::Created);
    let big = vec![7; 3_000_000];
    assert_eq!(store.put_if_absent("o/deep/er/and/deeper/big", &big).unwrap(), Put::Created);
    assert_eq!(store.get("o/deep/er/and/deeper/big").unwrap().unwrap(), big);
}

fn keys(store: &dyn BlobStore) {
    let name = "archive/dataset=aws.cloudtrail/day=2023-07-10/2023_A-b.parquet";
    assert_eq!(store.put_if_absent(name, b"x").unwrap(), Put::Created);
    for key in ["", "/a", "a/", "a//b", "./a", "a/..", "../a", "a/../../b", "a b", "a\\b", "a\0", "\u{fc}"] {
        for result in [
            store.get(key).map(|_| ()),
            store.open(key).map(|_| ()),
            store.put_if_absent(key, b"x").map(|_| ()),
            store.replace(key, b"x"),
            store.delete(key),
        ] {
            assert!(matches!(result, Err(StoreError::Fatal(_))), "{key:?}: {result:?}");
        }
    }
}

fn listing(store: &dyn BlobStore) {
    assert!(store.list("l/").unwrap().is_empty());
    for key in ["l/b/2", "l/a-/x", "l/a/x", "l/b/10", "l/c", "lx"] {
        store.put_if_absent(key, key.as_bytes()).unwrap();
    }
    assert_eq!(store.list("l/").unwrap(), ["l/a-/x", "l/a/x", "l/b/10", "l/b/2", "l/c"]);
    assert_eq!(store.list("l/b/").unwrap(), ["l/b/10", "l/b/2"]);
    assert_eq!(store.list("l/a").unwrap(), ["l/a-/x", "l/a/x"]);
    assert_eq!(store.list("l/b/1").unwrap(), ["l/b/10"]);
    assert_eq!(store.list("l").unwrap().len(), 6);
    assert_eq!(store.list("l/c/").unwrap(), [""; 0]);
    let all = store.list("").unwrap();
    assert!(all.iter().any(|k| k == "lx") && all.is_sorted());
    store.delete("l/b/10").unwrap();
    assert_eq!(store.list("l/b").unwrap(), ["l/b/2"]);
}

fn ranges(store: &dyn BlobStore) {
    store.put_if_absent("r/x", b"0123456789").unwrap();
    let open = store.open("r/x").unwrap().unwrap();
    assert_eq!((open.len(), open.is_empty()), (10, false));
    let mut buf = [0; 4];
    open.read_at(3, &mut buf).unwrap();
    assert_eq!(&buf, b"3456");
    open.read_at(10, &mut []).unwrap();
    // Large enough for what reads ahead: forwards, backwards, and anywhere.
    let large: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    store.put_if_absent("r/large", &large).unwrap();
    let read = store.open("r/large").unwrap().unwrap();
    let check = |offset: usize, len: usize| {
        let mut part = vec![0; len];
        read.read_at(offset as u64, &mut part).unwrap();
        assert!(part == large[offset..offset + len], "{len} bytes from {offset}");
    };
    (0..6).for_each(|n| check(n * 1_000_000, 1_000_000));
    (0..40).for_each(|n| check(n * 131_072, 131_072));
    (1..40).for_each(|n| check(large.len() - n * 40_000, 40_000));
    for (offset, len) in [(0, 1), (262_143, 2), (5_999_999, 1), (100_000, 3_000_000), (0, 6_000_000), (7, 0)]
    {
        check(offset, len);
    }
    for offset in [7, 10, u64::MAX >> 1] {
        assert!(matches!(open.read_at(offset, &mut buf), Err(StoreError::Fatal(_))), "{offset}");
    }
    // What is open does not change.
    store.replace("r/x", b"other").unwrap();
    store.delete("r/x").unwrap();
    open.read_at(6, &mut buf).unwrap();
    assert_eq!(&buf, b"6789");
}

fn files(store: &dyn BlobStore, folder: &std::path::Path) {
    for (bytes, put) in [(b"first".as_slice(), Put::Created), (b"second", Put::Exists)] {
        let file = folder.join("conformance-file");
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(store.put_file_if_absent("f/x", &file).unwrap(), put);
        assert!(!file.exists());
        assert_eq!(store.get("f/x").unwrap().unwrap(), b"first");
    }
    assert!(store.put_file_if_absent("f/y", &folder.join("none")).is_err());
}

/// Runs `race` in eight threads at once with their numbers.
fn threads<T: Send>(race: impl Fn(u32) -> T + Sync) -> Vec<T> {
    std::thread::scope(|s| {
        let race = &race;
        let all: Vec<_> = (0..THREADS).map(|i| s.spawn(move || race(i))).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

fn races(store: &dyn BlobStore) {
    for round in 0..20 {
        let key = format!("race/{round}/object");
        let won = threads(|i| store.put_if_absent(&key, &[i as u8; 1000]).unwrap() == Put::Created);
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "round {round}");
        let winner = won.iter().position(|w| *w).unwrap();
        assert_eq!(store.get(&key).unwrap().unwrap(), [winner as u8; 1000]);
    }
    // Replacing and reading: always a whole object.
    store.replace("race/r", &[0; 5000]).unwrap();
    threads(|i| {
        for _ in 0..20 {
            store.replace("race/r", &[i as u8; 5000]).unwrap();
            let seen = store.get("race/r").unwrap().unwrap();
            assert!(seen.len() == 5000 && seen.iter().all(|b| *b == seen[0]));
        }
    });
    // Putting and deleting in one folder, which comes and goes.
    threads(|i| {
        for round in 0..20 {
            let key = format!("race/folder/deep/{i}-{round}");
            assert_eq!(store.put_if_absent(&key, b"x").unwrap(), Put::Created);
            assert_eq!(store.get(&key).unwrap().unwrap(), b"x");
            store.delete(&key).unwrap();
        }
    });
    assert_eq!(store.list("race/folder/").unwrap(), [""; 0]);
    // Of those who swap the same value, one does.
    assert_eq!(store.swap("race/swap", Some(b""), b"x").unwrap(), Swap::Lost);
    for expected in [None, Some(b"0".as_slice())] {
        let won = threads(|i| store.swap("race/swap", expected, format!("of {i}").as_bytes()).unwrap());
        assert_eq!(won.iter().filter(|w| **w == Swap::Done).count(), 1);
        store.replace("race/swap", b"0").unwrap();
    }
    store.delete("race/swap").unwrap();
}

/// The contract of [`CheckpointStore`], on one without a value. `open` gives the same value each time.
pub fn checkpoint_store(open: &(dyn Fn() -> Box<dyn CheckpointStore> + Sync)) {
    let store = open();
    assert_eq!(store.read().unwrap(), None);
    assert_eq!(store.compare_and_swap(Some(b""), b"x").unwrap(), Swap::Lost);
    let won = threads(|i| open().compare_and_swap(None, &[i as u8]).unwrap() == Swap::Done);
    assert_eq!(won.iter().filter(|w| **w).count(), 1);
    let first = store.read().unwrap().unwrap();
    assert_eq!(usize::from(first[0]), won.iter().position(|w| *w).unwrap());
    assert_eq!(store.compare_and_swap(None, b"x").unwrap(), Swap::Lost);
    assert_eq!(store.compare_and_swap(Some(&first), b"0").unwrap(), Swap::Done);
    assert_eq!(store.compare_and_swap(Some(&first), b"0").unwrap(), Swap::Lost, "a repeated swap");

    // Eight count to 160 together: no step is lost, none is done twice.
    let steps = threads(|_| {
        let store = open();
        let mut mine = Vec::new();
        while mine.len() < 20 {
            let value = store.read().unwrap().unwrap();
            let n: u32 = std::str::from_utf8(&value).unwrap().parse().unwrap();
            if store.compare_and_swap(Some(&value), (n + 1).to_string().as_bytes()).unwrap() == Swap::Done {
                mine.push(n);
            }
        }
        mine
    });
    let all: BTreeSet<u32> = steps.into_iter().flatten().collect();
    assert!(all.into_iter().eq(0..20 * THREADS));
    assert_eq!(store.read().unwrap().unwrap(), (20 * THREADS).to_string().as_bytes());
}

/// The contract of [`RawObjects`], on an empty bucket and one that is not there. `put` puts an object.
pub fn raw_objects(objects: &dyn RawObjects, bucket: &str, missing: &str, put: &dyn Fn(&str, &[u8])) {
    let name = |key: &str| ObjectName { bucket: bucket.to_owned(), key: key.to_owned(), version: None };
    let keys = |prefix: &str| {
        let mut keys = Vec::new();
        objects
            .list(bucket, prefix, &mut |object| {
                keys.push((object.key, object.bytes));
                Ok(())
            })
            .unwrap();
        keys
    };
    assert_eq!(keys(""), []);
    assert!(objects.open(&name("a")).unwrap().is_none());
    // Keys that are none of ours.
    let all = ["a b/\u{fc}+x%20.gz", "a b/c&d=e", "empty"];
    for key in all {
        put(key, if key == "empty" { b"" } else { key.as_bytes() });
    }
    for key in &all[..2] {
        let open = objects.open(&name(key)).unwrap().unwrap();
        let mut bytes = vec![0; open.len() as usize];
        open.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, key.as_bytes());
    }
    assert!(objects.open(&name("empty")).unwrap().unwrap().is_empty());
    assert_eq!(
        keys("a b/").iter().map(|k| k.0.as_str()).collect::<BTreeSet<_>>(),
        all[..2].iter().copied().collect()
    );
    assert!(keys("").is_sorted() && keys("").len() == 3 && keys("e") == [("empty".to_owned(), 0)]);
    let mut seen = 0;
    let stop = StoreError::Fatal("enough".into());
    let stopped = objects.list(bucket, "", &mut |_| {
        seen += 1;
        Err(stop.clone())
    });
    assert_eq!((stopped, seen), (Err(stop), 1));
    for _ in 0..2 {
        objects.mark_taken(&name(all[0])).unwrap();
    }
    objects.mark_taken(&name("there/is/none")).unwrap();
    let elsewhere = ObjectName { bucket: missing.to_owned(), key: "a".into(), version: None };
    assert!(matches!(objects.open(&elsewhere), Err(StoreError::Fatal(_))));
    assert!(objects.list(missing, "", &mut |_| Ok(())).is_err());
}

/// What locks are to keep, on a store of a bucket that was made with Object Lock; `clock` shows the time.
#[cfg(feature = "aws")]
pub fn object_lock(store: &S3Store, clock: &Arc<dyn Clock>, folder: &std::path::Path) {
    const DAY: i64 = 86_400_000_000;
    let lock = |mode, days| Lock { mode, days };
    let locked = store.clone().with_lock(lock(LockMode::Governance, 1), Arc::clone(clock));
    let until = |key: &str| store.retention(key).unwrap().map(|r| (r.mode, r.until.0 - clock.now().0));
    let is_kept = |key: &str, mode, days: i64| {
        let (found, left) = until(key).unwrap_or_else(|| panic!("`{key}` is not locked"));
        assert!(found == mode && (left - days * DAY).abs() < DAY / 12, "{key}: {found:?} for {left}");
    };

    // What has to stay is locked by its put, in the ways that it is put.
    assert_eq!(locked.put_if_absent("archive/a", b"one").unwrap(), Put::Created);
    is_kept("archive/a", LockMode::Governance, 1);
    for (key, bytes) in [("archive/small", 10), ("archive/large", (64 << 20) + 1)] {
        for put in [Put::Created, Put::Exists] {
            let file = folder.join("conformance-file");
            std::fs::write(&file, vec![7; bytes]).unwrap();
            assert_eq!(locked.put_file_if_absent(key, &file).unwrap(), put);
            assert!(!file.exists());
            assert_eq!(store.open(key).unwrap().unwrap().len(), bytes as u64);
            is_kept(key, LockMode::Governance, 1);
        }
    }
    for key in ["detail/a", "quarantine/a", "log/tile/0/000", "reports/2026-W01/report.checkpoint"] {
        locked.replace(key, b"x").unwrap();
        is_kept(key, LockMode::Governance, 1);
    }
    for key in [
        "log/checkpoint",
        "log/tile/0/001.p/7",
        "log-staging/x",
        "state/archive/x",
        "reports/2026-W01/report.json",
    ] {
        assert_eq!(locked.put_if_absent(key, b"x").unwrap(), Put::Created);
        assert_eq!(until(key), None, "{key}");
    }
    // What was there without a lock, or with a shorter one, is locked as if it were put.
    assert_eq!(store.put_if_absent("archive/b", b"one").unwrap(), Put::Created);
    assert_eq!(until("archive/b"), None);
    assert_eq!(locked.put_if_absent("archive/b", b"one").unwrap(), Put::Exists);
    is_kept("archive/b", LockMode::Governance, 1);
    let longer = store.clone().with_lock(lock(LockMode::Compliance, 3), Arc::clone(clock));
    assert_eq!(longer.put_if_absent("archive/c", b"one").unwrap(), Put::Created);
    is_kept("archive/c", LockMode::Compliance, 3);

    // A lock is extended, and neither shortened nor loosened.
    store.extend_lock("archive/a", lock(LockMode::Governance, 5), clock.as_ref()).unwrap();
    is_kept("archive/a", LockMode::Governance, 5);
    for (key, mode) in [("archive/a", LockMode::Governance), ("archive/c", LockMode::Compliance)] {
        let before = until(key).unwrap().1;
        store.extend_lock(key, lock(LockMode::Governance, 1), clock.as_ref()).unwrap();
        assert!((until(key).unwrap().1 - before).abs() < DAY / 12 && until(key).unwrap().0 == mode);
    }
    store.extend_lock("archive/c", lock(LockMode::Governance, 7), clock.as_ref()).unwrap();
    is_kept("archive/c", LockMode::Compliance, 7);
    assert!(store.extend_lock("archive/none", lock(LockMode::Governance, 1), clock.as_ref()).is_err());
    assert!(store.retention("archive/none").is_err());

    // Deleting hides an object, and keeps it.
    for key in ["archive/a", "archive/c"] {
        store.delete(key).unwrap();
        assert_eq!(store.get(key).unwrap(), None);
        let versions = store.versions(key).unwrap();
        assert!(versions.len() == 2 && versions[0].is_marker && versions[0].is_latest, "{versions:?}");
        assert_eq!(store.delete_version(key, &versions[1].id).unwrap(), Removal::Kept);
        assert_eq!(store.delete_version(key, &versions[0].id).unwrap(), Removal::Done);
        assert_eq!(store.get(key).unwrap().unwrap(), b"one");
    }
    // Putting in place of it leaves it there, too.
    store.replace("archive/c", b"two").unwrap();
    let versions = store.versions("archive/c").unwrap();
    assert_eq!((versions.len(), store.get("archive/c").unwrap().unwrap()), (2, b"two".to_vec()));
    assert_eq!(store.delete_version("archive/c", &versions[1].id).unwrap(), Removal::Kept);

    // A hold keeps what no retention does.
    assert!(!store.is_held("state/archive/x").unwrap());
    store.legal_hold("state/archive/x", true).unwrap();
    assert!(store.is_held("state/archive/x").unwrap());
    let id = store.versions("state/archive/x").unwrap()[0].id.clone();
    assert_eq!(store.delete_version("state/archive/x", &id).unwrap(), Removal::Kept);
    store.legal_hold("state/archive/x", false).unwrap();
    assert_eq!(store.delete_version("state/archive/x", &id).unwrap(), Removal::Done);
    assert_eq!(store.versions("state/archive/x").unwrap(), []);
}

/// The contract of [`Stream`], on an empty one that takes everything. `held` gives key and bytes of each record that it
/// was given so far, those of a key in their order.
pub fn stream(stream: &dyn Stream, held: &dyn Fn() -> Vec<(String, Vec<u8>)>) {
    assert_eq!(held(), []);
    stream.put("a", &[]).unwrap();
    let records: Vec<Vec<u8>> = (0..1_200_u32)
        .map(|n| [&n.to_le_bytes()[..], &[0, 10, 255][..(n % 4).min(3) as usize]].concat())
        .collect();
    let large: Vec<Vec<u8>> = (0..7).map(|n| vec![n; 900_000]).collect();
    let longest = vec![7; MAX_STREAM_RECORD_BYTES - 1];
    for (key, records) in
        [("a", &records[..700]), ("b", &large[..]), ("a", &records[700..]), ("c", &[longest])]
    {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        stream.put(key, &records).unwrap();
    }
    let all = held();
    let of = |key: &str| all.iter().filter(|r| r.0 == key).map(|r| r.1.clone()).collect::<Vec<_>>();
    assert!(of("a") == records, "{} of {} records", of("a").len(), records.len());
    assert!(of("b") == large && of("c").len() == 1);
    // What a stream does not take is told, and what is before it is durable.
    let too_large = vec![0; MAX_STREAM_RECORD_BYTES];
    let unput = stream.put("d", &[b"before", &too_large, b"behind"]).unwrap_err();
    assert!(unput.durable == 1 && matches!(unput.error, StoreError::Fatal(_)), "{unput:?}");
    assert_eq!(held().iter().filter(|r| r.0 == "d").count(), 1);
}

/// The contract of [`Notifier`], on one whose receiver takes everything. `taken` gives id and body of each
/// notice that the receiver was given so far, in any order.
pub fn notifier(notifier: &dyn Notifier, taken: &dyn Fn() -> Vec<(String, Vec<u8>)>) {
    assert_eq!(taken(), []);
    let bodies: [&[u8]; 4] = [
        b"{}",
        b"{\"actor\":\"$(id) `id` '; exit 1 # \\u001b[31m \xff\"}",
        b"{\"a\":\"line\nline\r\n\r\nline\"}",
        &[b' '; 60_000],
    ];
    let mut sent = Vec::new();
    for (i, body) in bodies.into_iter().enumerate() {
        let id = format!("alert_{i}");
        let notice = Notice { id: &id, at: Timestamp(1_700_000_000_000_000), body };
        // A notice can be sent again: it is the receiver who tells it from others.
        for _ in 0..2 {
            notifier.notify(&notice).unwrap();
            sent.push((id.clone(), body.to_vec()));
            // Acknowledged means that the receiver has it.
            let mut now = taken();
            now.sort();
            assert_eq!(now, sent);
        }
    }
}
