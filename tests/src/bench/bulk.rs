//! gz -> bulk bodies of ECS documents on one core, against the way of a `serde_json::Value`.

use super::ingest::{Best, ROUNDS};
use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};
use crate::tools;

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
    let inputs = files::write_folder(load, Layout::Records, Some(6), events / 10_000, scratch.path())?;
    let seconds = |way: &str| -> Result<f64, Failure> {
        let mut command = super::on_one_core(&tools::example("bulk_body"));
        command.arg(way).args(&inputs);
        let (said, cost) = child::measure(command)?;
        let documents = said.split_whitespace().next().unwrap_or_default();
        if documents.parse() != Ok(events) {
            return Err(format!("{way}: {documents} documents of {events} events").into());
        }
        Ok(cost.cpu_seconds)
    };
    let (mut ours, mut value) = (Best::default(), Best::default());
    for _ in 0..ROUNDS {
        ours.take(seconds("keytrail")?);
        value.take(seconds("value")?);
    }
    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    Ok(vec![Figure {
        name: "bulk: gz to bulk bodies, against a Value".to_owned(),
        value: rate(ours.0),
        unit: "k events/s/core",
        baseline: Some(rate(value.0)),
        bar: Some(Bar::AtLeast(6.0)),
    }])
}
