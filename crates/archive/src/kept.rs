//! Rows that were archived before, on their way into another object: what a row of the archive has beside
//! columns and original goes with it.
//!
//! In: rows as [`crate::ObjectReader`] gives them. Out: rows that the [`crate::Sorter`] takes, and from its
//! slices again [`Kept`] rows, for [`crate::ObjectWriter::append_kept`]. In between the provenance stands
//! before the original bytes, in memory and in spilled runs alone.

use keytrail_model::row::Head;
use keytrail_model::{Day, Row, RowBuffer, Timestamp};

use crate::read::{ReadError, StoredRow};

/// A row that was archived before, with what was not derived from its original.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// The row; without an original its bytes are empty.
    pub row: Row<'a>,
    /// `event_ingested`.
    pub ingested: Option<Timestamp>,
    /// `keytrail_input`.
    pub input: Option<&'a str>,
    /// What tables said of it, in the row encoding.
    pub enrichment: &'a [u8],
    /// `event_original` is null.
    pub withheld: bool,
}

const WITHHELD: u8 = 1;
const HAS_TIME: u8 = 2;
const HAS_INPUT: u8 = 4;

/// Bytes before the name of the input.
const FIXED: usize = 17;

/// A row's place among those that are rewritten together, which its head carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The object that it comes from.
    pub input: u32,
    /// Its row there.
    pub row: u64,
}

impl Origin {
    /// Of a row that was packed.
    pub const fn of(head: &Head) -> Self {
        Self { input: head.input, row: head.offset }
    }
}

/// The head of a stored row of that partition.
///
/// # Errors
/// `Damaged`, when the row lacks what every row has.
pub fn head(
    stored: &StoredRow<'_>,
    dataset: &'static str,
    day: Day,
    origin: Origin,
) -> Result<Head, ReadError> {
    let missing = |column: &str| ReadError::Damaged(format!("row {}: `{column}` is null", stored.number));
    let hash = stored.hash.ok_or_else(|| missing("event_hash"))?;
    let group = stored.group.ok_or_else(|| missing("keytrail_group"))?;
    let mut head = Head::archived(dataset, day, stored.time, (stored.uid, group, hash));
    (head.input, head.offset) = (origin.input, origin.row);
    Ok(head)
}

/// Appends a row, packed for the sorter. `scratch` is used for its bytes.
pub fn pack(rows: &mut RowBuffer, head: &Head, stored: &StoredRow<'_>, scratch: &mut Vec<u8>) {
    let flag = |set, flag| if set { flag } else { 0 };
    let flags = flag(stored.original.is_none(), WITHHELD)
        | flag(stored.ingested.is_some(), HAS_TIME)
        | flag(stored.input.is_some(), HAS_INPUT);
    let input = stored.input.unwrap_or_default();
    scratch.clear();
    scratch.push(flags);
    scratch.extend_from_slice(&stored.ingested.map_or(0, |t| t.0).to_be_bytes());
    // A text of an Arrow array has less than 2 GiB.
    scratch.extend_from_slice(&(input.len() as u32).to_be_bytes());
    // So has each text of an enrichment, and there are few.
    scratch.extend_from_slice(&(stored.enrichment.len() as u32).to_be_bytes());
    scratch.extend_from_slice(input.as_bytes());
    scratch.extend_from_slice(stored.enrichment);
    scratch.extend_from_slice(stored.original.unwrap_or_default());
    rows.push_encoded(head, stored.columns, scratch);
}

/// A packed row as it was; `None` for bytes that [`pack`] did not make.
pub fn unpack<'a>(packed: &Row<'a>) -> Option<Kept<'a>> {
    let (fixed, rest) = packed.original.split_first_chunk::<FIXED>()?;
    let [flags, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3, e0, e1, e2, e3] = *fixed;
    let ingested = Timestamp(i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
    let (input, rest) = rest.split_at_checked(u32::from_be_bytes([l0, l1, l2, l3]) as usize)?;
    let (enrichment, original) = rest.split_at_checked(u32::from_be_bytes([e0, e1, e2, e3]) as usize)?;
    Some(Kept {
        row: Row { original, ..*packed },
        ingested: (flags & HAS_TIME != 0).then_some(ingested),
        input: if flags & HAS_INPUT != 0 { Some(std::str::from_utf8(input).ok()?) } else { None },
        enrichment,
        withheld: flags & WITHHELD != 0,
    })
}

#[cfg(test)]
mod tests {
    use keytrail_model::{Hash, Uid};

    use super::*;

    #[test]
    fn a_packed_row_is_the_row_that_it_was() {
        let stored = StoredRow {
            number: 7,
            uid: Uid([1; 20]),
            hash: Some(Hash::of(b"o")),
            time: Some(Timestamp(5)),
            group: Some(u64::MAX),
            ingested: Some(Timestamp(-9)),
            input: Some("a/b.json@17"),
            columns: b"",
            enrichment: b"e",
            original: Some(b"o"),
        };
        let origin = Origin { input: 3, row: 1 << 40 };
        for stored in [
            stored,
            StoredRow { original: None, ..stored },
            StoredRow { original: Some(b""), enrichment: b"", ingested: None, input: None, ..stored },
        ] {
            let head = head(&stored, "d", Day::Undated, origin).unwrap();
            let mut rows = RowBuffer::new();
            pack(&mut rows, &head, &stored, &mut Vec::new());
            let row = rows.row(0);
            let kept = unpack(&row).unwrap();
            assert_eq!((kept.ingested, kept.input), (stored.ingested, stored.input));
            assert_eq!(kept.enrichment, stored.enrichment);
            assert_eq!((!kept.withheld).then_some(kept.row.original), stored.original);
            assert_eq!((kept.row.head.uid, kept.row.head.group), (stored.uid, u64::MAX));
            assert_eq!((kept.row.head.hash, kept.row.head.time), (Hash::of(b"o"), stored.time));
            assert_eq!(Origin::of(kept.row.head), origin);
        }
        let nothing = StoredRow { hash: None, ..stored };
        assert!(head(&nothing, "d", Day::Undated, origin).is_err());
    }
}
