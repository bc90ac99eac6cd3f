//! `keytrail run --follow`: a service on one machine.
//!
//! What it is: signals, log lines, metrics and readiness around [`keytrail_pipeline::follow`].

mod indexing;
mod metrics;
mod readiness;
mod server;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_adapters::elasticsearch::Elasticsearch;
use keytrail_adapters::local::{SystemClock, open_files};
use keytrail_model::Fatal;
use keytrail_pipeline::alerts::Undelivered;
use keytrail_pipeline::compact::Compacted;
use keytrail_pipeline::config::{DeclaredIndex, DeclaredSource, Following, Listen};
use keytrail_pipeline::follow::{self, Notice, Observer, Sealed, State};
use keytrail_pipeline::readable::Readable;
use keytrail_pipeline::report::Wanted;
use keytrail_pipeline::sequence::Gap;
use keytrail_pipeline::{Finding, Trail};
use keytrail_ports::Clock;
use serde_json::{Map, Value};

use crate::alerts::{Telling, Watch};
use crate::args::{FollowArgs, RunArgs};
use crate::folder::Folder;
use crate::terminal::{escape, json_line};
use crate::{print_bytes, report, run, tell};
use indexing::{End, Follower};
use metrics::{IndexMetrics, Metrics, SharedMetrics};
use readiness::Readiness;

/// Follows `patterns` into an opened folder until a signal.
pub fn follow(
    folder: &Folder,
    patterns: Vec<OsString>,
    run_options: keytrail_pipeline::Options,
    args: &RunArgs,
    (following, listen): (Following, Listen),
    telling: Telling,
    (reporting, searched): (bool, Option<(&Elasticsearch, &DeclaredIndex)>),
) -> Result<ExitCode, Fatal> {
    let json = args.json;
    let (following, listen) = args.follow.over(following, listen);
    if patterns.iter().any(|p| p == "-") {
        return Err(Fatal::new(
            "Usage.Input",
            "`-` cannot be followed: leave --follow out, it is read to its end",
        ));
    }
    open_files::raise_limit();
    let stop = run::stop_on_signals()?;
    let mut metrics = Metrics::of(telling.sources.iter().map(|s| s.name.as_str()));
    let size = || folder.head().map_or(0, |(checkpoint, _)| checkpoint.size);
    metrics.index = searched.map(|_| IndexMetrics::of(size()));
    let metrics = SharedMetrics::of(metrics);
    if let Some(bound) = server::serve(&listen, metrics.clone())? {
        log(json, "metrics", &[("address", bound.to_string().into())]);
    }
    let verify_interval = following.verify_interval;
    let options = follow::Options {
        run: run_options,
        patterns,
        sources: telling.sources.clone(),
        own: folder.own(),
        following,
        retry_pause: Duration::from_secs(1),
    };
    let mut service = Service {
        folder,
        reports: reporting.then(|| Reports { sources: telling.sources.clone(), made: None, failed: None }),
        json,
        metrics: metrics.clone(),
        readiness: Readiness::of_service(),
        is_ready: false,
        watch: Watch::new(telling),
        undelivered: Vec::new(),
        alerts_failed: None,
        threads: options.run.ingest.threads,
        verify_interval,
        verified: None,
    };
    let end = End::default();
    thread::scope(|scope| {
        let follower = searched.map(|searched| {
            let (follower, end) = (Follower::new(folder, searched, json, &metrics), &end);
            (scope.spawn(move || follower.run(end)), searched.0)
        });
        let done = folder.with_trail(|trail| {
            let ended = follow::follow(trail, &options, &mut service, &stop);
            if let Err(fatal) = &ended {
                let told = service.watch.ended(folder, trail, fatal);
                service.told(told);
            }
            ended
        });
        if let Some((follower, server)) = follower {
            end.wait(&follower, server);
        }
        done
    })?;
    service.readiness.tell("STOPPING=1");
    log(json, "stopped", &[]);
    Ok(ExitCode::SUCCESS)
}

impl FollowArgs {
    /// What keytrail.toml says, with what was given on the command line in its place.
    fn over(&self, file: Following, listen: Listen) -> (Following, Listen) {
        let following = Following {
            poll_interval: self.poll_interval.unwrap_or(file.poll_interval),
            seal_interval: self.seal_interval.unwrap_or(file.seal_interval),
            still: self.still.unwrap_or(file.still),
            verify_interval: self.verify_interval.unwrap_or(file.verify_interval),
            compact: file.compact && !self.no_compact,
        };
        let listen = Listen {
            address: self.metrics.or(listen.address),
            // What the file lets out is its own address.
            remote: self.metrics_remote || (listen.remote && self.metrics.is_none()),
        };
        (following, listen)
    }
}

