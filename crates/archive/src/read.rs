//! Reading an archive object: rows in file order, a batch at a time, as the row encoding has them.
//!
//! What is read may be hostile: an object can be rewritten and signed again by who holds the key, so
//! neither its footer nor its pages are believed. The schema must be exactly that of its version
//! ([`crate::schema::columns`]; what an older one lacks has no value), statistics are used by
//! [`Selection::Time`] and [`crate::census()`] alone, and a panic inside the decoder is caught at this module's
//! boundary and told as damage (`parquet` checks much, but indexes and asserts on the way; this needs
//! `panic = "unwind"`). Whoever can should compare the object's SHA-256 with its manifest first.

use std::fmt;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use keytrail_model::{Column, Fatal, SCHEMA_VERSION, Timestamp, Uid};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetStatisticsPolicy, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

pub use crate::batch::{Batch, Leaf, StoredRow};
use crate::decode::ColumnReader;
use crate::error::{from_io, io_cause};
use crate::pages::{Budget, GroupPages};
use crate::read_at::ReadAt;
use crate::schema;

/// Rows of a batch at most.
const BATCH_ROWS: u64 = 2000;

/// Original bytes of a batch that are aimed at; a row group's own size bounds what uneven rows make of it.
const BATCH_BYTES: u64 = 4 << 20;

/// Why an object could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The store below failed: nothing is known of the object.
    Io(Fatal),
    /// The object is no archive object, or a damaged one.
    Damaged(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Damaged(m) => f.write_str(m),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<ReadError> for Fatal {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Io(e) => e,
            ReadError::Damaged(m) => Self::new("Fatal.ArchiveDamaged", m),
        }
    }
}

/// Which columns are read; the uid always is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Projection {
    /// All of them.
    All,
    /// All but enrichment: what roots, identity and provenance are of.
    Bound,
    /// These.
    Columns(Vec<Column>),
}

impl Projection {
    /// What a [`crate::UidIndex`] is made of.
    pub fn index() -> Self {
        Self::Columns(vec![Column::KeytrailGroup])
    }

    fn has(&self, column: Column) -> bool {
        column == Column::KeytrailUid
            || match self {
                Self::All => true,
                Self::Bound => !column.enriched(),
                Self::Columns(list) => list.contains(&column),
            }
    }
}

/// Which rows are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Selection {
    /// All of them.
    All,
    /// At least those with `from <= time < to`: row groups whose statistics exclude the range are left
    /// out, and nothing else is.
    Time {
        /// First microsecond.
        from: Timestamp,
        /// Behind the last microsecond.
        to: Timestamp,
    },
    /// The row of that number, counted from 0.
    Row(u64),
}

/// An open archive object.
#[derive(Clone)]
pub struct ObjectReader {
    source: Source,
    metadata: ArrowReaderMetadata,
    /// In the order of the file.
    columns: Arc<[Column]>,
}

impl ObjectReader {
    /// Reads the footer and checks the schema.
    pub fn open(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let size = source.size().map_err(|e| ReadError::Io(from_io("archive object", &e)))?;
        Self::of(Source { bytes: Stored::Elsewhere(source), size })
    }

    /// As [`open`](Self::open), of an object that is in memory.
    pub fn in_memory(object: Vec<u8>) -> Result<Self, ReadError> {
        Self::of(Source { size: object.len() as u64, bytes: Stored::InMemory(object.into()) })
    }

    fn of(source: Source) -> Result<Self, ReadError> {
        Self::checked(source, check_schema)
    }

    fn checked(
        source: Source,
        columns: impl FnOnce(&ArrowReaderMetadata) -> Checked,
    ) -> Result<Self, ReadError> {
        guarded(|| {
            let mut metadata = load(&source, PageIndexPolicy::Skip, &Column::ALL)?;
            let columns: Arc<[Column]> = columns(&metadata)?.into();
            if *columns != Column::ALL {
                // Of an older version: the statistics that are wanted lie elsewhere.
                metadata = load(&source, PageIndexPolicy::Skip, &columns)?;
            }
            Ok(Self { source, metadata, columns })
        })
    }

