//! A file system in memory that fails on request, and forgets what was not synced when it crashes. For tests.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::files::{FileAccess, Files};

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What happens at an operation that changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is not done, and fails. A sync that fails drops what it should have written, as Linux does.
    Fail(Errno),
    /// A write is half done, and fails.
    Short(Errno),
    /// The process is killed before it, in the middle of it, or after it.
    Kill(Done),
}

/// How far an operation came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// Not begun.
    Not,
    /// The first half of its bytes.
    Half,
    /// Done, but nobody is told.
    All,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// All: only the process was killed.
    Process,
    /// Nothing.
    Power,
    /// Some sectors, by this seed.
    Torn(u64),
}

/// Copies are the same file system.
#[derive(Clone, Default)]
pub struct MemoryFiles {
    disk: Arc<Mutex<Disk>>,
    locked: Arc<AtomicBool>,
}

#[derive(Default)]
struct Disk {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Names since the folder was synced, in order: after each change all of them.
    name_changes: Vec<BTreeMap<PathBuf, usize>>,
    /// Bytes that all files may have.
    capacity: Option<u64>,
    /// What was done, with the name of the file.
    operations: Vec<String>,
    fault: Option<(usize, Fault)>,
    killed: bool,
    /// Bytes that a write takes at most.
    write_limit: Option<usize>,
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, part) => {
                bytes.resize(bytes.len().max(at + part.len()), 0);
                bytes[*at..at + part.len()].copy_from_slice(part);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }
}

impl MemoryFiles {
    /// Lets the operation of that number fail, counted from 0.
    pub fn fail_at(&self, operation: usize, fault: Fault) {
        self.disk().fault = Some((operation, fault));
    }

    /// What was done so far: operation and name of the file.
    pub fn operations(&self) -> Vec<String> {
        self.disk().operations.clone()
    }

    /// Lets files have so many bytes in all.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk().capacity = Some(bytes);
    }

    /// Lets each write take so many bytes at most.
    pub fn set_write_limit(&self, bytes: usize) {
        self.disk().write_limit = Some(bytes);
    }

    /// The bytes of a file, which is there.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[path]].bytes.clone()
    }

    /// Replaces the bytes of a file, which is there, durably.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let id = disk.names[path];
        let (durable, bytes) = (bytes.to_vec(), bytes.to_vec());
        disk.files[id] = Content { bytes, durable, unsynced: Vec::new() };
    }

    /// What another process finds after a crash. What is still open here does not change it.
    pub fn crash(&self, crash: Crash) -> Self {
        let disk = self.disk();
        let mut random = match crash {
            Crash::Torn(seed) => seed.wrapping_mul(2).wrapping_add(1),
            Crash::Process | Crash::Power => 0,
        };
        // xorshift64
        let mut coin = |of: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % of
        };
        let names = match crash {
            Crash::Process => disk.names.clone(),
            Crash::Power => disk.durable_names.clone(),
            Crash::Torn(_) => match coin(disk.name_changes.len() as u64 + 1) as usize {
                0 => disk.durable_names.clone(),
                n => disk.name_changes[n - 1].clone(),
            },
        };
        let files = disk.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            match crash {
                Crash::Process => bytes.clone_from(&file.bytes),
                Crash::Power => {}
                Crash::Torn(_) => torn(file, &mut bytes, &mut coin),
            }
            Content { durable: bytes.clone(), bytes, unsynced: Vec::new() }
        });
        let after = Disk {
            files: files.collect(),
            durable_names: names.clone(),
            names,
            capacity: disk.capacity,
            ..Disk::default()
        };
        Self { disk: Arc::new(Mutex::new(after)), locked: Arc::default() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does an operation, as far as the fault lets it.
    fn operate(&self, what: &str, path: &Path, apply: impl FnOnce(&mut Disk, Done)) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.killed {
            return Err(Errno::IO.into());
        }
        let number = disk.operations.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        disk.operations.push(format!("{what} {name}"));
        match disk.fault.filter(|(at, _)| *at == number) {
            None => apply(&mut disk, Done::All),
            Some((_, Fault::Fail(errno))) => {
                if what == "sync" {
                    let id = disk.names[path];
                    disk.files[id].unsynced.clear();
                }
                return Err(errno.into());
            }
            Some((_, Fault::Short(errno))) => {
                apply(&mut disk, Done::Half);
                return Err(errno.into());
            }
            Some((_, Fault::Kill(done))) => {
                if done != Done::Not {
                    apply(&mut disk, done);
                }
                disk.killed = true;
                return Err(Errno::IO.into());
            }
        }
        Ok(())
    }
}

