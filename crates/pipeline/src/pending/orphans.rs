//! Archive objects that nothing names: a run that was killed left them, and no later one made them again.
//!
//! What it is: hiding those that nothing named for a day, since readers that glob the archive see their rows. What it is not: a
//! search for anything lost: the raw objects that they were made of are open, and are given again. Objects that wait in a
//! pending batch are named by it.

use std::collections::{BTreeMap, HashSet};

use keytrail_model::Fatal;
use serde::{Deserialize, Serialize};

use super::{PENDING, Pending, Sealed};
use crate::tagged;
use crate::trail::Trail;

const KEY: &str = "state/unnamed";

const TAG_DOMAIN: &[u8] = b"keytrail/unnamed/1\n";

/// How often it is looked for them.
const EVERY_MICROS: i64 = 3_600_000_000;

/// For how long one has to be unnamed: no run takes so long.
const UNNAMED_MICROS: i64 = 86_400_000_000;

/// What was found before. Whoever could write it could have objects hidden that a run is about to name.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unnamed {
    /// When it was looked last, microseconds since 1970.
    looked: i64,
    /// When each was seen first.
    since: BTreeMap<String, i64>,
}

/// Hides archive objects that nothing named for a day; gives how many. It looks once an hour.
///
/// # Errors
/// The store's own.
pub fn hide_orphans(trail: &Trail<'_>, sealed: &mut Sealed) -> Result<u64, Fatal> {
    let (store, now) = (trail.store, trail.clock.now().0);
    let kept = store.get(KEY)?;
    let before: Unnamed =
        kept.and_then(|bytes| tagged::read(trail.masker, TAG_DOMAIN, &bytes).ok()).unwrap_or_default();
    if now.saturating_sub(before.looked) < EVERY_MICROS {
        return Ok(0);
    }
    let keys = store.list("archive/")?;
    // What is no longer pending is sealed by the time that the log is read.
    let mut pending = HashSet::new();
    for key in store.list(PENDING)? {
        match Pending::load(trail, &key) {
            Ok(batch) => {
                let objects = batch.into_iter().flat_map(|b| b.manifests).filter_map(|m| m.object);
                pending.extend(objects.map(|object| object.key));
            }
            // Nobody knows what it names.
            Err(e) if e.code == "Fatal.Archive" => return Ok(0),
            Err(e) => return Err(e),
        }
    }
    let mut known = std::mem::take(sealed);
    known.extend(trail, trail.log().recover()?)?;
    let mut found = Unnamed { looked: now, since: BTreeMap::new() };
    let mut hidden = 0;
    let named = known.readable.object_keys();
    for key in keys {
        if named.contains(key.as_str()) || pending.contains(&key) {
            continue;
        }
        let since = before.since.get(&key).copied().unwrap_or(now);
        if now.saturating_sub(since) < UNNAMED_MICROS {
            found.since.insert(key, since);
        } else {
            store.delete(&key)?;
            hidden += 1;
        }
    }
    drop(named);
    store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &found)?)?;
    *sealed = known;
    Ok(hidden)
}
