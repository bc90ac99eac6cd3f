//! `keytrail index` and `reindex`, and the search index that `run` keeps.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressStyle};
use keytrail_adapters::elasticsearch::{Credentials, Elasticsearch};
use keytrail_adapters::local::{SystemClock, secret};
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::config::DeclaredIndex;
use keytrail_pipeline::index::{self, Indexed, Indexer, Indexing, Installed, Told};
use keytrail_ports::Clock;

use crate::args::{IndexArgs, IndexCommand, IndexServerArgs, ReindexArgs, ServerArgs};
use crate::folder::{Folder, read_file};
use crate::run::stop_on_signals;
use crate::terminal::{count, escape, json_line};
use crate::{config, exit, print, tell};

/// Catches up, or prepares a server.
pub fn index(command: &IndexArgs) -> Result<ExitCode, Fatal> {
    match &command.command {
        Some(IndexCommand::Setup(args)) => setup(args),
        Some(IndexCommand::Expire(args)) => expire(args),
        None => catch_up(command),
    }
}

/// The server that the command line names, else the configuration.
pub fn server(args: &ServerArgs, declared: &DeclaredIndex) -> Result<Option<Elasticsearch>, Fatal> {
    let Some(url) = args.elasticsearch.as_ref().or(declared.url.as_ref()) else { return Ok(None) };
    let config = |e: String| Fatal::new("Config.Index", e);
    let credentials = match &declared.credentials {
        None => Credentials::None,
        Some(path) => {
            let place = path.display();
            let bytes = secret::read(path)?.ok_or_else(|| config(format!("`{place}` is not there")))?;
            let text = String::from_utf8(bytes).map_err(|_| config(format!("`{place}` is no text")))?;
            // No Base64 has a colon.
            match text.trim().split_once(':') {
                Some((user, password)) => Credentials::Basic { user: user.into(), password: password.into() },
                None => Credentials::ApiKey(text.trim().into()),
            }
        }
    };
    let ca = declared.ca.as_ref().map(|path| read_file(path)).transpose()?;
    let server = Elasticsearch::new(url, &credentials, ca.as_deref(), declared.timeout);
    server.map(Some).map_err(|e| config(format!("the search index: {e}")))
}

/// Indexes what the sealed log holds and the index has not.
pub fn follow_log(
    indexer: &mut Indexer,
    folder: &Folder,
    (server, declared): (&Elasticsearch, &DeclaredIndex),
    told: &dyn Told,
    stop: &AtomicBool,
) -> Result<Indexed, Fatal> {
    with_server(folder, (server, declared), told, |with| indexer.index(with, stop))
}

