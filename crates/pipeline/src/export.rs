//! A bundle: what someone else needs to verify a trail, or a range of it, with the binary alone.

use keytrail_ledger::tile::{CHECKPOINT, Level, Tile, levels, nodes};
use keytrail_ledger::{Checkpoint, decode_bundle, tree};
use keytrail_model::{Fatal, Hash};
use keytrail_ports::{BlobStore, Put};
use serde::{Deserialize, Serialize};

use crate::readable::Readable;

/// What a bundle holds, in its `bundle.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Archive objects with events from this time on, microseconds since 1970.
    pub from: Option<i64>,
    /// Archive objects with events before this time.
    pub to: Option<i64>,
}

/// Name of the file with the range.
pub const RANGE: &str = "bundle.json";

/// What was exported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Exported {
    /// Archive objects.
    pub objects: u64,
    /// All files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies the log at its newest head, and what it names in `range`, into an empty store.
pub fn export(
    from: &dyn BlobStore,
    to: &dyn BlobStore,
    head: (&Checkpoint, &[u8]),
    readable: &Readable,
    range: &Range,
) -> Result<Exported, Fatal> {
    let mut copy = Copy { from, to, done: Exported::default() };
    let (checkpoint, note) = head;
    copy.put(&format!("log/{CHECKPOINT}"), note)?;
    for level in levels() {
        let tiles = nodes(level, checkpoint.size).div_ceil(256);
        for index in 0..tiles {
            if let Some(tile) = Tile::at(level, index, checkpoint.size) {
                copy.tile(tile)?;
            }
        }
    }
    for key in readable.details.keys() {
        copy.object(key)?;
    }
    for key in readable.taken_in(from)?.quarantine {
        copy.object(&key)?;
    }
    for key in from.list("keys/")? {
        copy.object(&key)?;
    }
    for object in readable.objects() {
        let inside = match (object.rows.time_min, object.rows.time_max) {
            (Some(min), Some(max)) => {
                range.to.is_none_or(|to| min < to) && range.from.is_none_or(|from| max >= from)
            }
            _ => true,
        };
        if inside {
            copy.object(&object.object.key)?;
            copy.done.objects += 1;
        }
    }
    // A struct of numbers always serialises.
    copy.put(RANGE, &serde_json::to_vec(range).unwrap_or_default())?;
    Ok(copy.done)
}

struct Copy<'a> {
    from: &'a dyn BlobStore,
    to: &'a dyn BlobStore,
    done: Exported,
}

impl Copy<'_> {
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<(), Fatal> {
        if self.to.put_if_absent(key, bytes)? == Put::Exists {
            return Err(Fatal::new("Usage.OutputExists", format!("`{key}` is there already")));
        }
        self.done.files += 1;
        self.done.bytes += bytes.len() as u64;
        Ok(())
    }

    fn object(&mut self, key: &str) -> Result<(), Fatal> {
        let bytes = self.from.get(key)?.ok_or_else(|| {
            Fatal::new("Fatal.ObjectMissing", format!("`{key}` is named by the log and is not there"))
        })?;
        self.put(key, &bytes)
    }

    /// A tile at the width that the head has; a run may have widened it since.
    fn tile(&mut self, tile: Tile) -> Result<(), Fatal> {
        let read = &mut |path: &str| self.from.get(&format!("log/{path}")).map_err(|e| e.to_string());
        let damaged = |e: String| Fatal::new("Fatal.LogDamaged", e);
        let (found, mut bytes) = tree::read_widest(tile, read).map_err(|e| damaged(e.to_string()))?;
        let width = tile.width as usize;
        bytes.truncate(match tile.level {
            Level::Hashes(_) => width * size_of::<Hash>(),
            Level::Entries => {
                let entries = decode_bundle(&bytes, found.width).map_err(damaged)?;
                entries.iter().take(width).map(|e| size_of::<u16>() + e.len()).sum()
            }
        });
        self.put(&format!("log/{}", tile.path()), &bytes)
    }
}
