//! Archived rows that are written again: killed at every write, and by somebody who lies.
//!
//! A module for each kind of rewrite below this one; here is what they share: trails of a few objects, and a
//! forger who holds the signing key.

mod compact;
mod expire;
mod faults;
mod forged;
mod renormalize;
mod withhold;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read};

use keytrail_adapters::memory::{MemoryCheckpoint, MemoryStore};
use keytrail_archive::kept::{self, Origin};
use keytrail_archive::{ObjectReader, ObjectWriter, Projection, Selection, StoredRow};
use keytrail_model::row::{Encoded, encode};
use keytrail_model::{Column, Day, Detail, Manifest, Partition, RowBuffer, Value};
use keytrail_pipeline::input::Input;
use keytrail_pipeline::seal::{Log, read_entries};
use keytrail_ports::BlobStore;

use crate::memory::{Memory, ORIGIN, input};

/// Events of one day, two each.
pub fn inputs(from: u32, to: u32) -> Vec<Input> {
    let event = |i: u32, second: u32| {
        format!(
            r#"{{"eventVersion":"1.08","eventID":"id-{i}-{second}","userIdentity":{{"type":"Root","accountId":"111122223333"}},"eventTime":"2023-07-10T11:42:{second:02}Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","errorCode":"AccessDenied","awsRegion":"us-east-1","recipientAccountId":"111122223333"}}
"#
        )
    };
    (from..to).map(|i| input(&format!("in-{i}"), event(i, i) + &event(i, 59 - i))).collect()
}

/// A trail of so many objects.
pub fn trail_of(objects: u32) -> Memory {
    let trail = Memory::new();
    for i in 0..objects {
        trail.run(&inputs(i, i + 1)).unwrap();
    }
    trail
}

pub fn size(trail: &Memory) -> u64 {
    trail.with(&trail.store, &trail.lock, |t| t.log().recover().unwrap().size)
}

/// Uid and hash of every row that is readable.
pub fn events(trail: &Memory) -> BTreeSet<String> {
    let mut events = BTreeSet::new();
    for object in trail.readable(size(trail)).objects() {
        for_each_row(&trail.store, &object.object.key, &mut |row| {
            assert!(events.insert(format!("{} {:?}", row.uid, row.hash)), "twice: {}", row.uid);
        });
    }
    events
}

pub fn for_each_row(store: &MemoryStore, key: &str, each: &mut dyn FnMut(&StoredRow<'_>)) {
    let reader = ObjectReader::in_memory(store.get(key).unwrap().unwrap()).unwrap();
    for batch in reader.batches(&Projection::All, Selection::All) {
        batch.unwrap().rows().for_each(|row| each(&row));
    }
}

/// What is in the archive's folder is what is readable, and verifies.
pub fn settled(trail: &Memory, what: &str) {
    let readable = trail.readable(size(trail));
    let mut keys: Vec<&str> = readable.object_keys().into_iter().collect();
    keys.sort_unstable();
    assert_eq!(trail.store.list("archive/").unwrap(), keys, "{what}");
    let failures: Vec<_> = trail.verify().failures().cloned().collect();
    assert_eq!(failures, [], "{what}");
    let shas: BTreeSet<String> =
        readable.objects().map(|o| format!("state/uids/{}", o.object.sha256)).collect();
    assert!(trail.store.list("state/uids/").unwrap().iter().all(|k| shas.contains(k)), "{what}");
}

/// The trail with another log of other manifests, signed by its key; `change` may change objects, too.
pub fn forge(trail: &Memory, change: impl FnOnce(&mut Vec<Manifest>, &MemoryStore)) -> Memory {
    let forged = Memory { lock: MemoryCheckpoint::new(), ..Memory::new() };
    for key in trail.store.list("").unwrap().iter().filter(|k| !k.starts_with("log")) {
        forged.store.replace(key, &trail.store.get(key).unwrap().unwrap()).unwrap();
    }
    let mut manifests = manifests(trail);
    change(&mut manifests, &forged.store);
    let entries: Vec<Vec<u8>> = manifests.iter().map(Manifest::to_bytes).collect();
    let log = Log { store: &forged.store, lock: &forged.lock, signers: &[&forged.signer], origin: ORIGIN };
    log.append(None, &entries).unwrap();
    forged
}

pub fn codes(trail: &Memory) -> Vec<String> {
    trail.verify().findings.iter().map(ToString::to_string).collect()
}

pub fn set_detail(store: &MemoryStore, manifest: &mut Manifest, change: impl FnOnce(&mut Detail)) {
    let mut detail = Detail::parse(&store.get(&manifest.detail.key).unwrap().unwrap()).unwrap();
    store.delete(&manifest.detail.key).unwrap();
    change(&mut detail);
    let (bytes, sealed) = detail.to_object();
    store.replace(&sealed.key, &bytes).unwrap();
    manifest.detail = sealed;
}

/// Takes a row.
pub type Push<'a> = dyn FnMut(&StoredRow<'_>) + 'a;

/// Writes an object again with the rows that `change` pushes for each row, and makes the manifest fit.
pub fn set_rows(
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

pub fn columns_of<'a>(row: &StoredRow<'a>) -> Vec<(Column, Value<'a>)> {
    let value = |value| match value {
        Encoded::Text(t) => Value::Text(Cow::Borrowed(t)),
        Encoded::Int(n) => Value::Int(n),
        Encoded::Bool(b) => Value::Bool(b),
        Encoded::List(items) => Value::List(items.map(Into::into).collect()),
    };
    keytrail_model::row::columns(row.columns).map(|(column, v)| (column, value(v))).collect()
}

pub fn column(trail: &Memory, wanted: Column) -> Vec<Option<String>> {
    let mut values = Vec::new();
    for object in trail.readable(size(trail)).objects() {
        for_each_row(&trail.store, &object.object.key, &mut |row| {
            values.push(keytrail_model::row::text(row.columns, wanted).map(str::to_owned));
        });
    }
    values
}

/// The manifests of a trail, in the order of its log.
pub fn manifests(trail: &Memory) -> Vec<Manifest> {
    let (mut manifests, size) = (Vec::new(), size(trail));
    read_entries(&trail.store, size, 0, size, &mut |_, entry| {
        manifests.push(Manifest::parse(entry).unwrap());
        Ok(())
    })
    .unwrap();
    manifests
}

/// A row with another value in a column.
pub fn set_column(row: &StoredRow<'_>, wanted: Column, new: &str, push: &mut Push<'_>) {
    let others = columns_of(row).into_iter().map(|(column, value)| match column == wanted {
        true => (column, Value::Text(new.into())),
        false => (column, value),
    });
    let mut columns = Vec::new();
    encode(&mut columns, others);
    push(&StoredRow { columns: &columns, ..*row });
}
