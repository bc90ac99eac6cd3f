//! `keytrail verify` and `keytrail export`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use keytrail_model::{Fatal, Receipt};
use keytrail_pipeline::cloudtrail_digests::{Chain, DigestReport, Digests, PublicKeys};
use keytrail_pipeline::export::{self, RANGE, Range};
use keytrail_pipeline::verify::{self as check, Options, Rederive, Report};
use keytrail_pipeline::{Code, Finding, LogKeys, VerifierKey};

use crate::args::{ExportArgs, VerifyArgs};
use crate::folder::{Folder, read_file};
use crate::place::Place;
use crate::terminal::{bytes, count, escape};
use crate::{exit, print, print_bytes};

/// What a bundle says about itself.
const INSTRUCTIONS: &str = include_str!("bundle.md");

/// Verifies a data folder or a bundle.
pub fn verify(args: &VerifyArgs) -> Result<ExitCode, Fatal> {
    let place = args.bundle.clone().map_or_else(|| args.data.data.clone(), Place::Folder);
    let folder = Folder::open_for_reading(&place, args.key_dir.key_dir.as_deref())?;
    let keys = match &args.keys {
        Some(path) => LogKeys::parse(&text_file(path)?)
            .map_err(|e| Fatal::new("Config.Keys", format!("`{}`: {e}", path.display())))?,
        None => folder.log_keys()?,
    };
    let known = match &args.known {
        Some(path) => Some(
            keys.open(&read_file(path)?)
                .map_err(|e| Fatal::new("Config.Known", format!("`{}`: {e}", path.display())))?,
        ),
        None => None,
    };
    let range = match (&args.bundle, args.from, args.to) {
        (Some(_), None, None) => bundle_range(&folder)?,
        (_, from, to) => Range { from, to },
    };
    let (masker, has_key) = folder.masker_for_reading()?;
    let aws_keys = match &args.cloudtrail_keys {
        Some(path) => Some(
            PublicKeys::parse(&read_file(path)?)
                .map_err(|e| Fatal::new("Config.Keys", format!("`{}`: {e}", path.display())))?,
        ),
        None => None,
    };
    let digests = args.cloudtrail_digests.as_ref().map(|d| Digests { mirror: d, keys: aws_keys.as_ref() });
    let mut options = Options {
        keys,
        pinned: args.keys.is_some(),
        known,
        from: range.from,
        to: range.to,
        first_leaf: 0,
        rederive: args.rederive.then_some(Rederive { masker: &masker, has_key }),
        digests,
        threads: crate::run::threads(args.threads),
        gaps: true,
        audit_keys: audit_keys(args)?,
        receipts: receipts(args)?,
        writing: folder.in_use(),
    };
    let mut report = check::verify(folder.store(), &options)?;
    // A writer may have begun meanwhile: what it has put and not sealed yet is nobody's fault.
    let unnamed = report.findings.iter().any(|f| matches!(f.code, Code::FileUnlisted | Code::Unsealed));
    if unnamed && !options.writing && folder.in_use() {
        options.writing = true;
        report = check::verify(folder.store(), &options)?;
    }
    if args.bundle.is_some() && args.from.is_none() && args.to.is_none() && range != Range::default() {
        report
            .unchecked
            .push(format!("what is outside of the range in `{RANGE}`: the bundle's maker chose it"));
    }
    // The verdict is the exit code, whoever reads the report.
    let _read = print_bytes(if args.json { as_json(&report) } else { as_text(&report) }.as_bytes());
    Ok(if report.failures().next().is_some() { ExitCode::from(exit::FINDINGS) } else { ExitCode::SUCCESS })
}

