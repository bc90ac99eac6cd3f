//! Group commit: an answer is one of a durable record, or says why there is none.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use rustix::io::Errno;

use super::memory::{Crash, Fault};
use super::*;
use crate::spool::group::{Limits, Refused, start};

type Answered = Result<u64, SpoolError>;

/// Numbers records and writes them; refuses the empty one.
fn numbered() -> impl FnMut(Vec<u8>, &mut Spool) -> Answered + Send + 'static {
    let mut seq = 0;
    move |record, spool| {
        spool.append(seq, &record)?;
        seq += 1;
        Ok(seq - 1)
    }
}

fn begun(files: &MemoryFiles) -> Spool {
    let (mut spool, _) = open(files);
    spool.begin(1, 0).unwrap();
    spool
}

fn place() -> (SyncSender<Answered>, Receiver<Answered>) {
    sync_channel(1)
}

#[test]
fn threads_get_the_numbers_of_durable_records() {
    let files = MemoryFiles::default();
    let spool = begun(&files);
    let reader = spool.reader();
    let (group, writer) = start(spool, Limits { records: 3, ..Limits::default() }, numbered()).unwrap();
    let threads = (0..8u8).map(|thread| {
        let group = group.clone();
        std::thread::spawn(move || {
            let mut told = Vec::new();
            for i in 0..50u8 {
                let (answer, answered) = place();
                group.submit(vec![b'x', thread, i], answer).unwrap();
                told.push((answered.recv().unwrap().unwrap(), vec![b'x', thread, i]));
            }
            told
        })
    });
    let threads: Vec<_> = threads.collect();
    drop(group);
    let mut told: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    let (mut spool, _) = writer.join().unwrap();
    told.sort();
    let found: Vec<_> = read(&spool).into_iter().map(|(_, seq, bytes)| (seq, bytes)).collect();
    assert!(found == told);
    let counts = reader.counts();
    assert!(counts.records == 400 && (400 / 3..=400).contains(&counts.commits), "{counts:?}");
    // Who joins may go on with it.
    spool.append(400, b"last").unwrap();
    spool.close_epoch().unwrap();
    assert_eq!(reader.segments().last().map(|s| s.last_seq), Some(400));
}

#[test]
fn an_answer_comes_once_the_record_outlives_a_power_cut() {
    let files = MemoryFiles::default();
    let (group, writer) = start(begun(&files), Limits::default(), numbered()).unwrap();
    let (sender, receiver) = channel();
    for i in 0..50 {
        let (files, sender) = (files.clone(), sender.clone());
        let answer: Box<dyn FnOnce(Answered) + Send> = Box::new(move |answered| {
            let (spool, _) = open(&files.crash(Crash::Power));
            let found = read(&spool).len() as u64;
            sender.send((answered.unwrap(), found)).unwrap();
        });
        assert!(group.submit(record(1, i, 300), answer).is_ok());
    }
    drop((group, sender));
    let answers: Vec<_> = receiver.iter().collect();
    assert_eq!(answers.len(), 50);
    assert!(answers.iter().all(|(seq, found)| found > seq), "{answers:?}");
    assert!(writer.join().is_ok());
}

#[test]
fn all_get_the_error_that_stopped_the_spool() {
    let files = MemoryFiles::default();
    let spool = begun(&files);
    let reader = spool.reader();
    // The next is a write, and the one after it its sync.
    files.fail_at(files.operations().len() + 1, Fault::Fail(Errno::IO));
    let (group, writer) = start(spool, Limits::default(), numbered()).unwrap();
    let all: Vec<_> = (0..5)
        .map(|i| {
            let (answer, answered) = place();
            group.submit(record(1, i, 10), answer).unwrap();
            answered
        })
        .collect();
    let errors: Vec<_> = all.into_iter().map(|a| a.recv().unwrap().unwrap_err()).collect();
    let done = files.operations().len();
    let (answer, answered) = place();
    group.submit(record(1, 9, 10), answer).unwrap();
    let poison = answered.recv().unwrap().unwrap_err();
    assert_eq!(poison.code(), "Fatal.Spool");
    assert!(errors.iter().all(|e| *e == poison), "{errors:?}");
    assert_eq!((reader.poison(), files.operations().len()), (Some(poison), done));
    drop(group);
    assert!(writer.join().is_ok());
}

#[test]
fn what_makes_no_record_is_answered_by_itself() {
    let files = MemoryFiles::default();
    let (group, writer) = start(begun(&files), Limits::default(), numbered()).unwrap();
    let answers = [&b"one"[..], b"", b"two"].map(|bytes| {
        let (answer, answered) = place();
        group.submit(bytes.to_vec(), answer).unwrap();
        answered
    });
    assert_eq!(answers.map(|a| a.recv().unwrap()), [Ok(0), Err(SpoolError::Size(0)), Ok(1)]);
    drop(group);
    assert_eq!(read(&writer.join().unwrap().0).len(), 2);
}

#[test]
fn a_full_queue_refuses_and_an_answer_that_nobody_wants_is_dropped() {
    let (files, gate) = (MemoryFiles::default(), Arc::new(Mutex::new(())));
    let closed = gate.lock().unwrap();
    let mut record = numbered();
    let waits = {
        let gate = Arc::clone(&gate);
        move |item: Vec<u8>, spool: &mut Spool| {
            drop(gate.lock().unwrap());
            record(item, spool)
        }
    };
    let (group, writer) = start(begun(&files), Limits { queued: 2, ..Limits::default() }, waits).unwrap();
    let mut taken = Vec::new();
    let refused = loop {
        let (answer, answered) = place();
        match group.try_submit(b"x".to_vec(), answer) {
            Ok(()) => taken.push(answered),
            Err(refused) => break refused,
        }
        assert!(taken.len() <= 3, "two wait, and one is being made");
    };
    assert!(matches!(&refused, Refused::Full(item, _) if item == b"x"));
    // One does not wait for its answer.
    taken.remove(0);
    drop(closed);
    assert!(taken.into_iter().all(|answered| answered.recv().unwrap().is_ok()));
    drop(group);
    assert!(writer.join().is_ok());
}

#[test]
fn the_writer_is_gone_with_what_it_made_records_of() {
    let files = MemoryFiles::default();
    let dies = |_: Vec<u8>, _: &mut Spool| -> Answered { panic!("no record") };
    let (group, writer) = start(begun(&files), Limits::default(), dies).unwrap();
    let (answer, answered) = place();
    group.submit(b"x".to_vec(), answer).unwrap();
    assert!(answered.recv().is_err(), "it is told, by its channel");
    assert!(writer.join().is_err());
    let (answer, _answered) = place();
    assert!(matches!(group.submit(b"x".to_vec(), answer), Err(Refused::Ended(..))));
}
