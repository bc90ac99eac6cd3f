//! What deduplication takes of ingest: 5 M records over 10 days (50 M with `--full`), 10 % replays, 1 % late.

use super::{Bar, Failure, Figure, Setting, child, ingest};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

/// Runs the bench.
///
/// Ingest is measured whole, on all records. What deduplication does is measured by itself, on the same
/// uids: an index of each object made, written and opened, each row looked up and noted, as ingest does.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let events = if setting.full { 50_000_000 } else { 5_000_000 };
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 7,
        format: Format::Cloudtrail,
        events,
        start_micros: 20_458 * DAY_MICROS,
        days: 10,
        shuffle: false,
        replay_percent: 10,
        late_percent: 1,
    };
    let (input, data) = (scratch.path().join("in"), scratch.path().join("trail"));
    files::write_folder(load, Layout::Records, Some(1), events / 100_000, &input)?;
    let (ingest, _) = ingest::ingest_and_verify(setting, &input, &data, scratch.path())?;

    let mut uids = super::on_one_core(&setting.uids);
    uids.args(super::objects(&data)?);
    let (said, _) = child::measure(uids)?;
    let (rows, seconds) = said.trim().split_once(' ').ok_or("`uids` says no rows and seconds")?;
    let (rows, seconds): (f64, f64) = (rows.parse()?, seconds.parse()?);
    if !(0.88..0.92).contains(&(rows / events as f64)) {
        return Err(format!("expected 90 % of {events} records to be new, {rows} are archived").into());
    }

    let millions = events / 1_000_000;
    Ok(vec![
        Figure {
            name: format!("dedup: {millions} M uids, share of ingest"),
            value: seconds / rows * 1e6,
            unit: "us/event",
            baseline: Some(ingest.cpu_seconds / events as f64 * 1e6),
            bar: Some(Bar::AtMost(0.2)),
        },
        Figure {
            name: format!("dedup: {millions} M uids, peak memory of ingest"),
            value: ingest.peak_bytes as f64 / 1e6,
            unit: "MB",
            baseline: None,
            bar: Some(Bar::Below(256.0)),
        },
    ])
}
