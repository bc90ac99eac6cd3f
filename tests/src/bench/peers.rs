//! `keytrail run` against loaders that others wrote: DuckDB, and orjson with pyarrow. One core each.

use std::fs::File;
use std::path::Path;

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

    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    let ours_lines = rate(keytrail(setting, &lines, scratch.path(), events)?);
    let ours_objects = rate(keytrail(setting, &objects, scratch.path(), events)?);
    let peer = |script: &str, layout: &str, input: &Path| -> Result<f64, Failure> {
        Ok(rate(loader(setting, script, layout, input, scratch.path(), events)?))
    };
    let figure = |name: &str, value, baseline, bar| Figure {
        name: format!("peers: {name}"),
        value,
        unit: "k events/s/core",
        baseline: Some(baseline),
        bar: Some(Bar::AtLeast(bar)),
    };
    Ok(vec![
        figure("DuckDB, lines", ours_lines, peer("duckdb_load.py", "lines", &lines)?, 1.8),
        figure("DuckDB, Records in gzip", ours_objects, peer("duckdb_load.py", "records", &objects)?, 10.0),
        figure("Python, Records in gzip", ours_objects, peer("python_load.py", "records", &objects)?, 4.0),
    ])
}

/// CPU seconds of `keytrail run` into a new data folder: archive, seal and verify.
fn keytrail(setting: &Setting, input: &Path, scratch: &Path, events: u64) -> Result<f64, Failure> {
    let data = tempfile::tempdir_in(scratch)?;
    let mut command = super::on_one_core(&setting.keytrail);
    command.arg("run").arg(input).args(["--threads", "1"]);
    command.arg("--data").arg(data.path().join("trail")).arg("--json");
    super::isolate(&mut command, scratch);
    let (stdout, cost) = child::measure(command)?;
    if !stdout.contains(&format!("\"accepted\":{events}")) {
        return Err(format!("expected {events} accepted events, keytrail says {stdout}").into());
    }
    Ok(cost.cpu_seconds)
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
