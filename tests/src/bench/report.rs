//! A week's report: the first one, which reads every row; the next one, which uses what is kept of days; and
//! the first one again, which reads nothing.

use std::time::Instant;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

/// 2026-01-05, a Monday.
const MONDAY: i64 = 20_458;

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 10_000_000 } else { 1_000_000 };
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 17,
        format: Format::Cloudtrail,
        events,
        start_micros: MONDAY * DAY_MICROS,
        days: 7,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let (input, data) = (scratch.path().join("in"), scratch.path().join("trail"));
    files::write_folder(load, Layout::Records, Some(1), events / 50_000, &input)?;
    let keytrail = |args: &[&str]| {
        let mut command = super::on_one_core(&setting.keytrail);
        super::isolate(&mut command, scratch.path());
        command.args(args).arg("--data").arg(&data).args(["--json", "--threads", "1"]);
        command
    };
    let mut ingest = keytrail(&["run", "--no-report"]);
    ingest.arg(&input);
    child::measure(ingest)?;
    let (_, verify) = child::measure(keytrail(&["verify"]))?;

    let start = Instant::now();
    let (_, first) = child::measure(keytrail(&["report", "--week", "2026-W02"]))?;
    let seconds = start.elapsed().as_secs_f64();
    let (_, next) = child::measure(keytrail(&["report", "--week", "2026-W03"]))?;
    let (_, again) = child::measure(keytrail(&["report", "--week", "2026-W02"]))?;
    let millions = events / 1_000_000;
    let figure = |name: String, value, unit, bar| Figure { name, value, unit, baseline: None, bar };
    Ok(vec![
        figure(format!("report: {millions} M events, with its verify"), seconds, "s", None),
        figure(
            "report: the fold alone".to_owned(),
            events as f64 / (first.cpu_seconds - verify.cpu_seconds).max(0.01) / 1e3,
            "k events/s/core",
            None,
        ),
        figure(
            "report: peak memory".to_owned(),
            first.peak_bytes as f64 / 1e6,
            "MB",
            Some(Bar::Below(256.0)),
        ),
        Figure {
            name: "report: the week after it".to_owned(),
            value: next.cpu_seconds,
            unit: "s",
            baseline: Some(first.cpu_seconds),
            bar: Some(Bar::AtMost(0.1)),
        },
        Figure {
            name: "report: again".to_owned(),
            value: again.cpu_seconds,
            unit: "s",
            baseline: Some(first.cpu_seconds),
            bar: Some(Bar::AtMost(0.1)),
        },
    ])
}