/// Starts the process again, in its place, with one arena of the C library's memory.
///
/// glibc gives threads arenas of their own and keeps what was freed in each. Following starts threads at every look, and
/// with up to 8 arenas a core resident memory grew four times as large as with one. The library reads its setting when a
/// process starts, and never after.
pub fn with_one_arena() {
    const SETTING: &str = "MALLOC_ARENA_MAX";
    if let (None, Ok(own)) = (env::var_os(SETTING), env::current_exe()) {
        // It returns only where it failed: then it goes on with more memory.
        let _failed = Command::new(own).args(env::args_os().skip(1)).env(SETTING, "1").exec();
    }
}

/// Passes on what happens.
struct Service<'a> {
    folder: &'a Folder,
    json: bool,
    metrics: SharedMetrics,
    readiness: Readiness,
    is_ready: bool,
    watch: Watch,
    /// Who could not be told of how many alerts, as far as that was said.
    undelivered: Vec<String>,
    /// Why alerts could not be made, as far as that was said.
    alerts_failed: Option<String>,
    threads: usize,
    /// How often it verifies what it sealed since the last time.
    verify_interval: Duration,
    /// When it was verified last, and up to which size of the log.
    verified: Option<(Instant, u64)>,
    /// Unless no reports are wanted.
    reports: Option<Reports>,
}

/// The reports of a service.
struct Reports {
    sources: Vec<Arc<DeclaredSource>>,
    /// When they were made last.
    made: Option<Instant>,
    /// Why they could not be made, as far as that was said.
    failed: Option<String>,
}

impl Reports {
    /// Makes those that are due, at the start and once an hour. What fails is said once; the archive goes on.
    fn make(&mut self, folder: &Folder, json: bool, threads: usize) {
        if self.made.is_some_and(|made| made.elapsed() < REPORT_INTERVAL) {
            return;
        }
        self.made = Some(Instant::now());
        match report::make(folder, &self.sources, threads, None, Wanted::Touched) {
            Ok(made) => {
                self.failed = None;
                for made in &made {
                    let fields = [
                        ("week", made.report.week.as_str().into()),
                        ("amendment", made.report.amendment.into()),
                        ("page", made.place.file("html").into()),
                    ];
                    log(json, "report", &fields);
                }
            }
            Err(e) if self.failed.as_deref() != Some(&e.message) => {
                log(json, "reports-failed", &[("code", e.code.into()), ("why", e.message.as_str().into())]);
                self.failed = Some(e.message);
            }
            Err(_) => {}
        }
    }
}

/// How often a service looks for weeks whose report is due.
const REPORT_INTERVAL: Duration = Duration::from_secs(3600);

impl Service<'_> {
    fn count(&self, with: impl FnOnce(&mut Metrics)) {
        self.metrics.with(with);
    }
}

impl Service<'_> {
    /// Verifies what was sealed since the last time, once that is long enough ago. A verify that fails is told of; the
    /// archive goes on.
    fn verify(&mut self, trail: &Trail<'_>, seal: &Sealed) -> Vec<Finding> {
        let (last, from) = *self.verified.get_or_insert_with(|| (Instant::now(), seal.first_leaf));
        if last.elapsed() < self.verify_interval {
            return Vec::new();
        }
        match run::verify_new(self.folder, from, self.threads) {
            Ok(report) => {
                self.verified = Some((Instant::now(), seal.head.size));
                let fields = [("objects", report.objects.into()), ("rows", report.rows.into())];
                log(self.json, "verified", &fields);
                report.failures().cloned().collect()
            }
            Err(e) => {
                self.verified = Some((Instant::now(), from));
                let fields = [("code", e.code.into()), ("why", e.message.as_str().into())];
                log(self.json, "not-verified", &fields);
                let told = self.watch.not_verified(self.folder, trail, &e);
                self.told(told);
                Vec::new()
            }
        }
    }

    /// Says once why alerts cannot be made. It is tried again at each look; the archive does not wait for it.
    fn told<T>(&mut self, told: Result<T, Fatal>) -> Option<T> {
        match told {
            Ok(told) => {
                self.alerts_failed = None;
                Some(told)
            }
            Err(e) => {
                if self.alerts_failed.as_deref() != Some(&e.message) {
                    let fields = [("code", e.code.into()), ("why", e.message.as_str().into())];
                    log(self.json, "alerts-failed", &fields);
                    self.alerts_failed = Some(e.message);
                }
                None
            }
        }
    }

    /// Says once who cannot be told of alerts.
    fn tell_undelivered(&mut self, undelivered: &[Undelivered]) {
        let failing: Vec<_> = undelivered.iter().filter(|u| !u.error.is_empty()).collect();
        for u in failing.iter().filter(|u| !self.undelivered.contains(&u.receiver)) {
            let fields = [
                ("receiver", u.receiver.as_str().into()),
                ("alerts", u.alerts.into()),
                ("why", u.error.as_str().into()),
            ];
            log(self.json, "alerts-undelivered", &fields);
        }
        self.undelivered = failing.iter().map(|u| u.receiver.clone()).collect();
    }
}

