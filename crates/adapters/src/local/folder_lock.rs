//! One writer for a data folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use keytrail_model::Timestamp;
use keytrail_ports::StoreError;

use super::files::{at, make_folder, move_over, read, remove_if_there, write_temporary};
use super::{LocalStore, TEMPORARY};

/// Says who holds the lock: `pid`, `host`, `command`, `since`, a line each.
const HOLDER: &str = "state/run.lock";

/// The right to write to a data folder, until it is dropped or its process ends.
///
/// The lock is an `flock` on the folder itself, so a killed process leaves none behind, and deleting
/// `state/` loosens none; the file `state/run.lock` only tells people who holds it.
pub struct FolderLock {
    // Closing it gives the lock back.
    _folder: File,
    holder: std::path::PathBuf,
}

impl FolderLock {
    /// Takes the lock for `command`, or says who holds it (`Retryable.Store`: it will be free again).
    pub fn acquire(store: &LocalStore, command: &str, now: Timestamp) -> Result<Self, StoreError> {
        let root = store.root();
        let folder = File::open(root).map_err(|e| at("open", root, &e))?;
        let holder = root.join(HOLDER);
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(root, &holder)),
            Err(TryLockError::Error(e)) => return Err(at("lock", root, &e)),
        }
        let uname = rustix::system::uname();
        let text = format!(
            "pid {}\nhost {}\ncommand {}\nsince {}\n",
            std::process::id(),
            uname.nodename().to_string_lossy(),
            command.escape_debug(),
            now.to_rfc3339()
        );
        let temporary = root.join(TEMPORARY);
        make_folder(&temporary)?;
        move_over(&write_temporary(&temporary, text.as_bytes())?, &holder)?;
        Ok(Self { _folder: folder, holder })
    }

    /// Whether a process holds the lock now.
    pub fn is_held(store: &LocalStore) -> bool {
        File::open(store.root()).is_ok_and(|f| matches!(f.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // The file only informs: one that stays says who was last.
        match remove_if_there(&self.holder) {
            Ok(_) | Err(_) => {}
        }
    }
}

fn held(root: &Path, holder: &Path) -> StoreError {
    let who = match read(holder) {
        Ok(Some(text)) => {
            let text = String::from_utf8_lossy(&text);
            text.lines().map(|l| l.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
        }
        _ => "a process that did not say who it is".into(),
    };
    StoreError::Retryable(format!("`{}` is in use by {who}: wait for it to end", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        let first = FolderLock::acquire(&store, "keytrail run x", Timestamp(0)).unwrap();
        let message = match FolderLock::acquire(&store, "keytrail run y", Timestamp(1)) {
            Ok(_) => panic!("two hold it"),
            Err(e @ StoreError::Retryable(_)) => e.to_string(),
            Err(e) => panic!("waiting helps, but it is {}", e.code()),
        };
        let pid = std::process::id();
        assert!(message.contains(&format!("is in use by pid {pid}, host ")), "{message}");
        assert!(message.contains("command keytrail run x, since 1970-01-01T00:00:00"), "{message}");
        std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        assert!(FolderLock::acquire(&store, "keytrail run y", Timestamp(1)).is_err());
        drop(first);
        FolderLock::acquire(&store, "keytrail run y", Timestamp(1)).unwrap();
    }
}
