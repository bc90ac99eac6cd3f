//! The pages of one row group, column by column.
//!
//! What it is: the row group's column chunks read in windows instead of a header and a page at a time, and
//! inflated with one zstd context a thread: `parquet`'s own page reader makes a compressor and a
//! decompressor for each chunk, which costs more than an object of a few rows. What it is not: it decodes no
//! page and believes no header; that the bytes are the sealed ones is for the caller to know.
//! In: the object's bytes and its footer. Out: inflated pages, at most [`BUDGET`] bytes between two
//! batches, whatever the pages claim: their values are not copied out of them, so a batch holds its pages.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::read::{Source, Tail};

/// Bytes that are read of a column chunk at once.
const WINDOW: u64 = 256 << 10;

/// A page header that ends within so many bytes of the window is read anew with what follows it.
const HEADER: u64 = 1 << 10;

/// Bytes of pages, and of what their lists unfold to, that all columns of one batch may take: what arrays
/// with 32-bit offsets bound each single column to.
const BUDGET: u64 = i32::MAX as u64;

/// Bytes that an item of a list takes in memory, at least.
const ITEM: u64 = 16;

/// What the pages of a row group may still take until the next batch.
#[derive(Clone, Default)]
pub(crate) struct Budget(Arc<AtomicU64>);

impl Budget {
    /// Begins a batch.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > BUDGET {
            return Err(damaged(&format!("the pages of one batch take more than {BUDGET} bytes")));
        }
        Ok(())
    }
}

/// A row group of an object.
pub(crate) struct GroupPages {
    pub source: Source,
    pub metadata: Arc<ParquetMetaData>,
    pub group: usize,
    pub budget: Budget,
}

impl GroupPages {
    /// The pages of a column, by its place in the file.
    pub fn column(&self, column: usize) -> Result<Pages> {
        let group = self.metadata.row_group(self.group);
        let chunk = group.column(column);
        let inflate = matches!(chunk.compression(), Compression::ZSTD(_));
        // Stored pages are handed over as they are: inflating them is this module's part.
        let stored = if inflate {
            chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?
        } else {
            chunk.clone()
        };
        // Where an object has no place of pages for this row group, there is an empty list of columns.
        let places = self.metadata.offset_index().and_then(|groups| groups.get(self.group)?.get(column));
        let (start, len) = chunk.byte_range();
        let window = Window {
            source: self.source.clone(),
            end: start.saturating_add(len).min(self.source.len()),
            held: Mutex::default(),
        };
        Ok(Pages {
            stored: SerializedPageReader::new(
                Arc::new(window),
                &stored,
                usize::try_from(group.num_rows()).unwrap_or(0),
                places.map(|p| p.page_locations.clone()),
            )?,
            inflate,
            repeated: chunk.column_descr().max_rep_level() > 0,
            budget: self.budget.clone(),
        })
    }
}

/// The pages of a column chunk.
pub(crate) struct Pages {
    stored: SerializedPageReader<Window>,
    inflate: bool,
    repeated: bool,
    budget: Budget,
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.stored.get_next_page()? else { return Ok(None) };
        if self.inflate {
            match &mut page {
                Page::DataPage { buf, .. } => *buf = inflated(buf, &self.budget, true)?,
                Page::DictionaryPage { buf, .. } => *buf = inflated(buf, &self.budget, false)?,
                // Who reads the pages refuses it.
                Page::DataPageV2 { .. } => {}
            }
        }
        check(&page, self.repeated, &self.budget)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.stored.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.stored.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.stored.at_record_boundary()
    }
}

/// Refuses what would make the decoder allocate more than the page's bytes can be worth.
fn check(page: &Page, repeated: bool, budget: &Budget) -> Result<()> {
    let values = u64::from(page.num_values());
    if page.is_dictionary_page() && values > page.buffer().len() as u64 {
        return Err(damaged("a dictionary has fewer bytes than values"));
    }
    // Of a column that is no list a batch takes as many values as it has rows.
    if repeated && page.is_data_page() {
        budget.take(values * ITEM)?;
    }
    Ok(())
}

/// Memory of pages that is used again: of so many bytes, and so many pieces a thread.
const SPARE_BYTES: usize = 320 << 10;
const SPARE_PIECES: usize = 32;

/// A page of less takes memory of its own.
const SMALL_BYTES: usize = 64 << 10;

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A page whose memory is used again.
struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let page = std::mem::take(&mut self.0);
        // Where a thread ends there is no more use for it.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_PIECES {
                spare.push(page);
            }
        });
    }
}

