//! The digest of a row: its leaf under `rows_root` (INTEGRITY section 4).
//!
//! What it is: SHA-256 over which columns a row has, what they hold, its uid and its event's hash.
//! The names come first and fill whole blocks, so what they hash to is worked out once for all rows with the
//! same columns. What it is not: a check of anything. In: rows in the row encoding, or the parts of a row.
//! Out: digests, which sealed manifests bind: their definition is frozen.

use std::collections::HashMap;

use crate::column::ColumnSet;
use crate::hash::{Hash, Uid};
use crate::row::{Row, split_set};
use crate::sha256::{self, BLOCK, Midstate, Text};

/// What the digests of one definition begin with.
const DOMAIN: &str = "keytrail/row/1";

/// A row's digest: SHA-256 of
///
/// 1. `keytrail/row/1`, the number of columns that are not null (u32) and their names by ascending name,
/// 2. zero bytes up to the next multiple of 64,
/// 3. their values in the same order,
/// 4. the uid (20 bytes) and the event's hash (32 bytes).
///
/// Domain, names and values each stand behind their length (u32). Values are texts as UTF-8, integers and
/// times as i64, flags as one byte, lists as their items, each behind its length. All numbers are
/// big-endian. `encoded` holds the derived columns as [`crate::row::encode`] writes them.
pub fn of_row(uid: &Uid, hash: &Hash, encoded: &[u8]) -> Hash {
    sha256::hash(text(&mut Names::default(), uid, hash, encoded))
}

/// The digests of rows, faster than one by one.
pub fn of_rows(rows: &[Row<'_>]) -> Vec<Hash> {
    let mut names = Names::default();
    let mut texts = rows.iter().map(|row| text(&mut names, &row.head.uid, &row.head.hash, row.columns));
    let mut digests = Vec::with_capacity(rows.len());
    while let Some(first) = texts.next() {
        match texts.next() {
            Some(second) => digests.extend(sha256::hash_two(first, second)),
            None => digests.push(sha256::hash(first)),
        }
    }
    digests
}

/// What is hashed of a row.
pub type RowText<'a> = Text<'a, 52>;

/// What is hashed of a row whose values, each behind its length, are `values`.
pub fn row_text<'a>(names: Midstate, values: &'a [u8], uid: &Uid, hash: &Hash) -> RowText<'a> {
    let mut tail = [0; 52];
    tail[..20].copy_from_slice(&uid.0);
    tail[20..].copy_from_slice(&hash.0);
    Text { after: names, bytes: values, tail }
}

fn text<'a>(names: &mut Names, uid: &Uid, hash: &Hash, encoded: &'a [u8]) -> RowText<'a> {
    let (set, values) = split_set(encoded);
    row_text(names.hashed(set), values, uid, hash)
}

/// What the names of sets of columns hash to. It grows with the sets that it was asked for: one a row at
/// most, so it lives as long as some rows are at hand.
#[derive(Default, Debug)]
pub struct Names {
    known: HashMap<ColumnSet, Midstate>,
    last: Option<(ColumnSet, Midstate)>,
}

impl Names {
    /// After what stands before the values of a row with these columns.
    pub fn hashed(&mut self, set: ColumnSet) -> Midstate {
        if let Some((last, names)) = self.last
            && last == set
        {
            return names;
        }
        let names = *self.known.entry(set).or_insert_with(|| {
            let mut text = Vec::with_capacity(16 * BLOCK);
            let mut put = |part: &[u8]| text.extend_from_slice(part);
            put(&(DOMAIN.len() as u32).to_be_bytes());
            put(DOMAIN.as_bytes());
            put(&set.len().to_be_bytes());
            for column in set.iter() {
                put(&(column.name().len() as u32).to_be_bytes());
                put(column.name().as_bytes());
            }
            text.resize(text.len().next_multiple_of(BLOCK), 0);
            Midstate::START.then(text.as_chunks().0)
        });
        self.last = Some((set, names));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Content, Provenance, RowBuffer, values};
    use crate::{AuditEvent, Column, Kind};

    /// The definition, put together in one piece.
    fn by_the_book(row: &Row<'_>) -> Hash {
        let sized = |part: &[u8]| [&(part.len() as u32).to_be_bytes()[..], part].concat();
        let held: Vec<_> = values(row.columns).collect();
        let mut text = sized(b"keytrail/row/1");
        text.extend((held.len() as u32).to_be_bytes());
        held.iter().for_each(|(column, _)| text.extend(sized(column.name().as_bytes())));
        while text.len() % 64 != 0 {
            text.push(0);
        }
        held.iter().for_each(|(_, value)| text.extend(sized(value)));
        text.extend(row.head.uid.0);
        text.extend(row.head.hash.0);
        Hash::of(&text)
    }

    /// Rows that have all sorts of columns.
    fn rows(n: usize) -> RowBuffer {
        let mut rows = RowBuffer::new();
        for i in 0..n {
            let mut e = AuditEvent::new("d", "m");
            for column in Column::ALL.into_iter().filter(|c| c.derived()) {
                match (i / 2 * 31 + column.index() * 7) % 5 {
                    0 => {}
                    1 | 2 if column.kind() == Kind::Text => e.text(column, "t".repeat(i % 90)),
                    _ if column.kind() == Kind::Int => e.int(column, i as i64),
                    _ if column.kind() == Kind::Bool => e.flag(column, i % 2 == 0),
                    _ if column.kind() == Kind::List => e.add(column, format!("item {i}")),
                    _ => {}
                }
            }
            let from = Provenance { input: 0, offset: 0 };
            rows.push(&e, i.to_string().as_bytes(), Content::AsIs, from);
        }
        rows
    }

    #[test]
    fn rows_together_have_the_digests_of_each_alone() {
        for n in [0, 1, 2, 41] {
            let rows = rows(n);
            let rows: Vec<_> = rows.rows().collect();
            let alone: Vec<_> = rows.iter().map(Row::digest).collect();
            assert_eq!(of_rows(&rows), alone);
            assert_eq!(alone, rows.iter().map(by_the_book).collect::<Vec<_>>());
        }
    }

    /// What a value says cannot be moved to another column, nor from one value to the next.
    #[test]
    fn digests_tell_columns_and_values_apart() {
        use Column::{EventAction, EventCode, RelatedIp, RelatedUser};
        let texts = |values: &[(Column, &'static str)]| {
            let mut e = AuditEvent::new("d", "m");
            values.iter().for_each(|(column, value)| match column.kind() {
                Kind::List => e.add(*column, *value),
                _ => e.text(*column, *value),
            });
            let mut rows = RowBuffer::new();
            rows.push(&e, b"{}", Content::AsIs, Provenance { input: 0, offset: 0 });
            rows.row(0).digest()
        };
        let digests = [
            texts(&[]),
            texts(&[(EventAction, "ab")]),
            texts(&[(EventCode, "ab")]),
            texts(&[(EventAction, "a"), (EventCode, "b")]),
            texts(&[(EventAction, "b"), (EventCode, "a")]),
            texts(&[(RelatedIp, "ab")]),
            texts(&[(RelatedIp, "a"), (RelatedIp, "b")]),
            texts(&[(RelatedIp, "a"), (RelatedUser, "b")]),
            texts(&[(RelatedUser, "ab")]),
        ];
        for (i, a) in digests.iter().enumerate() {
            assert!(!digests[..i].contains(a), "{i}");
        }
    }
}
