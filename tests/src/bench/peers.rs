//! `keytrail run` against loaders that others wrote: DuckDB, and orjson with pyarrow. One core each.

use std::fs::File;
use std::path::Path;

use super::ingest::{self, Best, ROUNDS};
use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load, Records};

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 1_000_000 } else { 200_000 };
    let scratch = tempfile::tempdir()?;
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
    let (lines, objects) = (scratch.path().join("load.ndjson"), scratch.path().join("load.json.gz"));
    files::write(&mut Records::new(load), events, Layout::Lines, File::create(&lines)?)?;
    files::write_gzip(&mut Records::new(load), events, Layout::Records, 6, File::create(&objects)?)?;

    let (mut ours, mut peers) = ([Ours::default(); 2], [Best::default(); 3]);
    for _ in 0..ROUNDS {
        for (ours, input) in ours.iter_mut().zip([&lines, &objects]) {
            ours.take(setting, input, scratch.path())?;
        }
        let inputs = [("duckdb_load.py", "lines", &lines), ("duckdb_load.py", "records", &objects)];
        let inputs = inputs.into_iter().chain([("python_load.py", "records", &objects)]);
        for (peer, (script, layout, input)) in peers.iter_mut().zip(inputs) {
            peer.take(loader(setting, script, layout, input, scratch.path(), events)?);
        }
    }
    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    let [ours_lines, ours_objects] = ours.map(|ours| rate(ours.run.0 - ours.verify.0));
    let [duckdb_lines, duckdb_objects, python] = peers.map(|peer| rate(peer.0));
    let figure = |name: &str, value, baseline, bar| Figure {
        name: format!("peers: {name}"),
        value,
        unit: "k events/s/core",
        baseline: Some(baseline),
        bar: Some(Bar::AtLeast(bar)),
    };
    Ok(vec![
        figure("DuckDB, lines", ours_lines, duckdb_lines, 1.8),
        figure("DuckDB, Records in gzip", ours_objects, duckdb_objects, 10.0),
        figure("Python, Records in gzip", ours_objects, python, 4.0),
    ])
}

/// CPU seconds of `keytrail run` into a new data folder, and of its closing verify: peers check nothing, so
/// that is taken off.
#[derive(Clone, Copy, Default)]
struct Ours {
    run: Best,
    verify: Best,
}

impl Ours {
    fn take(&mut self, setting: &Setting, input: &Path, scratch: &Path) -> Result<(), Failure> {
        let data = tempfile::tempdir_in(scratch)?;
        let (run, verify) = ingest::run_and_verify(setting, input, &data.path().join("trail"), scratch)?;
        self.run.take(run.cpu_seconds);
        self.verify.take(verify.cpu_seconds);
        Ok(())
    }
}

/// CPU seconds of a peer.
fn loader(
    setting: &Setting,
    script: &str,
    layout: &str,
    input: &Path,
    scratch: &Path,
    events: u64,
) -> Result<f64, Failure> {
    let mut command = super::on_one_core(&setting.python);
    command.arg(setting.peers.join(script)).arg(layout).arg(input);
    command.arg(scratch.join("peer.parquet"));
    let (stdout, cost) = child::measure(command)?;
    if stdout.trim() != events.to_string() {
        return Err(format!("expected {events} events, {script} says {stdout}").into());
    }
    Ok(cost.cpu_seconds)
}
