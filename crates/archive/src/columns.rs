//! Rows to Arrow arrays: one builder a column, touched only by rows that set it.
//!
//! Texts are copied as the row encoding has them and checked for UTF-8 a column at a time.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;
use keytrail_model::row::{items, values};
use keytrail_model::{Column, Fatal, Kind, Row, Timestamp};

use crate::kept::Kept;
use crate::schema;

/// A column in the making.
struct Builder {
    rows: usize,
    /// Runs of rows without a value: first row and number.
    nulls: Vec<(usize, usize)>,
    values: Values,
}

enum Values {
    Text(Texts),
    Int(Vec<i64>),
    Bool(BooleanBufferBuilder),
    Time(Vec<i64>),
    List { items: Texts, offsets: Vec<i32> },
}

/// Texts one behind the other, and where each ends.
struct Texts {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

impl Texts {
    fn with_capacity(texts: usize) -> Self {
        let mut offsets = Vec::with_capacity(texts + 1);
        offsets.push(0);
        Self { bytes: Vec::with_capacity(texts * 16), offsets }
    }

    fn append(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.offsets.push(offset(self.bytes.len()));
    }

    fn append_nulls(&mut self, n: usize) {
        self.offsets.resize(self.offsets.len() + n, offset(self.bytes.len()));
    }

    fn finish(self, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
        i32::try_from(self.bytes.len()).map_err(|_| ArrowError::OffsetOverflowError(self.bytes.len()))?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        StringArray::try_new(offsets, Buffer::from_vec(self.bytes), nulls)
    }
}

/// Arrow's offsets end at 2 GiB; [`Texts::finish`] refuses more.
fn offset(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

impl Builder {
    fn new(kind: Kind, rows: usize) -> Self {
        let values = match kind {
            Kind::Text | Kind::Binary => Values::Text(Texts::with_capacity(rows)),
            Kind::Int => Values::Int(Vec::with_capacity(rows)),
            Kind::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            Kind::Time => Values::Time(Vec::with_capacity(rows)),
            Kind::List => Values::List { items: Texts::with_capacity(rows), offsets: vec![0] },
        };
        Self { rows: 0, nulls: Vec::new(), values }
    }

    /// Nulls for the rows since the last one that had a value.
    fn skip_to(&mut self, row: usize) {
        let missing = row - self.rows;
        if missing == 0 {
            return;
        }
        self.nulls.push((self.rows, missing));
        self.rows = row;
        match &mut self.values {
            Values::Text(texts) => texts.append_nulls(missing),
            Values::Int(n) | Values::Time(n) => n.resize(row, 0),
            Values::Bool(b) => b.append_n(missing, false),
            Values::List { items, offsets } => {
                offsets.resize(offsets.len() + missing, offset(items.offsets.len() - 1));
            }
        }
    }

    /// Appends the value of a row that comes after all before, as the row encoding has it.
    fn append(&mut self, row: usize, value: &[u8]) {
        self.skip_to(row);
        self.rows += 1;
        match &mut self.values {
            Values::Text(texts) => texts.append(value),
            Values::Int(n) | Values::Time(n) => n.push(int(value)),
            Values::Bool(b) => b.append(value == [1]),
            Values::List { items: texts, offsets } => {
                items(value).for_each(|item| texts.append(item));
                offsets.push(offset(texts.offsets.len() - 1));
            }
        }
    }

    fn finish(mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        self.skip_to(rows);
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(rows);
            for (first, n) in self.nulls {
                valid.append_n(first - valid.len(), true);
                valid.append_n(n, false);
            }
            valid.append_n(rows - valid.len(), true);
            NullBuffer::new(valid.finish())
        });
        Ok(match self.values {
            Values::Text(texts) => Arc::new(texts.finish(nulls)?),
            Values::Int(n) => Arc::new(Int64Array::try_new(n.into(), nulls)?),
            Values::Time(n) => {
                Arc::new(TimestampMicrosecondArray::try_new(n.into(), nulls)?.with_timezone("UTC"))
            }
            Values::Bool(mut b) => Arc::new(BooleanArray::new(b.finish(), nulls)),
            Values::List { items, offsets } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(schema::item(), offsets, Arc::new(items.finish(None)?), nulls)?)
            }
        })
    }
}

/// The row encoding has integers and times in eight bytes.
fn int(value: &[u8]) -> i64 {
    value.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes))
}

/// What the archive adds to rows as it writes them.
#[derive(Clone, Copy)]
pub(crate) enum Added<'a> {
    /// To new rows.
    New {
        /// `event_ingested` of all rows.
        ingested: Timestamp,
        /// Names of the input objects, by the number that heads carry.
        inputs: &'a [String],
    },
    /// What the rows, the same number, had before.
    Kept(&'a [Kept<'a>]),
}

