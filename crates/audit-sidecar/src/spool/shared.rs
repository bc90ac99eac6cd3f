//! What the writer and the readers of a spool know together: what is durable, and whether it goes on.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keytrail_model::Hash;
use keytrail_model::segment::Header;

use super::error::SpoolError;
use super::files::{FileAccess, Files, write_all};
use super::{Counts, Room, Segment, Settings};

/// Ends the name of a segment's file.
const SEGMENT_SUFFIX: &str = ".ktseg";

/// The file that waits to be a segment.
const SPARE: &str = "spare.tmp";

/// Ends the name of a small file of state.
const STATE_SUFFIX: &str = ".state";

/// Ends the name of a file that is not finished: it is removed at the next start.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// The file of a segment: names in order are segments in order.
pub(super) fn segment_name(epoch: u64, first_seq: u64) -> String {
    format!("{epoch:020}-{first_seq:020}{SEGMENT_SUFFIX}")
}

/// Epoch and first number of the segment in a file of that name.
pub(super) fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (epoch, first_seq) = name.strip_suffix(SEGMENT_SUFFIX)?.split_once('-')?;
    let number = |digits: &str| -> Option<u64> {
        if digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) {
            digits.parse().ok()
        } else {
            None
        }
    };
    Some((number(epoch)?, number(first_seq)?))
}

/// Bytes of the header of a source's segments.
pub(super) fn header_bytes(source: &str) -> usize {
    let header =
        Header { source: source.to_owned(), epoch: 0, first_seq: 0, prev: Hash::default(), created_ns: 0 };
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    bytes.len()
}

/// The segment that is being written.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) header: Header,
    pub(super) path: PathBuf,
    /// Where what is durable ends.
    pub(super) durable_bytes: u64,
    /// Records in it that are durable.
    pub(super) records: u64,
    /// Bytes of its file.
    pub(super) size_bytes: u64,
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    /// Closed segments by epoch and first number.
    pub(super) closed: BTreeMap<(u64, u64), Segment>,
    pub(super) open: Option<Open>,
    /// Bytes of the file that waits to be the next segment.
    pub(super) spare_bytes: u64,
    /// Counts up with each change that a reader may wait for.
    pub(super) changes: u64,
    /// Why the spool takes nothing more.
    pub(super) poison: Option<SpoolError>,
    /// The writer is gone.
    pub(super) ended: bool,
    pub(super) counts: Counts,
}

/// A file of a segment's size, and its path.
pub(super) type Spare = (Arc<dyn FileAccess>, PathBuf);

pub(super) struct Shared {
    pub(super) folder: PathBuf,
    pub(super) source: String,
    pub(super) settings: Settings,
    pub(super) files: Arc<dyn Files>,
    state: Mutex<State>,
    changed: Condvar,
    spare: Mutex<Option<Spare>>,
    /// One small file is replaced at a time.
    replacing: Mutex<()>,
    /// Ends with the last that knows the spool, for each of them may write.
    _lock: Box<dyn Send + Sync>,
}

