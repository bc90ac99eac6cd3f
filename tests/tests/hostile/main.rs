//! Bad input, end to end: whatever comes in, each record is counted once, what is refused is kept whole
//! with its reason, its neighbours survive, the trail verifies, and a second run adds nothing.

mod compression;
mod containers;
mod files;
mod quarantine;
mod records;
mod terminal;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::Value;

/// A CloudTrail record; `n` makes its id.
pub(crate) fn record(n: usize) -> String {
    record_at(n, "2023-07-10T11:42:20Z")
}

/// ... with that time.
pub(crate) fn record_at(n: usize, time: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","accountId":"111122223333","userName":"ann"}},"eventTime":"{time}","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"198.51.100.1","requestParameters":null,"eventID":"e-{n}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#
    )
}

/// Lines of records `from..to`.
pub(crate) fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| record(n) + "\n").collect()
}

/// The counts of a summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) read: u64,
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
}

/// A quarantine entry, as `list --json` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) code: String,
    pub(crate) input: String,
    pub(crate) offset: u64,
    pub(crate) reason: String,
}

/// `keytrail run ARGS --json`: no panic, one JSON object and no more, counts that add up.
pub(crate) fn run(trail: &Trail, args: &[&str]) -> (Option<i32>, Counts, Value) {
    let ran = trail.run(args.iter().copied().chain(["--json"]));
    counted(&ran)
}

pub(crate) fn counted(ran: &Ran) -> (Option<i32>, Counts, Value) {
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 1, "{}\n{}", ran.stdout, ran.stderr);
    let json = ran.json();
    let n = |key: &str| number(&json[key]);
    let counts = Counts {
        read: n("read"),
        accepted: n("accepted"),
        duplicates: n("duplicates"),
        rejected: n("rejected"),
    };
    assert_eq!(counts.read, counts.accepted + counts.duplicates + counts.rejected, "{counts:?}");
    let exit = if counts.rejected > 0 && counts.rejected == counts.read { 65 } else { 0 };
    assert_eq!(ran.code, Some(exit), "{counts:?}\n{}", ran.stderr);
    (ran.code, counts, json)
}

/// All entries.
pub(crate) fn entries(trail: &Trail) -> Vec<Entry> {
    let entry = |v: Value| Entry {
        id: text(&v["id"]),
        code: text(&v["code"]),
        input: text(&v["input"]),
        offset: number(&v["offset"]),
        reason: text(&v["reason"]),
    };
    trail.keytrail(["quarantine", "list", "--json"]).success().json_lines().into_iter().map(entry).collect()
}

/// The bytes of an entry, as `show --raw` gives them.
pub(crate) fn raw(trail: &Trail, entry: &Entry) -> Vec<u8> {
    let shown = trail.command(["quarantine", "show", &entry.id, "--raw"]).output().expect("keytrail starts");
    assert!(shown.status.success());
    shown.stdout
}

/// Code and bytes of all entries in the order of their places.
pub(crate) fn refused(trail: &Trail) -> Vec<(String, Vec<u8>)> {
    let mut entries = entries(trail);
    entries.sort_by(|a, b| (&a.input, a.offset).cmp(&(&b.input, b.offset)));
    entries.iter().map(|e| (e.code.clone(), raw(trail, e))).collect()
}

/// The trail verifies, and a second run of the same inputs changes nothing but what is a duplicate now.
pub(crate) fn holds(trail: &Trail, args: &[&str], first: Counts) {
    verifies(trail);
    let before = proven(trail);
    let (_, again, _) = run(trail, args);
    let duplicates = first.accepted + first.duplicates;
    assert_eq!(again, Counts { accepted: 0, duplicates, ..first });
    assert_eq!(proven(trail), before, "a second run changed the trail");
}

/// Nothing is wrong with it: at most a source left out a number, used an id twice, or made up its chain.
pub(crate) fn verifies(trail: &Trail) {
    consistent(&trail.verify_json([""; 0]).1);
}

/// As [`verifies`], of a report.
pub(crate) fn consistent(report: &Value) {
    let of_sources = ["CONFLICT", "GAP", "VARIANT"].map(Value::from);
    let findings = report["findings"].as_array().expect("a list");
    let of_chain = |f: &Value| text(&f["element"]).starts_with("keytrail.key_operation ");
    assert!(findings.iter().all(|f| of_sources.contains(&f["code"]) || of_chain(f)), "{report}");
}

/// What must not change: every file but those that can be rebuilt.
pub(crate) fn proven(trail: &Trail) -> Vec<(String, String)> {
    trail.files().into_iter().filter(|(name, _)| !name.starts_with("state/")).collect()
}

/// One input of these bytes: the counts, and code and bytes of what was refused; all of [`holds`].
pub(crate) fn ingest(bytes: impl AsRef<[u8]>, args: &[&str]) -> (Counts, Vec<(String, Vec<u8>)>) {
    let trail = Trail::new();
    let input = trail.input("input", bytes);
    let args: Vec<&str> = [name(&input)].into_iter().chain(args.iter().copied()).collect();
    let (_, counts, _) = run(&trail, &args);
    for entry in entries(&trail) {
        assert!(entry.input.ends_with("input") && !entry.reason.is_empty(), "{entry:?}");
    }
    holds(&trail, &args, counts);
    (counts, refused(&trail))
}

pub(crate) fn name(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What a command took.
pub(crate) struct Measured {
    pub(crate) ran: Ran,
    pub(crate) peak_bytes: u64,
    pub(crate) took: Duration,
}

/// Runs `keytrail ARGS` and watches its memory (`VmHWM`).
pub(crate) fn measured(trail: &Trail, args: &[&str]) -> Measured {
    let start = Instant::now();
    let child =
        trail.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("keytrail starts");
    let status = format!("/proc/{}/status", child.id());
    let watcher = thread::spawn(move || {
        let mut peak = 0;
        while let Some(kib) = fs::read_to_string(&status).ok().as_deref().and_then(peak_of) {
            peak = peak.max(kib * 1024);
            thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    let measured = Measured { ran, peak_bytes: watcher.join().expect("watched"), took: start.elapsed() };
    eprintln!("{args:?}: {:.1} MB, {:?}", measured.peak_bytes as f64 / 1e6, measured.took);
    measured
}

fn peak_of(status: &str) -> Option<u64> {
    status.lines().find(|l| l.starts_with("VmHWM:"))?.split_whitespace().nth(1)?.parse().ok()
}
