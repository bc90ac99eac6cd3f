//! Archived rows that are written again: killed at every write, and by somebody who lies.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::sync::atomic::AtomicBool;

use keytrail_adapters::memory::{Fault, Faults, Faulty, MemoryCheckpoint, MemoryStore};
use keytrail_archive::kept::{self, Origin};
use keytrail_archive::{ObjectReader, ObjectWriter, Projection, Selection, StoredRow};
use keytrail_model::manifest::{DroppedRow, ManifestKind, RowRun};
use keytrail_model::row::{Encoded, encode};
use keytrail_model::{Column, Day, Detail, Fatal, Manifest, Partition, RowBuffer, Value};
use keytrail_pipeline::compact::{self, Compacted};
use keytrail_pipeline::input::Input;
use keytrail_pipeline::seal::{Log, read_entries};
use keytrail_ports::{BlobStore, CheckpointStore};

use crate::memory::{Memory, ORIGIN, TARGET, input};

/// Events of one day, two each.
fn inputs(from: u32, to: u32) -> Vec<Input> {
    let event = |i: u32, second: u32| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"id-{i}-{second}","userIdentity":{{"type":"Root","accountId":"111122223333"}},"eventTime":"2023-07-10T11:42:{second:02}Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","errorCode":"AccessDenied","awsRegion":"us-east-1","recipientAccountId":"111122223333"}}
"#
        )
    };
    (from..to).map(|i| input(&format!("in-{i}"), event(i, i) + &event(i, 59 - i))).collect()
}

/// A trail of so many objects.
fn trail_of(objects: u32) -> Memory {
    let trail = Memory::new();
    for i in 0..objects {
        trail.run(&inputs(i, i + 1)).unwrap();
    }
    trail
}

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

fn size(trail: &Memory) -> u64 {
    trail.with(&trail.store, &trail.lock, |t| t.log().recover().unwrap().size)
}

/// Uid and hash of every row that is readable.
fn events(trail: &Memory) -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    for object in trail.readable(size(trail)).objects() {
        for_each_row(&trail.store, &object.object.key, &mut |row| {
            assert!(events.insert(format!("{} {:?}", row.uid, row.hash)), "twice: {}", row.uid);
        });
    }
    events
}