impl Shared {
    pub(super) fn new(
        folder: &Path,
        source: &str,
        settings: Settings,
        files: Arc<dyn Files>,
        lock: Box<dyn Send + Sync>,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            source: source.to_owned(),
            settings,
            files,
            state: Mutex::default(),
            changed: Condvar::new(),
            spare: Mutex::new(None),
            replacing: Mutex::new(()),
            _lock: lock,
        }
    }

    /// The state. It is whole after a panic, too: it is changed in single assignments.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for it.
    pub(super) fn publish(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.changes += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until the state is another than at `seen`; how it is then.
    pub(super) fn wait(&self, seen: u64, timeout: Duration) -> MutexGuard<'_, State> {
        let unchanged = |s: &mut State| s.changes == seen && !s.ended;
        let waited = self.changed.wait_timeout_while(self.state(), timeout, unchanged);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Why the spool takes nothing more, if so.
    pub(super) fn check(&self) -> Result<(), SpoolError> {
        self.state().poison.clone().map_or(Ok(()), Err)
    }

    /// Stops the spool for good; the first reason stays.
    pub(super) fn poison(&self, why: SpoolError) -> SpoolError {
        self.publish(|s| s.poison = Some(s.poison.take().unwrap_or_else(|| why.clone())));
        why
    }

    /// The result of a call whose failure stops the spool.
    pub(super) fn or_poison<T>(&self, verb: &str, path: &Path, r: io::Result<T>) -> Result<T, SpoolError> {
        r.map_err(|e| self.poison(SpoolError::at(verb, path, &e)))
    }

    pub(super) fn sync_folder(&self) -> Result<(), SpoolError> {
        self.or_poison("sync the folder", &self.folder, self.files.sync_folder(&self.folder))
    }

    pub(super) fn room(&self) -> Result<Room, SpoolError> {
        let disk = self.files.free_bytes(&self.folder);
        let disk_bytes = disk.map_err(|e| SpoolError::at("measure the space of", &self.folder, &e))?;
        let mut state = self.state();
        if state.held_bytes() < self.settings.held_back_bytes() && disk_bytes >= self.settings.segment_bytes {
            // There may be room again since the writer looked; it has nothing to do now.
            drop(state);
            self.make_spare();
            state = self.state();
        }
        let used_bytes = state.used_bytes();
        let held_bytes = state.held_bytes();
        let more_bytes = self.settings.max_bytes.saturating_sub(used_bytes).min(disk_bytes);
        let high_water = held_bytes < self.settings.held_back_bytes() || used_bytes > self.settings.max_bytes;
        Ok(Room { free_bytes: held_bytes + more_bytes, held_bytes, used_bytes, high_water })
    }

    /// Takes the room of the next segment, if none is taken, and disk and limit allow it. An error is that of the
    /// one who needs it: until then it is tried again.
    pub(super) fn make_spare(&self) {
        let size_bytes = self.settings.segment_bytes;
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        let wanted = spare.is_none() && state.open.is_some() && state.poison.is_none();
        if !wanted || state.used_bytes() + size_bytes > self.settings.max_bytes {
            return;
        }
        drop(state);
        let path = self.folder.join(SPARE);
        if let Ok(file) = self.allocate(&path, size_bytes) {
            *spare = Some((file, path));
            self.publish(|s| s.spare_bytes = size_bytes);
        }
    }

    /// The room that was taken ahead, for who makes a segment of it.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        let taken = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if taken.is_some() {
            self.state().spare_bytes = 0;
        }
        taken
    }

    /// A new file whose room on the disk is taken.
    pub(super) fn allocate(&self, path: &Path, size_bytes: u64) -> Result<Arc<dyn FileAccess>, SpoolError> {
        self.discard(path)?;
        let file = self.files.create(path).map_err(|e| SpoolError::at("create", path, &e))?;
        if let Err(e) = file.preallocate(size_bytes) {
            self.discard(path)?;
            return Err(SpoolError::at("take room for", path, &e));
        }
        Ok(file)
    }

    pub(super) fn remove(&self, epoch: u64, first_seq: u64) -> Result<(), SpoolError> {
        self.check()?;
        let oldest = self.state().closed.first_key_value().map(|(key, segment)| (*key, segment.path.clone()));
        let path = match oldest {
            Some((key, path)) if key == (epoch, first_seq) => path,
            _ => {
                return Err(SpoolError::Order(format!(
                    "segment {first_seq} of epoch {epoch} is not the oldest closed one: it stays"
                )));
            }
        };
        self.files.unlink(&path).map_err(|e| SpoolError::at("remove", &path, &e))?;
        self.publish(|s| {
            s.closed.remove(&(epoch, first_seq));
        });
        self.sync_folder()?;
        self.make_spare();
        Ok(())
    }

    pub(super) fn read_state(&self, name: &str) -> Result<Option<Vec<u8>>, SpoolError> {
        let path = self.state_path(name)?;
        let file = match self.files.open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| SpoolError::at("read", &path, &e))?,
        };
        let read = || {
            let mut bytes = vec![0; file.length()? as usize];
            let read = super::files::read_full(&*file, 0, &mut bytes)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        read().map(Some).map_err(|e| SpoolError::at("read", &path, &e))
    }

    pub(super) fn write_state(&self, name: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        let path = self.state_path(name)?;
        self.check()?;
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = self.folder.join(format!("{name}{STATE_SUFFIX}{TEMPORARY_SUFFIX}"));
        self.discard(&temporary)?;
        let at = |e| SpoolError::at("write", &temporary, &e);
        let file = self.files.create(&temporary).map_err(at)?;
        if let Err(e) = write_all(&*file, 0, bytes) {
            // What is left of it is removed before the next is written.
            return Err(at(e));
        }
        self.or_poison("sync", &temporary, file.sync_data())?;
        self.files.rename(&temporary, &path).map_err(|e| SpoolError::at("write", &path, &e))?;
        self.sync_folder()
    }

    /// Removes a file that may not be there.
    pub(super) fn discard(&self, path: &Path) -> Result<(), SpoolError> {
        match self.files.unlink(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(SpoolError::at("remove", path, &e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn state_path(&self, name: &str) -> Result<PathBuf, SpoolError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            return Err(SpoolError::Order(format!(
                "`{}` names no state: expected 1 to 64 of `a-z0-9-`",
                name.escape_default()
            )));
        }
        Ok(self.folder.join(format!("{name}{STATE_SUFFIX}")))
    }
}

impl Open {
    /// Bytes that records can still take, and the footer not.
    pub(super) fn left_bytes(&self) -> u64 {
        let taken = self.durable_bytes + keytrail_model::segment::FOOTER_BYTES as u64;
        self.size_bytes.saturating_sub(taken)
    }
}

impl State {
    /// Bytes whose place on the disk is taken and empty.
    pub(super) fn held_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, Open::left_bytes) + self.spare_bytes
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let closed: u64 = self.closed.values().map(|s| s.bytes).sum();
        closed + self.open.as_ref().map_or(0, |o| o.size_bytes) + self.spare_bytes
    }
}
