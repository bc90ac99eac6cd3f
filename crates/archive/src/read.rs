//! Reading an archive object: rows in file order, a batch at a time, as the row encoding has them.
//!
//! What is read may be hostile: an object can be rewritten and signed again by who holds the key, so
//! neither its footer nor its pages are believed. The schema must be exactly [`crate::schema::arrow`],
//! statistics are used by [`Selection::Time`] alone, and a panic inside the decoder is caught at this
//! module's boundary and told as damage (`parquet` checks much, but indexes and asserts on the way; this
//! needs `panic = "unwind"`). Whoever can should compare the object's SHA-256 with its manifest first.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use bytes::Bytes;
use keytrail_model::row::encode;
use keytrail_model::{Column, Fatal, Hash, Kind, SCHEMA_VERSION, Timestamp, Uid, event::Value};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    RowSelection, RowSelector,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;

use crate::error::{from_io, io_cause};
use crate::read_at::ReadAt;
use crate::schema;

/// Rows of a batch at most.
const BATCH_ROWS: u64 = 2048;

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
}

impl ObjectReader {
    /// Reads the footer and checks the schema.
    pub fn open(source: Arc<dyn ReadAt>) -> Result<Self, ReadError> {
        let size = source.size().map_err(|e| ReadError::Io(from_io("archive object", &e)))?;
        let source = Source { inner: source, size };
        guarded(|| {
            let metadata = load(&source, PageIndexPolicy::Skip)?;
            check_schema(&metadata)?;
            Ok(Self { source, metadata })
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
                Selection::Time { from, to } => may_hold(group, from, to),
                Selection::Row(n) => (first..first.saturating_add(rows)).contains(&n),
            };
            if wanted {
                groups.push((i, first));
            }
            first = first.saturating_add(rows);
        }
        let mask = ProjectionMask::roots(
            self.metadata.parquet_schema(),
            Column::ALL.into_iter().filter(|c| projection.has(*c)).map(Column::index),
        );
        Batches {
            object: self,
            originals: projection.has(Column::EventOriginal),
            mask,
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

    fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.metadata().row_groups()
    }
}

/// Batches of an object's rows.
pub struct Batches<'a> {
    object: &'a ObjectReader,
    mask: ProjectionMask,
    originals: bool,
    row: Option<u64>,
    groups: std::vec::IntoIter<(usize, u64)>,
    open: Option<Group>,
}

struct Group {
    reader: ParquetRecordBatchReader,
    /// Number of the next row.
    next: u64,
    /// Rows that are still to come.
    left: u64,
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
            if let Some(group) = &mut self.open {
                if let Some(batch) = group.reader.next() {
                    let batch = batch.map_err(|e| ReadError::Damaged(format!("row {}: {e}", group.next)))?;
                    let rows = batch.num_rows() as u64;
                    let first = group.next;
                    group.next = group.next.saturating_add(rows);
                    group.left = group.left.checked_sub(rows).ok_or_else(|| {
                        ReadError::Damaged(format!("row {first}: more rows than the footer tells of"))
                    })?;
                    return Batch::new(first, &batch).map(Some);
                }
                if group.left > 0 {
                    return Err(ReadError::Damaged(format!(
                        "row {}: {} rows fewer than the footer tells of",
                        group.next, group.left
                    )));
                }
                self.open = None;
            }
            let Some((index, first)) = self.groups.next() else { return Ok(None) };
            self.open = Some(self.open_group(index, first)?);
        }
    }

    fn open_group(&self, index: usize, first: u64) -> Result<Group, ReadError> {
        let object = self.object;
        let group = object.metadata.metadata().row_group(index);
        let rows = rows_of(group);
        let mut batch_rows = BATCH_ROWS.min(rows.max(1));
        if self.originals {
            let bytes = u64::try_from(group.column(Column::EventOriginal.index()).uncompressed_size());
            let mean = bytes.unwrap_or(0) / rows.max(1) + 1;
            batch_rows = batch_rows.min(BATCH_BYTES / mean).max(1);
        }
        // Only a single row is worth the reading of where pages lie.
        let metadata = match self.row {
            Some(_) => load(&object.source, PageIndexPolicy::Optional)?,
            None => object.metadata.clone(),
        };
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(object.source.clone(), metadata)
            .with_row_groups(vec![index])
            .with_projection(self.mask.clone())
            // At most BATCH_ROWS.
            .with_batch_size(batch_rows as usize);
        let (mut next, mut left) = (first, rows);
        if let Some(row) = self.row {
            let before = usize::try_from(row - first)
                .map_err(|_| ReadError::Damaged(format!("row {row} is beyond what can be read")))?;
            builder = builder.with_row_selection(RowSelection::from(vec![
                RowSelector::skip(before),
                RowSelector::select(1),
            ]));
            (next, left) = (row, 1);
        }
        Ok(Group { reader: builder.build().map_err(damaged)?, next, left })
    }
}

