//! Archived rows are changed at will, and object and manifest made to fit again.
//!
//! What it is: the worst that an operator of a trail can do, with the product's own reader and writer of
//! Parquet objects. In: a forger of logs, a change of rows. Out: another object, and its manifest among
//! the entries of the forger.

use std::fs;
use std::sync::Arc;

use keytrail_archive::kept::{self, Origin};
use keytrail_archive::{ObjectReader, ObjectWriter, Projection, Selection, StoredRow};
use keytrail_model::row::{Encoded, columns, encode};
use keytrail_model::{Column, Day, Detail, Hash, Manifest, Partition, RowBuffer, Timestamp, Uid, Value};

use crate::forge::Forger;

/// A row that can be changed at will.
pub struct ForgedRow {
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`; unless the original changes with it, a lie.
    pub hash: Hash,
    /// `event_original`; nothing, where it is null.
    pub original: Vec<u8>,
    /// `event_original` is null.
    pub withheld: bool,
    encoded: Vec<u8>,
}

impl ForgedRow {
    /// A derived column's value.
    #[must_use]
    pub fn get(&self, wanted: Column) -> Value<'_> {
        columns(&self.encoded).find(|(column, _)| *column == wanted).map_or(Value::Null, |(_, v)| decoded(v))
    }

    /// Gives a derived column another value; null takes it away.
    pub fn set(&mut self, wanted: Column, value: &Value<'_>) {
        let mut encoded = Vec::new();
        let values = Column::ALL.into_iter().filter_map(|column| match column == wanted {
            true => Some((column, value.clone())),
            false => columns(&self.encoded).find(|(c, _)| *c == column).map(|(_, v)| (column, decoded(v))),
        });
        encode(&mut encoded, values);
        self.encoded = encoded;
    }

    /// Other original bytes, with the hash that they have.
    pub fn replace_original(&mut self, original: Vec<u8>) {
        self.hash = Hash::of(&original);
        self.original = original;
    }
}

fn decoded(value: Encoded<'_>) -> Value<'_> {
    match value {
        Encoded::Text(t) => Value::Text(t.into()),
        Encoded::Int(n) => Value::Int(n),
        Encoded::Bool(b) => Value::Bool(b),
        Encoded::List(items) => Value::List(items.map(Into::into).collect()),
    }
}

/// Manifest number `leaf`.
#[must_use]
pub fn manifest(forger: &Forger, leaf: usize) -> Manifest {
    Manifest::parse(&forger.entries[leaf]).expect("a manifest")
}

/// The first manifest that names an object of a dataset.
#[must_use]
pub fn leaf_of(forger: &Forger, dataset: &str) -> usize {
    let is = |leaf: &usize| manifest(forger, *leaf).rows.is_some_and(|r| r.dataset == dataset);
    (0..forger.entries.len()).find(is).expect("an object of the dataset")
}

/// Writes the object of a manifest again, each row as `change` leaves it (`false` drops it), and the
/// manifest that fits: roots, size, hash, name.
pub fn rewrite(forger: &mut Forger, leaf: usize, change: &mut dyn FnMut(usize, &mut ForgedRow) -> bool) {
    let mut manifest = manifest(forger, leaf);
    let (object, rows) = (manifest.object.expect("an object"), manifest.rows.expect("rows"));
    let path = forger.data.join(&object.key);
    let reader = ObjectReader::open(Arc::new(fs::read(&path).expect("the object"))).expect("opens");
    let dataset: &'static str = rows.dataset.leak();
    let day = Day::parse(&rows.day).expect("a day");
    let mut buffer = RowBuffer::new();
    for batch in reader.batches(&Projection::All, Selection::All) {
        for row in batch.expect("reads").rows() {
            let mut forged = ForgedRow {
                uid: row.uid,
                hash: row.hash.expect("a hash"),
                original: row.original.unwrap_or_default().to_vec(),
                withheld: row.original.is_none(),
                encoded: row.columns.to_vec(),
            };
            if change(row.number as usize, &mut forged) {
                let time = columns(&forged.encoded).find_map(|(column, value)| match value {
                    Encoded::Int(n) if column == Column::Timestamp => Some(Timestamp(n)),
                    _ => None,
                });
                let row = StoredRow {
                    uid: forged.uid,
                    hash: Some(forged.hash),
                    time,
                    columns: &forged.encoded,
                    original: (!forged.withheld).then_some(&forged.original[..]),
                    ..row
                };
                let origin = Origin { input: 0, row: row.number };
                let head = kept::head(&row, dataset, day, origin).expect("a whole row");
                kept::pack(&mut buffer, &head, &row, &mut Vec::new());
            }
        }
    }
    buffer.sort();
    let partition = Partition { dataset: dataset.into(), day };
    let writer = ObjectWriter::new(partition, Vec::new(), 1).expect("starts");
    let mut writer = writer.enriched_with(&rows.tables);
    let all: Vec<_> = buffer.rows().collect();
    let all: Vec<_> = all.iter().map(|row| kept::unpack(row).expect("as it was packed")).collect();
    writer.append_kept(&all).expect("writes");
    let done = writer.finish_as(manifest.kind, &manifest.replaces).expect("ends");
    fs::remove_file(&path).expect("removed");
    fs::write(forger.data.join(&done.object.key), &done.out).expect("written");
    (manifest.object, manifest.rows) = (Some(done.object), Some(done.rows));
    forger.entries[leaf] = manifest.to_bytes();
}

/// Writes the detail object of a manifest again as `change` leaves it, and the manifest that fits.
pub fn change_detail(forger: &mut Forger, leaf: usize, change: impl FnOnce(&mut Detail)) {
    let mut manifest = manifest(forger, leaf);
    let path = |key: &str| forger.data.join(key);
    let mut detail =
        Detail::parse(&fs::read(path(&manifest.detail.key)).expect("a detail object")).expect("one of ours");
    change(&mut detail);
    let (bytes, sealed) = detail.to_object();
    fs::remove_file(path(&manifest.detail.key)).expect("removed");
    fs::write(path(&sealed.key), bytes).expect("written");
    manifest.detail = sealed;
    forger.entries[leaf] = manifest.to_bytes();
}
