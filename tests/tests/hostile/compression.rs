//! Compressed input: cut, corrupt, with a tail, in members, and bombs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_tests::trail::Trail;

use crate::{Counts, counted, entries, holds, ingest, lines, measured, name, record, verifies};

const RECORDS: usize = 60;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    // With a checksum, as the `zstd` command writes it.
    let mut out = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    out.include_checksum(true).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// Cut anywhere: the records before the cut are kept, the rest of one is one entry, nothing else is lost.
#[test]
fn truncated() {
    let text = lines(0, RECORDS);
    for whole in [gzip(text.as_bytes()), zstd(text.as_bytes())] {
        for part in [1, 40, 300, 500, 700, 900, 980] {
            let cut = (whole.len() * part / 1000).max(5);
            let (counts, refused) = ingest(&whole[..cut], &[]);
            assert_eq!(counts.rejected, 1, "{cut} of {}: {refused:?}", whole.len());
            assert!(counts.accepted < RECORDS as u64);
            let (code, bytes) = &refused[0];
            assert_eq!(code, "compression_broken");
            // Inflated bytes of the unfinished record, or the input's name where nothing was left.
            let start = lines(0, counts.accepted as usize).len();
            assert!(
                text.as_bytes()[start.min(text.len())..].starts_with(bytes) || bytes.ends_with(b"/input")
            );
        }
    }
}

/// A flipped byte in the middle: what is before it is kept, and the input's end is told.
#[test]
fn corrupt_in_the_middle() {
    for mut whole in [gzip(lines(0, RECORDS).as_bytes()), zstd(lines(0, RECORDS).as_bytes())] {
        let middle = whole.len() / 2;
        whole[middle] ^= 0x55;
        let (counts, refused) = ingest(&whole, &[]);
        assert!(refused.iter().any(|(code, _)| code == "compression_broken"), "{counts:?}");
    }
}

#[test]
fn a_tail_behind_gzip_is_told_and_members_are_read() {
    let members: Vec<u8> = (0..RECORDS).flat_map(|n| gzip((record(n) + "\n").as_bytes())).collect();
    let all = Counts { read: 60, accepted: 60, duplicates: 0, rejected: 0 };
    assert_eq!(ingest(&members, &[]).0, all);
    let frames: Vec<u8> = (0..RECORDS).flat_map(|n| zstd((record(n) + "\n").as_bytes())).collect();
    assert_eq!(ingest(&frames, &[]).0, all);
    for whole in [gzip(lines(0, RECORDS).as_bytes()), zstd(lines(0, RECORDS).as_bytes())] {
        let (counts, refused) = ingest([whole, b"not compressed".to_vec()].concat(), &[]);
        assert_eq!((counts.accepted, counts.rejected), (60, 1), "{refused:?}");
        assert_eq!(refused[0].0, "compression_broken");
    }
}

/// 10 GB of one letter in a record, and of spaces, in 10 MB: read up to the limit, in bounded memory.
#[test]
fn bombs() {
    let unit = gzip(&vec![b' '; 64 << 20]);
    let spaces: Vec<u8> = unit.repeat(10_000 / 64);
    let opened = gzip(format!("{}{{\"eventVersion\":\"1.08\",\"x\":\"", lines(0, 3)).as_bytes());
    let letters = gzip(&vec![b'a'; 64 << 20]).repeat(10_000 / 64);
    let bomb = [opened, letters].concat();
    for (bytes, accepted) in [(spaces, 0), (bomb, 3)] {
        let trail = Trail::new();
        let input = trail.input("bomb.gz", bytes);
        let args = [name(&input), "--max-inflated-size", "64MiB"];
        let done = measured(&trail, &["run", args[0], args[1], args[2], "--json"]);
        let (_, counts, _) = counted(&done.ran);
        assert_eq!(counts.accepted, accepted);
        assert!(entries(&trail).iter().any(|e| e.code == "inflated_too_large"));
        assert!(done.peak_bytes < 256 << 20, "{} bytes", done.peak_bytes);
        assert!(done.took.as_secs() < 60);
        holds(&trail, &args, counts);
    }
}

/// A bomb of good records: those within the limit are archived.
#[test]
fn a_bomb_of_records() {
    let one = record(7) + "\n";
    let bytes = gzip(&one.repeat((96 << 20) / one.len()).into_bytes());
    let trail = Trail::new();
    let input = trail.input("bomb.gz", bytes);
    let done = measured(&trail, &["run", name(&input), "--max-inflated-size", "32MiB", "--json"]);
    let (_, counts, _) = counted(&done.ran);
    assert_eq!((counts.accepted, counts.rejected), (1, 1));
    assert_eq!(counts.read, (32 << 20) / one.len() as u64 + 1);
    assert!(done.peak_bytes < 256 << 20);
    verifies(&trail);
}
