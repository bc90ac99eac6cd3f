//! Events against each other: none stands twice in a partition, and what sources sent under one id.

use std::collections::{BTreeSet, HashSet};

use keytrail_archive::{Projection, Selection};
use keytrail_ledger::{Code, Finding};
use keytrail_model::{Fatal, Uid};
use keytrail_ports::BlobStore;

use super::{Options, Report, in_range};
use crate::concurrent;
use crate::conflicts::{self, Conflict};
use crate::objects;
use crate::readable::{Readable, SealedObject};

/// Uids looked at at once when a partition has several objects; more are looked at in passes.
const UIDS_AT_ONCE: u64 = 2 << 20;

/// No event stands twice in a partition.
pub(super) fn check_copies(
    store: &dyn BlobStore,
    readable: &Readable,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Fatal> {
    let broken: HashSet<String> = report.failures().map(|f| f.element.clone()).collect();
    for objects in readable.partitions.values() {
        // A missing or damaged object has its own finding, and its rows say nothing.
        let objects: Vec<_> = objects.iter().filter(|o| !broken.contains(&o.object.key)).collect();
        if objects.len() < 2 || !objects.iter().any(|o| in_range(o, options)) {
            continue;
        }
        let passes = objects::passes(store, &objects, UIDS_AT_ONCE)?;
        for pass in 0..passes {
            let mut uids: Vec<Uid> = Vec::new();
            // Outside of the range that was asked for it may be damaged, too.
            let open = |object: &&SealedObject| Ok(objects::open(store, &object.object.key).ok());
            concurrent::in_order(&objects, open, |_, reader| {
                let Some(reader) = reader else { return Ok(()) };
                for batch in reader.batches(&Projection::Columns(Vec::new()), Selection::All) {
                    let Ok(batch) = batch else { break };
                    uids.extend(batch.rows().map(|r| r.uid).filter(|u| pass_of(u, passes) == pass));
                }
                Ok(())
            })?;
            uids.sort_unstable();
            let twice: BTreeSet<Uid> = uids.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
            report.findings.extend(twice.iter().map(|uid| {
                Finding::new(Code::Dup, uid.to_string(), "the event stands in more than one archive object")
            }));
        }
    }
    Ok(())
}

/// Uids are hashes: their first bytes spread them evenly over the passes.
fn pass_of(uid: &Uid, passes: u64) -> u64 {
    uid.0[..4].iter().fold(0, |n, b| n << 8 | u64::from(*b)) % passes
}

/// What sources sent under one id.
pub(super) fn check_conflicts(
    store: &dyn BlobStore,
    readable: &Readable,
    options: &Options<'_>,
    report: &mut Report,
) -> Result<(), Fatal> {
    let broken: HashSet<String> = report.failures().map(|f| f.element.clone()).collect();
    // One that is not there is a finding, or may have been replaced by what an entry that is lost says.
    let asked: Vec<&SealedObject> =
        readable.objects().filter(|o| in_range(o, options) && !broken.contains(&o.object.key)).collect();
    let rows = concurrent::each(&asked, |o| Ok(objects::rows_at_most(store, o)))?;
    let there: HashSet<&str> =
        asked.iter().zip(rows).filter(|(_, rows)| *rows > 0).map(|(o, _)| o.object.key.as_str()).collect();
    let wanted = |o: &SealedObject| there.contains(o.object.key.as_str());
    let findings = &mut report.findings;
    let found = conflicts::find(store, readable, &wanted, &mut |conflict: Conflict| {
        findings.push(finding_of(&conflict));
        Ok(())
    });
    match found {
        Err(e) if e.code == "Fatal.ArchiveDamaged" => {
            report.unchecked.push(format!("conflicts: {}", e.message));
            Ok(())
        }
        other => other,
    }
}

fn finding_of(conflict: &Conflict) -> Finding {
    let uids: Vec<String> = conflict.events.iter().map(|(_, e)| e.uid.to_string()).collect();
    let claim = conflict.events.first().and_then(|(_, e)| e.claim());
    let (dataset, scope, id, _) = claim.unwrap_or_default();
    let (code, how) = if conflict.differs { (Code::Conflict, "content") } else { (Code::Variant, "text") };
    Finding::new(
        code,
        format!("{dataset} {scope} {id}"),
        format!("{} events of this id differ in {how}: {}", uids.len(), uids.join(", ")),
    )
}
