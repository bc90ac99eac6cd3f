//! Torn tails are cut and reported; damage before them is reported and stays.

use keytrail_model::segment::{FOOTER_BYTES, RECORD_HEADER_BYTES};

use super::*;

/// Bytes of the header of the source's segments.
const HEADER_BYTES: u64 = 74 + 12;

/// A spool in which one segment was left open, with records of those lengths.
fn left_open(lengths: &[usize]) -> (MemoryFiles, Vec<(u64, u64, Vec<u8>)>) {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, lengths);
    (files, written)
}

/// Where records of those lengths begin, and where they end.
fn places(lengths: &[usize]) -> Vec<u64> {
    let mut at = HEADER_BYTES;
    let mut places = vec![at];
    for length in lengths {
        at += (RECORD_HEADER_BYTES + length) as u64;
        places.push(at);
    }
    places
}

/// Opens the spool when its newest segment has these bytes.
fn opened_with(files: &MemoryFiles, bytes: &[u8]) -> (MemoryFiles, Spool, Recovered) {
    let files = files.crash(memory::Crash::Process);
    files.put(&path(1, 0), bytes);
    let (spool, recovered) = open(&files);
    (files, spool, recovered)
}

/// Whether a second start finds nothing more to cut, and the same damage.
fn opens_again(files: &MemoryFiles, spool: Spool, recovered: &Recovered) {
    let records = read(&spool);
    drop(spool);
    let (spool, again) = open(files);
    assert_eq!((again.truncated, &again.damaged), (None, &recovered.damaged));
    assert!(again.segments.last().is_none_or(|s| s.closed));
    assert!(read(&spool) == records);
}

const LENGTHS: [usize; 3] = [30, 80, 60];

#[test]
fn a_record_that_is_cut_off_anywhere_is_cut_away() {
    let (files, written) = left_open(&LENGTHS);
    let whole = files.bytes(&path(1, 0));
    let places = places(&LENGTHS);
    let (start, end) = (places[2], places[3]);
    for cut in start..=end {
        // The rest was not written, or the file ends there.
        let mut blank = whole.clone();
        blank[cut as usize..].fill(0);
        for bytes in [&blank[..], &whole[..cut as usize]] {
            let (files, spool, recovered) = opened_with(&files, bytes);
            let expected = if cut == end { &written[..] } else { &written[..2] };
            assert!(read(&spool) == expected, "cut {cut}");
            assert!(recovered.damaged.is_empty(), "cut {cut}: {recovered:?}");
            // Up to the last byte that is not zero, which may be a few before the cut.
            let last = bytes.iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
            let dropped_bytes = last.saturating_sub(start);
            let truncated = Truncated { epoch: 1, expected_seq: 2, at_bytes: start, dropped_bytes };
            let truncated = (cut < end && dropped_bytes > 0).then_some(truncated);
            assert_eq!(recovered.truncated, truncated, "cut {cut}");
            assert_eq!(recovered.segments[0].last_seq, expected.len() as u64 - 1);
            opens_again(&files, spool, &recovered);
        }
    }
}

