//! Events that share their producer's key and are not the same (ARCHITECTURE rule 4): equal as JSON
//! values is a variant (information), else a conflict (a finding). Neither is "the first".

use std::collections::BTreeMap;

use keytrail_archive::{Projection, Selection};
use keytrail_model::row::text;
use keytrail_model::{Column, Fatal};
use keytrail_ports::BlobStore;

use crate::concurrent;
use crate::objects::{self, StoredEvent};
use crate::readable::{Readable, SealedObject};
use crate::same_value::same_value;

/// Events that claim one place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// They differ as JSON values; otherwise only in their text.
    pub differs: bool,
    /// The archive object and the event, in the order of the log and of rows. Beyond the first 100 they
    /// are without columns and original.
    pub events: Vec<(String, StoredEvent)>,
}

/// Groups held in memory at once (8 bytes each and what sorting takes); more are looked at in passes.
const GROUPS_AT_ONCE: u64 = 4 << 20;

/// Lists of groups, each with those of some scopes.
const SCOPES: usize = 1_021;

/// Groups whose events are in memory at once.
const SHARED_AT_ONCE: usize = 10_000;

/// Events of one claim that are kept whole; of more, which only a hostile source sends, the uid is kept.
const WHOLE_EVENTS: usize = 100;

/// All conflicts and variants among `objects`, each handed over once.
pub fn find(
    store: &dyn BlobStore,
    readable: &Readable,
    wanted: &dyn Fn(&SealedObject) -> bool,
    each: &mut dyn FnMut(Conflict) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let objects: Vec<&SealedObject> = readable.objects().filter(|o| wanted(o)).collect();
    let passes = objects::passes(store, &objects, GROUPS_AT_ONCE)?;
    for pass in 0..passes {
        let shared = shared_groups(store, &objects, pass, passes)?;
        for some in shared.chunks(SHARED_AT_ONCE) {
            judge(store, &objects, some, each)?;
        }
    }
    Ok(())
}

/// Groups of this pass that more than one judged row has.
fn shared_groups(
    store: &dyn BlobStore,
    objects: &[&SealedObject],
    pass: u64,
    passes: u64,
) -> Result<Vec<u64>, Fatal> {
    let projection = Projection::Columns(vec![Column::KeytrailGroup, Column::KeytrailScope]);
    // Two devices make two records of one call: groups are shared within a scope.
    let mut groups: Vec<Vec<u64>> = vec![Vec::new(); SCOPES];
    concurrent::in_order(
        objects,
        |object| objects::open(store, &object.object.key),
        |object, reader| {
            for batch in reader.batches(&projection, Selection::All) {
                for row in batch.map_err(|e| objects::at(&object.object.key, e))?.rows() {
                    if let Some(group) = row.group
                        && let Some(scope) = text(row.columns, Column::KeytrailScope)
                        && group % passes == pass
                    {
                        groups[place_of(scope)].push(group);
                    }
                }
            }
            Ok(())
        },
    )?;
    let mut shared: Vec<u64> = Vec::new();
    for mut groups in groups {
        groups.sort_unstable();
        shared.extend(groups.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]));
    }
    shared.sort_unstable();
    shared.dedup();
    Ok(shared)
}

/// Where the groups of a scope are gathered; scopes that fall together cost a look at their events.
fn place_of(scope: &str) -> usize {
    let hash = scope
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // What is left of the division is below SCOPES.
    (hash % SCOPES as u64) as usize
}

/// The conflicts and variants among the rows of `objects` that have one of these groups, which ascend.
pub(crate) fn judge(
    store: &dyn BlobStore,
    objects: &[&SealedObject],
    shared: &[u64],
    each: &mut dyn FnMut(Conflict) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut claims: BTreeMap<[String; 4], Vec<(String, StoredEvent)>> = BTreeMap::new();
    concurrent::in_order(
        objects,
        |object| objects::open(store, &object.object.key),
        |object, reader| {
            let key = &object.object.key;
            objects::pick(&reader, &|_, group| shared.binary_search(&group).is_ok(), &mut |mut event| {
                let claim = event.claim().map(|(d, s, i, p)| [d, s, i, p].map(str::to_owned));
                if let Some(claim) = claim {
                    let events = claims.entry(claim).or_default();
                    if events.len() >= WHOLE_EVENTS {
                        event.original = None;
                        event.columns.clear();
                    }
                    events.push((key.clone(), event));
                }
            })
            .map_err(|e| objects::at(key, e))
        },
    )?;
    for (_, events) in claims {
        let first = events[0].1.uid;
        if events.iter().any(|(_, e)| e.uid != first) {
            each(Conflict { differs: differs(&events), events })?;
        }
    }
    Ok(())
}

/// Whether any two of them differ as JSON values. An original that is withheld or not kept can be
/// compared with nothing.
fn differs(events: &[(String, StoredEvent)]) -> bool {
    let first = events[0].1.original.as_deref();
    events[1..].iter().any(|(_, e)| match (first, e.original.as_deref()) {
        (Some(a), Some(b)) => !same_value(a, b),
        _ => true,
    })
}
