//! What is written is read, over segments and epochs.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{Part, read_header, read_part};

use super::*;

/// Segments of records of all sizes: three fit, none fits, one alone, one that fills it to the last byte.
const LENGTHS: [usize; 12] = [1, 1000, 1000, 1500, 4000, 1, 9000, 1, 3000, 905, 200, 1];

#[test]
fn what_is_committed_is_read_in_order() {
    let files = MemoryFiles::default();
    let (mut spool, recovered) = open(&files);
    assert_eq!(recovered, Recovered::default());
    let mut written = write(&mut spool, 1, &LENGTHS);
    spool.close_epoch().unwrap();
    written.extend(write(&mut spool, 4, &LENGTHS));
    for max_bytes in [1, 300, 2500, 5000, 1 << 20] {
        assert!(read_from(&mut spool.reader(), None, max_bytes) == written, "{max_bytes}");
        for (i, (epoch, seq, _)) in written.iter().enumerate() {
            let rest = read_from(&mut spool.reader(), Some((*epoch, *seq)), max_bytes);
            assert!(rest == written[i + 1..], "{max_bytes} {epoch} {seq}");
        }
    }
    drop(spool);
    let (spool, recovered) = open(&files);
    assert!(recovered.truncated.is_none() && recovered.damaged.is_empty(), "{recovered:?}");
    assert!(read(&spool) == written);
    let closed: Vec<_> = recovered.segments.iter().map(|s| s.closed).collect();
    assert!(closed.split_last().is_some_and(|(last, before)| !last && before.iter().all(|c| *c)));
    let records: u64 = recovered.segments.iter().map(|s| s.records).sum();
    assert_eq!((records, spool.reader().segments().len()), (24, recovered.segments.len()));
}

#[test]
fn records_of_one_commit_go_over_segments() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let mut written = Vec::new();
    for epoch in [2, 3] {
        spool.begin(epoch, 0).unwrap();
        for (seq, length) in (0..).zip(LENGTHS) {
            written.push((epoch, seq, record(epoch, seq, length)));
            spool.append(seq, &record(epoch, seq, length)).unwrap();
        }
        assert!(spool.pending_bytes() > 0 && read(&spool).len() < written.len());
        assert_eq!(spool.commit(), Ok(Durable { epoch, seq: Some(11) }));
        assert_eq!(spool.pending_bytes(), 0);
        assert!(read(&spool) == written);
        spool.close_epoch().unwrap();
    }
    let counts = spool.reader().counts();
    assert_eq!((counts.records, counts.commits), (24, 2));
    assert_eq!(counts.bytes, 2 * LENGTHS.iter().sum::<usize>() as u64);
    drop(spool);
    let (spool, recovered) = open(&files);
    assert!(recovered.segments.iter().all(|s| s.closed) && recovered.damaged.is_empty());
    assert!(read(&spool) == written);
}

#[test]
fn each_segment_says_what_was_before_it() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &LENGTHS);
    spool.close_epoch().unwrap();
    let segments = spool.reader().segments();
    let names: Vec<_> = segments.iter().map(|s| (s.first_seq, s.last_seq)).collect();
    assert_eq!(names, [(0, 3), (4, 4), (5, 5), (6, 6), (7, 9), (10, 11)]);
    let mut before = Hash::default();
    for segment in &segments {
        let bytes = files.bytes(&segment.path);
        assert_eq!(bytes.len() as u64, segment.bytes);
        let (header, mut at) = read_header(&bytes).unwrap();
        let created_ns = if segment.first_seq == 0 { 1 } else { 7 };
        assert_eq!((header.source.as_str(), header.epoch, header.created_ns), (SOURCE, 1, created_ns));
        assert_eq!((header.first_seq, header.prev), (segment.first_seq, before));
        let mut seq = segment.first_seq;
        loop {
            let (part, length) = read_part(&bytes[at..]).unwrap();
            at += length;
            match part {
                Part::Record { seq: number, bytes } => {
                    assert_eq!((number, bytes), (seq, &written[seq as usize].2[..]));
                    before = leaf_hash(bytes);
                    seq += 1;
                }
                Part::Footer(footer) => {
                    assert_eq!((footer.last_seq, footer.last_hash), (seq - 1, before));
                    assert_eq!(footer.records, seq - segment.first_seq);
                    break;
                }
                part => panic!("{part:?}"),
            }
        }
        assert_eq!((at, segment.last_hash), (bytes.len(), before));
    }
}

