//! What gz -> Parquet costs at least: inflate, SHA-256, and Parquet encoding of ready-made arrays.
//!
//! In: gzip files of one member, and the archive objects (`*.parquet`) that keytrail made of them. Out, on
//! stdout: CPU seconds of one thread. Both sides encode the same values with the same settings; parsing,
//! normalizing, sorting, deduplication and sealing are what the floor leaves out. `tests/bench` runs it.

use std::error::Error;
use std::fs;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
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

fn main() -> Result<(), Box<dyn Error>> {
    let mut seconds = 0.0;
    for path in std::env::args_os().skip(1) {
        let bytes = fs::read(&path)?;
        if path.as_encoded_bytes().ends_with(b".parquet") {
            // The same row groups: each has dictionaries of its own. One at a time, so memory stays bounded.
            let bytes = Bytes::from(bytes);
            let groups = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?.metadata().num_row_groups();
            for group in 0..groups {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
                let reader = reader.with_row_groups(vec![group]).with_batch_size(1024).build()?;
                let batches = reader.collect::<Result<Vec<_>, _>>()?;
                let start = cpu_seconds()?;
                encode(&batches)?;
                seconds += cpu_seconds()? - start;
            }
        } else {
            let start = cpu_seconds()?;
            std::hint::black_box(inflate(&bytes)?);
            seconds += cpu_seconds()? - start;
        }
    }
    println!("{seconds:.2}");
    Ok(())
}

/// User and system time of this process so far (`utime` and `stime` of proc_pid_stat(5), ticks of 10 ms).
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name is the only field with spaces; it stands in parentheses.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let mut ticks = || -> Result<f64, Box<dyn Error>> { Ok(fields.next().ok_or("short stat")?.parse()?) };
    Ok((ticks()? + ticks()?) / 100.0)
}

/// Inflates one gzip member, whose trailer is trusted for its size.
fn inflate(member: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let size = member.last_chunk::<4>().ok_or("short gzip member")?;
    let mut out = vec![0; u32::from_le_bytes(*size) as usize];
    let len = Decompressor::new().gzip_decompress(member, &mut out)?;
    out.truncate(len);
    Ok(out)
}

fn encode(batches: &[RecordBatch]) -> Result<(), Box<dyn Error>> {
    let mut writer = ArrowWriter::try_new(Vec::new(), arrow(), Some(properties()?))?;
    for batch in batches {
        let originals = batch.column(Column::EventOriginal.index()).as_binary::<i32>();
        let digests = (0..originals.len()).map(|i| Sha256::digest(originals.value(i))[0]);
        std::hint::black_box(digests.fold(0, |a, b| a ^ b));
        writer.write(batch)?;
    }
    std::hint::black_box(writer.into_inner()?);
    Ok(())
}

/// The archive's settings, said again: a mistake there shows as a better ratio here, or a worse one.
fn properties() -> Result<WriterProperties, Box<dyn Error>> {
    let zstd = |level| ZstdLevel::try_new(level).map(Compression::ZSTD);
    let mut b = WriterProperties::builder()
        .set_compression(zstd(3)?)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_size_limit(1 << 18);
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