/// Applies some of what was not synced: cuts in order, of each write some sectors.
fn torn(file: &Content, bytes: &mut Vec<u8>, coin: &mut impl FnMut(u64) -> u64) {
    for change in &file.unsynced {
        match change {
            Change::Length(_) => change.apply(bytes),
            Change::Write(at, part) => {
                let mut start = 0;
                while start < part.len() {
                    let end = part.len().min((at + start) / SECTOR * SECTOR + SECTOR - at);
                    if coin(2) == 0 {
                        Change::Write(at + start, part[start..end].to_vec()).apply(bytes);
                    }
                    start = end;
                }
            }
        }
    }
}

impl Files for MemoryFiles {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.operate("make", path, |_, _| ())
    }

    fn lock(&self, _folder: &Path) -> io::Result<Option<Box<dyn Send + Sync>>> {
        struct Held(Arc<AtomicBool>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }
        let free = !self.locked.swap(true, Ordering::SeqCst);
        Ok(free.then(|| Box::new(Held(Arc::clone(&self.locked))) as Box<dyn Send + Sync>))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let inside = disk.names.keys().filter(|p| p.parent() == Some(folder));
        Ok(inside.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>> {
        if self.disk().names.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.operate("create", path, |disk, _| {
            disk.files.push(Content::default());
            disk.names.insert(path.to_owned(), disk.files.len() - 1);
            disk.name_changes.push(disk.names.clone());
        })?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileAccess>> {
        let disk = self.disk();
        if disk.killed {
            return Err(Errno::IO.into());
        }
        let id = *disk.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { files: self.clone(), id }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate("rename", from, |disk, _| {
            if let Some(id) = disk.names.remove(from) {
                disk.names.insert(to.to_owned(), id);
                disk.name_changes.push(disk.names.clone());
            }
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        if !self.disk().names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        self.operate("unlink", path, |disk, _| {
            disk.names.remove(path);
            disk.name_changes.push(disk.names.clone());
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate("sync-folder", folder, |disk, done| {
            if done == Done::All {
                disk.durable_names = disk.names.clone();
                disk.name_changes.clear();
            }
        })
    }

    fn free_bytes(&self, _folder: &Path) -> io::Result<u64> {
        Ok(self.disk().free_bytes())
    }
}

impl Disk {
    fn free_bytes(&self) -> u64 {
        let used: usize = self.names.values().map(|id| self.files[*id].bytes.len()).sum();
        self.capacity.map_or(u64::MAX >> 1, |c| c.saturating_sub(used as u64))
    }
}

struct MemoryFile {
    files: MemoryFiles,
    id: usize,
}

impl MemoryFile {
    fn path(&self) -> PathBuf {
        let disk = self.files.disk();
        let named = disk.names.iter().find(|(_, id)| **id == self.id);
        named.map(|(path, _)| path.clone()).unwrap_or_default()
    }

    fn change(&self, what: &str, change: Change) -> io::Result<()> {
        self.files.operate(what, &self.path(), |disk, done| {
            let change = match (change, done) {
                (Change::Write(at, bytes), Done::Half) => {
                    Change::Write(at, bytes[..bytes.len() / 2].to_vec())
                }
                (change, _) => change,
            };
            let file = &mut disk.files[self.id];
            change.apply(&mut file.bytes);
            file.unsynced.push(change);
        })
    }

    /// Refuses what the disk has no room for.
    fn need(&self, length: u64) -> io::Result<()> {
        let disk = self.files.disk();
        let more = length.saturating_sub(disk.files[self.id].bytes.len() as u64);
        if more > disk.free_bytes() { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }
}

impl FileAccess for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.files.disk().files[self.id].bytes.len() as u64)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.need(bytes)?;
        self.change("preallocate", Change::Length(bytes as usize))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let limit = self.files.disk().write_limit.unwrap_or(usize::MAX);
        let part = &bytes[..bytes.len().min(limit)];
        self.need(offset + part.len() as u64)?;
        self.change("write", Change::Write(offset as usize, part.to_vec()))?;
        Ok(part.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.files.disk();
        if disk.killed {
            return Err(Errno::IO.into());
        }
        let rest = disk.files[self.id].bytes.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(into.len());
        into[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.operate("sync", &self.path(), |disk, done| {
            let file = &mut disk.files[self.id];
            // The first half of what it had to write, or all of it.
            let changes = if done == Done::Half { file.unsynced.len() / 2 } else { file.unsynced.len() };
            for change in file.unsynced.drain(..changes) {
                change.apply(&mut file.durable);
            }
        })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.change("truncate", Change::Length(bytes as usize))
    }
}
