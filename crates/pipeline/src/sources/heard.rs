//! Who was heard and when: `state/heard`, so that looking for silence takes what was sealed since, however much is archived.
//!
//! What it is: a fold over the log's entries, and footers of their archive objects. What it is not: an account of what is
//! archived: [`Accounts::read`](super::Accounts::read) is. The file may be deleted; then all objects are looked at. It is
//! tagged, since whoever could write it could hide that a source is silent.

use std::collections::BTreeMap;
use std::sync::Arc;

use keytrail_archive::census;
use keytrail_ledger::Checkpoint;
use keytrail_model::{Fatal, Hash, Manifest, Timestamp};
use serde::{Deserialize, Serialize};

use super::Account;
use crate::config::DeclaredSource;
use crate::seal::read_entries;
use crate::trail::Trail;
use crate::{concurrent, objects, tagged};

const KEY: &str = "state/heard";

const TAG_DOMAIN: &[u8] = b"keytrail/heard/1\n";

/// Entries that are looked at before it is written down.
const AT_ONCE: u64 = 1024;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Heard {
    version: u32,
    /// The log that it is of.
    origin: String,
    size: u64,
    root: Hash,
    /// Entries of it that were looked at.
    next: u64,
    /// When an event was archived last, microseconds since 1970, by source.
    sources: BTreeMap<String, i64>,
}

/// Of each declared source, when it was heard last, as of the published head of the log.
///
/// # Errors
/// As [`Log::published`](crate::seal::Log::published).
pub fn heard(trail: &Trail<'_>, declared: &[Arc<DeclaredSource>]) -> Result<Vec<Account>, Fatal> {
    let kept = trail.store.get(KEY)?;
    let kept = kept.and_then(|bytes| tagged::read::<Heard>(trail.masker, TAG_DOMAIN, &bytes).ok());
    // What was kept before the head was read is of that log.
    let Some(head) = trail.log().published()? else { return Ok(listed(&BTreeMap::new(), declared)) };
    let mut known = match kept {
        Some(known) if known.version == 1 && trail.log().continues(&known.head(), &head)? => known,
        _ => Heard::default(),
    };
    // Whoever has not the time for all of it goes on where another ended.
    while known.next < head.size {
        let to = head.size.min(known.next + AT_ONCE);
        read_on(trail, &mut known, head.size, to)?;
        let Checkpoint { origin, size, root } = head.clone();
        known = Heard { version: 1, origin, size, root, next: to, ..known };
        trail.store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &known)?)?;
    }
    Ok(listed(&known.sources, declared))
}

impl Heard {
    fn head(&self) -> Checkpoint {
        Checkpoint { origin: self.origin.clone(), size: self.size, root: self.root }
    }
}

/// Looks at the objects of entries that are new, and not replaced by others of them.
fn read_on(trail: &Trail<'_>, known: &mut Heard, size: u64, to: u64) -> Result<(), Fatal> {
    let mut new: BTreeMap<u64, String> = BTreeMap::new();
    read_entries(trail.store, size, known.next, to, &mut |leaf, bytes| {
        let manifest = Manifest::parse(bytes)
            .map_err(|e| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {e}")))?;
        for replaced in &manifest.replaces {
            new.remove(replaced);
        }
        new.extend(manifest.object.map(|object| (leaf, object.key)));
        Ok(())
    })?;
    let keys: Vec<String> = new.into_values().collect();
    let read = |key: &String| {
        let rows = objects::open(trail.store, key).and_then(|o| census(&o).map_err(|e| objects::at(key, e)));
        match rows {
            // Of one that was replaced since the other is read; one that is lost or damaged is named by
            // `verify`, and makes nobody heard.
            Err(e) if matches!(e.code, "Fatal.ObjectMissing" | "Fatal.ArchiveDamaged") => Ok(BTreeMap::new()),
            rows => rows,
        }
    };
    concurrent::in_order(&keys, read, |_, rows| {
        for (source, rows) in rows {
            let Some(Timestamp(heard)) = rows.heard else { continue };
            let last = known.sources.entry(source).or_insert(heard);
            *last = heard.max(*last);
        }
        Ok(())
    })
}

fn listed(heard: &BTreeMap<String, i64>, declared: &[Arc<DeclaredSource>]) -> Vec<Account> {
    let account = |source: &Arc<DeclaredSource>| Account {
        name: source.name.clone(),
        dataset: Some(source.format.dataset().to_owned()),
        declared: true,
        longest_silence: source.longest_silence,
        last_heard: heard.get(&source.name).copied().map(Timestamp),
        ..Account::default()
    };
    declared.iter().map(account).collect()
}
