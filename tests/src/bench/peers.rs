//! `keytrail run` against loaders that others wrote: DuckDB, and orjson with pyarrow. One core each.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::ingest::{self, Best, ROUNDS};
use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load, Records};

/// Runs the bench. Each peer's file must hold what keytrail's archive holds, value by value.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 1_000_000 } else { 200_000 };
    let scratch = tempfile::tempdir()?;
    let at = |name: &str| scratch.path().join(name);
    let load = Load {
        seed: 5,
        format: Format::Cloudtrail,
        events,
        start_micros: 20_458 * DAY_MICROS,
        days: 1,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    files::write(&mut Records::new(load), events, Layout::Lines, File::create(at("load.ndjson"))?)?;
    files::write_gzip(
        &mut Records::new(load),
        events,
        Layout::Records,
        6,
        File::create(at("load.json.gz"))?,
    )?;
    files::write_folder(load, Layout::Records, Some(6), events / 10_000, &at("files"))?;

    let mut figures = Vec::new();
    for (input, peers) in INPUTS {
        let (mut run, mut verify, mut theirs) =
            (Best::default(), Best::default(), vec![Best::default(); peers.len()]);
        for _ in 0..ROUNDS {
            let archive = tempfile::tempdir_in(scratch.path())?;
            let data = archive.path().join("trail");
            let (whole, closing) = ingest::run_and_verify(setting, &at(input), &data, scratch.path())?;
            run.take(whole.cpu_seconds);
            verify.take(closing.cpu_seconds);
            for (peer, best) in peers.iter().zip(&mut theirs) {
                best.take(peer.load(setting, &at(input), &at("peer.parquet"), events)?);
                agree(setting, &data, &at("peer.parquet"), events)?;
            }
        }
        let rate = |seconds: f64| events as f64 / seconds / 1e3;
        for (peer, theirs) in peers.iter().zip(theirs) {
            figures.push(Figure {
                name: format!("peers: {}", peer.name),
                // Without the verify that closes a run: peers check nothing.
                value: rate(run.0 - verify.0),
                unit: "k events/s/core",
                baseline: Some(rate(theirs.0)),
                bar: peer.bar,
            });
        }
    }
    Ok(figures)
}

/// What is loaded, and by whom.
const INPUTS: [(&str, &[Peer]); 3] = [
    (
        "load.ndjson",
        &[Peer { name: "DuckDB, lines", command: &["duckdb_load.py", "lines"], bar: at_least(1.8) }],
    ),
    (
        "load.json.gz",
        &[
            Peer {
                name: "DuckDB, Records in one gzip",
                command: &["duckdb_load.py", "records"],
                bar: at_least(10.0),
            },
            Peer {
                name: "Python, Records in one gzip",
                command: &["python_load.py", "records"],
                bar: at_least(4.0),
            },
            Peer {
                name: "Python without gc, same",
                command: &["python_load.py", "--no-gc", "records"],
                bar: None,
            },
        ],
    ),
    (
        "files",
        &[Peer {
            name: "DuckDB, Records of 10,000 a gzip",
            command: &["duckdb_load.py", "records"],
            bar: None,
        }],
    ),
];

const fn at_least(bar: f64) -> Option<Bar> {
    Some(Bar::AtLeast(bar))
}

/// A loader that others wrote the parts of.
struct Peer {
    name: &'static str,
    /// Script of `tests/peers`, and what it is told before the input.
    command: &'static [&'static str],
    bar: Option<Bar>,
}

impl Peer {
    /// Loads a file, or the files of a folder; gives CPU seconds.
    fn load(&self, setting: &Setting, input: &Path, target: &Path, events: u64) -> Result<f64, Failure> {
        let mut command = super::on_one_core(&setting.python);
        let (script, said) = self.command.split_first().ok_or("a peer has no script")?;
        command.arg(setting.peers.join(script)).args(said);
        command.arg(if input.is_dir() { input.join("*.json.gz") } else { input.to_owned() }).arg(target);
        let (stdout, cost) = child::measure(command)?;
        if stdout.trim() != events.to_string() {
            return Err(format!("expected {events} events, {script} says {stdout}").into());
        }
        Ok(cost.cpu_seconds)
    }
}

/// Whether a peer's file holds the values of the archive, in all columns of `tests/peers/columns.py`.
fn agree(setting: &Setting, data: &Path, peer: &Path, events: u64) -> Result<(), Failure> {
    let mut command = Command::new(&setting.python);
    command.arg(setting.peers.join("differences.py")).arg(data.join("archive/*/*/*.parquet")).arg(peer);
    let output = command.output()?;
    if !output.status.success() || String::from_utf8_lossy(&output.stdout).trim() != events.to_string() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("a peer's columns are not keytrail's: {why}").into());
    }
    Ok(())
}
