//! The Parquet schema of an archive object: all of [`Column::ALL`], in that order, in every file.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use keytrail_model::{Column, Kind, SCHEMA_VERSION};
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

/// Key of the file's metadata that holds [`SCHEMA_VERSION`].
pub const SCHEMA_KEY: &str = "keytrail.schema";

/// `created_by` of the file's metadata.
pub const CREATED_BY: &str = "keytrail";

/// Bytes that a minimum or maximum of a text takes at most: values of 16 MB must not grow the footer.
pub(crate) const STATISTICS_BYTES: usize = 48;

/// Uncompressed bytes of a data page, checked every [`WRITE_BATCH_ROWS`] rows.
pub(crate) const PAGE_BYTES: usize = 1 << 18;
const WRITE_BATCH_ROWS: usize = 1024;

/// Where the time goes: original bytes are 1.4 times cheaper at level 1 for 2 % more of them.
const LEVEL: i32 = 3;
const LEVEL_ORIGINAL: i32 = 1;

/// Columns that came after the first version: the version, and what it added. Columns are only added: an
/// object of an older version has fewer, and reads as one whose rows have no value there.
pub const ADDED: &[(i64, &[Column])] = &[];

/// The columns of an object of that version, in the order of the file; `None`: this is not a version that was.
pub fn columns(version: i64) -> Option<Vec<Column>> {
    let later = |c: &Column| ADDED.iter().any(|(added, columns)| *added > version && columns.contains(c));
    (1..=SCHEMA_VERSION).contains(&version).then(|| Column::ALL.into_iter().filter(|c| !later(c)).collect())
}

/// The Arrow schema. Every column may be null; items of lists may not.
pub fn arrow() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields = Column::ALL.map(|c| Field::new(c.name(), data_type(c.kind()), true));
        Arc::new(Schema::new(fields.to_vec()))
    });
    Arc::clone(&SCHEMA)
}

/// The Arrow type of a kind of column.
pub fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8,
        Kind::Int => DataType::Int64,
        Kind::Bool => DataType::Boolean,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::List => DataType::List(item()),
        Kind::Binary => DataType::Binary,
    }
}

/// The field of a list's items; `element` is the name that the Parquet format gives it.
pub(crate) fn item() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

/// The Parquet schema, root `keytrail`.
pub(crate) fn parquet() -> Result<SchemaDescriptor, ParquetError> {
    ArrowSchemaConverter::new().schema_root("keytrail").convert(&arrow())
}

/// How a column is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// Dictionary, zstd level 3, minimum and maximum of each row group.
    Repeating,
    /// As `Repeating`, with minimum and maximum of each page too: readers prune by it.
    Pruning,
    /// No dictionary, zstd level 1, no statistics: nearly every value is one of a kind.
    Unique,
    /// No dictionary, zstd level 1, no statistics, pages of about 256 KiB: one row costs no more to read.
    Original,
}

/// How a column is stored.
pub const fn storage(column: Column) -> Storage {
    match column {
        Column::Timestamp => Storage::Pruning,
        Column::EventOriginal => Storage::Original,
        Column::EventHash
        | Column::EventId
        | Column::KeytrailGroup
        | Column::KeytrailInput
        | Column::KeytrailOperationId
        | Column::KeytrailUid
        | Column::KeytrailLedgerEnvelope
        | Column::KeytrailLedgerLeafHash
        | Column::KeytrailLedgerPrev => Storage::Unique,
        _ => Storage::Repeating,
    }
}

/// The level of zstd that a column is compressed with.
pub(crate) const fn level(storage: Storage) -> i32 {
    match storage {
        Storage::Repeating | Storage::Pruning => LEVEL,
        Storage::Unique | Storage::Original => LEVEL_ORIGINAL,
    }
}

/// The settings of the file, and of the columns that `parquet` writes: [`crate::chunk`] writes the others.
pub(crate) fn properties() -> Result<Arc<WriterProperties>, ParquetError> {
    let zstd = |level| ZstdLevel::try_new(level).map(Compression::ZSTD);
    let sorting =
        |c: Column| SortingColumn { column_idx: c.index() as i32, descending: false, nulls_first: false };
    let mut b = WriterProperties::builder()
        .set_created_by(CREATED_BY.into())
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.into(), SCHEMA_VERSION.to_string())]))
        .set_sorting_columns(Some(vec![sorting(Column::Timestamp), sorting(Column::KeytrailUid)]))
        .set_compression(zstd(LEVEL)?)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(STATISTICS_BYTES))
        .set_column_index_truncate_length(Some(STATISTICS_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_write_batch_size(WRITE_BATCH_ROWS);
    for column in Column::ALL {
        let path = ColumnPath::from(column.name());
        match storage(column) {
            Storage::Repeating => {}
            Storage::Pruning => b = b.set_column_statistics_enabled(path, EnabledStatistics::Page),
            Storage::Unique | Storage::Original => {
                b = b
                    .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path.clone(), Encoding::PLAIN)
                    .set_column_compression(path, zstd(LEVEL_ORIGINAL)?);
            }
        }
    }
    Ok(Arc::new(b.build()))
}
