//! A small value that processes race for, as a file.

use std::fs::File;
use std::path::PathBuf;

use keytrail_ports::{CheckpointStore, StoreError, Swap};

use super::files::{at, make_folder, move_over, parent, read, sync_folder, write_temporary};
use super::{LocalStore, TEMPORARY};
use crate::key_fault;

/// A value in a file of a [`LocalStore`]'s folder, right below one of its top folders
/// (`log-staging/lock`). Swaps compare, write, sync and rename under a lock (`flock`) on that folder,
/// which the store never removes. See [`CheckpointStore`] for the contract; on a network file system it
/// holds as far as that file system's locks do.
pub struct LocalCheckpoint {
    path: PathBuf,
    temporary: PathBuf,
}

impl LocalCheckpoint {
    /// The value of that key; the key has two segments.
    pub fn new(store: &LocalStore, key: &str) -> Result<Self, StoreError> {
        if let Some(fault) = key_fault(key) {
            return Err(fault);
        }
        if key.matches('/').count() != 1 {
            return Err(StoreError::Fatal(format!(
                "`{key}` has to be right below a folder of the data folder"
            )));
        }
        Ok(Self { path: store.root().join(key), temporary: store.root().join(TEMPORARY) })
    }
}

impl CheckpointStore for LocalCheckpoint {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        read(&self.path)
    }

    fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
        let folder = parent(&self.path);
        make_folder(folder)?;
        make_folder(&self.temporary)?;
        let lock = File::open(folder).map_err(|e| at("open", folder, &e))?;
        // Held until `lock` is dropped.
        lock.lock().map_err(|e| at("lock", folder, &e))?;
        if read(&self.path)?.as_deref() != expected {
            // The other's value may not be durable yet: whoever builds on it needs it to be.
            sync_folder(folder)?;
            return Ok(Swap::Lost);
        }
        let temporary = write_temporary(&self.temporary, new)?;
        move_over(&temporary, &self.path)?;
        Ok(Swap::Done)
    }
}
