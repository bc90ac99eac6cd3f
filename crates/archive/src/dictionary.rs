//! The dictionary of a column chunk, and Parquet's run-length encoding of numbers.
//!
//! What it is: distinct values in the order in which they came, as a dictionary page holds them (PLAIN),
//! found again by hash; numbers as runs and packed bits (RLE, "RLE / Bit-Packing Hybrid" of the Parquet
//! format). What it is not: it knows no pages and compresses nothing. In: values, numbers. Out: bytes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// A dictionary of so many bytes is full.
const DICTIONARY_BYTES: usize = 1 << 20;

/// Distinct values.
pub(crate) struct Dictionary {
    /// Values behind their length (u32, little-endian).
    page: Vec<u8>,
    /// The values, in the order in which they came.
    places: Vec<Place>,
    /// The same, each with its number: what is found needs no look into the list.
    table: HashTable<(Place, u32)>,
    hasher: ahash::RandomState,
    /// The value that came last.
    last: (Place, u32),
}

/// Where a value stands in the page.
#[derive(Clone, Copy, Default)]
struct Place {
    start: u32,
    len: u32,
}

impl Place {
    #[inline]
    fn of(self, page: &[u8]) -> &[u8] {
        &page[self.start as usize..][..self.len as usize]
    }
}

impl Dictionary {
    /// An empty dictionary.
    pub fn new() -> Self {
        Self {
            page: Vec::new(),
            places: Vec::new(),
            table: HashTable::new(),
            hasher: unforeseen(),
            last: (Place::default(), 0),
        }
    }

    /// The number of a value, which is added if it is not there yet. `None` where a page can hold no more.
    #[inline]
    pub fn index(&mut self, value: &[u8]) -> Option<u32> {
        let (place, number) = self.last;
        if place.len as usize == value.len() && place.of(&self.page) == value && !self.places.is_empty() {
            return Some(number);
        }
        let hash = self.hasher.hash_one(value);
        let page = &self.page;
        let is_it = |(place, _): &(Place, u32)| place.len as usize == value.len() && place.of(page) == value;
        if let Some(found) = self.table.find(hash, is_it) {
            self.last = *found;
            return Some(found.1);
        }
        let number = u32::try_from(self.places.len()).ok()?;
        let start = u32::try_from(self.page.len() + 4).ok()?;
        let len = u32::try_from(value.len()).ok()?;
        start.checked_add(len)?;
        let place = Place { start, len };
        let hasher = &self.hasher;
        self.table.insert_unique(hash, (place, number), |(place, _)| hasher.hash_one(place.of(page)));
        self.page.extend_from_slice(&len.to_le_bytes());
        self.page.extend_from_slice(value);
        self.places.push(place);
        self.last = (place, number);
        Some(number)
    }

    /// Whether values had better be written out from here on.
    pub fn is_full(&self) -> bool {
        self.page.len() >= DICTIONARY_BYTES
    }

    /// Number of values.
    pub fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// The values, in the order in which they came.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| place.of(&self.page))
    }

    /// The body of the dictionary page.
    pub fn page(&self) -> &[u8] {
        &self.page
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.page.len() + 16 * self.places.len()
    }
}

/// A hasher of what comes from logs: nobody there is to foresee what it hashes to.
pub(crate) fn unforeseen() -> ahash::RandomState {
    let seed = RandomState::new().hash_one(0);
    ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0)
}

/// Bits of the largest of so many numbers from 0 on.
pub(crate) fn width(numbers: u32) -> u8 {
    (u32::BITS - numbers.saturating_sub(1).leading_zeros()) as u8
}

/// Appends numbers of so many bits as runs of eight and more, and packed in groups of eight between them.
pub(crate) fn hybrid(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let mut rest = numbers;
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|n| *n == first).count();
        if alike >= 8 {
            run(alike as u64, *first, width, out);
            rest = &rest[alike..];
            continue;
        }
        let is_run = |group: &[u32]| group.len() == 8 && group.iter().all(|n| *n == group[0]);
        let groups = rest.chunks(8).take_while(|group| !is_run(group)).count();
        let (packed, after) = rest.split_at(rest.len().min(8 * groups));
        varint((groups as u64) << 1 | 1, out);
        pack(packed, width, out);
        rest = after;
    }
}

