//! Writing a column chunk of texts, lists of texts or bytes: values in the row encoding in, Parquet pages out.
//!
//! What it is: the column that nearly all of an archive consists of, with what `parquet`'s general writer
//! does for each value done once a page, a distinct value or not at all: a value that repeats the last one is
//! not looked up, minimum and maximum are taken of the dictionary, what is null in a row group takes no work,
//! and all columns share the compressors of their thread. What it is not: another format. Pages are those of
//! version 1 (levels and values; PLAIN, or RLE_DICTIONARY while the dictionary has room), page
//! headers and metadata are `parquet`'s. In: values by ascending row. Out: a chunk for a row group.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use keytrail_model::row::items;
use keytrail_model::{Column, Kind};
use parquet::basic::{Compression, Encoding, EncodingMask, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use crate::bounds::Bounds;
use crate::dictionary::{Dictionary, hybrid, run, width};
use crate::schema::{self, PAGE_BYTES, Storage};

/// Rows of a page at most, but for those that come in one step.
const PAGE_ROWS: u64 = 20_000;

/// A chunk in the making.
pub(crate) struct ChunkWriter {
    descr: ColumnDescPtr,
    kind: Kind,
    zstd: i32,
    /// Minimum and maximum of the chunk, of columns that have them.
    bounds: Option<Bounds>,
    /// Distinct values so far, of columns that repeat them.
    dictionary: Option<Dictionary>,
    /// The dictionary is full: values are written out from here on.
    is_full: bool,
    open: OpenPage,
    pages: Vec<StoredPage>,
    /// Bytes of the pages that are done.
    stored_bytes: usize,
    /// Rows so far, with those of the open page.
    rows: u64,
    /// Values of the pages that are done, nulls among them, as Parquet counts: of lists their items.
    values: u64,
    nulls: u64,
}

/// The rows that wait for a page.
#[derive(Default)]
struct OpenPage {
    /// First row in the chunk.
    first: u64,
    /// Runs of rows without a value: the first in the page, and how many. Of lists, `levels` says it.
    nulls: Vec<(u64, u64)>,
    levels: Levels,
    /// Values by their place in the dictionary.
    indices: Vec<u32>,
    /// Values behind their length (u32, little-endian), behind [`HEADROOM`] bytes.
    plain: Vec<u8>,
}

/// What a page of lists has of each item, and of each row without a list: whether it goes on with the row of
/// the one before (repetition), and whether it is a list ([`LIST`]) and an item ([`ITEM`]) (definition).
#[derive(Default)]
struct Levels {
    repetition: Vec<u32>,
    definition: Vec<u32>,
}

const LIST: u32 = 1;
const ITEM: u32 = 2;

impl Levels {
    fn push(&mut self, goes_on: bool, definition: u32) {
        self.repetition.push(u32::from(goes_on));
        self.definition.push(definition);
    }
}

/// Room for the definition levels of a page without nulls before its values, which are then where they
/// should be: a length (4 bytes), a run's (at most 10) and its level.
const HEADROOM: usize = 16;

/// A data page with its header.
struct StoredPage {
    bytes: Bytes,
    uncompressed: usize,
    rows: u64,
    encoding: Encoding,
}

impl ChunkWriter {
    /// Whether columns of that kind are written here.
    pub fn takes(kind: Kind) -> bool {
        matches!(kind, Kind::Text | Kind::Binary | Kind::List)
    }

    /// A chunk without rows.
    pub fn new(column: Column, descr: ColumnDescPtr) -> Self {
        let storage = schema::storage(column);
        let repeats = matches!(storage, Storage::Repeating | Storage::Pruning);
        Self {
            descr,
            kind: column.kind(),
            zstd: schema::level(storage),
            bounds: repeats.then(Bounds::default),
            dictionary: repeats.then(Dictionary::new),
            is_full: false,
            open: OpenPage::default(),
            pages: Vec::new(),
            stored_bytes: 0,
            rows: 0,
            values: 0,
            nulls: 0,
        }
    }

    /// Appends the value of a row, which comes after all before.
    #[inline]
    pub fn append(&mut self, row: u64, value: &[u8]) -> Result<()> {
        if row != self.rows {
            self.skip_to(row);
        }
        self.rows += 1;
        if self.kind == Kind::List {
            let mut goes_on = false;
            for item in items(value) {
                self.open.levels.push(goes_on, ITEM);
                self.put(item)?;
                goes_on = true;
            }
            if !goes_on {
                self.open.levels.push(false, LIST);
                self.nulls += 1;
            }
        } else {
            self.put(value)?;
        }
        if !self.is_full && self.dictionary.as_ref().is_some_and(Dictionary::is_full) {
            self.end_page()?;
            self.is_full = true;
        }
        Ok(())
    }

    #[inline]
    fn put(&mut self, value: &[u8]) -> Result<()> {
        let len = u32::try_from(value.len()).map_err(|_| failed("a value is larger than a page can be"))?;
        if let Some(dictionary) = self.dictionary.as_mut().filter(|_| !self.is_full) {
            let index =
                dictionary.index(value).ok_or_else(|| failed("a row is larger than a page can be"))?;
            self.open.indices.push(index);
            return Ok(());
        }
        if let Some(bounds) = &mut self.bounds {
            bounds.add(value);
        }
        self.check(value)?;
        if self.open.plain.is_empty() {
            self.open.plain.resize(HEADROOM, 0);
        }
        self.open.plain.extend_from_slice(&len.to_le_bytes());
        self.open.plain.extend_from_slice(value);
        Ok(())
    }

    /// Texts are what rows were encoded with; they may have come from a file of the sorter since.
    fn check(&self, value: &[u8]) -> Result<()> {
        if self.kind != Kind::Binary && std::str::from_utf8(value).is_err() {
            return Err(failed("a text is not UTF-8"));
        }
        Ok(())
    }

    /// The rows before that one which have no value are null.
    pub fn skip_to(&mut self, row: u64) {
        let missing = row.saturating_sub(self.rows);
        if missing > 0 {
            if self.kind == Kind::List {
                (0..missing).for_each(|_| self.open.levels.push(false, 0));
            }
            match self.open.nulls.last_mut() {
                Some((first, n)) if *first + *n == self.rows - self.open.first => *n += missing,
                _ => self.open.nulls.push((self.rows - self.open.first, missing)),
            }
            self.nulls += missing;
            self.rows = row;
        }
    }

    /// Ends the page where it is full, or would be with so many bytes more.
    pub fn settle(&mut self, coming_bytes: usize) -> Result<()> {
        let rows = self.rows - self.open.first;
        let bytes = self.open.plain.len();
        if rows >= PAGE_ROWS || bytes > 0 && bytes + coming_bytes >= PAGE_BYTES {
            self.end_page()?;
        }
        Ok(())
    }

    /// Bytes that it takes: pages as they are stored, and what waits for one.
    pub fn memory_bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref().map_or(0, Dictionary::bytes);
        let numbers = self.open.indices.len() + 2 * self.open.levels.definition.len();
        self.stored_bytes + dictionary + self.open.plain.len() + 4 * numbers
    }

    fn end_page(&mut self) -> Result<()> {
        let rows = self.rows - self.open.first;
        if rows == 0 {
            return Ok(());
        }
        let encoding = match &self.dictionary {
            Some(_) if !self.is_full => Encoding::RLE_DICTIONARY,
            _ => Encoding::PLAIN,
        };
        let mut levels = Vec::new();
        let values = if self.kind == Kind::List {
            let Levels { repetition, definition } = &self.open.levels;
            behind_length(&mut levels, |out| hybrid(repetition, 1, out));
            behind_length(&mut levels, |out| hybrid(definition, 2, out));
            definition.len() as u64
        } else {
            behind_length(&mut levels, |out| self.open.definition(rows, out));
            rows
        };
        let mut plain = std::mem::take(&mut self.open.plain);
        let body = match &self.dictionary {
            Some(dictionary) if encoding == Encoding::RLE_DICTIONARY => {
                let width = width(dictionary.len());
                levels.push(width);
                hybrid(&self.open.indices, width, &mut levels);
                &levels[..]
            }
            _ if plain.is_empty() => &levels[..],
            _ => match HEADROOM.checked_sub(levels.len()) {
                Some(start) => {
                    plain[start..HEADROOM].copy_from_slice(&levels);
                    &plain[start..]
                }
                None => {
                    levels.extend_from_slice(&plain[HEADROOM..]);
                    &levels[..]
                }
            },
        };
        let num_values = u32::try_from(values).map_err(|_| failed("a page has too many values"))?;
        let (bytes, uncompressed) = self.stored(body, |buf| Page::DataPage {
            buf,
            num_values,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        plain.clear();
        self.open.plain = plain;
        self.stored_bytes += bytes.len();
        self.pages.push(StoredPage { bytes, uncompressed, rows, encoding });
        self.values += values;
        self.open.first = self.rows;
        self.open.nulls.clear();
        self.open.levels.repetition.clear();
        self.open.levels.definition.clear();
        self.open.indices.clear();
        Ok(())
    }

    /// A page with its header as it is stored, and its bytes with the header before compression.
    fn stored(&self, body: &[u8], page: impl FnOnce(Bytes) -> Page) -> Result<(Bytes, usize)> {
        let packed = compressed(body, self.zstd)?;
        let mut out = TrackedWrite::new(Vec::with_capacity(packed.len() + 64));
        let page = CompressedPage::new(page(packed), body.len());
        let spec = SerializedPageWriter::new(&mut out).write_page(page)?;
        Ok((out.into_inner()?.into(), spec.uncompressed_size))
    }

    /// Ends the chunk with so many rows.
    pub fn close(mut self, rows: u64) -> Result<Chunk> {
        self.skip_to(rows);
        self.end_page()?;
        let mut parts = VecDeque::with_capacity(self.pages.len() + 1);
        let (mut at, mut uncompressed) = (0usize, 0);
        if let Some(dictionary) = &self.dictionary {
            dictionary.values().try_for_each(|value| self.check(value))?;
            let (bytes, before) = self.stored(dictionary.page(), |buf| Page::DictionaryPage {
                buf,
                num_values: dictionary.len(),
                encoding: Encoding::PLAIN,
                is_sorted: false,
            })?;
            (at, uncompressed) = (bytes.len(), before);
            parts.push_back(bytes);
        }
        let first_data = at;
        let mut places = OffsetIndexBuilder::new();
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        for page in self.pages.drain(..) {
            places.append_offset_and_size(at as i64, i32::try_from(page.bytes.len()).unwrap_or(i32::MAX));
            places.append_row_count(page.rows as i64);
            at += page.bytes.len();
            uncompressed += page.uncompressed;
            encodings.push(page.encoding);
            parts.push_back(page.bytes);
        }
        let mut metadata = ColumnChunkMetaData::builder(self.descr.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(self.zstd)?))
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_total_compressed_size(at as i64)
            .set_total_uncompressed_size(uncompressed as i64)
            .set_num_values(self.values as i64)
            .set_data_page_offset(first_data as i64)
            .set_dictionary_page_offset(self.dictionary.is_some().then_some(0));
        if let Some(statistics) = self.statistics() {
            metadata = metadata.set_statistics(statistics);
        }
        let result = ColumnCloseResult {
            bytes_written: at as u64,
            rows_written: rows,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(places.build()),
        };
        Ok(Chunk { parts: Parts(parts), len: at as u64, result })
    }

    /// What readers prune by, of columns that have it.
    fn statistics(&mut self) -> Option<Statistics> {
        let mut bounds = self.bounds.take()?;
        self.dictionary.iter().flat_map(Dictionary::values).for_each(|value| bounds.add(value));
        Some(bounds.statistics(self.nulls))
    }
}

impl OpenPage {
    /// The definition levels of so many rows: 1 for a value, 0 for none.
    fn definition(&self, rows: u64, out: &mut Vec<u8>) {
        match &self.nulls[..] {
            [] => run(rows, 1, 1, out),
            [(0, n)] if *n == rows => run(rows, 0, 1, out),
            _ => {
                let mut levels = vec![1; rows as usize];
                for (first, n) in &self.nulls {
                    levels[*first as usize..(first + n) as usize].fill(0);
                }
                hybrid(&levels, 1, out);
            }
        }
    }
}

/// What `write` appends, behind its length (u32, little-endian).
fn behind_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// The bytes as a zstd frame that tells their size, by this thread's compressor of that level.
fn compressed(bytes: &[u8], level: i32) -> Result<Bytes> {
    type Compressors = Vec<(i32, zstd::bulk::Compressor<'static>)>;
    thread_local! {
        static ZSTD: RefCell<(Compressors, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
    }
    ZSTD.with_borrow_mut(|(compressors, out)| {
        let at = match compressors.iter().position(|(of, _)| *of == level) {
            Some(at) => at,
            None => {
                compressors.push((level, zstd::bulk::Compressor::new(level)?));
                compressors.len() - 1
            }
        };
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(bytes.len()));
        compressors[at].1.compress_to_buffer(bytes, out)?;
        let packed = Bytes::copy_from_slice(out);
        // A page of one large value is rare: its room is not kept.
        if out.capacity() > 4 * PAGE_BYTES {
            *out = Vec::new();
        }
        Ok(packed)
    })
}

fn failed(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}

/// A chunk that is done.
pub(crate) struct Chunk {
    parts: Parts,
    len: u64,
    result: ColumnCloseResult,
}

impl Chunk {
    /// What appends a chunk to a row group.
    pub fn into_parts(self) -> (impl ChunkReader, ColumnCloseResult) {
        (Stored { parts: self.parts, len: self.len }, self.result)
    }
}

/// The pages of a chunk, to be read once from the first byte on.
struct Stored {
    parts: Parts,
    len: u64,
}

impl Length for Stored {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Stored {
    type T = Parts;

    fn get_read(&self, start: u64) -> Result<Parts> {
        if start == 0 { Ok(self.parts.clone()) } else { Err(failed("a chunk is read from its start")) }
    }

    fn get_bytes(&self, _: u64, _: usize) -> Result<Bytes> {
        Err(failed("a chunk is read as a whole"))
    }
}

/// Bytes one behind the other.
#[derive(Clone)]
struct Parts(VecDeque<Bytes>);

impl Read for Parts {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(part) = self.0.front_mut() {
            if part.is_empty() {
                self.0.pop_front();
                continue;
            }
            let n = out.len().min(part.len());
            out[..n].copy_from_slice(&part.split_to(n));
            return Ok(n);
        }
        Ok(0)
    }
}
