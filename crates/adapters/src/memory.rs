//! Doubles for tests: everything in memory, and a store that fails on request.
//!
//! Nothing here survives the process; in all else they keep the ports' contracts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::{Signer as _, SigningKey};
use keytrail_model::Timestamp;
use keytrail_ports::{
    BlobRead, BlobStore, CheckpointStore, Clock, MAX_STREAM_RECORD_BYTES, Notice, Notifier, NotifyError, Put,
    Signer, StoreError, Stream, Swap, Unput,
};

use crate::key_fault;

/// A thread that panicked while holding a lock left no half change: each change is one call.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Objects in memory.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

fn checked(key: &str) -> Result<(), StoreError> {
    key_fault(key).map_or(Ok(()), Err)
}

impl BlobStore for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        checked(key)?;
        Ok(lock(&self.objects).get(key).map(|b| b.to_vec()))
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        checked(key)?;
        Ok(lock(&self.objects).get(key).map(|b| Box::new(MemoryRead(Arc::clone(b))) as Box<dyn BlobRead>))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        checked(key)?;
        let mut objects = lock(&self.objects);
        if objects.contains_key(key) {
            return Ok(Put::Exists);
        }
        objects.insert(key.into(), bytes.into());
        Ok(Put::Created)
    }

    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError> {
        let fault = |e: std::io::Error| StoreError::Fatal(format!("cannot read `{}`: {e}", file.display()));
        let put = self.put_if_absent(key, &std::fs::read(file).map_err(fault)?)?;
        std::fs::remove_file(file).map_err(fault)?;
        Ok(put)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        checked(key)?;
        lock(&self.objects).insert(key.into(), bytes.into());
        Ok(())
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Swap, StoreError> {
        checked(key)?;
        let mut objects = lock(&self.objects);
        if objects.get(key).map(|b| &**b) != expected {
            return Ok(Swap::Lost);
        }
        objects.insert(key.into(), bytes.into());
        Ok(Swap::Done)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        checked(key)?;
        lock(&self.objects).remove(key);
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let objects = lock(&self.objects);
        Ok(objects
            .range(prefix.to_owned()..)
            .map(|(k, _)| k)
            .take_while(|k| k.starts_with(prefix))
            .cloned()
            .collect())
    }
}

struct MemoryRead(Arc<[u8]>);

impl BlobRead for MemoryRead {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(buf.len())?));
        let bytes = range.and_then(|r| self.0.get(r)).ok_or_else(|| {
            StoreError::Fatal(format!("the object ends before byte {offset} + {}", buf.len()))
        })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

/// A value in memory.
#[derive(Default)]
pub struct MemoryCheckpoint {
    value: Mutex<Option<Vec<u8>>>,
}

impl MemoryCheckpoint {
    /// No value.
    pub fn new() -> Self {
        Self::default()
    }
}

impl CheckpointStore for MemoryCheckpoint {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(lock(&self.value).clone())
    }

    fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
        let mut value = lock(&self.value);
        if value.as_deref() != expected {
            return Ok(Swap::Lost);
        }
        *value = Some(new.to_vec());
        Ok(Swap::Done)
    }
}

/// A signer with a key that anybody can know.
pub struct MemorySigner {
    name: String,
    key: SigningKey,
}

impl MemorySigner {
    /// The key with the seed `[seed; 32]`.
    pub fn new(name: &str, seed: u8) -> Self {
        Self { name: name.into(), key: SigningKey::from_bytes(&[seed; 32]) }
    }
}

impl Signer for MemorySigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], StoreError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// A clock that stands until it is set.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Sets it.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Keeps the notices that it takes.
#[derive(Default)]
pub struct MemoryNotifier {
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    error: Mutex<Option<NotifyError>>,
}

impl MemoryNotifier {
    /// A notifier that takes every notice.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers with this error from now on, or takes notices again.
    pub fn fail(&self, error: Option<NotifyError>) {
        *lock(&self.error) = error;
    }

    /// Id and body of each notice that was taken, in order.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.taken).clone()
    }
}

impl Notifier for MemoryNotifier {
    fn notify(&self, notice: &Notice<'_>) -> Result<(), NotifyError> {
        if let Some(error) = lock(&self.error).clone() {
            return Err(error);
        }
        lock(&self.taken).push((notice.id.to_owned(), notice.body.to_vec()));
        Ok(())
    }
}

