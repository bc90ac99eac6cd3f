//! What gz -> Parquet costs at least: inflate, SHA-256, and Parquet encoding of ready-made arrays.
//!
//! The arrays are those that keytrail itself wrote, read back, so both sides encode the same values with the
//! same settings; parsing, normalizing, sorting, deduplication and sealing are what the floor leaves out.

use bytes::Bytes;
use keytrail_archive::schema::{Storage, arrow, storage};
use keytrail_model::Column;
use libdeflater::Decompressor;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest, Sha256};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};

use super::{Failure, child};

/// What the floor works on.
pub struct Floor {
    /// One gzip member each.
    gzip: Vec<Vec<u8>>,
    /// Rows of each archive object.
    objects: Vec<Vec<RecordBatch>>,
}

impl Floor {
    /// Takes the inputs and reads back what they became.
    pub fn new(gzip: Vec<Vec<u8>>, objects: Vec<Vec<u8>>) -> Result<Self, Failure> {
        let read = |bytes: Vec<u8>| -> Result<Vec<RecordBatch>, Failure> {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))?;
            Ok(reader.with_batch_size(1 << 16).build()?.collect::<Result<_, _>>()?)
        };
        Ok(Self { gzip, objects: objects.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// CPU seconds of the floor, on the caller's thread.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let start = child::own_seconds()?;
        for member in &self.gzip {
            inflate(member)?;
        }
        for batches in &self.objects {
            let mut writer = ArrowWriter::try_new(Vec::new(), arrow(), Some(properties()?))?;
            for batch in batches {
                let originals = batch.column(Column::EventOriginal.index()).as_binary::<i32>();
                let digests = (0..originals.len()).map(|i| Sha256::digest(originals.value(i))[0]);
                std::hint::black_box(digests.fold(0, |a, b| a ^ b));
                writer.write(batch)?;
            }
            std::hint::black_box(writer.into_inner()?);
        }
        Ok(child::own_seconds()? - start)
    }
}

/// Inflates one gzip member, whose trailer is trusted for its size.
fn inflate(member: &[u8]) -> Result<Vec<u8>, Failure> {
    let size = member.last_chunk::<4>().ok_or("short gzip member")?;
    let mut out = vec![0; u32::from_le_bytes(*size) as usize];
    let len = Decompressor::new().gzip_decompress(member, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// The archive's settings, said again: a mistake there shows as a better ratio here, or a worse one.
fn properties() -> Result<WriterProperties, Failure> {
    let zstd = |level| ZstdLevel::try_new(level).map(Compression::ZSTD);
    let mut b = WriterProperties::builder()
        .set_compression(zstd(3)?)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in Column::ALL {
        if matches!(storage(column), Storage::Unique | Storage::Original) {
            let path = ColumnPath::from(column.name());
            b = b
                .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::PLAIN)
                .set_column_compression(path, zstd(1)?);
        }
    }
    Ok(b.build())
}
