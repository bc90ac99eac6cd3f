//! Writing one archive object: sorted slices of one partition's rows in, Parquet bytes and what a
//! manifest says of them out.
//!
//! Rows are encoded as they come. A row group stays open for the next slice, as encoded pages in memory,
//! until it is full, the next slice is not behind it, or [`ObjectWriter::end_group`] is called; then an
//! open object holds the row groups' metadata only (about 50 kB each, 32,767 at most).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;

use arrow_array::ArrayRef;
use keytrail_model::digest::Digests;
use keytrail_model::manifest::{ManifestKind, ObjectRef, RowsRef};
use keytrail_model::merkle::RootBuilder;
use keytrail_model::{Column, Day, Fatal, Hash, Partition, Row, SCHEMA_VERSION, TableRef, Timestamp, Uid};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use sha2::{Digest, Sha256};

use crate::chunk::{Chunk, ChunkWriter};
use crate::columns::{Added, Built, Cell, build};
use crate::enrichment::Enrichment;
use crate::error::from_parquet;
use crate::kept::Kept;
use crate::name::{NameParts, object_key};
use crate::schema;

/// Rows of a row group at most.
pub const GROUP_ROWS: usize = 65_536;

/// A row group with so many bytes of encoded pages and dictionaries is full.
pub const GROUP_BYTES: usize = 16 << 20;

/// Parquet's own limit on a file.
pub const MAX_GROUPS: usize = i16::MAX as usize;

/// An object that is being written.
pub struct ObjectWriter<W: Write + Send> {
    partition: Partition,
    threads: usize,
    file: SerializedFileWriter<Hashed<W>>,
    groups: ArrowRowGroupWriterFactory,
    open: Option<OpenGroup>,
    events: RootBuilder,
    rows: RootBuilder,
    digests: Digests,
    normalizers: BTreeSet<String>,
    tables: BTreeSet<TableRef>,
    time_min: Option<i64>,
    time_max: Option<i64>,
}

/// A row group that takes more rows.
struct OpenGroup {
    /// Columns of texts, lists and bytes, by [`Column::index`].
    chunks: Vec<Option<Box<ChunkWriter>>>,
    /// The other columns, by [`Column::index`].
    others: Vec<Option<Box<ArrowColumnWriter>>>,
    rows: usize,
    last: SortKey,
}

