//! Space, its end, and what is freed.

use rustix::io::Errno;

use super::memory::{Done, Fault};
use super::*;

/// Number of the next operation that begins so, from this one on; found by trying it out.
fn next(files: &MemoryFiles, what: &str, from: usize) -> usize {
    let operations = files.operations();
    from + operations[from..].iter().position(|o| o.starts_with(what)).unwrap()
}

#[test]
fn room_is_held_ahead_and_ends_before_the_disk_does() {
    let files = MemoryFiles::default();
    files.set_capacity(5 * SEGMENT_BYTES);
    let (mut spool, _) = open(&files);
    spool.begin(1, 0).unwrap();
    let room = spool.room().unwrap();
    // A segment without header and footer, and the spare.
    assert_eq!(room.held_bytes, 2 * SEGMENT_BYTES - 86 - 56);
    assert_eq!((room.used_bytes, room.free_bytes), (2 * SEGMENT_BYTES, room.held_bytes + 3 * SEGMENT_BYTES));
    let mut seq = 0;
    while !spool.room().unwrap().high_water {
        spool.append(seq, &record(1, seq, 500)).unwrap();
        spool.commit().unwrap();
        seq += 1;
    }
    // Seven to a segment; in the fifth there is no room for more than the reserve.
    assert_eq!(seq, 4 * 7 + 6);
    let room = spool.room().unwrap();
    assert!(room.held_bytes < 1024 && room.free_bytes - room.held_bytes < SEGMENT_BYTES, "{room:?}");
    // What is in flight is still recorded.
    spool.append(seq, &record(1, seq, 500)).unwrap();
    spool.commit().unwrap();
    assert_eq!(read(&spool).len() as u64, seq + 1);
    // Another frees space of the disk, and nothing is written: it goes on by itself.
    assert!(spool.room().unwrap().high_water);
    files.set_capacity(6 * SEGMENT_BYTES);
    assert!(!spool.room().unwrap().high_water);
    assert_eq!(spool.reader().room(), spool.room());
    assert_eq!(spool.reader().poison(), None);
}

#[test]
fn the_limit_of_the_spool_is_high_water_before_the_disk_is_full() {
    let files = MemoryFiles::default();
    let settings = Settings { max_bytes: 3 * SEGMENT_BYTES, ..settings() };
    let (mut spool, _) = Spool::open(folder(), SOURCE, settings, Arc::new(files.clone())).unwrap();
    spool.begin(1, 0).unwrap();
    let mut seq = 0;
    while !spool.room().unwrap().high_water {
        spool.append(seq, &record(1, seq, 500)).unwrap();
        spool.commit().unwrap();
        seq += 1;
    }
    assert_eq!((seq, spool.room().unwrap().used_bytes <= 3 * SEGMENT_BYTES), (2 * 7 + 6, true));
    // What was begun goes beyond it.
    for seq in seq..seq + 4 {
        spool.append(seq, &record(1, seq, 500)).unwrap();
        spool.commit().unwrap();
    }
    assert!(spool.room().unwrap().used_bytes > 3 * SEGMENT_BYTES);
    // Shipped, covered, freed: it goes on.
    let reader = spool.reader();
    assert!(spool.room().unwrap().high_water, "a new segment does not make it less");
    reader.remove(&reader.segments()[0]).unwrap();
    assert!(!spool.room().unwrap().high_water);
}

#[test]
fn settings_with_which_nothing_would_be_taken_are_refused() {
    let with = |segment_bytes, max_bytes| {
        let settings = Settings { segment_bytes, max_bytes, ..settings() };
        let files = Arc::new(MemoryFiles::default());
        Spool::open(folder(), SOURCE, settings, files).err().map(|e| e.to_string())
    };
    assert_eq!(with(4096, 8192), None);
    let message = "segments of 4095 bytes: expected at least 4096";
    assert_eq!(with(4095, 8192).as_deref(), Some(message));
    let message = "a spool of 8191 bytes: expected room for two segments of 4096";
    assert_eq!(with(4096, 8191).as_deref(), Some(message));
    assert_eq!(Settings::default().check(), Ok(()));
    // Small segments with the reserve of large ones.
    let settings = Settings { reserve_bytes: 32 << 20, ..settings() };
    let (mut spool, _) = Spool::open(folder(), SOURCE, settings, Arc::new(MemoryFiles::default())).unwrap();
    spool.begin(1, 0).unwrap();
    assert!(!spool.room().unwrap().high_water);
}

