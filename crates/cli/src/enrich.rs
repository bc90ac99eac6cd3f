//! `keytrail enrich`, and the tables that other commands work with.

use std::fmt::Write as _;
use std::process::ExitCode;

use keytrail_model::{Fatal, TableKind, Timestamp};
use keytrail_pipeline::config::DeclaredTable;
use keytrail_pipeline::tables::{self, Coverage, TableProblem};
use keytrail_pipeline::{Tables, explain};

use crate::args::{EnrichCheckArgs, EnrichCommand};
use crate::event::{fields_json, fields_text};
use crate::folder::Folder;
use crate::terminal::{count, escape, json_line};
use crate::{config, exit, print, tell};

/// Checks tables.
pub fn enrich(command: &EnrichCommand) -> Result<ExitCode, Fatal> {
    match command {
        EnrichCommand::Check(args) => check(args),
    }
}

/// The tables that a command works with; what is wrong in them is told, all of it.
pub fn tables(declared: &[DeclaredTable]) -> Result<Tables, Fatal> {
    tables::load(declared).map_err(|problems| {
        problems.iter().for_each(|p| tell(&escape(&p.to_string())));
        Fatal::new("Config.Table", summary(&problems))
    })
}

fn summary(problems: &[TableProblem]) -> String {
    let many = if problems.len() == 1 { "" } else { "s" };
    format!("{} problem{many} in tables", problems.len())
}

fn check(args: &EnrichCheckArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.tables;
    let tables = match tables::load(&declared) {
        Ok(tables) => tables,
        Err(problems) => {
            print(&if args.json { problems_json(&problems) } else { problems_text(&problems) });
            return Ok(ExitCode::from(exit::CONFIG));
        }
    };
    let folder = args.data.as_ref().map(|data| Folder::open_for_reading(data, None)).transpose()?;
    let coverage = match &folder {
        Some(folder) if args.event.is_none() => {
            Some(folder.at_head(|readable, _, _| tables::coverage(folder.store(), readable, &tables))?)
        }
        _ => None,
    };
    let event = match (&folder, &args.event) {
        (Some(folder), Some(uid)) => {
            let found =
                folder.at_head(|readable, head, _| explain::explain(folder.store(), readable, head, uid))?;
            Some((found.event.uid, tables::enriched(&found.event, &tables)))
        }
        _ => None,
    };
    if args.json {
        let mut all = serde_json::json!({"good": true, "tables": tables_json(&tables, &declared)});
        if let Some(coverage) = &coverage {
            all["coverage"] = coverage.iter().map(coverage_json).collect();
        }
        if let Some((uid, columns)) = &event {
            all["event"] = serde_json::json!({"uid": uid.to_string(), "fields": fields_json(columns)});
        }
        print(&json_line(&all));
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = tables_text(&tables, &declared);
    for Coverage { kind, named, known } in coverage.iter().flatten() {
        let what = what(*kind);
        let share = if *named == 0 { 0.0 } else { *known as f64 * 100.0 / *named as f64 };
        // Writing to a string does not fail.
        let _infallible =
            writeln!(out, "{what:<12}{:>12} of {:>12} events ({share:.1} %)", count(*known), count(*named));
    }
    if let Some((uid, columns)) = &event {
        let _infallible = writeln!(out, "event {uid}");
        out.push_str(&fields_text(columns, &|_| String::new()));
        if columns.is_empty() {
            out.push_str("  no table says anything of it\n");
        }
    }
    let many = if declared.len() == 1 { "" } else { "s" };
    let _infallible = writeln!(out, "good: {} table{many}", declared.len());
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// What events name that tables of a kind know.
fn what(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Accounts => "accounts",
        TableKind::Geoip => "places",
        TableKind::Keys => "keys",
        TableKind::Networks => "networks",
        TableKind::Principals => "principals",
    }
}

fn tables_text(tables: &Tables, declared: &[DeclaredTable]) -> String {
    let mut out = String::new();
    let _infallible =
        writeln!(out, "{:<16}{:<12}{:>10}  {:<18}{:<34}file", "table", "kind", "rows", "sha256", "valid");
    for (table, declared) in tables.iter().zip(declared) {
        let (from, to) = table.span();
        let bound = |t: Option<Timestamp>| t.map_or_else(|| "..".into(), |t| t.to_rfc3339()[..10].to_owned());
        let span = if from.is_none() && to.is_none() {
            "always".into()
        } else {
            format!("{} to {}", bound(from), bound(to))
        };
        let _infallible = writeln!(
            out,
            "{:<16}{:<12}{:>10}  {:<18}{span:<34}{}",
            table.reference.name,
            table.reference.kind.name(),
            count(table.rows()),
            &table.reference.sha256.to_hex()[..16],
            escape(&declared.path.display().to_string())
        );
        if !table.ignored.is_empty() {
            let ignored: Vec<_> = table.ignored.iter().map(|c| escape(c)).collect();
            let _infallible = writeln!(out, "{:<16}not read: {}", "", ignored.join(", "));
        }
    }
    out
}

fn tables_json(tables: &Tables, declared: &[DeclaredTable]) -> serde_json::Value {
    let one = |(table, declared): (&keytrail_pipeline::Table, &DeclaredTable)| {
        let (from, to) = table.span();
        serde_json::json!({
            "name": table.reference.name,
            "kind": table.reference.kind.name(),
            "sha256": table.reference.sha256,
            "rows": table.rows(),
            "valid_from": from.map(Timestamp::to_rfc3339),
            "valid_to": to.map(Timestamp::to_rfc3339),
            "columns_not_read": table.ignored,
            "path": declared.path.display().to_string(),
        })
    };
    tables.iter().zip(declared).map(one).collect()
}

fn coverage_json(coverage: &Coverage) -> serde_json::Value {
    serde_json::json!({
        "kind": coverage.kind.name(), "events_naming": coverage.named, "events_known": coverage.known,
    })
}

fn problems_text(problems: &[TableProblem]) -> String {
    let lines: String = problems.iter().map(|p| format!("{}\n", escape(&p.to_string()))).collect();
    format!("{lines}{}\n", summary(problems))
}

fn problems_json(problems: &[TableProblem]) -> String {
    let one = |p: &TableProblem| {
        serde_json::json!({
            "table": p.name, "path": p.path.display().to_string(), "row": p.problem.row, "line": p.problem.line,
            "column": Some(&p.problem.column).filter(|c| !c.is_empty()), "message": p.problem.message,
        })
    };
    json_line(&serde_json::json!({"good": false, "problems": problems.iter().map(one).collect::<Vec<_>>()}))
}