#[test]
fn a_record_with_any_byte_wrong_is_cut_away() {
    let (files, written) = left_open(&LENGTHS);
    let whole = files.bytes(&path(1, 0));
    let places = places(&LENGTHS);
    for at in places[2] as usize..places[3] as usize {
        for wrong in [0, !whole[at], whole[at] ^ 1, 0xFF] {
            if wrong == whole[at] {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[at] = wrong;
            let (files, spool, recovered) = opened_with(&files, &bytes);
            assert!(read(&spool) == written[..2], "byte {at}");
            assert!(recovered.damaged.is_empty(), "byte {at}: {recovered:?}");
            let truncated = recovered.truncated.clone().unwrap();
            assert_eq!((truncated.expected_seq, truncated.at_bytes), (2, places[2]), "byte {at}");
            opens_again(&files, spool, &recovered);
        }
    }
}

#[test]
fn a_torn_first_record_leaves_no_segment() {
    let (files, _) = left_open(&[40]);
    let mut bytes = files.bytes(&path(1, 0));
    bytes[HEADER_BYTES as usize + 20] ^= 1;
    let (files, spool, recovered) = opened_with(&files, &bytes);
    assert!(recovered.segments.is_empty() && recovered.damaged.is_empty());
    let truncated = Truncated { epoch: 1, expected_seq: 0, at_bytes: HEADER_BYTES, dropped_bytes: 56 };
    assert_eq!(recovered.truncated, Some(truncated));
    opens_again(&files, spool, &recovered);
}

#[test]
fn a_bad_record_before_others_stays_and_they_are_read() {
    let lengths = [30, 80, 60, 1, 50];
    let (files, written) = left_open(&lengths);
    let whole = files.bytes(&path(1, 0));
    let places = places(&lengths);
    for at in places[1] as usize..places[2] as usize {
        for wrong in [0, !whole[at], whole[at] ^ 1, 0xFF] {
            if wrong == whole[at] {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[at] = wrong;
            let (files, spool, recovered) = opened_with(&files, &bytes);
            let expected: Vec<_> = written.iter().filter(|r| r.1 != 1).cloned().collect();
            assert!(read(&spool) == expected, "byte {at}");
            assert_eq!(recovered.truncated, None, "byte {at}");
            let damage = Damage {
                path: path(1, 0),
                epoch: 1,
                expected_seq: 1,
                at_bytes: places[1],
                bytes: 96,
                // A length of 0 is a blank.
                wrong: if bytes[places[1] as usize..][..4] == [0; 4] { Wrong::Blank } else { Wrong::Bytes },
            };
            assert_eq!(recovered.damaged, [damage], "byte {at}");
            let now = files.bytes(&path(1, 0));
            assert!(now[..places[5] as usize] == bytes[..places[5] as usize]);
            assert_eq!(now.len() as u64, places[5] + FOOTER_BYTES as u64);
            let batch = spool.reader().next(None, 1 << 20).unwrap().unwrap();
            assert_eq!(batch.damaged, recovered.damaged);
            opens_again(&files, spool, &recovered);
        }
    }
}

#[test]
fn a_hole_in_the_newest_segment_is_damage() {
    let lengths = [30, 80, 60, 1, 50];
    let (files, written) = left_open(&lengths);
    let mut bytes = files.bytes(&path(1, 0));
    let places = places(&lengths);
    bytes[places[1] as usize..places[3] as usize].fill(0);
    let (files, spool, recovered) = opened_with(&files, &bytes);
    let found: Vec<_> =
        recovered.damaged.iter().map(|d| (d.expected_seq, d.at_bytes, d.bytes, d.wrong)).collect();
    assert_eq!(found, [(1, places[1], places[3] - places[1], Wrong::Blank)]);
    assert_eq!(recovered.truncated, None);
    let expected: Vec<_> = written.iter().filter(|r| r.1 == 0 || r.1 > 2).cloned().collect();
    assert!(read(&spool) == expected);
    let message = recovered.damaged[0].to_string();
    assert!(
        message.ends_with(".ktseg` at byte 132, 172 bytes, record 1: nothing is written there"),
        "{message}"
    );
    opens_again(&files, spool, &recovered);
}

#[test]
fn damage_and_a_torn_tail_are_told_apart() {
    let lengths = [30, 80, 60, 50];
    let (files, written) = left_open(&lengths);
    let mut bytes = files.bytes(&path(1, 0));
    let places = places(&lengths);
    bytes[places[1] as usize + 30] ^= 4;
    bytes[places[4] as usize - 1] ^= 4;
    let (files, spool, recovered) = opened_with(&files, &bytes);
    assert_eq!(recovered.damaged[0].wrong, Wrong::Bytes);
    assert_eq!(recovered.truncated.as_ref().map(|t| (t.expected_seq, t.at_bytes)), Some((3, places[3])));
    assert!(read(&spool) == [written[0].clone(), written[2].clone()]);
    opens_again(&files, spool, &recovered);
}

/// Four segments in two epochs: 1/0, 1/2, 2/0, 2/2; the last is open.
fn four_segments() -> (MemoryFiles, Vec<(u64, u64, Vec<u8>)>) {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let mut written = write(&mut spool, 1, &[1900, 1900, 1900, 1900]);
    spool.close_epoch().unwrap();
    written.extend(write(&mut spool, 2, &[1900, 1900, 1900]));
    (files, written)
}

#[test]
fn nothing_is_cut_from_a_segment_that_is_not_the_newest() {
    let (files, written) = four_segments();
    let last_record = HEADER_BYTES as usize + 2 * RECORD_HEADER_BYTES + 1900 + 5;
    for (epoch, first_seq) in [(1, 0), (1, 2), (2, 0)] {
        let files = files.crash(memory::Crash::Process);
        let mut bytes = files.bytes(&path(epoch, first_seq));
        bytes[last_record] ^= 1;
        files.put(&path(epoch, first_seq), &bytes);
        let (spool, recovered) = open(&files);
        assert_eq!(recovered.truncated, None);
        let found: Vec<_> = recovered.damaged.iter().map(|d| (d.epoch, d.expected_seq, d.wrong)).collect();
        assert_eq!(found, [(epoch, first_seq + 1, Wrong::Bytes)]);
        assert!(files.bytes(&path(epoch, first_seq)) == bytes);
        let expected: Vec<_> =
            written.iter().filter(|r| (r.0, r.1) != (epoch, first_seq + 1)).cloned().collect();
        assert!(read(&spool) == expected);
        opens_again(&files, spool, &recovered);

        // Cut off in the middle of the last record: no footer either.
        files.put(&path(epoch, first_seq), &bytes[..last_record]);
        let (spool, recovered) = open(&files);
        let found: Vec<_> = recovered.damaged.iter().map(|d| (d.epoch, d.expected_seq, d.wrong)).collect();
        let mut expected = vec![(epoch, first_seq + 1, Wrong::Bytes)];
        if first_seq == 0 {
            expected.push((epoch, 1, Wrong::Missing(2)));
        }
        assert_eq!(found, expected);
        assert!(files.bytes(&path(epoch, first_seq)) == bytes[..last_record]);
        opens_again(&files, spool, &recovered);
    }
}

#[test]
fn the_newest_segment_is_not_cut_once_it_is_closed() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &LENGTHS);
    spool.close_epoch().unwrap();
    drop(spool);
    let whole = files.bytes(&path(1, 0));
    let places = places(&LENGTHS);
    let mut bytes = whole.clone();
    bytes[places[2] as usize + 20] ^= 1;
    let (after, spool, recovered) = opened_with(&files, &bytes);
    let found: Vec<_> = recovered.damaged.iter().map(|d| (d.expected_seq, d.at_bytes, d.wrong)).collect();
    assert_eq!((found, &recovered.truncated), (vec![(2, places[2], Wrong::Bytes)], &None));
    assert!(after.bytes(&path(1, 0)) == bytes);
    assert!(read(&spool) == written[..2]);
    opens_again(&after, spool, &recovered);
    // The footer itself: what is bad is at the end, and no record is lost.
    let mut bytes = whole.clone();
    bytes[places[3] as usize + 20] ^= 1;
    let (after, spool, recovered) = opened_with(&files, &bytes);
    let truncated = recovered.truncated.as_ref().map(|t| (t.expected_seq, t.at_bytes, t.dropped_bytes));
    assert_eq!(truncated, Some((3, places[3], FOOTER_BYTES as u64)));
    assert!(after.bytes(&path(1, 0)) == whole);
    assert!(read(&spool) == written);
    // Bytes behind it.
    let mut bytes = whole.clone();
    bytes.extend(b"more");
    let (after, spool, recovered) = opened_with(&files, &bytes);
    assert_eq!(recovered.damaged[0].wrong, Wrong::Behind);
    assert!(after.bytes(&path(1, 0)) == bytes);
    opens_again(&after, spool, &recovered);
    // Room behind it, which there was no time to give back.
    let mut bytes = whole.clone();
    bytes.resize(SEGMENT_BYTES as usize, 0);
    let (after, _spool, recovered) = opened_with(&files, &bytes);
    assert!(recovered.damaged.is_empty() && recovered.truncated.is_none());
    assert!(after.bytes(&path(1, 0)) == whole);
}

