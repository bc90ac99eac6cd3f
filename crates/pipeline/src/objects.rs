//! Archive objects in a store, opened for the archive's readers.

use std::io;
use std::sync::Arc;

use keytrail_archive::{Digests, ObjectReader, Projection, ReadAt, ReadError, Selection, StoredRow};
use keytrail_model::manifest::ObjectRef;
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::row::text;
use keytrail_model::{Column, Fatal, Hash, Uid};
use keytrail_ports::{BlobRead, BlobStore, Put, StoreError};
use sha2::{Digest, Sha256};

use crate::concurrent;
use crate::readable::SealedObject;
use crate::sink::Staged;

/// An opened blob as the archive's readers want it.
struct Opened(Box<dyn BlobRead>);

impl ReadAt for Opened {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.0.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.0.read_at(offset, buf).map_err(|e| match e {
            StoreError::Full(m) => io::Error::new(io::ErrorKind::StorageFull, m),
            StoreError::Retryable(m) => io::Error::new(io::ErrorKind::TimedOut, m),
            StoreError::Fatal(m) => io::Error::other(m),
        })
    }
}

/// A blob for positioned reads; `None` when it is not there.
pub(crate) fn blob(store: &dyn BlobStore, key: &str) -> Result<Option<Arc<dyn ReadAt>>, Fatal> {
    Ok(match object(store, key)? {
        None => None,
        Some(Object::Whole(bytes)) => Some(Arc::new(bytes)),
        Some(Object::Large(blob)) => Some(Arc::new(Opened(blob))),
    })
}

/// A blob for positioned reads, none of which is made ahead; `None` when it is not there.
#[cfg(feature = "sql")]
pub(crate) fn ranged(store: &dyn BlobStore, key: &str) -> Result<Option<Arc<dyn ReadAt>>, Fatal> {
    Ok(store.open(key)?.map(|blob| Arc::new(Opened(blob)) as Arc<dyn ReadAt>))
}

/// Blobs up to this size are read at once: an object of one row has as many column chunks as a large one,
/// and each would be a read of its own.
const WHOLE_BYTES: u64 = 1 << 20;

/// Bytes hashed at a time.
const HASH_BYTES: u64 = 128 << 10;

/// A blob that is there.
pub(crate) enum Object {
    /// Its bytes.
    Whole(Vec<u8>),
    /// It is larger than [`WHOLE_BYTES`].
    Large(Box<dyn BlobRead>),
}

/// A blob, opened once for all that is done with it; `None` when it is not there.
pub(crate) fn object(store: &dyn BlobStore, key: &str) -> Result<Option<Object>, Fatal> {
    let Some(blob) = store.open(key)? else { return Ok(None) };
    if blob.len() > WHOLE_BYTES {
        return Ok(Some(Object::Large(blob)));
    }
    let mut bytes = vec![0; blob.len() as usize];
    blob.read_at(0, &mut bytes)?;
    Ok(Some(Object::Whole(bytes)))
}

impl Object {
    /// Its size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Large(blob) => blob.len(),
        }
    }

    /// SHA-256 of its bytes.
    pub fn sha256(&self) -> Result<Hash, Fatal> {
        let blob = match self {
            Self::Whole(bytes) => return Ok(Hash::of(bytes)),
            Self::Large(blob) => blob,
        };
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; HASH_BYTES as usize];
        let mut at = 0;
        while at < blob.len() {
            let part = HASH_BYTES.min(blob.len() - at);
            let buffer = &mut buffer[..part as usize];
            blob.read_at(at, buffer)?;
            hasher.update(buffer);
            at += part;
        }
        Ok(Hash(hasher.finalize().into()))
    }

    /// The object that it is, of that name.
    pub fn reader(self, key: &str) -> Result<ObjectReader, Fatal> {
        match self {
            Self::Whole(bytes) => ObjectReader::in_memory(bytes),
            Self::Large(blob) => ObjectReader::open(Arc::new(Opened(blob))),
        }
        .map_err(|e| at(key, e))
    }
}

/// An archive object that the log names.
pub(crate) fn open(store: &dyn BlobStore, key: &str) -> Result<ObjectReader, Fatal> {
    let object = object(store, key)?.ok_or_else(|| {
        Fatal::new("Fatal.ObjectMissing", format!("`{key}` is named by the log and is not there"))
    })?;
    object.reader(key)
}

/// Puts a finished object, of which these rows have no original; gives the one that is stored. Where one of that
/// name is there, another writer made it of the same events: its rows must be ours, its bytes may differ (rows
/// carry when they were ingested).
pub(crate) fn put(store: &dyn BlobStore, staged: &Staged, withheld: &[u64]) -> Result<ObjectRef, Fatal> {
    let ours = &staged.object;
    if store.put_file_if_absent(&ours.key, &staged.path)? == Put::Created {
        return Ok(ours.clone());
    }
    let conflict = |what: &str| Fatal::new("Fatal.ObjectConflict", format!("`{}` {what}", ours.key));
    let there = contents(&open(store, &ours.key)?).map_err(|e| at(&ours.key, e))?;
    if there.roots != (staged.rows.events_root, staged.rows.rows_root) {
        return Err(conflict("is there with other rows"));
    }
    // No root is over them. What is put may be all that is left of them.
    if there.withheld != withheld {
        return Err(conflict("is there without the original bytes of other rows"));
    }
    let stored = object(store, &ours.key)?
        .ok_or_else(|| Fatal::new("Fatal.ObjectMissing", format!("`{}` was there and is gone", ours.key)))?;
    Ok(ObjectRef { bytes: stored.len(), sha256: stored.sha256()?, key: ours.key.clone() })
}

