//! Original bytes taken out of the archive, by decision: everything else of the events stays, their hashes
//! too, and the log says what was withheld and why.

use std::collections::BTreeSet;

use keytrail_archive::{Projection, Selection, StoredRow};
use keytrail_model::manifest::{Decision, ManifestKind};
use keytrail_model::{Fatal, Partition, Uid};

use keytrail_ports::BlobStore;

use crate::holds::Hold;
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
    /// Why objects were left as they are: they may hold more copies of the events.
    pub skipped: Vec<String>,
}

/// Withholds the original bytes of events; gives the size of the log before. What is withheld already stays
/// so. What is damaged is left alone and named.
///
/// # Errors
/// `Usage.NotFound`: an event is not in the archive; `Usage.Held`: a hold is of one; `Usage.Reason`;
/// `Fatal.ArchiveDamaged`: an event is in nothing that can be read. Nothing is withheld then.
pub fn withhold(
    trail: &Trail<'_>,
    uids: &BTreeSet<Uid>,
    reason: &str,
    holds: &[Hold],
    threads: usize,
) -> Result<(u64, Withholding), Fatal> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        let said = format!("expected a reason of 1 to {MAX_REASON} letters: the log keeps it for ever");
        return Err(Fatal::new("Usage.Reason", said));
    }
    rewrite::upon(trail, |readable| {
        let first_leaf = readable.size;
        let mut done = Withholding::default();
        let found = find(trail, readable, uids, &mut done.skipped)?;
        let there: BTreeSet<Uid> = found.iter().flat_map(|(.., of)| of).copied().collect();
        if let Some(uid) = uids.difference(&there).next() {
            return Err(match done.skipped.first() {
                None => Fatal::new("Usage.NotFound", format!("no event has the uid `{uid}`")),
                Some(why) => Fatal::new(
                    "Fatal.ArchiveDamaged",
                    format!("no event that can be read has the uid `{uid}`; {why}"),
                ),
            });
        }
        for (_, object, of) in &found {
            let of_one = |uid: &Uid| holds.iter().find(|h| h.keeps_event(object, *uid)).map(|h| (*uid, h));
            if let Some((uid, hold)) = of.iter().find_map(of_one) {
                return Err(Fatal::new(
                    "Usage.Held",
                    format!(
                        "the event `{uid}` is under the legal hold `{}`: nothing was withheld",
                        hold.reason
                    ),
                ));
            }
        }
        let (rewriter, mut sealer) = (Rewriter::new(trail, threads), Sealer::new(trail));
        for (partition, object, of) in found {
            let decision = Decision {
                before: None,
                dataset: None,
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
            match rewriter.change(&partition, &object, ManifestKind::Withhold, decision, change) {
                Ok(None) => {}
                Ok(Some(manifest)) => {
                    done.objects += 1;
                    done.rows += rows;
                    sealer.add(readable, manifest)?;
                }
                Err(e) if rewrite::is_damage(&e) => done.skipped.push(e.message),
                Err(e) => return Err(e),
            }
        }
        sealer.finish(readable)?;
        Ok((first_leaf, done))
    })
}

/// The objects that hold some of the events, and which; why others could not be looked into.
fn find(
    trail: &Trail<'_>,
    readable: &Readable,
    uids: &BTreeSet<Uid>,
    skipped: &mut Vec<String>,
) -> Result<Vec<(Partition, SealedObject, BTreeSet<Uid>)>, Fatal> {
    let mut found = Vec::new();
    for (partition, objects) in &readable.partitions {
        for object in objects {
            match held(trail.store, object, uids) {
                Ok(of) if of.is_empty() => {}
                Ok(of) => found.push((partition.clone(), object.clone(), of)),
                Err(e) if rewrite::is_damage(&e) => skipped.push(e.message),
                Err(e) => return Err(e),
            }
        }
    }
    Ok(found)
}

/// Which of the events an object holds.
pub fn held(
    store: &dyn BlobStore,
    object: &SealedObject,
    uids: &BTreeSet<Uid>,
) -> Result<BTreeSet<Uid>, Fatal> {
    let key = &object.object.key;
    let reader = objects::open(store, key)?;
    let mut of = BTreeSet::new();
    for batch in reader.batches(&Projection::Columns(Vec::new()), Selection::All) {
        let batch = batch.map_err(|e| objects::at(key, e))?;
        of.extend(batch.rows().map(|r| r.uid).filter(|uid| uids.contains(uid)));
    }
    Ok(of)
}
