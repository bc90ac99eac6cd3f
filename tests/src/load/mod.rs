//! Seeded load: logs like those that the sources write, the same bytes for the same [`Load`].
//!
//! CloudTrail events and Vault lines are functions of (seed, number), so replays cost no memory.
//! Key-operation events are chained by hash; the last few are kept for replays.

pub mod cloudtrail;
pub mod files;
pub mod key_operation;
pub mod random;
pub mod vault;

use jiff::tz::TimeZone;

use random::Random;

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// Which source's log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// CloudTrail events.
    Cloudtrail,
    /// Key-operation events v1.
    KeyOperation,
    /// Vault audit lines.
    Vault,
    /// The three in turn, record by record.
    Mixed,
}

/// What to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// The same seed gives the same bytes.
    pub seed: u64,
    /// Source.
    pub format: Format,
    /// Records, replays included.
    pub events: u64,
    /// Midnight of the first day, in microseconds since 1970-01-01, UTC.
    pub start_micros: i64,
    /// Days over which event times spread.
    pub days: u32,
    /// Event times in random order; otherwise they ascend.
    pub shuffle: bool,
    /// Of a hundred records, how many are an earlier one again, byte for byte.
    pub replay_percent: u8,
    /// Of a hundred new events, how many carry a time of up to three days before their place.
    pub late_percent: u8,
}

/// An event time, in microseconds since 1970-01-01, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment(pub i64);

impl Moment {
    fn strftime(self, format: &str) -> String {
        let time = jiff::Timestamp::from_microsecond(self.0).unwrap_or_default();
        time.to_zoned(TimeZone::UTC).strftime(format).to_string()
    }

    /// `2026-01-05T10:00:00Z`, as CloudTrail writes times.
    pub fn seconds(self) -> String {
        let (days, second) = (self.0.div_euclid(DAY_MICROS), self.0.rem_euclid(DAY_MICROS) / 1_000_000);
        let (y, m, d) = civil(days);
        format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
    }

    /// `2026-01-05T10:00:00.000000`: microseconds, without a zone, for more digits to follow.
    pub fn micros(self) -> String {
        let seconds = self.seconds();
        format!("{}.{:06}", &seconds[..19], self.0.rem_euclid(1_000_000))
    }

    /// `2026-01-05`.
    pub fn day(self) -> String {
        let mut seconds = self.seconds();
        seconds.truncate(10);
        seconds
    }
}

/// Year, month and day of a number of days since 1970-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms"): several of these are written for every event.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `Jan 5, 2026, 10:00:00 AM`, as CloudTrail writes times inside answers.
pub fn clock_time(micros: i64) -> String {
    Moment(micros).strftime("%b %-d, %Y, %-I:%M:%S %p")
}

/// The records of a [`Load`], one after the other.
pub struct Records {
    load: Load,
    /// Records given so far.
    given: u64,
    /// New events among them.
    new: u64,
    /// New events that the load comes to: all but replays.
    new_in_all: u64,
    chains: key_operation::Chains,
}

impl Records {
    /// Starts at the first record.
    pub fn new(load: Load) -> Self {
        let replays = match load.replay_percent {
            0 => 0,
            percent => {
                (1..load.events).filter(|n| Self::dice(&load, *n).percent(percent.into())).count() as u64
            }
        };
        let new_in_all = load.events - replays;
        Self { load, given: 0, new: 0, new_in_all, chains: key_operation::Chains::new(&load) }
    }

    /// What decides whether a record is a replay.
    fn dice(load: &Load, given: u64) -> Random {
        Random::of(load.seed ^ 0x5EB1A7, given)
    }

    /// Appends the next record without a line end; false when there are no more.
    pub fn next(&mut self, out: &mut String) -> bool {
        if self.given == self.load.events {
            return false;
        }
        let mut random = Self::dice(&self.load, self.given);
        self.given += 1;
        if self.new > 0 && random.percent(self.load.replay_percent.into()) {
            let number = random.below(self.new);
            if self.write(out, number, Some(&mut random)) {
                return true;
            }
        }
        let number = self.new;
        self.new += 1;
        self.write(out, number, None)
    }

