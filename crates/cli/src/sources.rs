//! `keytrail sources`: what was heard of each source.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use keytrail_adapters::local::SystemClock;
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::config::duration_text;
use keytrail_pipeline::sources::{self, Account, Measures};
use keytrail_ports::Clock;

use crate::args::SourcesArgs;
use crate::config;
use crate::folder::Folder;
use crate::print;
use crate::terminal::{count, escape, json_line};

/// Shows the accounts.
pub fn sources(args: &SourcesArgs) -> Result<ExitCode, Fatal> {
    let config = config::load(&args.config)?;
    let folder = Folder::open_for_reading(&args.data.data, None)?;
    let (checkpoint, _) = folder.head()?;
    let readable = folder.readable(&checkpoint)?;
    let (list, accounts) = sources::account(folder.store(), &readable, &config.sources)?;
    let measures = accounts.measure(folder.store(), &readable, &list)?;
    let now = SystemClock.now();
    print(&if args.json {
        as_json(&list, &measures, accounts.since(), now)
    } else {
        as_text(&list, &measures, accounts.since(), now)
    });
    Ok(ExitCode::SUCCESS)
}

const HEADS: [&str; 11] = [
    "source",
    "events",
    "last event",
    "heard",
    "per day",
    "per hour",
    "silence left",
    "gaps",
    "duplicate",
    "rejected",
    "conflicts",
];

fn as_text(
    list: &[Account],
    measures: &BTreeMap<String, Measures>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let mut rows = vec![HEADS.map(str::to_owned)];
    for account in list {
        let measured = measures.get(&account.name).copied().unwrap_or_default();
        let undeclared = if account.declared { "" } else { " (undeclared)" };
        rows.push([
            format!("{}{undeclared}", escape(&account.name)),
            count(account.events),
            account.last_event.map_or("-".into(), to_the_second),
            account.last_heard.map_or("never".into(), |t| format!("{} ago", between(t, now))),
            count(measured.last_day),
            format!("{:.1}", per_hour(&measured)),
            silence(account, now),
            count(account.gaps),
            count(account.duplicates),
            count(account.rejected),
            count(measured.conflicts),
        ]);
    }
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _infallible =
                if i == 0 { write!(line, "{cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        let _infallible = writeln!(out, "{}", line.trim_end());
    }
    if let Some(since) = since {
        let _infallible = writeln!(out, "\nduplicates are counted since {}", to_the_second(since));
    }
    out
}

/// How long a source may still be silent, or for how long it has been silent too long.
fn silence(account: &Account, now: Timestamp) -> String {
    match (account.longest_silence, account.silence_left_micros(now)) {
        (None, _) => "-".into(),
        (Some(_), None) => "OVERDUE".into(),
        (Some(_), Some(left)) if left < 0 => format!("OVERDUE by {}", lasting(left)),
        (Some(_), Some(left)) => lasting(left),
    }
}

/// `2026-01-05T12:00:00Z`.
fn to_the_second(time: Timestamp) -> String {
    let text = time.to_rfc3339();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn between(earlier: Timestamp, later: Timestamp) -> String {
    lasting(later.0.saturating_sub(earlier.0).max(0))
}

/// A duration of microseconds, to the second.
fn lasting(micros: i64) -> String {
    duration_text(Duration::from_secs(micros.unsigned_abs() / 1_000_000))
}

fn per_hour(measured: &Measures) -> f64 {
    measured.last_day as f64 / 24.0
}

fn as_json(
    list: &[Account],
    measures: &BTreeMap<String, Measures>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> String {
    let sources: Vec<_> = list
        .iter()
        .map(|a| {
            let measured = measures.get(&a.name).copied().unwrap_or_default();
            serde_json::json!({
                "source": a.name,
                "dataset": a.dataset,
                "declared": a.declared,
                "events": a.events,
                "last_event": a.last_event.map(Timestamp::to_rfc3339),
                "last_heard": a.last_heard.map(Timestamp::to_rfc3339),
                "events_last_day": measured.last_day,
                "events_per_hour": per_hour(&measured),
                "longest_silence_seconds": a.longest_silence.map(|d| d.as_secs()),
                "silence_left_seconds": a.silence_left_micros(now).map(|left| left.div_euclid(1_000_000)),
                "overdue": a.is_overdue(now),
                "gaps": a.gaps,
                "duplicates": a.duplicates,
                "rejected": a.rejected,
                "conflicts": measured.conflicts,
            })
        })
        .collect();
    json_line(&serde_json::json!({
        "sources": sources,
        "duplicates_since": since.map(Timestamp::to_rfc3339),
        "now": now.to_rfc3339(),
    }))
}
