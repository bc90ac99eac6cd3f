//! A batch of an object's rows, from Arrow arrays back to what binds them and to the row encoding.
//!
//! Texts and bytes are views into the pages that they were read from: nothing is copied until a row is
//! hashed or encoded, and rows are encoded only for those who ask for [`Batch::rows`].

use std::sync::{Arc, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::{
    Array, BinaryViewArray, BooleanArray, Int64Array, ListArray, RecordBatch, StringViewArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Fields};
use keytrail_model::event::Value;
use keytrail_model::row::encode;
use keytrail_model::{Column, Hash, Kind, Timestamp, Uid};

use crate::digest::digests;
use crate::read::ReadError;
use crate::schema;

/// The fields that batches of these columns are read with: those of [`schema::arrow`] with views for texts
/// and bytes.
pub(crate) fn views(columns: &[Column]) -> Fields {
    let view = |kind| match schema::data_type(kind) {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        DataType::List(item) => {
            DataType::List(Arc::new(item.as_ref().clone().with_data_type(DataType::Utf8View)))
        }
        other => other,
    };
    columns.iter().map(|c| Field::new(c.name(), view(c.kind()), true)).collect()
}

/// A row as the archive has it. What was not projected is `None` or missing from `columns`.
#[derive(Clone, Copy, Debug)]
pub struct StoredRow<'a> {
    /// Place in the object, from 0.
    pub number: u64,
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`.
    pub hash: Option<Hash>,
    /// `timestamp`.
    pub time: Option<Timestamp>,
    /// `keytrail_group`.
    pub group: Option<u64>,
    /// `event_ingested`.
    pub ingested: Option<Timestamp>,
    /// `keytrail_input`.
    pub input: Option<&'a str>,
    /// The derived columns in the row encoding: what [`keytrail_model::digest::of_row`] takes.
    pub columns: &'a [u8],
    /// What tables said of it: the enrichment columns in the row encoding.
    pub enrichment: &'a [u8],
    /// `event_original`; `None` also where it is withheld.
    pub original: Option<&'a [u8]>,
}

/// What an object's roots and its partition bind of a row: enough to check it, and cheaper than the row.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// Place in the object, from 0.
    pub number: u64,
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`; zero bytes where it was not projected.
    pub hash: Hash,
    /// [`keytrail_model::digest::of_row`] of the row, over the derived columns that were projected.
    pub digest: Hash,
    /// `timestamp`.
    pub time: Option<Timestamp>,
    /// `event_dataset`.
    pub dataset: Option<&'a str>,
    /// `event_original`; `None` also where it is withheld.
    pub original: Option<&'a [u8]>,
}

/// Some rows of an object, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    first: u64,
    uids: Vec<Uid>,
    hashes: Option<Vec<Hash>>,
    times: Option<TimestampMicrosecondArray>,
    groups: Option<Int64Array>,
    ingested: Option<TimestampMicrosecondArray>,
    inputs: Option<StringViewArray>,
    originals: Option<BinaryViewArray>,
    datasets: Option<StringViewArray>,
    /// The derived columns that have a value in some row, by ascending name.
    derived: Vec<(Column, Values)>,
    /// Likewise, the enrichment columns.
    enriched: Vec<(Column, Values)>,
    encoded: OnceLock<Encoded>,
}

/// The columns of a batch in the row encoding.
#[derive(Clone, Debug)]
struct Encoded {
    bytes: Vec<u8>,
    /// End of each row's derived columns in `bytes`, and of its enrichment behind them.
    ends: Vec<(usize, usize)>,
}

