//! Load on a spool, for `tests/bench spool`: a process of its own, so that its memory can be measured.
//!
//! ```text
//! spool_load group FOLDER WRITERS SECONDS BYTES ZERO_AHEAD   many threads, one record at a time each
//!     -> records, seconds, commits, mean us of a sync, p50 and p99 us from handing in to the answer
//! spool_load recover FOLDER BYTES                            a full segment that was not closed
//!     -> bytes of it, records, seconds to open the spool
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_audit_sidecar::spool::group::{self, Limits};
use keytrail_audit_sidecar::spool::{OsFiles, Settings, Spool, SpoolError};
use keytrail_model::segment::RECORD_HEADER_BYTES;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["group", folder, writers, seconds, bytes, ahead] => {
            run_group(folder, [writers, seconds, bytes, ahead])
        }
        ["recover", folder, bytes] => recover(folder, bytes),
        _ => Err("expected `group FOLDER WRITERS SECONDS BYTES ZERO_AHEAD` or `recover FOLDER BYTES`".into()),
    };
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("spool_load: {e}");
            ExitCode::FAILURE
        }
    }
}

fn open(folder: &str, settings: Settings) -> Result<Spool, SpoolError> {
    Ok(Spool::open(Path::new(folder), "bench", settings, Arc::new(OsFiles))?.0)
}

fn run_group(folder: &str, numbers: [&str; 4]) -> Result<String, Failure> {
    let [writers, seconds, bytes, zero_ahead_bytes] = numbers.map(str::parse::<u64>);
    let (writers, seconds, bytes) = (writers?, Duration::from_secs(seconds?), bytes? as usize);
    let mut spool = open(folder, Settings { zero_ahead_bytes: zero_ahead_bytes?, ..Settings::default() })?;
    spool.begin(1, 0)?;
    let reader = spool.reader();
    let mut seq = 0;
    let record = move |record: Vec<u8>, spool: &mut Spool| {
        spool.append(seq, &record)?;
        seq += 1;
        Ok((seq - 1, record))
    };
    let (handle, writer) = group::start(spool, Limits::default(), record)?;
    let start = Instant::now();
    let threads: Vec<_> = (0..writers)
        .map(|i| {
            let handle = handle.clone();
            thread::Builder::new().stack_size(128 << 10).spawn(move || -> Result<Vec<u32>, SpoolError> {
                let mut took_us = Vec::with_capacity(1 << 16);
                let mut record = vec![b'a' + (i % 26) as u8; bytes];
                while start.elapsed() < seconds {
                    let begun = Instant::now();
                    let (answer, answered) = sync_channel(1);
                    let stopped = || SpoolError::Order("the writer stopped".to_owned());
                    handle.submit(record, answer).map_err(|_| stopped())?;
                    record = answered.recv().map_err(|_| stopped())??.1;
                    took_us.push(begun.elapsed().as_micros() as u32);
                }
                Ok(took_us)
            })
        })
        .collect::<Result<_, _>>()?;
    drop(handle);
    let mut took_us = Vec::new();
    for thread in threads {
        took_us.extend(thread.join().map_err(|_| "a thread died")??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    drop(writer.join().map_err(|_| "the writer died")?);
    took_us.sort_unstable();
    let at = |share: f64| took_us.get((took_us.len() as f64 * share) as usize).copied().unwrap_or_default();
    let counts = reader.counts();
    let sync_us = counts.syncing.as_micros() as f64 / counts.commits as f64;
    let (records, commits) = (took_us.len(), counts.commits);
    Ok(format!("{records} {elapsed:.3} {commits} {sync_us:.0} {} {}", at(0.5), at(0.99)))
}

fn recover(folder: &str, bytes: &str) -> Result<String, Failure> {
    let bytes: usize = bytes.parse()?;
    let mut spool = open(folder, Settings::default())?;
    spool.begin(1, 0)?;
    let (record, mut seq) = (vec![b'x'; bytes], 0);
    // As it is left by a kill: as full as it gets, and not closed. Its spare is of the same size.
    let held_bytes =
        |spool: &Spool| Ok::<_, SpoolError>(spool.room()?.held_bytes as usize - spool.pending_bytes());
    let spare_bytes = Settings::default().segment_bytes as usize;
    while held_bytes(&spool)? > spare_bytes + bytes + RECORD_HEADER_BYTES {
        spool.append(seq, &record)?;
        seq += 1;
        if seq % 64 == 0 {
            spool.commit()?;
        }
    }
    spool.commit()?;
    drop(spool);
    let start = Instant::now();
    let (spool, recovered) = Spool::open(Path::new(folder), "bench", Settings::default(), Arc::new(OsFiles))?;
    let seconds = start.elapsed().as_secs_f64();
    drop(spool);
    let records: u64 = recovered.segments.iter().map(|s| s.records).sum();
    if records != seq || recovered.segments.len() != 1 || recovered.segments[0].closed {
        return Err(format!("expected {seq} records in one open segment, found {records}").into());
    }
    Ok(format!("{} {records} {seconds:.4}", recovered.segments[0].bytes))
}
