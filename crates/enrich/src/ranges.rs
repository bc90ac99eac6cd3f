//! Networks by address: the longest prefix that held at a time.
//!
//! The ends of all networks cut the space of addresses into pieces, sorted by their first address. A piece
//! knows the smallest network around it, a network the next larger one: a lookup is a binary search and a
//! few steps outward.

use std::collections::BTreeMap;

use keytrail_model::Timestamp;

use crate::index::{Version, at};
use crate::network::Prefix;

/// Networks, to be looked up once [`finished`](Builder::finish).
#[derive(Default)]
pub(crate) struct Builder(BTreeMap<Prefix, Vec<Version>>);

/// The index of a table of networks.
#[derive(Default)]
pub(crate) struct Ranges {
    /// First addresses of the pieces, ascending.
    firsts: Vec<u128>,
    /// The smallest network around each, by its place in `networks`.
    inner: Vec<u32>,
    networks: Vec<Around>,
}

struct Around {
    versions: Vec<Version>,
    /// The next larger network, or [`NONE`].
    outer: u32,
}

const NONE: u32 = u32::MAX;

impl Builder {
    /// Adds a row. Gives the one that holds the same network at some moment of the same time.
    pub fn insert(&mut self, prefix: Prefix, version: Version) -> Result<(), u32> {
        let versions = self.0.entry(prefix).or_default();
        let place = versions.partition_point(|v| v.validity.from < version.validity.from);
        let neighbours = versions.iter().skip(place.saturating_sub(1)).take(2);
        if let Some(taken) = neighbours.into_iter().find(|v| v.validity.overlaps(&version.validity)) {
            return Err(taken.row);
        }
        versions.insert(place, version);
        Ok(())
    }

    /// The index.
    pub fn finish(self) -> Ranges {
        let mut ranges = Ranges::default();
        // Networks around the current address, with their last ones; by first address and length, a larger
        // network comes before those in it.
        let mut open: Vec<(u128, u32)> = Vec::new();
        for (prefix, versions) in self.0 {
            ranges.close(&mut open, Some(prefix.first));
            let number = ranges.networks.len() as u32;
            let outer = open.last().map_or(NONE, |(_, outer)| *outer);
            ranges.networks.push(Around { versions, outer });
            ranges.piece(prefix.first, number);
            open.push((prefix.last(), number));
        }
        ranges.close(&mut open, None);
        ranges
    }
}

impl Ranges {
    /// Ends the networks that lie before an address.
    fn close(&mut self, open: &mut Vec<(u128, u32)>, before: Option<u128>) {
        while let Some((last, _)) = open.last().copied()
            && before.is_none_or(|first| last < first)
        {
            open.pop();
            let outer = open.last().map_or(NONE, |(_, outer)| *outer);
            if let Some(next) = last.checked_add(1) {
                self.piece(next, outer);
            }
        }
    }

    fn piece(&mut self, first: u128, network: u32) {
        if self.firsts.last() == Some(&first) {
            self.firsts.pop();
            self.inner.pop();
        }
        self.firsts.push(first);
        self.inner.push(network);
    }

    /// The row of the smallest network around an address that held at that time.
    pub fn find(&self, address: u128, time: Option<Timestamp>) -> Option<u32> {
        let piece = self.firsts.partition_point(|first| *first <= address).checked_sub(1)?;
        let mut network = *self.inner.get(piece)?;
        while let Some(around) = self.networks.get(network as usize) {
            if let Some(row) = at(&around.versions, time) {
                return Some(row);
            }
            network = around.outer;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::network::number;
    use crate::{Validity, time};

    fn always(row: u32) -> Version {
        Version { validity: Validity::default(), row }
    }

    fn find(ranges: &Ranges, address: &str, at: &str) -> Option<u32> {
        ranges.find(number(address.parse().unwrap()), time(at))
    }

    #[test]
    fn the_longest_prefix_that_held_then_counts() {
        let mut builder = Builder::default();
        let networks = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.2.0/24",
            "2001:db8::/32",
            "::/0",
            "255.255.255.255",
        ];
        for (row, network) in (0..).zip(networks) {
            let mut version = always(row);
            if row == 2 {
                version.validity.to = time("2023-01-01");
            }
            builder.insert(Prefix::parse(network).unwrap(), version).unwrap();
        }
        assert_eq!(builder.insert(Prefix::parse("10.0.0.0/8").unwrap(), always(9)), Err(1));
        let ranges = builder.finish();
        for (address, row) in [
            ("10.1.2.3", 3),
            ("10.1.3.3", 2),
            ("10.2.0.0", 1),
            ("11.0.0.0", 0),
            ("255.255.255.255", 6),
            ("2001:db8::1", 4),
            ("2001:db9::1", 5),
            ("::ffff:10.1.2.3", 3),
            ("ffff::", 5),
        ] {
            assert_eq!(find(&ranges, address, "2022-06-01"), Some(row), "{address}");
        }
        assert_eq!(find(&ranges, "10.1.3.3", "2023-06-01"), Some(1));
        assert_eq!(Ranges::default().find(7, None), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lookups_are_those_of_a_search_through_all(
            networks in prop::collection::vec((any::<u8>(), 118..=128u8), 0..40),
            addresses in prop::collection::vec(any::<u16>(), 30),
        ) {
            let mut builder = Builder::default();
            let mut all = Vec::new();
            for (row, (low, bits)) in (0..).zip(networks) {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                let prefix = Prefix { first: u128::from(low) & mask, bits };
                if builder.insert(prefix, always(row)).is_ok() {
                    all.push((prefix, row));
                }
            }
            let ranges = builder.finish();
            for address in addresses.into_iter().map(|a| u128::from(a % 1100)) {
                let around = all.iter().filter(|(p, _)| (p.first..=p.last()).contains(&address));
                let expected = around.max_by_key(|(p, _)| p.bits).map(|(_, row)| *row);
                prop_assert_eq!(ranges.find(address, None), expected);
            }
        }
    }
}
