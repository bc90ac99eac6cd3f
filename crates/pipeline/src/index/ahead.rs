//! What is indexed before it is sealed: a mark for each archive object, which the cursor skips.
//!
//! What it is: `state/index/<server>-<namespace>.ahead/<SHA-256 of the object>`. A mark can be deleted at any time: the
//! object's rows are sent once more then, and found to be there. It is tagged, since whoever could make one would hide
//! events from the index. One whose object is never sealed as it was goes after a day.

use std::collections::HashSet;

use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use crate::readable::Readable;
use crate::tagged;

const TAG_DOMAIN: &[u8] = b"keytrail/index-ahead/1\n";

/// How long an object can take to be sealed.
const KEPT_MICROS: i64 = 86_400_000_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    cluster: String,
    object: Hash,
    at: i64,
}

/// The marks of an index.
pub struct Marks<'a> {
    store: &'a dyn BlobStore,
    masker: Option<&'a Masker>,
    cluster: String,
    folder: String,
    there: Vec<(Hash, i64)>,
}

impl<'a> Marks<'a> {
    /// Those that are there, of the index that the cursor is of.
    pub fn read(cursor: &Cursor<'a>) -> Result<Self, Fatal> {
        let (store, masker, cluster, place) = cursor.place();
        let mut marks = Self { store, masker, cluster, folder: format!("{place}.ahead/"), there: Vec::new() };
        let Some(masker) = masker else { return Ok(marks) };
        for key in store.list(&marks.folder)? {
            let Some(bytes) = store.get(&key)? else { continue };
            // What somebody else put there marks nothing.
            let Ok(mark) = tagged::read::<Mark>(masker, TAG_DOMAIN, &bytes) else { continue };
            if mark.cluster == marks.cluster && marks.key(&mark.object) == key {
                marks.there.push((mark.object, mark.at));
            }
        }
        Ok(marks)
    }

    /// Objects whose rows are indexed.
    pub fn objects(&self) -> HashSet<Hash> {
        self.there.iter().map(|(object, _)| *object).collect()
    }

    /// All rows of an object are indexed.
    pub fn put(&self, object: Hash, now: Timestamp) -> Result<(), Fatal> {
        let Some(masker) = self.masker else { return Ok(()) };
        let mark = Mark { cluster: self.cluster.clone(), object, at: now.0 };
        Ok(self.store.replace(&self.key(&object), &tagged::write(masker, TAG_DOMAIN, &mark)?)?)
    }

    /// Forgets those of objects that the cursor is behind now, and what was never sealed.
    pub fn forget(&self, readable: &Readable, next: u64, now: Timestamp) -> Result<(), Fatal> {
        let passed: HashSet<Hash> = match self.there.is_empty() {
            true => HashSet::new(),
            false => readable.objects().filter(|o| o.leaf < next).map(|o| o.object.sha256).collect(),
        };
        for (object, at) in &self.there {
            if passed.contains(object) || now.0.saturating_sub(*at) > KEPT_MICROS {
                self.store.delete(&self.key(object))?;
            }
        }
        Ok(())
    }

    fn key(&self, object: &Hash) -> String {
        format!("{}{object}", self.folder)
    }
}
