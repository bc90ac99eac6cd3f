//! Archive objects made of others, which they replace: put, seal, then hide the old ones (INTEGRITY
//! section 4).
//!
//! What it is: the one way in which archived rows are written again, for compaction, renormalization and
//! withholding, and the one way in which objects go. What it is not: it decides nothing. In: sealed objects
//! of one partition. Out: one object with their rows, its manifest, and a detail object that says where each
//! row comes from.
//!
//! Nothing is believed on the way. An input is compared with its manifest as it is read; the new object is
//! read back and put against the manifests of all inputs, by the code that `verify` uses, before it is
//! sealed; and nothing is deleted before the log has it. Killed at any point, the next start deletes what
//! the log does not name: the new object before the seal, the old ones after it.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;

use keytrail_archive::kept::{self, Kept, Origin};
use keytrail_archive::{
    Batch, Digests, Finished, ObjectReader, ObjectWriter, Projection, Selection, Sorter, StoredRow,
};
use keytrail_model::manifest::{Decision, DroppedRow, ManifestKind, ObjectRef, RowRun, RowsRef};
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::row::Row;
use keytrail_model::{Detail, Fatal, Hash, Manifest, Partition, RowBuffer, Timestamp, Uid};
use keytrail_normalize::Format;

use crate::lineage::Lineage;
use crate::readable::{Readable, SealedObject};
use crate::recover::{Recovered, mark_clean, recover};
use crate::seal::MOVED;
use crate::sink::Staged;
use crate::trail::{Trail, scratch_error};
use crate::{dedup, object_check, objects};

/// Rows that are sorted in memory, in bytes.
const SORT_BYTES: usize = 40 << 20;

/// What becomes of a row.
pub(crate) enum Changed {
    /// It stays as it is.
    Nothing,
    /// It has the columns that were written, and this time.
    Columns(Option<Timestamp>),
    /// Its original bytes go.
    Withheld,
}

/// Says what becomes of a row; new columns are written into the buffer, which is empty.
pub(crate) type Change<'a> = dyn FnMut(&StoredRow<'_>, &mut Vec<u8>) -> Result<Changed, Fatal> + 'a;

/// Makes objects of others.
pub(crate) struct Rewriter<'a> {
    trail: &'a Trail<'a>,
    threads: usize,
}

impl<'a> Rewriter<'a> {
    /// `threads` encode columns.
    pub fn new(trail: &'a Trail<'a>, threads: usize) -> Self {
        Self { trail, threads }
    }

    /// One object with the rows of several of a partition, in the archive's order, without those that are
    /// there twice. It and its detail object are in the store on return; nothing is sealed.
    ///
    /// # Errors
    /// `Fatal.ArchiveDamaged`: an input is not what was sealed.
    pub fn merge(&self, partition: &Partition, inputs: &[SealedObject]) -> Result<Manifest, Fatal> {
        let dataset = dataset(partition)?;
        let spill = self.trail.scratch.join("merge");
        std::fs::create_dir_all(&spill).map_err(|e| scratch_error("create", &spill, &e))?;
        let mut sorter = Sorter::whole(&spill, SORT_BYTES)?;
        let mut scratch = Vec::new();
        for (input, number) in inputs.iter().zip(0u32..) {
            self.read(input, &mut |batch| {
                let mut rows = RowBuffer::new();
                for stored in batch.rows() {
                    let origin = Origin { input: number, row: stored.number };
                    let head = kept::head(&stored, dataset, partition.day, origin)
                        .map_err(|e| objects::at(&input.object.key, e))?;
                    kept::pack(&mut rows, &head, &stored, &mut scratch);
                }
                // Nothing goes out before the end.
                sorter.push(rows, &mut |_, _| Ok(()))
            })?;
        }
        let mut output = self.output(partition, inputs)?;
        sorter.finish(&mut |_, rows| output.append(rows))?;
        self.put(output, ManifestKind::Compact, inputs, None)
    }

