//! `keytrail run`.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use keytrail_adapters::elasticsearch::Elasticsearch;
use keytrail_model::{Counts, Fatal};
use keytrail_pipeline::config::{DeclaredIndex, DeclaredSource, Location, claim};
use keytrail_pipeline::index::Indexed;
use keytrail_pipeline::input::{self, Input, Limits, Source};
use keytrail_pipeline::report::{Made, Wanted};
use keytrail_pipeline::verify::{self, Report};
use keytrail_pipeline::{Code, Finding, Options, Progress, Summary, ingest};

use crate::alerts::{self, Telling};
use crate::args::RunArgs;
use crate::config;
use crate::enrich;
use crate::folder::Folder;
use crate::follow::{follow, with_one_arena};
use crate::terminal::{bytes, count, escape};
use crate::{exit, index, print_bytes, report as reports, tell};

/// Runs the main job.
pub fn run(args: RunArgs) -> Result<ExitCode, Fatal> {
    let config = config::load(&args.config)?;
    let threads = threads(args.threads);
    let options = Options {
        ingest: ingest::Options {
            threads,
            format: args.source.map(Into::into),
            limits: Limits {
                framing: input::FramingLimits {
                    max_record_bytes: usize::try_from(args.max_record_size).unwrap_or(usize::MAX),
                },
                max_inflated_bytes: args.max_inflated_size,
            },
        },
        object_bytes: args.object_size,
    };
    let reporting = config.reports.write && !args.no_report;
    let tables = enrich::tables(&config.tables)?;
    let receivers = crate::notify::receivers(&args.notify, &config.notify)?;
    let telling = |sources| Telling { options: config.alerts, receivers, sources };
    let server = index::server(&args.server, &config.index)?;
    let open = || Folder::open_for_writing(&args.data.data, args.keys.key_dir.as_deref());
    let open = || open().map(|folder| folder.enriched_with(tables));
    if args.follow.follow {
        with_one_arena();
        let places = places(&args.inputs, &config.sources)?;
        let service = (config.follow, config.metrics);
        let searched = server.as_ref().map(|server| (server, &config.index));
        let telling = telling(config.sources);
        return follow(&open()?, places, options, &args, service, telling, (reporting, searched));
    }
    let (mut inputs, places) = inputs(&args.inputs, &config.sources)?;
    let telling = telling(config.sources);
    let folder = open()?;
    leave_out(&folder.own(), &places, &mut inputs);
    let searched = server.as_ref().map(|server| (server, &config.index));
    run_inputs(&folder, &inputs, &options, telling, args.json, reporting, searched)
}

/// What the command line names to be read, else the locations that the configuration declares.
fn places(given: &[OsString], sources: &[Arc<DeclaredSource>]) -> Result<Vec<OsString>, Fatal> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    if sources.is_empty() {
        return Err(Fatal::new(
            "Usage.Input",
            "nothing to read: name an INPUT, or declare sources in keytrail.toml (keytrail config init)",
        ));
    }
    Ok(sources.iter().flat_map(|s| &s.locations).map(|l| l.path().into()).collect())
}

/// The inputs at these places, and the places.
fn inputs(given: &[OsString], sources: &[Arc<DeclaredSource>]) -> Result<(Vec<Input>, Vec<OsString>), Fatal> {
    let places = places(given, sources)?;
    let mut inputs = if given.is_empty() {
        sources.iter().flat_map(|s| &s.locations).flat_map(Location::inputs).collect()
    } else {
        input::expand(given).map_err(|e| Fatal::new("Usage.Input", e))?
    };
    claim(&mut inputs, sources)?;
    Ok((inputs, places))
}

