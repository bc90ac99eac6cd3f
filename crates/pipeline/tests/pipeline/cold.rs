//! What a process reads of a log that has grown before it takes part: what is new since `state/readable` and `state/heard`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keytrail_adapters::memory::MemoryNotifier;
use keytrail_model::Timestamp;
use keytrail_pipeline::alerts::{Engine, Options as AlertOptions, Place, Receiver, Severity};
use keytrail_pipeline::config::DeclaredSource;
use keytrail_pipeline::pending::{self, Sealed};
use keytrail_pipeline::sources::{Account, heard};
use keytrail_pipeline::{Format, compact};
use keytrail_ports::BlobStore;

use crate::memory::{Memory, TARGET, keyless};
use crate::pending::{archive, archive_with, seal, seal_with};

/// A record on each of 300 days.
fn year() -> String {
    let day = |n: u32| keyless(1).replace("2023-07-01", &format!("2015-{:02}-{:02}", n / 25 + 1, n % 25 + 1));
    (0..300).map(day).collect()
}

/// A trail whose first bundle of entries is not there any more, and what could not be done without `state/readable`.
fn grown() -> Memory {
    let trail = Memory::new();
    archive(&trail, &[("year", year())]);
    assert!(seal(&trail).head.size >= 300);
    trail.store.delete("log/tile/entries/000").unwrap();
    trail
}

#[test]
fn a_cold_start_reads_the_entries_that_are_new() {
    let trail = grown();
    archive(&trail, &[("new", keyless(2) + &keyless(3))]);
    assert_eq!(seal(&trail).rows, 2);
    // What is sealed long since and now is known.
    let again = archive(&trail, &[("again", year() + &keyless(3) + &keyless(4))]);
    assert_eq!((again.counts.accepted, again.counts.duplicates), (1, 301));
    let done = seal(&trail);
    assert_eq!((done.rows, done.copies), (1, 0));
}

#[test]
fn what_others_kept_or_nobody_is_not_believed() {
    let other = Memory::new();
    archive(&other, &[("few", keyless(1)), ("year", year())]);
    seal(&other);
    let others = other.store.get("state/readable").unwrap().unwrap();
    let trail = grown();
    let mine = trail.store.get("state/readable").unwrap().unwrap();
    let forged = String::from_utf8(mine).unwrap().replacen("\"objects\":[", "\"objects\":[ ", 1).into_bytes();
    for (readable, taken) in [(None, true), (Some(forged), true), (Some(others), true), (None, false)] {
        let trail = trail.copy();
        match readable {
            Some(bytes) => trail.store.replace("state/readable", &bytes).unwrap(),
            None if taken => trail.store.delete("state/readable").unwrap(),
            // Without what is known of the detail objects it says too little.
            None => trail.store.delete("state/taken").unwrap(),
        }
        let failed = archive_with(&trail, &trail.store, &trail.lock, &[("year", year())]);
        assert_eq!(failed.unwrap_err().code, "Fatal.LogDamaged");
    }
}

/// A compaction knows what is there, and what it retired is not kept.
#[test]
fn what_was_compacted_before_a_cold_start_is_not_there() {
    let trail = Memory::new();
    for n in 0..300 {
        archive(&trail, &[("one", keyless(1).replace("Decrypt", &format!("Decrypt{n}")))]);
    }
    while seal(&trail).waiting > 0 {}
    let compact = || {
        trail.with(&trail.store, &trail.lock, |t| {
            let options = crate::pending::options(1);
            pending::compact(t, &mut Sealed::default(), &options, &AtomicBool::new(false)).unwrap()
        })
    };
    assert!(compact().replaced.0 >= 300);
    // The next one looks whether all of it is hidden.
    assert_eq!(compact().replaced.0, 0);
    // Kept anew: entries enough were appended.
    for n in 0..300 {
        archive(&trail, &[("two", keyless(2).replace("Decrypt", &format!("Decrypt{n}")))]);
    }
    while seal(&trail).waiting > 0 {}
    let kept = String::from_utf8(trail.store.get("state/readable").unwrap().unwrap()).unwrap();
    assert!(!kept.contains("Decrypt0"), "it names objects, not events");
    trail.store.delete("log/tile/entries/000").unwrap();
    assert!(compact().replaced.0 >= 300);
    let again = archive(&trail, &[("one", keyless(1).replace("Decrypt", "Decrypt7"))]);
    assert_eq!(again.counts.duplicates, 1);
}