    /// One object with the rows of another as `change` leaves them, in the same order unless it changes
    /// their time. `None`: it changes nothing. As [`merge`](Self::merge) otherwise.
    pub fn change(
        &self,
        partition: &Partition,
        input: &SealedObject,
        kind: ManifestKind,
        decision: Decision,
        change: &mut Change<'_>,
    ) -> Result<Option<Manifest>, Fatal> {
        let dataset = dataset(partition)?;
        let key = &input.object.key;
        let mut output = self.output(partition, std::slice::from_ref(input))?;
        let (mut columns, mut scratch, mut same) = (Vec::new(), Vec::new(), true);
        self.read(input, &mut |batch| {
            let mut rows = RowBuffer::new();
            for stored in batch.rows() {
                columns.clear();
                let what = change(&stored, &mut columns)?;
                same &= matches!(what, Changed::Nothing);
                let changed = match what {
                    Changed::Nothing => stored,
                    Changed::Columns(time) => StoredRow { columns: &columns, time, ..stored },
                    Changed::Withheld => StoredRow { original: None, ..stored },
                };
                let origin = Origin { input: 0, row: stored.number };
                let head =
                    kept::head(&changed, dataset, partition.day, origin).map_err(|e| objects::at(key, e))?;
                kept::pack(&mut rows, &head, &changed, &mut scratch);
            }
            // Row groups may overlap, a batch of one is in order but where times were changed.
            rows.sort();
            output.append(&rows.rows().collect::<Vec<_>>())
        })?;
        if same {
            return Ok(None);
        }
        self.put(output, kind, std::slice::from_ref(input), Some(decision)).map(Some)
    }

    /// An object of new rows with those of another that is not sealed yet, but for these. It is in the store on return.
    pub fn without(
        &self,
        partition: &Partition,
        input: &SealedObject,
        uids: &HashSet<Uid>,
    ) -> Result<(ObjectRef, RowsRef), Fatal> {
        let dataset = dataset(partition)?;
        let key = &input.object.key;
        let mut output = self.output(partition, std::slice::from_ref(input))?;
        let mut scratch = Vec::new();
        self.read(input, &mut |batch| {
            let mut rows = RowBuffer::new();
            for stored in batch.rows().filter(|row| !uids.contains(&row.uid)) {
                let origin = Origin { input: 0, row: stored.number };
                let head =
                    kept::head(&stored, dataset, partition.day, origin).map_err(|e| objects::at(key, e))?;
                kept::pack(&mut rows, &head, &stored, &mut scratch);
            }
            output.append(&rows.rows().collect::<Vec<_>>())
        })?;
        let Finished { object, rows, out: _ } = output.writer.finish()?;
        let staged = Staged { object, rows, partition: partition.clone(), path: output.path };
        let object = objects::put(self.trail.store, &staged, &[])?;
        Ok((object, staged.rows))
    }

    /// Hands out the rows of an object, which has to be what was sealed.
    fn read(
        &self,
        sealed: &SealedObject,
        each: &mut dyn FnMut(&Batch) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        let key = &sealed.object.key;
        let damaged = |what: &str| {
            let said = format!("`{key}` {what}: `keytrail verify` says more; nothing was replaced");
            Fatal::new("Fatal.ArchiveDamaged", said)
        };
        let object = objects::object(self.trail.store, key)?.ok_or_else(|| {
            Fatal::new("Fatal.ObjectMissing", format!("`{key}` is named by the log and is not there"))
        })?;
        if let Some(what) = object_check::changed(&object, &sealed.object)? {
            return Err(damaged(&format!("is not what was sealed: {what}")));
        }
        let reader = object.reader(key)?;
        let (mut events, mut rows) = (RootBuilder::new(), RootBuilder::new());
        let mut digests = Digests::default();
        for batch in reader.batches(&Projection::All, Selection::All) {
            let batch = batch.map_err(|e| objects::at(key, e))?;
            for leaf in batch.leaves(&mut digests) {
                if leaf.original.is_some_and(|o| Hash::of(o) != leaf.hash) {
                    return Err(damaged(&format!(
                        "has an original in row {} that its hash does not fit",
                        leaf.number
                    )));
                }
                events.push(leaf_hash(&leaf.hash.0));
                rows.push(leaf_hash(&leaf.digest.0));
            }
            each(&batch)?;
        }
        if (events.size(), events.root(), rows.root())
            != (sealed.rows.count, sealed.rows.events_root, sealed.rows.rows_root)
        {
            return Err(damaged("has other rows than its manifest says"));
        }
        Ok(())
    }

    fn output(&self, partition: &Partition, inputs: &[SealedObject]) -> Result<Output, Fatal> {
        let path = self.trail.scratch.join("rewrite.tmp");
        let file = File::create(&path).map_err(|e| scratch_error("create", &path, &e))?;
        let writer = ObjectWriter::new(partition.clone(), BufWriter::new(file), self.threads)?
            .enriched_with(inputs.iter().flat_map(|input| &input.rows.tables));
        Ok(Output {
            writer,
            path,
            runs: Vec::new(),
            dropped: Vec::new(),
            withheld: Vec::new(),
            last: None,
            columns: Vec::new(),
        })
    }

