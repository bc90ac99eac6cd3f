//! Sorted slices of one partition to archive objects in the making: duplicates out, rows written.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use keytrail_archive::{Enrichment, Finished, ObjectReader, ObjectWriter, Projection, ReadError, Selection};
use keytrail_enrich::Enricher;
use keytrail_model::manifest::{ObjectRef, RowsRef, RunItem};
use keytrail_model::row::{Row, text};
use keytrail_model::{Column, Fatal, Partition, TableRef, Timestamp, Uid};
use keytrail_normalize::Format;
use keytrail_normalize::sequence::{self, Position, is_chained};

use crate::chain::Chains;
use crate::dedup::{Dedup, Verdict};
use crate::objects::{self, StoredEvent};
use crate::readable::Readable;
use crate::same_value::same_value;
use crate::tally::{Tally, format_of};
use crate::trail::{Trail, scratch_error};

/// Objects in the making at once. Beyond it the one that was written to longest ago is finished.
const MAX_OPEN: usize = 64;

/// Bytes that are written to an object's file at once.
const WRITE_BYTES: usize = 64 << 10;

/// Row groups of an object; each has its place in the footer.
const MAX_ROW_GROUPS: usize = 4_096;

/// Rows of a partition whose producer key another event has, compared at one seal at most: a hostile
/// source can send any number. Those beyond count as conflicts; `verify` and `conflicts` look at all.
const MAX_SUSPECTS: usize = 10_000;

/// How many wait for a seal; those beyond count as conflicts at once, where their group says already that
/// they are of one scope.
const SUSPECTS_HELD: usize = 100_000;

/// How many of them are in memory at once, with up to 8 others each.
const SUSPECTS_AT_ONCE: usize = 1_000;

/// Rows waiting to be sealed.
pub(crate) struct Sink<'a> {
    trail: &'a Trail<'a>,
    object_bytes: u64,
    threads: usize,
    dedup: Dedup<'a>,
    chains: Chains,
    /// The one that was written to last is last.
    open: Vec<Open>,
    staged: Vec<Staged>,
    files: u64,
    suspects: Vec<Suspect>,
    enricher: Enricher<'a>,
    enrichment: Enrichment,
    /// What manifests record of the tables.
    tables: Vec<TableRef>,
}

struct Open {
    writer: ObjectWriter<BufWriter<File>>,
    path: PathBuf,
}

/// A finished object in the scratch folder.
pub(crate) struct Staged {
    pub object: ObjectRef,
    pub rows: RowsRef,
    pub partition: Partition,
    pub path: PathBuf,
}

/// A new row whose producer key other events have.
struct Suspect {
    partition: Partition,
    /// Its source's number.
    source: usize,
    new: Uid,
    others: Vec<Uid>,
    /// Its scope, where the key group does not tell it: two devices make two records of one call.
    scope: Option<String>,
}

impl<'a> Sink<'a> {
    /// A sink with nothing in it.
    pub fn new(trail: &'a Trail<'a>, object_bytes: u64, threads: usize) -> Self {
        Self {
            trail,
            object_bytes,
            threads,
            dedup: Dedup::new(trail),
            chains: Chains::default(),
            open: Vec::new(),
            staged: Vec::new(),
            files: 0,
            suspects: Vec::new(),
            enricher: Enricher::new(trail.tables),
            enrichment: Enrichment::default(),
            tables: trail.tables.references(),
        }
    }

