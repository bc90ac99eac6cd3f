//! The readable set: what the sealed log says is in the archive at one checkpoint (ARCHITECTURE
//! rule 8). Readers take objects from here, never from a directory listing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use keytrail_model::manifest::{DetailRef, ManifestKind, ObjectRef, RowsRef, RunItem};
use keytrail_model::{Day, Detail, Fatal, Hash, Manifest, Partition};
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use crate::concurrent;
use crate::hashes::Hashes;
use crate::seal;
use crate::sequence::Sequences;
use crate::tally::format_of;

pub(crate) mod snapshot;

/// An archive object that a sealed manifest names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedObject {
    /// Index of its manifest in the log.
    pub leaf: u64,
    /// Name, size and hash.
    pub object: ObjectRef,
    /// Its rows.
    pub rows: RowsRef,
    /// When the newest of its rows was archived first, microseconds since 1970: rewrites do not count.
    pub archived: i64,
    /// What it was made of, where its rows were archived before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Box<Rewrite>>,
}

/// What an object replaces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Why.
    pub kind: ManifestKind,
    /// Leaf indices of the manifests whose objects it replaces, ascending.
    pub replaces: Vec<u64>,
    /// Where each row comes from.
    pub detail: DetailRef,
}

/// An object that a later manifest retired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retired {
    /// The object as it was.
    pub object: SealedObject,
    /// Index of the manifest that retired it.
    pub by: u64,
    /// Its kind.
    pub kind: ManifestKind,
    /// When that was sealed, microseconds since 1970.
    pub at: i64,
}

/// The sealed objects of a trail, by partition.
#[derive(Clone, Default, Debug)]
pub struct Readable {
    /// Objects in the order of the log.
    pub partitions: BTreeMap<Partition, Vec<SealedObject>>,
    /// Detail objects, by key; those of entries that `state/readable` stands for are not among them.
    pub details: BTreeMap<String, DetailRef>,
    /// Manifests read.
    pub size: u64,
    /// The first leaf index of each detail object, in the order of the log.
    order: Vec<(u64, String)>,
    /// Detail objects of manifests that retire objects: they list no inputs.
    rewrites: BTreeSet<String>,
    /// Decisions: kind, leaf index and detail object of manifests that withhold or expire.
    decisions: Vec<(ManifestKind, u64, DetailRef)>,
    /// Where the objects are, by leaf index.
    places: HashMap<u64, Partition>,
    /// Retired objects by leaf index, for those who ask for them.
    history: Option<BTreeMap<u64, Retired>>,
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

    /// An empty one that keeps what is retired.
    pub fn with_history() -> Self {
        Self { history: Some(BTreeMap::new()), ..Self::default() }
    }

    /// Keeps what is retired from now on.
    pub(crate) fn and_history(self) -> Self {
        Self { history: Some(BTreeMap::new()), ..self }
    }

    /// Adds a sealed manifest: its object is readable from now on, those that it retires are not.
    ///
    /// # Errors
    /// `Fatal.LogEntry`: the manifest names no day, says of a detail object what one before does not, or retires what is not there to be retired: no object,
    /// one of another partition, or one that was retired before. Nothing is retired then.
    pub fn add(&mut self, leaf: u64, manifest: Manifest) -> Result<(), Fatal> {
        let wrong = |what: String| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {what}"));
        let Manifest { detail, kind, object, replaces, rows, .. } = manifest;
        self.size = self.size.max(leaf + 1);
        match self.details.get(&detail.key) {
            Some(before) if *before != detail => {
                return Err(wrong(format!("it says of `{}` what an entry before does not", detail.key)));
            }
            Some(_) => {}
            None => {
                self.details.insert(detail.key.clone(), detail.clone());
                self.order.push((leaf, detail.key.clone()));
            }
        }
        let partition = match &rows {
            None => None,
            Some(rows) => {
                let day =
                    Day::parse(&rows.day).ok_or_else(|| wrong(format!("`{}` is not a day", rows.day)))?;
                Some(Partition { dataset: rows.dataset.clone(), day })
            }
        };
        let mut archived = manifest.archived;
        if kind.retires() {
            let retired = self.retire(&replaces, partition.as_ref()).map_err(wrong)?;
            self.rewrites.insert(detail.key.clone());
            archived = retired.iter().map(|o| o.archived).max().unwrap_or(archived);
            if let Some(history) = &mut self.history {
                let at = manifest.archived;
                history
                    .extend(retired.into_iter().map(|o| (o.leaf, Retired { object: o, by: leaf, kind, at })));
            }
        }
        if matches!(kind, ManifestKind::Withhold | ManifestKind::Expire) {
            self.decisions.push((kind, leaf, detail.clone()));
        }
        if let (Some(object), Some(rows), Some(partition)) = (object, rows, partition) {
            let rewrite = kind.retires().then(|| Box::new(Rewrite { kind, replaces, detail }));
            let sealed = SealedObject { leaf, object, rows, archived, rewrite };
            self.places.insert(leaf, partition.clone());
            self.partitions.entry(partition).or_default().push(sealed);
        }
        Ok(())
    }