    /// Rows that the footer tells of.
    pub fn count(&self) -> u64 {
        self.groups().iter().map(rows_of).fold(0, u64::saturating_add)
    }

    /// Row groups.
    pub fn row_groups(&self) -> usize {
        self.groups().len()
    }

    /// The selected rows in file order, batch by batch. After an error there is nothing more.
    pub fn batches(&self, projection: &Projection, selection: Selection) -> Batches<'_> {
        let mut groups = Vec::new();
        let mut first = 0u64;
        for (i, group) in self.groups().iter().enumerate() {
            let rows = rows_of(group);
            let wanted = match selection {
                Selection::All => true,
                Selection::Time { from, to } => may_hold(group, self.place(Column::Timestamp), from, to),
                Selection::Row(n) => (first..first.saturating_add(rows)).contains(&n),
            };
            if wanted {
                groups.push((i, first));
            }
            first = first.saturating_add(rows);
        }
        Batches {
            object: self,
            columns: self.columns.iter().copied().filter(|c| projection.has(*c)).collect(),
            row: if let Selection::Row(n) = selection { Some(n) } else { None },
            groups: groups.into_iter(),
            open: None,
        }
    }

    /// The number of the row with that uid; the first one, where an object that keytrail did not write
    /// has more.
    pub fn find(&self, uid: &Uid) -> Result<Option<u64>, ReadError> {
        for batch in self.batches(&Projection::Columns(Vec::new()), Selection::All) {
            let batch = batch?;
            if let Some(row) = batch.rows().find(|r| r.uid == *uid) {
                return Ok(Some(row.number));
            }
        }
        Ok(None)
    }

    pub(crate) fn place(&self, column: Column) -> usize {
        place(&self.columns, column)
    }

    pub(crate) fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.metadata().row_groups()
    }
}

/// Batches of an object's rows.
pub struct Batches<'a> {
    object: &'a ObjectReader,
    columns: Vec<Column>,
    row: Option<u64>,
    groups: std::vec::IntoIter<(usize, u64)>,
    open: Option<Group>,
}

struct Group {
    columns: Vec<(Column, ColumnReader)>,
    budget: Budget,
    /// Number of the next row.
    next: u64,
    /// Rows that are still to come.
    left: u64,
    /// Rows of a batch at most.
    batch_rows: u64,
    /// Whether the last row is that of the row group.
    to_end: bool,
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = guarded(|| self.advance()).transpose();
        if matches!(item, Some(Err(_))) {
            self.groups = Vec::new().into_iter();
            self.open = None;
        }
        item
    }
}

impl Batches<'_> {
    fn advance(&mut self) -> Result<Option<Batch>, ReadError> {
        loop {
            if let Some(mut group) = self.open.take() {
                if group.left > 0 {
                    let batch = group.batch()?;
                    self.open = Some(group);
                    return Ok(Some(batch));
                }
                group.finish()?;
            }
            let Some((index, first)) = self.groups.next() else { return Ok(None) };
            self.open = Some(self.open_group(index, first)?);
        }
    }

    fn open_group(&mut self, index: usize, first: u64) -> Result<Group, ReadError> {
        let object = self.object;
        let group = object.metadata.metadata().row_group(index);
        let rows = rows_of(group);
        let mut batch_rows = BATCH_ROWS.min(rows.max(1));
        if self.columns.contains(&Column::EventOriginal) {
            let bytes = u64::try_from(group.column(object.place(Column::EventOriginal)).uncompressed_size());
            let mean = bytes.unwrap_or(0) / rows.max(1) + 1;
            batch_rows = batch_rows.min(BATCH_BYTES / mean).max(1);
        }
        // Only a single row is worth the reading of where pages lie.
        let metadata = match self.row {
            Some(_) => load(&object.source, PageIndexPolicy::Optional, &object.columns)?,
            None => object.metadata.clone(),
        };
        let budget = Budget::default();
        let pages = GroupPages {
            source: object.source.clone(),
            metadata: metadata.metadata().clone(),
            group: index,
            budget: budget.clone(),
        };
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let place = object.place(*column);
            let reader = pages.column(place).and_then(|pages| {
                ColumnReader::new(*column, &object.metadata.parquet_schema().column(place), pages)
            });
            columns.push((*column, reader.map_err(|e| of_column(first, *column, e))?));
        }
        let mut group = Group { columns, budget, next: first, left: rows, batch_rows, to_end: true };
        if let Some(row) = self.row {
            group.skip_to(row)?;
            (group.left, group.to_end) = (1, false);
        }
        Ok(group)
    }
}

