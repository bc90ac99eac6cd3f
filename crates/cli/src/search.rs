//! `keytrail search`: events of the search index, for those without Kibana.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use keytrail_adapters::elasticsearch::Elasticsearch;
use keytrail_adapters::local::SystemClock;
use keytrail_model::printable::{GAP, cut, fit, width};
use keytrail_model::{Column, Fatal, Timestamp};
use keytrail_pipeline::index::{FieldName, Found, Search, Searching, search as find};
use keytrail_ports::Clock as _;
use serde_json::Value;
use serde_json::value::RawValue;
use terminal_size::{Width, terminal_size_of};

use crate::args::value::{Moment, moment};
use crate::args::{ConfigArgs, ServerArgs};
use crate::run::stop_on_signals;
use crate::terminal::{count, escape, json_line};
use crate::{config, exit, help, index, print_bytes, tell};

/// Events that are shown without `--limit` and `--all`.
const LIMIT: u64 = 50;

/// Columns that are shown without `--columns`.
const COLUMNS: [Column; 8] = [
    Column::Timestamp,
    Column::EventDataset,
    Column::EventAction,
    Column::EventOutcome,
    Column::UserName,
    Column::KeytrailKeyId,
    Column::SourceIp,
    Column::KeytrailUid,
];

/// How often it is looked whether somebody wants to stop, and how long a server then has to answer.
const WATCH: Duration = Duration::from_millis(50);
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// `keytrail search`.
#[derive(Args, Debug)]
#[command(after_help = help::SEARCH)]
pub struct SearchArgs {
    /// What to look for, in the query string syntax of the server; more than one: events that all of them find
    /// [default: all events]
    #[arg(value_name = "QUERY")]
    pub queries: Vec<String>,
    /// Events whose field has exactly this value, an address also as a network (source.ip=10.0.0.0/8). Of several
    /// values of one field any will do
    #[arg(long = "field", value_name = "NAME=VALUE", value_parser = field)]
    pub fields: Vec<(FieldName, String)>,
    /// Events from this time on: RFC 3339, a date, or how long ago (7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Moment>,
    /// ... and before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Moment>,
    /// Events, at most, the newest first [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// All events
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Fields to show
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', value_parser = FieldName::new)]
    pub columns: Vec<FieldName>,
    /// Print documents as JSON, one object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub config: ConfigArgs,
}

fn field(text: &str) -> Result<(FieldName, String), String> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, found `{}`", escape(text)))?;
    Ok((FieldName::new(name).map_err(|unknown| escape(&unknown.to_string()))?, value.to_owned()))
}

/// Searches.
pub fn search(args: &SearchArgs) -> Result<ExitCode, Fatal> {
    let began = Instant::now();
    let wanted = wanted(args)?;
    let declared = config::load(&args.config)?.index;
    let server = index::server(&args.server, &declared)?.ok_or_else(index::no_server)?;
    let columns = match args.columns.as_slice() {
        [] => COLUMNS.map(FieldName::of).to_vec(),
        columns => columns.to_vec(),
    };
    // Documents are shown as they are, unless somebody asks for less.
    let fields = (!args.json || !args.columns.is_empty()).then_some(columns.as_slice());
    let with = Searching {
        index: &server,
        namespace: &declared.settings.namespace,
        limit: (!args.all).then_some(args.limit.unwrap_or(LIMIT)),
        fields,
    };
    let mut closed = false;
    let mut write = |text: String| {
        closed = !print_bytes(text.as_bytes());
        !closed
    };
    let found = while_running(&server, |stop| {
        let mut table = (!args.json).then(|| Table::new(columns.clone()));
        find(&with, &wanted, stop, &mut |events| {
            write(match &mut table {
                Some(table) => table.rows(events),
                None => events.iter().map(|event| json_line(&document(event))).collect(),
            })
        })
    })?;
    if found.stopped {
        tell("stopped: these are not all events");
        return Ok(ExitCode::from(exit::RETRYABLE));
    }
    if !closed {
        if found.no_index {
            let name = with.namespace;
            let server = server.shown();
            tell(&format!(
                "warning: {server} has no events of the namespace `{name}` that this client may read"
            ));
        }
        tell(&summary(&found, began.elapsed()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is searched for.
fn wanted(args: &SearchArgs) -> Result<Search, Fatal> {
    let usage = |why: String| Fatal::new("Usage.Search", why);
    let now = SystemClock.now();
    let at = |moment: Moment| match moment {
        Moment::At(micros) => Timestamp(micros),
        Moment::Ago(ago) => {
            Timestamp(now.0.saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)))
        }
    };
    let (since, until) = (args.since.map(at), args.until.map(at));
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        let (since, until) = (since.to_rfc3339(), until.to_rfc3339());
        return Err(usage(format!("expected a time after --since, {since}, for --until, found {until}")));
    }
    let mut search = Search::between(since, until);
    for query in &args.queries {
        search.query(query).map_err(usage)?;
    }
    for (name, value) in &args.fields {
        search.field(name.clone(), value).map_err(usage)?;
    }
    Ok(search)
}

/// Does something until a signal comes, which a server that does not answer holds up for a second or two.
fn while_running<T>(
    server: &Elasticsearch,
    does: impl FnOnce(&AtomicBool) -> Result<T, Fatal>,
) -> Result<T, Fatal> {
    let stop = stop_on_signals()?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut waits = Duration::ZERO;
            while !ended.load(Ordering::Relaxed) {
                if waits >= LAST_ANSWER {
                    server.cancel();
                    waits = Duration::ZERO;
                }
                thread::park_timeout(WATCH);
                if stop.load(Ordering::Relaxed) {
                    waits += WATCH;
                }
            }
        });
        let done = does(&stop);
        ended.store(true, Ordering::Relaxed);
        watch.thread().unpark();
        done
    })
}