type SortKey = (&'static str, Day, bool, Option<i64>, Uid);

/// A finished object.
#[derive(Clone, Debug)]
pub struct Finished<W> {
    /// What was written to, flushed, not synced.
    pub out: W,
    /// Name (without enrichment), size and SHA-256.
    pub object: ObjectRef,
    /// What the manifest says of the rows.
    pub rows: RowsRef,
}

impl<W: Write + Send> ObjectWriter<W> {
    /// Starts an object. `threads` encode the columns of a row group, four at most; 1 spawns none. The file
    /// does not depend on them.
    pub fn new(partition: Partition, out: W, threads: usize) -> Result<Self, Fatal> {
        let start = || {
            let root = schema::parquet()?.root_schema_ptr();
            let out = Hashed { inner: Some(out), sha256: Sha256::new(), bytes: 0 };
            SerializedFileWriter::new(out, root, schema::properties()?)
        };
        let file = start().map_err(|e| from_parquet("start of an archive object", &e))?;
        let groups = ArrowRowGroupWriterFactory::new(&file, schema::arrow());
        Ok(Self {
            partition,
            threads: threads.clamp(1, STEP_THREADS),
            file,
            groups,
            open: None,
            events: RootBuilder::new(),
            rows: RootBuilder::new(),
            digests: Digests::default(),
            normalizers: BTreeSet::new(),
            tables: BTreeSet::new(),
            time_min: None,
            time_max: None,
        })
    }

    /// Records tables that rows are enriched with: the manifest and the object's name say so, in whatever order
    /// they come.
    #[must_use]
    pub fn enriched_with<'t>(mut self, tables: impl IntoIterator<Item = &'t TableRef>) -> Self {
        self.tables.extend(tables.into_iter().cloned());
        self
    }

    /// Writes a slice: rows of this partition in ascending [`sort_key`](keytrail_model::row::Head::sort_key)
    /// order. `ingested` is their `event_ingested`, `inputs` names the objects that their heads number.
    ///
    /// # Errors
    /// `Fatal.Archive` for rows of another partition or out of order (nothing of the slice is written);
    /// `Fatal.Store` or `Retryable.StoreFull` when the write fails. The object is useless after the latter.
    pub fn append(&mut self, rows: &[Row<'_>], ingested: Timestamp, inputs: &[String]) -> Result<(), Fatal> {
        self.append_all(rows, Added::New { ingested, inputs, enrichment: None, offset: 0 }, inputs.len())
    }

    /// As [`append`](Self::append), with what tables say of each row.
    pub fn append_enriched(
        &mut self,
        rows: &[Row<'_>],
        enrichment: &Enrichment,
        ingested: Timestamp,
        inputs: &[String],
    ) -> Result<(), Fatal> {
        let added = Added::New { ingested, inputs, enrichment: Some(enrichment), offset: 0 };
        self.append_all(rows, added, inputs.len())
    }

    fn append_all(&mut self, rows: &[Row<'_>], mut added: Added<'_>, inputs: usize) -> Result<(), Fatal> {
        self.check(rows, inputs)?;
        for step in steps(rows) {
            self.step(step, added)?;
            if let Added::New { offset, .. } = &mut added {
                *offset += step.len();
            }
        }
        Ok(())
    }

    /// As [`append`](Self::append), rows that were archived before.
    pub fn append_kept(&mut self, kept: &[Kept<'_>]) -> Result<(), Fatal> {
        let rows: Vec<Row<'_>> = kept.iter().map(|k| k.row).collect();
        self.check(&rows, usize::MAX)?;
        let mut rest = kept;
        for step in steps(&rows) {
            let (of_step, after) = rest.split_at(step.len());
            rest = after;
            self.step(step, Added::Kept(of_step))?;
        }
        Ok(())
    }

    fn step(&mut self, step: &[Row<'_>], added: Added<'_>) -> Result<(), Fatal> {
        let digests = self.write(step, added)?;
        for (row, digest) in step.iter().zip(digests) {
            self.account(row, &digest);
        }
        Ok(())
    }

    /// Ends the open row group: its pages leave memory.
    pub fn end_group(&mut self) -> Result<(), Fatal> {
        let Some(group) = self.open.take() else { return Ok(()) };
        let at = |e| from_parquet("row group of an archive object", &e);
        let rows = group.rows as u64;
        let jobs = group.chunks.into_iter().zip(group.others).filter_map(|column| match column {
            (Some(chunk), _) => Some(Job::CloseChunk(chunk, rows)),
            (None, other) => other.map(Job::CloseOther),
        });
        let closed = run(jobs.collect(), self.threads).map_err(at)?;
        let mut group = self.file.next_row_group().map_err(at)?;
        for column in closed {
            match column {
                Done::ClosedChunk(chunk) => {
                    let (pages, result) = chunk.into_parts();
                    group.append_column(&pages, result).map_err(at)?;
                }
                Done::ClosedOther(chunk) => chunk.append_to_row_group(&mut group).map_err(at)?,
                Done::Chunk(..) | Done::Other(..) | Done::Digests(..) => {}
            }
        }
        group.close().map_err(at)?;
        Ok(())
    }

    /// Compressed bytes so far; those of the open row group are an estimate.
    pub fn size_bytes(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, OpenGroup::stored_bytes);
        (self.file.bytes_written() + open) as u64
    }

    /// Rows so far.
    pub fn count(&self) -> u64 {
        self.events.size()
    }

    /// Row groups so far, of [`MAX_GROUPS`].
    pub fn row_groups(&self) -> usize {
        self.file.flushed_row_groups().len() + usize::from(self.open.is_some())
    }

    /// The partition.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Writes the footer of an object of new rows.
    pub fn finish(self) -> Result<Finished<W>, Fatal> {
        self.finish_as(ManifestKind::Add, &[])
    }

    /// Writes the footer of an object whose manifest has that kind and retires these leaf indices.
    pub fn finish_as(mut self, kind: ManifestKind, replaces: &[u64]) -> Result<Finished<W>, Fatal> {
        let at = |e| from_parquet("end of an archive object", &e);
        self.end_group()?;
        let written: i64 = self.file.flushed_row_groups().iter().map(|group| group.num_rows()).sum();
        if u64::try_from(written) != Ok(self.events.size()) {
            return Err(Fatal::new(
                "Fatal.Archive",
                format!("an archive object has {written} rows, appended were {}", self.events.size()),
            ));
        }
        self.file.finish().map_err(at)?;
        // Not `into_inner`: it writes a footer again and loses what kind of error a write had.
        let hashed = self.file.inner_mut();
        let (bytes, sha256) = (hashed.bytes, Hash(hashed.sha256.clone().finalize().into()));
        let out = hashed
            .inner
            .take()
            .ok_or_else(|| Fatal::new("Fatal.Archive", "an archive object was finished before"))?;
        let rows = RowsRef {
            count: self.events.size(),
            dataset: self.partition.dataset.clone(),
            day: self.partition.day.to_string(),
            events_root: self.events.root(),
            normalizers: self.normalizers.into_iter().collect(),
            rows_root: self.rows.root(),
            schema: SCHEMA_VERSION,
            tables: self.tables.into_iter().collect(),
            time_max: self.time_max,
            time_min: self.time_min,
        };
        let tables: Vec<String> = rows.tables.iter().map(TableRef::version).collect();
        let parts = NameParts {
            kind: kind.name(),
            events_root: rows.events_root,
            rows_root: rows.rows_root,
            normalizers: &rows.normalizers,
            schema: rows.schema,
            tables: &tables,
            replaces,
        };
        let object = ObjectRef {
            bytes,
            key: object_key(&self.partition, self.time_min.map(Timestamp), &parts),
            sha256,
        };
        Ok(Finished { out, object, rows })
    }

    fn check(&self, rows: &[Row<'_>], inputs: usize) -> Result<(), Fatal> {
        let misplaced =
            |r: &&Row<'_>| r.head.dataset != self.partition.dataset || r.head.day != self.partition.day;
        if let Some(row) = rows.iter().find(misplaced) {
            return Err(Fatal::new(
                "Fatal.Archive",
                format!(
                    "a row of `{}`, `{}` came to partition `{}`",
                    row.head.dataset,
                    row.head.day,
                    self.partition.prefix()
                ),
            ));
        }
        if let Some((i, row)) = rows.iter().enumerate().find(|(_, r)| r.head.input as usize >= inputs) {
            return Err(Fatal::new(
                "Fatal.Archive",
                format!("row {i} names input `{}`, the batch has {inputs}", row.head.input),
            ));
        }
        if !rows.is_sorted_by(|a, b| a.head.sort_key() <= b.head.sort_key()) {
            return Err(Fatal::new(
                "Fatal.Archive",
                format!("rows of partition `{}` came out of order", self.partition.prefix()),
            ));
        }
        Ok(())
    }

    /// Encodes a step into the open row group, or into a new one. Gives the rows' digests.
    fn write(&mut self, rows: &[Row<'_>], added: Added<'_>) -> Result<Vec<Hash>, Fatal> {
        let at = |e| from_parquet("columns of an archive object", &e);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
        if self.open.as_ref().is_some_and(|group| !group.takes(first, rows.len())) {
            self.end_group()?;
        }
        let mut group = match self.open.take() {
            Some(group) => group,
            None => self.group(first.head.sort_key()).map_err(at)?,
        };
        let from = group.rows as u64;
        let Built { cells, arrays, normalizers } = build(rows, added, from, &mut group.chunks)?;
        self.normalizers.extend(normalizers);
        let mut jobs = Vec::with_capacity(Column::ALL.len() + 1);
        for ((column, cells), array) in Column::ALL.into_iter().zip(cells).zip(arrays) {
            let (chunk, other) = (group.chunks[column.index()].take(), group.others[column.index()].take());
            jobs.extend(match (chunk, other, array) {
                (Some(chunk), ..) if column == Column::EventOriginal => {
                    Some(Job::Originals { column, chunk, rows, added, from })
                }
                (Some(chunk), ..) => Some(Job::Append { column, chunk, cells, from }),
                (None, Some(writer), Some(array)) => Some(Job::Write { column, writer, array }),
                _ => None,
            });
        }
        jobs.push(Job::Digest(rows, Box::new(std::mem::take(&mut self.digests))));
        let mut digests = Vec::new();
        for done in run(jobs, self.threads).map_err(at)? {
            match done {
                Done::Chunk(column, chunk) => group.chunks[column.index()] = Some(chunk),
                Done::Other(column, writer) => group.others[column.index()] = Some(writer),
                Done::Digests(all, remembered) => {
                    digests = all;
                    self.digests = *remembered;
                }
                Done::ClosedChunk(_) | Done::ClosedOther(_) => {}
            }
        }
        group.rows += rows.len();
        group.last = last.head.sort_key();
        self.open = Some(group);
        Ok(digests)
    }

    /// A row group without rows.
    fn group(&self, last: SortKey) -> Result<OpenGroup, ParquetError> {
        let descr = self.file.schema_descr();
        let (mut chunks, mut others) = (Vec::new(), Vec::new());
        // Every column has one leaf, so they are in the same order.
        for (column, writer) in
            Column::ALL.into_iter().zip(self.groups.create_column_writers(self.row_groups())?)
        {
            let takes = ChunkWriter::takes(column.kind());
            chunks.push(takes.then(|| Box::new(ChunkWriter::new(column, descr.column(column.index())))));
            others.push((!takes).then(|| Box::new(writer)));
        }
        Ok(OpenGroup { chunks, others, rows: 0, last })
    }

    fn account(&mut self, row: &Row<'_>, digest: &Hash) {
        self.events.push_both(&mut self.rows, [&row.head.hash, digest]);
        if let Some(t) = row.head.time {
            self.time_min = Some(self.time_min.map_or(t.0, |m| m.min(t.0)));
            self.time_max = Some(self.time_max.map_or(t.0, |m| m.max(t.0)));
        }
    }
}

impl OpenGroup {
    /// Bytes that it would take in the file, about.
    fn stored_bytes(&self) -> usize {
        let others: usize = self.others.iter().flatten().map(|w| w.get_estimated_total_bytes()).sum();
        others + self.chunks.iter().flatten().map(|c| c.memory_bytes()).sum::<usize>()
    }

    /// Whether it has room for so many rows, of which `first` does not come before its own.
    fn takes(&self, first: &Row<'_>, rows: usize) -> bool {
        let others: usize = self.others.iter().flatten().map(|w| w.memory_size()).sum();
        let bytes = others + self.chunks.iter().flatten().map(|c| c.memory_bytes()).sum::<usize>();
        self.rows + rows <= GROUP_ROWS && bytes < GROUP_BYTES && self.last <= first.head.sort_key()
    }
}

/// Rows that are turned into arrays at a time: a column's then fit a core's cache, and their memory is
/// used again instead of being mapped anew.
const STEP_ROWS: usize = 1024;

/// Threads that share a step at most: it has to outweigh starting them.
const STEP_THREADS: usize = 4;

/// Encoded columns and original bytes of a step at most, but for a single larger row.
const STEP_BYTES: usize = 16 << 20;

/// Cuts a slice into steps under both limits.
fn steps<'a, 'r>(rows: &'a [Row<'r>]) -> impl Iterator<Item = &'a [Row<'r>]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |r: &&Row<'_>| {
            let before = bytes;
            bytes += r.columns.len() + r.original.len();
            before == 0 || bytes <= STEP_BYTES
        };
        let (step, after) = rest.split_at(rest.iter().take(STEP_ROWS).take_while(fits).count());
        rest = after;
        (!step.is_empty()).then_some(step)
    })
}

