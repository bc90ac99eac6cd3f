//! `keytrail index` into a real Elasticsearch: against the same bodies in plain POSTs, and against Python's client.
//!
//! Server and client share two cores: documents a second are of wall clock, the client's cost is CPU time.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use ureq::Agent;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};
use crate::search_server::{Kind, OwnServer};
use crate::tools;

/// Requests at once, of all clients.
const CONNECTIONS: usize = 4;

/// The first round warms the server up.
const ROUNDS: usize = 3;

/// What is asked for of an answer: as keytrail, and as Python's client, whether all went well.
const BULK: &str = "_bulk?filter_path=errors";

/// The best of some rounds.
#[derive(Default)]
struct Best {
    documents_a_second: f64,
    cpu_seconds: Option<f64>,
}

impl Best {
    fn take(&mut self, documents: u64, wall: Duration, cpu_seconds: Option<f64>) {
        self.documents_a_second = self.documents_a_second.max(documents as f64 / wall.as_secs_f64());
        self.cpu_seconds = match (self.cpu_seconds, cpu_seconds) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 500_000 } else { 100_000 };
    let scratch = tempfile::tempdir()?;
    let data = scratch.path().join("trail");
    let load = Load {
        seed: 9,
        format: Format::Cloudtrail,
        events,
        start_micros: 20_458 * DAY_MICROS,
        days: 2,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let inputs = scratch.path().join("in");
    fs::create_dir(&inputs)?;
    files::write_folder(load, Layout::Records, Some(6), events / 10_000, &inputs)?;
    keytrail(setting, &data, scratch.path(), &["run", "--no-report"], &[&inputs])?;

    let options = ["-XX:TieredStopAtLevel=4", "-XX:+UseG1GC", "-Xms1g", "-Xmx1g"];
    let server = OwnServer::start(Kind::Elasticsearch, &options);
    let (mut ours, mut plain, mut python) = (Best::default(), Best::default(), Best::default());
    let mut peak = 0;
    for round in 0..ROUNDS {
        let warm = round > 0;
        let check = |namespace: &str| -> Result<(), Failure> {
            let indices = format!("keytrail-*-{namespace}-*");
            let there = server.count(&indices);
            server.delete(&indices);
            if there == events { Ok(()) } else { Err(format!("{there} documents of {events} events").into()) }
        };

        let namespace = format!("ours{round}");
        let config = scratch.path().join("keytrail.toml");
        let url = server.url();
        fs::write(
            &config,
            format!("[index]\nurl = \"{url}\"\nnamespace = \"{namespace}\"\nconnections = {CONNECTIONS}\n"),
        )?;
        let start = Instant::now();
        let cost = keytrail(setting, &data, scratch.path(), &["index", "--config"], &[&config])?;
        let wall = start.elapsed();
        check(&namespace)?;
        if warm {
            ours.take(events, wall, Some(cost.cpu_seconds));
            peak = peak.max(cost.peak_bytes);
        }

        let namespace = format!("plain{round}");
        let bodies = bodies(&data, &namespace, scratch.path())?;
        let wall = post(&url, &bodies)?;
        check(&namespace)?;
        if warm {
            plain.take(events, wall, None);
        }

        let namespace = format!("python{round}");
        let bodies = self::bodies(&data, &namespace, scratch.path())?;
        let mut command = Command::new(&setting.python);
        command.arg(setting.peers.join("bulk_load.py")).arg(&url).arg(CONNECTIONS.to_string()).args(&bodies);
        let start = Instant::now();
        let (_, cost) = child::measure(command)?;
        let wall = start.elapsed();
        check(&namespace)?;
        if warm {
            python.take(events, wall, Some(cost.cpu_seconds));
        }
    }
    let a_document = |best: &Best| best.cpu_seconds.unwrap_or_default() / events as f64 * 1e6;
    Ok(vec![
        Figure {
            name: "index: documents, against plain POSTs".to_owned(),
            value: ours.documents_a_second / 1e3,
            unit: "k documents/s",
            baseline: Some(plain.documents_a_second / 1e3),
            bar: Some(Bar::AtLeast(0.9)),
        },
        Figure {
            name: "index: documents, against parallel_bulk".to_owned(),
            value: ours.documents_a_second / 1e3,
            unit: "k documents/s",
            baseline: Some(python.documents_a_second / 1e3),
            bar: None,
        },
        Figure {
            name: "index: CPU, parallel_bulk against keytrail".to_owned(),
            value: a_document(&python),
            unit: "us/document",
            baseline: Some(a_document(&ours)),
            bar: Some(Bar::AtLeast(3.0)),
        },
        Figure {
            name: "index: memory".to_owned(),
            value: peak as f64 / f64::from(1 << 20),
            unit: "MiB",
            baseline: None,
            bar: None,
        },
    ])
}

fn keytrail(
    setting: &Setting,
    data: &Path,
    scratch: &Path,
    args: &[&str],
    paths: &[&Path],
) -> Result<child::Cost, Failure> {
    let mut command = Command::new(&setting.keytrail);
    command.args(args).args(paths).arg("--data").arg(data);
    super::isolate(&mut command, scratch);
    Ok(child::measure(command)?.1)
}

/// The bodies that keytrail sends of an archive, as files.
fn bodies(data: &Path, namespace: &str, scratch: &Path) -> Result<Vec<PathBuf>, Failure> {
    let folder = scratch.join("bodies");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    let mut command = Command::new(tools::example("bulk_body"));
    command.args(["bodies", namespace]).arg(&folder).args(super::objects(data)?);
    child::measure(command)?;
    let mut files = super::folder(&folder)?;
    files.sort();
    Ok(files)
}

/// Sends bodies as they are, compressed before the clock starts; gives the time that all of it took.
fn post(url: &str, files: &[PathBuf]) -> Result<Duration, Failure> {
    let mut bodies = Vec::new();
    for file in files {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(1));
        gzip.write_all(&fs::read(file)?)?;
        bodies.push(gzip.finish()?);
    }
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(120)))
        .proxy(None)
        .build()
        .new_agent();
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let send = || -> Result<(), String> {
        while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut answer = agent
                .post(format!("{url}/{BULK}"))
                .header("content-type", "application/x-ndjson")
                .header("content-encoding", "gzip")
                .send(&body[..])
                .map_err(|e| e.to_string())?;
            let said = answer.body_mut().read_to_string().map_err(|e| e.to_string())?;
            if said != r#"{"errors":false}"# {
                return Err(format!("a plain POST: {said}"));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send)).collect();
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_| "a sender died".to_owned())?)
    })?;
    Ok(start.elapsed())
}
