//! Where an event is kept: a function of the event alone (ARCHITECTURE rule 6).

use std::fmt;

use crate::time::{Timestamp, day_name, day_number};

/// The day of an event's own time in UTC, or `undated` for times that are missing, unreadable or
/// before 2006-01-01. `Undated` sorts last, as its name does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Day {
    /// Days since 1970-01-01.
    Dated(i64),
    /// No usable time.
    Undated,
}

/// 2006-01-01: no service that keytrail reads logged before it.
const FIRST_DAY: i64 = 13_149;

impl Day {
    /// The day of a time.
    pub fn of(time: Option<Timestamp>) -> Self {
        match time {
            Some(t) if t.days() >= FIRST_DAY => Self::Dated(t.days()),
            _ => Self::Undated,
        }
    }

    /// Reads `YYYY-MM-DD` or `undated`.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "undated" { Some(Self::Undated) } else { day_number(name).map(Self::Dated) }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dated(days) => f.write_str(&day_name(*days)),
            Self::Undated => f.write_str("undated"),
        }
    }
}

/// One partition of the archive: a dataset and a day.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition {
    /// `event.dataset`, of the closed list of normalizers: safe in a path.
    pub dataset: String,
    /// The day of the events' own time.
    pub day: Day,
}

impl Partition {
    /// `archive/dataset=<dataset>/day=<day>/`.
    pub fn prefix(&self) -> String {
        format!("archive/dataset={}/day={}/", self.dataset, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_times_are_undated() {
        assert_eq!(Day::of(None), Day::Undated);
        assert_eq!(Day::of(Timestamp::parse("2005-12-31T23:59:59Z")), Day::Undated);
        assert_eq!(Day::of(Timestamp::parse("0000-01-01T00:00:00Z")), Day::Undated);
        assert_eq!(Day::of(Timestamp::parse("2006-01-01T00:00:00Z")).to_string(), "2006-01-01");
        assert!(Day::Undated > Day::Dated(3_000_000));
        assert_eq!(Day::parse("2023-07-10").map(|d| d.to_string()).as_deref(), Some("2023-07-10"));
    }
}
