//! Rows to sealed archive objects: sorts, deduplicates inside the partition, writes Parquet, seals.
//!
//! Nothing of this is visible before [`Archiver::seal`]: objects are made in the scratch folder, moved
//! into the store whole, and named by manifests that the log takes in one append.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;

use keytrail_archive::Sorter;
use keytrail_ledger::Checkpoint;
use keytrail_model::manifest::{InputItem, ManifestKind};
use keytrail_model::{Counts, Detail, Fatal, Hash, Manifest, RowBuffer, Timestamp};

use crate::compact::Compacted;
use crate::config::DeclaredSource;
use crate::ingest::{Normalized, Rejected};
use crate::input::{Input, InputSummary, Source};
use crate::readable::{Readable, TakenIn, add_runs};
use crate::recover::{Recovered, mark_clean};
use crate::run::{Options, Summary};
use crate::sequence::{Gap, Sequences};
use crate::sink::{Sink, Staged};
use crate::tally::{Tally, format_of};
use crate::trail::{Trail, scratch_error};
use crate::{compact, concurrent, objects, quarantine, taken};

/// Inflated input between two seals: bounds what a killed run has to read again.
const SEAL_BYTES: u64 = 1 << 30;

/// Rows that are sorted in memory, in bytes.
const SORT_BYTES: usize = 40 << 20;

/// Quarantine entries and inputs between two seals: bounds the detail object.
const SEAL_ITEMS: usize = 20_000;

/// New gaps that a summary names; it counts all.
const FIRST_GAPS: usize = 100;
/// How many byte-identical records of an input without a producer's key were read, by their hash.
pub(crate) type Copies = HashMap<Hash, u64>;

/// Writes rows to archive objects and seals them.
pub struct Archiver<'a> {
    trail: &'a Trail<'a>,
    options: &'a Options,
    inputs: Vec<String>,
    replayed: Vec<bool>,
    /// Declared ones.
    instances: Vec<Option<String>>,
    readable: Readable,
    sorter: Sorter,
    sink: Sink<'a>,
    pending: Detail,
    taken: TakenIn,
    /// Size of the log up to which that is kept in `state/`.
    remembered: u64,
    copies: HashMap<u32, Copies>,
    /// Records of an input before this offset are archived.
    archived_to: HashMap<u32, u64>,
    parts: BTreeMap<u32, InputItem>,
    head: Option<Checkpoint>,
    tally: Tally,
    rejected: BTreeMap<&'static str, u64>,
    reads: HashMap<u32, u64>,
    done: (u64, u64, u64),
    controls: u64,
    input_bytes: u64,
    unsealed_bytes: u64,
    written: (u64, u64),
    first_leaf: u64,
    /// Numbers that were sealed before this run.
    sealed_before: Sequences,
}

impl<'a> Archiver<'a> {
    /// An archiver over what is sealed.
    pub(crate) fn new(
        trail: &'a Trail<'a>,
        recovered: Recovered,
        inputs: &[Input],
        options: &'a Options,
    ) -> Result<Self, Fatal> {
        let spill = trail.scratch.join("spill");
        std::fs::create_dir_all(&spill).map_err(|e| scratch_error("create", &spill, &e))?;
        Ok(Self {
            sorter: Sorter::new(&spill, SORT_BYTES)?,
            sink: Sink::new(trail, options.object_bytes, options.ingest.threads),
            trail,
            options,
            inputs: inputs.iter().map(|i| i.name.clone()).collect(),
            replayed: inputs.iter().map(|i| i.source == Source::Quarantine).collect(),
            instances: inputs.iter().map(|i| i.declared.as_ref()?.instance.clone()).collect(),
            sealed_before: recovered.taken.sequences.clone(),
            first_leaf: recovered.readable.size,
            taken: recovered.taken,
            remembered: recovered.remembered,
            readable: recovered.readable,
            pending: Detail { quarantine: recovered.unsealed, version: 1, ..Detail::default() },
            copies: HashMap::new(),
            archived_to: HashMap::new(),
            parts: BTreeMap::new(),
            head: recovered.head,
            tally: Tally::new(inputs),
            rejected: BTreeMap::new(),
            reads: HashMap::new(),
            done: (0, 0, 0),
            controls: 0,
            input_bytes: 0,
            unsealed_bytes: 0,
            written: (0, 0),
        })
    }

