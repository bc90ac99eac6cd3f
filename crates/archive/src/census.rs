//! How many rows of each source an object has, their newest time and when they were read: from the
//! statistics of its footer where a row group is of one source, else from three columns.
//!
//! It serves to show, never to prove: statistics are what the object's writer says.

use std::collections::BTreeMap;

use keytrail_model::row::text;
use keytrail_model::{Column, Timestamp};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;

use crate::read::{ObjectReader, Projection, ReadError, Selection, rows_of};

/// Rows of one source.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rows {
    /// How many.
    pub count: u64,
    /// The newest event's time; `None`: none has one.
    pub newest: Option<Timestamp>,
    /// When one of them was read last.
    pub heard: Option<Timestamp>,
}

impl Rows {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.newest = self.newest.max(other.newest);
        self.heard = self.heard.max(other.heard);
    }
}

/// The rows of an object by `keytrail_source`.
pub fn census(object: &ObjectReader) -> Result<BTreeMap<String, Rows>, ReadError> {
    let mut sources: BTreeMap<String, Rows> = BTreeMap::new();
    let mut add = |source: &str, rows: Rows| match sources.get_mut(source) {
        Some(known) => known.add(rows),
        None => {
            sources.insert(source.to_owned(), rows);
        }
    };
    let told: Option<Vec<_>> = object.groups().iter().map(|group| of_one_source(object, group)).collect();
    match told {
        Some(groups) => groups.into_iter().for_each(|(source, rows)| add(source, rows)),
        None => {
            let columns = vec![Column::EventIngested, Column::KeytrailSource, Column::Timestamp];
            let projection = Projection::Columns(columns);
            for batch in object.batches(&projection, Selection::All) {
                for row in batch?.rows() {
                    let source = text(row.columns, Column::KeytrailSource).unwrap_or_default();
                    add(source, Rows { count: 1, newest: row.time, heard: row.ingested });
                }
            }
        }
    }
    Ok(sources)
}

/// The source of all rows of a group.
fn of_one_source<'a>(object: &ObjectReader, group: &'a RowGroupMetaData) -> Option<(&'a str, Rows)> {
    let statistics = |column| group.column(object.place(column)).statistics();
    let source = match statistics(Column::KeytrailSource)? {
        Statistics::ByteArray(s) if s.min_is_exact() && s.max_is_exact() && s.null_count_opt() == Some(0) => {
            s.min_opt().filter(|min| s.max_opt() == Some(*min))?
        }
        _ => return None,
    };
    let last = |column: Column| match statistics(column)? {
        Statistics::Int64(s) => Some(s.max_opt().copied().map(Timestamp)),
        _ => None,
    };
    let (newest, heard) = (last(Column::Timestamp)?, last(Column::EventIngested)?);
    Some((std::str::from_utf8(source.data()).ok()?, Rows { count: rows_of(group), newest, heard }))
}
