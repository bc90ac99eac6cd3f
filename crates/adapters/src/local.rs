//! A folder of this machine as store.
//!
//! Every object is written to `state/tmp` below the root, synced, and moved to its name, whose folder is
//! synced too: an object is there whole and for good, or not at all. Files are 0640, folders 0750: the
//! owner writes, the group reads. An fsync that fails is reported and never tried again: the kernel may
//! have dropped the pages that it could not write.

mod checkpoint;
mod files;
mod folder_lock;
mod key_file;
pub mod open_files;
pub mod secret;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use keytrail_model::Timestamp;
use keytrail_ports::{BlobRead, BlobStore, CheckpointStore as _, Clock, Put, StoreError, Swap};

pub use checkpoint::LocalCheckpoint;
pub use folder_lock::FolderLock;
pub use key_file::KeyFile;

use crate::key_fault;
use files::{at, move_new, open_file, remove_if_there, sync_folder, write_temporary};

/// Folder of unfinished objects, below the root. It is on the root's file system.
const TEMPORARY: &str = "state/tmp";

/// Objects as files below a root folder. See [`BlobStore`] for the contract.
///
/// Whoever can write to the folder can do what the port's comment says of an attacker. Names that are
/// listed may be no valid keys, where someone put such files: they are shown, and no call opens them.
#[derive(Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens the folder; makes it (0750) if it is not there.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        files::make_folder(&root)?;
        Ok(Self { root })
    }

    /// The root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder on the store's file system for files to be given to
    /// [`put_file_if_absent`](BlobStore::put_file_if_absent).
    pub fn temporary(&self) -> Result<PathBuf, StoreError> {
        let folder = self.root.join(TEMPORARY);
        files::make_folder(&folder)?;
        Ok(folder)
    }

    /// Removes what killed processes left unfinished. Only for the holder of the folder's lock.
    pub fn clear_temporary(&self) -> Result<(), StoreError> {
        let folder = self.temporary()?;
        for entry in std::fs::read_dir(&folder).map_err(|e| at("read", &folder, &e))? {
            let path = entry.map_err(|e| at("read", &folder, &e))?.path();
            let is_folder = path.symlink_metadata().is_ok_and(|m| m.is_dir());
            let removed =
                if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|e| at("remove", &path, &e))?;
        }
        Ok(())
    }

    fn path(&self, key: &str) -> Result<PathBuf, StoreError> {
        match key_fault(key) {
            Some(fault) => Err(fault),
            None => Ok(self.root.join(key)),
        }
    }
}

