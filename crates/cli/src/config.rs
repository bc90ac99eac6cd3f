//! `keytrail config`, and the configuration that other commands work with.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use keytrail_model::Fatal;
use keytrail_pipeline::config::{self, Config, FILE, Problem};
use keytrail_pipeline::tables::{self, TableProblem};

use crate::args::{ConfigArgs, ConfigCheckArgs, ConfigCommand, ConfigInitArgs};
use crate::terminal::{count, escape, json_line};
use crate::{exit, print, tell};

/// Writes or checks one.
pub fn config(command: &ConfigCommand) -> Result<ExitCode, Fatal> {
    match command {
        ConfigCommand::Init(args) => init(args),
        ConfigCommand::Check(args) => check(args),
    }
}

/// The configuration that a command works with; what is wrong in it is told, all of it.
pub fn load(args: &ConfigArgs) -> Result<Config, Fatal> {
    let path = match &args.config {
        Some(path) => path.clone(),
        None => match Path::new(FILE).try_exists() {
            Ok(false) => return Ok(Config::default()),
            _ => PathBuf::from(FILE),
        },
    };
    read(&path)?.map_err(|problems| {
        problems.iter().for_each(|p| tell(&told(&path, p)));
        Fatal::new("Config.Invalid", summary(&path, &problems))
    })
}

fn read(path: &Path) -> Result<Result<Config, Vec<Problem>>, Fatal> {
    let fatal = |e: String| Fatal::new("Config.File", format!("cannot read `{}`: {e}", path.display()));
    let text = std::fs::read(path).map_err(|e| fatal(e.to_string()))?;
    let text = String::from_utf8(text).map_err(|_| fatal("it is not UTF-8".into()))?;
    Ok(Config::parse(&text, path.parent().unwrap_or(Path::new(""))))
}

fn told(path: &Path, problem: &Problem) -> String {
    escape(&format!("{}: {problem}", path.display()))
}

fn summary(path: &Path, problems: &[Problem]) -> String {
    let many = if problems.len() == 1 { "" } else { "s" };
    format!("{} problem{many} in `{}`", problems.len(), path.display())
}

fn init(args: &ConfigInitArgs) -> Result<ExitCode, Fatal> {
    let text = config::template();
    if args.out.as_os_str() == "-" {
        print(&text);
        return Ok(ExitCode::SUCCESS);
    }
    let path = args.out.display();
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&args.out);
    let mut file = file.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => Fatal::new("Usage.OutputExists", format!("`{path}` is there already")),
        _ => Fatal::new("Fatal.Output", format!("cannot write `{path}`: {e}")),
    })?;
    file.write_all(text.as_bytes())
        .map_err(|e| Fatal::new("Fatal.Output", format!("cannot write `{path}`: {e}")))?;
    print(&format!("wrote {path}; check it with: keytrail config check {path}\n"));
    Ok(ExitCode::SUCCESS)
}

fn check(args: &ConfigCheckArgs) -> Result<ExitCode, Fatal> {
    let mut read = read(&args.file)?;
    if let Ok(config) = &read
        && let Err(problems) = tables::load(&config.tables)
    {
        // Each stands where its table is declared.
        let line = |name: &str| config.tables.iter().find(|t| t.name == name).map_or(1, |t| t.line);
        let problem = |p: TableProblem| Problem {
            line: line(&p.name),
            key: format!("tables.{}", p.name),
            message: p.to_string(),
        };
        read = Err(problems.into_iter().map(problem).collect());
    }
    if args.json {
        print(&as_json(&read));
    } else {
        print(&as_text(&args.file, &read));
    }
    Ok(if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(exit::CONFIG) })
}

fn as_text(path: &Path, read: &Result<Config, Vec<Problem>>) -> String {
    let mut out = String::new();
    match read {
        Err(problems) => {
            for problem in problems {
                // Writing to a string does not fail.
                let _infallible = writeln!(out, "{}", told(path, problem));
            }
            let _infallible = writeln!(out, "{}", escape(&summary(path, problems)));
        }
        Ok(config) => {
            for source in &config.sources {
                let _infallible = writeln!(out, "{} ({})", source.name, source.format.dataset());
                for location in &source.locations {
                    let files = location.inputs().len() as u64;
                    let many = if files == 1 { "" } else { "s" };
                    let _infallible =
                        writeln!(out, "  {:>9} file{many:<1}  {}", count(files), escape(location.text()));
                }
            }
            for table in &config.tables {
                let path = escape(&table.path.display().to_string());
                let _infallible = writeln!(out, "{} (table of {})  {path}", table.name, table.kind.name());
            }
            let sources = config.sources.len();
            let many = if sources == 1 { "" } else { "s" };
            let _infallible =
                writeln!(out, "good: {sources} source{many} in {}", escape(&path.display().to_string()));
        }
    }
    out
}

fn as_json(read: &Result<Config, Vec<Problem>>) -> String {
    json_line(&match read {
        Err(problems) => {
            let problem =
                |p: &Problem| serde_json::json!({"line": p.line, "key": p.key, "message": p.message});
            serde_json::json!({"good": false, "problems": problems.iter().map(problem).collect::<Vec<_>>()})
        }
        Ok(config) => {
            let location =
                |l: &config::Location| serde_json::json!({"location": l.text(), "files": l.inputs().len()});
            let sources: Vec<_> = config
                .sources
                .iter()
                .map(|s| {
                    serde_json::json!({
                        "source": s.name,
                        "dataset": s.format.dataset(),
                        "locations": s.locations.iter().map(location).collect::<Vec<_>>(),
                    })
                })
                .collect();
            serde_json::json!({"good": true, "sources": sources})
        }
    })
}