/// Appends one number of so many bits, so many times.
pub(crate) fn run(times: u64, number: u32, width: u8, out: &mut Vec<u8>) {
    varint(times << 1, out);
    out.extend_from_slice(&number.to_le_bytes()[..usize::from(width.div_ceil(8))]);
}

/// The numbers' bits, lowest first; what lacks of a group of eight is zeros.
fn pack(numbers: &[u32], width: u8, out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0u64, 0);
    let missing = numbers.len().next_multiple_of(8) - numbers.len();
    out.reserve((numbers.len() + missing) / 8 * usize::from(width));
    for n in numbers.iter().chain(std::iter::repeat_n(&0, missing)) {
        bits |= u64::from(*n) << held;
        held += u32::from(width);
        if held >= u32::BITS {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= u32::BITS;
            held -= u32::BITS;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes()[..held as usize / 8]);
}

/// ULEB128.
fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the Parquet format says of runs and packed groups, read by the book.
    fn read(mut bytes: &[u8], width: u8, len: usize) -> Vec<u32> {
        let mut out = Vec::new();
        while out.len() < len {
            let mut header = 0u64;
            for shift in (0..).step_by(7) {
                let (byte, rest) = bytes.split_first().unwrap();
                bytes = rest;
                header |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            if header & 1 == 0 {
                let (value, rest) = bytes.split_at(usize::from(width.div_ceil(8)));
                let value = value.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
                out.extend(std::iter::repeat_n(value, (header >> 1) as usize));
                bytes = rest;
            } else {
                let (packed, rest) = bytes.split_at((header >> 1) as usize * usize::from(width));
                let bit = |i: usize| u32::from(packed[i / 8] >> (i % 8) & 1);
                for n in 0..(header >> 1) as usize * 8 {
                    out.push((0..usize::from(width)).map(|i| bit(n * usize::from(width) + i) << i).sum());
                }
                bytes = rest;
            }
        }
        assert!(bytes.is_empty() && out.len() < len + 8);
        out.truncate(len);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn numbers_read_back(
            runs in prop::collection::vec((any::<u32>(), prop_oneof![1..4usize, 1..40usize]), 0..30),
            bits in 0..=32u8,
        ) {
            let mask = if bits == 0 { 0 } else { u32::MAX >> (32 - bits) };
            let numbers: Vec<u32> =
                runs.iter().flat_map(|(n, len)| std::iter::repeat_n(n & mask, *len)).collect();
            let mut out = Vec::new();
            hybrid(&numbers, bits, &mut out);
            prop_assert_eq!(read(&out, bits, numbers.len()), numbers);
        }
    }

    #[test]
    fn widths_hold_the_largest_number() {
        for (numbers, bits) in
            [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9), (u32::MAX, 32)]
        {
            assert_eq!(width(numbers), bits, "{numbers}");
        }
    }

    #[test]
    fn values_have_one_number_each() {
        let mut dictionary = Dictionary::new();
        let texts = ["a", "b", "a", "a", "", "b", ""];
        let numbers: Vec<_> = texts.iter().map(|t| dictionary.index(t.as_bytes())).collect();
        assert_eq!(numbers, [0, 1, 0, 0, 2, 1, 2].map(Some));
        assert_eq!(dictionary.values().collect::<Vec<_>>(), [&b"a"[..], b"b", b""]);
        assert_eq!(dictionary.page(), b"\x01\0\0\0a\x01\0\0\0b\0\0\0\0");
        assert!(!dictionary.is_full());
        (0..200_000u32)
            .take_while(|n| dictionary.index(&n.to_be_bytes()).is_some() && !dictionary.is_full())
            .count();
        assert_eq!(dictionary.len() as usize, 3 + (DICTIONARY_BYTES - 14).div_ceil(8));
        assert_eq!((dictionary.index(b"b"), dictionary.index(&7u32.to_be_bytes())), (Some(1), Some(10)));
    }
}
