//! `keytrail run --follow` under a steady load: lag from the write of a record to its seal, memory over time, and what
//! ten thousand idle files cost.
//!
//! Lag is measured from outside: records are sealed in the order in which they are written, so the counts of the log
//! lines say which ones a seal covers. The short form takes a minute and a half, the full form an hour; `FOLLOW_SECONDS` says
//! otherwise.

use std::collections::VecDeque;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::{DAY_MICROS, Format, Load, Records};

/// Records a second, of three sources in turn.
const RATE: u64 = 500;

/// Time between two writes.
const STEP: Duration = Duration::from_millis(100);

/// Renames of the log over the time of the bench.
const ROTATIONS: u64 = 6;

/// Files that nothing happens to.
const IDLE_FILES: usize = 10_000;

/// A service under load.
struct Service {
    child: Child,
    seals: Receiver<(Instant, u64)>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // It was asked to end before, unless the bench failed.
        let _ended = self.child.kill();
    }
}

impl Service {
    fn start(setting: &Setting, scratch: &Path, input: &Path, args: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(&setting.keytrail);
        command.args(["run", "--follow", "--json"]).args(args).arg(input);
        command.arg("--data").arg(scratch.join("trail")).stdout(Stdio::piped()).stdin(Stdio::null());
        super::isolate(&mut command, scratch);
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let (send, seals) = channel();
        thread::spawn(move || {
            for sealed in counts(out) {
                if send.send((Instant::now(), sealed)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, seals })
    }

    fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the service ended with {status}").into()) }
    }
}

/// Records of each seal, from the lines of the service's log.
fn counts(out: ChildStdout) -> impl Iterator<Item = u64> {
    let lines = BufReader::new(out).lines().map_while(Result::ok);
    lines.filter_map(|line| {
        let line: Value = serde_json::from_str(&line).ok()?;
        if line["message"] == "sealed" {
            line["read"].as_u64()
        } else {
            eprintln!("follow: {line}");
            None
        }
    })
}

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let seconds = match env::var("FOLLOW_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) if setting.full => 3_600,
        Err(_) => 60,
    };
    let mut figures = loaded(setting, seconds)?;
    figures.push(idle(setting)?);
    Ok(figures)
}

