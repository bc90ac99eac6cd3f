//! Ranged reads of archive objects, for DataFusion's Parquet scan.
//!
//! What it is: the one place where a statement reads bytes, and counts them. The end of an object is read first
//! and kept: it holds the footer, and of a small object everything. In: an [`Archive`]. Out: bytes, metadata.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use datafusion::parquet::file::reader::{ChunkReader, Length};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use keytrail_archive::ReadAt;

use crate::object::Archive;

/// Bytes at the end of an object that are read at once.
const TAIL_BYTES: u64 = 64 << 10;

/// The number of an object in its archive, as a file of a scan carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number(pub usize);

/// Makes readers of an archive's objects.
#[derive(Debug)]
pub(crate) struct Readers(pub Arc<Archive>);

impl ParquetFileReaderFactory for Readers {
    fn create_reader(
        &self,
        _partition: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let number = file.extension::<Number>().copied();
        let Number(number) =
            number.ok_or_else(|| DataFusionError::Internal("a file without a number".into()))?;
        Ok(Box::new(Reader { archive: Arc::clone(&self.0), number, opened: None }))
    }
}

/// Reads an object.
struct Reader {
    archive: Arc<Archive>,
    number: usize,
    opened: Option<Opened>,
}

/// An object that was opened, and its end.
#[derive(Clone)]
struct Opened {
    archive: Arc<Archive>,
    number: usize,
    blob: Arc<dyn ReadAt>,
    size: u64,
    tail: Bytes,
}

impl Reader {
    fn opened(&mut self) -> ParquetResult<&Opened> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => Opened::open(&self.archive, self.number)?,
        };
        Ok(self.opened.insert(opened))
    }

    fn metadata(&mut self, options: Option<&ArrowReaderOptions>) -> ParquetResult<Arc<ParquetMetaData>> {
        let number = self.number;
        let opened = self.opened()?;
        let mut reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
        match reader.try_parse_sized(opened, opened.size).and_then(|()| reader.finish()) {
            Ok(metadata) => Ok(Arc::new(metadata)),
            Err(e) => {
                self.archive.damaged(number);
                Err(e)
            }
        }
    }
}

impl Opened {
    fn open(archive: &Arc<Archive>, number: usize) -> ParquetResult<Self> {
        let blob = archive.open(number).map_err(|e| ParquetError::General(e.message))?;
        let size = archive.objects()[number].bytes;
        let mut opened = Self { archive: Arc::clone(archive), number, blob, size, tail: Bytes::new() };
        opened.tail = opened.read(size.saturating_sub(TAIL_BYTES)..size)?;
        Ok(opened)
    }

    fn read(&self, range: Range<u64>) -> ParquetResult<Bytes> {
        if range.start > range.end || range.end > self.size {
            // The footer points to where nothing is.
            self.archive.damaged(self.number);
            return Err(ParquetError::EOF("a range beyond the end".into()));
        }
        let tail_from = self.size - self.tail.len() as u64;
        if range.start >= tail_from {
            let within = (range.start - tail_from) as usize..(range.end - tail_from) as usize;
            return Ok(self.tail.slice(within));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if let Err(e) = self.blob.read_at(range.start, &mut bytes) {
            let key = &self.archive.objects()[self.number].key;
            self.archive.fail(keytrail_model::Fatal::new("Fatal.Store", format!("`{key}`: {e}")));
            return Err(ParquetError::External(Box::new(e)));
        }
        self.archive.count(bytes.len());
        Ok(bytes.into())
    }
}

impl Length for Opened {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Opened {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.read(start..self.size).map(Buf::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.read(start..start.saturating_add(length as u64))
    }
}

// The store blocks, as ports do; the threads that wait are the statement's own.
impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        ready(self.opened().and_then(|opened| opened.read(range))).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let read = self.opened().and_then(|o| ranges.into_iter().map(|range| o.read(range)).collect());
        ready(read).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        ready(self.metadata(options)).boxed()
    }
}
