//! The spool of the audit sidecar: group commit against a sync for each record, in a file and in redb; recovery.
//!
//! All write records of the same size to the same disk, in turns. A commit is as fast as the disk's sync, so that
//! only what several records share of it can make a difference.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bar, Failure, Figure, Setting, child};

/// Bytes of a record: a key operation with its envelope.
const RECORD_BYTES: usize = 600;

/// Turns; each gives every way the same time.
const TURNS: u32 = 3;

const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("records");

/// What the turns of one way came to.
#[derive(Default)]
struct Sum {
    records: f64,
    seconds: f64,
    commits: f64,
    /// Of each turn: mean of a sync, p50 and p99 of a record, in microseconds.
    micros: Vec<[f64; 3]>,
    peak_bytes: u64,
}

impl Sum {
    fn per_second(&self) -> f64 {
        self.records / self.seconds
    }

    /// The middle turn's.
    fn micros(&self, i: usize) -> f64 {
        let mut all: Vec<f64> = self.micros.iter().map(|turn| turn[i]).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let seconds = if setting.full { 10 } else { 2 };
    // Beside the build, which is on a disk where `/tmp` may be memory.
    let beside = setting.spool_load.parent().ok_or("the build has no folder")?;
    let (mut file, mut redb) = (Sum::default(), Sum::default());
    let writers = [1, 8, 64];
    let (mut groups, mut unfilled) = (writers.map(|_| Sum::default()), Sum::default());
    for _ in 0..TURNS {
        append_and_sync(beside, seconds, &mut file)?;
        for (group, writers) in groups.iter_mut().zip(writers) {
            run_group(setting, beside, [writers, seconds, 1 << 20], group)?;
        }
        run_group(setting, beside, [1, seconds, 0], &mut unfilled)?;
        run_redb(beside, seconds, &mut redb)?;
    }
    let mut figures = Vec::new();
    let mut push = |name: String, value: f64, unit: &'static str, baseline: Option<f64>, bar: Option<Bar>| {
        figures.push(Figure { name: format!("spool: {name}"), value, unit, baseline, bar });
    };
    let in_file = file.per_second();
    push("append and fdatasync each".to_owned(), in_file, "records/s", None, None);
    push("redb, 64 in flight".to_owned(), redb.per_second(), "records/s", Some(in_file), None);
    let ahead = groups[0].micros(0);
    push("a sync, zeros written ahead".to_owned(), ahead, "us", Some(unfilled.micros(0)), None);
    for (group, writers) in groups.iter().zip(writers) {
        let many = writers == 64;
        let to_file = many.then_some(Bar::AtLeast(10.0));
        push(format!("{writers} in flight"), group.per_second(), "records/s", Some(in_file), to_file);
        if many {
            let bar = Some(Bar::AtLeast(8.0));
            push(
                "64 in flight, to redb".to_owned(),
                group.per_second(),
                "records/s",
                Some(redb.per_second()),
                bar,
            );
        }
        let per_sync = group.records / group.commits;
        push(
            format!("{writers} in flight, of one sync"),
            per_sync,
            "records",
            None,
            many.then_some(Bar::AtLeast(40.0)),
        );
        push(format!("{writers} in flight, p50"), group.micros(1), "us", None, None);
        push(format!("{writers} in flight, p99"), group.micros(2), "us", None, None);
    }
    let peak = groups[2].peak_bytes as f64 / 1e6;
    push("64 in flight, peak memory".to_owned(), peak, "MB", None, None);

    let scratch = tempfile::tempdir_in(beside)?;
    let mut recover = Command::new(&setting.spool_load);
    recover.arg("recover").arg(scratch.path()).arg(RECORD_BYTES.to_string());
    let (said, _) = child::measure(recover)?;
    let said = numbers(&said)?;
    let [bytes, _, seconds] = said[..] else { return Err("expected 3 numbers of a recovery".into()) };
    if !(66e6..=(64 << 20) as f64).contains(&bytes) {
        return Err(format!("expected a full segment of 64 MiB, recovered {bytes} bytes").into());
    }
    push("recovery of 64 MiB".to_owned(), seconds, "s", None, Some(Bar::AtMost(0.2)));
    Ok(figures)
}

/// What everyone does who needs each record to be durable: one thread, a file that grows.
fn append_and_sync(beside: &Path, seconds: u64, sum: &mut Sum) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(beside)?;
    let mut file = File::options().append(true).create(true).open(scratch.path().join("log"))?;
    let record = [b'x'; RECORD_BYTES];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        file.write_all(&record)?;
        file.sync_data()?;
        sum.records += 1.0;
    }
    sum.seconds += start.elapsed().as_secs_f64();
    Ok(())
}

/// A write transaction for each record, durable at its commit.
fn run_redb(beside: &Path, seconds: u64, sum: &mut Sum) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(beside)?;
    let database = Arc::new(redb::Database::create(scratch.path().join("redb"))?);
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let threads: Vec<_> = (0..64)
        .map(|_| {
            let (database, next) = (Arc::clone(&database), Arc::clone(&next));
            thread::spawn(move || -> Result<(), redb::Error> {
                while start.elapsed() < Duration::from_secs(seconds) {
                    let mut transaction = database.begin_write()?;
                    transaction.set_durability(redb::Durability::Immediate)?;
                    let seq = next.fetch_add(1, Ordering::Relaxed);
                    transaction.open_table(TABLE)?.insert(seq, &[b'x'; RECORD_BYTES][..])?;
                    transaction.commit()?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread of redb died")??;
    }
    sum.seconds += start.elapsed().as_secs_f64();
    sum.records += next.load(Ordering::Relaxed) as f64;
    Ok(())
}

/// The spool, in a process of its own.
fn run_group(setting: &Setting, beside: &Path, arguments: [u64; 3], sum: &mut Sum) -> Result<(), Failure> {
    let scratch = tempfile::tempdir_in(beside)?;
    let [writers, seconds, zero_ahead] = arguments.map(|n| n.to_string());
    let mut command = Command::new(&setting.spool_load);
    command.arg("group").arg(scratch.path()).args([
        &writers,
        &seconds,
        &RECORD_BYTES.to_string(),
        &zero_ahead,
    ]);
    let (said, cost) = child::measure(command)?;
    let said = numbers(&said)?;
    let [records, seconds, commits, sync, p50, p99] = said[..] else {
        return Err("expected 6 numbers of a group".into());
    };
    sum.records += records;
    sum.seconds += seconds;
    sum.commits += commits;
    sum.micros.push([sync, p50, p99]);
    sum.peak_bytes = sum.peak_bytes.max(cost.peak_bytes);
    Ok(())
}

fn numbers(line: &str) -> Result<Vec<f64>, Failure> {
    line.split_whitespace().map(|n| Ok(n.parse()?)).collect()
}