/// Runs `inputs` into an opened folder, verifies what is new, indexes it where there is a search index, writes the
/// reports that are due (unless not `reporting`), prints the summary, and tells of alerts.
pub fn run_inputs(
    folder: &Folder,
    inputs: &[Input],
    options: &Options,
    telling: Telling,
    json: bool,
    reporting: bool,
    searched: Option<(&Elasticsearch, &DeclaredIndex)>,
) -> Result<ExitCode, Fatal> {
    let stop = stop_on_signals()?;
    let progress = Display::new(inputs);
    let started = Instant::now();
    let summary = folder.with_trail(|trail| keytrail_pipeline::run(trail, inputs, options, &progress, &stop));
    progress.bar.finish_and_clear();
    // A run that failed later may have sealed before. One that sealed nothing has not shown that the log
    // continues the head that is kept.
    let remembered = if progress.sealed.get() { folder.remember() } else { Ok(()) };
    let summary = match summary {
        Ok(summary) => summary,
        Err(fatal) => {
            alerts::after_failure(folder, telling, &fatal);
            return Err(fatal);
        }
    };
    remembered?;
    let ingested = started.elapsed();
    let report = verify_new(folder, summary.first_leaf, options.ingest.threads)?;
    let indexed = searched
        .filter(|_| !summary.stopped)
        .map(|server| index::follow_once(folder, server, &stop))
        .transpose();
    let made = if reporting && !summary.stopped {
        let of_sources = |f: &Finding| matches!(f.code, Code::Conflict | Code::Variant);
        let verified = report.findings.iter().all(of_sources).then_some(summary.first_leaf);
        reports::make(folder, &telling.sources, options.ingest.threads, verified, Wanted::Touched)
    } else {
        Ok(Vec::new())
    };
    let new = made.as_deref().unwrap_or_default();
    let found = indexed.as_ref().ok().and_then(Option::as_ref);
    let text = if json {
        as_json(&summary, new, found)
    } else {
        as_text(&folder.fingerprint()?, &summary, &report, ingested)
            + &found.map(index::as_text).unwrap_or_default()
            + &reports::summary(folder.root(), new)
    };
    // What was done and its exit code stand, whoever reads the summary.
    let _read = print_bytes(text.as_bytes());
    warn(folder, &summary, &report);
    found.iter().for_each(|indexed| index::warn(indexed));
    alerts::after_run(folder, telling, &summary, &report);
    // What was read is archived, and that is told by now.
    made?;
    indexed?;
    Ok(exit_code(&summary, &report))
}

/// Verifies what was sealed from an entry of the log on.
pub fn verify_new(folder: &Folder, first_leaf: u64, threads: usize) -> Result<Report, Fatal> {
    verify::verify(
        folder.store(),
        &verify::Options {
            keys: folder.log_keys()?,
            pinned: true,
            known: None,
            from: None,
            to: None,
            first_leaf,
            rederive: None,
            digests: None,
            threads,
            gaps: false,
            audit_keys: Vec::new(),
            receipts: Vec::new(),
            writing: true,
        },
    )
}

/// The folders of data and of keys are no input, though they may lie in a folder that is: each run would
/// read what the last one wrote, and private keys would end in quarantine.
fn leave_out(own: &[PathBuf], args: &[OsString], inputs: &mut Vec<Input>) {
    let own: Vec<PathBuf> = own.iter().filter_map(|p| std::fs::canonicalize(p).ok()).collect();
    // Globs are no paths.
    let apart = |arg: &OsString| {
        std::fs::canonicalize(arg)
            .is_ok_and(|p| own.iter().all(|own| !own.starts_with(&p) && !p.starts_with(own)))
    };
    if args.iter().all(apart) {
        return;
    }
    let before = inputs.len();
    inputs.retain(|input| match &input.source {
        Source::Path(path) => {
            !std::fs::canonicalize(path).is_ok_and(|p| own.iter().any(|own| p.starts_with(own)))
        }
        _ => true,
    });
    if inputs.len() < before {
        let left_out = (before - inputs.len()) as u64;
        tell(&format!("{} files of keytrail's own data and key folders are left out", count(left_out)));
    }
}

/// Cores to use.
pub fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

fn exit_code(summary: &Summary, report: &Report) -> ExitCode {
    let total = summary.total;
    if report.failures().next().is_some() {
        ExitCode::from(exit::FATAL)
    } else if summary.stopped {
        ExitCode::from(exit::RETRYABLE)
    } else if total.rejected > 0 && total.accepted + total.duplicates == 0 {
        ExitCode::from(exit::REJECTED)
    } else {
        ExitCode::SUCCESS
    }
}

