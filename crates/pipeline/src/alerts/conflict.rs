//! Conflicts that new events are part of: what `keytrail conflicts` finds, at the cost of the new ones.
//!
//! In a partition with new objects, the groups of their rows are looked up among themselves and in the index
//! of each other object of the partition; rows are read where a group is shared, which is rare. Conflicts
//! over two partitions are found by `verify` and `keytrail conflicts`.

use std::collections::BTreeSet;

use keytrail_archive::{Projection, Selection};
use keytrail_model::{Column, Fatal, Timestamp, Uid};

use super::event::is_since;
use super::hit::{Facts, Hit, shown};
use super::rule::Rule;
use super::seals::Range;
use crate::conflicts::{self, Conflict};
use crate::dedup;
use crate::objects;
use crate::readable::{Readable, SealedObject};
use crate::trail::Trail;

/// New rows of a partition looked up at once.
const ROWS_AT_ONCE: u64 = 1 << 20;

/// Groups that are looked at in a partition at once: a hostile source can share any number.
const SHARED: usize = 10_000;

/// The conflicts of events that are new in a range of the log.
pub(super) fn of_new(
    trail: &Trail<'_>,
    readable: &Readable,
    range: &Range,
    each: &mut dyn FnMut(&SealedObject, &Hit) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    for objects in readable.partitions.values() {
        let (old, new): (Vec<_>, Vec<_>) = objects.iter().partition(|o| o.leaf < range.from);
        if new.is_empty() {
            continue;
        }
        let shared = shared(trail, &old, &new)?;
        if shared.is_empty() {
            continue;
        }
        let all: Vec<&SealedObject> = objects.iter().collect();
        let shared: Vec<u64> = shared.into_iter().collect();
        conflicts::judge(trail.store, &all, &shared, &mut |conflict| {
            let newest = conflict.events.iter().rev().find_map(|(key, e)| {
                let object = new.iter().find(|o| o.object.key == *key).copied()?;
                // Of a rewrite, not all rows are new.
                let is_new = object.rewrite.is_none() || is_since(e.ingested.map(Timestamp), range.since);
                is_new.then_some((object, e.uid))
            });
            match newest {
                Some((object, uid)) if conflict.differs => each(object, &hit(&conflict, uid)),
                _ => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// Groups of new rows that another row of the partition has.
fn shared(trail: &Trail<'_>, old: &[&SealedObject], new: &[&SealedObject]) -> Result<BTreeSet<u64>, Fatal> {
    let mut shared = BTreeSet::new();
    let count: u64 = new.iter().map(|o| objects::rows_at_most(trail.store, o)).sum();
    let passes = count.div_ceil(ROWS_AT_ONCE).max(1);
    let projection = Projection::Columns(vec![Column::KeytrailGroup, Column::KeytrailScope]);
    for pass in 0..passes {
        let mut rows: Vec<(u64, Uid)> = Vec::new();
        for object in new {
            let key = &object.object.key;
            let reader = objects::open(trail.store, key)?;
            for batch in reader.batches(&projection, Selection::All) {
                for row in batch.map_err(|e| objects::at(key, e))?.rows() {
                    // Only the scope is projected among derived columns: a row without it is not judged.
                    if let Some(group) = row.group
                        && !row.columns.is_empty()
                        && group % passes == pass
                    {
                        rows.push((group, row.uid));
                    }
                }
            }
        }
        rows.sort_unstable();
        shared.extend(rows.windows(2).filter(|w| w[0].0 == w[1].0).map(|w| w[0].0));
        for object in old {
            if shared.len() >= SHARED {
                break;
            }
            let index = dedup::open_index(trail, object)?;
            for (group, uid) in &rows {
                let found = index.find(*group, uid).map_err(|e| objects::at(&object.object.key, e))?;
                if !found.others.is_empty() {
                    shared.insert(*group);
                }
            }
        }
    }
    Ok(shared.into_iter().take(SHARED).collect())
}

pub(super) fn hit(conflict: &Conflict, newest: Uid) -> Hit {
    let event = conflict.events.iter().map(|(_, e)| e).find(|e| e.uid == newest);
    let claim = event.and_then(|e| e.claim()).unwrap_or_default();
    let text = |column| event.and_then(|e| e.text(column)).map(shown);
    Hit {
        rule: Rule::Conflict,
        severity: Rule::Conflict.severity(),
        failed: false,
        key: shown([claim.0, claim.1].join(" ").trim_end()),
        time: event.and_then(|e| e.time),
        uid: Some(newest),
        count: 1,
        facts: Facts {
            dataset: text(Column::EventDataset),
            source: text(Column::KeytrailSource),
            action: text(Column::EventAction),
            account: text(Column::CloudAccountId),
            detail: Some(format!("{} events of the id {}", conflict.events.len(), shown(claim.2))),
            ..Facts::default()
        },
        explain: vec!["conflicts".into()],
    }
}