#[test]
fn a_batch_is_a_segment_of_its_own() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &LENGTHS);
    for max_bytes in [1, 2500] {
        let (mut reader, mut after, mut before) = (spool.reader(), None, Hash::default());
        while let Some(batch) = reader.next(after, max_bytes).unwrap() {
            // One that knows no place gives the same.
            assert_eq!(spool.reader().next(after, max_bytes), Ok(Some(batch.clone())));
            let mut bytes = Vec::new();
            batch.write(&mut bytes);
            assert!(bytes.len() <= max_bytes || batch.records.len() == 1, "{}", bytes.len());
            let (header, mut at) = read_header(&bytes).unwrap();
            assert_eq!((header.first_seq, header.prev), (batch.records[0].0, before));
            for (seq, record) in &batch.records {
                let (part, length) = read_part(&bytes[at..]).unwrap();
                assert_eq!(part, Part::Record { seq: *seq, bytes: record });
                at += length;
                before = leaf_hash(record);
                after = Some((1, *seq));
            }
            let (part, length) = read_part(&bytes[at..]).unwrap();
            assert!(
                matches!(part, Part::Footer(f) if f.last_hash == before && Some((1, f.last_seq)) == after)
            );
            assert_eq!(at + length, bytes.len());
        }
        assert_eq!(after, Some((1, written.len() as u64 - 1)));
    }
}

#[test]
fn the_smallest_and_the_largest_record() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let largest = keytrail_model::segment::MAX_RECORD_BYTES;
    let lengths = [16 << 20, 1, largest, 1, 1];
    let written = write(&mut spool, 1, &lengths);
    assert!(read(&spool) == written);
    assert_eq!(spool.append(5, b""), Err(SpoolError::Size(0)));
    let message = spool.append(5, &vec![0; largest + 1]).unwrap_err().to_string();
    assert_eq!(message, "a record of 17825793 bytes: expected 1 to 17825792");
    let message = spool.append(6, b"x").unwrap_err().to_string();
    assert_eq!(message, "record 6 comes where 5 is expected");
    spool.append(5, b"x").unwrap();
    spool.commit().unwrap();
    drop(spool);
    let (spool, recovered) = open(&files);
    assert_eq!(recovered.segments.len(), 4);
    assert!(recovered.damaged.is_empty() && recovered.truncated.is_none());
    assert_eq!(read(&spool).len(), 6);
}

#[test]
fn epochs_go_up_and_empty_ones_leave_nothing() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    assert_eq!(spool.append(0, b"x").unwrap_err().to_string(), "no epoch was begun");
    assert_eq!(spool.commit().unwrap_err().to_string(), "no epoch was begun");
    spool.begin(3, 0).unwrap();
    assert_eq!(spool.commit(), Ok(Durable { epoch: 3, seq: None }));
    assert_eq!(spool.begin(4, 0).unwrap_err().to_string(), "epoch 3 is not closed");
    spool.close_epoch().unwrap();
    let message = spool.begin(3, 0).unwrap_err().to_string();
    assert_eq!(message, "epoch 3 comes after 3: expected a higher one");
    assert!(spool.reader().segments().is_empty());
    write(&mut spool, 4, &[10]);
    drop(spool);
    let (mut spool, recovered) = open(&files);
    assert_eq!(recovered.segments.len(), 1);
    assert!(spool.begin(4, 0).is_err());
    // Begun, and killed before a record came: nothing is left of it.
    spool.begin(5, 0).unwrap();
    drop(spool);
    let (_spool, recovered) = open(&files);
    assert_eq!(recovered.segments.len(), 1);
    assert!(recovered.segments[0].closed && recovered.damaged.is_empty());
}

#[test]
fn a_reader_waits_for_what_is_durable() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    write(&mut spool, 1, &[10]);
    let mut reader = spool.reader();
    assert_eq!(read_from(&mut reader, None, 1 << 20).len(), 1);
    assert!(!reader.wait(Duration::from_millis(1)));
    let waiting = std::thread::spawn(move || {
        let mut after = Some((1, 0));
        loop {
            match reader.next(after, 1 << 20).unwrap() {
                Some(batch) => after = batch.records.last().map(|r| (1, r.0)),
                None if reader.ended() => return after,
                None => {
                    reader.wait(Duration::from_secs(60));
                }
            }
        }
    });
    for seq in 1..100 {
        spool.append(seq, b"x").unwrap();
        spool.commit().unwrap();
    }
    drop(spool);
    assert_eq!(waiting.join().unwrap(), Some((1, 99)));
}

#[test]
fn on_the_disk_it_belongs_to_one() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("spool");
    let open = |source| Spool::open(&folder, source, settings(), Arc::new(OsFiles));
    let (mut spool, _) = open(SOURCE).unwrap();
    let message = open(SOURCE).err().unwrap().to_string();
    let busy = format!("`{}` is in use by another process: a spool has one writer", folder.display());
    assert_eq!(message, busy);
    let written = write(&mut spool, 1, &LENGTHS);
    spool.reader().write_state("shipped", b"{}").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let reader = spool.reader();
    drop(spool);
    assert!(matches!(open(SOURCE), Err(SpoolError::Busy(_))), "a reader can still remove segments");
    drop(reader);
    let message = open("gateway-2").err().unwrap().to_string();
    assert!(message.ends_with(".ktseg` holds records of `gateway-1/p0`, expected `gateway-2`"), "{message}");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (spool, recovered) = open(SOURCE).unwrap();
    assert_eq!(mode(&folder), 0o700);
    assert!(recovered.damaged.is_empty());
    assert!(read(&spool) == written);
    assert_eq!(spool.reader().read_state("shipped"), Ok(Some(b"{}".to_vec())));
    assert!(!folder.join("spare.tmp").exists());
}
