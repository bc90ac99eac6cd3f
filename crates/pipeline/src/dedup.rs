//! Which rows are new (ARCHITECTURE rule 4): judged inside the partition, by uid against everything
//! that is sealed there and everything that this run has written there.
//!
//! What is sealed is looked up in an index file per archive object, `state/uids/<sha256>`; one that is
//! missing is made again from the object. Memory holds the filters of the partitions in use, within a
//! budget, and the entries of objects that are not sealed yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use keytrail_archive::{Entries, ReadAt, UidIndex};
use keytrail_model::{Fatal, Hash, Partition, Uid};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;

use crate::objects;
use crate::readable::{Readable, SealedObject};
use crate::trail::Trail;

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

/// What the tag of an index is over, before its bytes.
const TAG_DOMAIN: &[u8] = b"keytrail/uids/1\n";

/// Judges rows.
pub(crate) struct Dedup<'a> {
    trail: &'a Trail<'a>,
    /// Indexes of sealed objects, by partition; those used longest ago go first.
    /// The number is the size of the log that they are of.
    sealed: Vec<(u64, Partition, Vec<UidIndex>)>,
    /// Events that are written and not sealed, by partition.
    fresh: BTreeMap<Partition, Entries>,
}

impl<'a> Dedup<'a> {
    /// Nothing is written yet.
    pub fn new(trail: &'a Trail<'a>) -> Self {
        Self { trail, sealed: Vec::new(), fresh: BTreeMap::new() }
    }

    /// Makes a partition's sealed objects known; call it before its rows are judged.
    pub fn enter(&mut self, partition: &Partition, readable: &Readable) -> Result<(), Fatal> {
        let mut held = Vec::new();
        if let Some(at) = self.sealed.iter().position(|(_, p, _)| p == partition) {
            let (size, partition, indexes) = self.sealed.remove(at);
            if size == readable.size {
                self.sealed.push((size, partition, indexes));
                return Ok(());
            }
            held = indexes;
        }
        // Objects came since, or were replaced: what is still there stays open.
        let mut held: HashMap<Hash, UidIndex> = held.into_iter().map(|i| (*i.object(), i)).collect();
        let mut indexes = Vec::new();
        for object in readable.partitions.get(partition).into_iter().flatten() {
            indexes.push(match held.remove(&object.object.sha256) {
                Some(index) => index,
                None => open_index(self.trail, object)?,
            });
        }
        self.sealed.push((readable.size, partition.clone(), indexes));
        let (mut bytes, mut files) = (0, 0);
        let keep = self.sealed.iter().rev().take_while(|(_, _, list)| {
            bytes += list.iter().map(|i| i.memory_bytes() + EACH_BYTES).sum::<usize>();
            files += list.len();
            bytes <= INDEX_BYTES && files <= INDEX_FILES
        });
        let keep = keep.count().max(1);
        self.sealed.drain(..self.sealed.len() - keep);
        Ok(())
    }

    /// Judges a row of the partition that was entered last, and notes it if it is new.
    pub fn judge(&mut self, partition: &Partition, group: u64, uid: &Uid) -> Result<Verdict, Fatal> {
        let fresh = match self.fresh.get_mut(partition) {
            Some(entries) => entries,
            None => self.fresh.entry(partition.clone()).or_default(),
        };
        let mut found = fresh.find(group, uid);
        if let Some((_, _, indexes)) = self.sealed.last() {
            for index in indexes {
                if found.same {
                    break;
                }
                found.merge(index.find(group, uid).map_err(|e| objects::at(&index_key(index.object()), e))?);
            }
        }
        if found.same {
            return Ok(Verdict::Duplicate);
        }
        fresh.insert(group, uid);
        Ok(if found.others.is_empty() { Verdict::New } else { Verdict::Shares(found.others) })
    }

    /// What was written is sealed now: forget the entries. Partitions are looked at again when they are entered.
    pub fn sealed(&mut self) {
        self.fresh.clear();
    }
}

/// Where the indexes are.
const INDEXES: &str = "state/uids/";

/// Deletes the index of an object that is gone.
pub(crate) fn forget(store: &dyn BlobStore, object: &Hash) -> Result<(), Fatal> {
    Ok(store.delete(&index_key(object))?)
}

