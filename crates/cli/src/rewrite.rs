//! `keytrail compact`: archived objects are written again.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use keytrail_model::Fatal;
use keytrail_pipeline::compact::{self, Compacted};
use keytrail_pipeline::verify::{self, Report};

use crate::args::{DataArgs, KeyArgs, size};
use crate::folder::Folder;
use crate::run::{stop_on_signals, threads};
use crate::terminal::{bytes, count, escape};
use crate::{exit, print, print_bytes, tell};

/// `keytrail compact`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keytrail compact --data ./trail --dry-run       what would become one object
  keytrail compact --data ./trail                 do it

`run` does the same at its end. No event changes: `verify` puts every object that was replaced together
again from the new one. It pays where the new object is four times as large as the largest that it replaces;
reading the same logs again adds nothing, before and after.
Exit codes: 0 good, also when nothing pays, 70 fatal, a damaged object or findings, 75 try again later,
78 configuration, 64 usage.")]
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
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
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
    let report = finished(&folder, first_leaf, threads)?;
    let (checkpoint, _) = folder.head()?;
    let text = if args.json {
        let mut all = compacted_json(&done);
        all["log"] = serde_json::json!({
            "origin": checkpoint.origin, "tree_size": checkpoint.size, "root_hash": checkpoint.root_base64(),
        });
        format!("{all}\n")
    } else if done.is_nothing() {
        "nothing to compact\n".to_owned()
    } else {
        format!("{}\nverify   {}\n", compacted(&done), crate::verify::verdict(&report, "signed by this key"))
    };
    let _read = print_bytes(text.as_bytes());
    for what in &done.skipped {
        tell(&format!("warning: not compacted: {}", escape(what)));
    }
    Ok(exit_code(&report, !done.skipped.is_empty()))
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
    let report = verify::verify(
        folder.store(),
        &verify::Options {
            keys: folder.log_keys()?,
            pinned: true,
            known: None,
            from: None,
            to: None,
            first_leaf,
            rederive: None,
            threads,
            writing: true,
        },
    )?;
    for finding in report.failures() {
        tell(&format!("finding: {}", escape(&finding.to_string())));
    }
    Ok(report)
}

fn exit_code(report: &Report, left: bool) -> ExitCode {
    if left || report.failures().next().is_some() {
        ExitCode::from(exit::FATAL)
    } else {
        ExitCode::SUCCESS
    }
}
