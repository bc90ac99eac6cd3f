//! gz -> Parquet with original and hash on one core, against its floor; and what checking the archive costs.

use std::path::Path;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 1_000_000 } else { 200_000 };
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 3,
        format: Format::Cloudtrail,
        events,
        start_micros: 20_458 * DAY_MICROS,
        days: 2,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let inputs =
        files::write_folder(load, Layout::Records, Some(6), events / 10_000, &scratch.path().join("in"))?;
    let (mut ingest, mut verify, mut floor) = (Best::default(), Best::default(), Best::default());
    for _ in 0..ROUNDS {
        let data = tempfile::tempdir_in(scratch.path())?;
        let trail = data.path().join("trail");
        let (run, check) = run_and_verify(setting, &scratch.path().join("in"), &trail, scratch.path())?;
        ingest.take(run.cpu_seconds);
        verify.take(check.cpu_seconds);
        let mut command = super::on_one_core(&setting.floor);
        command.args(&inputs).args(super::objects(&trail)?);
        let (seconds, _) = child::measure(command)?;
        floor.take(seconds.trim().parse()?);
    }
    let (ingest, verify, floor) = (ingest.0 - verify.0, verify.0, floor.0);

    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    Ok(vec![
        Figure {
            name: "ingest: gz to Parquet, against its floor".to_owned(),
            value: rate(ingest),
            unit: "k events/s/core",
            baseline: Some(rate(floor)),
            bar: Some(Bar::AtLeast(0.55)),
        },
        Figure {
            name: "verify: whole archive".to_owned(),
            value: rate(verify),
            unit: "k events/s/core",
            baseline: None,
            bar: Some(Bar::AtLeast(200.0)),
        },
    ])
}

/// Times that each party runs, in turns: others who use the machine only ever make one slower.
pub const ROUNDS: usize = 2;

/// The fewest CPU seconds of several runs.
#[derive(Clone, Copy)]
pub struct Best(pub f64);

impl Default for Best {
    fn default() -> Self {
        Self(f64::INFINITY)
    }
}

impl Best {
    /// Takes what one run took.
    pub fn take(&mut self, seconds: f64) {
        self.0 = self.0.min(seconds);
    }
}

/// What ingesting `input` into a new data folder costs, and what checking the result does. `run` closes
/// with a verify of all that it wrote; its cost is measured by itself and taken off.
pub fn ingest_and_verify(
    setting: &Setting,
    input: &Path,
    data: &Path,
    scratch: &Path,
) -> Result<(child::Cost, child::Cost), Failure> {
    let (run, verify) = run_and_verify(setting, input, data, scratch)?;
    let cpu_seconds = run.cpu_seconds - verify.cpu_seconds;
    Ok((child::Cost { cpu_seconds, ..run }, verify))
}

/// What `run` costs with its closing verify, and what a verify does.
pub fn run_and_verify(
    setting: &Setting,
    input: &Path,
    data: &Path,
    scratch: &Path,
) -> Result<(child::Cost, child::Cost), Failure> {
    let keytrail = |command: &[&str], input: Option<&Path>| {
        let mut keytrail = super::on_one_core(&setting.keytrail);
        keytrail.args(command).args(input).arg("--data").arg(data).arg("--json").args(["--threads", "1"]);
        super::isolate(&mut keytrail, scratch);
        child::measure(keytrail)
    };
    let (_, run) = keytrail(&["run", "--no-report"], Some(input))?;
    let (_, verify) = keytrail(&["verify"], None)?;
    Ok((run, verify))
}