/// Keeps the records that it takes, and fails when it is told to.
#[derive(Default)]
pub struct MemoryStream {
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    failure: Mutex<Option<Unput>>,
}

impl MemoryStream {
    /// A stream that takes every record.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on takes as many of each call as `durable` says, and fails; or takes all again.
    pub fn fail(&self, failure: Option<Unput>) {
        *lock(&self.failure) = failure;
    }

    /// Key and bytes of each record that was taken, in order.
    pub fn taken(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.taken).clone()
    }
}

impl Stream for MemoryStream {
    fn put(&self, key: &str, records: &[&[u8]]) -> Result<(), Unput> {
        let failure = lock(&self.failure).clone();
        let most = failure.as_ref().map_or(records.len(), |f| f.durable);
        let fits = |r: &&&[u8]| key.len() + r.len() <= MAX_STREAM_RECORD_BYTES;
        let durable = records.iter().take(most).take_while(fits).count();
        lock(&self.taken).extend(records[..durable].iter().map(|r| (key.to_owned(), r.to_vec())));
        match failure {
            _ if durable == records.len() => Ok(()),
            Some(failure) if durable == failure.durable => Err(failure),
            _ => {
                let error = StoreError::Fatal("a record is larger than a stream takes".to_owned());
                Err(Unput { durable, error })
            }
        }
    }
}

/// How the chosen write fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Not applied, and reported as failed.
    NotApplied,
    /// Applied, but reported as failed.
    Applied,
    /// Not applied; nothing works afterwards: the process was killed before the write.
    KilledBefore,
    /// Applied; nothing works afterwards: the process was killed after the write.
    KilledAfter,
}

/// Which write fails, over all stores that share it.
pub struct Faults {
    at: u64,
    fault: Fault,
    writes: AtomicU64,
}

impl Faults {
    /// The write number `at` (from 1; 0: none) fails.
    pub fn new(at: u64, fault: Fault) -> Arc<Self> {
        Arc::new(Self { at, fault, writes: AtomicU64::new(0) })
    }

    /// Writes so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    fn read<T>(&self, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let killed = matches!(self.fault, Fault::KilledBefore | Fault::KilledAfter);
        if killed && self.at > 0 && self.writes() >= self.at { Err(failed("killed")) } else { call() }
    }

    fn write<T>(&self, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let n = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == 0 || n < self.at {
            return call();
        }
        match self.fault {
            _ if n > self.at && matches!(self.fault, Fault::NotApplied | Fault::Applied) => call(),
            _ if n > self.at => Err(failed("killed")),
            Fault::NotApplied => Err(failed("injected, not applied")),
            Fault::KilledBefore => Err(failed("killed before the write")),
            Fault::Applied => call().and_then(|_| Err(failed("injected, applied"))),
            Fault::KilledAfter => call().and_then(|_| Err(failed("killed after the write"))),
        }
    }
}

fn failed(what: &str) -> StoreError {
    StoreError::Retryable(format!("fault: {what}"))
}

/// A store, or a checkpoint's store, one of whose writes fails.
pub struct Faulty<S> {
    inner: S,
    faults: Arc<Faults>,
}

impl<S> Faulty<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, faults: &Arc<Faults>) -> Self {
        Self { inner, faults: Arc::clone(faults) }
    }
}

impl BlobStore for Faulty<&dyn BlobStore> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.faults.read(|| self.inner.get(key))
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        self.faults.read(|| self.inner.open(key))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.faults.write(|| self.inner.put_if_absent(key, bytes))
    }

    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError> {
        self.faults.write(|| self.inner.put_file_if_absent(key, file))
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.faults.write(|| self.inner.replace(key, bytes))
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Swap, StoreError> {
        self.faults.write(|| self.inner.swap(key, expected, bytes))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.faults.write(|| self.inner.delete(key))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.faults.read(|| self.inner.list(prefix))
    }
}

impl CheckpointStore for Faulty<&dyn CheckpointStore> {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.faults.read(|| self.inner.read())
    }

    fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
        self.faults.write(|| self.inner.compare_and_swap(expected, new))
    }
}