/// Calls `work` with what indexing needs.
pub fn with_server<T>(
    folder: &Folder,
    (server, declared): (&Elasticsearch, &DeclaredIndex),
    told: &dyn Told,
    work: impl FnOnce(&Indexing<'_>) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    let (masker, has_key) = folder.masker_for_reading()?;
    work(&Indexing {
        store: folder.store(),
        masker: has_key.then_some(&masker),
        index: server,
        settings: &declared.settings,
        now: SystemClock.now(),
        size: &|| folder.head().map(|(checkpoint, _)| checkpoint.size),
        told,
    })
}

/// [`follow_log`] once, with progress on a terminal.
pub fn follow_once(
    folder: &Folder,
    server: (&Elasticsearch, &DeclaredIndex),
    stop: &AtomicBool,
) -> Result<Indexed, Fatal> {
    with_progress("index", |told| follow_log(&mut Indexer::default(), folder, server, told, stop))
}

/// Calls `work` with a bar on a terminal.
pub fn with_progress<T>(name: &str, work: impl FnOnce(&dyn Told) -> T) -> T {
    let display = Display::new(name);
    let done = work(&display);
    display.bar.finish_and_clear();
    done
}

fn catch_up(args: &IndexArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.index;
    let server = server(&args.server, &declared)?.ok_or_else(no_server)?;
    let folder = Folder::open_for_indexing(&args.data.data, args.keys.key_dir.as_deref())?;
    let stop = stop_on_signals()?;
    let indexed = follow_once(&folder, (&server, &declared), &stop)?;
    Ok(end(&indexed, args.json))
}

/// Indexes archived events once more.
pub fn reindex(args: &ReindexArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.index;
    let server = server(&args.server, &declared)?.ok_or_else(no_server)?;
    let folder = Folder::open_for_indexing(&args.data.data, args.keys.key_dir.as_deref())?;
    let stop = stop_on_signals()?;
    let times = (args.from.map(Timestamp), args.to.map(Timestamp));
    let indexed = with_progress("reindex", |told| {
        with_server(&folder, (&server, &declared), told, |with| {
            Indexer::default().reindex(with, times, &stop)
        })
    })?;
    Ok(end(&indexed, args.json))
}

/// Prints what was done; the exit code.
fn end(indexed: &Indexed, json: bool) -> ExitCode {
    print(&if json { json_line(&as_json(indexed)) } else { as_text(indexed) });
    warn(indexed);
    let all = indexed.pending == 0 && indexed.parked.is_none();
    if all { ExitCode::SUCCESS } else { ExitCode::from(exit::RETRYABLE) }
}

/// There is nobody to talk to.
pub fn no_server() -> Fatal {
    Fatal::new(
        "Usage.Index",
        "no search index: give --elasticsearch URL, or `url` in [index] of keytrail.toml",
    )
}

fn expire(args: &IndexServerArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.index;
    let server = server(&args.server, &declared)?.ok_or_else(no_server)?;
    if declared.settings.retention.is_none() {
        return Err(Fatal::new(
            "Usage.Index",
            "no index expires: [index] of keytrail.toml has no `retention`",
        ));
    }
    let expired = index::expire(&server, &declared.settings, SystemClock.now(), args.dry_run)?;
    let what = if args.dry_run { "would be deleted" } else { "deleted" };
    let lines: String = expired.iter().map(|name| format!("{name} {what}\n")).collect();
    print(if lines.is_empty() { "no index is that old\n" } else { &lines });
    Ok(ExitCode::SUCCESS)
}

fn setup(args: &IndexServerArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.index;
    let server = server(&args.server, &declared)?.ok_or_else(no_server)?;
    let is = index::identify(&server)?;
    let installed = index::install(&server, is.kind, &declared.settings, args.dry_run)?;
    let mut out = format!("{} {:?} {}\n", server.shown(), is.kind, escape(&is.version));
    for Installed { name, before, now, same } in installed.parts {
        let what = match (&before, same, args.dry_run) {
            (_, true, _) => "as it should be",
            (None, _, false) => "installed",
            (None, _, true) => "would be installed",
            (Some(_), _, false) => "replaced",
            (Some(_), _, true) => "would be replaced",
        };
        // Writing to a string does not fail.
        let _infallible = writeln!(out, "{name:<22} {what}");
        if !same {
            let text = |value| serde_json::to_string_pretty(value).unwrap_or_default();
            let before = before.as_ref().map(text).unwrap_or_default();
            for line in difference(&before, &text(&now)) {
                let _infallible = writeln!(out, "  {}", escape(&line));
            }
        }
    }
    if declared.settings.retention.is_some() && installed.policy.is_none() {
        out.push_str(
            "lifecycle              not on this server: `keytrail index expire` deletes old indices\n",
        );
    }
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// Lines of the one that the other has not, in their order.
fn difference(before: &str, now: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), now.lines().collect());
    if old.is_empty() {
        return vec![format!("+ {} lines", new.len())];
    }
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {}", line.trim()));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {}", line.trim()));
    gone.chain(come).collect()
}

/// A line of a run's summary.
pub fn as_text(i: &Indexed) -> String {
    let dead: u64 = i.dead_letters.values().sum();
    let mut parts = vec![format!("{} new", count(i.created))];
    for (n, what) in [
        (i.replaced, "replaced"),
        (i.duplicates, "there already"),
        (dead, "dead letters"),
        (i.expired, "too old for the index"),
        (i.not_indexed, "not to be indexed"),
        (i.pending, "waiting"),
    ] {
        if n > 0 {
            parts.push(format!("{} {what}", count(n)));
        }
    }
    if i.parked.is_some() && i.pending == 0 {
        parts.push("the rest waits".to_owned());
    }
    format!("index    {}\n", parts.join(", "))
}

/// The same for programs.
pub fn as_json(i: &Indexed) -> serde_json::Value {
    serde_json::json!({
        "created": i.created, "replaced": i.replaced, "duplicates": i.duplicates,
        "dead_letters": i.dead_letters, "expired": i.expired,
        "not_indexed": i.not_indexed, "pending": i.pending,
        "parked": i.parked.as_ref().map(|(code, reason)| serde_json::json!({"code": code, "reason": reason})),
        "cursor": i.cursor,
    })
}

/// Says what a person has to know.
pub fn warn(i: &Indexed) {
    if let Some((code, reason)) = &i.parked {
        tell(&format!(
            "warning: not all is indexed yet ({code}): {}; it is caught up on by itself",
            escape(reason)
        ));
    }
    let dead: u64 = i.dead_letters.values().sum();
    if dead > 0 {
        let kinds: Vec<String> =
            i.dead_letters.iter().map(|(kind, n)| format!("{} {}", escape(kind), count(*n))).collect();
        tell(&format!(
            "warning: the index refused {} documents ({}): they are in keytrail-deadletter-*, and in the archive",
            count(dead),
            kinds.join(", ")
        ));
    }
}

/// Progress on a terminal.
struct Display {
    bar: ProgressBar,
}

impl Display {
    fn new(name: &str) -> Self {
        let bar = ProgressBar::new(0).with_prefix(name.to_owned());
        let style = ProgressStyle::with_template("{prefix:9}{human_pos} of {human_len} rows {wide_bar}");
        // The template is a constant that parses.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }
}

impl Told for Display {
    fn at(&self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
    }
}