#[test]
fn an_epoch_waits_for_space() {
    let files = MemoryFiles::default();
    files.set_capacity(1000);
    let (mut spool, _) = open(&files);
    let full = spool.begin(1, 0).unwrap_err();
    let message = "cannot take room for `/spool/segment.tmp`: no space left on device";
    assert_eq!((full.code(), full.to_string().as_str()), ("Retryable.SpoolFull", message));
    assert_eq!(spool.begin(1, 0), Err(full));
    assert_eq!(files.list(folder()).unwrap(), Vec::<String>::new());
    files.set_capacity(SEGMENT_BYTES);
    spool.begin(1, 0).unwrap();
    spool.append(0, b"one").unwrap();
    spool.commit().unwrap();
    assert!(!spool.room().unwrap().high_water);
    assert_eq!(read(&spool).len(), 1);
}

#[test]
fn a_full_disk_in_the_middle_of_an_epoch_is_the_end() {
    let files = MemoryFiles::default();
    files.set_capacity(SEGMENT_BYTES + 10);
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &[1900, 1900]);
    spool.append(2, &record(1, 2, 1900)).unwrap();
    let full = spool.commit().unwrap_err();
    assert_eq!(full.code(), "Retryable.SpoolFull");
    assert_eq!((spool.append(3, b"x"), spool.commit()), (Err(full.clone()), Err(full.clone())));
    assert_eq!((spool.close_epoch(), spool.begin(2, 0)), (Err(full.clone()), Err(full.clone())));
    assert_eq!(spool.reader().poison(), Some(full.clone()));
    // What is durable is still there to be shipped, by this process and the next.
    assert!(read(&spool) == written);
    drop(spool);
    let (mut spool, recovered) = open(&files);
    assert!(recovered.segments[0].closed && recovered.damaged.is_empty());
    assert!(read(&spool) == written);
    let reader = spool.reader();
    reader.remove(&recovered.segments[0]).unwrap();
    spool.begin(2, 0).unwrap();
}

#[test]
fn a_sync_that_failed_is_not_tried_again() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &[100]);
    spool.append(1, b"lost").unwrap();
    files.fail_at(files.operations().len() + 1, Fault::Fail(Errno::IO));
    let poison = spool.commit().unwrap_err();
    let name = shared::segment_name(1, 0);
    assert_eq!(poison.to_string(), format!("cannot sync `/spool/{name}`: input/output error"));
    assert_eq!(poison.code(), "Fatal.Spool");
    let done = files.operations().len();
    let reader = spool.reader();
    for _ in 0..2 {
        assert_eq!(spool.commit(), Err(poison.clone()));
        assert_eq!(spool.append(2, b"x"), Err(poison.clone()));
        assert_eq!(spool.close_epoch(), Err(poison.clone()));
        assert_eq!(reader.write_state("shipped", b"x"), Err(poison.clone()));
    }
    assert_eq!(files.operations().len(), done, "nothing was tried");
    assert!(read(&spool) == written);
    let (spool, recovered) = open(&files.crash(memory::Crash::Power));
    assert!(recovered.damaged.is_empty());
    assert!(read(&spool) == written);
}