impl Group {
    fn batch(&mut self) -> Result<Batch, ReadError> {
        self.budget.reset();
        let (first, rows) = (self.next, self.left.min(self.batch_rows));
        let mut columns = Vec::with_capacity(self.columns.len());
        for (column, reader) in &mut self.columns {
            // At most BATCH_ROWS.
            let values = reader.read(rows as usize).map_err(|e| of_column(first, *column, e))?;
            columns.push((*column, values));
        }
        self.next = first.saturating_add(rows);
        self.left -= rows;
        Batch::new(first, columns)
    }

    fn skip_to(&mut self, row: u64) -> Result<(), ReadError> {
        let before = usize::try_from(row - self.next)
            .map_err(|_| ReadError::Damaged(format!("row {row} is beyond what can be read")))?;
        for (column, reader) in &mut self.columns {
            reader.skip(before).map_err(|e| of_column(row, *column, e))?;
        }
        self.next = row;
        Ok(())
    }

    /// There must be no more than was read.
    fn finish(mut self) -> Result<(), ReadError> {
        let columns = if self.to_end { std::mem::take(&mut self.columns) } else { Vec::new() };
        for (column, mut reader) in columns {
            if !reader.is_at_end().map_err(|e| of_column(self.next, column, e))? {
                let more = ParquetError::General("more rows than the footer tells of".into());
                return Err(of_column(self.next, column, more));
            }
        }
        Ok(())
    }
}

/// What could not be read of a column.
fn of_column(row: u64, column: Column, error: ParquetError) -> ReadError {
    match damaged(error) {
        ReadError::Damaged(message) => {
            ReadError::Damaged(format!("row {row}: `{}`: {message}", column.name()))
        }
        failed => failed,
    }
}

pub(crate) fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Whether a row group may hold times of the range. Rows without a time are in no range.
fn may_hold(group: &RowGroupMetaData, time: usize, from: Timestamp, to: Timestamp) -> bool {
    match group.column(time).statistics() {
        Some(Statistics::Int64(s)) => {
            s.min_opt().is_none_or(|min| *min < to.0) && s.max_opt().is_none_or(|max| *max >= from.0)
        }
        _ => true,
    }
}

/// Columns whose statistics are used.
const WITH_STATISTICS: [Column; 3] = [Column::EventIngested, Column::KeytrailSource, Column::Timestamp];

/// Reads the footer of a file with these columns.
fn load(
    source: &Source,
    pages: PageIndexPolicy,
    columns: &[Column],
) -> Result<ArrowReaderMetadata, ReadError> {
    let with_statistics = WITH_STATISTICS.map(|column| place(columns, column));
    let options = ArrowReaderOptions::new()
        .with_skip_arrow_metadata(true)
        .with_page_index_policy(pages)
        // No others are used, and an object of a few rows is mostly footer.
        .with_column_stats_policy(ParquetStatisticsPolicy::skip_except(&with_statistics))
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    ArrowReaderMetadata::load(source, options).map_err(damaged)
}

/// Where a column is in a file that has it.
fn place(columns: &[Column], column: Column) -> usize {
    columns.binary_search(&column).unwrap_or(columns.len())
}

/// The columns of a file that are right.
type Checked = Result<Vec<Column>, ReadError>;

