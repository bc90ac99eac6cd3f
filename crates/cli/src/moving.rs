//! `keytrail move`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use keytrail_adapters::local::secret;
use keytrail_model::Fatal;
use keytrail_pipeline::input::Limits;
use keytrail_pipeline::relocate::{self, Relocated, State, Store};
use keytrail_pipeline::verify::{self, Options};
use keytrail_pipeline::{LogKeys, Progress, ingest};

use crate::args::{DataArgs, KeyArgs};
use crate::folder::Folder;
use crate::place::Place;
use crate::run::threads;
use crate::s3::{self, LockArg, Opened};
use crate::terminal::{bytes, count, escape, json_line};
use crate::{help, print, tell};

/// `keytrail move`.
#[derive(Args, Debug)]
#[command(after_help = help::MOVE)]
pub struct MoveArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Where it goes: s3://BUCKET[/PREFIX]
    #[arg(long, value_name = "URL", value_parser = crate::args::place())]
    pub to: Place,
    /// Lock what has to stay, in a bucket that was made with Object Lock
    #[arg(long, value_name = "MODE", requires = "lock_days")]
    pub lock: Option<LockArg>,
    /// ... for so many days from now on
    #[arg(long, value_name = "N", requires = "lock", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub lock_days: Option<u32>,
    /// Write the private keys to this file (0600), as the secret that the functions on AWS read
    #[arg(long, value_name = "FILE")]
    pub keys_out: Option<PathBuf>,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Moves a trail.
pub fn move_trail(args: &MoveArgs) -> Result<ExitCode, Fatal> {
    let Place::S3 { bucket, prefix } = &args.to else {
        return Err(Fatal::new(
            "Usage.Target",
            format!("expected s3://BUCKET[/PREFIX] for --to, found `{}`", args.to),
        ));
    };
    let Opened { store, lock } = s3::open(bucket, prefix, args.lock.zip(args.lock_days))?;
    let to = Store { objects: &*store, lock: &*lock };
    let folder = Folder::open_for_moving(&args.data.data, args.keys.key_dir.as_deref())?;
    let target = args.to.to_string();
    let moved_to = folder.moved_to()?;
    if let Some(other) = moved_to.as_ref().filter(|other| **other != target) {
        return Err(Fatal::new(
            "Usage.Moved",
            format!(
                "`{}` was moved to `{other}`: its log goes on there, and cannot go on in `{target}` too",
                args.data.data
            ),
        ));
    }
    let done = folder.with_trail(|trail| {
        let from = Store { objects: trail.store, lock: trail.lock };
        if args.dry_run {
            let planned = match relocate::state(from, to)? {
                State::Open => relocate::plan(from.objects, to.objects)?,
                State::Done | State::Elsewhere => Relocated::default(),
            };
            return Ok((planned, false));
        }
        if moved_to.is_none() {
            recover(trail)?;
            folder.remember()?;
        }
        let state = relocate::state(from, to)?;
        if state == State::Elsewhere {
            return match moved_to {
                // It was done, and the log has gone on.
                Some(_) => Ok((Relocated::default(), true)),
                None => Err(Fatal::new(
                    "Usage.Target",
                    format!("`{target}` holds another log, or this one as it went on there: expected no log"),
                )),
            };
        }
        let copied = if state == State::Open {
            let display = Display::default();
            relocate::copy(from.objects, to.objects, trail.scratch, &|done, all| display.at(done, all))?
        } else {
            Relocated::default()
        };
        check(&folder, to)?;
        // Before the last step: whoever is killed between them goes on with the move, and with nothing else.
        folder.mark_moved(&target)?;
        relocate::hand_over(from, to)?;
        Ok((copied, state == State::Done))
    });
    let (relocated, before) = done?;
    if let Some(file) = args.keys_out.as_ref().filter(|_| !args.dry_run) {
        write_keys(&folder, file)?;
    }
    print(&if args.json { as_json(args, &relocated, before) } else { as_text(args, &relocated, before) });
    Ok(ExitCode::SUCCESS)
}

