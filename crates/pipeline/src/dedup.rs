//! Which rows are new (ARCHITECTURE rule 4): judged inside the partition, by uid against everything
//! that is sealed there and everything that this run has written there.
//!
//! What is sealed is looked up in an index file per archive object, `state/uids/<sha256>`; one that is
//! missing is made again from the object. Memory holds the filters of the partitions in use, within a
//! budget, and the entries of objects that are not sealed yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use keytrail_archive::{Projection, Selection, UidIndex};
use keytrail_model::row::Head;
use keytrail_model::{Fatal, Partition, Uid};
use keytrail_ports::BlobStore;

use crate::objects;
use crate::readable::{Readable, SealedObject};

/// What a row is to the archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// An event that the archive does not hold.
    New,
    /// The archive holds it.
    Duplicate,
    /// New, and another event has its producer's key.
    Shares(Uid),
}

/// Filters in memory, in bytes.
const FILTER_BYTES: usize = 64 << 20;

/// Judges rows.
pub(crate) struct Dedup<'a> {
    store: &'a dyn BlobStore,
    /// Indexes of sealed objects, by partition; those used longest ago go first.
    sealed: Vec<(Partition, Vec<Arc<UidIndex>>)>,
    /// Entries that are written and not sealed: sorted slices, by partition.
    fresh: BTreeMap<Partition, Vec<Vec<(u64, Uid)>>>,
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
            indexes.push(Arc::new(open_index(self.store, object)?));
        }
        self.sealed.push((partition.clone(), indexes));
        let mut bytes = 0;
        let keep = self.sealed.iter().rev().take_while(|(_, list)| {
            bytes += list.iter().map(|i| i.memory_bytes()).sum::<usize>();
            bytes <= FILTER_BYTES
        });
        let keep = keep.count().max(1);
        self.sealed.drain(..self.sealed.len() - keep);
        Ok(())
    }

    /// Judges a row of the partition that was entered last.
    pub fn judge(&self, partition: &Partition, head: &Head) -> Result<Verdict, Fatal> {
        let mut other = None;
        for slice in self.fresh.get(partition).into_iter().flatten() {
            let at = slice.partition_point(|e| *e < (head.group, head.uid));
            match slice.get(at) {
                Some(e) if *e == (head.group, head.uid) => return Ok(Verdict::Duplicate),
                next => {
                    let before = at.checked_sub(1).and_then(|i| slice.get(i));
                    let near = [next, before].into_iter().flatten().find(|e| e.0 == head.group);
                    other = other.or(near.map(|e| e.1));
                }
            }
        }
        if let Some((_, indexes)) = self.sealed.last() {
            for index in indexes {
                let found = index.find(head.group, &head.uid)?;
                if found.same {
                    return Ok(Verdict::Duplicate);
                }
                other = other.or(found.other);
            }
        }
        Ok(other.map_or(Verdict::New, Verdict::Shares))
    }

    /// Notes rows that were written.
    pub fn written(&mut self, partition: &Partition, mut entries: Vec<(u64, Uid)>) {
        if entries.is_empty() {
            return;
        }
        entries.sort_unstable();
        let slices = self.fresh.entry(partition.clone()).or_default();
        slices.push(entries);
        // Slices of about equal size are joined, so that their number stays logarithmic.
        while let [.., a, b] = slices.as_slice()
            && a.len() <= 2 * b.len()
        {
            let (b, mut a) = (slices.pop().unwrap_or_default(), slices.pop().unwrap_or_default());
            a.extend(b);
            a.sort_unstable();
            slices.push(a);
        }
    }

    /// What was written is sealed now: forget the entries, and look partitions up again.
    pub fn sealed(&mut self) {
        self.fresh.clear();
        self.sealed.clear();
    }
}

fn index_key(object: &SealedObject) -> String {
    format!("state/uids/{}", object.object.sha256)
}

/// An object's index, made again where it is missing or unreadable.
fn open_index(store: &dyn BlobStore, object: &SealedObject) -> Result<UidIndex, Fatal> {
    let key = index_key(object);
    if let Some(blob) = objects::blob(store, &key)?
        && let Ok(index) = UidIndex::open(blob)
        && index.len() == object.rows.count
    {
        return Ok(index);
    }
    let reader = objects::open(store, &object.object.key)?;
    let mut entries = Vec::new();
    for batch in reader.batches(&Projection::index(), Selection::All) {
        let batch = batch.map_err(|e| objects::at(&object.object.key, e))?;
        entries.extend(batch.rows().map(|r| (r.group.unwrap_or_default(), r.uid)));
    }
    put_index(store, object, entries)?;
    let blob = objects::blob(store, &key)?
        .ok_or_else(|| Fatal::new("Fatal.Store", format!("`{key}` was written and is not there")))?;
    UidIndex::open(blob).map_err(|e| objects::at(&key, e))
}

/// Writes an object's index.
fn put_index(store: &dyn BlobStore, object: &SealedObject, mut entries: Vec<(u64, Uid)>) -> Result<(), Fatal> {
    entries.sort_unstable();
    Ok(store.replace(&index_key(object), &UidIndex::build(&entries))?)
}