/// What is built of rows.
pub(crate) struct Built {
    /// All columns but `event_original`, by [`Column::index`]; that one stays `None`.
    pub arrays: Vec<Option<ArrayRef>>,
    /// The values of `keytrail_normalizer`.
    pub normalizers: BTreeSet<String>,
}

/// The arrays of some rows.
pub(crate) fn build(rows: &[Row<'_>], added: Added<'_>) -> Result<Built, Fatal> {
    let mut builders: Vec<Option<Builder>> = Column::ALL.iter().map(|_| None).collect();
    let mut put = |row: usize, column: Column, value: &[u8]| {
        builders[column.index()]
            .get_or_insert_with(|| Builder::new(column.kind(), rows.len()))
            .append(row, value);
    };
    // Neighbours are mostly of one normalizer; the set takes care of the rest.
    let mut normalizers: Vec<&[u8]> = Vec::new();
    let mut hex = [0; 64];
    let mut input = String::new();
    for (i, row) in rows.iter().enumerate() {
        let head = row.head;
        for (column, value) in values(row.columns) {
            if column.derived() {
                put(i, column, value);
            }
            if column == Column::KeytrailNormalizer && normalizers.last() != Some(&value) {
                normalizers.push(value);
            }
        }
        put(i, Column::EventHash, hex_text(&head.hash.0, &mut hex));
        put(i, Column::KeytrailUid, hex_text(&head.uid.0, &mut hex));
        // The same 64 bits; SQL has no unsigned integers everywhere.
        put(i, Column::KeytrailGroup, &head.group.to_be_bytes());
        match added {
            Added::New { ingested, inputs } => {
                put(i, Column::EventIngested, &ingested.0.to_be_bytes());
                let name = usize::try_from(head.input).ok().and_then(|n| inputs.get(n)).ok_or_else(|| {
                    Fatal::new(
                        "Fatal.Archive",
                        format!("row {i} names input `{}`, the batch has {}", head.input, inputs.len()),
                    )
                })?;
                input.clear();
                // Writing to a String cannot fail.
                let _ = write!(input, "{name}@{}", head.offset);
                put(i, Column::KeytrailInput, input.as_bytes());
            }
            Added::Kept(kept) => {
                let kept = &kept[i];
                if let Some(ingested) = kept.ingested {
                    put(i, Column::EventIngested, &ingested.0.to_be_bytes());
                }
                if let Some(input) = kept.input {
                    put(i, Column::KeytrailInput, input.as_bytes());
                }
            }
        }
    }
    let array = |(column, builder): (&Column, Option<Builder>)| match (column, builder) {
        (Column::EventOriginal, _) => Ok(None),
        (_, Some(b)) => b.finish(rows.len()).map(Some),
        (c, None) => Ok(Some(new_null_array(&schema::data_type(c.kind()), rows.len()))),
    };
    let arrays = Column::ALL.iter().zip(builders).map(array).collect::<Result<_, _>>();
    let normalizers = normalizers.into_iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
    Ok(Built {
        arrays: arrays
            .map_err(|e| Fatal::new("Fatal.Archive", format!("columns of an archive object: {e}")))?,
        normalizers,
    })
}

fn hex_text<'a>(bytes: &[u8], out: &'a mut [u8; 64]) -> &'a [u8] {
    let out = &mut out[..bytes.len() * 2];
    keytrail_model::hash::encode_hex(bytes, out);
    out
}

/// `event_original` in arrays of about one page: the bytes of a row group are never copied at once.
pub(crate) fn originals<'a>(
    rows: &'a [Row<'a>],
    added: Added<'a>,
) -> impl Iterator<Item = Result<BinaryArray, ArrowError>> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = &rows[from..];
        let mut bytes = 0;
        let n = rest
            .iter()
            .take_while(|r| {
                let fits = bytes == 0 || bytes + r.original.len() <= schema::PAGE_BYTES;
                bytes += r.original.len();
                fits
            })
            .count();
        let page = &rest[..n];
        let nulls = match added {
            Added::Kept(kept) if kept[from..from + n].iter().any(|k| k.withheld) => {
                Some(kept[from..from + n].iter().map(|k| !k.withheld).collect::<NullBuffer>())
            }
            _ => None,
        };
        from += n;
        (!page.is_empty()).then(|| {
            let lengths = page.iter().map(|r| r.original.len());
            let mut values = Vec::with_capacity(lengths.clone().sum());
            page.iter().for_each(|r| values.extend_from_slice(r.original));
            BinaryArray::try_new(OffsetBuffer::from_lengths(lengths), Buffer::from_vec(values), nulls)
        })
    })
}