/// Finishes what a killed run began, and seals what is left: a run without inputs does so.
fn recover(trail: &keytrail_pipeline::Trail<'_>) -> Result<(), Fatal> {
    struct Quiet;
    impl Progress for Quiet {
        fn at(&self, _bytes: u64, _records: u64, _inputs: u64) {}
        fn sealed(&self, _tree_size: u64, _rows: u64) {}
    }
    let ingest = ingest::Options { threads: threads(None), format: None, limits: Limits::default() };
    let options = keytrail_pipeline::Options { ingest, object_bytes: 128_000_000 };
    // It is stopped before it compacts anything.
    keytrail_pipeline::run(trail, &[], &options, &Quiet, &AtomicBool::new(true)).map(|_| ())
}

/// Verifies the copy, down to the folder's own head.
fn check(folder: &Folder, to: Store<'_>) -> Result<(), Fatal> {
    let (known, _) = folder.head()?;
    let keys: LogKeys = folder.log_keys()?;
    let options = Options {
        keys,
        pinned: true,
        known: Some(known),
        from: None,
        to: None,
        first_leaf: 0,
        rederive: None,
        digests: None,
        threads: threads(None),
        gaps: false,
        audit_keys: Vec::new(),
        receipts: Vec::new(),
        writing: false,
    };
    let report = verify::verify(to.objects, &options)?;
    let findings: Vec<_> = report.failures().collect();
    findings.iter().for_each(|finding| tell(&format!("finding: {}", escape(&finding.to_string()))));
    match findings.len() {
        0 => Ok(()),
        n => Err(Fatal::new(
            "Fatal.ArchiveDamaged",
            format!(
                "the copy has {} findings, and was not made the trail: does `keytrail verify` find nothing in the \
                 folder?",
                count(n as u64)
            ),
        )),
    }
}

/// Writes the keys to a new file of the user's alone.
fn write_keys(folder: &Folder, file: &Path) -> Result<(), Fatal> {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if let (Some(parent), Some(root)) = (real(parent), real(folder.root()))
        && parent.starts_with(&root)
    {
        return Err(Fatal::new(
            "Usage.KeysOut",
            format!(
                "`{}` is inside the data folder: expected another place for private keys",
                file.display()
            ),
        ));
    }
    Ok(secret::replace(file, format!("{}\n", folder.private_keys()?.to_secret()).as_bytes())?)
}

fn as_json(args: &MoveArgs, done: &Relocated, before: bool) -> String {
    json_line(&serde_json::json!({
        "to": args.to.to_string(), "dry_run": args.dry_run, "moved_before": before,
        "copied": {"objects": done.copied, "bytes": done.bytes}, "there": done.there, "removed": done.removed,
        "keys_out": args.keys_out.as_ref().filter(|_| !args.dry_run).map(|file| file.display().to_string()),
    }))
}

fn as_text(args: &MoveArgs, done: &Relocated, before: bool) -> String {
    let to = escape(&args.to.to_string());
    let objects = format!("{} objects, {}", count(done.copied), bytes(done.bytes));
    let left = match done.removed {
        0 => String::new(),
        n => format!(", {} of an earlier attempt removed", count(n)),
    };
    if args.dry_run {
        return format!("{objects} would be copied to {to}, {} are there\n", count(done.there));
    }
    let mut out = if before {
        format!("the trail was moved to {to} before\n")
    } else {
        format!(
            "{objects} copied to {to}, {} were there{left}; verified: the same log, signed by its key\n",
            count(done.there)
        )
    };
    out += &format!("\nread it:   keytrail verify --data {to} --keys LOG_KEYS\n");
    out += &match &args.keys_out {
        Some(file) => {
            let file = escape(&file.display().to_string());
            format!(
                "its keys:  {file}; put it into the secret of the stack, and delete the file\n\
                 \x20 aws secretsmanager put-secret-value --secret-id SECRET --secret-string file://{file}\n"
            )
        }
        None => "its keys:  run this again with --keys-out FILE to write them as the secret of the stack\n"
            .to_owned(),
    };
    let data = escape(&args.data.data.to_string());
    out + &format!("{data} is a copy from now on: nothing writes to it, and it can be kept or deleted\n")
}

/// A line every few seconds on standard error.
#[derive(Default)]
struct Display {
    last: Mutex<Option<Instant>>,
}

const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

impl Display {
    fn at(&self, done: u64, all: u64) {
        let Ok(mut last) = self.last.lock() else { return };
        let interval = if std::io::stderr().is_terminal() { INTERVALS.0 } else { INTERVALS.1 };
        if last.get_or_insert_with(Instant::now).elapsed() >= interval {
            *last = Some(Instant::now());
            tell(&format!("move: {} of {} objects", count(done), count(all)));
        }
    }
}
