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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// The log that it is of.
    origin: String,
    size: u64,
    root: Hash,
    objects: Vec<SealedObject>,
    /// Kind, leaf index and detail object of manifests that withhold or expire.
    decisions: Vec<(ManifestKind, u64, DetailRef)>,
}

impl Readable {
    /// Keeps what is readable at a head of the log.
    pub(crate) fn keep(&self, trail: &Trail<'_>, head: &Checkpoint) -> Result<(), Fatal> {
        let stored = Stored {
            version: 1,
            origin: head.origin.clone(),
            size: head.size,
            root: head.root,
            objects: self.objects().cloned().collect(),
            decisions: self.decisions.clone(),
        };
        Ok(trail.store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &stored)?)?)
    }

    /// What was kept of the log of this head; `None` where the file is missing, not ours, of another log, or of more than
    /// `at_most` entries. It has no detail objects of those entries, and nothing that they retired.
    pub(crate) fn resume(trail: &Trail<'_>, head: &Checkpoint, at_most: u64) -> Result<Option<Self>, Fatal> {
        let Some(bytes) = trail.store.get(KEY)? else { return Ok(None) };
        let Ok(stored) = tagged::read::<Stored>(trail.masker, TAG_DOMAIN, &bytes) else { return Ok(None) };
        let Stored { version, origin, size, root, objects, decisions } = stored;
        let kept = Checkpoint { origin, size, root };
        if version != 1 || size > at_most || !trail.log().continues(&kept, head)? {
            return Ok(None);
        }
        let mut readable = Self { size, decisions, ..Self::default() };
        for object in objects {
            let Some(day) = Day::parse(&object.rows.day) else { return Ok(None) };
            let partition = Partition { dataset: object.rows.dataset.clone(), day };
            readable.places.insert(object.leaf, partition.clone());
            readable.partitions.entry(partition).or_default().push(object);
        }
        Ok(Some(readable))
    }
}