/// Alerts look at what their receivers were not told of, and read no more of the log.
#[test]
fn alerts_read_the_entries_that_are_new() {
    let trail = Memory::new();
    archive(&trail, &[("year", year())]);
    let size = seal(&trail).head.size;
    let notifier = Arc::new(MemoryNotifier::new());
    let look = |size| {
        trail.with(&trail.store, &trail.lock, |t| {
            let place = Place { trail: t.origin.to_owned(), data: "here".into() };
            let mut receivers = vec![Receiver::new("all", "memory", Severity::Low, notifier.clone())];
            let mut engine = Engine::open(t, AlertOptions::default(), place, &mut receivers, size).unwrap();
            engine.sealed(t, size).unwrap();
            engine.deliver(t, Duration::from_secs(20)).unwrap();
        });
        notifier.taken().len()
    };
    let told = look(size);
    trail.store.delete("log/tile/entries/000").unwrap();
    archive(&trail, &[("new", keyless(2).replace("Decrypt", "ScheduleKeyDeletion"))]);
    assert!(look(seal(&trail).head.size) > told);
}

fn declared() -> Vec<Arc<DeclaredSource>> {
    let source = |name: &str, format| {
        Arc::new(DeclaredSource {
            name: name.into(),
            format,
            instance: None,
            locations: Vec::new(),
            accounts: Vec::new(),
            longest_silence: Some(Duration::from_secs(3_600)),
        })
    };
    vec![source("cloudtrail", Format::CloudTrail), source("mute", Format::Vault)]
}

fn listen(trail: &Memory) -> Vec<Account> {
    trail.with(&trail.store, &trail.lock, |t| heard(t, &declared()).unwrap())
}

#[test]
fn silence_is_looked_for_in_what_is_new() {
    let trail = Memory::new();
    assert_eq!(listen(&trail).iter().map(|a| a.last_heard).collect::<Vec<_>>(), [None, None]);
    archive(&trail, &[("a", keyless(1))]);
    seal(&trail);
    let now = Timestamp(1_700_000_000_000_000);
    let name = trail.with(&trail.store, &trail.lock, |t| {
        let readable = keytrail_pipeline::readable::Readable::load(t.store, 1).unwrap();
        keytrail_pipeline::sources::account(t.store, &readable, &[]).unwrap().0[0].name.clone()
    });
    let of = |accounts: &[Account]| accounts.iter().find(|a| a.name == name).and_then(|a| a.last_heard);
    assert_eq!(of(&listen(&trail)), Some(now), "{name}");
    // What was looked at is not opened again, and what is new and was replaced already is found in what replaced it.
    let first = trail.store.list("archive/").unwrap().remove(0);
    let bytes = trail.store.get(&first).unwrap().unwrap();
    trail.store.replace(&first, b"damaged").unwrap();
    assert_eq!(of(&listen(&trail)), Some(now));
    trail.store.replace(&first, &bytes).unwrap();
    archive(&trail, &[("b", keyless(1).replace("Decrypt", "Encrypt"))]);
    let size = seal(&trail).head.size;
    let mut readable = trail.readable(size);
    trail.with(&trail.store, &trail.lock, |t| {
        compact::when_it_pays(t, &mut readable, TARGET, 1, &AtomicBool::new(false)).unwrap();
    });
    let accounts = listen(&trail);
    assert_eq!(of(&accounts), Some(now));
    let mute = accounts.iter().find(|a| a.name == "mute").unwrap();
    assert!(mute.is_overdue(now) && mute.last_heard.is_none());
    // Whoever writes the file convinces nobody.
    let kept = String::from_utf8(trail.store.get("state/heard").unwrap().unwrap()).unwrap();
    let forged = kept.replacen("\"sources\":{", "\"sources\":{\"mute\":1700000000000000,", 1);
    trail.store.replace("state/heard", forged.as_bytes()).unwrap();
    assert_eq!(listen(&trail), accounts);
}

/// A sealer without a snapshot writes one as soon as it can.
#[test]
fn a_sealer_keeps_what_it_read() {
    let trail = Memory::new();
    archive(&trail, &[("year", year())]);
    seal(&trail);
    trail.store.delete("state/readable").unwrap();
    seal_with(&trail, &trail.store, &trail.lock).unwrap();
    assert!(trail.store.get("state/readable").unwrap().is_some());
}