/// The most rows that an object may have: a manifest may claim any number, a row takes more than a byte.
pub(crate) fn rows_at_most(store: &dyn BlobStore, object: &SealedObject) -> u64 {
    let bytes = store.open(&object.object.key).map_or(0, |b| b.map_or(0, |b| b.len()));
    object.rows.count.min(bytes)
}

/// How often objects have to be read to hold something of this many rows at once.
pub(crate) fn passes(store: &dyn BlobStore, objects: &[&SealedObject], at_once: u64) -> Result<u64, Fatal> {
    let claimed = objects.iter().map(|o| o.rows.count).fold(0, u64::saturating_add);
    if claimed <= at_once {
        return Ok(1);
    }
    let rows = concurrent::each(objects, |object| Ok(rows_at_most(store, object)))?;
    Ok(rows.iter().sum::<u64>().div_ceil(at_once).max(1))
}

/// A read error with the object's name.
pub(crate) fn at(key: &str, error: ReadError) -> Fatal {
    let Fatal { code, message } = error.into();
    Fatal::new(code, format!("`{key}`: {message}"))
}

/// What an object holds, recomputed.
pub(crate) struct Contents {
    /// Over event hashes, which are those of the originals, and over row digests.
    pub roots: (Hash, Hash),
    /// Rows without an original.
    pub withheld: Vec<u64>,
}

/// Reads all rows of an object.
pub(crate) fn contents(reader: &ObjectReader) -> Result<Contents, ReadError> {
    let (mut events, mut rows, mut withheld) = (RootBuilder::new(), RootBuilder::new(), Vec::new());
    let mut digests = Digests::default();
    for batch in reader.batches(&Projection::Bound, Selection::All) {
        for leaf in batch?.leaves(&mut digests) {
            match leaf.original {
                None => withheld.push(leaf.number),
                Some(original) if Hash::of(original) == leaf.hash => {}
                Some(_) => {
                    return Err(ReadError::Damaged(format!(
                        "row {}: `event_hash` is not that of `event_original`",
                        leaf.number
                    )));
                }
            }
            events.push(leaf_hash(&leaf.hash.0));
            rows.push(leaf_hash(&leaf.digest.0));
        }
    }
    Ok(Contents { roots: (events.root(), rows.root()), withheld })
}

/// A row, copied out of its object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredEvent {
    /// Identity.
    pub uid: Uid,
    /// Place in its object.
    pub row: u64,
    /// SHA-256 of the original.
    pub hash: Hash,
    /// The event's own time, microseconds since 1970.
    pub time: Option<i64>,
    /// When it was read, microseconds since 1970.
    pub ingested: Option<i64>,
    /// Object and offset that it was read from.
    pub input: String,
    /// Derived columns, encoded as [`keytrail_model::row::columns`] reads them.
    pub columns: Vec<u8>,
    /// Enrichment columns, in the same encoding.
    pub enrichment: Vec<u8>,
    /// The bytes as they came; `None` where withheld.
    pub original: Option<Vec<u8>>,
}

impl StoredEvent {
    /// A column's text.
    pub fn text(&self, wanted: Column) -> Option<&str> {
        text(&self.columns, wanted)
    }

    /// What makes two events claim the same place with their producer; `None` when its source is not
    /// judged (no scope) or gives no id.
    pub fn claim(&self) -> Option<(&str, &str, &str, &str)> {
        Some((
            self.text(Column::EventDataset)?,
            self.text(Column::KeytrailScope)?,
            self.text(Column::EventId)?,
            self.text(Column::KeytrailPhase).unwrap_or_default(),
        ))
    }
}

/// With more rows than this an object is read from end to end, with fewer row by row.
const ROWS_ONE_BY_ONE: usize = 16;

/// Hands over the rows of an object for which `wanted` says so, by uid and group, in file order.
pub(crate) fn pick(
    reader: &ObjectReader,
    wanted: &dyn Fn(&Uid, u64) -> bool,
    each: &mut dyn FnMut(StoredEvent),
) -> Result<(), ReadError> {
    let mut numbers = Vec::new();
    for batch in reader.batches(&Projection::index(), Selection::All) {
        for row in batch?.rows() {
            if wanted(&row.uid, row.group.unwrap_or_default()) {
                numbers.push(row.number);
            }
        }
    }
    rows(reader, &numbers, each)
}

/// Hands over the rows of those numbers, which ascend.
pub(crate) fn rows(
    reader: &ObjectReader,
    numbers: &[u64],
    each: &mut dyn FnMut(StoredEvent),
) -> Result<(), ReadError> {
    if numbers.len() <= ROWS_ONE_BY_ONE {
        for number in numbers {
            for batch in reader.batches(&Projection::All, Selection::Row(*number)) {
                batch?.rows().for_each(|row| each(copied(&row)));
            }
        }
        return Ok(());
    }
    for batch in reader.batches(&Projection::All, Selection::All) {
        for row in batch?.rows() {
            if numbers.binary_search(&row.number).is_ok() {
                each(copied(&row));
            }
        }
    }
    Ok(())
}

fn copied(row: &StoredRow<'_>) -> StoredEvent {
    let hash = row.hash.unwrap_or_default();
    StoredEvent {
        uid: row.uid,
        row: row.number,
        hash,
        time: row.time.map(|t| t.0),
        ingested: row.ingested.map(|t| t.0),
        input: row.input.unwrap_or_default().to_owned(),
        columns: row.columns.to_vec(),
        enrichment: row.enrichment.to_vec(),
        original: row.original.map(<[u8]>::to_vec),
    }
}