impl BlobStore for LocalStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key)?;
        files::read(&path)
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        let path = self.path(key)?;
        let Some(file) = open_file(&path)? else { return Ok(None) };
        let len = file.metadata().map_err(|e| at("read", &path, &e))?.len();
        Ok(Some(Box::new(LocalRead { file, len, path })))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        let path = self.path(key)?;
        // A look first spares writing what is there; the move decides.
        if open_file(&path)?.is_some() {
            sync_folder(files::parent(&path))?;
            return Ok(Put::Exists);
        }
        let temporary = write_temporary(&self.temporary()?, bytes)?;
        move_new(&temporary, &path)
    }

    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError> {
        let path = self.path(key)?;
        files::finish(file)?;
        match move_new(file, &path) {
            Err(StoreError::Fatal(_)) if !files::same_device(file, &self.root)? => {
                let copy = files::copy_temporary(file, &self.temporary()?)?;
                let put = move_new(&copy, &path)?;
                remove_if_there(file)?;
                Ok(put)
            }
            other => other,
        }
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let temporary = write_temporary(&self.temporary()?, bytes)?;
        files::move_over(&temporary, &path)
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Swap, StoreError> {
        LocalCheckpoint::new(self, key)?.compare_and_swap(expected, bytes)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key)?;
        if remove_if_there(&path)? {
            let folder = files::parent(&path);
            sync_folder(folder)?;
            // Folders are no objects: an empty one goes, but those right below the root, which are locked
            // by others. One that is not empty, or gone, stays as it is.
            if key.matches('/').count() > 1 && std::fs::remove_dir(folder).is_ok() {
                sync_folder(files::parent(folder))?;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let folder = prefix.rfind('/').map_or("", |i| &prefix[..i]);
        if !folder.is_empty()
            && let Some(fault) = key_fault(folder)
        {
            return Err(fault);
        }
        let mut found = Vec::new();
        let mut open = vec![folder.to_owned()];
        while let Some(folder) = open.pop() {
            let path = self.root.join(&folder);
            let entries = match std::fs::read_dir(&path) {
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    continue;
                }
                other => other.map_err(|e| at("read", &path, &e))?,
            };
            for entry in entries {
                let entry = entry.map_err(|e| at("read", &path, &e))?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let key = if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") };
                let kind = entry.file_type().map_err(|e| at("read", &entry.path(), &e))?;
                if kind.is_dir() {
                    // Only folders that can hold such keys.
                    if key.starts_with(prefix) || prefix.starts_with(&format!("{key}/")) {
                        open.push(key);
                    }
                } else if key.starts_with(prefix) {
                    found.push(key);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// An open file; it stays readable when its name is removed.
struct LocalRead {
    file: File,
    len: u64,
    path: PathBuf,
}

impl BlobRead for LocalRead {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buf, offset).map_err(|e| at("read", &self.path, &e))
    }
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Timestamp(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn hostile_keys_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("data")).unwrap();
        for key in ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a\\b", "a b", "a\0b", "\u{e9}", "a\n"]
        {
            let e = store.put_if_absent(key, b"x").unwrap_err();
            assert!(matches!(&e, StoreError::Fatal(m) if m.contains("is no key")), "{key:?}: {e}");
        }
        assert!(store.put_if_absent(&"a".repeat(256), b"x").is_err());
        assert!(store.list("../").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("secret"), b"secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), store.root().join("link")).unwrap();
        assert!(matches!(store.get("link"), Err(StoreError::Fatal(_))));
        assert_eq!(store.list("").unwrap(), ["link"]);
    }

    #[test]
    fn modes_and_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("data")).unwrap();
        store.put_if_absent("a/b/c", b"x").unwrap();
        let mode = |p: &str| store.root().join(p).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a/b/c"), mode("a/b")), (0o640, 0o750));
        std::fs::write(store.temporary().unwrap().join("left"), b"x").unwrap();
        std::fs::create_dir(store.temporary().unwrap().join("spill")).unwrap();
        store.clear_temporary().unwrap();
        assert_eq!(store.list("").unwrap(), ["a/b/c"]);
        store.delete("a/b/c").unwrap();
        assert!(!store.root().join("a/b").exists() && store.root().join("a").exists());
    }

    /// Where syncing takes no time, the steps of eight meet in each order.
    #[test]
    fn folders_come_and_go_under_those_who_need_them() {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let store = LocalStore::open(dir.path()).unwrap();
        std::thread::scope(|s| {
            for i in 0..8 {
                let store = &store;
                s.spawn(move || {
                    for _ in 0..2_000 {
                        let key = format!("race/folder/deep/{i}");
                        assert_eq!(store.put_if_absent(&key, b"x").unwrap(), Put::Created);
                        store.delete(&key).unwrap();
                    }
                });
            }
        });
        // A file in a folder's place is an error, and no endless loop.
        store.put_if_absent("race/file", b"x").unwrap();
        assert!(matches!(store.put_if_absent("race/file/deep/x", b"x"), Err(StoreError::Fatal(_))));
    }

    #[test]
    fn a_file_is_moved_or_copied() {
        let dir = tempfile::tempdir().unwrap();
        let store = LocalStore::open(dir.path().join("data")).unwrap();
        let mut folders = vec![store.temporary().unwrap()];
        // Another file system, where the machine has one.
        if Path::new("/dev/shm").is_dir() {
            folders.push("/dev/shm".into());
        }
        for (i, folder) in folders.iter().enumerate() {
            let file = folder.join(format!("keytrail-test-{}", std::process::id()));
            for put in [Put::Created, Put::Exists] {
                std::fs::write(&file, format!("{put:?}")).unwrap();
                assert_eq!(store.put_file_if_absent(&format!("o/{i}"), &file).unwrap(), put);
                assert!(!file.exists());
                assert_eq!(store.get(&format!("o/{i}")).unwrap().unwrap(), b"Created");
            }
        }
    }

    /// ENOSPC (28) and EIO (5), as the system gives them.
    #[test]
    fn a_full_disk_is_full() {
        let e = io::Error::from_raw_os_error(28);
        assert!(
            matches!(at("write", Path::new("x"), &e), StoreError::Full(m) if m.contains("no space left"))
        );
        let e = io::Error::from_raw_os_error(5);
        assert!(matches!(at("write", Path::new("x"), &e), StoreError::Fatal(_)));
    }

    #[test]
    fn the_clock_runs() {
        assert!(SystemClock.now() > Timestamp(1_700_000_000_000_000));
    }
}