/// Public keys of sidecars, a line each.
fn audit_keys(args: &VerifyArgs) -> Result<Vec<VerifierKey>, Fatal> {
    let Some(path) = &args.audit_keys else { return Ok(Vec::new()) };
    let text = text_file(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let keys: Vec<VerifierKey> = lines
        .map(|(n, line)| {
            let wrong = |e| Fatal::new("Config.Keys", format!("`{}` line {}: {e}", path.display(), n + 1));
            VerifierKey::parse(line.trim()).map_err(wrong)
        })
        .collect::<Result<_, _>>()?;
    if keys.is_empty() {
        return Err(Fatal::new("Config.Keys", format!("`{}` has no key", path.display())));
    }
    Ok(keys)
}

/// Receipts that callers hold, a line each: as JSON, or as the sidecar's header `Keytrail-Receipt` has them.
fn receipts(args: &VerifyArgs) -> Result<Vec<Receipt>, Fatal> {
    let Some(path) = &args.receipts else { return Ok(Vec::new()) };
    let text = text_file(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| {
            let wrong =
                |e| Fatal::new("Config.Receipts", format!("`{}` line {}: {e}", path.display(), n + 1));
            Receipt::parse(line.trim()).map_err(wrong)
        })
        .collect()
}

fn bundle_range(folder: &Folder) -> Result<Range, Fatal> {
    match folder.store().get(RANGE)? {
        None => Ok(Range::default()),
        Some(json) => {
            serde_json::from_slice(&json).map_err(|e| Fatal::new("Config.Bundle", format!("`{RANGE}`: {e}")))
        }
    }
}

fn text_file(path: &std::path::Path) -> Result<String, Fatal> {
    String::from_utf8(read_file(path)?)
        .map_err(|_| Fatal::new("Config.File", format!("`{}` is not UTF-8", path.display())))
}

/// One line: good or not, and what was proven; `trust` says what the head's signature is worth.
pub fn verdict(report: &Report, trust: &str) -> String {
    let failures = report.failures().count() as u64;
    let told = report.findings.len() as u64 - failures;
    let mut out = match failures {
        0 => "good".to_owned(),
        1 => "NOT GOOD, 1 finding".to_owned(),
        n => format!("NOT GOOD, {} findings", count(n)),
    };
    let _infallible = write!(
        out,
        ": {} objects, {} rows{}; {}",
        count(report.objects),
        count(report.rows),
        if told > 0 { format!(", {} conflicts or decisions to look at", count(told)) } else { String::new() },
        trust
    );
    out
}

/// What findings of chains are about: the dataset, then the source.
const CHAINED: &str = "keytrail.key_operation ";

/// What the head's signature is worth.
fn trust(report: &Report) -> &'static str {
    // What a source left out or did says nothing of the log.
    let of_source = |f: &Finding| f.code == Code::Gap || f.element.starts_with(CHAINED);
    let good = report.failures().all(of_source);
    match (report.authentic, report.continues) {
        (Some(true), Some(true)) => "authentic by the given keys, continues the known head",
        (Some(true), Some(false)) => "authentic by the given keys, does not continue the known head",
        (Some(true), None) => "authentic by the given keys",
        (Some(false), _) => "not authentic: the given keys do not prove this log",
        (None, _) if !good => "not consistent; key and head came from the archive itself",
        (None, Some(true)) => {
            "consistent only: the key came from the archive itself; continues the known head"
        }
        (None, _) => "consistent only: key and head came from the archive itself",
    }
}

fn as_text(report: &Report) -> String {
    let mut out = String::new();
    for finding in &report.findings {
        // Writing to a string does not fail.
        let _infallible = writeln!(out, "{}", escape(&finding.to_string()));
    }
    for what in &report.unchecked {
        let _infallible = writeln!(out, "not checked: {}", escape(what));
    }
    if let Some(digests) = &report.digests {
        let _infallible = writeln!(out, "{}", escape(&digest_line(digests)));
    }
    if let Some(chains) = &report.chains {
        let _infallible = writeln!(
            out,
            "chains of {} sources: {} epochs, {} records, {} signed heads",
            count(chains.sources),
            count(chains.epochs),
            count(chains.records),
            count(chains.heads)
        );
    }
    if let Some(c) = &report.checkpoint {
        let _infallible =
            writeln!(out, "log {}, size {}, root {}", escape(&c.origin), c.size, c.root_base64());
    }
    let _infallible = writeln!(out, "{}", verdict(report, trust(report)));
    out
}

