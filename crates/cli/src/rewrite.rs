//! `keytrail compact`, `renormalize` and `withhold`: archived objects are written again.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use keytrail_model::{Fatal, Uid};
use keytrail_pipeline::compact::{self, Compacted};
use keytrail_pipeline::renormalize::{self, Selected};
use keytrail_pipeline::verify::Report;
use keytrail_pipeline::withhold;

use crate::args::value::{cores, size, time};
use crate::args::{ConfigArgs, DataArgs, KeyArgs};
use crate::folder::Folder;
use crate::help;
use crate::run::{stop_on_signals, threads, verify_new};
use crate::terminal::{bytes, count, escape};
use crate::{exit, print, print_bytes, tell};

/// `keytrail compact`.
#[derive(Args, Debug)]
#[command(after_help = help::COMPACT)]
pub struct CompactArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Size up to which objects are put together
    #[arg(long, value_name = "SIZE", default_value = "128MB", value_parser = size)]
    pub object_size: u64,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
}

/// `keytrail renormalize`.
#[derive(Args, Debug)]
#[command(after_help = help::RENORMALIZE)]
pub struct RenormalizeArgs {
    /// `event.dataset`, e.g. aws.cloudtrail
    #[arg(long, value_name = "DATASET")]
    pub dataset: String,
    /// Archive objects with events from this time on (RFC 3339, or a date)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// ... and before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
}

/// `keytrail withhold`.
#[derive(Args, Debug)]
#[command(after_help = help::WITHHOLD)]
pub struct WithholdArgs {
    /// `keytrail_uid` of each event, in full
    #[arg(required = true, value_name = "UID", value_parser = uid)]
    pub uids: Vec<Uid>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub config: ConfigArgs,
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Print nothing on standard output but one JSON object
    #[arg(long)]
    pub json: bool,
    /// Cores to use [default: all]
    #[arg(long, value_name = "N", value_parser = cores)]
    pub threads: Option<usize>,
}

pub fn uid(text: &str) -> Result<Uid, String> {
    Uid::from_hex(text).ok_or_else(|| format!("`{text}` is no uid, expected 40 lower-case hex digits"))
}

/// Compacts a data folder, or says what would be done.
pub fn compact(args: &CompactArgs) -> Result<ExitCode, Fatal> {
    if args.dry_run {
        return plan(args);
    }
    let folder = Folder::open_for_writing_to(&args.data.data, args.keys.key_dir.as_deref())?;
    let (stop, threads) = (stop_on_signals()?, threads(args.threads));
    let (first_leaf, done) =
        folder.with_trail(|trail| compact::compact(trail, args.object_size, threads, &stop))?;
    let text = if done.is_nothing() { "nothing to compact".to_owned() } else { compacted(&done) };
    let done = Done { json: compacted_json(&done), text, skipped: done.skipped };
    told(&folder, first_leaf, threads, args.json, done)
}

/// Derives columns again, or says of what.
pub fn renormalize(args: &RenormalizeArgs) -> Result<ExitCode, Fatal> {
    let selected = Selected { dataset: args.dataset.clone(), from: args.from, to: args.to };
    if args.dry_run {
        let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
        let (checkpoint, _) = folder.head()?;
        let objects = renormalize::plan(&folder.readable(&checkpoint)?, &selected)?;
        let rows = objects.iter().map(|(_, o)| o.rows.count).fold(0, u64::saturating_add);
        print(&if args.json {
            format!("{}\n", serde_json::json!({"objects": objects.len(), "rows": rows}))
        } else {
            format!(
                "{} objects with {} rows have rows of other normalizers\n",
                count(objects.len() as u64),
                count(rows)
            )
        });
        return Ok(ExitCode::SUCCESS);
    }
    let folder = Folder::open_for_writing_to(&args.data.data, args.keys.key_dir.as_deref())?;
    let (stop, threads) = (stop_on_signals()?, threads(args.threads));
    let (first_leaf, done) =
        folder.with_trail(|trail| renormalize::renormalize(trail, &selected, threads, &stop))?;
    let by: Vec<String> = done.rows.iter().map(|(v, n)| format!("{} of {}", count(*n), escape(v))).collect();
    let text = if by.is_empty() {
        format!("nothing to derive again; {} rows keep what an older normalizer derived", count(done.kept))
    } else {
        format!(
            "{} objects replaced; rows derived again: {}; {} keep what an older normalizer derived",
            count(done.objects),
            by.join(", "),
            count(done.kept)
        )
    };
    let json = serde_json::json!({
        "objects": done.objects, "rows": done.rows, "kept": done.kept, "skipped": done.skipped,
    });
    told(&folder, first_leaf, threads, args.json, Done { json, text, skipped: done.skipped })
}

