//! When a row of a table holds.

use keytrail_model::Timestamp;
use keytrail_model::time::day_number;

/// Half open: from its start on, up to and without its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Validity {
    /// The first moment; none: since ever.
    pub from: Option<Timestamp>,
    /// The first moment after it; none: for ever.
    pub to: Option<Timestamp>,
}

impl Validity {
    /// Whether it holds at that time. An event without a time is of no moment: only what holds always counts.
    pub fn holds(&self, time: Option<Timestamp>) -> bool {
        match time {
            Some(t) => self.from.is_none_or(|from| from <= t) && self.to.is_none_or(|to| t < to),
            None => self.from.is_none() && self.to.is_none(),
        }
    }

    /// Whether both hold at some moment.
    pub fn overlaps(&self, other: &Self) -> bool {
        let before = |end: Option<Timestamp>, start: Option<Timestamp>| match (end, start) {
            (Some(end), Some(start)) => end <= start,
            _ => false,
        };
        !before(self.to, other.from) && !before(other.to, self.from)
    }
}

/// Reads RFC 3339, or a date, which is its first moment in UTC.
pub fn time(text: &str) -> Option<Timestamp> {
    day_number(text).map(|days| Timestamp(days * 86_400_000_000)).or_else(|| Timestamp::parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validity(from: &str, to: &str) -> Validity {
        Validity { from: time(from), to: time(to) }
    }

    #[test]
    fn ends_are_half_open() {
        let june = validity("2023-06-01", "2023-07-01T00:00:00Z");
        assert!(june.holds(time("2023-06-01")) && june.holds(time("2023-06-30T23:59:59.999999Z")));
        assert!(!june.holds(time("2023-07-01")) && !june.holds(time("2023-05-31T23:59:59Z")));
        assert!(!june.holds(None) && Validity::default().holds(None));
        assert!(!june.overlaps(&validity("2023-07-01", "")) && !validity("2023-07-01", "").overlaps(&june));
        assert!(june.overlaps(&validity("2023-06-30", "")) && june.overlaps(&Validity::default()));
        assert!(!validity("", "2023-06-01").overlaps(&june));
    }
}