fn digest_line(report: &DigestReport) -> String {
    let sum = |n: fn(&Chain) -> u64| count(report.chains.iter().map(n).sum());
    let buckets: BTreeSet<&str> = report.chains.iter().flat_map(|c| &c.buckets).map(String::as_str).collect();
    format!(
        "cloudtrail {} digests in {} chains of {}; {} of {} hours, {} signatures good; {} log files listed, {} ingested, {} more by name",
        count(report.digests),
        count(report.chains.len() as u64),
        buckets.into_iter().collect::<Vec<_>>().join(", "),
        sum(|c| c.hours_present),
        sum(|c| c.hours_expected),
        sum(|c| c.signed),
        count(report.listed),
        count(report.ingested),
        count(report.by_name),
    )
}

fn digest_json(report: &DigestReport) -> serde_json::Value {
    let sum = |n: fn(&Chain) -> u64| report.chains.iter().map(n).sum::<u64>();
    let chains: Vec<_> = report
        .chains
        .iter()
        .map(|c| {
            serde_json::json!({
                "trail": c.trail,
                "buckets": c.buckets,
                "from": c.window.0.to_rfc3339(),
                "to": c.window.1.to_rfc3339(),
                "hours_expected": c.hours_expected,
                "hours_present": c.hours_present,
                "backfill_digests": c.backfills,
                "signatures_good": c.signed,
            })
        })
        .collect();
    serde_json::json!({
        "digests": report.digests,
        "hours_expected": sum(|c| c.hours_expected),
        "hours_present": sum(|c| c.hours_present),
        "signatures_good": sum(|c| c.signed),
        "files_listed": report.listed,
        "files_ingested": report.ingested,
        "files_ingested_by_name": report.by_name,
        "chains": chains,
    })
}

fn as_json(report: &Report) -> String {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|f| serde_json::json!({"code": f.code.as_str(), "element": f.element, "message": f.message}))
        .collect();
    let log = report
        .checkpoint
        .as_ref()
        .map(|c| serde_json::json!({"origin": c.origin, "tree_size": c.size, "root_hash": c.root_base64()}));
    let mut all = serde_json::json!({
        "verdict": if report.failures().next().is_some() { "findings" } else { "good" },
        "trust": trust(report),
        "log": log,
        "objects": report.objects,
        "rows": report.rows,
        "findings": findings,
        "not_checked": report.unchecked,
    });
    if let Some(digests) = &report.digests {
        all["cloudtrail_digests"] = digest_json(digests);
    }
    if let Some(chains) = &report.chains {
        all["chains"] = serde_json::json!({
            "sources": chains.sources,
            "epochs": chains.epochs,
            "records": chains.records,
            "heads": chains.heads,
        });
    }
    format!("{all}\n")
}

/// Writes a bundle.
pub fn export(args: &ExportArgs) -> Result<ExitCode, Fatal> {
    let folder = Folder::open_for_reading(&args.data.data, None)?;
    let range = Range { from: args.from, to: args.to };
    let mut begun = false;
    let done = folder.at_head(|readable, checkpoint, note| {
        if begun {
            crate::folder::remove_bundle(&args.out)?;
        }
        let out = crate::folder::create_bundle(&args.out)?;
        begun = true;
        export::export(folder.store(), &out, (checkpoint, note), readable, &range)
    })?;
    crate::folder::write_instructions(&args.out, INSTRUCTIONS)?;
    print(&format!(
        "{} archive objects, {} files, {} in {}\nverify it with: keytrail verify --bundle {} --keys LOG_KEYS\n",
        count(done.objects),
        count(done.files),
        bytes(done.bytes),
        escape(&args.out.display().to_string()),
        escape(&args.out.display().to_string()),
    ));
    Ok(ExitCode::SUCCESS)
}