fn warn(folder: &Folder, summary: &Summary, report: &Report) {
    if summary.total.rejected > 0 {
        let codes: Vec<String> =
            summary.rejected.iter().map(|(code, n)| format!("{code} {}", count(*n))).collect();
        tell(&format!(
            "warning: {} of {} records rejected ({}); they are kept: keytrail quarantine list --data {}",
            count(summary.total.rejected),
            count(summary.total.read),
            codes.join(", "),
            escape(&folder.root().display().to_string()),
        ));
    }
    for what in &summary.compacted.skipped {
        tell(&format!("warning: not compacted: {}", escape(what)));
    }
    if summary.gaps > 0 {
        tell(&format!(
            "warning: {} ranges of records are missing between others of their source: keytrail verify names them",
            count(summary.gaps)
        ));
    }
    if summary.stopped {
        tell("stopped: what was read is sealed; run the same command again to go on");
    }
    for finding in report.failures() {
        tell(&format!("finding: {}", escape(&finding.to_string())));
    }
}

fn as_text(fingerprint: &str, s: &Summary, report: &Report, took: Duration) -> String {
    let mut out = String::new();
    let width = s.sources.keys().map(|name| name.len() + 2).max().unwrap_or_default().max(16);
    let line = |out: &mut String, name: &str, c: &Counts| {
        // Writing to a string does not fail.
        let _infallible = writeln!(
            out,
            "{name:<width$}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            count(c.read),
            count(c.accepted),
            count(c.duplicates),
            count(c.rejected),
            count(c.conflicts),
            count(c.variants)
        );
    };
    let _infallible = writeln!(
        out,
        "{:<width$}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "source", "read", "accepted", "duplicate", "rejected", "conflicts", "variants"
    );
    for (name, c) in &s.sources {
        line(&mut out, name, c);
    }
    line(&mut out, "total", &s.total);
    let seconds = took.as_secs_f64();
    let rate = s.total.read as f64 / seconds.max(1e-9);
    let _infallible = writeln!(
        out,
        "\ninput    {} {}, {} ({} inflated), {seconds:.1} s, {} records/s",
        count(s.inputs),
        if s.inputs == 1 { "file" } else { "files" },
        bytes(s.input_bytes),
        bytes(s.inflated_bytes),
        count(rate as u64)
    );
    if s.controls > 0 {
        let _infallible =
            writeln!(out, "         {} control messages of log subscriptions", count(s.controls));
    }
    if s.gaps > 0 {
        let _infallible = writeln!(out, "gaps     {} new ranges of missing records", count(s.gaps));
    }
    let _infallible = if s.objects.0 == 0 {
        writeln!(out, "archive  nothing new")
    } else {
        writeln!(
            out,
            "archive  {} new {}, {}, {}",
            count(s.objects.0),
            if s.objects.0 == 1 { "object" } else { "objects" },
            bytes(s.objects.1),
            compression(s.inflated_bytes, s.objects.1)
        )
    };
    if !s.compacted.is_nothing() {
        let _infallible = writeln!(out, "compact  {}", crate::rewrite::compacted(&s.compacted));
    }
    let _infallible = writeln!(
        out,
        "log      {}, size {}, root {}\nkey      {}",
        escape(&s.checkpoint.origin),
        s.checkpoint.size,
        s.checkpoint.root_base64(),
        fingerprint
    );
    let verdict = match report {
        // Only what is new is verified here, and there is nothing.
        r if r.objects == 0 && r.findings.is_empty() => {
            "good: the log, no new objects; signed by this key".to_owned()
        }
        r => crate::verify::verdict(r, "signed by this key"),
    };
    let _infallible = writeln!(out, "verify   {verdict}");
    out
}

