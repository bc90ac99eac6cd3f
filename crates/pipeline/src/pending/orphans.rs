//! Archive objects that nothing names: a run that was killed left them, and no later one made them again.
//!
//! What it is: hiding those that nothing named for a day, since readers that glob the archive see their rows. What it is not: a
//! search for anything lost: the raw objects that they were made of are open, and are given again. Objects that wait in a
//! pending batch are named by it.

use std::collections::{BTreeMap, BTreeSet};

use keytrail_model::Fatal;
use serde::{Deserialize, Serialize};

use super::{PENDING, Pending, Sealed};
use crate::trail::Trail;
use crate::{concurrent, tagged};

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
    let looked = |since| {
        let found = Unnamed { looked: now, since };
        Ok::<_, Fatal>(store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &found)?)?)
    };
    // Whoever has not the time for it does not take it each minute.
    looked(before.since.clone())?;
    let keys = store.list("archive/")?;
    let mut unnamed = keys.into_iter().collect();
    if !without_named(trail, sealed, &mut unnamed)? {
        return Ok(0);
    }
    let since = |key: String| {
        let since = before.since.get(&key).copied().unwrap_or(now);
        (key, since)
    };
    let mut since: BTreeMap<String, i64> = unnamed.into_iter().map(since).collect();
    let due = |since: &i64| now.saturating_sub(*since) >= UNNAMED_MICROS;
    let mut orphans: BTreeSet<String> =
        since.iter().filter(|(_, s)| due(s)).map(|(key, _)| key.clone()).collect();
    // One that was made again meanwhile is named by now.
    if orphans.is_empty() || !without_named(trail, sealed, &mut orphans)? {
        return looked(since).map(|()| 0);
    }
    for key in &orphans {
        store.delete(key)?;
        since.remove(key);
    }
    looked(since)?;
    Ok(orphans.len() as u64)
}

/// Leaves out what a pending batch or the log names; `false`: nobody knows what is named.
fn without_named(trail: &Trail<'_>, sealed: &mut Sealed, keys: &mut BTreeSet<String>) -> Result<bool, Fatal> {
    // What is no longer pending is sealed by the time that the log is read.
    let batches = concurrent::each(&trail.store.list(PENDING)?, |key| match Pending::load(trail, key) {
        Ok(batch) => Ok(Some(batch)),
        Err(e) if e.code == "Fatal.Archive" => Ok(None),
        Err(e) => Err(e),
    })?;
    for batch in batches {
        let Some(batch) = batch else { return Ok(false) };
        for object in batch.into_iter().flat_map(|b| b.manifests).filter_map(|m| m.object) {
            keys.remove(&object.key);
        }
    }
    let mut known = std::mem::take(sealed);
    known.extend(trail, trail.log().recover()?)?;
    known.readable.objects().for_each(|o| {
        keys.remove(&o.object.key);
    });
    *sealed = known;
    Ok(true)
}
