//! `keytrail run --follow` with a search index: from the write of a record to when a search finds it.
//!
//! Measured from outside, on a real Elasticsearch that refreshes as keytrail's templates say (every 5 s): records are
//! indexed in the order in which they are written, so the number that a search finds says which ones it finds. The
//! short form seals every 2 s and takes half a minute; the full form seals every minute, as a service does, and takes ten;
//! `FOLLOW_SECONDS` says otherwise.

use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, Figure, Setting};
use crate::load::{DAY_MICROS, Format, Load, Records};
use crate::search_server::{Kind, OwnServer};

/// Records a second, of three sources in turn.
const RATE: u64 = 100;

/// Time between two writes, and between two looks.
const STEP: Duration = Duration::from_millis(50);

/// All events of the bench.
const EVENTS: &str = "keytrail-*-default-*,-keytrail-deadletter-*";

/// Ends with the bench.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It was asked to end before, unless the bench failed.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let seconds = match env::var("FOLLOW_SECONDS") {
        Ok(seconds) => seconds.parse()?,
        Err(_) if setting.full => 600,
        Err(_) => 25,
    };
    let server = OwnServer::start(Kind::Elasticsearch, &[]);
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("audit.log");
    let mut log = File::create(&path)?;
    let mut command = Command::new(&setting.keytrail);
    command.args(["run", "--follow", "--json", "--no-report", "--elasticsearch", &server.url()]).arg(&path);
    if !setting.full {
        command.args(["--seal-interval", "2s"]);
    }
    command.arg("--data").arg(scratch.path().join("trail")).stdout(Stdio::null()).stdin(Stdio::null());
    super::isolate(&mut command, scratch.path());
    let mut service = Service(command.spawn()?);

    let load = Load {
        seed: 11,
        format: Format::Mixed,
        events: seconds * RATE,
        start_micros: 20_458 * DAY_MICROS,
        days: 1,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let mut records = Records::new(load);
    let start = Instant::now();
    let (mut written, mut found) = (0, 0);
    let mut waiting = VecDeque::new();
    let mut lags: Vec<(Duration, u64)> = Vec::new();
    while found < load.events {
        let now = start.elapsed();
        let wanted = load.events.min((now.as_secs_f64() * RATE as f64) as u64);
        let mut text = String::new();
        for _ in written..wanted {
            records.next(&mut text);
            text.push('\n');
        }
        if wanted > written {
            log.write_all(text.as_bytes())?;
            waiting.push_back((Instant::now(), wanted - written));
            written = wanted;
        }
        // As any reader has it: nobody asks for a refresh.
        let there = server.get(&format!("{EVENTS}/_count")).body["count"].as_u64().unwrap_or(found);
        let at = Instant::now();
        let mut new = there.saturating_sub(found);
        found = found.max(there);
        while let Some((written_at, n)) = waiting.front_mut().filter(|_| new > 0) {
            let covered = new.min(*n);
            lags.push((at - *written_at, covered));
            new -= covered;
            *n -= covered;
            if *n == 0 {
                waiting.pop_front();
            }
        }
        if now.as_secs() > seconds + 180 {
            return Err(format!("{found} of {written} records were found in time").into());
        }
        thread::sleep(STEP);
    }
    Command::new("kill").arg(service.0.id().to_string()).status()?;
    let status = service.0.wait()?;
    if !status.success() {
        return Err(format!("the service ended with {status}").into());
    }
    lags.sort_unstable();
    let quantile = |percent: u64| {
        let mut left = load.events * percent / 100;
        let found = lags.iter().find(|(_, n)| {
            left = left.saturating_sub(*n);
            left == 0
        });
        found.map_or(0.0, |(lag, _)| lag.as_secs_f64())
    };
    let figure = |what: &str, value| Figure {
        name: format!("follow-index: {what}"),
        value,
        unit: "s",
        baseline: None,
        bar: None,
    };
    Ok(vec![figure("written to found, p50", quantile(50)), figure("written to found, p99", quantile(99))])
}