/// What became of so many bytes of input.
fn compression(inflated: u64, archived: u64) -> String {
    let ratio = inflated as f64 / archived.max(1) as f64;
    // Columns and statistics of a few records are more than these.
    if ratio < 1.0 {
        return format!("{:.1}x the inflated input", 1.0 / ratio.max(1e-9));
    }
    format!("{ratio:.1}x smaller than the inflated input")
}

fn as_json(s: &Summary, reports: &[Made], indexed: Option<&Indexed>) -> String {
    let counts = |c: &Counts| {
        serde_json::json!({
            "read": c.read, "accepted": c.accepted, "duplicates": c.duplicates,
            "rejected": c.rejected, "conflicts": c.conflicts, "variants": c.variants,
        })
    };
    let mut all = counts(&s.total);
    all["sources"] = s
        .sources
        .iter()
        .map(|(name, c)| {
            let mut one = counts(c);
            one["source"] = name.as_str().into();
            one
        })
        .collect();
    if s.controls > 0 {
        all["control_messages"] = s.controls.into();
    }
    if !s.compacted.is_nothing() {
        all["compacted"] = crate::rewrite::compacted_json(&s.compacted);
    }
    if s.gaps > 0 {
        all["gaps"] = s.gaps.into();
    }
    if !reports.is_empty() {
        all["reports"] = reports.iter().map(reports::as_json).collect();
    }
    if let Some(indexed) = indexed {
        all["index"] = index::as_json(indexed);
    }
    all["log"] = serde_json::json!({
        "origin": s.checkpoint.origin,
        "tree_size": s.checkpoint.size,
        "root_hash": s.checkpoint.root_base64(),
    });
    format!("{all}\n")
}

/// SIGTERM and SIGINT ask the run to seal and end; a second one ends it at once.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>, Fatal> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(exit::RETRYABLE),
            Arc::clone(&stop),
        )
        .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
        .map_err(|e| Fatal::new("Fatal.Signal", format!("cannot watch for signals: {e}")))?;
    }
    Ok(stop)
}

/// A bar on a terminal, a line every few seconds otherwise; always on standard error.
struct Display {
    bar: ProgressBar,
    inputs: u64,
    plain: bool,
    last: Cell<Instant>,
    sealed: Cell<bool>,
}

const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

impl Display {
    fn new(inputs: &[Input]) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new(inputs.len() as u64) };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} inputs  {msg}  {elapsed}") {
            bar.set_style(style);
        }
        Self {
            bar,
            inputs: inputs.len() as u64,
            plain,
            last: Cell::new(Instant::now()),
            sealed: Cell::new(false),
        }
    }
}

impl Progress for Display {
    fn at(&self, read: u64, records: u64, inputs: u64) {
        if !self.plain {
            self.bar.set_position(inputs);
            self.bar.set_message(format!("{} records, {}", count(records), bytes(read)));
        } else if self.last.get().elapsed() >= PLAIN_INTERVAL {
            self.last.set(Instant::now());
            tell(&format!(
                "read {} records, {}, {inputs} of {} inputs",
                count(records),
                bytes(read),
                self.inputs
            ));
        }
    }

    fn sealed(&self, tree_size: u64, rows: u64) {
        self.sealed.set(true);
        if self.plain {
            tell(&format!("sealed {} new rows, log size {tree_size}", count(rows)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_the_input_is_said_both_ways() {
        assert_eq!(compression(2_500, 1_000), "2.5x smaller than the inflated input");
        assert_eq!(compression(500, 1_000), "2.0x the inflated input");
        assert_eq!(compression(1_000, 1_000), "1.0x smaller than the inflated input");
    }

    #[test]
    fn keytrail_reads_no_files_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["trail/quarantine/x", "keys/log-0.key", "a.log", "trail.log"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), b"x").unwrap();
        }
        let args = [dir.path().as_os_str().to_owned(), at("keys/../keys/*").into_os_string()];
        let mut inputs = input::expand(&args).unwrap();
        assert_eq!(inputs.len(), 5);
        leave_out(&[at("trail"), at("keys"), at("missing")], &args, &mut inputs);
        assert_eq!(inputs, [Input::path(at("a.log")), Input::path(at("trail.log"))]);
    }
}
