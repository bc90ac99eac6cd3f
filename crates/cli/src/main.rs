//! `keytrail`: the whole path in one process, and each stage alone.
//!
//! In: arguments. Out: what the commands print, and an exit code (`exit`): 0 good, 64 usage, 65 nothing
//! but rejected records, 70 fatal, 75 try again later, 78 configuration; `verify` alone uses 0, 1, 2.

mod alerts;
mod args;
mod config;
mod enrich;
mod event;
mod expire;
mod folder;
mod follow;
mod help;
mod index;
mod log;
mod moving;
mod notify;
mod place;
mod quarantine;
mod query;
mod reconcile;
mod report;
mod rewrite;
mod run;
mod s3;
mod search;
mod sources;
mod terminal;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use keytrail_model::Fatal;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are answers; a closed pipe while printing them is nobody's error.
            let _closed_pipe = e.print();
            return match e.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(exit::USAGE),
            };
        }
    };
    let verifying = matches!(cli.command, Command::Verify(_));
    let done = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Verify(args) => verify::verify(&args),
        Command::Explain(args) => event::explain(&args),
        Command::Compact(args) => rewrite::compact(&args),
        Command::Renormalize(args) => rewrite::renormalize(&args),
        Command::Withhold(args) => rewrite::withhold(&args),
        Command::Expire(args) => expire::expire(&args),
        Command::Conflicts(args) => event::conflicts(&args),
        Command::Alerts(args) => alerts::alerts(&args),
        Command::Quarantine(command) => quarantine::quarantine(command),
        Command::Query(args) => query::query(&args),
        Command::Report(args) => report::report(&args),
        Command::Move(args) => moving::move_trail(&args),
        Command::Export(args) => verify::export(&args),
        Command::Log(command) => log::log(command),
        Command::Sources(args) => sources::sources(&args),
        Command::Config(command) => config::config(&command),
        Command::Enrich(command) => enrich::enrich(&command),
        Command::Index(args) => index::index(&args),
        Command::Search(args) => search::search(&args),
        Command::Reindex(args) => index::reindex(&args),
        Command::Reconcile(args) => reconcile::reconcile(&args),
    };
    done.unwrap_or_else(|fatal| {
        tell(&format!("keytrail: {}", terminal::escape(&fatal.message)));
        if verifying { ExitCode::from(exit::NOT_VERIFIED) } else { exit::of(&fatal) }
    })
}

/// Exit codes (ARCHITECTURE section 6; `sysexits.h` names).
mod exit {
    use super::{ExitCode, Fatal};

    /// `verify` or `reconcile` found something.
    pub const FINDINGS: u8 = 1;
    /// `verify` could not do its work.
    pub const NOT_VERIFIED: u8 = 2;
    /// EX_USAGE.
    pub const USAGE: u8 = 64;
    /// EX_DATAERR: every record was rejected.
    pub const REJECTED: u8 = 65;
    /// EX_SOFTWARE: fatal, or a run whose closing verify has findings.
    pub const FATAL: u8 = 70;
    /// EX_TEMPFAIL: try again later.
    pub const RETRYABLE: u8 = 75;
    /// EX_CONFIG.
    pub const CONFIG: u8 = 78;

    /// The one place that maps errors to exit codes.
    pub fn of(fatal: &Fatal) -> ExitCode {
        ExitCode::from(match fatal.code.split('.').next() {
            Some("Retryable") => RETRYABLE,
            Some("Usage") => USAGE,
            Some("Config") => CONFIG,
            _ => FATAL,
        })
    }
}

/// Prints a part of a list to standard output; a reader that went away ends the program quietly, as pipes
/// do.
pub(crate) fn print(text: &str) {
    if !print_bytes(text.as_bytes()) {
        std::process::exit(0);
    }
}

/// Prints bytes to standard output; whether anybody still reads them. The exit code is for the caller.
pub(crate) fn print_bytes(bytes: &[u8]) -> bool {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => false,
        Err(e) => {
            tell(&format!("keytrail: cannot write to standard output: {e}"));
            std::process::exit(i32::from(exit::FATAL));
        }
    }
}

/// Prints a line to standard error. One that nobody can read (a closed pipe, a full disk) ends no run.
pub(crate) fn tell(line: &str) {
    let _unread = std::io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
