//! Peak memory of `keytrail run` on one object whose events lie in random order over 400 days x 3 datasets.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load, Records};

/// Mean size of a record of the mixed load, in bytes.
const MEAN_BYTES: u64 = 1288;

/// Size of the inflated object, in bytes.
const OBJECT_BYTES: u64 = 1_000_000_000;

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let (input, _) = large_object(scratch.path())?;
    let mut command = Command::new(&setting.keytrail);
    command.arg("run").arg(&input).arg("--data").arg(scratch.path().join("trail"));
    command.args(["--json", "--no-report"]);
    super::isolate(&mut command, scratch.path());
    let (_, cost) = child::measure(command)?;
    Ok(vec![Figure {
        name: "memory: 1 GB object, 400 days x 3 datasets".to_owned(),
        value: cost.peak_bytes as f64 / 1e6,
        unit: "MB",
        baseline: None,
        bar: Some(Bar::Below(256.0)),
    }])
}

/// Makes the object: its path, and how many records it has.
pub fn large_object(folder: &Path) -> io::Result<(PathBuf, u64)> {
    let path = folder.join("shuffled.ndjson.gz");
    let load = Load {
        seed: 400,
        format: Format::Mixed,
        events: OBJECT_BYTES / MEAN_BYTES,
        start_micros: 20_089 * DAY_MICROS,
        days: 400,
        shuffle: true,
        replay_percent: 0,
        late_percent: 0,
    };
    let mut records = Records::new(load);
    files::write_gzip(&mut records, load.events, Layout::Lines, 1, File::create(&path)?)?;
    Ok((path, load.events))
}
