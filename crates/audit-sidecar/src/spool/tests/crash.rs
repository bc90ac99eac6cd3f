//! Killed at each operation: what was told to be durable is there, and what is there was handed in.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::memory::{Crash, Done, Fault};
use super::*;

/// What the spool was told and what it said.
#[derive(Clone, Default)]
struct Told {
    /// Appended, committed or not.
    appended: Vec<(u64, u64, Vec<u8>)>,
    /// How many of those are durable, as a commit said.
    durable: usize,
    /// How many were removed, and may have been.
    removed: usize,
    removing: usize,
    /// The newest state of which it was said that it is durable, and the one after it.
    state: u64,
    writing: u64,
}

/// Two epochs, with commits of one to three records, segments that are closed, and some removed.
fn work(files: &MemoryFiles, told: &mut Told) -> Result<(), SpoolError> {
    let (mut spool, _) = try_open(files)?;
    for epoch in [1, 2] {
        spool.begin(epoch, 0)?;
        let mut seq = 0;
        for (i, lengths) in
            [&[1, 600, 1500][..], &[900], &[5000, 30], &[1200, 1200, 1200], &[1]].iter().enumerate()
        {
            for length in lengths.iter() {
                told.appended.push((epoch, seq, record(epoch, seq, *length)));
                spool.append(seq, &record(epoch, seq, *length))?;
                seq += 1;
            }
            spool.commit()?;
            told.durable = told.appended.len();
            if i % 2 == 0 {
                told.writing += 1;
                spool.reader().write_state("shipped", &told.writing.to_be_bytes())?;
                told.state = told.writing;
            }
        }
        let reader = spool.reader();
        let oldest = reader.segments().remove(0);
        told.removing += oldest.records as usize;
        reader.remove(&oldest)?;
        told.removed = told.removing;
        spool.close_epoch()?;
    }
    Ok(())
}

/// What a start after the crash has to find.
fn check(files: &MemoryFiles, told: &Told, crash: Crash, place: &str) {
    let (mut spool, recovered) = open(files);
    let found = read(&spool);
    let state = spool.reader().read_state("shipped").unwrap();
    let state = state.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    assert!(state == told.state || state == told.writing, "{place}: state {state}");
    let known = &told.appended[told.removed..];
    let (optional, needed) = (told.removing - told.removed, told.durable.max(told.removing) - told.removed);
    if matches!(crash, Crash::Torn(_)) {
        // Of the last commit any record may be there; all before are.
        let all: BTreeSet<_> = found.iter().collect();
        assert!(found.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)), "{place}");
        assert!(known[optional..needed].iter().all(|r| all.contains(r)), "{place}");
        let known: BTreeSet<_> = known.iter().collect();
        assert!(all.is_subset(&known), "{place}");
    } else {
        let from = known.iter().position(|r| Some(r) == found.first()).unwrap_or(needed);
        let to = from + found.len();
        assert!(from <= optional.max(needed) && to >= needed, "{place}: {from}..{to}");
        assert!(found == known[from..to], "{place}");
        assert!(from <= optional || found.is_empty(), "{place}");
        assert!(recovered.damaged.is_empty(), "{place}: {recovered:?}");
    }
    // And it goes on.
    write(&mut spool, 9, &[10, 4000, 10]);
    spool.close_epoch().unwrap();
    assert_eq!(read(&spool).len(), found.len() + 3, "{place}");
    drop(spool);
    let (spool, again) = open(files);
    assert_eq!((again.truncated, again.damaged), (None, recovered.damaged), "{place}");
    assert_eq!(read(&spool).len(), found.len() + 3, "{place}");
}

/// Operations of the whole work.
fn operations() -> usize {
    let (files, mut told) = (MemoryFiles::default(), Told::default());
    work(&files, &mut told).unwrap();
    assert_eq!((told.durable, told.appended.len()), (20, 20));
    check(&files.crash(Crash::Power), &told, Crash::Power, "no fault");
    files.operations().len()
}

#[test]
fn killed_at_any_operation() {
    let all = operations();
    assert!(all > 80, "{all}");
    for operation in 0..all {
        for done in [Done::Not, Done::Half, Done::All] {
            let (files, mut told) = (MemoryFiles::default(), Told::default());
            files.fail_at(operation, Fault::Kill(done));
            let stopped = work(&files, &mut told);
            let name = &files.operations()[operation];
            assert!(stopped.is_err() || name.ends_with("spare.tmp"), "{name}");
            for crash in [Crash::Process, Crash::Power].into_iter().chain((1..4).map(Crash::Torn)) {
                let place = format!("operation {operation} ({name}) {done:?}, {crash:?}");
                check(&files.crash(crash), &told, crash, &place);
            }
        }
    }
}

#[test]
fn refused_at_any_operation() {
    for operation in 0..operations() {
        for fault in [Fault::Fail(Errno::IO), Fault::Fail(Errno::NOSPC), Fault::Short(Errno::NOSPC)] {
            let (files, mut told) = (MemoryFiles::default(), Told::default());
            files.fail_at(operation, fault);
            let stopped = work(&files, &mut told);
            let name = &files.operations()[operation];
            assert!(stopped.is_err() || name.ends_with("spare.tmp"), "{name}");
            for crash in [Crash::Process, Crash::Power] {
                let place = format!("operation {operation} ({name}) {fault:?}, {crash:?}");
                check(&files.crash(crash), &told, crash, &place);
            }
        }
    }
}

#[test]
fn killed_in_the_middle_of_recovery() {
    let (files, mut told) = (MemoryFiles::default(), Told::default());
    let write = trial().iter().rposition(|o| o.starts_with("write 0")).unwrap();
    files.fail_at(write, Fault::Kill(Done::Half));
    work(&files, &mut told).unwrap_err();
    let torn = files.crash(Crash::Process);
    let whole = torn.crash(Crash::Process);
    assert!(open(&whole).1.truncated.is_some());
    for operation in 0..whole.operations().len() {
        for done in [Done::Not, Done::Half, Done::All] {
            let killed = torn.crash(Crash::Process);
            killed.fail_at(operation, Fault::Kill(done));
            assert!(try_open(&killed).is_err());
            for crash in [Crash::Process, Crash::Power].into_iter().chain((1..4).map(Crash::Torn)) {
                let place = format!("operation {operation} {done:?}, {crash:?}");
                let after = killed.crash(crash);
                let (spool, recovered) = open(&after);
                assert!(recovered.damaged.is_empty(), "{place}: {recovered:?}");
                drop(spool);
                check(&after, &told, Crash::Process, &place);
            }
        }
    }
}

/// The operations of the work up to its last commit.
fn trial() -> Vec<String> {
    let files = MemoryFiles::default();
    work(&files, &mut Told::default()).unwrap();
    let operations = files.operations();
    let close = operations.iter().rposition(|o| o.starts_with("truncate")).unwrap();
    // The footer is written before that; the commit before the footer.
    operations[..close - 2].to_vec()
}
