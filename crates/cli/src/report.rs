//! `keytrail report`, and the reports that `run` writes.

use std::cell::Cell;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use keytrail_adapters::local::SystemClock;
use keytrail_model::Fatal;
use keytrail_pipeline::config::DeclaredSource;
use keytrail_pipeline::report::{self, Folded, Made, Reporting, Status, Wanted, Week};
use keytrail_ports::Clock;

use crate::args::value::cores;
use crate::args::{ConfigArgs, DataArgs, KeyArgs};
use crate::config;
use crate::folder::Folder;
use crate::terminal::{count, escape, json_line};
use crate::{enrich, exit, help, print_bytes, tell};

/// `keytrail report`.
#[derive(Args, Debug)]
#[command(after_help = help::REPORT)]
pub struct ReportArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// ISO week [default: the last full one]
    #[arg(long, value_name = "WEEK", value_parser = week)]
    pub week: Option<Week>,
    /// Copy the week's files to this folder, too
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

fn week(text: &str) -> Result<Week, String> {
    Week::parse(text).ok_or_else(|| "expected a week of ISO 8601, as in 2023-W28".to_owned())
}

/// Writes a week's report.
pub fn report(args: &ReportArgs) -> Result<ExitCode, Fatal> {
    let config = config::load(&args.config)?;
    let tables = enrich::tables(&config.tables)?;
    let folder =
        Folder::open_for_reports(&args.data.data, args.keys.key_dir.as_deref())?.enriched_with(tables);
    let week = args.week.unwrap_or_else(|| Week::last_full(SystemClock.now()));
    let threads = crate::run::threads(args.threads);
    let made = make(&folder, &config.sources, threads, None, Wanted::Week(week))?;
    let mut places = vec![folder.root().to_owned(); made.len()];
    if let Some(out) = &args.out {
        for (made, place) in made.iter().zip(&mut places) {
            copy(&folder, made, out)?;
            place.clone_from(out);
        }
    }
    let text = if args.json {
        json_line(&serde_json::json!({ "reports": made.iter().map(as_json).collect::<Vec<_>>() }))
    } else {
        made.iter().map(|m| line(folder.root(), m) + "\n").collect()
    };
    // The reports are written, whoever reads where.
    let _read = print_bytes(text.as_bytes());
    Ok(if made.iter().any(|m| m.findings) { ExitCode::from(exit::FATAL) } else { ExitCode::SUCCESS })
}

/// Makes the reports that are due. Objects of log entries from `verified` on were just verified without a finding.
pub fn make(
    folder: &Folder,
    sources: &[Arc<DeclaredSource>],
    threads: usize,
    verified: Option<u64>,
    wanted: Wanted,
) -> Result<Vec<Made>, Fatal> {
    let (checkpoint, note) = folder.head()?;
    let (masker, has_key) = folder.masker_for_reading()?;
    let display = Display::new();
    let made = report::make(
        &Reporting {
            store: folder.store(),
            masker: has_key.then_some(&masker),
            keys: folder.log_keys()?,
            checkpoint,
            note,
            sources,
            tables: folder.tables(),
            verified,
            threads,
            now: SystemClock.now(),
            told: &display,
        },
        wanted,
    );
    display.bar.finish_and_clear();
    made
}

/// A line about a report: what it is, and where its page is.
pub fn line(root: &Path, made: &Made) -> String {
    let page = root.join(made.place.file("html"));
    let kind = match (made.status, made.report.amendment) {
        (Status::Provisional, _) => "PROVISIONAL".to_owned(),
        (_, Some(n)) => format!("amendment {n}"),
        (_, None) => "final".to_owned(),
    };
    format!("report   {} {kind}, {}", made.report.week, escape(&page.display().to_string()))
}

/// What a run says of the reports that it made.
pub fn summary(root: &Path, made: &[Made]) -> String {
    match made {
        [] => String::new(),
        [one] => line(root, one) + "\n",
        [.., newest] => {
            let newest = line(root, newest);
            let newest = newest.trim_start_matches("report").trim_start();
            format!("report   {} reports; the last is {newest}\n", count(made.len() as u64))
        }
    }
}

/// As a line of JSON has it.
pub fn as_json(made: &Made) -> serde_json::Value {
    let status = match made.status {
        Status::Final => "final",
        Status::Provisional => "provisional",
        Status::Amendment => "amendment",
    };
    serde_json::json!({
        "week": made.report.week,
        "status": status,
        "amendment": made.report.amendment,
        "new": made.new,
        "findings": made.findings,
        "tree_size": made.report.size,
        "sha256": made.report.sha256,
        "json": made.place.file("json"),
        "html": made.place.file("html"),
    })
}

/// Copies a report's files; each is whole or not there.
fn copy(folder: &Folder, made: &Made, out: &Path) -> Result<(), Fatal> {
    let wrong = |path: &Path, e: std::io::Error| {
        Fatal::new("Fatal.Output", format!("cannot write `{}`: {e}", path.display()))
    };
    fs::create_dir_all(out).map_err(|e| wrong(out, e))?;
    for suffix in ["json", "html", "checkpoint"] {
        let key = made.place.file(suffix);
        let Some(bytes) = folder.store().get(&key)? else { continue };
        let name = key.rsplit('/').next().unwrap_or(&key);
        let (path, temporary) = (out.join(name), out.join(format!(".{name}.tmp")));
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|e| wrong(&path, e))?;
    }
    Ok(())
}

/// A line that moves on a terminal, a line every few seconds otherwise; always on standard error.
struct Display {
    bar: ProgressBar,
    plain: bool,
    last: Cell<Instant>,
    rows: Cell<u64>,
}

const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

impl Display {
    fn new() -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = if plain { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, plain, last: Cell::new(Instant::now()), rows: Cell::new(0) }
    }
}

impl Folded for Display {
    fn day(&self, day: &str, rows: u64) {
        self.rows.set(self.rows.get().saturating_add(rows));
        let text = format!("report: {day} read, {} events", count(self.rows.get()));
        if !self.plain {
            self.bar.set_message(text);
            self.bar.tick();
        } else if self.last.get().elapsed() >= PLAIN_INTERVAL {
            self.last.set(Instant::now());
            tell(&text);
        }
    }
}