    fn put(
        &self,
        output: Output,
        kind: ManifestKind,
        inputs: &[SealedObject],
        decision: Option<Decision>,
    ) -> Result<Manifest, Fatal> {
        let replaces: Vec<u64> = inputs.iter().map(|o| o.leaf).collect();
        let partition = output.writer.partition().clone();
        let Finished { object, rows, out: _ } = output.writer.finish_as(kind, &replaces)?;
        let detail =
            Detail { decision, dropped: output.dropped, rows: output.runs, version: 1, ..Detail::default() };
        let mut lineage = Lineage::of_new(&rows, kind, inputs, &detail);
        let file = File::open(&output.path).map_err(|e| scratch_error("open", &output.path, &e))?;
        let reader = ObjectReader::open(Arc::new(file))?;
        let mut digests = Digests::default();
        let refused =
            |what: &str| Fatal::new("Fatal.Rewrite", format!("`{}` was not put: {what}", object.key));
        let mut withheld = output.withheld.iter();
        for batch in reader.batches(&Projection::Bound, Selection::All) {
            for leaf in batch?.leaves(&mut digests) {
                lineage.push(leaf_hash(&leaf.hash.0), leaf_hash(&leaf.digest.0));
                // No root is over the original bytes, and the inputs go.
                let kept = match leaf.original {
                    Some(original) => Hash::of(original) == leaf.hash,
                    None => withheld.next() == Some(&leaf.number),
                };
                if !kept {
                    return Err(refused(&format!("row {} lost its original bytes", leaf.number)));
                }
            }
        }
        if withheld.len() > 0 {
            return Err(refused("it has original bytes that were withheld"));
        }
        if let Some(finding) = lineage.finish().first() {
            return Err(refused(&finding.message));
        }
        let staged = Staged { object, rows, partition, path: output.path };
        let object = objects::put(self.trail.store, &staged, &output.withheld)?;
        let (bytes, detail) = detail.to_object();
        self.trail.store.put_if_absent(&detail.key, &bytes)?;
        Ok(Manifest {
            archived: self.trail.clock.now().0,
            detail,
            kind,
            object: Some(object),
            replaces,
            rows: Some(staged.rows),
            version: 1,
        })
    }
}

/// Calls `with` with what is sealed, when what a killed run left is finished or undone, as every run does
/// first; what it changed is finished on return.
pub(crate) fn upon<T>(
    trail: &Trail<'_>,
    with: impl FnOnce(&mut Readable) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    let Recovered { mut readable, unsealed, .. } = recover(trail)?;
    if !unsealed.is_empty() {
        let (bytes, detail) = Detail { quarantine: unsealed, version: 1, ..Detail::default() }.to_object();
        trail.store.put_if_absent(&detail.key, &bytes)?;
        let manifest = Manifest {
            archived: trail.clock.now().0,
            detail,
            kind: ManifestKind::Inputs,
            object: None,
            replaces: Vec::new(),
            rows: None,
            version: 1,
        };
        seal(trail, &mut readable, vec![manifest])?;
    }
    let done = with(&mut readable)?;
    mark_clean(trail.store, readable.size)?;
    Ok(done)
}

/// What is put before a seal, in bytes and objects: readers of the folder see it twice until then.
const SEAL_BYTES: u64 = 128 << 20;
const SEAL_OBJECTS: usize = 64;

/// Collects manifests of objects that were put, and seals them when there is enough.
pub(crate) struct Sealer<'a> {
    trail: &'a Trail<'a>,
    manifests: Vec<Manifest>,
    bytes: u64,
}

impl<'a> Sealer<'a> {
    /// Nothing is to be sealed.
    pub fn new(trail: &'a Trail<'a>) -> Self {
        Self { trail, manifests: Vec::new(), bytes: 0 }
    }

    /// Takes a manifest. What it retires is still readable until a seal.
    pub fn add(&mut self, readable: &mut Readable, manifest: Manifest) -> Result<(), Fatal> {
        self.bytes += manifest.object.as_ref().map_or(0, |o| o.bytes);
        self.manifests.push(manifest);
        if self.bytes < SEAL_BYTES && self.manifests.len() < SEAL_OBJECTS {
            return Ok(());
        }
        self.finish(readable)
    }