    /// Takes objects out. Those of a rewrite are all of the partition of the object that replaces them.
    fn retire(&mut self, leaves: &[u64], partition: Option<&Partition>) -> Result<Vec<SealedObject>, String> {
        let mut by_place: BTreeMap<&Partition, Vec<u64>> = BTreeMap::new();
        for leaf in leaves {
            let place = self.places.get(leaf).ok_or_else(|| {
                format!("it replaces log entry {leaf}, which has no object, or one that was replaced before")
            })?;
            if partition.is_some_and(|p| p != place) {
                return Err(format!("it replaces log entry {leaf}, which is of `{}`", place.prefix()));
            }
            by_place.entry(place).or_default().push(*leaf);
        }
        let mut retired = Vec::with_capacity(leaves.len());
        for (place, leaves) in by_place {
            let Some(objects) = self.partitions.get_mut(place) else { continue };
            retired.extend(objects.extract_if(.., |o| leaves.binary_search(&o.leaf).is_ok()));
        }
        for leaf in leaves {
            if let Some(place) = self.places.remove(leaf)
                && self.partitions.get(&place).is_some_and(Vec::is_empty)
            {
                self.partitions.remove(&place);
            }
        }
        Ok(retired)
    }

    /// All objects, partition after partition.
    pub fn objects(&self) -> impl Iterator<Item = &SealedObject> {
        self.partitions.values().flatten()
    }

    /// Keys of all archive objects.
    pub fn object_keys(&self) -> HashSet<&str> {
        self.objects().map(|o| o.object.key.as_str()).collect()
    }

    /// Retired objects by leaf index; none, unless they were to be [kept](Self::with_history).
    pub fn history(&self) -> &BTreeMap<u64, Retired> {
        static NONE: BTreeMap<u64, Retired> = BTreeMap::new();
        self.history.as_ref().unwrap_or(&NONE)
    }

    /// Forgets objects of entries before a leaf that were retired.
    pub fn forget_history(&mut self, before: u64) {
        if let Some(history) = &mut self.history {
            *history = history.split_off(&before);
        }
    }

    /// Leaf indices and detail objects of the manifests of a kind that somebody decided.
    pub fn decisions(&self, kind: ManifestKind) -> impl Iterator<Item = (u64, &DetailRef)> {
        self.decisions.iter().filter(move |(k, ..)| *k == kind).map(|(_, leaf, detail)| (*leaf, detail))
    }

    /// Detail objects that were sealed from a leaf on, in the order of the log.
    pub fn details_since(&self, leaf: u64) -> impl Iterator<Item = &DetailRef> {
        let from = self.order.partition_point(|(first, _)| *first < leaf);
        self.order[from..].iter().filter_map(|(_, key)| self.details.get(key))
    }

    /// Everything that sealed detail objects list.
    pub fn taken_in(&self, store: &dyn BlobStore) -> Result<TakenIn, Fatal> {
        self.taken_since(store, 0, TakenIn::default())
    }

    /// As [`taken_in`](Self::taken_in), where what was sealed before a leaf is known.
    pub(crate) fn taken_since(
        &self,
        store: &dyn BlobStore,
        leaf: u64,
        mut taken: TakenIn,
    ) -> Result<TakenIn, Fatal> {
        let new: Vec<_> = self.details_since(leaf).filter(|d| !self.rewrites.contains(&d.key)).collect();
        concurrent::in_order(
            &new,
            |sealed| sealed_detail(store, sealed),
            |_, detail| {
                taken.inputs.extend(detail.inputs.into_iter().map(|i| i.sha256));
                taken.quarantine.extend(detail.quarantine.into_iter().map(|q| q.key));
                add_runs(&mut taken.sequences, &detail.runs);
                Ok(())
            },
        )?;
        Ok(taken)
    }
}

/// A detail object; `None` when what is there is not what was sealed.
///
/// # Errors
/// `Fatal.ObjectMissing`; the store's own.
pub(crate) fn detail(store: &dyn BlobStore, sealed: &DetailRef) -> Result<Option<Detail>, Fatal> {
    let key = &sealed.key;
    let bytes = store.get(key)?.ok_or_else(|| {
        Fatal::new("Fatal.ObjectMissing", format!("`{key}` is named by the log and is not there"))
    })?;
    Ok(if Hash::of(&bytes) == sealed.sha256 { Detail::parse(&bytes).ok() } else { None })
}

/// As [`detail`], with `Fatal.ObjectConflict` where something else is there than was sealed.
pub(crate) fn sealed_detail(store: &dyn BlobStore, sealed: &DetailRef) -> Result<Detail, Fatal> {
    detail(store, sealed)?.ok_or_else(|| {
        Fatal::new("Fatal.ObjectConflict", format!("`{}` is not the one that was sealed", sealed.key))
    })
}

/// Adds what a detail object says of the sequences that it holds records of.
pub(crate) fn add_runs(sequences: &mut Sequences, runs: &[RunItem]) {
    for run in runs {
        if let Some(format) = format_of(&run.dataset) {
            sequences.add_run(
                format,
                &run.source,
                run.epoch,
                (run.first_seq, run.last_seq.max(run.first_seq)),
            );
        }
    }
}

/// Inputs and quarantine entries that the log names, so that a replay does not name them again.
#[derive(Clone, Default, Debug)]
pub struct TakenIn {
    /// SHA-256 of inputs.
    pub inputs: Hashes,
    /// Keys of quarantine entries.
    pub quarantine: HashSet<String>,
    /// Numbers of the records that are sealed.
    pub sequences: Sequences,
}

impl TakenIn {
    /// Forgets inputs and quarantine entries that were not sealed after all.
    pub(crate) fn forget(&mut self, (inputs, quarantine): &(Vec<Hash>, Vec<String>)) {
        inputs.iter().for_each(|input| self.inputs.remove(input));
        for key in quarantine {
            self.quarantine.remove(key);
        }
    }
}
