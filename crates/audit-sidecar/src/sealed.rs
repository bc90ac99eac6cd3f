//! What a sealed checkpoint covers, proven by the sidecar itself (INTEGRITY section 3).
//!
//! What it is: a reader of keytrail's log that believes nothing but the log's pinned keys. It checks the
//! checkpoint's signatures, that the log it stands for continues the one it saw last, that each manifest is in
//! it, that each detail object is the one which the manifest names, and that the runs listed there end in hashes
//! of the source's own chain. What it is not: it deletes nothing; what it accepted says which records the spool
//! need not keep. In: a store of the data folder. Out: [`Covered`] records.

use std::collections::BTreeMap;

use keytrail_ledger::proof::{consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
use keytrail_ledger::tile::Level;
use keytrail_ledger::tree::read_widest;
use keytrail_ledger::{Checkpoint, LogKeys, Tile, decode_bundle};
use keytrail_model::manifest::RunItem;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::{Detail, Hash, Manifest};
use serde::{Deserialize, Serialize};

/// Reads an object of the data folder by its key; `None`: it is not there.
pub type Read<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, String> + 'a;

/// Gives a record of the own chain, if the spool still has it: the hash of the one before, and its own.
pub type Own<'a> = dyn Fn(u64, u64) -> Option<(Hash, Hash)> + 'a;

/// How far the log was read, and what it was found to cover. Kept in the spool's folder.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Covered {
    /// Leaves of the newest checkpoint that was accepted.
    pub size: u64,
    /// Its root.
    pub root: Hash,
    /// Its signed note: what epochs embed as their "not before".
    pub checkpoint: String,
    /// The highest epoch of the source in the log, whoever wrote it: a new one is higher.
    pub newest_epoch: u64,
    /// Epoch -> numbers of records that it covers, as first and last, ascending and apart.
    pub runs: BTreeMap<u64, Vec<(u64, u64)>>,
}

impl Covered {
    /// Whether all records of that range are covered.
    pub fn has(&self, epoch: u64, first: u64, last: u64) -> bool {
        let runs = self.runs.get(&epoch).map_or(&[][..], Vec::as_slice);
        runs.iter().any(|(from, to)| *from <= first && last <= *to)
    }

    /// The newest record up to which nothing is missing in its epoch.
    pub fn newest(&self) -> Option<(u64, u64)> {
        let (epoch, runs) = self.runs.last_key_value()?;
        let (first, last) = runs.first()?;
        (*first == 0).then_some((*epoch, *last))
    }

    fn add(&mut self, epoch: u64, first: u64, last: u64) {
        let runs = self.runs.entry(epoch).or_default();
        runs.push((first, last));
        runs.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
        for (first, last) in runs.drain(..) {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *runs = merged;
    }

    /// Forgets epochs of which the spool has nothing any more.
    pub fn forget_before(&mut self, epoch: u64) {
        self.runs.retain(|e, _| *e >= epoch);
    }

    /// Reads what the log has grown by; gives what is covered then. Nothing is taken from a log that is not proven
    /// to be signed, to continue what was seen, and to hold what it claims: the error says what is wrong.
    pub fn advance(
        &self,
        source: &str,
        keys: &LogKeys,
        read: &Read<'_>,
        own: &Own<'_>,
    ) -> Result<Self, String> {
        let Some(note) = read("log/checkpoint")? else { return Ok(self.clone()) };
        let head = keys.open(&note)?;
        let mut log = |path: &str| read(&format!("log/{path}"));
        self.continued_by(&head, &mut log)?;
        let mut next = self.clone();
        let mut index = self.size;
        while index < head.size {
            let tile = Tile::at(Level::Entries, index / WIDTH, head.size)
                .ok_or_else(|| format!("there is no bundle for entry {index}"))?;
            let (tile, bytes) = read_widest(tile, &mut log).map_err(|e| e.to_string())?;
            let entries = decode_bundle(&bytes, tile.width)?;
            let from = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            let wanted = usize::try_from(head.size - index).unwrap_or(usize::MAX);
            for entry in entries.iter().skip(from).take(wanted) {
                let proof = inclusion_proof(index, head.size, &mut log).map_err(|e| e.to_string())?;
                if !verify_inclusion(&leaf_hash(entry), index, head.size, &proof, &head.root) {
                    return Err(format!("entry {index} is not in the log that was signed"));
                }
                next.take_in(&Manifest::parse(entry)?, index, source, read, own)?;
                index += 1;
            }
        }
        next.size = head.size;
        next.root = head.root;
        next.checkpoint = String::from_utf8(note).map_err(|_| "the checkpoint is not UTF-8".to_owned())?;
        Ok(next)
    }

    fn continued_by(
        &self,
        head: &Checkpoint,
        log: &mut impl FnMut(&str) -> Result<Option<Vec<u8>>, String>,
    ) -> Result<(), String> {
        if head.size < self.size {
            return Err(format!("the log was rolled back from {} entries to {}", self.size, head.size));
        }
        if self.size == 0 {
            return Ok(());
        }
        let proof = consistency_proof(self.size, head.size, log).map_err(|e| e.to_string())?;
        if !verify_consistency(self.size, &self.root, head.size, &head.root, &proof) {
            return Err(format!(
                "the log of {} entries does not continue the one of {} that was seen: it was forked",
                head.size, self.size
            ));
        }
        Ok(())
    }

    /// Takes in what a manifest of the log says of the source's records.
    fn take_in(
        &mut self,
        manifest: &Manifest,
        index: u64,
        source: &str,
        read: &Read<'_>,
        own: &Own<'_>,
    ) -> Result<(), String> {
        if manifest.detail.count == 0 {
            return Ok(());
        }
        let key = &manifest.detail.key;
        let bytes = read(key)?.ok_or_else(|| format!("`{key}` of entry {index} is missing"))?;
        if Hash::of(&bytes) != manifest.detail.sha256 {
            return Err(format!("`{key}` is not the object that entry {index} names"));
        }
        let detail = Detail::parse(&bytes).map_err(|e| format!("`{key}`: {e}"))?;
        for run in detail.runs.iter().filter(|r| r.dataset == DATASET && r.source == source) {
            self.newest_epoch = self.newest_epoch.max(u64::try_from(run.epoch).unwrap_or(0));
            if let Some((epoch, first, last)) = own_run(run, own) {
                self.add(epoch, first, last);
            }
        }
        Ok(())
    }
}

/// Entries in a bundle.
const WIDTH: u64 = 256;

/// Runs of chained records stand under the dataset of the sidecar's own ones.
const DATASET: &str = "keytrail.key_operation";

/// The run, if its ends are records of the own chain: a run with another hash frees nothing, whoever sealed it.
fn own_run(run: &RunItem, own: &Own<'_>) -> Option<(u64, u64, u64)> {
    let (epoch, first) = (u64::try_from(run.epoch).ok()?, u64::try_from(run.first_seq).ok()?);
    let last = u64::try_from(run.last_seq).ok()?;
    let (prev, _) = own(epoch, first)?;
    let (_, hash) = own(epoch, last)?;
    (prev.to_hex() == run.first_prev && hash == run.last_hash).then_some((epoch, first, last))
}

#[cfg(test)]
mod tests;