    /// Seals what is left, and deletes what it retires.
    pub fn finish(&mut self, readable: &mut Readable) -> Result<(), Fatal> {
        self.bytes = 0;
        if self.manifests.is_empty() {
            return Ok(());
        }
        seal(self.trail, readable, std::mem::take(&mut self.manifests))
    }
}

/// Whether an error says that an archived object is not what was sealed.
pub(crate) fn is_damage(e: &Fatal) -> bool {
    e.code == "Fatal.ArchiveDamaged" || e.code == "Fatal.ObjectMissing"
}

/// Seals manifests that retire objects, and deletes these.
fn seal(trail: &Trail<'_>, readable: &mut Readable, manifests: Vec<Manifest>) -> Result<(), Fatal> {
    let entries: Vec<Vec<u8>> = manifests.iter().map(Manifest::to_bytes).collect();
    let head = loop {
        match trail.log().append(Some(readable.size), &entries) {
            // What others sealed meanwhile changes nothing about these, as long as what they replace is there.
            Err(moved) if moved.code == MOVED => {
                readable.extend(trail.store, trail.log().recover()?.size)?;
                let there: HashSet<u64> = readable.objects().map(|object| object.leaf).collect();
                if !manifests.iter().flat_map(|m| &m.replaces).all(|leaf| there.contains(leaf)) {
                    return Err(moved);
                }
            }
            other => break other?,
        }
    };
    let first = head.size - entries.len() as u64;
    let mut retired: Vec<u64> = manifests.iter().flat_map(|m| &m.replaces).copied().collect();
    retired.sort_unstable();
    let is_retired = |o: &&SealedObject| retired.binary_search(&o.leaf).is_ok();
    let gone: Vec<SealedObject> = readable.objects().filter(is_retired).cloned().collect();
    for (leaf, manifest) in (first..).zip(manifests) {
        readable.add(leaf, manifest)?;
    }
    // Two writers that archived the same events name one object.
    let named = readable.object_keys();
    for object in gone.iter().filter(|o| !named.contains(o.object.key.as_str())) {
        trail.store.delete(&object.object.key)?;
        dedup::forget(trail.store, &object.object.sha256)?;
    }
    Ok(())
}

/// A dataset that this version knows: rows of others cannot be written.
pub(crate) fn known_dataset(partition: &Partition) -> Option<&'static str> {
    Format::ALL.into_iter().map(Format::dataset).find(|d| *d == partition.dataset)
}

fn dataset(partition: &Partition) -> Result<&'static str, Fatal> {
    known_dataset(partition).ok_or_else(|| {
        Fatal::new("Fatal.Archive", format!("`{}` is a dataset of another version", partition.dataset))
    })
}

/// An object in the making.
struct Output {
    writer: ObjectWriter<BufWriter<File>>,
    path: PathBuf,
    runs: Vec<RowRun>,
    dropped: Vec<DroppedRow>,
    /// Rows without an original.
    withheld: Vec<u64>,
    /// The last row that was written, and its columns.
    last: Option<(Uid, Hash, bool)>,
    columns: Vec<u8>,
}

impl Output {
    /// Takes rows as [`kept::pack`] made them, in order.
    fn append(&mut self, rows: &[Row<'_>]) -> Result<(), Fatal> {
        let large = |n: u64| {
            u32::try_from(n).map_err(|_| Fatal::new("Fatal.Archive", format!("row {n} cannot be rewritten")))
        };
        let mut new: Vec<Kept<'_>> = Vec::with_capacity(rows.len());
        for row in rows {
            let kept = kept::unpack(row)
                .ok_or_else(|| Fatal::new("Fatal.Internal", "a row that is rewritten lost its provenance"))?;
            let Origin { input, row } = Origin::of(row.head);
            let row = large(row)?;
            let this = (kept.row.head.uid, kept.row.head.hash, kept.withheld);
            if self.last == Some(this) && self.columns == kept.row.columns {
                let of = large((self.writer.count() + new.len() as u64).saturating_sub(1))?;
                self.dropped.push(DroppedRow { of, input, row });
                continue;
            }
            self.last = Some(this);
            self.columns.clear();
            self.columns.extend_from_slice(kept.row.columns);
            match self.runs.last_mut() {
                Some(run) if run.input == input && run.first + run.count == row => run.count += 1,
                _ => self.runs.push(RowRun { input, first: row, count: 1 }),
            }
            if kept.withheld {
                self.withheld.push(self.writer.count() + new.len() as u64);
            }
            new.push(kept);
        }
        self.writer.append_kept(&new)
    }
}
