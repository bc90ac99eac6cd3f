//! The values of a column in some rows, and where their bytes are: texts stay in the pages that they were
//! inflated to, and what a dictionary holds is looked at once a row group.
//!
//! What it is not: it reads no page but that of a dictionary; [`crate::decode`] does. In: a dictionary's page,
//! places. Out: values.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parquet::errors::{ParquetError, Result};

/// The number of no text and of no list, and the page of no place.
pub(crate) const NONE: u32 = u32::MAX;

/// A column's values under their type, in some rows.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Text(Texts),
    /// Integers, and times in microseconds.
    Int(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    List(Lists),
}

/// Texts or bytes.
#[derive(Clone, Debug)]
pub(crate) enum Texts {
    /// By their number in a dictionary, or [`NONE`].
    Indexed(Arc<Distinct>, Vec<u32>),
    /// By their place in pages.
    Placed(Vec<Bytes>, Vec<Place>),
}

/// Lists of texts.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    /// Where a row's items are among all items.
    pub rows: Vec<Option<(u32, u32)>>,
    pub items: Texts,
}

/// Where a text is: page, first byte and end. The page [`NONE`] is that of no text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub page: u32,
    pub start: u32,
    pub end: u32,
}

/// The texts of a dictionary, each behind its length (u32, big-endian).
#[derive(Debug)]
pub(crate) struct Distinct {
    page: Bytes,
    /// First byte of the text itself, and its end.
    places: Vec<(u32, u32)>,
}

impl Distinct {
    /// How many.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The number of a text, if there is one.
    #[inline]
    pub fn number(&self, numbers: &[u32], i: usize) -> Option<u32> {
        Some(numbers[i]).filter(|number| *number != NONE)
    }

    /// The text of that number behind its length: the page, and where in it.
    #[inline]
    pub fn sized(&self, number: u32) -> (&[u8], Range<usize>) {
        let (start, end) = self.places[number as usize];
        (&self.page, start as usize - 4..end as usize)
    }

    /// The texts of a page, so many; they are UTF-8 where that is to be checked.
    pub fn new(page: Bytes, texts: u32, check: bool) -> Result<Self> {
        // What is ASCII with the lengths between the texts is UTF-8 as well.
        let check = check && !page.is_ascii();
        let mut page = page.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let mut places = Vec::with_capacity(texts as usize);
        let mut at = 0;
        for _ in 0..texts {
            let (start, end) = plain(&page, at)?;
            if check {
                utf8(&page[start..end])?;
            }
            page[at..start].reverse();
            places.push((offset(start)?, offset(end)?));
            at = end;
        }
        Ok(Self { page: page.freeze(), places })
    }

    /// The text of that number, if there is one.
    fn text(&self, number: u32) -> Option<&[u8]> {
        let (start, end) = *self.places.get(number as usize)?;
        Some(&self.page[start as usize..end as usize])
    }
}

impl Texts {
    /// How many, with those that are not there.
    pub fn len(&self) -> usize {
        match self {
            Self::Indexed(_, numbers) => numbers.len(),
            Self::Placed(_, places) => places.len(),
        }
    }

    /// One of them.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        match self {
            Self::Indexed(distinct, numbers) => distinct.text(numbers[i]),
            Self::Placed(pages, places) => {
                let Place { page, start, end } = places[i];
                Some(&pages.get(page as usize)?[start as usize..end as usize])
            }
        }
    }

    /// One that was read as UTF-8.
    pub fn text(&self, i: usize) -> Option<&str> {
        std::str::from_utf8(self.get(i)?).ok()
    }

    /// Appends texts of a dictionary to others that lie in pages.
    pub fn place(&mut self, distinct: &Distinct, numbers: &[u32]) {
        let Self::Placed(pages, places) = self else { return };
        let page = pages.len() as u32;
        pages.push(distinct.page.clone());
        places.extend(numbers.iter().map(|number| match distinct.places.get(*number as usize) {
            Some((start, end)) => Place { page, start: *start, end: *end },
            None => Place { page: NONE, start: 0, end: 0 },
        }));
    }
}

impl Lists {
    /// The places of a row's items.
    #[inline]
    pub fn row(&self, row: usize) -> Option<Range<usize>> {
        self.rows[row].map(|(start, end)| start as usize..end as usize)
    }
}

/// Where a text that begins with its length at `at` begins itself, and ends.
#[inline]
pub(crate) fn plain(page: &[u8], at: usize) -> Result<(usize, usize)> {
    let len = page.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or_else(short)?;
    let start = at + 4;
    let end = start + u32::from_le_bytes(*len) as usize;
    if end > page.len() { Err(short()) } else { Ok((start, end)) }
}

/// Refuses what is no text.
pub(crate) fn utf8(text: &[u8]) -> Result<()> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| damaged("a text is not UTF-8"))
}

/// A place in a page.
pub(crate) fn offset(at: usize) -> Result<u32> {
    u32::try_from(at).map_err(|_| damaged("a page is larger than a page can be"))
}

/// What a page says that ends too early.
pub(crate) fn short() -> ParquetError {
    damaged("a page has fewer values than it tells of")
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}