/// What is to be done for a row group, mostly to one of its columns, by any thread.
enum Job<'a> {
    /// The next rows' values.
    Write { column: Column, writer: Box<ArrowColumnWriter>, array: ArrayRef },
    /// The next rows' values; rows are numbered from the group's row `from`.
    Append { column: Column, chunk: Box<ChunkWriter>, cells: Vec<Cell<'a>>, from: u64 },
    /// The next rows' original bytes; the first is the group's row `from`.
    Originals { column: Column, chunk: Box<ChunkWriter>, rows: &'a [Row<'a>], added: Added<'a>, from: u64 },
    /// The rows' digests.
    Digest(&'a [Row<'a>], Box<Digests>),
    /// Nothing comes after the rows that were written, so many.
    CloseChunk(Box<ChunkWriter>, u64),
    /// Nothing comes after what was written.
    CloseOther(Box<ArrowColumnWriter>),
}

/// What a job leaves.
enum Done {
    Chunk(Column, Box<ChunkWriter>),
    Other(Column, Box<ArrowColumnWriter>),
    ClosedChunk(Box<Chunk>),
    ClosedOther(Box<ArrowColumnChunk>),
    Digests(Vec<Hash>, Box<Digests>),
}

impl Job<'_> {
    fn run(self) -> Result<Done, ParquetError> {
        match self {
            Self::Write { column, mut writer, array } => {
                let leaves = compute_leaves(schema::arrow().field(column.index()), &array)?;
                leaves.iter().try_for_each(|leaf| writer.write(leaf))?;
                Ok(Done::Other(column, writer))
            }
            Self::Append { column, mut chunk, cells, from } => {
                for (row, value) in cells {
                    chunk.append(from + u64::from(row), value)?;
                }
                chunk.settle(0)?;
                Ok(Done::Chunk(column, chunk))
            }
            Self::Originals { column, mut chunk, rows, added, from } => {
                let withheld = |i: usize| matches!(added, Added::Kept(kept) if kept[i].withheld);
                // A row that is passed over is null.
                for (i, row) in rows.iter().enumerate().filter(|(i, _)| !withheld(*i)) {
                    chunk.settle(row.original.len())?;
                    chunk.append(from + i as u64, row.original)?;
                }
                Ok(Done::Chunk(column, chunk))
            }
            Self::Digest(rows, mut digests) => Ok(Done::Digests(digests.of_rows(rows), digests)),
            Self::CloseChunk(chunk, rows) => Ok(Done::ClosedChunk(Box::new(chunk.close(rows)?))),
            Self::CloseOther(writer) => Ok(Done::ClosedOther(Box::new(writer.close()?))),
        }
    }
}