    /// Takes the records of a batch. Rejected ones are durable in quarantine on return.
    pub fn add(&mut self, mut records: Normalized) -> Result<(), Fatal> {
        let read = (records.rows.len() + records.rejects.len()) as u64;
        if self.is_archived(&records) {
            *self.reads.entry(records.input).or_default() += read;
            self.number_copies(records.input, &mut records.rows);
            return Ok(());
        }
        if self.replayed[records.input as usize] {
            // What is refused again stays in the entry that it came from.
            *self.reads.entry(records.input).or_default() += records.rows.len() as u64;
        } else {
            *self.reads.entry(records.input).or_default() += read;
            self.quarantine(records.input, &records.rejects)?;
        }
        for reject in &records.rejects {
            let counts = self.tally.of(self.tally.source(records.input, reject.format));
            counts.read += 1;
            counts.rejected += 1;
            *self.rejected.entry(reject.rejection.code.code()).or_default() += 1;
        }
        for run in records.rows.heads().chunk_by(|a, b| a.dataset == b.dataset) {
            let source = self.tally.source(records.input, format_of(run[0].dataset));
            self.tally.of(source).read += run.len() as u64;
        }
        self.number_copies(records.input, &mut records.rows);
        self.unsealed_bytes += records.bytes;
        self.done.0 += records.bytes;
        self.done.1 += read;
        self.controls += records.controls;
        let now = self.trail.clock.now();
        let (sink, inputs, readable) = (&mut self.sink, &self.inputs, &self.readable);
        let tally = &mut self.tally;
        self.sorter.push(records.rows, &mut |partition, rows| {
            sink.append(partition, rows, now, inputs, readable, tally)
        })
    }

    /// Records of an input before this offset were archived by an earlier call, and are passed over: whole batches
    /// alone, since those that are there twice are found as such.
    pub fn pass_over(&mut self, input: u32, offset: u64) {
        self.archived_to.insert(input, offset);
    }

    fn is_archived(&self, records: &Normalized) -> bool {
        let Some(to) = self.archived_to.get(&records.input) else { return false };
        let rows = records.rows.heads().iter().map(|head| head.offset);
        rows.chain(records.rejects.iter().map(|r| r.offset)).all(|offset| offset < *to)
    }

    fn quarantine(&mut self, input: u32, rejects: &[Rejected]) -> Result<(), Fatal> {
        let taken = &mut self.taken.quarantine;
        let mut is_new =
            |r: &Rejected| taken.insert(quarantine::key_of(r.rejection.code.code(), &r.original));
        let new: Vec<&Rejected> = rejects.iter().filter(|r| is_new(r)).collect();
        let instance = self.instances[input as usize].as_deref();
        new.iter().for_each(|r| self.sink.add_refused(&r.original, instance));
        let (store, received) = (self.trail.store, self.trail.clock.now());
        let (name, tally) = (&self.inputs[input as usize], &self.tally);
        self.pending.quarantine.extend(concurrent::each(&new, |r| {
            let source = tally.name(tally.source(input, r.format));
            let from = quarantine::Place { source, instance, input: name, offset: r.offset };
            quarantine::put(store, &r.rejection, from, received, &r.original)
        })?);
        Ok(())
    }

    /// Gives keyless records their ordinal among byte-identical ones of the same input.
    fn number_copies(&mut self, input: u32, rows: &mut RowBuffer) {
        let copies = self.copies.entry(input).or_default();
        for i in 0..rows.len() {
            let row = rows.row(i);
            if row.head.keyless {
                let hash = row.head.hash;
                let seen = copies.entry(hash).or_default();
                let ordinal = *seen;
                *seen += 1;
                if ordinal > 0 {
                    rows.renumber(i, ordinal);
                }
            }
        }
    }

    /// All records of an input were added.
    pub fn end_of_input(&mut self, input: u32, summary: &InputSummary) {
        self.copies.remove(&input);
        let read = self.reads.remove(&input).unwrap_or_default();
        self.input_bytes += summary.bytes;
        // A quarantine entry is sealed as such; it is an input where it gave rows.
        let is_input = read > 0 || !self.replayed[input as usize];
        if is_input && self.taken.inputs.insert(summary.sha256) {
            let object = self.inputs[input as usize].clone();
            self.pending.inputs.push(InputItem {
                bytes: summary.bytes,
                object,
                read,
                sha256: summary.sha256,
            });
        }
        self.done.2 += 1;
    }

    /// A number for an input that comes in parts, until [`Archiver::forget_inputs`].
    pub fn number_of(&mut self, name: &str, declared: Option<&DeclaredSource>) -> u32 {
        self.inputs.push(name.to_owned());
        self.replayed.push(false);
        self.instances.push(declared.and_then(|d| d.instance.clone()));
        self.tally.add_input(declared);
        (self.inputs.len() - 1) as u32
    }

