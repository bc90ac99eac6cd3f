//! Positions of followed files that outlive the process: `state/follow`.
//!
//! What it is: a cache of what the sealed log covers. It is written behind the seal that covers it, whole or not
//! at all, and may be deleted: everything is read again then, which adds nothing. What it is not: proof of
//! anything. It is tagged ([`crate::tagged`]), since whoever could write a position could make us skip what
//! comes before it; and it names the log's head, since positions say nothing of a log that was put back.
//! Files whose path is not UTF-8 are left out.

use std::path::PathBuf;

use keytrail_ledger::Checkpoint;
use keytrail_model::{Fatal, Hash};
use serde::{Deserialize, Serialize};

use super::file::{Followed, Progress, Stat};
use crate::tagged;
use crate::trail::Trail;

const KEY: &str = "state/follow";

const TAG_DOMAIN: &[u8] = b"keytrail/follow/1\n";

/// A file's position.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    pub path: PathBuf,
    pub name: String,
    pub stat: Stat,
    pub progress: Progress,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Positions {
    version: u32,
    /// The log that covers them.
    origin: String,
    size: u64,
    root: Hash,
    files: Vec<Stored>,
}

/// Writes the positions that a sealed log covers.
pub(crate) fn store<'a>(
    trail: &Trail<'_>,
    head: &Checkpoint,
    files: impl Iterator<Item = &'a Followed>,
) -> Result<(), Fatal> {
    let stored = |f: &Followed| Stored {
        path: f.path.clone(),
        name: f.name.clone(),
        stat: f.stat,
        progress: f.sealed.clone(),
    };
    let files =
        files.filter(|f| f.path.to_str().is_some() && f.sealed != Progress::Unread).map(stored).collect();
    let all = Positions { version: 1, origin: head.origin.clone(), size: head.size, root: head.root, files };
    Ok(trail.store.replace(KEY, &tagged::write(trail.masker, TAG_DOMAIN, &all)?)?)
}

/// Reads the positions that the log of this head covers. `Err` says why there are none to go by, where there is a
/// file.
pub(crate) fn load(trail: &Trail<'_>, head: &Checkpoint) -> Result<Result<Vec<Stored>, String>, Fatal> {
    let Some(bytes) = trail.store.get(KEY)? else { return Ok(Ok(Vec::new())) };
    let positions: Positions = match tagged::read(trail.masker, TAG_DOMAIN, &bytes) {
        Ok(positions) => positions,
        Err(why) => return Ok(Err(why)),
    };
    if positions.version != 1 {
        return Ok(Err(format!("version `{}` is not known, expected 1", positions.version)));
    }
    let known = Checkpoint { origin: positions.origin, size: positions.size, root: positions.root };
    if !trail.log().continues(&known, head)? {
        return Ok(Err("they are of a log that this one does not continue".to_owned()));
    }
    Ok(Ok(positions.files))
}
