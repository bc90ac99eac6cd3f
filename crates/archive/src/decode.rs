//! The values of one column, page by page, as Parquet has them.
//!
//! What it is: a decoder of the pages that archive objects have (`schemas/archive.md`): version 1, PLAIN or by
//! dictionary, one level of lists. What it is not: a decoder of all of Parquet; other pages are damage. Nothing
//! that a page claims is believed. In: inflated pages. Out: the values of some rows.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use keytrail_model::{Column, Kind};
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescriptor;

use crate::hybrid::{Hybrid, Next};
use crate::pages::Pages;
use crate::values::{Distinct, Lists, NONE, Place, Texts, Values, offset, plain as plain_at, short, utf8};

/// Rows that are passed over at a time.
const SKIPPED_ROWS: usize = 2000;

/// A column of a row group.
pub(crate) struct ColumnReader {
    column: Column,
    pages: Pages,
    dictionary: Option<Dictionary>,
    open: Option<OpenPage>,
}

/// What data pages refer to.
enum Dictionary {
    Texts(Arc<Distinct>),
    Ints(Vec<i64>),
}

/// A data page.
struct OpenPage {
    /// Rows that are still to be read.
    rows: usize,
    shape: Shape,
    values: Stored,
}

/// Which rows have values.
enum Shape {
    /// A level a row: 1 where it has one.
    Flat(Hybrid),
    /// The number of each row's items, or [`NONE`].
    Lists(std::vec::IntoIter<u32>),
}

enum Stored {
    Indices(Hybrid),
    Plain(PlainPage),
}

/// A page of values one behind the other, and where the next one is: its byte, or the bit of a flag.
struct PlainPage {
    page: Bytes,
    at: usize,
    /// Whether its texts have to be looked at.
    check: bool,
}

impl ColumnReader {
    /// A column that is stored as the schema says.
    pub fn new(column: Column, descr: &ColumnDescriptor, pages: Pages) -> Result<Self> {
        let physical = match column.kind() {
            Kind::Text | Kind::List | Kind::Binary => Type::BYTE_ARRAY,
            Kind::Int | Kind::Time => Type::INT64,
            Kind::Bool => Type::BOOLEAN,
        };
        let levels = if column.kind() == Kind::List { (1, 2) } else { (0, 1) };
        if (descr.max_rep_level(), descr.max_def_level()) != levels || descr.physical_type() != physical {
            return Err(damaged("it is not stored as its type is"));
        }
        Ok(Self { column, pages, dictionary: None, open: None })
    }

    /// The values of the next rows; `None` where they have none.
    pub fn read(&mut self, rows: usize) -> Result<Option<Values>> {
        if let Some(page) = self.page()?
            && page.pass_nulls(rows)?
        {
            return Ok(None);
        }
        Ok(Some(match self.column.kind() {
            Kind::Text | Kind::Binary => Values::Text(self.texts(rows)?),
            Kind::Int | Kind::Time => Values::Int(self.ints(rows)?),
            Kind::Bool => Values::Bool(self.flags(rows)?),
            Kind::List => Values::List(self.lists(rows)?),
        }))
    }