    /// Writes new event `number`, or writes it again; false if it cannot be repeated.
    fn write(&mut self, out: &mut String, number: u64, replay: Option<&mut Random>) -> bool {
        let (format, local) = match (self.load.format, number % 3) {
            (Format::Mixed, 0) => (Format::Cloudtrail, number / 3),
            (Format::Mixed, 1) => (Format::KeyOperation, number / 3),
            (Format::Mixed, _) => (Format::Vault, number / 3),
            (format, _) => (format, number),
        };
        match format {
            Format::KeyOperation => match replay {
                Some(random) => return self.chains.replay(out, random),
                None => {
                    let all = self.new_in_all;
                    let to_come = match self.load.format {
                        // Every third one, from the second on.
                        Format::Mixed => ((all + 1) / 3).saturating_sub(number.div_ceil(3)),
                        _ => (all - 1).saturating_sub(number),
                    };
                    self.chains.write(out, self.moment(number), to_come);
                }
            },
            // Both lines of a pair belong to one call.
            Format::Vault => vault::write(out, self.load.seed, local, self.moment(number - local % 2)),
            Format::Cloudtrail | Format::Mixed => {
                cloudtrail::write(out, self.load.seed, local, self.moment(number));
            }
        }
        true
    }

    /// When new event `number` happened.
    fn moment(&self, number: u64) -> Moment {
        let Load { seed, events, start_micros, days, shuffle, late_percent, .. } = self.load;
        let span = i64::from(days) * DAY_MICROS;
        let mut random = Random::of(seed ^ 0x71_3E, number);
        if shuffle {
            return Moment(start_micros + random.below(span as u64) as i64);
        }
        let mut offset = (i128::from(span) * i128::from(number) / i128::from(events.max(1))) as i64;
        if random.percent(late_percent.into()) {
            offset -= random.below(3 * DAY_MICROS as u64) as i64;
        }
        Moment(start_micros + offset.max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(format: Format) -> Load {
        Load {
            seed: 1,
            format,
            events: 2000,
            start_micros: 20_458 * DAY_MICROS,
            days: 2,
            shuffle: false,
            replay_percent: 0,
            late_percent: 0,
        }
    }

    fn all(load: Load) -> Vec<String> {
        let mut records = Records::new(load);
        let mut out = Vec::new();
        loop {
            let mut record = String::new();
            if !records.next(&mut record) {
                return out;
            }
            out.push(record);
        }
    }

    #[test]
    fn every_record_is_compact_json() {
        for format in [Format::Cloudtrail, Format::KeyOperation, Format::Vault] {
            for record in all(load(format)) {
                let value: serde_json::Value = serde_json::from_str(&record).expect(&record);
                assert!(value.is_object());
                assert!(!record.contains('\n'));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let load = Load { shuffle: true, replay_percent: 10, late_percent: 1, ..load(Format::Mixed) };
        assert_eq!(all(load), all(load));
        assert_ne!(all(load), all(Load { seed: 2, ..load }));
    }

    /// The committed example is what `keytrail-load --format key-operation --events 60` writes: the bytes
    /// are the same on every machine.
    #[test]
    fn the_example_is_made_by_this_generator() {
        let lines = all(Load { events: 60, days: 1, ..load(Format::KeyOperation) }).join("\n");
        let example = include_str!("../../../examples/key-operation/hsm-gateway.ndjson");
        assert!(lines + "\n" == example, "examples/key-operation/hsm-gateway.ndjson differs");
    }

    #[test]
    fn only_replays_repeat() {
        let distinct = |load| all(load).into_iter().collect::<std::collections::HashSet<_>>().len();
        let base = Load { events: 20_000, ..load(Format::Mixed) };
        assert_eq!(distinct(base), 20_000);
        let replayed = distinct(Load { replay_percent: 10, ..base });
        assert!((17_800..18_200).contains(&replayed), "{replayed} distinct");
    }

    #[test]
    fn cloudtrail_events_have_the_size_of_real_ones() {
        let records = all(Load { events: 20_000, ..load(Format::Cloudtrail) });
        let mean = records.iter().map(String::len).sum::<usize>() / records.len();
        assert!((1450..1750).contains(&mean), "mean {mean} bytes");
    }

    #[test]
    fn times_are_written_as_sources_write_them() {
        let at = Moment(20_458 * DAY_MICROS + 13 * 3_600_000_000 + 5_000_001);
        assert_eq!(at.seconds(), "2026-01-05T13:00:05Z");
        assert_eq!(at.micros(), "2026-01-05T13:00:05.000001");
        assert_eq!(clock_time(at.0), "Jan 5, 2026, 1:00:05 PM");
    }

    #[test]
    fn civil_agrees_with_jiff() {
        for days in (-200_000..200_000).step_by(37) {
            let at = Moment(days * DAY_MICROS);
            assert_eq!(at.day(), at.strftime("%Y-%m-%d"));
        }
    }
}
