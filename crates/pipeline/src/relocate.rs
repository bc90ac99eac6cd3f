//! Moving a trail from one store to another: the same log goes on there.
//!
//! What it is: a copy of all that the log names and of what else is worth keeping, and the lock checkpoint, which is
//! copied last: until then the other store holds no log that anybody could go on with, and from then on it holds the
//! whole log. It can be killed anywhere and done again. What it is not: it starts no new log and signs nothing.
//! In: two stores. Out: what was copied.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use keytrail_ledger::LogKeys;
use keytrail_model::Fatal;
use keytrail_ports::{BlobRead, BlobStore, CheckpointStore, Put, Swap};

use crate::concurrent;
use crate::seal::LOCK;
use crate::trail::scratch_error;

/// The file with the log's public keys. It is copied first: what holds it is a begun move of this trail.
const KEYS: &str = "keys/log.keys";

/// Folders that are copied. What else there is in `state/` is of one machine, or of no worth elsewhere.
const FOLDERS: [&str; 12] = [
    "archive/",
    "detail/",
    "quarantine/",
    "log/",
    "log-staging/",
    "keys/",
    "reports/",
    "state/alerts/",
    "state/duplicates",
    "state/index/",
    "state/report/",
    "state/uids/",
];

/// More of them, whose names are whole keys.
const FILES: [&str; 3] = ["state/heard", "state/readable", "state/taken"];

/// Bytes read at a time.
const PART_BYTES: usize = 1 << 20;

/// Larger objects are not held in memory.
const WHOLE_BYTES: u64 = 16 << 20;

/// A store with the lock checkpoint of the log in it.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    /// All objects.
    pub objects: &'a dyn BlobStore,
    /// The log's lock checkpoint.
    pub lock: &'a dyn CheckpointStore,
}

/// What there is to do, or was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Relocated {
    /// Objects that were not there, or not as they are now.
    pub copied: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were there.
    pub there: u64,
    /// Objects that an earlier attempt left there and that are no more.
    pub removed: u64,
}

/// How far a move is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The other store holds no log, or a begun copy of this one.
    Open,
    /// It holds this log as it is here.
    Done,
    /// It holds another lock checkpoint: this log went on there, or it is another one.
    Elsewhere,
}

/// How far the move is. Nothing is written.
///
/// # Errors
/// There is no log here, or there is something else there.
pub fn state(from: Store<'_>, to: Store<'_>) -> Result<State, Fatal> {
    let ours = from.lock.read()?.ok_or_else(|| Fatal::new("Usage.Data", "there is no log to be moved"))?;
    match to.lock.read()? {
        Some(theirs) if theirs == ours => return Ok(State::Done),
        Some(_) => return Ok(State::Elsewhere),
        None => {}
    }
    let refused = |what: String| Fatal::new("Usage.Target", what);
    match (to.objects.get(KEYS)?, from.objects.get(KEYS)?) {
        (Some(theirs), Some(ours)) if origin(&theirs).is_some() && origin(&theirs) == origin(&ours) => {}
        (Some(_), _) => return Err(refused(format!("the target holds the `{KEYS}` of another trail"))),
        (None, _) => {
            for folder in FOLDERS.iter().chain(&FILES) {
                if let Some(key) = to.objects.list(folder)?.first() {
                    return Err(refused(format!(
                        "the target holds `{key}`, which no move put there: expected none"
                    )));
                }
            }
        }
    }
    Ok(State::Open)
}

fn origin(keys: &[u8]) -> Option<String> {
    LogKeys::parse(std::str::from_utf8(keys).ok()?).ok().map(|keys| keys.origin().to_owned())
}

/// What a move would copy. Nothing is written, and no bytes are compared.
pub fn plan(from: &dyn BlobStore, to: &dyn BlobStore) -> Result<Relocated, Fatal> {
    let (ours, theirs) = (keys(from)?, keys(to)?);
    let mut planned = Relocated { removed: theirs.difference(&ours).count() as u64, ..Relocated::default() };
    for key in &ours {
        if theirs.contains(key) {
            planned.there += 1;
        } else if let Some(blob) = from.open(key)? {
            planned.copied += 1;
            planned.bytes += blob.len();
        }
    }
    Ok(planned)
}

/// Copies all but the lock checkpoint. `from` does not change meanwhile; `told` is given objects done and all of them.
///
/// # Errors
/// An object that never changes has other bytes there (`Fatal.ObjectConflict`).
pub fn copy(
    from: &dyn BlobStore,
    to: &dyn BlobStore,
    scratch: &Path,
    told: &(dyn Fn(u64, u64) + Sync),
) -> Result<Relocated, Fatal> {
    let done = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let ours = keys(from)?;
    let copying = Copying { from, to, scratch };
    let one = |key: &str| {
        match copying.object(key)? {
            Some(bytes) => {
                done.0.fetch_add(1, Ordering::Relaxed);
                done.1.fetch_add(bytes, Ordering::Relaxed);
            }
            None => {
                done.2.fetch_add(1, Ordering::Relaxed);
            }
        }
        told(done.0.load(Ordering::Relaxed) + done.2.load(Ordering::Relaxed), ours.len() as u64);
        Ok(())
    };
    one(KEYS)?;
    let rest: Vec<&String> = ours.iter().filter(|key| *key != KEYS).collect();
    concurrent::each(&rest, |key| one(key))?;
    let left: Vec<String> = keys(to)?.difference(&ours).cloned().collect();
    concurrent::each(&left, |key| Ok(to.delete(key)?))?;
    Ok(Relocated {
        copied: done.0.into_inner(),
        bytes: done.1.into_inner(),
        there: done.2.into_inner(),
        removed: left.len() as u64,
    })
}

