//! No panic, and a row or a reason, for fixtures of all sources with bytes flipped,
//! cut, doubled and swapped. Seeded: the same mutations each time. `KEYTRAIL_MUTATIONS=1000000` makes so many
//! of each format; `fuzz/` goes further.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::framing::{Frame, Limits, Splitter};
use keytrail_normalize::{Context, Format, Masker, normalize};

/// Mutations of each format.
fn rounds() -> usize {
    std::env::var("KEYTRAIL_MUTATIONS").map_or(20_000, |n| n.parse().unwrap())
}

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
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    for format in Format::ALL {
        let seeds = seeds(format);
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
        let (mut read, mut refused) = (0, 0);
        for round in 0..rounds() {
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
            // As `explain` and `quarantine show` show it: what is masked stays as it is.
            if round % 40 == 0 {
                for known in [Some(format), None] {
                    let shown = masker.mask_document(known, &bytes);
                    assert_eq!(masker.mask_document(known, shown.as_bytes()), shown, "of {bytes:?}");
                }
            }
        }
        assert_eq!(read + refused, rounds());
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
    let mut files: Vec<_> = fs::read_dir(root)
        .unwrap()
        .flat_map(|case| fs::read_dir(case.unwrap().path()).unwrap())
        .map(|f| f.unwrap().path())
        .filter(|f| f.file_stem().is_some_and(|name| name == "input"))
        .collect();
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        let mut splitter = Splitter::new(Limits::default());
        let mut keep = |frame: Frame<'_>| seeds.push(frame.bytes.to_vec());
        splitter.run(&fs::read(file).unwrap(), true, &mut keep);
    }
    // Mutations of long records are slow and no wilder.
    seeds.retain(|s| s.len() < 8_000);
    seeds
}

/// Mutated files, cut into records and normalized as a run does it: no panic, and frames are the file's
/// bytes, in order, none twice.
#[test]
fn mutated_files_are_cut_and_read() {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let all: Vec<Vec<u8>> = Format::ALL.into_iter().flat_map(seeds).collect();
    let mut dice = Dice(0xD1B5_4A32_D192_ED03);
    let (mut read, mut refused) = (0, 0);
    for round in 0..rounds() / 20 {
        let records: Vec<&[u8]> = (0..6).map(|_| &*all[dice.roll(all.len())]).collect();
        let mut file = match round % 3 {
            0 => records.join(&b"\n"[..]),
            1 => [b"{\"Records\":[", &*records.join(&b","[..]), b"]}"].concat(),
            _ => [b"[", &*records.join(&b",\n"[..]), b"]"].concat(),
        };
        for _ in 0..dice.roll(4) {
            mutate(&mut file, &mut dice, &all);
        }
        let mut rows = RowBuffer::new();
        let mut last = 0;
        let mut each = |frame: Frame<'_>| {
            assert!(frame.offset >= last, "frames in order, none twice");
            last = frame.offset + frame.bytes.len() as u64;
            assert_eq!(frame.bytes, &file[frame.offset as usize..last as usize]);
            let format = std::str::from_utf8(frame.bytes).ok().and_then(Format::detect);
            let from = Provenance { input: 0, offset: frame.offset };
            match (frame.verdict, format) {
                (Ok(()), Some(f)) if normalize(f, frame.bytes, from, &ctx, &mut rows).is_ok() => read += 1,
                _ => refused += 1,
            }
        };
        let mut splitter = Splitter::new(Limits::default());
        let (mut done, mut shown) = (0, 0);
        while shown < file.len() {
            shown = file.len().min(shown + 1 + dice.roll(5_000));
            done += splitter.run(&file[done..shown], shown == file.len(), &mut each);
        }
    }
    assert!(read > 1_000 && refused > 100, "{read} read, {refused} refused");
}