/// A row as the archive has it. What was not projected is `None` or missing from `columns`.
#[derive(Clone, Copy, Debug)]
pub struct StoredRow<'a> {
    /// Place in the object, from 0.
    pub number: u64,
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`.
    pub hash: Option<Hash>,
    /// `timestamp`.
    pub time: Option<Timestamp>,
    /// `keytrail_group`.
    pub group: Option<u64>,
    /// `event_ingested`.
    pub ingested: Option<Timestamp>,
    /// `keytrail_input`.
    pub input: Option<&'a str>,
    /// The derived columns in the row encoding: what [`keytrail_model::row::digest`] takes.
    pub columns: &'a [u8],
    /// `event_original`; `None` also where it is withheld.
    pub original: Option<&'a [u8]>,
}

/// Some rows of an object, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    first: u64,
    uids: Vec<Uid>,
    hashes: Option<Vec<Hash>>,
    times: Option<TimestampMicrosecondArray>,
    groups: Option<Int64Array>,
    ingested: Option<TimestampMicrosecondArray>,
    inputs: Option<StringArray>,
    originals: Option<BinaryArray>,
    encoded: Vec<u8>,
    /// End of each row in `encoded`.
    ends: Vec<usize>,
}

impl Batch {
    fn new(first: u64, batch: &RecordBatch) -> Result<Self, ReadError> {
        let mut out = Self {
            first,
            uids: Vec::new(),
            hashes: None,
            times: None,
            groups: None,
            ingested: None,
            inputs: None,
            originals: None,
            encoded: Vec::new(),
            ends: Vec::with_capacity(batch.num_rows()),
        };
        let mut derived = Vec::with_capacity(batch.num_columns());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some(column) = Column::by_name(field.name()) else {
                return Err(ReadError::Damaged(format!("column `{}` is not known", field.name())));
            };
            match column {
                Column::KeytrailUid => {
                    out.uids = texts(first, column, array.as_string(), Uid::from_hex)?;
                }
                Column::EventHash => {
                    out.hashes = Some(texts(first, column, array.as_string(), Hash::from_hex)?);
                }
                Column::EventOriginal => out.originals = Some(array.as_binary().clone()),
                Column::EventIngested => out.ingested = Some(array.as_primitive().clone()),
                Column::KeytrailInput => out.inputs = Some(array.as_string().clone()),
                Column::KeytrailGroup => out.groups = Some(array.as_primitive().clone()),
                _ if array.null_count() == array.len() => {}
                _ => derived.push((column, Typed::new(column.kind(), array))),
            }
            if column == Column::Timestamp {
                out.times = Some(array.as_primitive().clone());
            }
        }
        let mut items = Vec::new();
        for row in 0..batch.num_rows() {
            for (column, values) in &derived {
                values.encode(*column, row, &mut items, &mut out.encoded);
            }
            out.ends.push(out.encoded.len());
        }
        Ok(out)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = StoredRow<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    fn row(&self, i: usize) -> StoredRow<'_> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        let time = |a: &Option<TimestampMicrosecondArray>| {
            a.as_ref().filter(|a| a.is_valid(i)).map(|a| Timestamp(a.value(i)))
        };
        StoredRow {
            number: self.first.saturating_add(i as u64),
            uid: self.uids[i],
            hash: self.hashes.as_ref().map(|h| h[i]),
            time: time(&self.times),
            group: self.groups.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i).cast_unsigned()),
            ingested: time(&self.ingested),
            input: self.inputs.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
            columns: &self.encoded[start..self.ends[i]],
            original: self.originals.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
        }
    }
}

/// A column's values under their type.
enum Typed<'a> {
    Text(&'a StringArray),
    Int(&'a Int64Array),
    Bool(&'a BooleanArray),
    Time(&'a TimestampMicrosecondArray),
    List(&'a ListArray, &'a StringArray),
}

impl<'a> Typed<'a> {
    /// The schema was checked: arrays have the type of their column.
    fn new(kind: Kind, array: &'a dyn Array) -> Self {
        match kind {
            Kind::Text | Kind::Binary => Self::Text(array.as_string()),
            Kind::Int => Self::Int(array.as_primitive::<Int64Type>()),
            Kind::Bool => Self::Bool(array.as_boolean()),
            Kind::Time => Self::Time(array.as_primitive::<TimestampMicrosecondType>()),
            Kind::List => {
                let list = array.as_list::<i32>();
                Self::List(list, list.values().as_string())
            }
        }
    }

    fn encode(
        &self,
        column: Column,
        row: usize,
        items: &mut Vec<std::borrow::Cow<'a, str>>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Text(a) if a.is_valid(row) => encode(out, column, &Value::Text(a.value(row).into())),
            Self::Int(a) if a.is_valid(row) => encode(out, column, &Value::Int(a.value(row))),
            Self::Bool(a) if a.is_valid(row) => encode(out, column, &Value::Bool(a.value(row))),
            Self::Time(a) if a.is_valid(row) => {
                encode(out, column, &Value::Time(Timestamp(a.value(row))));
            }
            Self::List(list, values) if list.is_valid(row) => {
                let offsets = list.value_offsets();
                // Offsets of a list array are not negative.
                for i in offsets[row] as usize..offsets[row + 1] as usize {
                    items.push(values.value(i).into());
                }
                let value = Value::List(std::mem::take(items));
                encode(out, column, &value);
                if let Value::List(list) = value {
                    *items = list;
                    items.clear();
                }
            }
            _ => {}
        }
    }
}

fn texts<T>(
    first: u64,
    column: Column,
    array: &StringArray,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ReadError> {
    let mut out = Vec::with_capacity(array.len());
    for i in 0..array.len() {
        let value = if array.is_valid(i) { parse(array.value(i)) } else { None };
        out.push(value.ok_or_else(|| {
            ReadError::Damaged(format!(
                "row {}: `{}` is not in lower-case hex digits of its length",
                first.saturating_add(i as u64),
                column.name()
            ))
        })?);
    }
    Ok(out)
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Whether a row group may hold times of the range. Rows without a time are in no range.
fn may_hold(group: &RowGroupMetaData, from: Timestamp, to: Timestamp) -> bool {
    match group.column(Column::Timestamp.index()).statistics() {
        Some(Statistics::Int64(s)) => {
            s.min_opt().is_none_or(|min| *min < to.0) && s.max_opt().is_none_or(|max| *max >= from.0)
        }
        _ => true,
    }
}

fn load(source: &Source, pages: PageIndexPolicy) -> Result<ArrowReaderMetadata, ReadError> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_page_index_policy(pages);
    ArrowReaderMetadata::load(source, options).map_err(damaged)
}

fn check_schema(metadata: &ArrowReaderMetadata) -> Result<(), ReadError> {
    let file = metadata.metadata().file_metadata();
    let version = file
        .key_value_metadata()
        .and_then(|all| all.iter().find(|kv| kv.key == schema::SCHEMA_KEY))
        .and_then(|kv| kv.value.as_deref());
    if version != Some(SCHEMA_VERSION.to_string().as_str()) {
        return Err(ReadError::Damaged(format!(
            "`{}` of the footer is `{}`, expected `{SCHEMA_VERSION}`",
            schema::SCHEMA_KEY,
            version.unwrap_or("missing").escape_debug()
        )));
    }
    let expected = schema::arrow();
    let found = metadata.schema().fields();
    if let Some(field) =
        expected.fields().iter().enumerate().find_map(|(i, f)| (found.get(i) != Some(f)).then_some(f))
    {
        return Err(ReadError::Damaged(format!(
            "the columns are not those of schema {SCHEMA_VERSION}: `{}` is missing, out of place or of another type",
            field.name()
        )));
    }
    if found.len() != expected.fields().len() {
        return Err(ReadError::Damaged(format!(
            "the columns are not those of schema {SCHEMA_VERSION}: {} columns, expected {}",
            found.len(),
            expected.fields().len()
        )));
    }
    Ok(())
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
struct Source {
    inner: Arc<dyn ReadAt>,
    size: u64,
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Source {
    type T = BufReader<Tail>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Tail { source: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // Checked before anything is allocated: the length comes from the file.
        if start.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} are beyond the object's end at {}",
                self.size
            )));
        }
        let mut buf = vec![0; length];
        self.inner.read_at(start, &mut buf)?;
        Ok(buf.into())
    }
}

/// The rest of an object from some place on.
struct Tail {
    source: Source,
    at: u64,
}

impl Read for Tail {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.source.size.saturating_sub(self.at);
        let n = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.source.inner.read_at(self.at, &mut buf[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}
