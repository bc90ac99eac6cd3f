//! The readable set as of a size of the log: `state/readable`, so that a start reads the entries that were appended
//! since, not all of them.
//!
//! What it is: a cache that may be deleted; then the whole log is read. What it is not: proof of anything, or what `verify`
//! or a report believes: those read the log. It is tagged ([`crate::tagged`]), since whoever could write it could hide
//! objects, and it names the log's head, since it says nothing of a log that was put back. Objects that were retired are not
//! in it: its size is that of the archive, not that of its history.

use keytrail_ledger::Checkpoint;
use keytrail_model::manifest::{DetailRef, ManifestKind};
use keytrail_model::{Day, Fatal, Hash, Partition};
use serde::{Deserialize, Serialize};

use super::{Readable, SealedObject};
use crate::tagged;
use crate::trail::Trail;

pub(crate) const KEY: &str = "state/readable";

const TAG_DOMAIN: &[u8] = b"keytrail/readable/1\n";

/// What was kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    version: u32,
    /// The log that it is of.
    origin: String,
    /// Entries of the log.
    pub size: u64,
    root: Hash,
    objects: Vec<SealedObject>,
    /// Kind, leaf index and detail object of manifests that withhold or expire.
    decisions: Vec<(ManifestKind, u64, DetailRef)>,
}

impl Readable {
    /// What is kept of the log's first `size` entries, or of fewer. `None`: nothing, or it is of another log, or of more.
    pub(crate) fn kept(trail: &Trail<'_>, size: u64) -> Result<Option<Self>, Fatal> {
        let (kept, head) = (Kept::read(trail)?, trail.log().published()?);
        match (kept.filter(|kept| kept.size <= size), head) {
            (Some(kept), Some(head)) => kept.readable(trail, &head),
            _ => Ok(None),
        }
    }

    /// Keeps what is readable at a head of the log.
    pub(crate) fn keep(&self, trail: &Trail<'_>, head: &Checkpoint) -> Result<(), Fatal> {
        let kept = Kept {
            version: 1,
            origin: head.origin.clone(),
            size: head.size,
            root: head.root,
            objects: self.objects().cloned().collect(),
            decisions: self.decisions.clone(),
        };
        Ok(trail.store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &kept)?)?)
    }
}

impl Kept {
    /// Reads it; `None` where the file is missing, or not ours. Whoever reads it before the log's head finds it of that log.
    pub fn read(trail: &Trail<'_>) -> Result<Option<Self>, Fatal> {
        let Some(bytes) = trail.store.get(KEY)? else { return Ok(None) };
        Ok(tagged::read::<Self>(trail.masker, TAG_DOMAIN, &bytes).ok().filter(|kept| kept.version == 1))
    }

    /// The readable set, if it is of the log of this head. It has no detail objects of the entries that it stands for, and
    /// nothing that they retired.
    pub fn readable(self, trail: &Trail<'_>, head: &Checkpoint) -> Result<Option<Readable>, Fatal> {
        let Self { origin, size, root, objects, decisions, .. } = self;
        if !trail.log().continues(&Checkpoint { origin, size, root }, head)? {
            return Ok(None);
        }
        let mut readable = Readable { size, decisions, ..Readable::default() };
        for object in objects {
            let Some(day) = Day::parse(&object.rows.day) else { return Ok(None) };
            let partition = Partition { dataset: object.rows.dataset.clone(), day };
            readable.places.insert(object.leaf, partition.clone());
            readable.partitions.entry(partition).or_default().push(object);
        }
        Ok(Some(readable))
    }
}
