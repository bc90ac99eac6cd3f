//! What every implementation of a port must do. Each function panics with what it did not.
//!
//! They are called from tests: of this crate, and of whoever adds an implementation.
#![expect(clippy::unwrap_used, reason = "these are tests: a failure is a panic")]

use std::collections::BTreeSet;

use keytrail_model::Timestamp;
use keytrail_ports::{
    BlobStore, CheckpointStore, MAX_STREAM_RECORD_BYTES, Notice, Notifier, Put, StoreError, Stream, Swap,
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