    /// What was read of an input before the part that comes next.
    pub fn resume(&mut self, input: u32, copies: Copies) {
        self.copies.insert(input, copies);
    }

    /// All records of a part were added. `summary` is of what was read of the input from its start; of it, the first
    /// bytes and records of `before` were read earlier. Gives the records of the part, and the copies so far.
    pub fn end_of_part(&mut self, input: u32, summary: &InputSummary, before: (u64, u64)) -> (u64, Copies) {
        let read = self.reads.remove(&input).unwrap_or_default();
        self.done.2 += 1;
        // What is named of a growing one is never named again, and need not be remembered.
        let taken = &mut self.taken.inputs;
        let is_new =
            if before.0 == 0 { taken.insert(summary.sha256) } else { !taken.contains(&summary.sha256) };
        if summary.bytes > before.0 && is_new {
            let object = self.inputs[input as usize].clone();
            let (bytes, sha256) = (summary.bytes, summary.sha256);
            self.parts.insert(input, InputItem { bytes, object, read: before.1 + read, sha256 });
        }
        (read, self.copies.remove(&input).unwrap_or_default())
    }

    /// Numbers begin anew. Only right behind a seal: no row waits then that has one.
    pub fn forget_inputs(&mut self) {
        self.inputs.clear();
        self.replayed.clear();
        self.instances.clear();
        self.tally.forget_inputs();
    }

    /// The log's head as of the start, or the last seal by this archiver.
    pub fn head(&self) -> Option<&Checkpoint> {
        self.head.as_ref()
    }

    /// What is sealed.
    pub fn readable(&self) -> &Readable {
        &self.readable
    }

