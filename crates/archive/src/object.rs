//! Writing one archive object: sorted slices of one partition's rows in, Parquet bytes and what a
//! manifest says of them out.
//!
//! Each slice becomes row groups of its own at once, so between slices an open object holds no rows,
//! only the row groups' metadata (about 50 kB each, 32,767 at most).

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use arrow_array::ArrayRef;
use keytrail_model::manifest::{ManifestKind, ObjectRef, RowsRef};
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::{Column, Fatal, Hash, Partition, Row, SCHEMA_VERSION, Timestamp};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;
use sha2::{Digest, Sha256};

use crate::columns::{Added, Built, build, originals};
use crate::error::from_parquet;
use crate::name::{NameParts, object_key};
use crate::schema;

/// Rows of a row group at most.
pub const GROUP_ROWS: usize = 65_536;

/// Encoded columns and original bytes of a row group at most, but for a single larger row.
pub const GROUP_BYTES: usize = 32 << 20;

/// Parquet's own limit on a file.
pub const MAX_GROUPS: usize = i16::MAX as usize;

/// An object that is being written.
pub struct ObjectWriter<W: Write + Send> {
    partition: Partition,
    threads: usize,
    file: SerializedFileWriter<Hashed<W>>,
    groups: ArrowRowGroupWriterFactory,
    events: RootBuilder,
    rows: RootBuilder,
    normalizers: BTreeSet<String>,
    time_min: Option<i64>,
    time_max: Option<i64>,
}

/// A finished object.
#[derive(Clone, Debug)]
pub struct Finished<W> {
    /// What was written to, flushed, not synced.
    pub out: W,
    /// Name (of an `add`, nothing replaced, no enrichment), size and SHA-256.
    pub object: ObjectRef,
    /// What the manifest says of the rows.
    pub rows: RowsRef,
}

impl<W: Write + Send> ObjectWriter<W> {
    /// Starts an object. `threads` encode the columns of a row group; 1 spawns none.
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
            threads: threads.max(1),
            file,
            groups,
            events: RootBuilder::new(),
            rows: RootBuilder::new(),
            normalizers: BTreeSet::new(),
            time_min: None,
            time_max: None,
        })
    }

    /// Writes a slice: rows of this partition in ascending [`sort_key`](keytrail_model::row::Head::sort_key)
    /// order. `ingested` is their `event_ingested`, `inputs` names the objects that their heads number.
    ///
    /// # Errors
    /// `Fatal.Archive` for rows of another partition or out of order (nothing of the slice is written);
    /// `Fatal.Store` or `Retryable.StoreFull` when the write fails. The object is useless after the latter.
    pub fn append(&mut self, rows: &[Row<'_>], ingested: Timestamp, inputs: &[String]) -> Result<(), Fatal> {
        self.check(rows)?;
        let added = Added { ingested, inputs };
        for group in row_groups(rows) {
            self.write_group(group, &added)?;
            for row in group {
                self.account(row);
            }
        }
        Ok(())
    }

    /// Compressed bytes so far.
    pub fn size_bytes(&self) -> u64 {
        self.file.bytes_written() as u64
    }

    /// Rows so far.
    pub fn count(&self) -> u64 {
        self.events.size()
    }

    /// Row groups so far, of [`MAX_GROUPS`].
    pub fn row_groups(&self) -> usize {
        self.file.flushed_row_groups().len()
    }

    /// The partition.
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// Writes the footer.
    pub fn finish(mut self) -> Result<Finished<W>, Fatal> {
        let at = |e| from_parquet("end of an archive object", &e);
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
            time_max: self.time_max,
            time_min: self.time_min,
        };
        let parts = NameParts {
            kind: kind_name(ManifestKind::Add),
            events_root: rows.events_root,
            rows_root: rows.rows_root,
            normalizers: &rows.normalizers,
            schema: rows.schema,
            tables: &[],
            replaces: &[],
        };
        let object = ObjectRef {
            bytes,
            key: object_key(&self.partition, self.time_min.map(Timestamp), &parts),
            sha256,
        };
        Ok(Finished { out, object, rows })
    }

    fn check(&self, rows: &[Row<'_>]) -> Result<(), Fatal> {
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
        if !rows.is_sorted_by(|a, b| a.head.sort_key() <= b.head.sort_key()) {
            return Err(Fatal::new(
                "Fatal.Archive",
                format!("rows of partition `{}` came out of order", self.partition.prefix()),
            ));
        }
        Ok(())
    }

    fn write_group(&mut self, rows: &[Row<'_>], added: &Added<'_>) -> Result<(), Fatal> {
        let at = |e| from_parquet("row group of an archive object", &e);
        let writers = self.groups.create_column_writers(self.row_groups()).map_err(at)?;
        let (chunks, normalizers) = encode(rows, added, writers, self.threads)?;
        self.normalizers.extend(normalizers);
        let mut group = self.file.next_row_group().map_err(at)?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group).map_err(at)?;
        }
        group.close().map_err(at)?;
        Ok(())
    }

    fn account(&mut self, row: &Row<'_>) {
        self.events.push(leaf_hash(&row.head.hash.0));
        self.rows.push(leaf_hash(&row.head.digest.0));
        if let Some(t) = row.head.time {
            self.time_min = Some(self.time_min.map_or(t.0, |m| m.min(t.0)));
            self.time_max = Some(self.time_max.map_or(t.0, |m| m.max(t.0)));
        }
    }
}

/// The kind as manifests spell it.
const fn kind_name(kind: ManifestKind) -> &'static str {
    match kind {
        ManifestKind::Add => "add",
        ManifestKind::Inputs => "inputs",
    }
}

