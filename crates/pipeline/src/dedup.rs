//! Which rows are new (ARCHITECTURE rule 4): judged inside the partition, by uid against everything
//! that is sealed there and everything that this run has written there.
//!
//! What is sealed is looked up in an index file per archive object, `state/uids/<sha256>`; one that is
//! missing is made again from the object. Memory holds the filters of the partitions in use, within a
//! budget, and the entries of objects that are not sealed yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use keytrail_archive::{Entries, ReadAt, UidIndex};
use keytrail_model::row::Head;
use keytrail_model::{Fatal, Hash, Partition, Uid};
use keytrail_ports::BlobStore;

use crate::objects;
use crate::readable::{Readable, SealedObject};

/// What a row is to the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// An event that the archive does not hold.
    New,
    /// The archive holds it.
    Duplicate,
    /// New, and these events have its producer's key.
    Shares(Vec<Uid>),
}

/// Indexes of sealed objects in memory, in bytes: filters of large ones, small ones whole.
const INDEX_BYTES: usize = 64 << 20;

/// Indexes of sealed objects in memory: a large one has its file open, and a process may have 1,024.
const INDEX_FILES: usize = 256;

/// An index up to this size is held whole, a larger one is read where it is looked into.
const HELD_BYTES: u64 = 64 << 10;

/// What an index takes beside its filter, at most, if it is held whole.
const EACH_BYTES: usize = HELD_BYTES as usize;

/// Judges rows.
pub(crate) struct Dedup<'a> {
    store: &'a dyn BlobStore,
    /// Indexes of sealed objects, by partition; those used longest ago go first.
    sealed: Vec<(Partition, Vec<UidIndex>)>,
    /// Events that are written and not sealed, by partition.
    fresh: BTreeMap<Partition, Entries>,
}

impl<'a> Dedup<'a> {
    /// Nothing is written yet.
    pub fn new(store: &'a dyn BlobStore) -> Self {
        Self { store, sealed: Vec::new(), fresh: BTreeMap::new() }
    }

    /// Makes a partition's sealed objects known; call it before its rows are judged.
    pub fn enter(&mut self, partition: &Partition, readable: &Readable) -> Result<(), Fatal> {
        if let Some(at) = self.sealed.iter().position(|(p, _)| p == partition) {
            let entry = self.sealed.remove(at);
            self.sealed.push(entry);
            return Ok(());
        }
        let mut indexes = Vec::new();
        for object in readable.partitions.get(partition).into_iter().flatten() {
            indexes.push(open_index(self.store, object)?);
        }
        self.sealed.push((partition.clone(), indexes));
        let (mut bytes, mut files) = (0, 0);
        let keep = self.sealed.iter().rev().take_while(|(_, list)| {
            bytes += list.iter().map(|i| i.memory_bytes() + EACH_BYTES).sum::<usize>();
            files += list.len();
            bytes <= INDEX_BYTES && files <= INDEX_FILES
        });
        let keep = keep.count().max(1);
        self.sealed.drain(..self.sealed.len() - keep);
        Ok(())
    }

    /// Judges a row of the partition that was entered last, and notes it if it is new.
    pub fn judge(&mut self, partition: &Partition, head: &Head) -> Result<Verdict, Fatal> {
        let fresh = match self.fresh.get_mut(partition) {
            Some(entries) => entries,
            None => self.fresh.entry(partition.clone()).or_default(),
        };
        let mut found = fresh.find(head.group, &head.uid);
        if let Some((_, indexes)) = self.sealed.last() {
            for index in indexes {
                if found.same {
                    break;
                }
                found.merge(
                    index
                        .find(head.group, &head.uid)
                        .map_err(|e| objects::at(&index_key(index.object()), e))?,
                );
            }
        }
        if found.same {
            return Ok(Verdict::Duplicate);
        }
        fresh.insert(head.group, &head.uid);
        Ok(if found.others.is_empty() { Verdict::New } else { Verdict::Shares(found.others) })
    }

    /// What was written is sealed now: forget the entries, and look partitions up again.
    pub fn sealed(&mut self) {
        self.fresh.clear();
        self.sealed.clear();
    }
}

fn index_key(object: &Hash) -> String {
    format!("state/uids/{object}")
}

/// Small indexes are held in memory: a partition can have more objects than a process may have open files.
fn held(blob: Arc<dyn ReadAt>, key: &str) -> Result<Arc<dyn ReadAt>, Fatal> {
    let failed = |e: std::io::Error| Fatal::new("Fatal.Store", format!("cannot read `{key}`: {e}"));
    let size = blob.size().map_err(failed)?;
    if size > HELD_BYTES {
        return Ok(blob);
    }
    let mut bytes = vec![0; size as usize];
    blob.read_at(0, &mut bytes).map_err(failed)?;
    Ok(Arc::new(bytes))
}

/// An object's index, made again where it is missing or unreadable.
fn open_index(store: &dyn BlobStore, object: &SealedObject) -> Result<UidIndex, Fatal> {
    let sha256 = object.object.sha256;
    let key = index_key(&sha256);
    if let Some(blob) = objects::blob(store, &key)?
        && let Ok(index) = UidIndex::open(held(blob, &key)?, true)
        && (*index.object(), index.count()) == (sha256, object.rows.count)
    {
        return Ok(index);
    }
    let reader = objects::open(store, &object.object.key)?;
    let entries = Entries::read(&reader).map_err(|e| objects::at(&object.object.key, e))?;
    let mut bytes = Vec::new();
    entries.write(&sha256, &mut bytes)?;
    store.replace(&key, &bytes)?;
    let blob = objects::blob(store, &key)?
        .ok_or_else(|| Fatal::new("Fatal.Store", format!("`{key}` was written and is not there")))?;
    UidIndex::open(held(blob, &key)?, true).map_err(|e| objects::at(&key, e))
}
