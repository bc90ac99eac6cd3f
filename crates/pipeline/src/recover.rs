//! What every run does first: finish the seal that a killed run began, and undo what it never sealed.
//!
//! Recovery is the normal path. A run that ended well leaves `state/clean` with the log's size; when
//! that is missing or of another size, what the log does not name is looked for: archive and detail
//! objects are deleted (their inputs were never acknowledged, or the log retired them, and a reader that
//! globs would see their rows twice), quarantine entries are sealed by the next manifest.

use std::collections::HashSet;

use keytrail_ledger::Checkpoint;
use keytrail_model::manifest::QuarantineItem;
use keytrail_model::{Fatal, Hash};
use keytrail_ports::BlobStore;

use crate::dedup;
use crate::quarantine::Entry;
use crate::readable::{Readable, TakenIn};
use crate::seal::LOG;
use crate::taken;
use crate::trail::Trail;

/// A trail that is ready for new rows.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The log's head; `None` before there is a log.
    pub head: Option<Checkpoint>,
    /// What is sealed.
    pub readable: Readable,
    /// Inputs and quarantine entries that are sealed, or will be by this run's first manifest.
    pub taken: TakenIn,
    /// Size of the log up to which that is kept in `state/`.
    pub remembered: u64,
    /// Quarantine entries that no manifest names yet.
    pub unsealed: Vec<QuarantineItem>,
}

const CLEAN: &str = "state/clean";

/// Brings the trail to a state in which all that is there is sealed.
pub(crate) fn recover(trail: &Trail<'_>) -> Result<Recovered, Fatal> {
    has_log_or_nothing(trail)?;
    let head = trail.log().recover()?;
    if let Some(known) = trail.known
        && !trail.log().continues(known, &head)?
    {
        return Err(Fatal::new(
            "Fatal.LogRollback",
            format!(
                "the log has size {} and root {} and does not continue what its key signed before, size {} and \
                 root {}: the data folder is an older or another copy",
                head.size, head.root, known.size, known.root
            ),
        ));
    }
    let readable = Readable::load(trail.store, head.size)?;
    let (remembered, taken) = taken::load(trail, &head)?;
    let mut taken = readable.taken_since(trail.store, remembered, taken)?;
    let clean = trail.store.get(CLEAN)?;
    let unsealed = if clean.as_deref() == Some(head.size.to_string().as_bytes()) {
        Vec::new()
    } else {
        sweep(trail.store, &readable, &taken)?
    };
    // They are sealed by this run: reading their input again names them no second time.
    taken.quarantine.extend(unsealed.iter().map(|q| q.key.clone()));
    trail.store.delete(CLEAN)?;
    Ok(Recovered { head: Some(head), readable, taken, remembered, unsealed })
}

/// Marks the end of a run that left nothing unsealed.
pub(crate) fn mark_clean(store: &dyn BlobStore, size: u64) -> Result<(), Fatal> {
    Ok(store.replace(CLEAN, size.to_string().as_bytes())?)
}

/// Every run makes the log before anything else: where it is not there and an archive is, it was lost.
/// All of the archive would be unnamed, and swept.
fn has_log_or_nothing(trail: &Trail<'_>) -> Result<(), Fatal> {
    // A log without its lock is refused as such.
    if trail.lock.read()?.is_some() || !trail.store.list(LOG)?.is_empty() {
        return Ok(());
    }
    for folder in ["archive/", "detail/"] {
        if let Some(file) = trail.store.list(folder)?.first() {
            return Err(Fatal::new(
                "Fatal.LogMissing",
                format!(
                    "`{file}` is there, but the log that names it is not: restore `log/` and `log-staging/`"
                ),
            ));
        }
    }
    Ok(())
}

fn sweep(store: &dyn BlobStore, readable: &Readable, taken: &TakenIn) -> Result<Vec<QuarantineItem>, Fatal> {
    let sealed = readable.object_keys();
    delete_unnamed(store, "archive/", &sealed)?;
    delete_unnamed(store, "detail/", &readable.details.keys().map(String::as_str).collect())?;
    dedup::forget_others(store, &readable.objects().map(|o| o.object.sha256).collect())?;
    let mut unsealed = Vec::new();
    for key in store.list("quarantine/")? {
        if !taken.quarantine.contains(&key)
            && let Some(stored) = store.get(&key)?
            // Entries are put whole: what is none was put there by others, and stays unlisted.
            && Entry::parse(&key, &stored).is_ok()
        {
            unsealed.push(QuarantineItem { key, sha256: Hash::of(&stored) });
        }
    }
    Ok(unsealed)
}

/// Whether a store takes such a key: what others put there under a stranger name stays, for `verify` to name.
fn may_be_ours(key: &str) -> bool {
    key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._=/-".contains(&b))
}

fn delete_unnamed(store: &dyn BlobStore, prefix: &str, named: &HashSet<&str>) -> Result<(), Fatal> {
    for key in store.list(prefix)? {
        if !named.contains(key.as_str()) && may_be_ours(&key) {
            store.delete(&key)?;
        }
    }
    Ok(())
}