#[test]
fn segments_that_are_missing_or_of_another_chain_are_damage() {
    let (files, _) = four_segments();
    let damaged = |change: &dyn Fn(&MemoryFiles)| -> Vec<(u64, u64, Wrong)> {
        let files = files.crash(memory::Crash::Process);
        change(&files);
        let (_spool, recovered) = open(&files);
        recovered.damaged.iter().map(|d| (d.epoch, d.expected_seq, d.wrong)).collect()
    };
    // The oldest may have been shipped.
    assert_eq!(damaged(&|f| f.unlink(&path(1, 0)).unwrap()), []);
    assert_eq!(damaged(&|f| f.unlink(&path(2, 0)).unwrap()), [(2, 0, Wrong::Missing(2))]);
    let swapped = damaged(&|f| {
        let (one, two) = (f.bytes(&path(1, 0)), f.bytes(&path(1, 2)));
        f.put(&path(1, 0), &two);
        f.put(&path(1, 2), &one);
    });
    assert_eq!(swapped.iter().filter(|d| d.2 == Wrong::Header).count(), 2, "{swapped:?}");
    // One that another spool of the same source wrote there.
    let another = MemoryFiles::default();
    let (mut spool, _) = open(&another);
    write(&mut spool, 1, &[1900, 1901, 1900, 1900]);
    spool.close_epoch().unwrap();
    let forked = damaged(&|f| f.put(&path(1, 2), &another.bytes(&path(1, 2))));
    assert_eq!(forked, [(1, 2, Wrong::Link)]);
}

