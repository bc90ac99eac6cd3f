//! No panic, and a row or a reason, for fixtures of Vault and key operation records with bytes flipped,
//! cut, doubled and swapped. Seeded: the same mutations each time. `fuzz/` goes further.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, normalize};

/// Mutations of each format.
const ROUNDS: usize = 20_000;

/// xorshift64 (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn mutated_records_are_read_or_refused() {
    let masker = Masker::new(&[7; 32]);
    let ctx = Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker };
    for format in [Format::Vault, Format::KeyOperation] {
        let seeds = seeds(format);
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..ROUNDS {
            let mut bytes = seeds[dice.roll(seeds.len())].clone();
            for _ in 0..=dice.roll(3) {
                mutate(&mut bytes, &mut dice, &seeds);
            }
            if let Ok(text) = std::str::from_utf8(&bytes) {
                Format::detect(text);
            }
            let mut rows = RowBuffer::new();
            match normalize(format, &bytes, Provenance { input: 0, offset: 0 }, &ctx, &mut rows) {
                Ok(()) => {
                    assert_eq!(rows.len(), 1);
                    read += 1;
                }
                Err(r) => {
                    assert!(rows.is_empty() && !r.reason.is_empty());
                    refused += 1;
                }
            }
        }
        assert_eq!(read + refused, ROUNDS);
        assert!(read > 100 && refused > 100, "{}: {read} read, {refused} refused", format.name());
    }
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice, seeds: &[Vec<u8>]) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.roll(bytes.len());
    match dice.roll(6) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes.truncate(at),
        2 => bytes[at] = b"{}[]\",:0-nt\\ \x00\xff"[dice.roll(15)],
        3 => {
            bytes.remove(at);
        }
        4 => {
            let to = (at + dice.roll(40)).min(bytes.len());
            let piece = bytes[at..to].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let other = &seeds[dice.roll(seeds.len())];
            let from = dice.roll(other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
    }
}

fn seeds(format: Format) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(format.name());
    let mut cases: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    let text: Vec<_> = cases.iter().map(|c| fs::read_to_string(c.join("input.ndjson")).unwrap()).collect();
    text.iter().flat_map(|t| t.lines()).filter(|l| !l.is_empty()).map(|l| l.as_bytes().to_vec()).collect()
}
