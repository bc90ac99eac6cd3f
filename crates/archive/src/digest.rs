//! The row digest ([`keytrail_model::row::digest`]) of rows that are Arrow arrays: the same bytes are
//! hashed, written once into one buffer instead of encoded first.
//!
//! It is not a second definition: what the model's function says is the promise, and a test holds this to it.

use arrow_array::{Array, StringViewArray};
use keytrail_model::column::COUNT;
use keytrail_model::{Column, Hash, Uid};
use sha2::{Digest, Sha256};

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

/// Digests rows of a batch.
pub(crate) struct Digester<'a> {
    columns: Vec<Part<'a>>,
    /// What is hashed, at its beginning.
    block: Vec<u8>,
}

struct Part<'a> {
    /// The column's name behind its length, and nothing up to the fixed size that makes copying it cheap.
    head: [u8; HEAD],
    head_len: usize,
    values: &'a Values,
}

impl<'a> Digester<'a> {
    /// Of rows with these columns, by ascending name.
    pub fn new(derived: &'a [(Column, Values)]) -> Self {
        let part = |(column, values): &'a (Column, Values)| {
            let name = column.name().as_bytes();
            let mut head = [0; HEAD];
            head[..4].copy_from_slice(&(name.len() as u32).to_be_bytes());
            head[4..4 + name.len()].copy_from_slice(name);
            Part { head, head_len: 4 + name.len(), values }
        };
        Self { columns: derived.iter().map(part).collect(), block: vec![0; 4096] }
    }

    /// The digest of a row.
    pub fn row(&mut self, uid: &Uid, hash: &Hash, row: usize) -> Hash {
        let mut out = Out { block: &mut self.block, len: 0 };
        out.put(&uid.0);
        out.put(&hash.0);
        for Part { head, head_len, values } in &self.columns {
            match values {
                Values::Text(a) if a.is_valid(row) => {
                    out.begin(head, *head_len);
                    out.text(a, row);
                }
                Values::Int(a) if a.is_valid(row) => {
                    out.begin(head, *head_len);
                    out.sized(a.value(row).to_be_bytes());
                }
                Values::Bool(a) if a.is_valid(row) => {
                    out.begin(head, *head_len);
                    out.sized([u8::from(a.value(row))]);
                }
                Values::Time(a) if a.is_valid(row) => {
                    out.begin(head, *head_len);
                    out.sized(a.value(row).to_be_bytes());
                }
                Values::List(list, texts) if list.is_valid(row) => {
                    out.begin(head, *head_len);
                    let at = out.len;
                    out.put(&[0; 4]);
                    items(list, row).for_each(|i| out.text(texts, i));
                    let len = (out.len - at - 4) as u32;
                    out.block[at..at + 4].copy_from_slice(&len.to_be_bytes());
                }
                _ => {}
            }
        }
        Hash(Sha256::digest(&out.block[..out.len]).into())
    }
}

/// What is hashed of a row, growing.
struct Out<'a> {
    block: &'a mut Vec<u8>,
    len: usize,
}

/// Bytes of a text that a view holds itself.
const INLINE: usize = 12;

impl Out<'_> {
    #[inline]
    fn room(&mut self, bytes: usize) {
        if self.block.len() - self.len < bytes {
            self.block.resize((self.len + bytes) * 2, 0);
        }
    }

    #[inline]
    fn begin(&mut self, head: &[u8; HEAD], len: usize) {
        self.room(HEAD);
        self.block[self.len..self.len + HEAD].copy_from_slice(head);
        self.len += len;
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len());
        self.block[self.len..self.len + bytes.len()].copy_from_slice(bytes);
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
            self.room(INLINE);
            self.block[self.len..self.len + INLINE].copy_from_slice(&view.to_le_bytes()[4..]);
            self.len += len as usize;
        } else {
            self.put(texts.value(i).as_bytes());
        }
    }
}