#[test]
fn a_segment_without_a_header_is_read_by_its_name() {
    let (files, written) = four_segments();
    for at in [0, 8, 12, 20, 30, 60, 70, 80, 85] {
        for (epoch, first_seq) in [(1, 0), (2, 2)] {
            let files = files.crash(memory::Crash::Process);
            let mut bytes = files.bytes(&path(epoch, first_seq));
            bytes[at] ^= 1;
            files.put(&path(epoch, first_seq), &bytes);
            let (spool, recovered) = open(&files);
            let found: Vec<_> =
                recovered.damaged.iter().map(|d| (d.expected_seq, d.at_bytes, d.bytes, d.wrong)).collect();
            assert_eq!(found, [(first_seq, 0, HEADER_BYTES, Wrong::Header)]);
            assert!(read(&spool) == written);
            opens_again(&files, spool, &recovered);
        }
    }
    // Nothing of it can be read: it stays.
    files.put(&path(2, 2), &[b'x'; 200]);
    let (mut spool, recovered) = open(&files);
    assert_eq!(
        recovered.damaged.iter().map(|d| (d.bytes, d.wrong)).collect::<Vec<_>>(),
        [(200, Wrong::Header)]
    );
    assert!(files.bytes(&path(2, 2)) == [b'x'; 200]);
    assert!(spool.begin(2, 0).is_err(), "its epoch was begun");
    write(&mut spool, 3, &[10]);
}