#[test]
fn a_short_write_goes_on_and_a_failed_one_is_the_end() {
    let files = MemoryFiles::default();
    files.set_write_limit(7);
    let (mut spool, _) = open(&files);
    let mut written = write(&mut spool, 1, &[100, 1900, 1900, 10]);
    spool.close_epoch().unwrap();
    written.extend(write(&mut spool, 2, &[100]));
    files.set_write_limit(usize::MAX);
    spool.append(1, b"half of this is written").unwrap();
    files.fail_at(files.operations().len(), Fault::Short(Errno::NOSPC));
    let full = spool.commit().unwrap_err();
    assert_eq!((full.code(), spool.commit()), ("Retryable.SpoolFull", Err(full.clone())));
    drop(spool);
    let (spool, recovered) = open(&files);
    assert!(recovered.truncated.is_some() && recovered.damaged.is_empty());
    assert!(read(&spool) == written);
}

#[test]
fn the_oldest_segment_is_freed_first() {
    let files = MemoryFiles::default();
    let (mut spool, _) = open(&files);
    let written = write(&mut spool, 1, &[1900, 1900, 1900, 1900, 1900]);
    let mut reader = spool.reader();
    let segments = reader.segments();
    let used = spool.room().unwrap().used_bytes;
    let message = reader.remove(&segments[1]).unwrap_err().to_string();
    assert_eq!(message, "segment 2 of epoch 1 is not the oldest closed one: it stays");
    reader.remove(&segments[0]).unwrap();
    assert!(reader.remove(&segments[0]).is_err());
    assert_eq!(used - spool.room().unwrap().used_bytes, segments[0].bytes);
    assert_eq!(reader.segments(), segments[1..]);
    // What was shipped and freed is no more asked for; the rest is.
    for after in [None, Some((1, 0)), Some((1, 1))] {
        assert!(read_from(&mut reader, after, 1 << 20) == written[2..]);
    }
    let open = Segment { first_seq: 4, ..segments[1].clone() };
    reader.remove(&segments[1]).unwrap();
    assert!(reader.remove(&open).is_err(), "it is being written");
    drop((spool, reader));
    let (spool, recovered) = super::open(&files);
    assert!(recovered.damaged.is_empty());
    assert!(read(&spool) == written[4..]);
}

#[test]
fn state_is_replaced_as_a_whole() {
    let files = MemoryFiles::default();
    let (spool, _) = open(&files);
    let reader = spool.reader();
    assert_eq!(reader.read_state("epoch"), Ok(None));
    reader.write_state("epoch", b"1").unwrap();
    for name in ["", "Epoch", "../x", "a.state", &"x".repeat(65)] {
        let message = reader.write_state(name, b"").unwrap_err().to_string();
        assert!(message.ends_with("names no state: expected 1 to 64 of `a-z0-9-`"), "{message}");
        assert!(reader.read_state(name).is_err());
    }
    let from = files.operations().len();
    reader.write_state("epoch", b"22").unwrap();
    let operations = files.operations()[from..].to_vec();
    let tmp = "epoch.state.tmp";
    let expected = ["create", "write", "sync", "rename"].map(|o| format!("{o} {tmp}"));
    assert_eq!(operations, [&expected[..], &["sync-folder spool".to_owned()]].concat());
    // A full disk is no end: nothing was replaced.
    let write = next(&files, "write epoch", from) - from;
    files.fail_at(files.operations().len() + write, Fault::Short(Errno::NOSPC));
    assert_eq!(reader.write_state("epoch", b"333").unwrap_err().code(), "Retryable.SpoolFull");
    assert_eq!(reader.read_state("epoch"), Ok(Some(b"22".to_vec())));
    reader.write_state("epoch", b"333").unwrap();
    // Killed at any of them: the old one or the new one.
    for operation in 0..5 {
        for done in [Done::Not, Done::Half, Done::All] {
            for crash in [memory::Crash::Process, memory::Crash::Power, memory::Crash::Torn(9)] {
                let files = files.crash(memory::Crash::Process);
                let (spool, _) = open(&files);
                files.fail_at(files.operations().len() + operation, Fault::Kill(done));
                assert!(spool.reader().write_state("epoch", b"4444").is_err());
                let (spool, _) = open(&files.crash(crash));
                let state = spool.reader().read_state("epoch").unwrap().unwrap();
                assert!(state == b"333" || state == b"4444", "{operation} {done:?} {crash:?}: {state:?}");
            }
        }
    }
}
