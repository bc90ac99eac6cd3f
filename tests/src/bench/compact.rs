//! Compaction of one day: many small objects of 800 k events become large ones, which are read back.

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

const EVENTS: u64 = 800_000;

/// Mean size of a record of the load, in bytes.
const MEAN_BYTES: f64 = 1_288.0;

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 11,
        format: Format::Cloudtrail,
        events: EVENTS,
        start_micros: 20_458 * DAY_MICROS,
        days: 1,
        shuffle: true,
        replay_percent: 0,
        late_percent: 0,
    };
    let (input, data) = (scratch.path().join("in"), scratch.path().join("trail"));
    files::write_folder(load, Layout::Records, Some(1), 8, &input)?;
    let keytrail = || {
        let mut command = super::on_one_core(&setting.keytrail);
        super::isolate(&mut command, scratch.path());
        command
    };
    let mut ingest = keytrail();
    ingest.arg("run").arg(&input).arg("--data").arg(&data).args([
        "--json",
        "--no-report",
        "--object-size",
        "4MB",
    ]);
    child::measure(ingest)?;
    let before = super::objects(&data)?.len();
    let mut compact = keytrail();
    compact.arg("compact").arg("--data").arg(&data).arg("--json");
    let (_, cost) = child::measure(compact)?;
    let after = super::objects(&data)?.len();
    if after * 8 > before {
        return Err(format!("expected few objects of many, {before} became {after}").into());
    }
    Ok(vec![
        Figure {
            name: format!("compact: {before} objects of one day to {after}"),
            value: EVENTS as f64 / cost.cpu_seconds / 1e3,
            unit: "k events/s",
            baseline: None,
            bar: None,
        },
        Figure {
            name: "compact: inflated records".to_owned(),
            value: EVENTS as f64 * MEAN_BYTES / cost.cpu_seconds / 1e6,
            unit: "MB/s",
            baseline: None,
            bar: None,
        },
        Figure {
            name: "compact: peak memory".to_owned(),
            value: cost.peak_bytes as f64 / 1e6,
            unit: "MB",
            baseline: None,
            bar: Some(Bar::Below(256.0)),
        },
    ])
}