    /// The first gaps that are new since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        let seen = &self.taken.sequences;
        let gaps: Vec<_> = seen.new_gaps(&self.sealed_before).take(FIRST_GAPS).collect();
        if *seen != self.sealed_before {
            self.sealed_before = seen.clone();
        }
        gaps
    }

    /// What is sealed, with the entries that others of this process appended to the log since.
    pub fn catch_up(&mut self) -> Result<(), Fatal> {
        let head = self.trail.log().recover()?;
        self.readable.extend(self.trail.store, head.size)?;
        self.head = Some(head);
        Ok(())
    }

    /// New objects and their bytes so far.
    pub fn written(&self) -> (u64, u64) {
        self.written
    }

    /// Inflated bytes since the last seal.
    pub fn unsealed_bytes(&self) -> u64 {
        self.unsealed_bytes
    }

    /// Whether a seal would have something to seal, if only what is known before rows are looked at.
    pub fn has_unsealed(&self) -> bool {
        self.unsealed_bytes > 0
            || !(self.parts.is_empty()
                && self.pending.inputs.is_empty()
                && self.pending.quarantine.is_empty())
    }

    /// Counts by source so far; of accepted ones and duplicates as of the last seal.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        self.tally.sources()
    }

    /// Refused records by code so far.
    pub fn rejected(&self) -> &BTreeMap<&'static str, u64> {
        &self.rejected
    }

    /// Keeps what the log lists, where that is worth it: the next start reads on from there. Only right behind a seal.
    pub fn remember(&mut self) -> Result<(), Fatal> {
        if let Some(head) = &self.head
            && taken::is_time(self.remembered, head.size)
        {
            taken::store(self.trail, head, &self.taken)?;
            self.remembered = head.size;
        }
        Ok(())
    }

    /// Marks the end of a run that leaves nothing unsealed.
    pub fn mark_clean(&self) -> Result<(), Fatal> {
        mark_clean(self.trail.store, self.readable.size)
    }

    /// Row buffers that are empty again since the last call.
    pub fn take_emptied(&mut self) -> Vec<RowBuffer> {
        self.sorter.take_emptied()
    }

    /// Inflated bytes, records and inputs so far.
    pub fn progress(&self) -> (u64, u64, u64) {
        self.done
    }

    /// New rows so far.
    pub fn accepted(&self) -> u64 {
        self.tally.total().accepted
    }

    /// Enough has come together for a seal.
    pub fn due(&self) -> bool {
        self.unsealed_bytes >= SEAL_BYTES
            || self.pending.quarantine.len() + self.pending.inputs.len() + self.parts.len() >= SEAL_ITEMS
    }

    /// Makes everything so far durable and provable; returns the log's size. Nothing new, no new leaf.
    pub fn seal(&mut self) -> Result<u64, Fatal> {
        let manifests = self.stage()?;
        if manifests.is_empty() {
            return Ok(self.readable.size);
        }
        let entries: Vec<Vec<u8>> = manifests.iter().map(Manifest::to_bytes).collect();
        let head = self.trail.log().append(Some(self.readable.size), &entries)?;
        let first = head.size - entries.len() as u64;
        self.head = Some(head);
        for (leaf, manifest) in (first..).zip(manifests) {
            self.readable.add(leaf, manifest)?;
        }
        self.sink.sealed();
        Ok(self.readable.size)
    }

    /// Makes everything so far durable; the manifests that say so are to be sealed. Nothing new, no manifest.
    pub fn stage(&mut self) -> Result<Vec<Manifest>, Fatal> {
        let now = self.trail.clock.now();
        let (sink, inputs, readable) = (&mut self.sink, &self.inputs, &self.readable);
        let tally = &mut self.tally;
        self.sorter
            .finish(&mut |partition, rows| sink.append(partition, rows, now, inputs, readable, tally))?;
        let staged = self.sink.take()?;
        self.unsealed_bytes = 0;
        self.pending.inputs.extend(std::mem::take(&mut self.parts).into_values());
        if staged.is_empty() && self.pending.inputs.is_empty() && self.pending.quarantine.is_empty() {
            return Ok(Vec::new());
        }
        self.sink.judge(&staged, &self.readable, &mut self.tally)?;
        self.pending.runs = self.sink.take_runs();
        add_runs(&mut self.taken.sequences, &self.pending.runs);
        self.put(staged, now)
    }

    /// Inputs and quarantine entries that the next manifests list.
    pub(crate) fn listed(&self) -> (Vec<Hash>, Vec<String>) {
        let inputs = self.pending.inputs.iter().map(|input| input.sha256);
        (inputs.collect(), self.pending.quarantine.iter().map(|entry| entry.key.clone()).collect())
    }

    /// What became of all records, and what is known of the trail.
    pub fn end(self) -> (Counts, BTreeMap<String, Counts>, Readable, TakenIn) {
        (self.tally.total(), self.tally.sources(), self.readable, self.taken)
    }

    /// Compacts what is sealed, where it pays. Call it after [`seal`](Self::seal).
    pub fn compact(&mut self, stop: &AtomicBool) -> Result<Compacted, Fatal> {
        let (target, threads) = (self.options.object_bytes, self.options.ingest.threads);
        let done = compact::when_it_pays(self.trail, &mut self.readable, target, threads, stop)?;
        // Indexes of objects that are gone.
        self.sink.sealed();
        Ok(done)
    }

    /// Puts objects and their detail object into the store and makes the manifests.
    fn put(&mut self, staged: Vec<Staged>, now: Timestamp) -> Result<Vec<Manifest>, Fatal> {
        let detail = std::mem::replace(&mut self.pending, Detail { version: 1, ..Detail::default() });
        let (bytes, detail) = detail.to_object();
        self.trail.store.put_if_absent(&detail.key, &bytes)?;
        let manifest = |kind, object, rows| Manifest {
            archived: now.0,
            detail: detail.clone(),
            kind,
            object,
            replaces: Vec::new(),
            rows,
            version: 1,
        };
        let store = self.trail.store;
        let puts = concurrent::each(&staged, |s| objects::put(store, s, &[]))?;
        let mut manifests = Vec::new();
        for (s, object) in staged.into_iter().zip(puts) {
            self.written.0 += 1;
            self.written.1 += object.bytes;
            manifests.push(manifest(ManifestKind::Add, Some(object), Some(s.rows)));
        }
        if manifests.is_empty() {
            manifests.push(manifest(ManifestKind::Inputs, None, None));
        }
        Ok(manifests)
    }

    /// The counts, checked: every record has one outcome.
    pub fn summary(mut self, stopped: bool, compacted: Compacted) -> Result<Summary, Fatal> {
        let total = self.tally.total();
        let sources = self.tally.sources();
        for (source, counts) in &sources {
            if !counts.balanced() {
                return Err(Fatal::new(
                    "Fatal.RecordLost",
                    format!("`{source}`: the outcomes of {} records do not add up: {counts:?}", counts.read),
                ));
            }
        }
        self.remember()?;
        self.mark_clean()?;
        let new_gaps = || self.taken.sequences.new_gaps(&self.sealed_before);
        let checkpoint = self.trail.log().recover()?;
        Ok(Summary {
            total,
            sources,
            rejected: self.rejected,
            controls: self.controls,
            inputs: self.done.2,
            input_bytes: self.input_bytes,
            inflated_bytes: self.done.0,
            gaps: new_gaps().count() as u64,
            first_gaps: new_gaps().take(FIRST_GAPS).collect(),
            objects: self.written,
            first_leaf: self.first_leaf,
            checkpoint,
            compacted,
            stopped,
        })
    }
}
