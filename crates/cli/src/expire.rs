//! `keytrail expire`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use keytrail_adapters::local::SystemClock;
use keytrail_model::{Day, Fatal};
use keytrail_pipeline::expire::{self, Plan, Rule};
use keytrail_pipeline::holds::Hold;
use keytrail_pipeline::readable::SealedObject;
use keytrail_pipeline::withhold::held;
use keytrail_ports::Clock;

use crate::args::{ConfigArgs, DataArgs, KeyArgs};
use crate::folder::Folder;
use crate::help;
use crate::rewrite::{Done, told, uid};
use crate::run::threads;
use crate::terminal::{bytes, count, escape, json_line};
use crate::{print, tell};

/// `keytrail expire`.
#[derive(Args, Debug)]
#[command(after_help = help::EXPIRE)]
pub struct ExpireArgs {
    /// Age in days, as in 400d, in place of the rules of the configuration
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub older_than: Option<u32>,
    /// ... of this dataset alone
    #[arg(long, value_name = "DATASET", requires = "older_than")]
    pub dataset: Option<String>,
    /// ... and events without a usable time, by the day of their archiving alone
    #[arg(long, requires = "older_than")]
    pub undated: bool,
    /// What is kept whatever the age: any of dataset=, from=, to= (days) and uid=, with commas between
    #[arg(long = "hold", value_name = "HOLD", value_parser = hold)]
    pub holds: Vec<Hold>,
    /// Delete what expires
    #[arg(long)]
    pub apply: bool,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Reads `400d`.
fn days(text: &str) -> Result<u32, String> {
    let days = text.strip_suffix('d').and_then(|n| n.parse().ok()).filter(|n| (1..=36_500).contains(n));
    days.ok_or_else(|| format!("`{text}` is no age, expected 1d to 36500d, as in 400d"))
}

/// Reads `dataset=D,from=DAY,to=DAY,uid=UID`.
fn hold(text: &str) -> Result<Hold, String> {
    let mut hold = Hold { reason: "--hold".into(), ..Hold::default() };
    let day = |text: &str| {
        Day::parse(text)
            .filter(|day| *day != Day::Undated)
            .ok_or_else(|| format!("`{text}` is no day, expected one as 2024-01-31"))
    };
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("dataset", name)) => hold.dataset = Some(name.to_owned()),
            Some(("from", text)) => hold.from = Some(day(text)?),
            Some(("to", text)) => hold.to = Some(day(text)?),
            Some(("uid", text)) => hold.uid = Some(uid(text)?),
            _ => return Err(format!("`{part}` holds nothing, expected dataset=, from=, to= or uid=")),
        }
    }
    Ok(hold)
}

/// Says what expires, and deletes it if told so.
pub fn expire(args: &ExpireArgs) -> Result<ExitCode, Fatal> {
    let config = crate::config::load(&args.config)?;
    let rules = match args.older_than {
        Some(days) => vec![Rule { days, dataset: args.dataset.clone(), undated: args.undated }],
        None => config.retention,
    };
    if rules.is_empty() {
        return Err(Fatal::new(
            "Usage.Retention",
            "no retention: give --older-than, or [[retention]] in keytrail.toml",
        ));
    }
    let holds = [args.holds.clone(), config.holds].concat();
    let key_dir = args.keys.key_dir.as_deref();
    if !args.apply {
        let folder = Folder::open_for_reading(&args.data.data, key_dir)?;
        let (checkpoint, _) = folder.head()?;
        let readable = folder.readable(&checkpoint)?;
        let held = &mut |object: &SealedObject, uids: &BTreeSet<_>| held(folder.store(), object, uids);
        let plan = expire::plan(&readable, &rules, &holds, SystemClock.now(), held)?;
        let (json, text) = (as_json(&plan, &holds), as_text(&plan, &holds, "would expire"));
        print(&if args.json { json_line(&json) } else { text + "nothing was deleted: --apply does it\n" });
        plan.skipped
            .iter()
            .for_each(|why| tell(&format!("warning: would be left as it is: {}", escape(why))));
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::open_for_writing_to(&args.data.data, key_dir)?;
    let first_leaf = folder.head()?.0.size;
    let plan = folder.with_trail(|trail| expire::expire(trail, &rules, &holds))?;
    let text = as_text(&plan, &holds, "expired").trim_end().to_owned();
    told(
        &folder,
        first_leaf,
        threads(None),
        args.json,
        Done { json: as_json(&plan, &holds), text, skipped: plan.skipped },
    )
}

fn as_text(plan: &Plan, holds: &[Hold], what: &str) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    for (rule, objects) in &plan.expired {
        let _infallible = writeln!(out, "{}", escape(&rule.reason));
        for object in objects {
            let _infallible = writeln!(out, "  {}", line(object));
        }
    }
    for (object, hold) in &plan.kept {
        let why = holds.get(*hold).map_or("", |h| h.reason.as_str());
        let _infallible = writeln!(out, "held ({})\n  {}", escape(why), line(object));
    }
    let all = || plan.expired.iter().flat_map(|(_, objects)| objects);
    let days: BTreeSet<&str> = all().map(|o| o.rows.day.as_str()).collect();
    let _infallible = writeln!(
        out,
        "{what}: {} objects of {} days, {} rows, {}; held: {} objects",
        count(all().count() as u64),
        count(days.len() as u64),
        count(all().map(|o| o.rows.count).fold(0, u64::saturating_add)),
        bytes(all().map(|o| o.object.bytes).fold(0, u64::saturating_add)),
        count(plan.kept.len() as u64),
    );
    out
}

fn line(object: &SealedObject) -> String {
    format!(
        "{:>12} rows {:>10}  {}",
        count(object.rows.count),
        bytes(object.object.bytes),
        escape(&object.object.key)
    )
}

fn as_json(plan: &Plan, holds: &[Hold]) -> serde_json::Value {
    let object = |o: &SealedObject| {
        serde_json::json!({
            "object": o.object.key, "leaf": o.leaf, "day": o.rows.day, "rows": o.rows.count, "bytes": o.object.bytes,
        })
    };
    let expired: Vec<_> = plan
        .expired
        .iter()
        .map(|(rule, objects)| {
            serde_json::json!({"rule": rule.reason, "objects": objects.iter().map(object).collect::<Vec<_>>()})
        })
        .collect();
    let held: Vec<_> = plan
        .kept
        .iter()
        .map(|(o, hold)| {
            let why = holds.get(*hold).map(|h| h.reason.as_str());
            serde_json::json!({"reason": why, "object": object(o)})
        })
        .collect();
    serde_json::json!({"expired": expired, "held": held, "skipped": plan.skipped})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_holds_are_read() {
        assert_eq!(days("400d"), Ok(400));
        for wrong in ["0d", "400", "d", "-1d", "36501d"] {
            assert!(days(wrong).unwrap_err().contains("is no age"), "{wrong}");
        }
        let held = hold("dataset=vault.audit,from=2024-01-01,to=2024-01-31").unwrap();
        assert_eq!((held.dataset.as_deref(), held.from), (Some("vault.audit"), Day::parse("2024-01-01")));
        assert!(hold("").unwrap_err().contains("holds nothing"));
        assert!(hold("from=undated").unwrap_err().contains("is no day"));
        assert!(hold("uid=17").unwrap_err().contains("is no uid"));
    }
}