fn for_each_row(store: &MemoryStore, key: &str, each: &mut dyn FnMut(&StoredRow<'_>)) {
    let reader = ObjectReader::in_memory(store.get(key).unwrap().unwrap()).unwrap();
    for batch in reader.batches(&Projection::All, Selection::All) {
        batch.unwrap().rows().for_each(|row| each(&row));
    }
}

/// What is in the archive's folder is what is readable, and verifies.
fn settled(trail: &Memory, what: &str) {
    let readable = trail.readable(size(trail));
    let mut keys: Vec<&str> = readable.object_keys().into_iter().collect();
    keys.sort_unstable();
    assert_eq!(trail.store.list("archive/").unwrap(), keys, "{what}");
    assert_eq!(trail.verify().findings, [], "{what}");
    let shas: BTreeSet<String> =
        readable.objects().map(|o| format!("state/uids/{}", o.object.sha256)).collect();
    assert!(trail.store.list("state/uids/").unwrap().iter().all(|k| shas.contains(k)), "{what}");
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

/// The trail with another log of other manifests, signed by its key; `change` may change objects, too.
fn forge(trail: &Memory, change: impl FnOnce(&mut Vec<Manifest>, &MemoryStore)) -> Memory {
    let forged = Memory { lock: MemoryCheckpoint::new(), ..Memory::new() };
    for key in trail.store.list("").unwrap().iter().filter(|k| !k.starts_with("log")) {
        forged.store.replace(key, &trail.store.get(key).unwrap().unwrap()).unwrap();
    }
    let mut manifests = Vec::new();
    let size = size(trail);
    read_entries(&trail.store, size, 0, size, &mut |_, entry| {
        manifests.push(Manifest::parse(entry).unwrap());
        Ok(())
    })
    .unwrap();
    change(&mut manifests, &forged.store);
    let entries: Vec<Vec<u8>> = manifests.iter().map(Manifest::to_bytes).collect();
    let log = Log { store: &forged.store, lock: &forged.lock, signers: &[&forged.signer], origin: ORIGIN };
    log.append(&entries).unwrap();
    forged
}

fn codes(trail: &Memory) -> Vec<String> {
    trail.verify().findings.iter().map(ToString::to_string).collect()
}

fn set_detail(store: &MemoryStore, manifest: &mut Manifest, change: impl FnOnce(&mut Detail)) {
    let mut detail = Detail::parse(&store.get(&manifest.detail.key).unwrap().unwrap()).unwrap();
    store.delete(&manifest.detail.key).unwrap();
    change(&mut detail);
    let (bytes, sealed) = detail.to_object();
    store.replace(&sealed.key, &bytes).unwrap();
    manifest.detail = sealed;
}

/// Takes a row.
type Push<'a> = dyn FnMut(&StoredRow<'_>) + 'a;

/// Writes an object again with the rows that `change` pushes for each row, and makes the manifest fit.
fn set_rows(
    store: &MemoryStore,
    manifest: &mut Manifest,
    change: &mut dyn FnMut(&StoredRow<'_>, &mut Push<'_>),
) {
    let old = manifest.object.as_ref().unwrap().key.clone();
    let rows = manifest.rows.as_ref().unwrap();
    let dataset: &'static str = rows.dataset.clone().leak();
    let day = Day::parse(&rows.day).unwrap();
    let mut buffer = RowBuffer::new();
    let mut number = 0;
    for_each_row(store, &old, &mut |row| {
        change(row, &mut |row| {
            let head = kept::head(row, dataset, day, Origin { input: 0, row: number }).unwrap();
            number += 1;
            kept::pack(&mut buffer, &head, row, &mut Vec::new());
        });
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object");
    let out = BufWriter::new(File::create(&path).unwrap());
    let mut writer = ObjectWriter::new(Partition { dataset: dataset.into(), day }, out, 1).unwrap();
    let packed: Vec<_> = buffer.rows().collect();
    let kept: Vec<_> = packed.iter().map(|row| kept::unpack(row).unwrap()).collect();
    writer.append_kept(&kept).unwrap();
    let done = writer.finish_as(manifest.kind, &manifest.replaces).unwrap();
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    store.delete(&old).unwrap();
    store.replace(&done.object.key, &bytes).unwrap();
    (manifest.object, manifest.rows) = (Some(done.object), Some(done.rows));
}

/// What somebody who holds the key can do to a rewrite: verify, without any key, names the entry that
/// does not keep what another held.
#[test]
fn a_rewrite_that_changes_what_it_replaces_is_found() {
    let trail = trail_of(5);
    let by = size(&trail) - 1;
    assert_eq!(codes(&forge(&trail, |_, _| {})), Vec::<String>::new(), "the forger breaks nothing by itself");
    let found = |code: &str, says: &str, change: &dyn Fn(&mut Manifest, &MemoryStore)| {
        let forged = forge(&trail, |manifests, store| change(manifests.last_mut().unwrap(), store));
        let mut found = codes(&forged);
        found.retain(|f| !f.starts_with("DUP "));
        let wanted = format!("{code} log entry {by}: ");
        assert!(!found.is_empty() && found.iter().all(|f| f.starts_with(&wanted)), "{says}: {found:#?}");
        assert!(found.iter().any(|f| f.contains(says)), "{says}: {found:#?}");
    };
    let outcome = |row: &StoredRow<'_>, push: &mut Push<'_>| {
        let values = keytrail_model::row::columns(row.columns).map(|(column, value)| {
            let value = match value {
                Encoded::Text(_) if column == Column::EventOutcome && row.number == 3 => {
                    Value::Text("success".into())
                }
                Encoded::Text(t) => Value::Text(t.into()),
                Encoded::Int(n) => Value::Int(n),
                Encoded::Bool(b) => Value::Bool(b),
                Encoded::List(items) => Value::List(items.map(Into::into).collect()),
            };
            (column, value)
        });
        let mut columns = Vec::new();
        encode(&mut columns, values);
        push(&StoredRow { columns: &columns, ..*row });
    };
    found("COLUMN_MISMATCH", "the root over its rows' columns", &|m, store| {
        set_rows(store, m, &mut |row, push| outcome(row, push));
    });
    found("LEAF_MISMATCH", "of its 2 rows are there", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
    });
    found("LEAF_MISMATCH", "its row 10 comes from nowhere", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            push(row);
            if row.number == 9 {
                push(row);
            }
        });
    });
    // The same, with a mapping that fits.
    found("LEAF_MISMATCH", "is there twice", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            push(row);
            if row.number == 9 {
                push(row);
            }
        });
        set_detail(store, m, |d| d.rows.push(*d.rows.last().unwrap()));
    });
    // A row less, of which a list says that it was a copy of another.
    found("LEAF_MISMATCH", "the root over its event hashes", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
        set_detail(store, m, |d| {
            let RowRun { input, first, .. } = d.rows.pop().unwrap();
            d.dropped.push(DroppedRow { of: 8, input, row: first });
        });
    });
    found("LEAF_MISMATCH", "the root over its event hashes", &|m, store| {
        set_detail(store, m, |d| {
            let last = d.rows.len() - 1;
            d.rows.swap(0, last);
        });
    });
    found("LEAF_MISMATCH", "of no object", &|m, store| {
        set_detail(store, m, |d| d.rows[0].input = 5);
    });
    found("LEAF_MISMATCH", "of no object", &|m, store| {
        set_detail(store, m, |d| d.dropped.push(DroppedRow { of: 9, input: 0, row: u32::MAX }));
    });
    found("LEAF_MISMATCH", "fewer than come from others", &|m, store| {
        set_detail(store, m, |d| d.rows.push(RowRun { input: 0, first: 2, count: u32::MAX }));
    });
    // A renormalization may change columns, and nothing else.
    found("LEAF_MISMATCH", "of its 2 rows are there", &|m, store| {
        m.kind = ManifestKind::Renormalize;
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
    });
}

