//! The values of rows in the row encoding, and their digests ([`keytrail_model::digest`]), from columns: what is
//! hashed is written once, into a buffer a row, column by column for some rows at a time.
//!
//! It is not a second definition: what the model's functions say is the promise, and tests hold this to it.

use std::ops::Range;

use keytrail_model::digest::{Names, RowText, row_text};
use keytrail_model::sha256::{hash, hash_two};
use keytrail_model::{Column, ColumnSet, Hash, Uid};

use crate::values::{Texts, Values};

/// Rows that are written at once, column by column: their values lie next to each other, and a value that
/// is still on its way from memory holds up one row and not all that follow.
const ROWS: usize = 8;

/// Calls `each` with the first row and the values of some rows, until it had all of so many. `derived` has
/// their columns by ascending name.
pub(crate) fn written(rows: usize, derived: &[(Column, Values)], mut each: impl FnMut(usize, &[RowValues])) {
    let mut some: [RowValues; ROWS] = Default::default();
    for first in (0..rows).step_by(ROWS) {
        let some = &mut some[..ROWS.min(rows - first)];
        for row in some.iter_mut() {
            row.len = 0;
            row.set = ColumnSet::default();
        }
        for (column, values) in derived {
            values.write(first, *column, some);
        }
        each(first, some);
    }
}

/// The digests of all rows of a batch; `hashes` are those of the events, zero where there are none.
pub(crate) fn digests(uids: &[Uid], hashes: Option<&[Hash]>, derived: &[(Column, Values)]) -> Vec<Hash> {
    let mut names = Names::default();
    let mut out = Vec::with_capacity(uids.len());
    written(uids.len(), derived, |first, rows| {
        let mut text = |i: usize| -> RowText<'_> {
            let event = hashes.map_or(Hash::default(), |h| h[first + i]);
            row_text(names.hashed(rows[i].set), rows[i].values(), &uids[first + i], &event)
        };
        let pairs = rows.len() / 2;
        (0..pairs).for_each(|two| out.extend(hash_two(text(2 * two), text(2 * two + 1))));
        (2 * pairs..rows.len()).for_each(|i| out.push(hash(text(i))));
    });
    out
}

impl Values {
    /// Appends the column to `rows`, of which the first is the batch's row `first`.
    fn write(&self, first: usize, column: Column, rows: &mut [RowValues]) {
        let rows = rows.iter_mut().enumerate().map(|(i, row)| (first + i, row));
        match self {
            Self::Text(Texts::Indexed(distinct, numbers)) => {
                for (i, row) in rows {
                    if let Some(number) = distinct.number(numbers, i) {
                        row.set.insert(column);
                        let (page, place) = distinct.sized(number);
                        row.part(page, place);
                    }
                }
            }
            Self::Text(texts) => {
                for (i, row) in rows {
                    if let Some(text) = texts.get(i) {
                        row.set.insert(column);
                        row.text(text);
                    }
                }
            }
            Self::Int(ints) => {
                for (i, row) in rows {
                    if let Some(int) = ints[i] {
                        row.set.insert(column);
                        row.sized(int.to_be_bytes());
                    }
                }
            }
            Self::Bool(flags) => {
                for (i, row) in rows {
                    if let Some(flag) = flags[i] {
                        row.set.insert(column);
                        row.sized([u8::from(flag)]);
                    }
                }
            }
            Self::List(lists) => {
                for (i, row) in rows {
                    if let Some(items) = lists.row(i) {
                        row.set.insert(column);
                        row.list(lists.items(), items);
                    }
                }
            }
        }
    }
}

/// What a row has, and its values, each behind its length: the first `len` of the bytes.
#[derive(Default)]
pub(crate) struct RowValues {
    set: ColumnSet,
    bytes: Vec<u8>,
    len: usize,
}

/// A part of so many bytes is copied with what follows it: that takes no loop.
const SHORT: usize = 32;

impl RowValues {
    /// Which columns have a value.
    pub fn set(&self) -> ColumnSet {
        self.set
    }

    /// Their values.
    pub fn values(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The next bytes, so many.
    #[inline]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < bytes {
            self.grow(bytes);
        }
        &mut self.bytes[self.len..self.len + bytes]
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        self.bytes.resize((self.len + bytes).max(2048) * 2, 0);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// A part of a page.
    #[inline]
    fn part(&mut self, page: &[u8], place: Range<usize>) {
        if place.len() <= SHORT
            && let Some(more) = page[place.start..].first_chunk::<SHORT>()
        {
            self.room(SHORT).copy_from_slice(more);
            self.len += place.len();
        } else {
            self.put(&page[place]);
        }
    }

    /// A value behind its length.
    #[inline]
    fn sized<const N: usize>(&mut self, value: [u8; N]) {
        self.put(&(N as u32).to_be_bytes());
        self.put(&value);
    }

    /// A text behind its length.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.put(&(text.len() as u32).to_be_bytes());
        self.put(text);
    }

    /// Items, each behind its length, behind theirs.
    fn list(&mut self, texts: &Texts, items: Range<usize>) {
        let at = self.len;
        self.put(&[0; 4]);
        for i in items {
            match texts {
                Texts::Indexed(distinct, numbers) => {
                    if let Some(number) = distinct.number(numbers, i) {
                        let (page, place) = distinct.sized(number);
                        self.part(page, place);
                    }
                }
                Texts::Placed(..) => self.text(texts.get(i).unwrap_or_default()),
            }
        }
        let len = (self.len - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
}
