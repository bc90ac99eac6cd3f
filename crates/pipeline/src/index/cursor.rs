//! How far the index is known to follow the log.
//!
//! What it is: a number in `state/index/<server>-<namespace>`, of the server that it was reached on. It can be deleted
//! at any time: everything is sent once more then, and found to be there. It is tagged: whoever moved it on would hide
//! events from the index.

use keytrail_model::{Fatal, Hash};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use crate::tagged;
use crate::trail::Trail;

const TAG_DOMAIN: &[u8] = b"keytrail/index-cursor/1\n";

/// What is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The server's cluster.
    cluster: String,
    /// All entries of the log before this one are indexed.
    next: u64,
}

/// Entries of a log of that size that the index of the namespace has not; of several servers, the one that is behind.
pub fn backlog(trail: &Trail<'_>, namespace: &str, size: u64) -> Result<u64, Fatal> {
    let mut next = None;
    for place in trail.store.list(FOLDER)? {
        if !place.ends_with(&format!("-{namespace}")) {
            continue;
        }
        let Some(bytes) = trail.store.get(&place)? else { continue };
        let kept = tagged::read::<Kept>(trail.masker, TAG_DOMAIN, &bytes).map_or(0, |kept| kept.next);
        next = Some(next.map_or(kept, |next: u64| next.min(kept)));
    }
    Ok(size.saturating_sub(next.unwrap_or_default()))
}

/// Where cursors are.
const FOLDER: &str = "state/index/";

/// The cursor of one index.
pub struct Cursor<'a> {
    store: &'a dyn BlobStore,
    masker: Option<&'a Masker>,
    cluster: &'a str,
    place: String,
    /// All entries of the log before this one are indexed.
    pub next: u64,
}

impl<'a> Cursor<'a> {
    /// Where it was left; 0 where it is not known.
    pub fn read(
        store: &'a dyn BlobStore,
        masker: Option<&'a Masker>,
        cluster: &'a str,
        namespace: &str,
    ) -> Result<Self, Fatal> {
        // A cluster may call itself anything.
        let server = &Hash::of(cluster.as_bytes()).to_hex()[..16];
        let place = format!("{FOLDER}{server}-{namespace}");
        let kept = match (masker, store.get(&place)?) {
            (Some(masker), Some(bytes)) => tagged::read::<Kept>(masker, TAG_DOMAIN, &bytes).ok(),
            _ => None,
        };
        let next = kept.filter(|kept| kept.cluster == cluster).map_or(0, |kept| kept.next);
        Ok(Self { store, masker, cluster, place, next })
    }

    /// Where it is kept, and of which cluster it is.
    pub(super) fn place(&self) -> (&'a dyn BlobStore, Option<&'a Masker>, String, &str) {
        (self.store, self.masker, self.cluster.to_owned(), &self.place)
    }

    /// Moves it on.
    pub fn advance(&mut self, next: u64) -> Result<(), Fatal> {
        if next <= self.next {
            return Ok(());
        }
        self.next = next;
        let Some(masker) = self.masker else { return Ok(()) };
        let kept = Kept { cluster: self.cluster.to_owned(), next };
        Ok(self.store.replace(&self.place, &tagged::write(masker, TAG_DOMAIN, &kept)?)?)
    }
}
