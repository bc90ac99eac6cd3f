//! The row digests ([`keytrail_model::digest`]) of rows that are Arrow arrays: the same bytes are hashed,
//! written once into a buffer a row instead of encoded first.
//!
//! It is not a second definition: what the model's function says is the promise, and tests hold this to it.

use arrow_array::{Array, StringViewArray};
use keytrail_model::digest::{Names, RowText, row_text};
use keytrail_model::sha256::{hash, hash_two};
use keytrail_model::{Column, ColumnSet, Hash, Uid};

use crate::batch::{Values, items};

/// Rows that are written at once, column by column: their values lie next to each other, and a value that
/// is still on its way from memory holds up one row and not all that follow.
const ROWS: usize = 8;

/// The digests of all rows of a batch. `derived` has their columns by ascending name; `hashes` are those of
/// the events, zero where there are none.
pub(crate) fn digests(uids: &[Uid], hashes: Option<&[Hash]>, derived: &[(Column, Values)]) -> Vec<Hash> {
    let mut rows: [RowValues; ROWS] = Default::default();
    let mut names = Names::default();
    let mut out = Vec::with_capacity(uids.len());
    for (n, some) in uids.chunks(ROWS).enumerate() {
        let first = n * ROWS;
        let rows = &mut rows[..some.len()];
        for row in rows.iter_mut() {
            row.len = 0;
            row.set = ColumnSet::default();
        }
        for (column, values) in derived {
            values.write(first, *column, rows);
        }
        let mut text = |i: usize| -> RowText<'_> {
            let event = hashes.map_or(Hash::default(), |h| h[first + i]);
            row_text(names.hashed(rows[i].set), rows[i].values(), &some[i], &event)
        };
        let pairs = some.len() / 2;
        (0..pairs).for_each(|two| out.extend(hash_two(text(2 * two), text(2 * two + 1))));
        (2 * pairs..some.len()).for_each(|i| out.push(hash(text(i))));
    }
    out
}

impl Values {
    /// Appends the column to `rows`, of which the first is the batch's row `first`.
    fn write(&self, first: usize, column: Column, rows: &mut [RowValues]) {
        match self {
            Self::Text(a) => each(a, first, column, rows, |i, row| row.text(a, i)),
            Self::Int(a) => each(a, first, column, rows, |i, row| row.sized(a.value(i).to_be_bytes())),
            Self::Time(a) => each(a, first, column, rows, |i, row| row.sized(a.value(i).to_be_bytes())),
            Self::Bool(a) => each(a, first, column, rows, |i, row| row.sized([u8::from(a.value(i))])),
            Self::List(list, texts) => each(list, first, column, rows, |i, row| {
                let at = row.len;
                row.put(&[0; 4]);
                items(list, i).for_each(|i| row.text(texts, i));
                let len = (row.len - at - 4) as u32;
                row.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
            }),
        }
    }
}

/// Calls `write` for each row that has a value.
#[inline]
fn each(
    array: &impl Array,
    first: usize,
    column: Column,
    rows: &mut [RowValues],
    write: impl Fn(usize, &mut RowValues),
) {
    let nulls = array.nulls();
    for (i, row) in rows.iter_mut().enumerate() {
        if nulls.is_none_or(|nulls| nulls.is_valid(first + i)) {
            row.set.insert(column);
            write(first + i, row);
        }
    }
}

/// What a row has, and its values, each behind its length: the first `len` of the bytes.
#[derive(Default)]
struct RowValues {
    set: ColumnSet,
    bytes: Vec<u8>,
    len: usize,
}

/// Bytes of a text that a view holds itself.
const INLINE: usize = 12;

impl RowValues {
    fn values(&self) -> &[u8] {
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

    /// A value behind its length.
    #[inline]
    fn sized<const N: usize>(&mut self, value: [u8; N]) {
        self.put(&(N as u32).to_be_bytes());
        self.put(&value);
    }

    /// A text behind its length.
    #[inline]
    fn text(&mut self, texts: &StringViewArray, i: usize) {
        let view = texts.views()[i];
        // The lowest four bytes of a view are its length, and a short text follows them.
        let len = view as u32;
        self.put(&len.to_be_bytes());
        if len as usize <= INLINE {
            self.room(INLINE).copy_from_slice(&view.to_le_bytes()[4..]);
            self.len += len as usize;
        } else {
            self.put(texts.value(i).as_bytes());
        }
    }
}