#[test]
fn a_record_twice_is_damage() {
    let (files, written) = left_open(&LENGTHS);
    let mut bytes = files.bytes(&path(1, 0));
    let places = places(&LENGTHS);
    let (one, two, three) = (places[1] as usize, places[2] as usize, places[3] as usize);
    let second = bytes[one..two].to_vec();
    bytes[three..three + second.len()].copy_from_slice(&second);
    let (files, spool, recovered) = opened_with(&files, &bytes);
    let found: Vec<_> = recovered.damaged.iter().map(|d| (d.expected_seq, d.bytes, d.wrong)).collect();
    assert_eq!(found, [(3, 96, Wrong::Repeated(1))]);
    assert!(read(&spool) == written);
    opens_again(&files, spool, &recovered);
}

/// Every 16 bytes look like the beginning of a long record: computing all the checksums would take hours.
#[test]
fn bytes_that_look_like_records_do_not_stop_recovery() {
    let files = MemoryFiles::default();
    let settings = Settings { segment_bytes: 1 << 19, ..settings() };
    let (mut spool, _) = Spool::open(folder(), SOURCE, settings.clone(), Arc::new(files.clone())).unwrap();
    spool.begin(1, 0).unwrap();
    let mut look_alike = Vec::new();
    for _ in 0..25_000 {
        look_alike.extend(400_000u32.to_le_bytes());
        look_alike.extend(0u32.to_le_bytes());
        look_alike.extend(2u64.to_le_bytes());
    }
    spool.append(0, b"first").unwrap();
    spool.append(1, &look_alike).unwrap();
    spool.append(2, b"last").unwrap();
    spool.commit().unwrap();
    drop(spool);
    let mut bytes = files.bytes(&path(1, 0));
    bytes[HEADER_BYTES as usize + 21 + 4] ^= 1;
    let (_, _spool, recovered) = opened_with(&files, &bytes);
    // It was not found out whether a record follows: what is there stays.
    assert_eq!((recovered.truncated, recovered.damaged.len()), (None, 1));
    assert_eq!(recovered.damaged[0].bytes, 16 + 400_000 + 16 + 4);
}

/// Whatever is done to a segment: it opens, what is read is what was written under that number, and a second start
/// finds the same.
#[test]
fn no_damage_makes_a_record_of_something_else() {
    let lengths = [30, 80, 600, 1, 50, 700, 9, 300];
    let (files, written) = left_open(&lengths);
    let whole = files.bytes(&path(1, 0));
    let end = places(&lengths)[8] as usize;
    let mut random = 88_172_645_463_325_252u64;
    let mut below = |of: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % of as u64) as usize
    };
    let mut kept = 0;
    for round in 0..2000 {
        let mut bytes = whole.clone();
        for _ in 0..=below(3) {
            let (a, b) = (below(end), below(end));
            let range = a.min(b)..a.max(b).min(a.min(b) + 1 + below(400));
            match below(6) {
                0 => bytes[range].fill(0),
                1 => bytes[range].fill(0xFF),
                2 => bytes[a] ^= 1 << below(8),
                3 => bytes.truncate(a.max(1)),
                4 => drop(bytes.drain(range)),
                _ => {
                    let copied = bytes[range].to_vec();
                    bytes.splice(b..b, copied);
                }
            }
            bytes.resize(bytes.len().max(end), 0);
        }
        let (files, spool, recovered) = opened_with(&files, &bytes);
        let found = read(&spool);
        assert!(found.iter().all(|r| written.contains(r)), "round {round}");
        assert!(found.is_sorted_by(|a, b| a.1 < b.1), "round {round}");
        let told =
            recovered.truncated.is_some() || !recovered.damaged.is_empty() || found.len() == written.len();
        // Cut off behind a whole record, or blank from there on: as if the rest had never been written.
        assert!(told || found == written[..found.len()], "round {round}: {recovered:?}");
        kept += found.len();
        opens_again(&files, spool, &recovered);
    }
    assert!(kept > 2000, "{kept}");
}