fn loaded(setting: &Setting, seconds: u64) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("logs");
    fs::create_dir(&folder)?;
    // Several seals in the short form; the default in the full one.
    let interval = if seconds < 600 { "10s" } else { "60s" };
    let service = Service::start(setting, scratch.path(), &folder, &["--seal-interval", interval])?;
    let load = Load {
        seed: 9,
        format: Format::Mixed,
        events: seconds * RATE,
        start_micros: 20_458 * DAY_MICROS,
        days: 1,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let mut records = Records::new(load);
    let path = folder.join("audit.log");
    let mut log = File::create(&path)?;
    let start = Instant::now();
    let (mut written, mut sealed, mut rotations) = (0, 0, 0);
    let mut waiting = VecDeque::new();
    let (mut lags, mut memory, mut seals) = (Vec::new(), Vec::new(), 0);
    while sealed < load.events {
        let now = start.elapsed();
        let wanted = load.events.min((now.as_secs_f64() * RATE as f64) as u64);
        let mut text = String::new();
        for _ in written..wanted {
            records.next(&mut text);
            text.push('\n');
        }
        if wanted > written {
            log.write_all(text.as_bytes())?;
            waiting.push_back((Instant::now(), wanted - written));
            written = wanted;
        }
        if written * ROTATIONS / load.events > rotations && written < load.events {
            rotations += 1;
            fs::rename(&path, folder.join("audit.log.1"))?;
            log = File::create(&path)?;
        }
        while let Ok((at, mut records)) = service.seals.try_recv() {
            sealed += records;
            seals += 1;
            memory.push((at - start, resident_bytes(service.child.id())?));
            while let Some((written_at, n)) = waiting.front_mut().filter(|_| records > 0) {
                let covered = records.min(*n);
                lags.push((at - *written_at, covered));
                records -= covered;
                *n -= covered;
                if *n == 0 {
                    waiting.pop_front();
                }
            }
        }
        if now.as_secs() > seconds + 300 {
            return Err(format!("{sealed} of {written} records were sealed in time").into());
        }
        thread::sleep(STEP);
    }
    let cpu = cpu_seconds(service.child.id())? / start.elapsed().as_secs_f64();
    service.stop()?;
    lags.sort_unstable();
    let quantile = |percent: u64| {
        let mut left = load.events * percent / 100;
        let found = lags.iter().find(|(_, n)| {
            left = left.saturating_sub(*n);
            left == 0
        });
        found.map_or(0.0, |(lag, _)| lag.as_secs_f64())
    };
    // Means over thirds: a compaction takes memory for a moment.
    let mean = |third: usize| {
        let of = |i: usize| i * memory.len() / 3;
        let part = &memory[of(third)..of(third + 1).max(of(third) + 1).min(memory.len())];
        part.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / part.len().max(1) as f64 / 1e6
    };
    let (first, middle, last) = (mean(0), mean(1), mean(2));
    let figure = |what: &str, value, unit, baseline, bar| Figure {
        name: format!("follow: {what}"),
        value,
        unit,
        baseline,
        bar,
    };
    eprintln!("follow: {} records, {seals} seals, {rotations} rotations", load.events);
    Ok(vec![
        figure("lag p50", quantile(50), "s", None, None),
        figure("lag p99", quantile(99), "s", None, Some(Bar::AtMost(120.0))),
        figure("memory, first third", first, "MB", None, None),
        figure("memory, second third", middle, "MB", None, None),
        figure("memory, last third against second", last, "MB", Some(middle), Some(Bar::AtMost(1.25))),
        figure("cores at 500 records/s", cpu, "cores", None, None),
    ])
}

/// Files that nothing happens to, once they were read.
fn idle(setting: &Setting) -> Result<Figure, Failure> {
    let scratch = tempfile::tempdir()?;
    let folder = scratch.path().join("logs");
    let mut text = String::new();
    for n in 0..IDLE_FILES {
        let folder = folder.join((n / 1_000).to_string());
        fs::create_dir_all(&folder)?;
        text.clear();
        let load = Load {
            seed: n as u64,
            format: Format::Vault,
            events: 1,
            start_micros: 20_458 * DAY_MICROS,
            days: 1,
            shuffle: false,
            replay_percent: 0,
            late_percent: 0,
        };
        Records::new(load).next(&mut text);
        fs::write(folder.join(format!("{n}.log")), format!("{text}\n"))?;
    }
    let service =
        Service::start(setting, scratch.path(), &folder, &["--seal-interval", "1s", "--still", "1s"])?;
    let mut sealed = 0;
    while sealed < IDLE_FILES as u64 {
        sealed += service.seals.recv_timeout(Duration::from_secs(120))?.1;
    }
    thread::sleep(Duration::from_secs(5));
    let (before, start) = (cpu_seconds(service.child.id())?, Instant::now());
    thread::sleep(Duration::from_secs(10));
    let used = cpu_seconds(service.child.id())? - before;
    let memory = resident_bytes(service.child.id())? as f64 / 1e6;
    eprintln!("follow: {memory:.0} MB with {IDLE_FILES} idle files");
    service.stop()?;
    Ok(Figure {
        name: "follow: 10,000 idle files".to_owned(),
        value: 100.0 * used / start.elapsed().as_secs_f64(),
        unit: "% of a core",
        baseline: None,
        bar: Some(Bar::AtMost(20.0)),
    })
}

fn cpu_seconds(pid: u32) -> Result<f64, Failure> {
    child::seconds_of(&pid.to_string())
}

fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().strip_suffix(" kB").ok_or("not in kB")?.parse::<u64>()? * 1024)
}
