//! `keytrail reconcile`.

use std::fmt::Write as _;
use std::process::ExitCode;

use keytrail_model::Fatal;
use keytrail_pipeline::index::{Difference, Indexer, Reconciled};
use serde_json::{Value, json};

use crate::args::ReconcileArgs;
use crate::folder::Folder;
use crate::index::{no_server, server, with_progress, with_server};
use crate::run::stop_on_signals;
use crate::terminal::{count, escape, json_line};
use crate::{config, exit, print};

/// Compares index and archive.
pub fn reconcile(args: &ReconcileArgs) -> Result<ExitCode, Fatal> {
    let declared = config::load(&args.config)?.index;
    let server = server(&args.server, &declared)?.ok_or_else(no_server)?;
    let key_dir = args.keys.key_dir.as_deref();
    let folder = match args.repair {
        true => Folder::open_for_indexing(&args.data.data, key_dir)?,
        false => Folder::open_for_reading(&args.data.data, key_dir)?,
    };
    let stop = stop_on_signals()?;
    let reconciled = with_progress("reconcile", |told| {
        with_server(&folder, (&server, &declared), told, |with| {
            Indexer::default().reconcile(with, args.repair, &stop)
        })
    })?;
    print(&if args.json { json_line(&as_json(&reconciled)) } else { as_text(&reconciled) });
    Ok(ExitCode::from(match reconciled.differences.iter().all(|d| d.repaired) {
        false => exit::FINDINGS,
        true if reconciled.pending > 0 => exit::RETRYABLE,
        true => return Ok(ExitCode::SUCCESS),
    }))
}

fn as_text(r: &Reconciled) -> String {
    let mut out = String::new();
    for Difference { index, hour, missing, changed, foreign, repaired } in &r.differences {
        let kinds = [(missing, "missing"), (changed, "changed"), (foreign, "of no event")];
        let parts: Vec<String> = kinds
            .into_iter()
            .filter(|((n, _), _)| *n > 0)
            .map(|((n, ids), what)| {
                let ids: Vec<String> = ids.iter().map(|id| escape(id)).collect();
                let more = if *n > ids.len() as u64 { ", ..." } else { "" };
                format!("{} {what} ({}{more})", count(*n), ids.join(", "))
            })
            .collect();
        let end = if *repaired { ": repaired" } else { "" };
        // Writing to a string does not fail.
        let _infallible = writeln!(out, "{index} {hour}  {}{end}", parts.join(", "));
    }
    let mut parts = vec![
        format!("{} events", count(r.events)),
        format!("{} documents", count(r.documents)),
        format!("{} hours", count(r.hours)),
    ];
    for (n, what) in [
        (r.differences.len() as u64, "that differ"),
        (r.differences.iter().filter(|d| d.repaired).count() as u64, "repaired"),
        (r.pending, "events not indexed yet"),
        (r.dead_letters, "dead letters"),
        (r.not_indexed, "not to be indexed"),
        (r.expired, "too old for the index"),
    ] {
        if n > 0 {
            parts.push(format!("{} {what}", count(n)));
        }
    }
    if r.differences.is_empty() && r.pending == 0 {
        parts.push("index and archive are the same".to_owned());
    }
    out + &format!("reconcile  {}\n", parts.join(", "))
}

fn as_json(r: &Reconciled) -> Value {
    let ids = |(n, ids): &(u64, Vec<String>)| json!({"count": n, "first": ids});
    let differences: Vec<Value> = r
        .differences
        .iter()
        .map(|d| {
            json!({
                "index": d.index.as_str(), "dataset": d.index.dataset(), "hour": d.hour.to_string(),
                "missing": ids(&d.missing), "changed": ids(&d.changed), "foreign": ids(&d.foreign),
                "repaired": d.repaired,
            })
        })
        .collect();
    json!({
        "events": r.events, "documents": r.documents, "hours": r.hours, "pending": r.pending,
        "dead_letters": r.dead_letters, "not_indexed": r.not_indexed, "expired": r.expired,
        "differences": differences,
    })
}