    /// Takes sorted rows of one partition: counts each as accepted or duplicate, writes the new ones.
    pub fn append(
        &mut self,
        partition: &Partition,
        rows: &[Row<'_>],
        now: Timestamp,
        inputs: &[String],
        readable: &Readable,
        tally: &mut Tally,
    ) -> Result<(), Fatal> {
        self.dedup.enter(partition, readable)?;
        let mut new: Vec<Row<'_>> = Vec::with_capacity(rows.len());
        let Some(first) = rows.first() else { return Ok(()) };
        // All of one partition, so of one dataset.
        let format = format_of(first.head.dataset);
        let is_numbered = format.is_some_and(Format::is_numbered);
        let has_instances = format.is_some_and(Format::has_instances);
        for row in rows {
            let source = tally.source(row.head.input, format);
            let counts = tally.of(source);
            let copy = new.last().is_some_and(|r| r.head.uid == row.head.uid);
            let verdict = if copy {
                Verdict::Duplicate
            } else {
                self.dedup.judge(partition, row.head.group, &row.head.uid)?
            };
            match verdict {
                Verdict::Duplicate => {
                    counts.duplicates += 1;
                    continue;
                }
                Verdict::New => {}
                Verdict::Shares(others) => {
                    // Sources that are not judged have no scope.
                    if let Some(scope) = text(row.columns, Column::KeytrailScope) {
                        let scope = has_instances.then(|| scope.to_owned());
                        if self.suspects.len() < SUSPECTS_HELD {
                            let (partition, new) = (partition.clone(), row.head.uid);
                            self.suspects.push(Suspect { partition, source, new, others, scope });
                        } else if !has_instances {
                            counts.conflicts += 1;
                        }
                    }
                }
            }
            counts.accepted += 1;
            if (is_numbered || is_chained(row.columns))
                && let Some(position) = format.and_then(|f| Position::of_row(f, row.columns))
            {
                self.chains.add(position, row.original);
            }
            new.push(*row);
        }
        if new.is_empty() {
            return Ok(());
        }
        let at = self.writer(partition)?;
        let open = &mut self.open[at];
        if self.tables.is_empty() {
            open.writer.append(&new, now, inputs)?;
        } else {
            self.enrichment.clear();
            for row in &new {
                let (head, enricher) = (row.head, &mut self.enricher);
                self.enrichment.push_with(|out| enricher.enrich(head.dataset, head.time, row.columns, out));
            }
            open.writer.append_enriched(&new, &self.enrichment, now, inputs)?;
        }
        if open.writer.size_bytes() >= self.object_bytes || open.writer.row_groups() >= MAX_ROW_GROUPS {
            let open = self.open.remove(at);
            self.finish(open)?;
        }
        Ok(())
    }

    /// The partition's open writer, moved to the end of the list: the only one with an open row group.
    fn writer(&mut self, partition: &Partition) -> Result<usize, Fatal> {
        if let Some(last) = self.open.last_mut()
            && last.writer.partition() != partition
        {
            last.writer.end_group()?;
        }
        if let Some(at) = self.open.iter().position(|o| o.writer.partition() == partition) {
            let open = self.open.remove(at);
            self.open.push(open);
        } else {
            if self.open.len() >= MAX_OPEN {
                let oldest = self.open.remove(0);
                self.finish(oldest)?;
            }
            let path = self.trail.scratch.join(format!("object-{}.tmp", self.files));
            self.files += 1;
            let file = File::create(&path).map_err(|e| scratch_error("create", &path, &e))?;
            let writer = ObjectWriter::new(
                partition.clone(),
                BufWriter::with_capacity(WRITE_BYTES, file),
                self.threads,
            )?
            .enriched_with(&self.tables);
            self.open.push(Open { writer, path });
        }
        Ok(self.open.len() - 1)
    }

    fn finish(&mut self, open: Open) -> Result<(), Fatal> {
        let partition = open.writer.partition().clone();
        // The file is closed here: a seal can have more objects than a process may have open files.
        let Finished { object, rows, out: _ } = open.writer.finish()?;
        self.staged.push(Staged { object, rows, partition, path: open.path });
        Ok(())
    }

    /// Finishes all objects and hands them over, in the order of their partitions.
    pub fn take(&mut self) -> Result<Vec<Staged>, Fatal> {
        for open in std::mem::take(&mut self.open) {
            self.finish(open)?;
        }
        let mut staged = std::mem::take(&mut self.staged);
        staged.sort_by(|a, b| {
            (&a.partition, a.rows.time_min, &a.object.key).cmp(&(
                &b.partition,
                b.rows.time_min,
                &b.object.key,
            ))
        });
        Ok(staged)
    }

    /// Takes the positions that a refused record claims.
    pub fn add_refused(&mut self, refused: &[u8], hsm: Option<&str>) {
        sequence::of_refused(refused, hsm, &mut |position| self.chains.add(position, refused));
    }

    /// Runs of numbered records since the last call.
    pub fn take_runs(&mut self) -> Vec<RunItem> {
        self.chains.take()
    }

    /// What was written is sealed.
    pub fn sealed(&mut self) {
        self.dedup.sealed();
    }

    /// Decides which new rows are conflicts and which are variants. Sources that are not judged (no
    /// scope) have neither.
    pub fn judge(&mut self, staged: &[Staged], readable: &Readable, tally: &mut Tally) -> Result<(), Fatal> {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.sort_by(|a, b| a.partition.cmp(&b.partition));
        for group in suspects.chunk_by_mut(|a, b| a.partition == b.partition) {
            self.leave_out_other_scopes(group, staged, readable)?;
            let group: Vec<&Suspect> = group.iter().filter(|s| !s.others.is_empty()).collect();
            let (compared, beyond) = group.split_at(group.len().min(MAX_SUSPECTS));
            for some in compared.chunks(SUSPECTS_AT_ONCE) {
                let mut wanted: Vec<Uid> =
                    some.iter().flat_map(|s| s.others.iter().copied().chain([s.new])).collect();
                wanted.sort_unstable();
                wanted.dedup();
                let events = self.fetch(&some[0].partition, &wanted, staged, readable)?;
                for suspect in some {
                    let counts = tally.of(suspect.source);
                    match differs(suspect, &events) {
                        None => {}
                        Some(true) => counts.conflicts += 1,
                        Some(false) => counts.variants += 1,
                    }
                }
            }
            for suspect in beyond {
                tally.of(suspect.source).conflicts += 1;
            }
        }
        Ok(())
    }

    /// Takes from the suspects of a partition those others that are of another scope, by that column alone:
    /// where two devices are archived every event shares its key.
    fn leave_out_other_scopes(
        &self,
        suspects: &mut [Suspect],
        staged: &[Staged],
        readable: &Readable,
    ) -> Result<(), Fatal> {
        let unsure = suspects.iter().filter(|s| s.scope.is_some());
        let mut scopes: HashMap<Uid, Option<String>> =
            unsure.flat_map(|s| &s.others).map(|uid| (*uid, None)).collect();
        let Some(first) = suspects.first().filter(|_| !scopes.is_empty()) else { return Ok(()) };
        self.each_object(&first.partition, staged, readable, &mut |reader| {
            for batch in reader.batches(&Projection::Columns(vec![Column::KeytrailScope]), Selection::All) {
                for row in batch?.rows() {
                    if let Some(scope) = scopes.get_mut(&row.uid) {
                        *scope = text(row.columns, Column::KeytrailScope).map(str::to_owned);
                    }
                }
            }
            Ok(true)
        })?;
        for suspect in suspects.iter_mut().filter(|s| s.scope.is_some()) {
            let scope = &suspect.scope;
            suspect.others.retain(|other| scopes.get(other) == Some(scope));
        }
        Ok(())
    }

    /// Events by uid, from objects that wait to be sealed and from sealed ones.
    fn fetch(
        &self,
        partition: &Partition,
        wanted: &[Uid],
        staged: &[Staged],
        readable: &Readable,
    ) -> Result<BTreeMap<Uid, StoredEvent>, Fatal> {
        let mut events = BTreeMap::new();
        let is_wanted = |uid: &Uid, _| wanted.binary_search(uid).is_ok();
        self.each_object(partition, staged, readable, &mut |reader| {
            objects::pick(reader, &is_wanted, &mut |e| {
                events.insert(e.uid, e);
            })?;
            Ok(events.len() < wanted.len())
        })?;
        Ok(events)
    }

    /// Objects of a partition that wait to be sealed, then sealed ones, while `each` wants more.
    fn each_object(
        &self,
        partition: &Partition,
        staged: &[Staged],
        readable: &Readable,
        each: &mut dyn FnMut(&ObjectReader) -> Result<bool, ReadError>,
    ) -> Result<(), Fatal> {
        for s in staged.iter().filter(|s| s.partition == *partition) {
            let file = File::open(&s.path).map_err(|e| scratch_error("open", &s.path, &e))?;
            if !each(&ObjectReader::open(std::sync::Arc::new(file))?)? {
                return Ok(());
            }
        }
        for sealed in readable.partitions.get(partition).into_iter().flatten() {
            let key = &sealed.object.key;
            if !each(&objects::open(self.trail.store, key)?).map_err(|e| objects::at(key, e))? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether a row differs as a JSON value from any event that claims its place; `None`: its source is not
/// judged, or no other claims it. What was not fetched counts as different.
fn differs(suspect: &Suspect, events: &BTreeMap<Uid, StoredEvent>) -> Option<bool> {
    let Some(new) = events.get(&suspect.new) else { return Some(true) };
    let claim = new.claim()?;
    let mut answer = None;
    for other in &suspect.others {
        let differs = match events.get(other) {
            Some(other) if other.claim() != Some(claim) => continue,
            Some(other) => match (&new.original, &other.original) {
                (Some(a), Some(b)) => !same_value(a, b),
                _ => true,
            },
            None => true,
        };
        answer = Some(answer.unwrap_or(false) | differs);
    }
    answer
}