    /// Passes over so many rows, and over pages without a look into them where it can.
    pub fn skip(&mut self, rows: usize) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            if self.open.as_ref().is_none_or(|page| page.rows == 0)
                && let Some(next) = self.pages.peek_next_page()?
            {
                let levels = next.num_levels.filter(|_| self.column.kind() != Kind::List);
                match next.num_rows.or(levels).filter(|n| !next.is_dict && *n <= left) {
                    Some(n) => {
                        self.pages.skip_next_page()?;
                        self.open = None;
                        left -= n;
                        continue;
                    }
                    None => self.open = self.next_page()?,
                }
            }
            let n = self.rows()?.min(left).min(SKIPPED_ROWS);
            self.read(n)?;
            left -= n;
        }
        Ok(())
    }

    /// Whether there are no more rows.
    pub fn is_at_end(&mut self) -> Result<bool> {
        Ok(self.page()?.is_none())
    }

    /// Rows that the open page still has, which is one at least.
    fn rows(&mut self) -> Result<usize> {
        let page = self.page()?.ok_or_else(|| damaged("fewer rows than the footer tells of"))?;
        Ok(page.rows)
    }

    /// The page that has the next row.
    fn page(&mut self) -> Result<Option<&mut OpenPage>> {
        while self.open.as_ref().is_none_or(|page| page.rows == 0) {
            self.open = self.next_page()?;
            if self.open.is_none() {
                return Ok(None);
            }
        }
        Ok(self.open.as_mut())
    }

    fn next_page(&mut self) -> Result<Option<OpenPage>> {
        let kind = self.column.kind();
        loop {
            match self.pages.get_next_page()? {
                None => return Ok(None),
                Some(Page::DictionaryPage { .. }) if self.dictionary.is_some() => {
                    return Err(damaged("it has two dictionaries"));
                }
                Some(Page::DictionaryPage { buf, num_values, .. }) => {
                    self.dictionary = Some(match kind {
                        Kind::Bool => return Err(damaged("flags have no dictionary")),
                        Kind::Int | Kind::Time => {
                            let ints = buf.as_chunks::<8>().0.iter().map(|int| i64::from_le_bytes(*int));
                            Dictionary::Ints(ints.take(num_values as usize).collect())
                        }
                        Kind::Text | Kind::List | Kind::Binary => {
                            let check = is_text(self.column);
                            Dictionary::Texts(Arc::new(Distinct::new(buf, num_values, check)?))
                        }
                    });
                }
                Some(Page::DataPage {
                    buf,
                    num_values,
                    encoding,
                    def_level_encoding: Encoding::RLE,
                    rep_level_encoding,
                    ..
                }) if kind != Kind::List || rep_level_encoding == Encoding::RLE => {
                    return OpenPage::new(self.column, buf, num_values as usize, encoding).map(Some);
                }
                Some(_) => return Err(damaged("a page is of another version than 1")),
            }
        }
    }

    fn texts(&mut self, rows: usize) -> Result<Texts> {
        let mut out = None;
        let mut left = rows;
        while left > 0 {
            let n = self.rows()?.min(left);
            let Self { dictionary, open: Some(page), .. } = &mut *self else { break };
            if let Shape::Flat(levels) = &mut page.shape {
                page.values.texts(n, Some(levels), dictionary.as_ref(), &mut out)?;
            }
            page.rows -= n;
            left -= n;
        }
        Ok(out.unwrap_or(Texts::Placed(Vec::new(), Vec::new())))
    }

    fn lists(&mut self, rows: usize) -> Result<Lists> {
        let (mut places, mut items, mut end) = (Vec::with_capacity(rows), None, 0u32);
        let mut left = rows;
        while left > 0 {
            let n = self.rows()?.min(left);
            let Self { dictionary, open: Some(page), .. } = &mut *self else { break };
            if let Shape::Lists(counts) = &mut page.shape {
                let start = end;
                for count in counts.take(n) {
                    places.push(if count == NONE {
                        None
                    } else {
                        let first = end;
                        end = end.checked_add(count).ok_or_else(|| damaged("lists have too many items"))?;
                        Some((first, end))
                    });
                }
                let number = (end - start) as usize;
                page.values.texts(number, None, dictionary.as_ref(), &mut items)?;
            }
            page.rows -= n;
            left -= n;
        }
        Ok(Lists { rows: places, items: items.unwrap_or(Texts::Placed(Vec::new(), Vec::new())) })
    }

    fn ints(&mut self, rows: usize) -> Result<Vec<Option<i64>>> {
        let mut out = Vec::with_capacity(rows);
        let mut numbers = Vec::new();
        let mut left = rows;
        while left > 0 {
            let n = self.rows()?.min(left);
            let Self { dictionary, open: Some(page), .. } = self else { break };
            if let Shape::Flat(levels) = &mut page.shape {
                let values = &mut page.values;
                flat(n, Some(levels), None, &mut out, |n, out| match values {
                    Stored::Indices(indices) => {
                        let Some(Dictionary::Ints(ints)) = dictionary else { return Err(no_dictionary()) };
                        numbers.clear();
                        indices.read(n, &mut numbers)?;
                        for number in &numbers {
                            out.push(Some(*ints.get(*number as usize).ok_or_else(no_dictionary)?));
                        }
                        Ok(())
                    }
                    Stored::Plain(plain) => {
                        let mut rest = plain.rest();
                        for _ in 0..n {
                            out.push(Some(rest.try_get_i64_le().map_err(|_| short())?));
                        }
                        plain.at += 8 * n;
                        Ok(())
                    }
                })?;
            }
            page.rows -= n;
            left -= n;
        }
        Ok(out)
    }

    fn flags(&mut self, rows: usize) -> Result<Vec<Option<bool>>> {
        let mut out = Vec::with_capacity(rows);
        let mut left = rows;
        while left > 0 {
            let n = self.rows()?.min(left);
            let Some(page) = &mut self.open else { break };
            if let (Shape::Flat(levels), Stored::Plain(plain)) = (&mut page.shape, &mut page.values) {
                flat(n, Some(levels), None, &mut out, |n, out| {
                    for bit in plain.at..plain.at + n {
                        let byte = plain.page.get(bit / 8).ok_or_else(short)?;
                        out.push(Some(byte >> (bit % 8) & 1 == 1));
                    }
                    plain.at += n;
                    Ok(())
                })?;
            }
            page.rows -= n;
            left -= n;
        }
        Ok(out)
    }
}

