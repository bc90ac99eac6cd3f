//! The row digests ([`keytrail_model::row::digest`]) of rows that are Arrow arrays: the same bytes are
//! hashed, written once into a buffer a row instead of encoded first.
//!
//! It is not a second definition: what the model's function says is the promise, and tests hold this to it.

use arrow_array::{Array, StringViewArray};
use keytrail_model::column::COUNT;
use keytrail_model::sha256::of_two;
use keytrail_model::{Column, Hash, Uid};

use crate::batch::{Values, items};

/// Bytes of the longest column name and its length.
const HEAD: usize = {
    let (mut longest, mut i) = (0, 0);
    while i < COUNT {
        let len = Column::ALL[i].name().len();
        longest = if len > longest { len } else { longest };
        i += 1;
    }
    4 + longest
};

/// Rows that are written at once, column by column: their values lie next to each other, and a value that
/// is still on its way from memory holds up one row and not all that follow.
const ROWS: usize = 8;

/// The digests of all rows of a batch. `derived` has their columns by ascending name; `hashes` are those of
/// the events, zero where there are none.
pub(crate) fn digests(uids: &[Uid], hashes: Option<&[Hash]>, derived: &[(Column, Values)]) -> Vec<Hash> {
    let heads: Vec<Head> = derived.iter().map(|(column, _)| Head::new(*column)).collect();
    let mut rows: [Preimage; ROWS] = Default::default();
    let mut out = Vec::with_capacity(uids.len());
    for (n, some) in uids.chunks(ROWS).enumerate() {
        let first = n * ROWS;
        let rows = &mut rows[..some.len()];
        for (i, (row, uid)) in rows.iter_mut().zip(some).enumerate() {
            row.len = 0;
            row.put(&uid.0);
            row.put(&hashes.map_or(Hash::default(), |h| h[first + i]).0);
        }
        for (head, (_, values)) in heads.iter().zip(derived) {
            values.write(first, head, rows);
        }
        for two in rows.chunks(2) {
            match two {
                [a, b] => out.extend(of_two(a.bytes(), b.bytes())),
                _ => out.extend(two.iter().map(|row| Hash::of(row.bytes()))),
            }
        }
    }
    out
}

/// A column's name behind its length, in a fixed size that makes copying it cheap.
struct Head {
    bytes: [u8; HEAD],
    len: usize,
}

impl Head {
    fn new(column: Column) -> Self {
        let name = column.name().as_bytes();
        let (mut bytes, len) = ([0; HEAD], 4 + name.len());
        bytes[..4].copy_from_slice(&(name.len() as u32).to_be_bytes());
        bytes[4..len].copy_from_slice(name);
        Self { bytes, len }
    }
}

impl Values {
    /// Appends the column to `rows`, of which the first is the batch's row `first`.
    fn write(&self, first: usize, head: &Head, rows: &mut [Preimage]) {
        match self {
            Self::Text(a) => each(a, first, rows, |i, row| {
                row.begin(head);
                row.text(a, i);
            }),
            Self::Int(a) => each(a, first, rows, |i, row| {
                row.begin(head);
                row.sized(a.value(i).to_be_bytes());
            }),
            Self::Time(a) => each(a, first, rows, |i, row| {
                row.begin(head);
                row.sized(a.value(i).to_be_bytes());
            }),
            Self::Bool(a) => each(a, first, rows, |i, row| {
                row.begin(head);
                row.sized([u8::from(a.value(i))]);
            }),
            Self::List(list, texts) => each(list, first, rows, |i, row| {
                row.begin(head);
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
fn each(array: &impl Array, first: usize, rows: &mut [Preimage], write: impl Fn(usize, &mut Preimage)) {
    match array.nulls() {
        None => rows.iter_mut().enumerate().for_each(|(i, row)| write(first + i, row)),
        Some(nulls) => {
            for (i, row) in rows.iter_mut().enumerate() {
                if nulls.is_valid(first + i) {
                    write(first + i, row);
                }
            }
        }
    }
}

/// What is hashed of a row: the first `len` of the bytes.
#[derive(Default)]
struct Preimage {
    bytes: Vec<u8>,
    len: usize,
}

/// Bytes of a text that a view holds itself.
const INLINE: usize = 12;

impl Preimage {
    fn bytes(&self) -> &[u8] {
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

    #[inline]
    fn begin(&mut self, head: &Head) {
        self.room(HEAD).copy_from_slice(&head.bytes);
        self.len += head.len;
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
