//! Appends manifests to the Merkle log, so that no two sealers and no kill can hurt it.
//!
//! What it is: the five steps of an append over a [`BlobStore`] and a [`CheckpointStore`]. What it is
//! not: it neither makes manifests nor knows what entries mean.
//! In: entries. Out: a log under `log/` that any tlog-tiles client reads, and its signed head.
//!
//! 1. Stage: all new tiles and bundles in one object, `log-staging/<size>-<root>`.
//! 2. Swap the lock checkpoint `log-staging/lock`: from here on the append has happened.
//! 3. Apply: the staged object's files go to `log/tile/...`.
//! 4. Publish `log/checkpoint`.
//! 5. Remove superseded partial tiles, then staged objects of a size not above the lock's.
//!
//! Steps 3 to 5 can be repeated by anyone at any time and are, at every start and before every append:
//! recovery is the normal path. `schemas/log.md` documents the files.

use keytrail_ledger::proof::{consistency_proof, verify_consistency};
use keytrail_ledger::staged::{self, Staged};
use keytrail_ledger::tile::{CHECKPOINT, Level, Tile, WIDTH, levels};
use keytrail_ledger::tree::{Edge, Read, TreeError, read_widest};
use keytrail_ledger::{Checkpoint, Note, VerifierKey, append, decode_bundle};
use keytrail_model::Fatal;
use keytrail_ports::{BlobStore, CheckpointStore, Put, Signer, StoreError, Swap};

/// Folder of the log in the data folder.
pub const LOG: &str = "log/";

/// Key of the lock checkpoint, for the [`CheckpointStore`] that keeps it.
pub const LOCK: &str = "log-staging/lock";

/// Code of the error of an append that was made for a smaller log.
pub const MOVED: &str = "Retryable.LogMoved";

/// Every lost swap is another sealer's progress; one that loses that often gives up.
const MAX_ATTEMPTS: u32 = 1_000;

/// Takes an entry of the log: its index and its bytes. An error ends the reading.
pub type EachEntry<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Fatal> + 'a;

/// A log and who signs it.
#[derive(Clone, Copy)]
pub struct Log<'a> {
    /// Where the log's files are.
    pub store: &'a dyn BlobStore,
    /// The lock checkpoint.
    pub lock: &'a dyn CheckpointStore,
    /// Every one of them signs each head; two while keys rotate.
    pub signers: &'a [&'a dyn Signer],
    /// The log's name, and the name of its keys.
    pub origin: &'a str,
}

/// A signed head.
struct Head {
    checkpoint: Checkpoint,
    bytes: Vec<u8>,
}