/// Deletes the indexes of all objects but these.
pub(crate) fn forget_others(store: &dyn BlobStore, objects: &HashSet<Hash>) -> Result<(), Fatal> {
    for key in store.list(INDEXES)? {
        let of = key.strip_prefix(INDEXES).and_then(Hash::from_hex);
        if of.is_some_and(|of| !objects.contains(&of)) {
            store.delete(&key)?;
        }
    }
    Ok(())
}

fn index_key(object: &Hash) -> String {
    format!("{INDEXES}{object}")
}

/// What an index file ends with: HMAC-SHA-256 over all before it, under the trail's mask key. Without it
/// whoever can write to `state/` could name events that never came, and they would be dropped as
/// duplicates when they do.
const TAG_BYTES: u64 = 32;

/// Bytes read at a time to check the tag.
const READ_BYTES: usize = 1 << 20;

/// The part of a file before its tag.
struct Untagged(Arc<dyn ReadAt>);

impl ReadAt for Untagged {
    fn size(&self) -> io::Result<u64> {
        self.0.size()?.checked_sub(TAG_BYTES).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buf)
    }
}

/// An index file whose tag is right; small ones are held in memory, since a partition can have more
/// objects than a process may have open files.
fn authentic(blob: Arc<dyn ReadAt>, masker: &Masker) -> io::Result<Option<Arc<dyn ReadAt>>> {
    let index = Untagged(blob);
    let size = index.size()?;
    let mut tagger = masker.tagger(TAG_DOMAIN);
    let mut held = Vec::new();
    let mut at = 0;
    while at < size {
        let mut part = vec![0; READ_BYTES.min(usize::try_from(size - at).unwrap_or(READ_BYTES))];
        index.read_at(at, &mut part)?;
        tagger.update(&part);
        at += part.len() as u64;
        if size <= HELD_BYTES {
            held.extend_from_slice(&part);
        }
    }
    let mut tag = [0; TAG_BYTES as usize];
    index.0.read_at(size, &mut tag)?;
    if !tagger.matches(&tag) {
        return Ok(None);
    }
    Ok(Some(if size <= HELD_BYTES { Arc::new(held) } else { Arc::new(index) }))
}

/// An object's index, made again where it is missing, unreadable or not ours.
pub(crate) fn open_index(trail: &Trail<'_>, object: &SealedObject) -> Result<UidIndex, Fatal> {
    let sha256 = object.object.sha256;
    let key = index_key(&sha256);
    let stored = || -> Result<Option<UidIndex>, Fatal> {
        let Some(blob) = objects::blob(trail.store, &key)? else { return Ok(None) };
        let Ok(Some(index)) = authentic(blob, trail.masker) else { return Ok(None) };
        let index = UidIndex::open(index, true).ok();
        // An event that stands twice in its object has one entry.
        Ok(index.filter(|i| *i.object() == sha256 && i.count() <= object.rows.count))
    };
    if let Some(index) = stored()? {
        return Ok(index);
    }
    let reader = objects::open(trail.store, &object.object.key)?;
    let entries = Entries::read(&reader).map_err(|e| objects::at(&object.object.key, e))?;
    let mut bytes = Vec::new();
    entries.write(&sha256, &mut bytes)?;
    let mut tagger = trail.masker.tagger(TAG_DOMAIN);
    tagger.update(&bytes);
    bytes.extend(tagger.finish());
    trail.store.replace(&key, &bytes)?;
    stored()?.ok_or_else(|| Fatal::new("Fatal.Store", format!("`{key}` was written and does not read back")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_somebody_else_made_is_not_believed() {
        let (ours, theirs) = (Masker::new(&[1; 32]), Masker::new(&[2; 32]));
        for size in [0, 10, HELD_BYTES as usize + 1] {
            let mut bytes = vec![7; size];
            let mut tagger = ours.tagger(TAG_DOMAIN);
            tagger.update(&bytes);
            bytes.extend(tagger.finish());
            let read = |bytes: &[u8], masker| authentic(Arc::new(bytes.to_vec()), masker).unwrap();
            assert_eq!(read(&bytes, &ours).unwrap().size().unwrap(), size as u64);
            assert!(read(&bytes, &theirs).is_none());
            bytes[0] ^= 1;
            assert!(read(&bytes, &ours).is_none());
        }
        assert!(authentic(Arc::new(vec![0; 31]), &ours).is_err());
    }
}
