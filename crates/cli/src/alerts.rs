//! `keytrail alerts`, and what `run` tells its receivers.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keytrail_model::Fatal;
use keytrail_pipeline::alerts::{Alert, Engine, Options, Place, Receiver, Undelivered, preview};
use keytrail_pipeline::config::{DeclaredSource, duration_text};
use keytrail_pipeline::readable::Readable;
use keytrail_pipeline::sequence::Gap;
use keytrail_pipeline::sources::{Account, heard};
use keytrail_pipeline::verify::Report;
use keytrail_pipeline::{Finding, Summary, Trail};

use crate::args::AlertsArgs;
use crate::config;
use crate::folder::Folder;
use crate::terminal::{count, escape, json_line};
use crate::{print, tell};

/// How long a run waits at its end for receivers of which none answers.
const WAIT: Duration = Duration::from_secs(60);

/// Prints what would have been told.
pub fn alerts(args: &AlertsArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.read.data.data, args.read.keys.key_dir.as_deref())?;
    let (checkpoint, _) = folder.head()?;
    let readable = folder.readable(&checkpoint)?;
    let (masker, _) = folder.masker_for_reading()?;
    let place = place(&folder, &checkpoint.origin);
    let mut told = 0u64;
    let config = config::load(&args.config)?;
    preview(folder.store(), &masker, &readable, &config.alerts, &place, args.from, &mut |alert| {
        told += 1;
        print(&if args.read.json { as_json(alert) } else { as_text(alert) });
    })?;
    if !args.read.json {
        print(&format!("{} alerts\n", count(told)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Who is told of what a run seals, and of what.
#[derive(Default)]
pub struct Telling {
    /// How alerts are made.
    pub options: Options,
    /// Who is told.
    pub receivers: Vec<Receiver>,
    /// Who is expected to be heard.
    pub sources: Vec<Arc<DeclaredSource>>,
}

/// Tells receivers of what a run sealed and found. What cannot be told stays due for the next run; the run's
/// own outcome stands.
pub fn after_run(folder: &Folder, telling: Telling, summary: &Summary, report: &Report) {
    let gaps: Vec<_> = summary.first_gaps.iter().map(Gap::finding).collect();
    let declared = telling.sources.clone();
    telling.tell(folder, |engine, trail| {
        engine.findings(trail, report.findings.iter().chain(&gaps))?;
        engine.sealed(trail, summary.checkpoint.size)?;
        silence(&declared, engine, trail)
    });
}

/// Notes declared sources of which nothing came for longer than they may be silent.
fn silence(declared: &[Arc<DeclaredSource>], engine: &mut Engine, trail: &Trail<'_>) -> Result<(), Fatal> {
    if all_may_be_silent(declared) {
        return Ok(());
    }
    note_silent(&heard(trail, declared)?, engine, trail)
}

/// Nobody said for how long sources may be silent.
fn all_may_be_silent(declared: &[Arc<DeclaredSource>]) -> bool {
    declared.iter().all(|source| source.longest_silence.is_none())
}

fn note_silent(accounts: &[Account], engine: &mut Engine, trail: &Trail<'_>) -> Result<(), Fatal> {
    let now = trail.clock.now();
    for account in accounts {
        if let Some(longest) = account.longest_silence.filter(|_| account.is_overdue(now)) {
            let last = account.last_heard.map(|t| t.0);
            engine.silent(trail, &account.name, last, &duration_text(longest))?;
        }
    }
    Ok(())
}

/// Tells receivers of what ended a run, if it will not pass by itself.
pub fn after_failure(folder: &Folder, telling: Telling, fatal: &Fatal) {
    if fatal.code.starts_with("Fatal.") {
        telling.tell(folder, |engine, trail| engine.failed(trail, fatal));
    }
}

impl Telling {
    /// Lets `note` tell the engine, and delivers.
    fn tell(mut self, folder: &Folder, note: impl FnOnce(&mut Engine, &Trail<'_>) -> Result<(), Fatal>) {
        if self.receivers.is_empty() {
            return;
        }
        let told = folder.with_trail(|trail| {
            let size = folder.head()?.0.size;
            let place = place(folder, trail.origin);
            let mut engine = Engine::open(trail, self.options, place, &mut self.receivers, size)?;
            let noted = note(&mut engine, trail);
            let undelivered = engine.deliver(trail, WAIT)?;
            noted.map(|()| undelivered)
        });
        let undelivered = match told {
            Ok(undelivered) => undelivered,
            Err(e) => {
                tell(&format!("warning: alerts: {}; the next run tries again", escape(&e.message)));
                return;
            }
        };
        for u in undelivered {
            let why = if u.error.is_empty() { "it has not answered" } else { &u.error };
            tell(&format!(
                "warning: {} alerts could not be delivered to {}: {}; the next run tries again",
                count(u.alerts),
                escape(&u.receiver),
                escape(why),
            ));
        }
    }
}

/// How often a service looks for silent sources.
const SILENCE_INTERVAL: Duration = Duration::from_secs(60);

/// What a service tells its receivers, as it goes on.
pub struct Watch {
    telling: Telling,
    /// Where there are receivers, from the first call on.
    engine: Option<Engine>,
    silence_looked: Option<Instant>,
    /// Size of the log up to which it was told.
    seen: u64,
}

impl Watch {
    /// Nobody was told of anything yet.
    pub fn new(telling: Telling) -> Self {
        Self { telling, engine: None, silence_looked: None, seen: 0 }
    }

    fn engine(&mut self, folder: &Folder, trail: &Trail<'_>) -> Result<Option<&mut Engine>, Fatal> {
        if self.engine.is_none() && !self.telling.receivers.is_empty() {
            let size = folder.head()?.0.size;
            let (options, receivers) = (self.telling.options.clone(), &mut self.telling.receivers);
            self.engine = Some(Engine::open(trail, options, place(folder, trail.origin), receivers, size)?);
        }
        Ok(self.engine.as_mut())
    }

    /// Tells of what was sealed, and of what a verify found.
    pub fn sealed<'f>(
        &mut self,
        folder: &Folder,
        trail: &Trail<'_>,
        size: u64,
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Result<(), Fatal> {
        let Some(engine) = self.engine(folder, trail)? else { return Ok(()) };
        engine.findings(trail, findings)?;
        engine.sealed(trail, size)?;
        self.seen = size;
        Ok(())
    }

    /// Tells of what ends the service, if it will not pass by itself, and waits for receivers.
    pub fn ended(&mut self, folder: &Folder, trail: &Trail<'_>, fatal: &Fatal) -> Result<(), Fatal> {
        if let Some(engine) = self.engine(folder, trail)?
            && fatal.code.starts_with("Fatal.")
        {
            engine.failed(trail, fatal)?;
            engine.deliver(trail, WAIT)?;
        }
        Ok(())
    }

    /// Tells of a verify that could not do its work.
    pub fn not_verified(&mut self, folder: &Folder, trail: &Trail<'_>, why: &Fatal) -> Result<(), Fatal> {
        match self.engine(folder, trail)? {
            Some(engine) => engine.failed(trail, why),
            None => Ok(()),
        }
    }

    /// Hands over what is due, and looks now and then who is silent. Gives what could not be delivered.
    pub fn polled(
        &mut self,
        folder: &Folder,
        trail: &Trail<'_>,
        readable: &Readable,
    ) -> Result<Vec<Undelivered>, Fatal> {
        let is_time = self.silence_looked.is_none_or(|t| t.elapsed() >= SILENCE_INTERVAL);
        let declared = self.telling.sources.clone();
        if self.engine(folder, trail)?.is_none() {
            return Ok(Vec::new());
        }
        let Some(engine) = &mut self.engine else { return Ok(Vec::new()) };
        // What a killed process sealed, or one that could not write down its positions, was not told.
        if self.seen < readable.size {
            engine.sealed(trail, readable.size)?;
            self.seen = readable.size;
        }
        if is_time && !all_may_be_silent(&declared) {
            self.silence_looked = Some(Instant::now());
            silence(&declared, engine, trail)?;
        }
        engine.deliver(trail, Duration::ZERO)
    }
}

fn place(folder: &Folder, origin: &str) -> Place {
    Place { trail: origin.to_owned(), data: shell_word(folder.root()) }
}

/// A path as a shell takes it.
fn shell_word(path: &Path) -> String {
    let text = escape(&path.display().to_string());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn as_json(alert: &Alert) -> String {
    // A struct of strings and numbers always serialises.
    json_line(&serde_json::to_value(alert).unwrap_or_default())
}

fn as_text(alert: &Alert) -> String {
    let a = alert.content();
    let mut out = String::new();
    // Writing to a string does not fail.
    let _infallible = writeln!(
        out,
        "{}  {:<8}  {}{}",
        alert.timestamp(),
        a.severity.name(),
        a.title,
        if a.count > 1 { format!(" ({} times)", count(a.count)) } else { String::new() }
    );
    let mut line = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            let _infallible = writeln!(out, "  {name:<9} {}", escape(value));
        }
    };
    line("rule", Some(a.rule.id()));
    line(a.group.by, Some(&a.group.key));
    line("detail", a.facts.detail.as_deref());
    line("actor", a.facts.actor.as_deref());
    line("first", a.first.as_deref());
    line("last", a.last.as_deref().filter(|last| Some(*last) != a.first.as_deref()));
    line("explain", Some(&a.command));
    out
}