/// The columns, which have to be those of the version that the footer names.
fn check_schema(metadata: &ArrowReaderMetadata) -> Checked {
    let file = metadata.metadata().file_metadata();
    let named = file
        .key_value_metadata()
        .and_then(|all| all.iter().find(|kv| kv.key == schema::SCHEMA_KEY))
        .and_then(|kv| kv.value.as_deref())
        .unwrap_or("missing");
    // One spelling of each number.
    let version: Option<i64> = named.parse().ok().filter(|n: &i64| n.to_string() == named);
    let Some((version, columns)) = version.and_then(|v| Some((v, schema::columns(v)?))) else {
        let versions =
            if SCHEMA_VERSION == 1 { "`1`".to_owned() } else { format!("`1` to `{SCHEMA_VERSION}`") };
        return Err(ReadError::Damaged(format!(
            "`{}` of the footer is `{}`, expected {versions}",
            schema::SCHEMA_KEY,
            named.escape_debug()
        )));
    };
    check_columns(metadata, version, columns)
}

fn check_columns(metadata: &ArrowReaderMetadata, version: i64, columns: Vec<Column>) -> Checked {
    let arrow = schema::arrow();
    let found = metadata.schema().fields();
    for (i, column) in columns.iter().enumerate() {
        if found.get(i).is_none_or(|f| **f != *arrow.field(column.index())) {
            return Err(ReadError::Damaged(format!(
                "the columns are not those of schema {version}: `{}` is missing, out of place or of another type",
                column.name()
            )));
        }
    }
    if found.len() != columns.len() {
        return Err(ReadError::Damaged(format!(
            "the columns are not those of schema {version}: {} columns, expected {}",
            found.len(),
            columns.len()
        )));
    }
    Ok(columns)
}

fn damaged(error: ParquetError) -> ReadError {
    match io_cause(&error) {
        Some(e) if e.kind() != io::ErrorKind::UnexpectedEof => ReadError::Io(from_io("archive object", e)),
        _ => ReadError::Damaged(error.to_string()),
    }
}

fn guarded<T>(read: impl FnOnce() -> Result<T, ReadError>) -> Result<T, ReadError> {
    // What the closure leaves behind after a panic is dropped by its callers, never read.
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(ReadError::Damaged("the decoder failed on what the object holds".into())))
}

/// The object's bytes as `parquet` reads them.
#[derive(Clone)]
pub(crate) struct Source {
    bytes: Stored,
    size: u64,
}

#[derive(Clone)]
enum Stored {
    InMemory(Bytes),
    Elsewhere(Arc<dyn ReadAt>),
}

impl Source {
    /// `len` bytes from `start` on: lent where they are in memory, else read into what `buf` gives.
    pub fn read(&self, start: u64, len: usize, buf: impl FnOnce() -> BytesMut) -> io::Result<Bytes> {
        // Checked before anything is allocated: the length comes from the file.
        if start.checked_add(len as u64).is_none_or(|end| end > self.size) {
            let what = format!("{len} bytes at {start} are beyond the object's end at {}", self.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        match &self.bytes {
            // Within its size, so it fits.
            Stored::InMemory(bytes) => Ok(bytes.slice(start as usize..start as usize + len)),
            Stored::Elsewhere(source) => {
                let mut buf = buf();
                buf.resize(len, 0);
                source.read_at(start, &mut buf)?;
                Ok(buf.freeze())
            }
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Source {
    type T = Tail;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(Tail { held: Bytes::new(), source: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.read(start, length, BytesMut::new).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => ParquetError::EOF(e.to_string()),
            _ => e.into(),
        })
    }
}

/// The object from some place on: what is held of it, then what is read.
pub(crate) struct Tail {
    pub held: Bytes,
    pub source: Source,
    /// Where what is held ends.
    pub at: u64,
}

/// Bytes that a [`Tail`] reads at once.
const TAIL_BYTES: u64 = 8 << 10;

impl Read for Tail {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.held.is_empty() {
            let len = TAIL_BYTES.min(self.source.size.saturating_sub(self.at)) as usize;
            self.held = self.source.read(self.at, len, BytesMut::new)?;
            self.at += len as u64;
        }
        let n = buf.len().min(self.held.len());
        self.held.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
