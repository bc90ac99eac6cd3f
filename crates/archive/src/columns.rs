//! Rows to Arrow arrays: one builder a column, touched only by rows that set it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Int64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, BinaryArray, new_null_array};
use keytrail_model::row::{Encoded, columns};
use keytrail_model::{Column, Fatal, Kind, Row, Timestamp};

use crate::schema;

enum Builder {
    Text(StringBuilder),
    Int(Int64Builder),
    Bool(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
    List(ListBuilder<StringBuilder>),
}

impl Builder {
    fn new(kind: Kind, rows: usize) -> Self {
        match kind {
            Kind::Text | Kind::Binary => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
            Kind::Int => Self::Int(Int64Builder::with_capacity(rows)),
            Kind::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Time => Self::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC")),
            Kind::List => Self::List(ListBuilder::new(StringBuilder::new()).with_field(schema::item())),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(b) => b.len(),
            Self::Int(b) => b.len(),
            Self::Bool(b) => b.len(),
            Self::Time(b) => b.len(),
            Self::List(b) => b.len(),
        }
    }

    /// Nulls for the rows since the last one that had a value.
    fn skip_to(&mut self, row: usize) {
        let missing = row - self.len();
        if missing == 0 {
            return;
        }
        match self {
            Self::Text(b) => b.append_nulls(missing),
            Self::Int(b) => b.append_nulls(missing),
            Self::Bool(b) => b.append_nulls(missing),
            Self::Time(b) => b.append_nulls(missing),
            Self::List(b) => b.append_nulls(missing),
        }
    }

    fn append(&mut self, value: Encoded<'_>) {
        match (self, value) {
            (Self::Text(b), Encoded::Text(t)) => b.append_value(t),
            (Self::Int(b), Encoded::Int(n)) => b.append_value(n),
            (Self::Bool(b), Encoded::Bool(v)) => b.append_value(v),
            (Self::Time(b), Encoded::Int(n)) => b.append_value(n),
            (Self::List(b), Encoded::List(items)) => {
                for item in items {
                    b.values().append_value(item);
                }
                b.append(true);
            }
            // The row encoding types a value by its column, as the builders are.
            _ => {}
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::List(b) => Arc::new(b.finish()),
        }
    }
}

/// What the archive adds to rows as it writes them.
pub(crate) struct Added<'a> {
    /// `event_ingested` of all rows.
    pub ingested: Timestamp,
    /// Names of the input objects, by the number that heads carry.
    pub inputs: &'a [String],
}

/// What is built of rows.
pub(crate) struct Built {
    /// All columns but `event_original`, by [`Column::index`]; that one stays `None`.
    pub arrays: Vec<Option<ArrayRef>>,
    /// The values of `keytrail_normalizer`.
    pub normalizers: BTreeSet<String>,
}

/// The arrays of a row group.
pub(crate) fn build(rows: &[Row<'_>], added: &Added<'_>) -> Result<Built, Fatal> {
    let mut builders: Vec<Option<Builder>> = Column::ALL.iter().map(|_| None).collect();
    let mut put = |row: usize, column: Column, value: Encoded<'_>| {
        let b = builders[column.index()].get_or_insert_with(|| Builder::new(column.kind(), rows.len()));
        b.skip_to(row);
        b.append(value);
    };
    // Neighbours are mostly of one normalizer; the set takes care of the rest.
    let mut normalizers: Vec<&str> = Vec::new();
    let mut hex = [0; 64];
    let mut input = String::new();
    for (i, row) in rows.iter().enumerate() {
        let head = row.head;
        for (column, value) in columns(row.columns) {
            if column.derived() {
                put(i, column, value);
            }
            if column == Column::KeytrailNormalizer
                && let Encoded::Text(name) = value
                && normalizers.last() != Some(&name)
            {
                normalizers.push(name);
            }
        }
        put(i, Column::EventHash, Encoded::Text(hex_text(&head.hash.0, &mut hex)));
        put(i, Column::KeytrailUid, Encoded::Text(hex_text(&head.uid.0, &mut hex)));
        put(i, Column::EventIngested, Encoded::Int(added.ingested.0));
        // The same 64 bits; SQL has no unsigned integers everywhere.
        put(i, Column::KeytrailGroup, Encoded::Int(head.group.cast_signed()));
        let name = usize::try_from(head.input).ok().and_then(|n| added.inputs.get(n)).ok_or_else(|| {
            Fatal::new(
                "Fatal.Archive",
                format!("row {i} names input `{}`, the batch has {}", head.input, added.inputs.len()),
            )
        })?;
        input.clear();
        // Writing to a String cannot fail.
        let _ = write!(input, "{name}@{}", head.offset);
        put(i, Column::KeytrailInput, Encoded::Text(&input));
    }
    let arrays = Column::ALL.iter().zip(builders).map(|(column, builder)| match (column, builder) {
        (Column::EventOriginal, _) => None,
        (_, Some(mut b)) => {
            b.skip_to(rows.len());
            Some(b.finish())
        }
        (c, None) => Some(new_null_array(&schema::data_type(c.kind()), rows.len())),
    });
    Ok(Built { arrays: arrays.collect(), normalizers: normalizers.into_iter().map(str::to_owned).collect() })
}

fn hex_text<'a>(bytes: &[u8], out: &'a mut [u8; 64]) -> &'a str {
    let out = &mut out[..bytes.len() * 2];
    keytrail_model::hash::encode_hex(bytes, out);
    // Hex digits are ASCII.
    std::str::from_utf8(out).unwrap_or_default()
}

/// `event_original` in arrays of about one page: the bytes of a row group are never copied at once.
pub(crate) fn originals<'a>(rows: &'a [Row<'a>]) -> impl Iterator<Item = BinaryArray> + 'a {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let n = rest
            .iter()
            .take_while(|r| {
                let fits = bytes == 0 || bytes + r.original.len() <= schema::PAGE_BYTES;
                bytes += r.original.len();
                fits
            })
            .count();
        let (page, after) = rest.split_at(n);
        rest = after;
        (!page.is_empty()).then(|| BinaryArray::from_iter_values(page.iter().map(|r| r.original)))
    })
}
