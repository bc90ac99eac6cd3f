//! Points in time as the archive keeps them.

use jiff::civil::date;
use jiff::tz::TimeZone;

/// Microseconds since 1970-01-01T00:00:00Z. The range is wider than any log's: years 0000 to 9999 fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads RFC 3339 (any offset, any number of fraction digits; what is below a microsecond is cut).
    /// `None` when the text is not a time.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(t) = parse_utc(text.as_bytes()) {
            return Some(t);
        }
        let t: jiff::Timestamp = text.parse().ok()?;
        Some(Self(t.as_microsecond()))
    }

    /// Days since 1970-01-01, rounded down.
    pub fn days(self) -> i64 {
        self.0.div_euclid(86_400_000_000)
    }

    /// RFC 3339 in UTC with six fraction digits.
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => t.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
            Err(_) => format!("{} us", self.0),
        }
    }

    /// Appends [`to_rfc3339`](Self::to_rfc3339), without jiff's generality for years 0000 to 9999.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (y, mo, d) = civil_from_days(self.days());
        if !(0..=9999).contains(&y) {
            out.extend_from_slice(self.to_rfc3339().as_bytes());
            return;
        }
        let micros = self.0.rem_euclid(86_400_000_000);
        let seconds = micros / 1_000_000;
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut put = |end: usize, mut n: i64| {
            let mut at = end;
            while n > 0 {
                at -= 1;
                text[at] = b'0' + (n % 10) as u8;
                n /= 10;
            }
        };
        put(4, y);
        put(7, mo);
        put(10, d);
        put(13, seconds / 3_600);
        put(16, seconds / 60 % 60);
        put(19, seconds % 60);
        put(26, micros % 1_000_000);
        out.extend_from_slice(&text);
    }
}

/// The form that nearly all logs use, `2023-07-10T11:42:20[.fraction]Z`, without jiff's generality.
fn parse_utc(b: &[u8]) -> Option<Timestamp> {
    if b.len() < 20 || b[b.len() - 1] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        b[from..to].iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
    };
    if b[4] != b'-' || b[7] != b'-' || b[10] != b'T' || b[13] != b':' || b[16] != b':' {
        return None;
    }
    let (y, mo, d) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (h, mi, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&mo) || d < 1 || d > days_in_month(y, mo) || h > 23 || mi > 59 || s > 59 {
        return None;
    }
    let mut micros = 0;
    let fraction = &b[19..b.len() - 1];
    if let Some((dot, digits)) = fraction.split_first() {
        if *dot != b'.' || digits.is_empty() {
            return None;
        }
        let mut scale = 100_000;
        for d in digits {
            if !d.is_ascii_digit() {
                return None;
            }
            micros += i64::from(d - b'0') * scale;
            scale /= 10;
        }
    }
    Some(Timestamp((days_from_civil(y, mo, d) * 86_400 + h * 3_600 + mi * 60 + s) * 1_000_000 + micros))
}

fn days_in_month(y: i64, m: i64) -> i64 {
    match m {
        2 if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar (Howard Hinnant's algorithm).
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Year, month and day of a day number: the way back.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (d, m) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(m <= 2), m, d)
}

/// `YYYY-MM-DD` of a day number; years 0000 to 9999.
pub fn day_name(days: i64) -> String {
    let epoch = date(1970, 1, 1);
    epoch
        .checked_add(jiff::Span::new().try_days(days).unwrap_or_default())
        .map_or_else(|_| days.to_string(), |d| d.to_string())
}

/// The day number of `YYYY-MM-DD`; `None` when it is not a date.
pub fn day_number(name: &str) -> Option<i64> {
    let d: jiff::civil::Date = name.parse().ok()?;
    Some(days_from_civil(d.year().into(), d.month().into(), d.day().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_path_agrees_with_jiff() {
        for text in [
            "2023-07-10T11:42:20Z",
            "2024-02-29T23:59:59.999999Z",
            "2026-11-21T09:30:44.246678Z",
            "1969-12-31T23:59:59.5Z",
            "0000-01-01T00:00:00Z",
            "9999-12-30T00:00:00Z",
        ] {
            let slow: jiff::Timestamp = text.parse().unwrap();
            assert_eq!(parse_utc(text.as_bytes()), Some(Timestamp(slow.as_microsecond())), "{text}");
        }
        assert_eq!(Timestamp::parse("2026-11-21T09:30:44.246678134Z").unwrap().0 % 1_000_000, 246_678);
        assert_eq!(Timestamp::parse("2022-02-08 09:23:37+11:00"), Timestamp::parse("2022-02-07T22:23:37Z"));
    }

    #[test]
    fn times_are_written_as_jiff_writes_them() {
        let days = (-719_528..2_932_800).step_by(97).map(|day| day * 86_400_000_000);
        let odd = [0, -1, 1, 86_399_999_999, 951_782_400_000_000, i64::MIN, i64::MAX];
        for micros in
            days.zip((0..).step_by(7_777_777_777)).map(|(day, time)| day + time % 86_400_000_000).chain(odd)
        {
            let mut out = Vec::new();
            Timestamp(micros).write_rfc3339(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), Timestamp(micros).to_rfc3339(), "{micros}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in
            ["", "now", "2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "2023-07-10T11:42:20.Z", "1688989340"]
        {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_have_names() {
        assert_eq!(day_name(Timestamp::parse("2023-07-10T23:59:59Z").unwrap().days()), "2023-07-10");
        assert_eq!(day_number("2023-07-10"), Some(Timestamp::parse("2023-07-10T00:00:00Z").unwrap().days()));
        assert_eq!(Timestamp(0).to_rfc3339(), "1970-01-01T00:00:00.000000Z");
    }
}
