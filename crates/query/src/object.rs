//! The objects that a statement may read, as plain values, and how they are opened.
//!
//! What it is: the readable set at one checkpoint, as the composition above hands it in, and the count of what
//! was read of it. What it is not: it lists no folder and checks no proof. In: [`Object`]s and an [`Open`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keytrail_archive::ReadAt;
use keytrail_model::{Fatal, Hash};
use sha2::{Digest, Sha256};

/// An archive object of the readable set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Path in the data folder.
    pub key: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// Number of rows.
    pub rows: u64,
    /// `event.dataset` of all rows.
    pub dataset: String,
    /// `YYYY-MM-DD` or `undated`.
    pub day: String,
    /// Oldest event time, microseconds since 1970; `None`: no row has a time.
    pub time_min: Option<i64>,
    /// Newest event time.
    pub time_max: Option<i64>,
}

/// Opens an object for positioned reads, by its key; `None`: it is not there.
pub type Open = Box<dyn Fn(&str) -> Result<Option<Arc<dyn ReadAt>>, Fatal> + Send + Sync>;

/// What was read of the archive, and of how much.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Read {
    /// Objects of which at least the footer was read.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects of the readable set.
    pub all_objects: u64,
    /// Their bytes.
    pub all_bytes: u64,
}

/// The readable set, and what was read of it.
pub struct Archive {
    objects: Vec<Object>,
    open: Open,
    bytes: AtomicU64,
    opened: Vec<AtomicBool>,
    planned: Vec<AtomicBool>,
    failure: Mutex<Option<Fatal>>,
}

impl Archive {
    /// Of the objects of a checkpoint.
    pub fn new(mut objects: Vec<Object>, open: Open) -> Self {
        // In the order of time: what belongs together is read one after the other.
        objects.sort_by(|a, b| (&a.day, &a.dataset, &a.key).cmp(&(&b.day, &b.dataset, &b.key)));
        let flags = || objects.iter().map(|_| AtomicBool::new(false)).collect();
        let (opened, planned) = (flags(), flags());
        Self { objects, open, bytes: AtomicU64::new(0), opened, planned, failure: Mutex::new(None) }
    }

    /// The objects, by day, dataset and key.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// What was read so far.
    pub fn read(&self) -> Read {
        Read {
            objects: self.opened().count() as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
            all_objects: self.objects.len() as u64,
            all_bytes: self.objects.iter().map(|o| o.bytes).sum(),
        }
    }

    /// Opens an object.
    ///
    /// # Errors
    /// `Fatal.ObjectMissing`; `Fatal.ObjectConflict` where it has another size than was sealed; the store's own.
    pub(crate) fn open(&self, number: usize) -> Result<Arc<dyn ReadAt>, Fatal> {
        let object = &self.objects[number];
        let opened = self.try_open(object);
        self.opened[number].store(true, Ordering::Relaxed);
        if let Err(e) = &opened {
            self.fail(e.clone());
        }
        opened
    }

    fn try_open(&self, object: &Object) -> Result<Arc<dyn ReadAt>, Fatal> {
        let Some(blob) = (self.open)(&object.key)? else {
            return Err(Fatal::new(
                "Fatal.ObjectMissing",
                format!("`{}` is named by the log and is not there: see `keytrail verify`", object.key),
            ));
        };
        let size = blob.size().map_err(|e| Fatal::new("Fatal.Store", format!("`{}`: {e}", object.key)))?;
        if size != object.bytes { Err(damaged(object)) } else { Ok(blob) }
    }

    /// Counts bytes that were read.
    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that an object cannot be read.
    pub(crate) fn damaged(&self, number: usize) {
        self.fail(damaged(&self.objects[number]));
    }

    /// Notes why the statement will fail: the first reason counts.
    pub(crate) fn fail(&self, why: Fatal) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// Why objects could not be read.
    pub(crate) fn failure(&self) -> Option<Fatal> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the objects that a scan will read.
    pub(crate) fn plan(&self, numbers: &[usize]) {
        numbers.iter().for_each(|n| self.planned[*n].store(true, Ordering::Relaxed));
    }

    /// The objects that would be read.
    pub(crate) fn planned(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().zip(&self.planned).filter(|(_, p)| p.load(Ordering::Relaxed)).map(|(o, _)| o)
    }

    fn opened(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().zip(&self.opened).filter(|(_, o)| o.load(Ordering::Relaxed)).map(|(o, _)| o)
    }

    /// The first of the objects read whose bytes are not those that were sealed: a decoder does not say whose
    /// page it was.
    pub(crate) fn find_damaged(&self) -> Option<Fatal> {
        self.opened().find(|object| !self.is_sealed(object)).map(damaged)
    }

    fn is_sealed(&self, object: &Object) -> bool {
        const PART: u64 = 1 << 20;
        let Ok(Some(blob)) = (self.open)(&object.key) else { return false };
        let mut bytes = vec![0; PART.min(object.bytes) as usize];
        let mut hasher = Sha256::new();
        let mut at = 0;
        while at < object.bytes {
            let part = &mut bytes[..PART.min(object.bytes - at) as usize];
            if blob.read_at(at, part).is_err() {
                return false;
            }
            hasher.update(&*part);
            at += part.len() as u64;
        }
        Hash(hasher.finalize().into()) == object.sha256
    }
}

fn damaged(object: &Object) -> Fatal {
    Fatal::new(
        "Fatal.ObjectConflict",
        format!("`{}` is not the object that was sealed: see `keytrail verify`", object.key),
    )
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("objects", &self.objects.len()).finish_non_exhaustive()
    }
}
