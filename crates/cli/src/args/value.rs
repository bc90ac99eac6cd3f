//! Values of options: sizes, durations, times.

use std::time::Duration;

/// Reads `128MB`, `16MiB`, `1000`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit, expected B, kB, MB, GB, KiB, MiB or GiB")),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0).ok_or_else(|| {
        format!("`{text}` is no size, expected a whole number above 0 and a unit, as in 128MB")
    })
}

/// Reads `60s`, `500ms`, `1h30m`, as keytrail.toml has them.
pub fn duration(text: &str) -> Result<Duration, String> {
    keytrail_pipeline::config::duration(text).filter(|time| !time.is_zero()).ok_or_else(|| {
        format!("`{text}` is no time, expected numbers above 0 with ms, s, m, h or d, as in 60s")
    })
}

/// Reads a number of cores.
pub fn cores(text: &str) -> Result<usize, String> {
    let cores = text.parse().ok().filter(|n| *n > 0);
    cores.ok_or_else(|| format!("`{text}` is no number of cores, expected a whole number above 0"))
}

/// Reads RFC 3339 or a date (its first moment, UTC).
pub fn time(text: &str) -> Result<i64, String> {
    keytrail_model::Timestamp::parse(text)
        .or_else(|| keytrail_model::Timestamp::parse(&format!("{text}T00:00:00Z")))
        .map(|t| t.0)
        .ok_or_else(|| format!("`{text}` is no time, expected one as 2023-07-10 or 2023-07-10T12:00:00Z"))
}

/// A time as people say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// Microseconds since 1970.
    At(i64),
    /// So long before now.
    Ago(Duration),
}

/// Reads a [`time`], or how long ago it was.
pub fn moment(text: &str) -> Result<Moment, String> {
    let ago = || keytrail_pipeline::config::duration(text).map(Moment::Ago);
    time(text).ok().map(Moment::At).or_else(ago).ok_or_else(|| {
        format!("`{text}` is no time, expected one as 2023-07-10 or 2023-07-10T12:00:00Z, or how long ago, as in 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(size("128MB"), Ok(128_000_000));
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert!(size("0").is_err());
        assert!(size("12 parsecs").unwrap_err().contains("no unit"));
        assert_eq!(time("1970-01-02"), Ok(86_400_000_000));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("0s").is_err() && duration("90").unwrap_err().contains("is no time"));
        assert_eq!(moment("1970-01-02"), Ok(Moment::At(86_400_000_000)));
        assert_eq!(moment("7d"), Ok(Moment::Ago(Duration::from_secs(7 * 86_400))));
        assert!(moment("next week").unwrap_err().contains("is no time"));
        assert!(time("yesterday").unwrap_err().contains("no time"));
    }
}
