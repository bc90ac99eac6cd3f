//! Numbers of an epoch that no record has: missing, or known as part of a sealed run.

use super::part::Part;

/// First and last number.
pub(super) type Span = (u64, u64);

/// What lies between parts, from the number `from` on.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Holes {
    pub(super) missing: Vec<Span>,
    pub(super) filled: Vec<Span>,
}

impl Holes {
    /// `parts` and `runs` are in order; runs may overlap.
    pub(super) fn between(
        parts: &[Part],
        from: u64,
        runs: impl IntoIterator<Item = Span>,
        runs_last: Option<u64>,
    ) -> Self {
        let mut holes = Self::default();
        let mut runs = runs.into_iter().peekable();
        // The first number that no run so far has.
        let mut reach = 0;
        let mut fill = |(mut at, last): Span| {
            while at <= last {
                while let Some((_, end)) = runs.next_if(|(first, _)| *first <= at) {
                    reach = reach.max(end + 1);
                }
                if reach > at {
                    let to = last.min(reach - 1);
                    holes.filled.push((at, to));
                    at = to + 1;
                } else {
                    let to = runs.peek().map_or(last, |(first, _)| last.min(*first - 1));
                    holes.missing.push((at, to));
                    at = to + 1;
                }
            }
        };
        let mut at = from;
        for part in parts {
            if at < part.first {
                fill((at, part.first - 1));
            }
            at = part.last + 1;
        }
        if let Some(last) = runs_last {
            fill((at, last));
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Hash;

    use super::super::part::{Item, Kind};
    use super::*;

    #[test]
    fn runs_fill_what_records_leave() {
        let part = |seq| {
            let hash = Hash::default();
            Part::of(seq, Item { prev: hash, leaf: hash, clocks: None, kind: Kind::Plain })
        };
        let parts = [part(10), part(20), part(21)];
        let holes = |from, runs: &[Span]| {
            let last = runs.iter().map(|r| r.1).max();
            let holes = Holes::between(&parts, from, runs.iter().copied(), last);
            (holes.missing, holes.filled)
        };
        assert_eq!(holes(0, &[]), (vec![(0, 9), (11, 19)], vec![]));
        assert_eq!(holes(10, &[(3, 12)]), (vec![(13, 19)], vec![(11, 12)]));
        assert_eq!(
            holes(5, &[(0, 6), (0, 7), (1, 2), (12, 15), (14, 30), (33, 33)]),
            (vec![(8, 9), (11, 11), (31, 32)], vec![(5, 7), (12, 15), (16, 19), (22, 30), (33, 33)])
        );
    }
}
