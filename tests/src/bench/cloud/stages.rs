//! The path of ingest through the functions against the path of one process, and its memory.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use keytrail_lambda_harness::Invocation;
use serde_json::{Value, json};

use super::figure;
use crate::bench::{Bar, Failure, Figure, Setting, child, isolate, memory};
use crate::cloud::Cloud;
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};

/// Rounds of each party, in turns; the median counts.
const ROUNDS: usize = 3;

/// What [`touch`] asks for: more than a party needs.
const TOUCHED_BYTES: usize = 1 << 30;

/// Memory of archive-events in the template.
const MEMORY_MIB: u64 = 1769;

/// Longer than any call takes, so that none stops early.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Runs this part.
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
    let folder = scratch.path().join("in");
    let inputs = files::write_folder(load, Layout::Records, Some(6), events / 10_000, &folder)?;
    let (mut ours, mut alone, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ours.push(functions(&inputs, events)?);
        let data = scratch.path().join(format!("trail{round}"));
        let keytrail = |args: &[&str]| {
            let mut command = Command::new(&setting.keytrail);
            command.args(args).arg("--data").arg(&data).arg("--json");
            isolate(&mut command, scratch.path());
            Ok::<f64, Failure>(child::measure(command)?.1.cpu_seconds)
        };
        let input = folder.to_string_lossy();
        touch();
        alone.push(keytrail(&["run", "--no-report", &input])?);
        verified.push(keytrail(&["verify"])?);
    }
    let rate = |seconds: f64| events as f64 / seconds / 1e3;
    let archived = median(ours.iter().map(|(archived, _)| *archived).collect());
    let ours = median(ours.iter().map(|(archived, sealed)| archived + sealed).collect());
    let (alone, verified) = (median(alone), median(verified));
    let unit = "k events/CPU s";
    Ok(vec![
        figure(
            "stages, against `keytrail run`",
            rate(ours),
            unit,
            Some(rate(alone)),
            Some(Bar::AtLeast(0.9)),
        ),
        figure("stages, against it without its verify", rate(ours), unit, Some(rate(alone - verified)), None),
        figure("archive-events alone", rate(archived), unit, Some(rate(alone - verified)), None),
    ])
}

/// CPU seconds of archive-events and of seal-archive.
fn functions(inputs: &[PathBuf], events: u64) -> Result<(f64, f64), Failure> {
    let cloud = Cloud::on_minio();
    cloud.deploy(cloud.function("archive-events").timeout(TIMEOUT).memory_mib(MEMORY_MIB));
    let mut objects = Vec::new();
    for path in inputs {
        let name = path.file_name().ok_or("a file without a name")?.to_string_lossy();
        objects.push(cloud.put(&format!("incoming/{name}"), &fs::read(path)?));
    }
    let (mut archived, mut accepted) = (0.0, 0);
    touch();
    let mut input = json!({"batch": "bench", "objects": objects});
    while !input.is_null() {
        let done = called(&cloud, "archive-events", &input)?;
        archived += done.cpu.as_secs_f64();
        let answer = done.json();
        accepted += answer["counts"]["accepted"].as_u64().unwrap_or(0);
        input = answer["next"].clone();
    }
    if accepted != events {
        return Err(format!("{accepted} of {events} events were archived").into());
    }
    let mut sealed = 0.0;
    loop {
        let done = called(&cloud, "seal-archive", &json!({}))?;
        sealed += done.cpu.as_secs_f64();
        if done.json()["waiting"] == 0 {
            return Ok((archived, sealed));
        }
    }
}

/// Takes memory and gives it back: a guest gets pages that were idle for long anew from its host, and who comes first
/// would pay for them.
fn touch() {
    std::hint::black_box(vec![1_u8; TOUCHED_BYTES]);
}

fn called(cloud: &Cloud, name: &str, event: &Value) -> Result<Invocation, Failure> {
    let done = cloud.try_call(name, event);
    match done.function_error {
        None => Ok(done),
        Some(_) => Err(format!("{name}: {}", done.json()).into()),
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Memory of archive-events on one large object, its events in random order over many days.
pub fn memory(_: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let cloud = Cloud::on_minio();
    cloud.deploy(cloud.function("archive-events").timeout(TIMEOUT).memory_mib(MEMORY_MIB));
    let (path, events) = memory::large_object(scratch.path())?;
    let object = cloud.put("incoming/shuffled.ndjson.gz", &fs::read(path)?);
    let begun = Instant::now();
    let (mut peak, mut cpu, mut read) = (0, 0.0, 0);
    let mut input = json!({"batch": "large", "objects": [object]});
    while !input.is_null() {
        let done = called(&cloud, "archive-events", &input)?;
        peak = peak.max(done.max_memory_bytes);
        cpu += done.cpu.as_secs_f64();
        let answer = done.json();
        read += answer["counts"]["read"].as_u64().unwrap_or(0);
        input = answer["next"].clone();
    }
    if read != events {
        return Err(format!("{read} of {events} events were read").into());
    }
    let took = begun.elapsed().as_secs_f64();
    Ok(vec![
        figure("memory: 1 GB object, 400 days", peak as f64 / 1e6, "MB", None, Some(Bar::Below(256.0))),
        figure("1 GB object: time", took, "s", None, None),
        figure("1 GB object: CPU", cpu, "s", None, None),
    ])
}