impl Observer for Service<'_> {
    fn notice(&mut self, notice: &Notice) {
        let seconds = |d: &Duration| Value::from(d.as_secs_f64());
        match notice {
            Notice::Unreadable { file, why } => {
                log(self.json, "unreadable", &[("file", file.as_str().into()), ("why", why.as_str().into())]);
            }
            Notice::WrittenAnew { file } => {
                log(self.json, "written-anew", &[("file", file.as_str().into())]);
            }
            Notice::Vanished { file, unread_bytes } => {
                let fields = [("file", file.as_str().into()), ("unread_bytes", (*unread_bytes).into())];
                log(self.json, "vanished", &fields);
            }
            Notice::NoPositions { why } => {
                log(self.json, "positions-not-used", &[("why", why.as_str().into())]);
            }
            Notice::Retrying { error, pause } => {
                let fields = [
                    ("code", error.code.into()),
                    ("why", error.message.as_str().into()),
                    ("pause_seconds", seconds(pause)),
                ];
                log(self.json, "retrying", &fields);
                self.readiness.tell(&format!("STATUS=waiting: {}", error.code));
            }
        }
        self.count(|m| m.notice(notice));
    }

    fn polled(&mut self, trail: &Trail<'_>, readable: &Readable, state: &State) -> Result<(), Fatal> {
        if !self.is_ready {
            self.is_ready = true;
            self.readiness.tell("READY=1");
        }
        self.count(|m| m.polled(state));
        let told = self.watch.polled(self.folder, trail, readable);
        if let Some(undelivered) = self.told(told) {
            self.tell_undelivered(&undelivered);
        }
        if let Some(reports) = &mut self.reports {
            reports.make(self.folder, self.json, self.threads);
        }
        Ok(())
    }

    fn compacted(&mut self, compacted: &Compacted) {
        let fields = [
            ("replaced", compacted.replaced.0.into()),
            ("made", compacted.made.0.into()),
            ("rows", compacted.rows.into()),
            ("skipped", compacted.skipped.len().into()),
        ];
        log(self.json, "compacted", &fields);
    }

    fn sealed(&mut self, trail: &Trail<'_>, seal: &Sealed) -> Result<(), Fatal> {
        self.folder.remember()?;
        let total = seal.total();
        let seconds = |d: Duration| Value::from((d.as_secs_f64() * 1000.0).round() / 1000.0);
        log(
            self.json,
            "sealed",
            &[
                ("read", total.read.into()),
                ("accepted", total.accepted.into()),
                ("duplicates", total.duplicates.into()),
                ("rejected", total.rejected.into()),
                ("conflicts", total.conflicts.into()),
                ("objects", seal.objects.0.into()),
                ("object_bytes", seal.objects.1.into()),
                ("log_size", seal.head.size.into()),
                ("root", seal.head.root_base64().into()),
                ("lag_p50_seconds", seconds(seal.lag.p50)),
                ("lag_p99_seconds", seconds(seal.lag.p99)),
            ],
        );
        self.readiness.tell(&format!("STATUS=sealed, log size {}", seal.head.size));
        self.count(|m| m.sealed(seal, SystemClock.now()));
        let mut findings: Vec<Finding> = seal.gaps.iter().map(Gap::finding).collect();
        findings.extend(self.verify(trail, seal));
        for finding in &findings {
            log(self.json, "finding", &[("finding", finding.to_string().into())]);
        }
        let told = self.watch.sealed(self.folder, trail, seal.head.size, &findings);
        self.told(told);
        Ok(())
    }
}

/// One line: the time, a constant message, fields. JSON goes to standard output, text to standard error.
fn log(json: bool, message: &str, fields: &[(&str, Value)]) {
    let time = SystemClock.now().to_rfc3339();
    if json {
        let mut line = Map::new();
        line.insert("time".to_owned(), time.into());
        line.insert("message".to_owned(), message.into());
        line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        // The service goes on, whoever reads its log.
        let _read = print_bytes(json_line(&Value::Object(line)).as_bytes());
        return;
    }
    let mut line = format!("{time} {message}");
    for (name, value) in fields {
        let text = match value {
            Value::String(text) if text.contains([' ', '"', '=']) => format!("{text:?}"),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        line.push_str(&format!(" {name}={}", escape(&text)));
    }
    tell(&line);
}