/// Takes original bytes out of the archive.
pub fn withhold(args: &WithholdArgs) -> Result<ExitCode, Fatal> {
    let holds = crate::config::load(&args.config)?.holds;
    let folder = Folder::open_for_writing_to(&args.data.data, args.keys.key_dir.as_deref())?;
    let threads = threads(args.threads);
    let uids = args.uids.iter().copied().collect();
    let (first_leaf, done) =
        folder.with_trail(|trail| withhold::withhold(trail, &uids, &args.reason, &holds, threads))?;
    let text = match done.rows {
        0 => "withheld already".to_owned(),
        n => format!("{} events withheld, {} objects replaced", count(n), count(done.objects)),
    };
    let json = serde_json::json!({"events": done.rows, "objects": done.objects, "skipped": done.skipped});
    told(&folder, first_leaf, threads, args.json, Done { json, text, skipped: done.skipped })
}

/// What a command did.
pub struct Done {
    /// For programs.
    pub json: serde_json::Value,
    /// For people.
    pub text: String,
    /// What was left as it is, and why.
    pub skipped: Vec<String>,
}

/// Keeps the head, verifies what is new, and tells of it.
pub fn told(
    folder: &Folder,
    first_leaf: u64,
    threads: usize,
    as_json: bool,
    mut done: Done,
) -> Result<ExitCode, Fatal> {
    let report = finished(folder, first_leaf, threads)?;
    let (checkpoint, _) = folder.head()?;
    let text = if as_json {
        done.json["log"] = serde_json::json!({
            "origin": checkpoint.origin, "tree_size": checkpoint.size, "root_hash": checkpoint.root_base64(),
        });
        format!("{}\n", done.json)
    } else {
        format!("{}\nverify   {}\n", done.text, crate::verify::verdict(&report, "signed by this key"))
    };
    // What was done and its exit code stand, whoever reads it.
    let _read = print_bytes(text.as_bytes());
    for what in &done.skipped {
        tell(&format!("warning: left as it is: {}", escape(what)));
    }
    for finding in report.failures() {
        tell(&format!("finding: {}", escape(&finding.to_string())));
    }
    let bad = !done.skipped.is_empty() || report.failures().next().is_some();
    Ok(if bad { ExitCode::from(exit::FATAL) } else { ExitCode::SUCCESS })
}

fn plan(args: &CompactArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, args.keys.key_dir.as_deref())?;
    let (checkpoint, _) = folder.head()?;
    let merges = compact::plan(&folder.readable(&checkpoint)?, args.object_size);
    let sum = |of: &dyn Fn(&compact::Merge) -> u64| merges.iter().map(of).sum::<u64>();
    let objects = |m: &compact::Merge| m.inputs.len() as u64;
    let size = |m: &compact::Merge| m.inputs.iter().map(|o| o.object.bytes).sum::<u64>();
    if args.json {
        let list: Vec<_> = merges
            .iter()
            .map(|m| {
                let leaves: Vec<u64> = m.inputs.iter().map(|o| o.leaf).collect();
                serde_json::json!({
                    "dataset": m.partition.dataset, "day": m.partition.day.to_string(),
                    "objects": objects(m), "bytes": size(m), "leaves": leaves,
                })
            })
            .collect();
        print(&format!("{}\n", serde_json::json!({ "merges": list })));
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    for m in &merges {
        // Writing to a string does not fail.
        let _infallible = writeln!(
            out,
            "{:>8} objects {:>10}  {}",
            count(objects(m)),
            bytes(size(m)),
            escape(&m.partition.prefix())
        );
    }
    let _infallible = if merges.is_empty() {
        writeln!(out, "nothing to compact")
    } else {
        writeln!(
            out,
            "would make {} objects of {}, {}",
            count(merges.len() as u64),
            count(sum(&objects)),
            bytes(sum(&size))
        )
    };
    print(&out);
    Ok(ExitCode::SUCCESS)
}

/// One line on a compaction.
pub fn compacted(done: &Compacted) -> String {
    let copies = match done.dropped {
        0 => String::new(),
        n => format!(", {} copies left out", count(n)),
    };
    format!(
        "{} objects, {}, became {}, {}; {} rows{copies}",
        count(done.replaced.0),
        bytes(done.replaced.1),
        count(done.made.0),
        bytes(done.made.1),
        count(done.rows),
    )
}

/// A compaction for programs.
pub fn compacted_json(done: &Compacted) -> serde_json::Value {
    serde_json::json!({
        "replaced": {"objects": done.replaced.0, "bytes": done.replaced.1},
        "made": {"objects": done.made.0, "bytes": done.made.1},
        "rows": done.rows,
        "dropped": done.dropped,
        "skipped": done.skipped,
    })
}

/// Keeps the head, and verifies what is new.
fn finished(folder: &Folder, first_leaf: u64, threads: usize) -> Result<Report, Fatal> {
    folder.remember()?;
    verify_new(folder, first_leaf, threads)
}