/// Runs jobs on so many threads, and gives what they leave in the same order.
fn run(jobs: Vec<Job<'_>>, threads: usize) -> Result<Vec<Done>, ParquetError> {
    if threads == 1 {
        return jobs.into_iter().map(Job::run).collect();
    }
    let mut jobs: Vec<(usize, Job<'_>)> = jobs.into_iter().enumerate().collect();
    // The largest go first: the last of the list is taken first.
    jobs.sort_by_key(|(_, job)| matches!(job, Job::Originals { .. } | Job::Digest(..)));
    let jobs = Mutex::new(jobs);
    // A poisoned lock means that a thread panicked, which the join below reports.
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        let mut done = Vec::new();
        while let Some((column, job)) = next() {
            done.push((column, job.run()?));
        }
        Ok::<_, ParquetError>(done)
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            let panicked = |_| Err(ParquetError::General("a thread that encoded columns panicked".into()));
            let theirs = other.join().unwrap_or_else(panicked);
            done = done.and_then(|mut all| {
                all.extend(theirs?);
                Ok(all)
            });
        }
        done
    })?;
    done.sort_by_key(|(column, _)| *column);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

/// Passes bytes on, counts and hashes them.
struct Hashed<W> {
    /// Taken at the end.
    inner: Option<W>,
    sha256: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let n = inner.write(buf)?;
        self.sha256.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}
