//! Faults that come at an invocation which the test names, never by chance.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

/// What goes wrong with an invocation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The environment is killed before the function sees the event.
    KillAtStart,
    /// It is killed so long after the function got the event.
    KillAfter(Duration),
    /// It is killed when the function hands its response over: what it did is done, and nobody hears of it.
    KillBeforeResponse,
    /// The invocation is refused with 429.
    Throttle,
    /// The event comes so much later.
    Delay(Duration),
    /// The event is delivered a second time, with the same request id: at the same time, to another environment, or
    /// once the first is through. The caller hears of the first.
    Duplicate {
        /// Whether at the same time.
        at_once: bool,
    },
    /// The invocation gets a fresh environment whose init phase fails.
    CrashAtInit,
    /// The function ran; the caller gets this instead of its response.
    Respond(Bytes),
}

/// Which faults come at which invocation of a function. Invocations count from 1, those that are throttled and those
/// of event sources and retries too; a duplicate has no number of its own.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    at: BTreeMap<u64, Vec<Fault>>,
    drawn: Option<Drawn>,
}

#[derive(Clone, Debug)]
struct Drawn {
    seed: u64,
    per_mille: u64,
    faults: Vec<Fault>,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a fault to the invocation of this number.
    #[must_use]
    pub fn at(mut self, invocation: u64, fault: Fault) -> Self {
        self.at.entry(invocation).or_default().push(fault);
        self
    }

    /// Adds one of `faults` to so many in a thousand invocations: which, and which of them, follows from the seed and
    /// the invocation's number alone.
    #[must_use]
    pub fn seeded(mut self, seed: u64, per_mille: u64, faults: Vec<Fault>) -> Self {
        self.drawn = Some(Drawn { seed, per_mille, faults });
        self
    }

    /// The faults of an invocation.
    pub fn of(&self, invocation: u64) -> Vec<Fault> {
        let mut faults = self.at.get(&invocation).cloned().unwrap_or_default();
        if let Some(Drawn { seed, per_mille, faults: choice }) = &self.drawn {
            let first = mixed(seed.wrapping_add(invocation.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            if first % 1000 < *per_mille && !choice.is_empty() {
                let second = mixed(first) % choice.len() as u64;
                faults.extend(usize::try_from(second).ok().and_then(|index| choice.get(index)).cloned());
            }
        }
        faults
    }
}

/// The finalizer of SplitMix64.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_faults_each_time() {
        let faults = || Faults::none().seeded(7, 100, vec![Fault::Throttle, Fault::KillAtStart]);
        let drawn: Vec<_> = (1..=1000).map(|n| faults().of(n)).collect();
        assert_eq!(drawn, (1..=1000).map(|n| faults().of(n)).collect::<Vec<_>>());
        let hit = drawn.iter().filter(|faults| !faults.is_empty()).count();
        assert!((60..140).contains(&hit), "{hit}");
        let other = Faults::none().seeded(8, 100, vec![Fault::Throttle]);
        assert_ne!(
            drawn.iter().map(Vec::len).collect::<Vec<_>>(),
            (1..=1000).map(|n| other.of(n).len()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_named_invocation_has_its_faults_alone() {
        let faults = Faults::none().at(2, Fault::Throttle).at(2, Fault::Delay(Duration::from_millis(1)));
        assert_eq!((faults.of(1).len(), faults.of(2).len(), faults.of(3).len()), (0, 2, 0));
    }
}