/// Cuts a slice into row groups of about equal size under both limits.
fn row_groups<'a, 'r>(rows: &'a [Row<'r>]) -> impl Iterator<Item = &'a [Row<'r>]> {
    let size = |r: &Row<'_>| r.columns.len() + r.original.len();
    let total: usize = rows.iter().map(size).sum();
    let groups = total.div_ceil(GROUP_BYTES).max(rows.len().div_ceil(GROUP_ROWS)).max(1);
    let (max_bytes, max_rows) = (total.div_ceil(groups), rows.len().div_ceil(groups).max(1));
    // Rows of uneven size: let the bytes decide, and the rows up to their own limit.
    let max_rows = if groups == 1 { max_rows } else { (max_rows * 2).min(GROUP_ROWS) };
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let n = rest
            .iter()
            .take(max_rows)
            .take_while(|r| {
                let fits = bytes == 0 || bytes + size(r) <= max_bytes.max(GROUP_BYTES / 2);
                bytes += size(r);
                fits
            })
            .count();
        let (group, after) = rest.split_at(n);
        rest = after;
        (!group.is_empty()).then_some(group)
    })
}

/// Rows that are turned into arrays at a time: the arrays of all columns then fit the processor's cache,
/// and their memory is used again instead of being mapped anew.
const STEP_ROWS: usize = 4096;

/// The next rows of one column of a row group, to be encoded by any thread.
struct Job {
    column: Column,
    writer: Box<ArrowColumnWriter>,
    /// None: `event_original`, read from the rows.
    array: Option<ArrayRef>,
    /// Nothing comes after them.
    last: bool,
}

/// What a job leaves.
enum Done {
    Open(Box<ArrowColumnWriter>),
    Closed(Box<ArrowColumnChunk>),
}

impl Job {
    fn run(mut self, rows: &[Row<'_>]) -> Result<(Column, Done), ParquetError> {
        let schema = schema::arrow();
        let field = schema.field(self.column.index());
        match self.array {
            Some(array) => {
                for leaf in compute_leaves(field, &array)? {
                    self.writer.write(&leaf)?;
                }
            }
            None => {
                for page in originals(rows) {
                    let page: ArrayRef = Arc::new(page);
                    for leaf in compute_leaves(field, &page)? {
                        self.writer.write(&leaf)?;
                    }
                }
            }
        }
        let done =
            if self.last { Done::Closed(Box::new(self.writer.close()?)) } else { Done::Open(self.writer) };
        Ok((self.column, done))
    }
}

/// The column chunks of a row group, in the schema's order, and the normalizers of its rows.
fn encode(
    rows: &[Row<'_>],
    added: &Added<'_>,
    writers: Vec<ArrowColumnWriter>,
    threads: usize,
) -> Result<(Vec<ArrowColumnChunk>, BTreeSet<String>), Fatal> {
    let mut columns: Vec<(Column, Done)> =
        Column::ALL.into_iter().zip(writers.into_iter().map(|w| Done::Open(Box::new(w)))).collect();
    let mut normalizers = BTreeSet::new();
    let steps = rows.len().div_ceil(STEP_ROWS);
    for (i, step) in rows.chunks(STEP_ROWS).enumerate() {
        let step = encode_step(step, added, columns, i + 1 == steps, threads)?;
        columns = step.columns;
        normalizers.extend(step.normalizers);
    }
    columns.sort_by_key(|(column, _)| *column);
    let closed = columns.into_iter().filter_map(|(_, done)| match done {
        Done::Closed(chunk) => Some(*chunk),
        // The last step closes all of them, and a row group has rows.
        Done::Open(_) => None,
    });
    Ok((closed.collect(), normalizers))
}

/// What a step leaves.
struct Step {
    columns: Vec<(Column, Done)>,
    normalizers: BTreeSet<String>,
}

fn encode_step(
    rows: &[Row<'_>],
    added: &Added<'_>,
    columns: Vec<(Column, Done)>,
    last: bool,
    threads: usize,
) -> Result<Step, Fatal> {
    let (jobs_in, jobs) = mpsc::channel::<Job>();
    let jobs = Mutex::new(jobs);
    // Threads take jobs as they get free: the original bytes are half of the work and go first.
    let work = || {
        let mut done = Vec::new();
        loop {
            // A sender that is gone ends the work; a poisoned lock means that a thread panicked, which
            // the join below reports.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            match job {
                Ok(job) => done.push(job.run(rows)?),
                Err(mpsc::RecvError) => return Ok::<_, ParquetError>(done),
            }
        }
    };
    let panicked = || ParquetError::General("a thread that encoded columns panicked".into());
    thread::scope(|scope| {
        let mut waiting = Vec::with_capacity(columns.len());
        for (column, done) in columns {
            let Done::Open(writer) = done else { continue };
            if column == Column::EventOriginal {
                // The receiver lives as long as `jobs`: sending cannot fail.
                let _ = jobs_in.send(Job { column, writer, array: None, last });
            } else {
                waiting.push((column, writer));
            }
        }
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let built = build(rows, added);
        if let Ok(Built { arrays, .. }) = &built {
            for (column, writer) in waiting {
                let array = arrays[column.index()].clone();
                let _ = jobs_in.send(Job { column, writer, array, last });
            }
        }
        drop(jobs_in);
        let mut done = work();
        for other in others {
            let theirs = other.join().unwrap_or_else(|_| Err(panicked()));
            done = done.and_then(|mut all| {
                all.extend(theirs?);
                Ok(all)
            });
        }
        let normalizers = built?.normalizers;
        let done = done.map_err(|e| from_parquet("columns of an archive object", &e))?;
        Ok(Step { columns: done, normalizers })
    })
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
