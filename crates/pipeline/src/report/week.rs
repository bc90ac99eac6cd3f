//! ISO weeks in UTC, from Monday 00:00 to the next Monday, which is no part of them.

use std::fmt;

use keytrail_model::Timestamp;
use keytrail_model::time::{day_name, day_number};

const DAY_MICROS: i64 = 86_400_000_000;

/// A report that is made so long after the end of its week is final.
const FINAL_AFTER_MICROS: i64 = 36 * 3_600_000_000;

/// An ISO week.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Week {
    /// Its Monday, days since 1970-01-01.
    monday: i64,
}

impl Week {
    /// The week of a day, days since 1970-01-01.
    pub fn of_day(day: i64) -> Self {
        // 1970-01-01 was a Thursday.
        Self { monday: day - (day + 3).rem_euclid(7) }
    }

    /// The week of a time.
    pub fn of(time: Timestamp) -> Self {
        Self::of_day(time.days())
    }

    /// The last week that is over.
    pub fn last_full(now: Timestamp) -> Self {
        Self::of(now).back(1)
    }

    /// Reads `2023-W28`; `None` where there is no such week.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, number) = text.split_once("-W")?;
        let digits = |t: &str, n| t.len() == n && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(number, 2) {
            return None;
        }
        // The 4th of January is in week 1.
        let first = Self::of_day(day_number(&format!("{year}-01-04"))?);
        let week = Self { monday: first.monday + (number.parse::<i64>().ok()? - 1) * 7 };
        (week.to_string() == text).then_some(week)
    }

    /// The week that many weeks before.
    #[must_use]
    pub fn back(self, weeks: i64) -> Self {
        Self { monday: self.monday - 7 * weeks }
    }

    /// Its days.
    pub fn days(self) -> impl DoubleEndedIterator<Item = i64> {
        self.monday..self.monday + 7
    }

    /// Its first moment.
    pub fn from(self) -> Timestamp {
        Timestamp(self.monday * DAY_MICROS)
    }

    /// The first moment behind it.
    pub fn to(self) -> Timestamp {
        Timestamp((self.monday + 7) * DAY_MICROS)
    }

    /// Whether a report that is made now is final.
    pub fn is_settled(self, now: Timestamp) -> bool {
        now.0 >= self.to().0 + FINAL_AFTER_MICROS
    }
}

impl fmt::Display for Week {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The year is that of the week's Thursday.
        let thursday = self.monday + 3;
        let year = day_name(thursday).get(..4).unwrap_or("0000").to_owned();
        let new_year = day_number(&format!("{year}-01-01")).unwrap_or(thursday);
        write!(f, "{year}-W{:02}", (thursday - new_year) / 7 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        Timestamp::parse(time).unwrap()
    }

    #[test]
    fn weeks_are_those_of_the_calendar() {
        for (day, week) in [
            ("2023-07-10", "2023-W28"),
            ("2023-07-16", "2023-W28"),
            ("2023-07-17", "2023-W29"),
            ("2021-01-03", "2020-W53"),
            ("2018-12-31", "2019-W01"),
            ("2016-01-01", "2015-W53"),
            ("2024-12-30", "2025-W01"),
        ] {
            let found = Week::of_day(day_number(day).unwrap());
            assert_eq!(found.to_string(), week, "{day}");
            assert_eq!(Week::parse(week), Some(found));
        }
        for wrong in ["2023-W00", "2023-W53", "2023-28", "23-W28", "2023-w28", "2023-W1", "+123-W01", ""] {
            assert_eq!(Week::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_week_ends_before_the_next_begins() {
        let week = Week::parse("2023-W28").unwrap();
        assert_eq!(week.from(), at("2023-07-10T00:00:00Z"));
        assert_eq!(week.to(), at("2023-07-17T00:00:00Z"));
        assert_eq!(Week::of(at("2023-07-16T23:59:59.999999Z")), week);
        assert_eq!(Week::of(week.to()), Week::parse("2023-W29").unwrap());
        assert_eq!(Week::last_full(at("2023-07-17T00:00:00Z")), week);
        assert_eq!(Week::last_full(at("2023-07-16T23:59:59Z")), week.back(1));
    }

    #[test]
    fn a_report_is_final_36_hours_after_the_week() {
        let week = Week::parse("2023-W28").unwrap();
        assert!(!week.is_settled(at("2023-07-18T11:59:59.999999Z")));
        assert!(week.is_settled(at("2023-07-18T12:00:00Z")));
    }
}
