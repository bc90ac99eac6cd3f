//! How long a key may be used (NIST SP 800-57 part 1, section 5.3).

use jiff::{Span, SpanRound, Unit};
use keytrail_model::Timestamp;

/// A duration in calendar units, as ISO 8601 or as whole days: `P1Y`, `P90D`, `P1Y6M`, `90`.
#[derive(Clone, Copy, Debug)]
pub struct Cryptoperiod(Span);

impl PartialEq for Cryptoperiod {
    fn eq(&self, other: &Self) -> bool {
        self.0.fieldwise() == other.0.fieldwise()
    }
}

impl Cryptoperiod {
    /// Reads one; it is at least a day.
    pub fn parse(text: &str) -> Option<Self> {
        let span = match text.parse::<u32>() {
            Ok(days) => Span::new().try_days(days).ok()?,
            Err(_) if text.starts_with(['P', 'p']) => text.parse().ok()?,
            Err(_) => return None,
        };
        let period = Self(span);
        (period.days()? >= 1).then_some(period)
    }

    /// The first moment after a period that begins then; `None` beyond the year 9999.
    pub fn end(&self, begin: Timestamp) -> Option<Timestamp> {
        let begin = jiff::Timestamp::from_microsecond(begin.0).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        Some(Timestamp(begin.checked_add(self.0).ok()?.timestamp().as_microsecond()))
    }

    /// Whole days, counted from the beginning of 2021: three years of 365 come first.
    pub fn days(&self) -> Option<i64> {
        let round = SpanRound::new().largest(Unit::Day).smallest(Unit::Day).mode(jiff::RoundMode::Trunc);
        let days = self.0.round(round.relative(jiff::civil::date(2021, 1, 1))).ok()?;
        Some(i64::from(days.get_days()))
    }
}

impl std::fmt::Display for Cryptoperiod {
    /// ISO 8601.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_end_by_the_calendar() {
        let end = |period: &str, begin: &str| {
            let begin = crate::time(begin).unwrap();
            Cryptoperiod::parse(period).unwrap().end(begin).unwrap().to_rfc3339()[..10].to_owned()
        };
        assert_eq!(end("P1Y", "2024-02-29"), "2025-02-28");
        assert_eq!(end("P1Y6M", "2023-01-31"), "2024-07-31");
        assert_eq!(end("P90D", "2023-01-01"), "2023-04-01");
        assert_eq!(end("90", "2023-01-01"), "2023-04-01");
        assert_eq!(Cryptoperiod::parse("P2Y").and_then(|p| p.days()), Some(730));
        assert_eq!(Cryptoperiod::parse("P1Y6M").map(|p| p.to_string()).as_deref(), Some("P1Y6M"));
        for wrong in ["", "1 year", "-P1Y", "PT1H", "0", "P0D", "P99999999999Y", "1.5", "Pfoo"] {
            assert_eq!(Cryptoperiod::parse(wrong), None, "{wrong}");
        }
    }
}