impl Batch {
    pub(crate) fn new(first: u64, batch: &RecordBatch) -> Result<Self, ReadError> {
        let mut out = Self {
            first,
            uids: Vec::new(),
            hashes: None,
            times: None,
            groups: None,
            ingested: None,
            inputs: None,
            originals: None,
            datasets: None,
            derived: Vec::with_capacity(batch.num_columns()),
            enriched: Vec::new(),
            encoded: OnceLock::new(),
        };
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some(column) = Column::by_name(field.name()) else {
                return Err(ReadError::Damaged(format!("column `{}` is not known", field.name())));
            };
            match column {
                Column::KeytrailUid => {
                    out.uids = texts(first, column, array.as_string_view(), Uid::from_hex)?;
                }
                Column::EventHash => {
                    out.hashes = Some(texts(first, column, array.as_string_view(), Hash::from_hex)?);
                }
                Column::EventOriginal => out.originals = Some(array.as_binary_view().clone()),
                Column::EventIngested => out.ingested = Some(array.as_primitive().clone()),
                Column::KeytrailInput => out.inputs = Some(array.as_string_view().clone()),
                Column::KeytrailGroup => out.groups = Some(array.as_primitive().clone()),
                _ if array.null_count() == array.len() => {}
                _ if column.enriched() => out.enriched.push((column, Values::new(column.kind(), array))),
                _ => out.derived.push((column, Values::new(column.kind(), array))),
            }
            match column {
                Column::Timestamp => out.times = Some(array.as_primitive().clone()),
                Column::EventDataset => out.datasets = Some(array.as_string_view().clone()),
                _ => {}
            }
        }
        Ok(out)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.uids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }

    /// The rows. The first call encodes them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = StoredRow<'_>> {
        let encoded = self.encoded.get_or_init(|| self.encode());
        (0..self.len()).map(|i| self.row(i, encoded))
    }

    /// What binds the rows. Each call hashes them.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = Leaf<'_>> {
        let digests = digests(&self.uids, self.hashes.as_deref(), &self.derived);
        digests.into_iter().enumerate().map(|(i, digest)| Leaf {
            number: self.number(i),
            uid: self.uids[i],
            hash: self.hash(i).unwrap_or_default(),
            digest,
            time: value_of(&self.times, i),
            dataset: self.datasets.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
            original: self.original(i),
        })
    }

    fn row<'a>(&'a self, i: usize, encoded: &'a Encoded) -> StoredRow<'a> {
        let start = if i == 0 { 0 } else { encoded.ends[i - 1].1 };
        let (middle, end) = encoded.ends[i];
        StoredRow {
            number: self.number(i),
            uid: self.uids[i],
            hash: self.hash(i),
            time: value_of(&self.times, i),
            group: self.groups.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i).cast_unsigned()),
            ingested: value_of(&self.ingested, i),
            input: self.inputs.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
            columns: &encoded.bytes[start..middle],
            enrichment: &encoded.bytes[middle..end],
            original: self.original(i),
        }
    }

    fn number(&self, i: usize) -> u64 {
        self.first.saturating_add(i as u64)
    }

    fn hash(&self, i: usize) -> Option<Hash> {
        self.hashes.as_ref().map(|h| h[i])
    }

    fn original(&self, i: usize) -> Option<&[u8]> {
        self.originals.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i))
    }

    fn encode(&self) -> Encoded {
        let mut out = Encoded { bytes: Vec::new(), ends: Vec::with_capacity(self.len()) };
        for row in 0..self.len() {
            let middle = Self::encode_row(&self.derived, row, &mut out.bytes);
            let end = Self::encode_row(&self.enriched, row, &mut out.bytes);
            out.ends.push((middle, end));
        }
        out
    }

    /// Appends a row's values of these columns; gives their end.
    fn encode_row(columns: &[(Column, Values)], row: usize, out: &mut Vec<u8>) -> usize {
        encode(out, columns.iter().filter_map(|(c, values)| Some((*c, values.get(row)?))));
        out.len()
    }
}

fn value_of(times: &Option<TimestampMicrosecondArray>, i: usize) -> Option<Timestamp> {
    times.as_ref().filter(|a| a.is_valid(i)).map(|a| Timestamp(a.value(i)))
}

/// A derived column's values under their type.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    Text(StringViewArray),
    Int(Int64Array),
    Bool(BooleanArray),
    Time(TimestampMicrosecondArray),
    List(ListArray, StringViewArray),
}

impl Values {
    /// The schema was checked: arrays have the type of their column.
    fn new(kind: Kind, array: &dyn Array) -> Self {
        match kind {
            Kind::Text | Kind::Binary => Self::Text(array.as_string_view().clone()),
            Kind::Int => Self::Int(array.as_primitive().clone()),
            Kind::Bool => Self::Bool(array.as_boolean().clone()),
            Kind::Time => Self::Time(array.as_primitive().clone()),
            Kind::List => {
                let list = array.as_list::<i32>();
                Self::List(list.clone(), list.values().as_string_view().clone())
            }
        }
    }

    fn get(&self, row: usize) -> Option<Value<'_>> {
        Some(match self {
            Self::Text(a) if a.is_valid(row) => Value::Text(a.value(row).into()),
            Self::Int(a) if a.is_valid(row) => Value::Int(a.value(row)),
            Self::Bool(a) if a.is_valid(row) => Value::Bool(a.value(row)),
            Self::Time(a) if a.is_valid(row) => Value::Time(Timestamp(a.value(row))),
            Self::List(list, values) if list.is_valid(row) => {
                Value::List(items(list, row).map(|i| values.value(i).into()).collect())
            }
            _ => return None,
        })
    }
}

/// Places of a row's items among the values of a list.
pub(crate) fn items(list: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = list.value_offsets();
    // Offsets of a list array are not negative.
    offsets[row] as usize..offsets[row + 1] as usize
}

fn texts<T>(
    first: u64,
    column: Column,
    array: &StringViewArray,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, ReadError> {
    let mut out = Vec::with_capacity(array.len());
    for i in 0..array.len() {
        let value = if array.is_valid(i) { parse(array.value(i)) } else { None };
        out.push(value.ok_or_else(|| {
            ReadError::Damaged(format!(
                "row {}: `{}` is not in lower-case hex digits of its length",
                first.saturating_add(i as u64),
                column.name()
            ))
        })?);
    }
    Ok(out)
}
