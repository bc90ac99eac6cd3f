//! External extensions: the order of phases, shutdown and its reasons.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{example, function, harness, lines, until};
use keytrail_lambda_harness::{Function, Harness};

struct Test {
    _folder: tempfile::TempDir,
    log: PathBuf,
    harness: Harness,
}

fn test(change: impl FnOnce(Function) -> Function) -> Test {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let function =
        function("f").extension(example("extension")).variable("INIT_LOG", log.display().to_string());
    Test { harness: harness(change(function)), log, _folder: folder }
}

impl Test {
    /// Waits until the extension wrote so many lines: it is told at the same time as the function.
    fn lines(&self, count: usize) -> Vec<String> {
        until("the extension", || lines(&self.log).len() >= count);
        lines(&self.log)
    }
}

fn gone(pid: i32) -> bool {
    // A zombie is gone as well.
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    status.is_err() || status.is_ok_and(|s| s.contains(") Z "))
}

#[test]
fn extensions_start_first_and_hear_of_each_invocation() {
    let test = test(|f| f);
    let first = test.harness.invoke("f", "{}").unwrap();
    let second = test.harness.invoke("f", "{}").unwrap();
    assert!(first.log.contains("init of the extension\ninit of the function\n"), "{}", first.log);
    // Extensions do not see `_HANDLER`.
    let expected = [
        "extension true".to_owned(),
        "runtime bootstrap".to_owned(),
        format!("invoke {}", first.request_id),
        format!("invoke {}", second.request_id),
    ];
    assert_eq!(test.lines(4), expected);
}

#[test]
fn retired_the_extension_is_told_and_goes() {
    let test = test(|f| f);
    test.harness.invoke("f", "{}").unwrap();
    let pids = test.harness.idle("f").unwrap()[0].0.clone();
    assert_eq!(pids.len(), 2);
    let log = test.harness.retire("f").unwrap();
    assert_eq!(log, "the extension goes\n");
    assert_eq!(test.lines(4)[3], "shutdown spindown");
    until("the processes to end", || pids.iter().all(|pid| gone(*pid)));
    assert!(test.harness.invoke("f", "{}").unwrap().is_cold());
}

#[test]
fn an_extension_that_stays_is_killed() {
    let test = test(|f| f.variable("STAY", "yes"));
    test.harness.invoke("f", "{}").unwrap();
    let pids = test.harness.idle("f").unwrap()[0].0.clone();
    let begun = std::time::Instant::now();
    test.harness.retire("f").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    until("the processes to end", || pids.iter().all(|pid| gone(*pid)));
}

#[test]
fn without_shutdown_there_is_no_event() {
    let test = test(|f| f.variable("EVENTS", "INVOKE"));
    test.harness.invoke("f", "{}").unwrap();
    let pids = test.harness.idle("f").unwrap()[0].0.clone();
    assert_eq!(test.harness.retire("f").unwrap(), "");
    until("the processes to end", || pids.iter().all(|pid| gone(*pid)));
    assert_eq!(test.lines(3).len(), 3);
}

#[test]
fn a_crash_and_a_timeout_have_their_reasons() {
    let test = test(|f| f.timeout(Duration::from_secs(1)));
    let crashed = test.harness.invoke("f", r#"{"op":"exit","code":1}"#).unwrap();
    assert_eq!(crashed.error_type().unwrap(), "Runtime.ExitError");
    assert!(crashed.log.contains("the extension goes\n"), "{}", crashed.log);
    assert_eq!(test.lines(4)[3], "shutdown failure");
    let late = test.harness.invoke("f", r#"{"op":"hang"}"#).unwrap();
    assert_eq!(late.error_type().unwrap(), "Sandbox.Timedout");
    assert_eq!(test.lines(8)[7], "shutdown timeout");
}

#[test]
fn an_internal_extension_gives_the_runtime_time_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("goodbye");
    let harness = harness(function("f").variable("GRACEFUL", path.display().to_string()));
    harness.invoke("f", "{}").unwrap();
    assert!(!harness.invoke("f", "{}").unwrap().is_cold());
    let begun = std::time::Instant::now();
    harness.retire("f").unwrap();
    assert_eq!(lines(&path), ["goodbye"]);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn an_extension_that_ends_fails_the_init_phase() {
    let test = test(|f| f.variable("GO", "yes"));
    let failed = test.harness.invoke("f", "{}").unwrap();
    assert_eq!(failed.error_type().unwrap(), "Extension.Crash");
    let message = format!("RequestId: {} Error: exit status 7", failed.request_id);
    assert_eq!(failed.json()["errorMessage"], message);
}