impl OpenPage {
    fn new(column: Column, mut page: Bytes, values: usize, encoding: Encoding) -> Result<Self> {
        let kind = column.kind();
        let (shape, rows) = if kind == Kind::List {
            let (mut repetition, mut definition) = (Vec::new(), Vec::new());
            Hybrid::new(behind_length(&mut page)?, 1)?.read(values, &mut repetition)?;
            Hybrid::new(behind_length(&mut page)?, 2)?.read(values, &mut definition)?;
            let counts = counts(&repetition, &definition)?;
            let rows = counts.len();
            (Shape::Lists(counts.into_iter()), rows)
        } else {
            (Shape::Flat(Hybrid::new(behind_length(&mut page)?, 1)?), values)
        };
        let values = match encoding {
            Encoding::PLAIN => {
                // What is ASCII with the lengths between the texts is UTF-8 as well.
                let check = is_text(column) && !page.is_ascii();
                Stored::Plain(PlainPage { page, at: 0, check })
            }
            #[allow(deprecated)]
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if kind != Kind::Bool => {
                // A page of nulls may have no width.
                let width = page.try_get_u8().unwrap_or(0);
                Stored::Indices(Hybrid::new(page, width)?)
            }
            other => return Err(damaged(&format!("a page has the encoding `{other}`"))),
        };
        Ok(Self { rows, shape, values })
    }

    /// Whether the next rows, so many, have no values; they are passed over then.
    fn pass_nulls(&mut self, rows: usize) -> Result<bool> {
        if self.rows < rows {
            return Ok(false);
        }
        let passed = match &mut self.shape {
            Shape::Flat(levels) => levels.pass(0, rows)?,
            Shape::Lists(counts) => {
                let passed = counts.as_slice()[..rows].iter().all(|count| *count == NONE);
                if passed {
                    counts.take(rows).for_each(drop);
                }
                passed
            }
        };
        if passed {
            self.rows -= rows;
        }
        Ok(passed)
    }
}

/// The numbers of items of the lists in a page.
fn counts(repetition: &[u32], definition: &[u32]) -> Result<Vec<u32>> {
    let mut counts: Vec<u32> = Vec::with_capacity(repetition.len());
    for (goes_on, level) in repetition.iter().zip(definition) {
        match (goes_on, level, counts.last_mut()) {
            (0, 0, _) => counts.push(NONE),
            (0, 1, _) => counts.push(0),
            (0, 2, _) => counts.push(1),
            // Fewer than the page has values, so it does not overflow.
            (1, 2, Some(count)) if !matches!(*count, 0 | NONE) => *count += 1,
            _ => return Err(damaged("the levels of a list are none of its type")),
        }
    }
    Ok(counts)
}