#[test]
fn what_is_retired_by_nobody_or_twice_is_found() {
    let trail = trail_of(5);
    let by = size(&trail) - 1;
    // An object that no entry retires is missed.
    let left_out = forge(&trail, |manifests, store| {
        let last = manifests.last_mut().unwrap();
        last.replaces.remove(0);
        set_rows(store, last, &mut |row, push| push(row));
    });
    let found = codes(&left_out);
    assert!(found.iter().any(|f| f.starts_with("FILE_MISSING archive/")), "{found:#?}");
    // An entry that retires what is retired is followed no further.
    let twice = forge(&trail, |manifests, _| {
        let again = manifests.last().unwrap().clone();
        manifests.push(again);
    });
    let found = codes(&twice);
    let said = format!("LEAF_MISMATCH log entry {}: ", by + 1);
    assert!(found.len() == 1 && found[0].starts_with(&said), "{found:#?}");
    assert!(found[0].contains("which has no object, or one that was replaced before"), "{found:#?}");
    // Nor is one that retires itself, what comes later, or what has no object.
    for leaf in [by, by + 7] {
        let later = forge(&trail, |manifests, _| manifests.last_mut().unwrap().replaces.push(leaf));
        assert!(codes(&later).iter().any(|f| f.contains("cannot be followed")), "{:#?}", codes(&later));
    }
    // The list of a rewrite is damaged: what was replaced cannot be looked into, which is said.
    let damaged = forge(&trail, |_, _| {});
    let detail = trail.readable(size(&trail)).objects().next().unwrap().rewrite.clone().unwrap().detail;
    damaged.store.replace(&detail.key, b"{}").unwrap();
    let report = damaged.verify();
    assert_eq!(report.failures().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["OBJECT_MISMATCH"]);
    assert!(
        report.unchecked.iter().any(|u| u.starts_with("what 1 rewrites replaced")),
        "{:?}",
        report.unchecked
    );
}

/// Two writers archived the same events before either was sealed.
#[test]
fn copies_of_two_writers_become_one() {
    let (trail, other) = (trail_of(4), Memory::new());
    let key = trail.store.list("archive/").unwrap().remove(2);
    other.run(&[inputs(2, 3), inputs(9, 10)].concat()).unwrap();
    let mut entries = Vec::new();
    read_entries(&other.store, 1, 0, 1, &mut |_, entry| {
        entries.push(entry.to_vec());
        Ok(())
    })
    .unwrap();
    let manifest = Manifest::parse(&entries[0]).unwrap();
    for key in [&manifest.detail.key, &manifest.object.as_ref().unwrap().key] {
        trail.store.replace(key, &other.store.get(key).unwrap().unwrap()).unwrap();
    }
    trail.with(&trail.store, &trail.lock, |t| t.log().append(&entries)).unwrap();
    let dup = codes(&trail);
    assert!(dup.len() == 2 && dup.iter().all(|f| f.starts_with("DUP ")), "{key}: {dup:#?}");

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