fn document(event: &RawValue) -> Value {
    serde_json::from_str(event.get()).unwrap_or_default()
}

/// Columns below each other, as wide as the first page's; what is written to a terminal fits into it.
struct Table {
    columns: Vec<FieldName>,
    terminal: Option<usize>,
    layout: Option<Layout>,
}

enum Layout {
    Columns(Vec<usize>),
    /// The terminal is too narrow: a column of an event a line.
    Records,
}

impl Table {
    fn new(columns: Vec<FieldName>) -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal().then(|| terminal_size_of(&stdout)).flatten();
        Self { columns, terminal: terminal.map(|(Width(columns), _)| columns.into()), layout: None }
    }

    /// The lines of some events.
    fn rows(&mut self, events: &[Box<RawValue>]) -> String {
        let cell = |document: &Value, name: &FieldName| escape(&text(document, name));
        let rows: Vec<Vec<String>> = events
            .iter()
            .map(|event| document(event))
            .map(|document| self.columns.iter().map(|name| cell(&document, name)).collect())
            .collect();
        let mut out = String::new();
        let terminal = self.terminal;
        let heads: Vec<String> = self.columns.iter().map(|name| escape(name.as_str())).collect();
        let layout = self.layout.get_or_insert_with(|| {
            let widest = |i: usize| rows.iter().chain([&heads]).map(|row| width(&row[i])).max().unwrap_or(0);
            match fit((0..heads.len()).map(widest).collect(), terminal) {
                None => Layout::Records,
                Some(widths) => {
                    line(&heads, &widths, terminal, &mut out);
                    Layout::Columns(widths)
                }
            }
        });
        for row in &rows {
            match layout {
                Layout::Columns(widths) => line(row, widths, terminal, &mut out),
                Layout::Records => {
                    for (head, cell) in heads.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
                        out.push_str(&format!("{head}  {cell}\n"));
                    }
                    out.push('\n');
                }
            }
        }
        out
    }
}

/// A line of a table.
fn line(cells: &[String], widths: &[usize], terminal: Option<usize>, out: &mut String) {
    let mut line = String::new();
    for (i, (cell, width_of)) in cells.iter().zip(widths).enumerate() {
        if i > 0 {
            line.push_str(&" ".repeat(GAP));
        }
        let cell = if terminal.is_some() { cut(cell, *width_of) } else { cell.into() };
        line.push_str(&cell);
        line.push_str(&" ".repeat(width_of.saturating_sub(width(&cell))));
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A field's value as a person reads it.
fn text(document: &Value, name: &FieldName) -> String {
    let value = name.path().into_iter().try_fold(document, |object, name| object.get(name));
    match value.unwrap_or(&Value::Null) {
        Value::Null => String::new(),
        Value::String(text) if name.is_time() => short(text).to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            texts.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A time without fractions that are zero.
fn short(time: &str) -> String {
    match time.strip_suffix('Z').filter(|time| time.contains('.')) {
        Some(time) => format!("{}Z", time.trim_end_matches('0').trim_end_matches('.')),
        None => time.to_owned(),
    }
}

fn summary(found: &Found, took: Duration) -> String {
    let events = |n: u64| format!("{} {}", count(n), if n == 1 { "event" } else { "events" });
    let what = match found.total {
        Some(total) if total.or_more && found.events <= total.events => {
            format!("{} of more than {}", count(found.events), events(total.events))
        }
        Some(total) if total.events > found.events => {
            format!("{} of {}", count(found.events), events(total.events))
        }
        _ => events(found.events),
    };
    format!("{what}, {:.2} s", took.as_secs_f64())
}