impl Stored {
    /// Appends so many texts, or one a level.
    fn texts(
        &mut self,
        n: usize,
        levels: Option<&mut Hybrid>,
        dictionary: Option<&Dictionary>,
        out: &mut Option<Texts>,
    ) -> Result<()> {
        match self {
            Self::Indices(indices) => {
                let Some(Dictionary::Texts(distinct)) = dictionary else { return Err(no_dictionary()) };
                let out = out.get_or_insert_with(|| Texts::Indexed(distinct.clone(), Vec::with_capacity(n)));
                let mut beside = Vec::new();
                let (numbers, is_beside) = match out {
                    Texts::Indexed(_, numbers) => (numbers, false),
                    Texts::Placed(..) => (&mut beside, true),
                };
                let before = numbers.len();
                flat(n, levels, NONE, numbers, |n, out| {
                    let start = out.len();
                    indices.read(n, out)?;
                    match out[start..].iter().max() {
                        Some(max) if *max as usize >= distinct.len() => Err(no_dictionary()),
                        _ => Ok(()),
                    }
                })?;
                debug_assert_eq!(numbers.len() - before, n);
                if is_beside {
                    out.place(distinct, &beside);
                }
                Ok(())
            }
            Self::Plain(plain) => {
                let out = out.get_or_insert_with(|| Texts::Placed(Vec::new(), Vec::with_capacity(n)));
                if let Texts::Indexed(distinct, numbers) = out {
                    let (distinct, numbers) = (distinct.clone(), std::mem::take(numbers));
                    *out = Texts::Placed(Vec::new(), Vec::with_capacity(numbers.len() + n));
                    out.place(&distinct, &numbers);
                }
                let Texts::Placed(pages, places) = out else { return Ok(()) };
                let page = pages.len() as u32;
                pages.push(plain.page.clone());
                let none = Place { page: NONE, start: 0, end: 0 };
                flat(n, levels, none, places, |n, out| {
                    for _ in 0..n {
                        let (start, end) = plain_at(&plain.page, plain.at)?;
                        if plain.check {
                            utf8(&plain.page[start..end])?;
                        }
                        plain.at = end;
                        out.push(Place { page, start: offset(start)?, end: offset(end)? });
                    }
                    Ok(())
                })
            }
        }
    }
}

impl PlainPage {
    fn rest(&self) -> &[u8] {
        self.page.get(self.at..).unwrap_or_default()
    }
}

/// Appends what `n` levels say: what `values` appends where they are 1, else `none`. Without levels all are 1.
fn flat<T: Copy>(
    n: usize,
    levels: Option<&mut Hybrid>,
    none: T,
    out: &mut Vec<T>,
    mut values: impl FnMut(usize, &mut Vec<T>) -> Result<()>,
) -> Result<()> {
    let Some(levels) = levels else { return values(n, out) };
    let mut left = n;
    while left > 0 {
        left -= match levels.next(left)? {
            Next::Alike(1, n) => {
                values(n, out)?;
                n
            }
            Next::Alike(0, n) => {
                out.resize(out.len() + n, none);
                n
            }
            Next::Alike(..) => return Err(damaged("a level is neither 0 nor 1")),
            Next::Any(n) => {
                let (mut mixed, mut held) = (Vec::with_capacity(n), Vec::with_capacity(n));
                levels.read(n, &mut mixed)?;
                values(mixed.iter().filter(|level| **level == 1).count(), &mut held)?;
                let mut held = held.into_iter();
                out.extend(mixed.into_iter().map(|level| match level {
                    1 => held.next().unwrap_or(none),
                    _ => none,
                }));
                n
            }
        };
    }
    Ok(())
}

/// Whether a column's values have to be UTF-8. Those that are read as hex digits are looked at then.
fn is_text(column: Column) -> bool {
    matches!(column.kind(), Kind::Text | Kind::List)
        && !matches!(column, Column::EventHash | Column::KeytrailUid)
}

/// What stands behind its length (u32, little-endian), taken off.
fn behind_length(page: &mut Bytes) -> Result<Bytes> {
    let len = page.try_get_u32_le().map_err(|_| short())? as usize;
    if len > page.len() { Err(short()) } else { Ok(page.split_to(len)) }
}

fn no_dictionary() -> ParquetError {
    damaged("a page names a value that its dictionary does not have")
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}
