//! Reading Parquet's run-length encoding of numbers (RLE, "RLE / Bit-Packing Hybrid" of the Parquet format),
//! some at a time: levels, and places in a dictionary.
//!
//! What it is not: it believes no count. What a run claims beyond what is asked for takes neither time nor
//! memory. In: bytes of a page. Out: numbers. [`crate::dictionary`] writes the same.

use bytes::{Buf, Bytes};
use parquet::errors::{ParquetError, Result};

/// Numbers that are still to be read.
pub(crate) struct Hybrid {
    bytes: Bytes,
    /// Bits of a number, 32 at most.
    width: usize,
    run: Run,
    /// Numbers of the run that are still to be read.
    left: usize,
}

enum Run {
    /// The same number.
    Alike(u32),
    /// Packed bits, and how many numbers of them were read.
    Packed(Bytes, usize),
}

/// What comes next.
pub(crate) enum Next {
    /// The same number, so often.
    Alike(u32, usize),
    /// So many numbers of any kind.
    Any(usize),
}

impl Hybrid {
    /// The numbers, of so many bits.
    pub fn new(bytes: Bytes, width: u8) -> Result<Self> {
        if width > 32 {
            return Err(damaged("a number has more than 32 bits"));
        }
        Ok(Self { bytes, width: usize::from(width), run: Run::Alike(0), left: 0 })
    }

    /// What the next `most` numbers begin with, which is one at least. Numbers that are alike are read with it.
    pub fn next(&mut self, most: usize) -> Result<Next> {
        self.settle()?;
        let n = self.left.min(most);
        Ok(match self.run {
            Run::Alike(number) => {
                self.left -= n;
                Next::Alike(number, n)
            }
            Run::Packed(..) => Next::Any(n),
        })
    }

    /// Whether the run goes on with that number, so often; it is passed over then.
    pub fn pass(&mut self, number: u32, times: usize) -> Result<bool> {
        self.settle()?;
        let passed = matches!(self.run, Run::Alike(n) if n == number) && self.left >= times;
        if passed {
            self.left -= times;
        }
        Ok(passed)
    }

    /// Appends so many numbers.
    pub fn read(&mut self, numbers: usize, out: &mut Vec<u32>) -> Result<()> {
        let mut wanted = numbers;
        while wanted > 0 {
            self.settle()?;
            let n = self.left.min(wanted);
            match &mut self.run {
                Run::Alike(number) => out.resize(out.len() + n, *number),
                Run::Packed(bits, at) => {
                    unpack(bits, self.width, *at, n, out);
                    *at += n;
                }
            }
            self.left -= n;
            wanted -= n;
        }
        Ok(())
    }

    /// Begins the next run, where the last one is at its end.
    fn settle(&mut self) -> Result<()> {
        while self.left == 0 {
            let header = self.varint()?;
            self.left = (header >> 1) as usize;
            if header & 1 == 0 {
                let mut number = [0; 4];
                let len = self.width.div_ceil(8);
                self.bytes.try_copy_to_slice(&mut number[..len]).map_err(|_| short())?;
                self.run = Run::Alike(u32::from_le_bytes(number));
            } else {
                let len = self.left.checked_mul(self.width).filter(|len| *len <= self.bytes.len());
                self.run = Run::Packed(self.bytes.split_to(len.ok_or_else(short)?), 0);
                // Groups of eight, each of as many bytes as a number has bits.
                self.left *= 8;
            }
        }
        Ok(())
    }

    /// ULEB128 of 32 bits.
    fn varint(&mut self) -> Result<u32> {
        let mut n = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.bytes.try_get_u8().map_err(|_| short())?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(n).map_err(|_| damaged("a run is too long"));
            }
        }
        Err(damaged("a run is too long"))
    }
}

/// Appends `n` numbers from number `at` on, all of which are there.
fn unpack(bits: &[u8], width: usize, at: usize, n: usize, out: &mut Vec<u32>) {
    let mask = (1u64 << width) - 1;
    let mut bit = at * width;
    out.extend((0..n).map(|_| {
        let rest = &bits[(bit / 8).min(bits.len())..];
        // 39 bits at most are needed.
        let word = match rest.first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let number = (word >> (bit % 8) & mask) as u32;
        bit += width;
        number
    }));
}

fn short() -> ParquetError {
    damaged("it has fewer numbers than it needs")
}

fn damaged(what: &str) -> ParquetError {
    ParquetError::General(what.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dictionary::hybrid;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn numbers_read_back_in_parts(
            runs in prop::collection::vec((any::<u32>(), prop_oneof![1..4usize, 1..40usize]), 0..30),
            parts in prop::collection::vec(1..50usize, 1..10),
            bits in 0..=32u8,
        ) {
            let mask = if bits == 0 { 0 } else { u32::MAX >> (32 - bits) };
            let numbers: Vec<u32> =
                runs.iter().flat_map(|(n, len)| std::iter::repeat_n(n & mask, *len)).collect();
            let mut bytes = Vec::new();
            hybrid(&numbers, bits, &mut bytes);
            let (mut reader, mut read) = (Hybrid::new(bytes.into(), bits).unwrap(), Vec::new());
            for part in parts.iter().cycle() {
                let left = numbers.len() - read.len();
                if left == 0 {
                    break;
                }
                if part % 3 > 0 {
                    reader.read((*part).min(left), &mut read).unwrap();
                    continue;
                }
                match reader.next((*part).min(left)).unwrap() {
                    Next::Alike(number, n) => read.extend(std::iter::repeat_n(number, n)),
                    Next::Any(n) => reader.read(n, &mut read).unwrap(),
                }
            }
            prop_assert_eq!(&read, &numbers);
            // What fills the last group of eight may follow, then nothing.
            prop_assert!(reader.read(8, &mut read).is_err());
        }

        #[test]
        fn nonsense_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..40), bits in 0..=33u8) {
            if let Ok(mut reader) = Hybrid::new(bytes.into(), bits) {
                let mut read = Vec::new();
                let _ = reader.read(1000, &mut read);
                prop_assert!(read.len() <= 1000);
            }
        }
    }
}