/// Copies the lock checkpoint: from here on the log is there.
///
/// # Errors
/// Another one was faster (`Fatal.LogFork`).
pub fn hand_over(from: Store<'_>, to: Store<'_>) -> Result<(), Fatal> {
    let ours = from.lock.read()?.ok_or_else(|| Fatal::new("Usage.Data", "there is no log to be moved"))?;
    // One that was applied can answer that it was not.
    if to.lock.compare_and_swap(None, &ours)? == Swap::Lost && to.lock.read()?.as_ref() != Some(&ours) {
        return Err(Fatal::new("Fatal.LogFork", format!("the target got another `{LOCK}` meanwhile")));
    }
    Ok(())
}

/// Whether the object of that key can get other bytes while a trail lives: an earlier attempt may have copied older ones.
fn changes(key: &str) -> bool {
    ["keys/", "reports/", "state/"].iter().any(|folder| key.starts_with(folder)) || key == "log/checkpoint"
}

/// Keys of all that is copied but the lock checkpoint.
fn keys(store: &dyn BlobStore) -> Result<BTreeSet<String>, Fatal> {
    let mut all = BTreeSet::new();
    for folder in FOLDERS {
        all.extend(store.list(folder)?);
    }
    for file in FILES {
        all.extend(store.list(file)?.into_iter().filter(|key| key == file));
    }
    all.remove(LOCK);
    Ok(all)
}

struct Copying<'a> {
    from: &'a dyn BlobStore,
    to: &'a dyn BlobStore,
    scratch: &'a Path,
}

impl Copying<'_> {
    /// Copies an object; its bytes, where it was not there.
    fn object(&self, key: &str) -> Result<Option<u64>, Fatal> {
        let gone = || Fatal::new("Fatal.ObjectMissing", format!("`{key}` went away while it was copied"));
        let blob = self.from.open(key)?.ok_or_else(gone)?;
        let put = if blob.len() > WHOLE_BYTES {
            // It is not sent where it is there.
            match self.to.open(key)? {
                Some(_) => Put::Exists,
                None => self.file(key, &*blob)?,
            }
        } else {
            let mut bytes = vec![0; usize::try_from(blob.len()).unwrap_or_default()];
            blob.read_at(0, &mut bytes)?;
            let put = self.to.put_if_absent(key, &bytes)?;
            if put == Put::Exists && changes(key) && self.to.get(key)?.as_ref() != Some(&bytes) {
                self.to.replace(key, &bytes)?;
                return Ok(Some(blob.len()));
            }
            put
        };
        if put == Put::Created {
            return Ok(Some(blob.len()));
        }
        match self.to.open(key)? {
            Some(there) if same(&*blob, &*there)? => Ok(None),
            Some(_) => {
                Err(Fatal::new("Fatal.ObjectConflict", format!("the target has `{key}` with other bytes")))
            }
            None => Err(Fatal::new("Retryable.Other", format!("`{key}` went away from the target"))),
        }
    }

    fn file(&self, key: &str, blob: &dyn BlobRead) -> Result<Put, Fatal> {
        let name = format!("move-{}", key.replace('/', "+"));
        let path = self.scratch.join(&name[..name.len().min(200)]);
        let wrong = |e: std::io::Error| scratch_error("write", &path, &e);
        let mut file = File::create(&path).map_err(wrong)?;
        let mut part = vec![0; PART_BYTES];
        let mut at = 0;
        while at < blob.len() {
            let part = &mut part[..(blob.len() - at).min(PART_BYTES as u64) as usize];
            blob.read_at(at, part)?;
            file.write_all(part).map_err(wrong)?;
            at += part.len() as u64;
        }
        drop(file);
        Ok(self.to.put_file_if_absent(key, &path)?)
    }
}

/// Whether two objects have the same bytes.
fn same(one: &dyn BlobRead, other: &dyn BlobRead) -> Result<bool, Fatal> {
    let (mut a, mut b) = (vec![0; PART_BYTES], vec![0; PART_BYTES]);
    let mut at = 0;
    while at < one.len() && one.len() == other.len() {
        let bytes = (one.len() - at).min(PART_BYTES as u64) as usize;
        one.read_at(at, &mut a[..bytes])?;
        other.read_at(at, &mut b[..bytes])?;
        if a[..bytes] != b[..bytes] {
            return Ok(false);
        }
        at += bytes as u64;
    }
    Ok(one.len() == other.len())
}

