//! `keytrail query` where it was compiled in: opens the trail, runs the statement, writes its rows.

use std::io::{IsTerminal, Read as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use keytrail_model::Fatal;
use keytrail_pipeline::query::{self, Format, Options, Ran};
use terminal_size::{Width, terminal_size_of};

use crate::args::DataArgs;
use crate::args::value::{cores, duration, size};
use crate::folder::Folder;
use crate::terminal::{bytes, count};
use crate::{help, print_bytes, tell};

/// `keytrail query`.
#[derive(Args, Debug)]
#[command(after_help = help::QUERY)]
pub struct QueryArgs {
    /// Statement, or `-` for standard input
    #[arg(value_name = "SQL|-", allow_hyphen_values = true)]
    pub sql: String,
    #[command(flatten)]
    pub data: DataArgs,
    /// How rows are written
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: FormatArg,
    /// Have original bytes as the column `event_original`: they may hold secrets
    #[arg(long)]
    pub raw: bool,
    /// Say how the statement would be run and which objects it would read; do not run it
    #[arg(long)]
    pub explain: bool,
    /// Memory that joins, groups and sorts may take
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    pub memory: u64,
    /// Time that the statement may take
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
}

/// Formats of rows.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum FormatArg {
    /// Columns below each other
    Table,
    /// RFC 4180, with a head
    Csv,
    /// One object a line
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Table => Self::Table,
            FormatArg::Csv => Self::Csv,
            FormatArg::Json => Self::Json,
        }
    }
}

/// Bytes of standard input that are read at most: a statement has fewer.
const STATEMENT_BYTES: u64 = 1 << 20;

/// Runs a statement.
pub fn query(args: &QueryArgs) -> Result<ExitCode, Fatal> {
    let began = Instant::now();
    let sql = statement(&args.sql)?;
    let folder = Folder::open_for_reading(&args.data.data, None)?;
    let store = folder.shared_store();
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal().then(|| terminal_size_of(&stdout)).flatten();
    let options = Options {
        format: args.format.into(),
        terminal: terminal.map(|(Width(columns), _)| columns.into()),
        raw: args.raw,
        explain: args.explain,
        memory_bytes: args.memory,
        time: args.timeout,
        threads: crate::run::threads(args.threads),
    };
    let (mut written, mut closed) = (false, false);
    let ran = folder.at_head(|readable, checkpoint, _| {
        let archive = query::archive(readable, store.clone());
        let ran = query::run(archive, &sql, &options, &mut |text| {
            written = true;
            closed = !print_bytes(text);
            !closed
        });
        match ran {
            // What is written cannot be taken back.
            Err(e) if written && e.code == "Fatal.ObjectMissing" => {
                Err(replaced(&folder, checkpoint.size, e))
            }
            ran => ran,
        }
    })?;
    if let Some(rows) = ran.rows.filter(|_| !closed) {
        tell(&summary(rows, &ran, began.elapsed()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What an object that is not there means after rows were written: a writer may have put another in its place.
fn replaced(folder: &Folder, size: u64, missing: Fatal) -> Fatal {
    match folder.head() {
        Ok((head, _)) if head.size > size => Fatal::new(
            "Retryable.Replaced",
            "archive objects were replaced while they were read, and these are not all rows: run it again",
        ),
        _ => missing,
    }
}

fn statement(given: &str) -> Result<String, Fatal> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    match std::io::stdin().lock().take(STATEMENT_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(Fatal::new("Usage.Query", format!("cannot read a statement from standard input: {e}"))),
    }
}

fn summary(rows: u64, ran: &Ran, took: Duration) -> String {
    let read = &ran.read;
    format!(
        "{} {}; read {} of {} objects, {} of {}, {:.2} s",
        count(rows),
        if rows == 1 { "row" } else { "rows" },
        count(read.objects),
        count(read.all_objects),
        bytes(read.bytes),
        bytes(read.all_bytes),
        took.as_secs_f64(),
    )
}
