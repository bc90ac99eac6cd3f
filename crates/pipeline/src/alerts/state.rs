//! What is remembered of a receiver between two runs: `state/alerts/<id>`, a line of JSON and a line with
//! its tag.
//!
//! The tag is HMAC-SHA-256 over id and line under the trail's mask key: whoever can write to `state/` could otherwise move
//! the cursor past what is to be told. A file that is missing or not ours means that nothing is remembered,
//! and then what was archived within a day is looked at again.

use keytrail_model::{Fatal, Hash};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use super::group::Groups;
use super::seals::Refused;

const TAG_DOMAIN: &[u8] = b"keytrail/alerts/1\n";

/// A receiver's cursor over the sealed log, and what is not told yet.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Format of the file: 1.
    pub version: u32,
    /// Leaves before this one were looked at.
    pub cursor: u64,
    pub refused: Refused,
    pub groups: Groups,
}

fn key_of(id: &str) -> String {
    format!("state/alerts/{id}")
}

/// What is remembered; `None` where there is nothing that can be believed.
pub(super) fn load(store: &dyn BlobStore, masker: &Masker, id: &str) -> Result<Option<State>, Fatal> {
    let Some(file) = store.get(&key_of(id))? else { return Ok(None) };
    let mut lines = file.split(|b| *b == b'\n');
    let (Some(json), Some(tag)) = (lines.next(), lines.next()) else { return Ok(None) };
    let tag = std::str::from_utf8(tag).ok().and_then(Hash::from_hex);
    let mut tagger = masker.tagger(TAG_DOMAIN);
    tagger.update(id.as_bytes());
    tagger.update(json);
    if !tag.is_some_and(|tag| tagger.matches(&tag.0)) {
        return Ok(None);
    }
    Ok(serde_json::from_slice(json).ok().filter(|s: &State| s.version == 1))
}

/// Remembers, durable on return.
pub(super) fn save(store: &dyn BlobStore, masker: &Masker, id: &str, state: &State) -> Result<(), Fatal> {
    let mut file = serde_json::to_vec(state)
        .map_err(|e| Fatal::new("Fatal.Internal", format!("the state of alerts: {e}")))?;
    let mut tagger = masker.tagger(TAG_DOMAIN);
    tagger.update(id.as_bytes());
    tagger.update(&file);
    file.push(b'\n');
    file.extend(Hash(tagger.finish()).to_hex().bytes());
    file.push(b'\n');
    Ok(store.replace(&key_of(id), &file)?)
}
