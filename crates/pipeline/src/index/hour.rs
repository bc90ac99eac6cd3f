//! Hours of the events' own time, in which index and archive are compared.

use std::fmt;

use keytrail_index::IndexName;
use keytrail_model::Timestamp;
use serde_json::{Value, json};

use crate::readable::SealedObject;

/// Microseconds.
pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;

/// An hour of event times.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hour {
    /// Hours since 1970.
    Of(i64),
    /// No time, or one that does not belong in the index.
    None,
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(hour) => f.write_str(Timestamp(hour * HOUR).to_rfc3339().get(..13).unwrap_or_default()),
            Self::None => f.write_str("undated"),
        }
    }
}

/// The times of an hour; all of them for those that have none.
pub fn times(hour: Hour) -> (Timestamp, Timestamp) {
    match hour {
        Hour::Of(hour) => (Timestamp(hour * HOUR), Timestamp((hour + 1) * HOUR)),
        Hour::None => (Timestamp(i64::MIN), Timestamp(i64::MAX)),
    }
}

/// Whether an object may hold rows of an hour.
pub fn in_hour(object: &SealedObject, hour: Hour) -> bool {
    let (from, to) = times(hour);
    match (hour, object.rows.time_min, object.rows.time_max) {
        (Hour::Of(_), Some(min), Some(max)) => min < to.0 && max >= from.0,
        (Hour::Of(_), ..) => false,
        (Hour::None, ..) => object.rows.day == "undated",
    }
}

/// A query for the documents of an hour of an index, or for those of none.
pub fn of_hour(name: &IndexName, hour: Hour) -> Value {
    let range = |from: i64, to: i64| json!({"range": {"@timestamp": {"gte": from / 1_000, "lt": to / 1_000, "format": "epoch_millis"}}});
    match (hour, name.time()) {
        (Hour::Of(hour), _) => range(hour * HOUR, (hour + 1) * HOUR),
        (Hour::None, Some((_, days))) => {
            json!({"bool": {"must_not": [range(days.start * DAY, days.end * DAY)]}})
        }
        (Hour::None, None) => json!({"match_all": {}}),
    }
}
