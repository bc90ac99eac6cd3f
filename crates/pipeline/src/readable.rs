//! The readable set: what the sealed log says is in the archive at one checkpoint (ARCHITECTURE
//! rule 8). Readers take objects from here, never from a directory listing.

use std::collections::{BTreeMap, HashSet};

use keytrail_model::manifest::{DetailRef, ObjectRef, RowsRef};
use keytrail_model::{Day, Detail, Fatal, Hash, Manifest, Partition};
use keytrail_ports::BlobStore;

use crate::seal;

/// An archive object that a sealed manifest names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedObject {
    /// Index of its manifest in the log.
    pub leaf: u64,
    /// Name, size and hash.
    pub object: ObjectRef,
    /// Its rows.
    pub rows: RowsRef,
    /// When it was archived, microseconds since 1970.
    pub archived: i64,
}

/// The sealed objects of a trail, by partition.
#[derive(Clone, Default, Debug)]
pub struct Readable {
    /// Objects in the order of the log.
    pub partitions: BTreeMap<Partition, Vec<SealedObject>>,
    /// Detail objects, by key.
    pub details: BTreeMap<String, DetailRef>,
    /// Manifests read.
    pub size: u64,
}

impl Readable {
    /// Reads the first `size` entries of the log.
    pub fn load(store: &dyn BlobStore, size: u64) -> Result<Self, Fatal> {
        let mut readable = Self::default();
        readable.extend(store, size)?;
        Ok(readable)
    }

    /// Reads on to the first `size` entries.
    pub fn extend(&mut self, store: &dyn BlobStore, size: u64) -> Result<(), Fatal> {
        seal::read_entries(store, size, self.size, size, &mut |leaf, bytes| {
            let manifest = Manifest::parse(bytes)
                .map_err(|e| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {e}")))?;
            self.add(leaf, manifest)
        })
    }

    /// Adds a sealed manifest.
    pub fn add(&mut self, leaf: u64, manifest: Manifest) -> Result<(), Fatal> {
        self.size = self.size.max(leaf + 1);
        self.details.insert(manifest.detail.key.clone(), manifest.detail);
        if let (Some(object), Some(rows)) = (manifest.object, manifest.rows) {
            let day = Day::parse(&rows.day).ok_or_else(|| {
                Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: `{}` is not a day", rows.day))
            })?;
            let partition = Partition { dataset: rows.dataset.clone(), day };
            let sealed = SealedObject { leaf, object, rows, archived: manifest.archived };
            self.partitions.entry(partition).or_default().push(sealed);
        }
        Ok(())
    }

    /// All objects, partition after partition.
    pub fn objects(&self) -> impl Iterator<Item = &SealedObject> {
        self.partitions.values().flatten()
    }

    /// Keys of all archive objects.
    pub fn object_keys(&self) -> HashSet<&str> {
        self.objects().map(|o| o.object.key.as_str()).collect()
    }

    /// Everything that sealed detail objects list.
    pub fn taken_in(&self, store: &dyn BlobStore) -> Result<TakenIn, Fatal> {
        let mut taken = TakenIn::default();
        for key in self.details.keys() {
            let bytes = store.get(key)?.ok_or_else(|| {
                Fatal::new("Fatal.ObjectMissing", format!("`{key}` is named by the log and is not there"))
            })?;
            let detail = Detail::parse(&bytes)
                .map_err(|e| Fatal::new("Fatal.ObjectConflict", format!("`{key}`: {e}")))?;
            taken.inputs.extend(detail.inputs.into_iter().map(|i| i.sha256));
            taken.quarantine.extend(detail.quarantine.into_iter().map(|q| q.key));
        }
        Ok(taken)
    }
}

/// Inputs and quarantine entries that the log names, so that a replay does not name them again.
#[derive(Clone, Default, Debug)]
pub struct TakenIn {
    /// SHA-256 of inputs.
    pub inputs: HashSet<Hash>,
    /// Keys of quarantine entries.
    pub quarantine: HashSet<String>,
}
