//! How many rows of each source an object has, and their newest time: from the statistics of its footer
//! where a row group is of one source, else from two columns.
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
}

impl Rows {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.newest = self.newest.max(other.newest);
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
    let told: Option<Vec<_>> = object.groups().iter().map(of_one_source).collect();
    match told {
        Some(groups) => groups.into_iter().for_each(|(source, rows)| add(source, rows)),
        None => {
            let projection = Projection::Columns(vec![Column::KeytrailSource, Column::Timestamp]);
            for batch in object.batches(&projection, Selection::All) {
                for row in batch?.rows() {
                    let source = text(row.columns, Column::KeytrailSource).unwrap_or_default();
                    add(source, Rows { count: 1, newest: row.time });
                }
            }
        }
    }
    Ok(sources)
}

/// The source of all rows of a group.
fn of_one_source(group: &RowGroupMetaData) -> Option<(&str, Rows)> {
    let source = match group.column(Column::KeytrailSource.index()).statistics()? {
        Statistics::ByteArray(s) if s.min_is_exact() && s.max_is_exact() && s.null_count_opt() == Some(0) => {
            s.min_opt().filter(|min| s.max_opt() == Some(*min))?
        }
        _ => return None,
    };
    let newest = match group.column(Column::Timestamp.index()).statistics()? {
        Statistics::Int64(s) => s.max_opt().copied().map(Timestamp),
        _ => return None,
    };
    Some((std::str::from_utf8(source.data()).ok()?, Rows { count: rows_of(group), newest }))
}
