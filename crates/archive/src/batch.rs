//! A batch of an object's rows, from Arrow arrays back to the row encoding.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use keytrail_model::event::Value;
use keytrail_model::row::encode;
use keytrail_model::{Column, Hash, Kind, Timestamp, Uid};

use crate::read::ReadError;

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
    /// The derived columns in the row encoding: what [`keytrail_model::row::digest`] takes.
    pub columns: &'a [u8],
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
    inputs: Option<StringArray>,
    originals: Option<BinaryArray>,
    encoded: Vec<u8>,
    /// End of each row in `encoded`.
    ends: Vec<usize>,
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
            encoded: Vec::new(),
            ends: Vec::with_capacity(batch.num_rows()),
        };
        let mut derived = Vec::with_capacity(batch.num_columns());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some(column) = Column::by_name(field.name()) else {
                return Err(ReadError::Damaged(format!("column `{}` is not known", field.name())));
            };
            match column {
                Column::KeytrailUid => {
                    out.uids = texts(first, column, array.as_string(), Uid::from_hex)?;
                }
                Column::EventHash => {
                    out.hashes = Some(texts(first, column, array.as_string(), Hash::from_hex)?);
                }
                Column::EventOriginal => out.originals = Some(array.as_binary().clone()),
                Column::EventIngested => out.ingested = Some(array.as_primitive().clone()),
                Column::KeytrailInput => out.inputs = Some(array.as_string().clone()),
                Column::KeytrailGroup => out.groups = Some(array.as_primitive().clone()),
                _ if array.null_count() == array.len() => {}
                _ => derived.push((column, Typed::new(column.kind(), array))),
            }
            if column == Column::Timestamp {
                out.times = Some(array.as_primitive().clone());
            }
        }
        let mut items = Vec::new();
        for row in 0..batch.num_rows() {
            for (column, values) in &derived {
                values.encode(*column, row, &mut items, &mut out.encoded);
            }
            out.ends.push(out.encoded.len());
        }
        Ok(out)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = StoredRow<'_>> {
        (0..self.len()).map(|i| self.row(i))
    }

    fn row(&self, i: usize) -> StoredRow<'_> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        let time = |a: &Option<TimestampMicrosecondArray>| {
            a.as_ref().filter(|a| a.is_valid(i)).map(|a| Timestamp(a.value(i)))
        };
        StoredRow {
            number: self.first.saturating_add(i as u64),
            uid: self.uids[i],
            hash: self.hashes.as_ref().map(|h| h[i]),
            time: time(&self.times),
            group: self.groups.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i).cast_unsigned()),
            ingested: time(&self.ingested),
            input: self.inputs.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
            columns: &self.encoded[start..self.ends[i]],
            original: self.originals.as_ref().filter(|a| a.is_valid(i)).map(|a| a.value(i)),
        }
    }
}

/// A column's values under their type.
enum Typed<'a> {
    Text(&'a StringArray),
    Int(&'a Int64Array),
    Bool(&'a BooleanArray),
    Time(&'a TimestampMicrosecondArray),
    List(&'a ListArray, &'a StringArray),
}

impl<'a> Typed<'a> {
    /// The schema was checked: arrays have the type of their column.
    fn new(kind: Kind, array: &'a dyn Array) -> Self {
        match kind {
            Kind::Text | Kind::Binary => Self::Text(array.as_string()),
            Kind::Int => Self::Int(array.as_primitive::<Int64Type>()),
            Kind::Bool => Self::Bool(array.as_boolean()),
            Kind::Time => Self::Time(array.as_primitive::<TimestampMicrosecondType>()),
            Kind::List => {
                let list = array.as_list::<i32>();
                Self::List(list, list.values().as_string())
            }
        }
    }

    fn encode(&self, column: Column, row: usize, items: &mut Vec<Cow<'a, str>>, out: &mut Vec<u8>) {
        match self {
            Self::Text(a) if a.is_valid(row) => encode(out, column, &Value::Text(a.value(row).into())),
            Self::Int(a) if a.is_valid(row) => encode(out, column, &Value::Int(a.value(row))),
            Self::Bool(a) if a.is_valid(row) => encode(out, column, &Value::Bool(a.value(row))),
            Self::Time(a) if a.is_valid(row) => {
                encode(out, column, &Value::Time(Timestamp(a.value(row))));
            }
            Self::List(list, values) if list.is_valid(row) => {
                let offsets = list.value_offsets();
                // Offsets of a list array are not negative.
                for i in offsets[row] as usize..offsets[row + 1] as usize {
                    items.push(values.value(i).into());
                }
                let value = Value::List(std::mem::take(items));
                encode(out, column, &value);
                if let Value::List(list) = value {
                    *items = list;
                    items.clear();
                }
            }
            _ => {}
        }
    }
}

fn texts<T>(
    first: u64,
    column: Column,
    array: &StringArray,
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