impl Log<'_> {
    /// Finishes the append that the lock checkpoint names, if one was left unfinished, and gives the
    /// head. A log that is not there yet is made, with a head of size 0.
    ///
    /// # Errors
    /// `Fatal.LogFork`: lock and published checkpoint contradict each other, or the lock is gone.
    /// `Fatal.LogDamaged`: files are not what the lock checkpoint says. `Fatal.LogKey`: no signer's key
    /// signed the head. `Retryable.LogBusy`; the store's own.
    pub fn recover(&self) -> Result<Checkpoint, Fatal> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(head) = self.settled()? {
                return Ok(head.checkpoint);
            }
            let new = self.sign(0, Edge::new().root())?;
            // Where it was lost, the next round finds the other's.
            if self.lock.compare_and_swap(None, &new.bytes)? == Swap::Done {
                return Ok(self.settle(new)?.checkpoint);
            }
        }
        Err(busy())
    }

    /// The head that is published: readers have all of its files. `None`: there is no log yet. Nothing is written.
    ///
    /// # Errors
    /// As [`recover`](Self::recover).
    pub fn published(&self) -> Result<Option<Checkpoint>, Fatal> {
        let key = format!("{LOG}{CHECKPOINT}");
        let Some(bytes) = self.store.get(&key)? else { return Ok(None) };
        Ok(Some(self.head(&key, bytes)?.checkpoint))
    }

    /// Appends entries (at most 65,535 bytes each), and returns once they are in the log for good. They are
    /// the last ones of the checkpoint that is returned: the first has the index `size - entries.len()`.
    ///
    /// They go onto a log of the size `onto`, which they were made for; without it onto any, and a lost race is no
    /// error then: the same entries go onto the new head. After another error they may be in the log or not; whoever
    /// wants to try again looks there first.
    ///
    /// # Errors
    /// As [`recover`](Self::recover); `Fatal.LogEntry`: an entry is too long, and none was appended.
    /// [`MOVED`]: the log has another size, and none was appended.
    pub fn append(&self, onto: Option<u64>, entries: &[Vec<u8>]) -> Result<Checkpoint, Fatal> {
        if entries.is_empty() {
            return self.recover();
        }
        for _ in 0..MAX_ATTEMPTS {
            let base = self.settled()?;
            let (size, root) = match &base {
                Some(head) => (head.checkpoint.size, head.checkpoint.root),
                None => (0, Edge::new().root()),
            };
            if let Some(onto) = onto.filter(|onto| *onto != size) {
                let why = format!("the log has {size} entries, expected {onto}: another sealer went on");
                return Err(Fatal::new(MOVED, why));
            }
            let built = self.tiles(|read| append(size, &root, read, entries.iter().map(Vec::as_slice)));
            let appended = match built {
                Ok(appended) => appended,
                // Another sealer went on meanwhile and removed what was to be read.
                Err(_) if self.lock.read()? != base.as_ref().map(|h| h.bytes.clone()) => continue,
                Err(e) => return Err(e),
            };
            let new = self.sign(appended.size, appended.root)?;
            self.stage(Staged { base: size, appended })?;
            let expected = base.as_ref().map(|h| h.bytes.as_slice());
            let swapped = self.lock.compare_and_swap(expected, &new.bytes);
            match swapped {
                Ok(Swap::Done) => {
                    let checkpoint = new.checkpoint.clone();
                    self.settle(new)?;
                    return Ok(checkpoint);
                }
                // A swap that was applied can answer so too, and another's may have come after it.
                Ok(Swap::Lost) | Err(StoreError::Retryable(_)) => {
                    if let Some(now) = self.settled()?
                        && self.continues(&new.checkpoint, &now.checkpoint)?
                    {
                        return Ok(new.checkpoint);
                    }
                    swapped?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Err(busy())
    }

    /// Step 1. An object of that name may have been left by a sealer that built the same tree.
    fn stage(&self, new: Staged) -> Result<(), Fatal> {
        let key = staged::key(new.appended.size, &new.appended.root);
        if self.store.put_if_absent(&key, &new.to_bytes())? == Put::Created {
            return Ok(());
        }
        // That one may have built on a smaller tree: then it has more files, all of this one among them.
        // One that is gone was removed because its size was reached: the swap will be lost.
        let Some(bytes) = self.store.get(&key)? else { return Ok(()) };
        let found = parse_staged(&key, &bytes)?;
        let covers = |o| found.appended.objects.contains(o);
        if found.base <= new.base && new.appended.objects.iter().all(covers) {
            return Ok(());
        }
        Err(damaged(&key, "it does not hold the files of the tree that it is named after"))
    }

    /// The head as the lock checkpoint has it, after steps 3 to 5.
    fn settled(&self) -> Result<Option<Head>, Fatal> {
        if let Some(bytes) = self.lock.read()? {
            return self.settle(self.head(LOCK, bytes)?).map(Some);
        }
        let files = self.store.list(LOG)?;
        // One may have been made in between.
        if let Some(bytes) = self.lock.read()? {
            return self.settle(self.head(LOCK, bytes)?).map(Some);
        }
        match files.first() {
            None => Ok(None),
            Some(file) => Err(Fatal::new(
                "Fatal.LogFork",
                format!(
                    "`{LOCK}` is missing, but the log has files, `{file}` among them: restore it from a backup"
                ),
            )),
        }
    }

    /// Steps 3 to 5 for `head`, and for each newer one that appears meanwhile: whoever is last leaves
    /// nothing undone, and no older checkpoint published.
    fn settle(&self, mut head: Head) -> Result<Head, Fatal> {
        let mut older = Vec::new();
        loop {
            let finished = self.finish(&head);
            let Some(now) = self.lock.read()? else {
                return Err(Fatal::new("Fatal.LogFork", format!("`{LOCK}` was removed while it was in use")));
            };
            if now == head.bytes {
                finished?;
                for size in older {
                    self.remove_superseded(size, head.checkpoint.size)?;
                }
                return Ok(head);
            }
            // What failed on an older head may be because of the newer one.
            let next = self.head(LOCK, now)?;
            if next.checkpoint.size <= head.checkpoint.size && next.checkpoint != head.checkpoint {
                return Err(fork(&format!("`{LOCK}`, before"), &head.checkpoint, "now", &next.checkpoint));
            }
            older.push(head.checkpoint.size);
            head = next;
        }
    }

    fn finish(&self, head: &Head) -> Result<(), Fatal> {
        let Checkpoint { size, root, .. } = head.checkpoint;
        let key = staged::key(size, &root);
        let staged = match self.store.get(&key)? {
            Some(bytes) => Some(parse_staged(&key, &bytes)?),
            None => None,
        };
        for file in staged.iter().flat_map(|s| &s.appended.objects) {
            self.apply(&file.path, &file.bytes)?;
        }
        self.tiles(|read| Edge::load(size, &root, read))?;
        self.publish(head)?;
        if let Some(s) = &staged {
            self.remove_superseded(s.base, size)?;
        }
        // The head's own is the last to go: while it is there, all of this is done again.
        let mut done: Vec<String> = self.store.list(staged::FOLDER)?;
        done.retain(|k| staged::parse_key(k).is_some_and(|(s, _)| s <= size));
        done.sort_by_key(|k| *k == key);
        for key in done {
            self.store.delete(&key)?;
        }
        Ok(())
    }

    /// Step 3, for one file. Tiles never change, so what is there is ours or damaged.
    fn apply(&self, path: &str, bytes: &[u8]) -> Result<(), Fatal> {
        let key = format!("{LOG}{path}");
        if self.store.put_if_absent(&key, bytes)? == Put::Exists
            && self.store.get(&key)?.is_some_and(|there| there != bytes)
        {
            return Err(damaged(&key, "other bytes are there than were staged for it"));
        }
        Ok(())
    }

    /// Step 4. The published checkpoint has to be one that this head continues.
    fn publish(&self, head: &Head) -> Result<(), Fatal> {
        let key = format!("{LOG}{CHECKPOINT}");
        if let Some(bytes) = self.store.get(&key)? {
            if bytes == head.bytes {
                return Ok(());
            }
            let published = Note::parse(&bytes)
                .and_then(|n| Checkpoint::parse_body(&n.text))
                .map_err(|why| damaged(&key, &why))?;
            if !self.continues(&published, &head.checkpoint)? {
                return Err(fork(&format!("`{key}`"), &published, &format!("`{LOCK}`"), &head.checkpoint));
            }
        }
        Ok(self.store.replace(&key, &head.bytes)?)
    }

    /// Step 5, first half: partial tiles of the tree of `old` leaves that the one of `new` has wider.
    fn remove_superseded(&self, old: u64, new: u64) -> Result<(), Fatal> {
        for level in levels() {
            if let Some(tile) = Tile::last(level, old)
                && tile.is_partial()
                && Tile::at(level, tile.index, new).is_some_and(|t| t.width > tile.width)
            {
                self.store.delete(&format!("{LOG}{tile}"))?;
            }
        }
        Ok(())
    }

    /// Whether the tree of `new`, whose tiles are in the store, starts with that of `old`.
    pub(crate) fn continues(&self, old: &Checkpoint, new: &Checkpoint) -> Result<bool, Fatal> {
        if old.origin != new.origin || old.size > new.size {
            return Ok(false);
        }
        let proof = self.tiles(|read| consistency_proof(old.size, new.size, read))?;
        Ok(verify_consistency(old.size, &old.root, new.size, &new.root, &proof))
    }

    /// Runs `call` with a reader of the log's files; an error of the store stays what it was.
    fn tiles<T>(&self, call: impl FnOnce(&mut Read<'_>) -> Result<T, TreeError>) -> Result<T, Fatal> {
        with_files(self.store, call)
    }

    fn keys(&self) -> Result<Vec<VerifierKey>, Fatal> {
        let key = |s: &&dyn Signer| {
            if s.name() != self.origin {
                return Err(format!("the key of `{}` cannot sign the log `{}`", s.name(), self.origin));
            }
            VerifierKey::new(s.name(), s.public_key())
        };
        let keys: Result<Vec<_>, _> = self.signers.iter().map(key).collect();
        match keys {
            Ok(keys) if keys.is_empty() => Err(Fatal::new("Fatal.LogKey", "the log has no key to sign with")),
            other => other.map_err(|e| Fatal::new("Fatal.LogKey", e)),
        }
    }

    fn head(&self, key: &str, bytes: Vec<u8>) -> Result<Head, Fatal> {
        let keys = self.keys()?;
        let checkpoint = Checkpoint::open(&bytes, &keys.iter().collect::<Vec<_>>())
            .map_err(|why| Fatal::new("Fatal.LogKey", format!("`{key}`: {why}")))?;
        Ok(Head { checkpoint, bytes })
    }

    fn sign(&self, size: u64, root: keytrail_model::Hash) -> Result<Head, Fatal> {
        let checkpoint = Checkpoint { origin: self.origin.into(), size, root };
        let body = checkpoint.body();
        let keys = self.keys()?;
        let mut signatures = Vec::new();
        for (key, signer) in keys.iter().zip(self.signers) {
            let signature = signer.sign(body.as_bytes())?;
            // A signer that errs must not become the log's head.
            if !key.verify(body.as_bytes(), &signature) {
                return Err(Fatal::new(
                    "Fatal.LogKey",
                    format!("the signer of `{key}` made a wrong signature"),
                ));
            }
            signatures.push((key, signature));
        }
        let bytes = checkpoint.to_note(&signatures).to_bytes();
        Ok(Head { checkpoint, bytes })
    }
}

/// Hands the entries `from..to` of the log of `size` leaves to `each`, in order, as they are stored:
/// nothing is checked but their framing. `Fatal.LogDamaged` names what cannot be read; an error of `each`
/// ends it.
pub fn read_entries(
    store: &dyn BlobStore,
    size: u64,
    from: u64,
    to: u64,
    each: &mut EachEntry<'_>,
) -> Result<(), Fatal> {
    let to = to.min(size);
    let mut next = from;
    while next < to {
        let Some(tile) = Tile::at(Level::Entries, next / WIDTH, size) else { break };
        let (found, bytes) = with_files(store, |read| read_widest(tile, read))?;
        let entries =
            decode_bundle(&bytes, found.width).map_err(|why| damaged(&format!("{LOG}{found}"), &why))?;
        let first = tile.index * WIDTH;
        let end = to.min(first + tile.width);
        for (entry, index) in entries.into_iter().zip(first..end).skip((next - first) as usize) {
            each(index, entry)?;
        }
        next = end;
    }
    Ok(())
}

fn with_files<T>(
    store: &dyn BlobStore,
    call: impl FnOnce(&mut Read<'_>) -> Result<T, TreeError>,
) -> Result<T, Fatal> {
    let mut failed = None;
    let result = call(&mut |path| {
        store.get(&format!("{LOG}{path}")).map_err(|e| {
            failed = Some(e.clone());
            e.to_string()
        })
    });
    match (result, failed) {
        (Err(_), Some(store_error)) => Err(store_error.into()),
        (Err(e @ TreeError::EntryTooLong(..)), None) => Err(Fatal::new("Fatal.LogEntry", e.to_string())),
        (result, _) => result.map_err(|e| Fatal::new("Fatal.LogDamaged", e.to_string())),
    }
}

fn parse_staged(key: &str, bytes: &[u8]) -> Result<Staged, Fatal> {
    let staged = Staged::parse(bytes).map_err(|why| damaged(key, &why))?;
    if staged::key(staged.appended.size, &staged.appended.root) != key {
        return Err(damaged(key, "it is the staged object of another tree"));
    }
    Ok(staged)
}

fn damaged(key: &str, why: &str) -> Fatal {
    Fatal::new("Fatal.LogDamaged", format!("`{key}` is damaged: {why}"))
}

fn fork(a: &str, first: &Checkpoint, b: &str, second: &Checkpoint) -> Fatal {
    let head = |c: &Checkpoint| format!("size {} with root `{}`", c.size, c.root);
    Fatal::new(
        "Fatal.LogFork",
        format!("{a} says {}, {b} {}: the log cannot have had both", head(first), head(second)),
    )
}

fn busy() -> Fatal {
    Fatal::new("Retryable.LogBusy", format!("other sealers were faster {MAX_ATTEMPTS} times"))
}

#[cfg(test)]
mod tests;
