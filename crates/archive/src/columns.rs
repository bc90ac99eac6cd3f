//! Rows to columns: texts, lists and bytes to the chunks that are written of them; numbers, flags and times to
//! Arrow arrays, by one builder a column, touched only by rows that set it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray, new_null_array};
use arrow_buffer::{BooleanBufferBuilder, NullBuffer};
use arrow_schema::ArrowError;
use keytrail_model::row::values;
use keytrail_model::{Column, Fatal, Kind, Row, Timestamp};

use crate::chunk::ChunkWriter;
use crate::enrichment::Enrichment;
use crate::error::from_parquet;
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
    Int(Vec<i64>),
    Bool(BooleanBufferBuilder),
    Time(Vec<i64>),
}

impl Builder {
    fn new(kind: Kind, rows: usize) -> Self {
        let values = match kind {
            Kind::Bool => Values::Bool(BooleanBufferBuilder::new(rows)),
            Kind::Time => Values::Time(Vec::with_capacity(rows)),
            // The others have chunks.
            Kind::Int | Kind::Text | Kind::List | Kind::Binary => Values::Int(Vec::with_capacity(rows)),
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
            Values::Int(n) | Values::Time(n) => n.resize(row, 0),
            Values::Bool(b) => b.append_n(missing, false),
        }
    }

    /// Appends the value of a row that comes after all before, as the row encoding has it.
    fn append(&mut self, row: usize, value: &[u8]) {
        self.skip_to(row);
        self.rows += 1;
        match &mut self.values {
            Values::Int(n) | Values::Time(n) => n.push(int(value)),
            Values::Bool(b) => b.append(value == [1]),
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
            Values::Int(n) => Arc::new(Int64Array::try_new(n.into(), nulls)?),
            Values::Time(n) => {
                Arc::new(TimestampMicrosecondArray::try_new(n.into(), nulls)?.with_timezone("UTC"))
            }
            Values::Bool(mut b) => Arc::new(BooleanArray::new(b.finish(), nulls)),
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
        /// What tables say of the slice that the rows are of.
        enrichment: Option<&'a Enrichment>,
        /// The first row's place in the slice.
        offset: usize,
    },
    /// What the rows, the same number, had before.
    Kept(&'a [Kept<'a>]),
}

/// A value of a row, by its number in the step.
pub(crate) type Cell<'a> = (u32, &'a [u8]);

/// What is built of rows.
pub(crate) struct Built<'a> {
    /// What goes into chunks, by [`Column::index`]: a column's values one after the other, since each chunk
    /// has tables of its own to look into.
    pub cells: Vec<Vec<Cell<'a>>>,
    /// The columns that have no chunk, by [`Column::index`]; the others stay `None`.
    pub arrays: Vec<Option<ArrayRef>>,
    /// The values of `keytrail_normalizer`.
    pub normalizers: BTreeSet<String>,
}

/// Sorts the values of rows by column. What is not in the row encoding goes into its chunk at once, but for
/// `event_original`. The first row is the row group's row `first`; chunks are by [`Column::index`].
pub(crate) fn build<'a>(
    rows: &[Row<'a>],
    added: Added<'a>,
    first: u64,
    chunks: &mut [Option<Box<ChunkWriter>>],
) -> Result<Built<'a>, Fatal> {
    let mut builders: Vec<Option<Builder>> = Column::ALL.iter().map(|_| None).collect();
    let mut cells: Vec<Vec<Cell<'a>>> = Column::ALL.iter().map(|_| Vec::new()).collect();
    let mut build = |row: usize, column: Column, value: &[u8]| {
        let builder = &mut builders[column.index()];
        builder.get_or_insert_with(|| Builder::new(column.kind(), rows.len())).append(row, value);
    };
    let mut put = |row: usize, column: Column, value: &[u8]| match &mut chunks[column.index()] {
        Some(chunk) => chunk.append(first + row as u64, value).map_err(|e| from_parquet(FAILED, &e)),
        None => Ok(()),
    };
    // Neighbours are mostly of one normalizer; the set takes care of the rest.
    let mut normalizers: Vec<&[u8]> = Vec::new();
    let mut hex = [0; 64];
    let (mut input, mut number, mut named) = (String::new(), None, 0);
    for (i, row) in rows.iter().enumerate() {
        let head = row.head;
        let enrichment = match added {
            Added::New { enrichment, offset, .. } => enrichment.map_or(&[][..], |all| all.row(offset + i)),
            Added::Kept(kept) => kept[i].enrichment,
        };
        let own = values(row.columns).filter(|(column, _)| column.derived());
        let of_tables = values(enrichment).filter(|(column, _)| column.enriched());
        for (column, value) in own.chain(of_tables) {
            if ChunkWriter::takes(column.kind()) {
                let cells = &mut cells[column.index()];
                if cells.is_empty() {
                    cells.reserve_exact(rows.len());
                }
                cells.push((i as u32, value));
            } else {
                build(i, column, value);
            }
            if column == Column::KeytrailNormalizer && normalizers.last() != Some(&value) {
                normalizers.push(value);
            }
        }
        put(i, Column::EventHash, hex_text(&head.hash.0, &mut hex))?;
        put(i, Column::KeytrailUid, hex_text(&head.uid.0, &mut hex))?;
        // The same 64 bits; SQL has no unsigned integers everywhere.
        build(i, Column::KeytrailGroup, &head.group.to_be_bytes());
        match added {
            Added::New { ingested, inputs, .. } => {
                build(i, Column::EventIngested, &ingested.0.to_be_bytes());
                if number != Some(head.input) {
                    number = Some(head.input);
                    // The number was checked.
                    let name = inputs.get(head.input as usize).map_or("", String::as_str);
                    input.clear();
                    input.push_str(name);
                    input.push('@');
                    named = input.len();
                }
                input.truncate(named);
                // Writing to a String cannot fail.
                let _ = write!(input, "{}", head.offset);
                put(i, Column::KeytrailInput, input.as_bytes())?;
            }
            Added::Kept(kept) => {
                let kept = &kept[i];
                if let Some(ingested) = kept.ingested {
                    build(i, Column::EventIngested, &ingested.0.to_be_bytes());
                }
                if let Some(input) = kept.input {
                    put(i, Column::KeytrailInput, input.as_bytes())?;
                }
            }
        }
    }
    let array = |(column, builder): (&Column, Option<Builder>)| match builder {
        _ if ChunkWriter::takes(column.kind()) => Ok(None),
        Some(b) => b.finish(rows.len()).map(Some),
        None => Ok(Some(new_null_array(&schema::data_type(column.kind()), rows.len()))),
    };
    let arrays = Column::ALL.iter().zip(builders).map(array).collect::<Result<_, _>>();
    let normalizers = normalizers.into_iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
    Ok(Built {
        cells,
        arrays: arrays.map_err(|e| Fatal::new("Fatal.Archive", format!("{FAILED}: {e}")))?,
        normalizers,
    })
}

const FAILED: &str = "columns of an archive object";

fn hex_text<'a>(bytes: &[u8], out: &'a mut [u8; 64]) -> &'a [u8] {
    let out = &mut out[..bytes.len() * 2];
    keytrail_model::hash::encode_hex(bytes, out);
    out
}
