//! Original bytes taken out of the archive, by decision: everything else of the events stays, their hashes
//! too, and the log says what was withheld and why.

use std::collections::BTreeSet;

use keytrail_archive::{Projection, Selection, StoredRow};
use keytrail_model::manifest::{Decision, ManifestKind};
use keytrail_model::{Fatal, Partition, Uid};

use crate::objects;
use crate::readable::{Readable, SealedObject};
use crate::rewrite::{self, Changed, Rewriter, Sealer};
use crate::trail::Trail;

/// Letters of a reason, at most.
const MAX_REASON: usize = 1_000;

/// What was done.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Withholding {
    /// Objects that were replaced.
    pub objects: u64,
    /// Rows whose original bytes went.
    pub rows: u64,
}

/// Withholds the original bytes of events; gives the size of the log before. What is withheld already stays
/// so.
///
/// # Errors
/// `Usage.NotFound`: an event is not in the archive; `Usage.Reason`; `Fatal.ArchiveDamaged`. Nothing is
/// withheld then, or, after damage, the events of objects before it.
pub fn withhold(
    trail: &Trail<'_>,
    uids: &BTreeSet<Uid>,
    reason: &str,
    threads: usize,
) -> Result<(u64, Withholding), Fatal> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        let said = format!("expected a reason of 1 to {MAX_REASON} letters: the log keeps it for ever");
        return Err(Fatal::new("Usage.Reason", said));
    }
    rewrite::upon(trail, |readable| {
        let first_leaf = readable.size;
        let found = find(trail, readable, uids)?;
        let missing = uids.iter().find(|uid| found.iter().all(|(.., of)| !of.contains(*uid)));
        if let Some(uid) = missing {
            return Err(Fatal::new("Usage.NotFound", format!("no event has the uid `{uid}`")));
        }
        let (rewriter, mut sealer) = (Rewriter::new(trail, threads), Sealer::new(trail));
        let mut done = Withholding::default();
        for (partition, object, of) in found {
            let decision = Decision {
                before: None,
                reason: reason.to_owned(),
                uids: of.iter().map(Uid::to_string).collect(),
                undated: false,
            };
            let mut rows = 0;
            let change = &mut |row: &StoredRow<'_>, _: &mut Vec<u8>| {
                if row.original.is_none() || !of.contains(&row.uid) {
                    return Ok(Changed::Nothing);
                }
                rows += 1;
                Ok(Changed::Withheld)
            };
            let manifest = rewriter.change(&partition, &object, ManifestKind::Withhold, decision, change)?;
            if let Some(manifest) = manifest {
                done.objects += 1;
                done.rows += rows;
                sealer.add(readable, manifest)?;
            }
        }
        sealer.finish(readable)?;
        Ok((first_leaf, done))
    })
}

/// The objects that hold some of the events, and which.
fn find(
    trail: &Trail<'_>,
    readable: &Readable,
    uids: &BTreeSet<Uid>,
) -> Result<Vec<(Partition, SealedObject, BTreeSet<Uid>)>, Fatal> {
    let mut found = Vec::new();
    for (partition, objects) in &readable.partitions {
        for object in objects {
            let of = held(trail, object, uids)?;
            if !of.is_empty() {
                found.push((partition.clone(), object.clone(), of));
            }
        }
    }
    Ok(found)
}

/// Which of the events an object holds.
pub(crate) fn held(
    trail: &Trail<'_>,
    object: &SealedObject,
    uids: &BTreeSet<Uid>,
) -> Result<BTreeSet<Uid>, Fatal> {
    let key = &object.object.key;
    let reader = objects::open(trail.store, key)?;
    let mut of = BTreeSet::new();
    for batch in reader.batches(&Projection::Columns(Vec::new()), Selection::All) {
        let batch = batch.map_err(|e| objects::at(key, e))?;
        of.extend(batch.rows().map(|r| r.uid).filter(|uid| uids.contains(uid)));
    }
    Ok(of)
}
