//! Lag: from when a record appeared in its file, at the earliest, to when it was sealed.

use std::time::{Duration, Instant};

/// Upper bounds of the histogram's buckets, in seconds.
pub const BUCKETS: [u64; 12] = [1, 2, 5, 10, 15, 30, 45, 60, 90, 120, 300, 600];

/// Records that wait for a seal, by when they appeared.
#[derive(Default, Debug)]
pub(crate) struct Waiting(Vec<(Instant, u64)>);

/// The lag of sealed records.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Lag {
    /// Records.
    pub records: u64,
    /// Half of the records have at most this.
    pub p50: Duration,
    /// 99 of 100 records have at most this.
    pub p99: Duration,
    /// Sum over the records, in seconds.
    pub sum_seconds: f64,
    /// Records up to each of [`BUCKETS`], and not in the one before.
    pub buckets: [u64; BUCKETS.len()],
}

impl Waiting {
    /// Takes records that appeared at a time.
    pub fn add(&mut self, appeared: Instant, records: u64) {
        match self.0.last_mut() {
            _ if records == 0 => {}
            Some((at, n)) if *at == appeared => *n += records,
            _ => self.0.push((appeared, records)),
        }
    }

    /// Records that wait.
    pub fn records(&self) -> u64 {
        self.0.iter().map(|(_, n)| n).sum()
    }

    /// They are sealed.
    pub fn sealed(&mut self, now: Instant) -> Lag {
        let mut waited: Vec<(Duration, u64)> =
            self.0.drain(..).map(|(at, n)| (now.saturating_duration_since(at), n)).collect();
        waited.sort_unstable();
        let records: u64 = waited.iter().map(|(_, n)| n).sum();
        let quantile = |percent: u64| {
            let mut left = (records * percent).div_ceil(100);
            let reached = waited.iter().find(|(_, n)| {
                left = left.saturating_sub(*n);
                left == 0
            });
            reached.map_or(Duration::ZERO, |(lag, _)| *lag)
        };
        let mut lag = Lag { records, p50: quantile(50), p99: quantile(99), ..Lag::default() };
        for (waited, n) in waited {
            lag.sum_seconds += waited.as_secs_f64() * n as f64;
            if let Some(at) = BUCKETS.iter().position(|limit| waited <= Duration::from_secs(*limit)) {
                lag.buckets[at] += n;
            }
        }
        lag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_over_records() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        assert_eq!(waiting.sealed(now), Lag::default());
        waiting.add(now, 1);
        waiting.add(now, 97);
        waiting.add(now + Duration::from_secs(700), 2);
        assert_eq!(waiting.records(), 100);
        let lag = waiting.sealed(now + Duration::from_secs(701));
        assert_eq!((lag.records, lag.p50.as_secs(), lag.p99.as_secs()), (100, 701, 701));
        assert_eq!((lag.buckets[0], lag.buckets.iter().sum::<u64>()), (2, 2));
        assert_eq!(waiting.records(), 0);
    }
}