/// A page's bytes, in memory that may be `lent`.
fn inflated(packed: &Bytes, budget: &Budget, lent: bool) -> Result<Bytes> {
    if packed.is_empty() {
        return Ok(packed.clone());
    }
    let size = zstd::zstd_safe::get_frame_content_size(packed)
        .ok()
        .flatten()
        .ok_or_else(|| damaged("a page is no zstd frame that tells its size"))?;
    budget.take(size)?;
    let size = usize::try_from(size).map_err(|_| damaged("a page is larger than memory"))?;
    let lent = lent && (SMALL_BYTES..=SPARE_BYTES).contains(&size);
    let mut out = if lent { SPARE.with_borrow_mut(Vec::pop).unwrap_or_default() } else { Vec::new() };
    out.clear();
    out.try_reserve_exact(if lent { SPARE_BYTES } else { size })
        .map_err(|_| damaged(&format!("a page tells {size} bytes, more than there is memory for")))?;
    ZSTD.with_borrow_mut(|zstd| {
        let zstd = match zstd {
            Some(zstd) => zstd,
            None => zstd.insert(zstd::bulk::Decompressor::new()?),
        };
        zstd.decompress_to_buffer(packed, &mut out)
    })?;
    if out.len() != size {
        return Err(damaged("a page is shorter or longer than its zstd frame tells"));
    }
    Ok(if lent { Bytes::from_owner(Lent(out)) } else { out.into() })
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}

/// The bytes of a column chunk, of which some are held: page follows page, and small chunks are one read.
struct Window {
    source: Source,
    /// Where the chunk ends.
    end: u64,
    /// Where the held bytes begin, and they.
    held: Mutex<(u64, Bytes)>,
}

impl Window {
    /// The bytes from `start` to the end of the window, which are `least` at least or all of the chunk.
    fn from(&self, start: u64, least: u64) -> Result<Bytes> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, bytes) = &mut *held;
        let left = self.end.saturating_sub(start);
        let skipped =
            start.checked_sub(*at).filter(|n| n.saturating_add(least.min(left)) <= bytes.len() as u64);
        if let Some(skipped) = skipped {
            // Within what is held, so it fits.
            return Ok(bytes.slice(skipped as usize..));
        }
        let again = std::mem::take(bytes);
        let buffer = || again.try_into_mut().unwrap_or_default();
        *bytes = self.source.read(start, WINDOW.min(left) as usize, buffer)?;
        *at = start;
        Ok(bytes.clone())
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.source.len()
    }
}

impl ChunkReader for Window {
    type T = Tail;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let held = self.from(start, HEADER)?;
        let at = start.saturating_add(held.len() as u64);
        Ok(Tail { held, source: self.source.clone(), at })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let len = length as u64;
        if len > WINDOW || start.saturating_add(len) > self.end {
            return self.source.get_bytes(start, length);
        }
        Ok(self.from(start, len)?.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use parquet::basic::Encoding;

    use super::*;

    /// A zstd frame of four blocks, each 128 KiB of one byte, that tells `size` bytes.
    fn frame(size: u64) -> Bytes {
        let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
        out.extend_from_slice(&size.to_le_bytes());
        for last in [0u32, 0, 0, 1] {
            out.extend_from_slice(&((128 << 10) << 3 | 1 << 1 | last).to_le_bytes()[..3]);
            out.push(b'a');
        }
        out.into()
    }

    #[test]
    fn pages_take_no_more_than_they_may() {
        let budget = Budget::default();
        assert_eq!(inflated(&frame(512 << 10), &budget, true).unwrap().len(), 512 << 10);
        for wrong in [1, 511 << 10, 513 << 10, BUDGET, BUDGET + 1, u64::MAX - 1] {
            budget.reset();
            inflated(&frame(wrong), &budget, true).unwrap_err();
        }
        budget.reset();
        let pages = BUDGET / (512 << 10);
        for _ in 0..pages {
            budget.take(512 << 10).unwrap();
        }
        let e = inflated(&frame(512 << 10), &budget, true).unwrap_err();
        assert!(e.to_string().contains("more than 2147483647 bytes"), "{e}");
        budget.reset();
        inflated(&frame(512 << 10), &budget, true).unwrap();
    }

    /// What was lent comes back, and says nothing of what it held before.
    #[test]
    fn memory_is_used_again() {
        let packed = |byte: u8, len: usize| Bytes::from(zstd::bulk::compress(&vec![byte; len], 1).unwrap());
        let budget = Budget::default();
        for (byte, len) in [(b'a', SPARE_BYTES), (b'b', SMALL_BYTES), (b'c', SPARE_BYTES - 1), (b'd', 7)] {
            let pages: Vec<_> =
                (0..3).map(|_| inflated(&packed(byte, len), &budget, true).unwrap()).collect();
            assert!(pages.iter().all(|page| page.len() == len && page.iter().all(|b| *b == byte)));
        }
        assert_eq!(SPARE.with_borrow(Vec::len), 3);
    }

    #[test]
    fn counts_are_not_believed() {
        let dictionary = |num_values| Page::DictionaryPage {
            buf: Bytes::from_static(b"\x01\0\0\0a"),
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        let budget = Budget::default();
        check(&dictionary(1), false, &budget).unwrap();
        check(&dictionary(u32::MAX), false, &budget).unwrap_err();
        let data = |num_values| Page::DataPage {
            buf: Bytes::new(),
            num_values,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        check(&data(u32::MAX), false, &budget).unwrap();
        check(&data(1 << 20), true, &budget).unwrap();
        check(&data(u32::MAX), true, &budget).unwrap_err();
    }
}