#[cfg(test)]
mod tests {
    use keytrail_adapters::memory::{Fault, Faults, Faulty, MemoryCheckpoint, MemoryStore};

    use super::*;

    const ORIGIN: &str = "example.org/log";

    fn keys_file(origin: &str) -> Vec<u8> {
        let key = keytrail_ledger::VerifierKey::new(origin, ed25519(7)).unwrap();
        LogKeys::of(key).to_string().into_bytes()
    }

    fn ed25519(seed: u8) -> [u8; 32] {
        use keytrail_ports::Signer as _;
        keytrail_adapters::memory::MemorySigner::new(ORIGIN, seed).public_key()
    }

    fn trail() -> (MemoryStore, MemoryCheckpoint) {
        let (store, lock) = (MemoryStore::new(), MemoryCheckpoint::new());
        store.put_if_absent(KEYS, &keys_file(ORIGIN)).unwrap();
        for key in
            ["archive/a", "archive/b", "detail/a", "log/tile/0/000.p/2", "log/checkpoint", "state/taken"]
        {
            store.put_if_absent(key, key.as_bytes()).unwrap();
        }
        store.put_if_absent("archive/large", &vec![7; (WHOLE_BYTES + 5) as usize]).unwrap();
        for key in ["state/clean", "state/follow", "state/run.lock", "other/x"] {
            store.put_if_absent(key, b"stays").unwrap();
        }
        store.put_if_absent(LOCK, b"head").unwrap();
        lock.compare_and_swap(None, b"head").unwrap();
        (store, lock)
    }

    fn moved(from: &dyn BlobStore, to: &dyn BlobStore) -> Result<Relocated, Fatal> {
        let scratch = tempfile::tempdir().unwrap();
        copy(from, to, scratch.path(), &|_, _| {})
    }

    #[test]
    fn a_move_that_is_killed_anywhere_is_done_again() {
        for fault in [Fault::NotApplied, Fault::Applied, Fault::KilledBefore, Fault::KilledAfter] {
            for at in 1..=9 {
                let (store, lock) = trail();
                let (there, there_lock) = (MemoryStore::new(), MemoryCheckpoint::new());
                let faults = Faults::new(at, fault);
                let objects = Faulty::new(&there as &dyn BlobStore, &faults);
                let locked = Faulty::new(&there_lock as &dyn CheckpointStore, &faults);
                let from = Store { objects: &store, lock: &lock };
                let failing = Store { objects: &objects, lock: &locked };
                let first = moved(&store, &objects).and_then(|_| hand_over(from, failing));
                assert_eq!(first.is_err(), at <= 9, "{fault:?} {at}");
                // Until the last step nobody can go on there.
                let to = Store { objects: &there, lock: &there_lock };
                assert_eq!(there_lock.read().unwrap().is_some(), state(from, to).unwrap() == State::Done);
                // The trail may have grown meanwhile, and lost what compaction replaced.
                if there_lock.read().unwrap().is_none() {
                    store.replace("log/checkpoint", b"newer").unwrap();
                    store.delete("archive/a").unwrap();
                    moved(&store, &there).unwrap();
                    hand_over(from, to).unwrap();
                    assert_eq!(there.get("log/checkpoint").unwrap().unwrap(), b"newer");
                }
                assert_eq!(state(from, to).unwrap(), State::Done);
                assert_eq!(keys(&store).unwrap(), keys(&there).unwrap());
                assert_eq!(there.list("").unwrap().len(), keys(&there).unwrap().len());
                assert!(there.get("archive/large").unwrap() == store.get("archive/large").unwrap());
            }
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let (store, lock) = trail();
        let from = Store { objects: &store, lock: &lock };
        let (there, there_lock) = (MemoryStore::new(), MemoryCheckpoint::new());
        let to = Store { objects: &there, lock: &there_lock };
        there.put_if_absent("detail/x", b"x").unwrap();
        assert!(state(from, to).unwrap_err().message.contains("holds `detail/x`, which no move put there"));
        there.delete("detail/x").unwrap();
        there.put_if_absent(KEYS, &keys_file("example.org/other")).unwrap();
        assert!(state(from, to).unwrap_err().message.contains("of another trail"));
        there.delete(KEYS).unwrap();
        assert_eq!(state(from, to).unwrap(), State::Open);
        assert_eq!(plan(&store, &there).unwrap().copied, 8);
        there.put_if_absent(KEYS, &keys_file(ORIGIN)).unwrap();
        there.put_if_absent("archive/b", b"other").unwrap();
        assert_eq!(moved(&store, &there).unwrap_err().code, "Fatal.ObjectConflict");
        assert_eq!(there.get("archive/b").unwrap().unwrap(), b"other");
        there_lock.compare_and_swap(None, b"another").unwrap();
        assert_eq!(state(from, to).unwrap(), State::Elsewhere);
        assert_eq!(hand_over(from, to).unwrap_err().code, "Fatal.LogFork");
    }
}
