//! `keytrail query` as a user runs it: on trails that `keytrail run` made, with this build of the command.

// The helpers here are tests too, which clippy.toml lets expect; clippy knows only marked functions.
#![allow(clippy::expect_used)]

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A data folder and its keys.
struct Trail(TempDir);

impl Trail {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn keytrail(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keytrail"));
        command
            .args(args)
            .env("KEYTRAIL_DATA", self.path("data"))
            .env("KEYTRAIL_KEY_DIR", self.path("keys"))
            .stdin(Stdio::null());
        command
    }

    /// Takes in an event a day, so many days from 2023-01-01 on.
    fn with_days(self, days: i64) -> Self {
        let first = 19_358;
        let event = |day: i64| {
            let name = keytrail_model::time::day_name(first + day);
            format!(
                "{{\"eventVersion\":\"1.08\",\"userIdentity\":{{\"type\":\"IAMUser\",\"userName\":\"user {day}\"}},\
                 \"eventTime\":\"{name}T10:00:00Z\",\"eventSource\":\"kms.amazonaws.com\",\"eventName\":\"Decrypt\",\
                 \"awsRegion\":\"eu-west-1\",\"eventID\":\"e{day}\",\"eventType\":\"AwsApiCall\",\
                 \"recipientAccountId\":\"111122223333\"}}"
            )
        };
        let events: Vec<String> = (0..days).map(event).collect();
        self.run(&events.join("\n"))
    }

    fn run(self, events: &str) -> Self {
        fs::write(self.path("in.ndjson"), events).expect("an input");
        let input = self.path("in.ndjson");
        let ran = self.keytrail(&["run", "--no-report"]).arg(input).output().expect("keytrail starts");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        self
    }

    fn query(&self, args: &[&str]) -> (i32, String, String) {
        text(self.keytrail(&[&["query"], args].concat()).output().expect("keytrail starts"))
    }
}

fn text(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// Of 400 days, one is read; the others need not be there.
#[test]
fn a_day_of_400_reads_one_object() {
    let trail = Trail::new().with_days(400);
    let archive = trail.path("data/archive/dataset=aws.cloudtrail");
    let mut days = 0;
    let mut bytes = 0;
    for day in fs::read_dir(archive).expect("days") {
        let day = day.expect("a day").path();
        days += 1;
        if day.ends_with("day=2023-07-10") {
            bytes = fs::read_dir(day)
                .expect("objects")
                .map(|o| o.expect("an object").metadata().expect("a size").len())
                .sum();
        } else {
            fs::remove_dir_all(day).expect("it goes");
        }
    }
    assert_eq!(days, 400);
    for condition in ["day = '2023-07-10'", "timestamp >= '2023-07-10' AND timestamp < '2023-07-11'"] {
        let sql = format!("SELECT user_name FROM events WHERE {condition}");
        let (code, out, err) = trail.query(&[&sql, "--format", "csv"]);
        assert_eq!((code, out.as_str()), (0, "user_name\r\nuser 190\r\n"), "{err}");
        assert!(err.starts_with("1 row; read 1 of 400 objects, ") && bytes > 0, "{err}");
        let read = err.split(", ").nth(1).and_then(|r| r.split(" of ").next()).expect("bytes");
        let read: f64 = read.trim_end_matches(" kB").parse().expect("kilobytes");
        assert!(read * 1000.0 <= bytes as f64 + 100.0, "{err}, {bytes}");
    }
    let (code, _, err) = trail.query(&["SELECT count(DISTINCT user_name) FROM events"]);
    assert_eq!(code, 70, "{err}");
    assert!(err.contains("is named by the log and is not there: see `keytrail verify`"), "{err}");
}

/// What compaction replaced is not read, whether it is there or not.
#[test]
fn retired_objects_are_not_read() {
    let trail = Trail::new();
    let event = |n: usize| {
        format!(
            "{{\"eventVersion\":\"1.08\",\"userIdentity\":{{\"type\":\"Root\"}},\"eventTime\":\"2023-07-10T10:00:0{n}Z\",\
             \"eventSource\":\"kms.amazonaws.com\",\"eventName\":\"Decrypt\",\"eventID\":\"e{n}\",\"recipientAccountId\":\"1\"}}"
        )
    };
    let folder = trail.path("data/archive/dataset=aws.cloudtrail/day=2023-07-10");
    // Objects are put together where it pays: from the fifth of a day on.
    let trail = (0..5).fold(trail, |trail, n| {
        let trail = trail.run(&event(n));
        if n == 0 {
            fs::create_dir_all(trail.path("kept")).expect("a folder");
            for object in fs::read_dir(&folder).expect("objects") {
                let object = object.expect("an object").path();
                fs::copy(&object, trail.path("kept").join(object.file_name().expect("a name")))
                    .expect("a copy");
            }
        }
        trail
    });
    let ran = trail.keytrail(&["compact"]).output().expect("keytrail starts");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let gone = |name: &std::ffi::OsStr| !folder.join(name).exists();
    for object in fs::read_dir(trail.path("kept")).expect("a copy") {
        let object = object.expect("a copy");
        assert!(gone(&object.file_name()), "it was replaced");
        fs::copy(object.path(), folder.join(object.file_name())).expect("a stray file");
    }
    let (code, out, err) = trail.query(&[
        "SELECT count(*) AS n, count(DISTINCT keytrail_uid) AS uids FROM events",
        "--format",
        "json",
    ]);
    assert_eq!((code, out.as_str()), (0, "{\"n\":5,\"uids\":5}\n"), "{err}");
}

/// Archives that earlier versions wrote answer like today's.
#[test]
fn an_archive_of_version_1_is_read() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/archive/v1");
    let sql = "SELECT event_action, count(DISTINCT keytrail_uid) AS n FROM events GROUP BY 1";
    let (code, out, err) = Trail::new().query(&[sql, "--data", fixture, "--format", "json"]);
    assert_eq!((code, out.as_str()), (0, "{\"event_action\":\"Decrypt\",\"n\":10}\n"), "{err}");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let trail = Trail::new().with_days(2);
    let (code, out, err) = trail.query(&["SELECT evnt_action FROM events"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert_eq!(
        err,
        "keytrail: line 1, column 8: no column is named `evnt_action`; did you mean `event_action`?\n"
    );
    assert_eq!(trail.query(&["DROP TABLE events"]).0, 64);
    assert_eq!(trail.query(&["SELECT 1", "--format", "xml"]).0, 64);
    let (code, _, err) = trail.query(&["SELECT sum(a.value) FROM generate_series(1, 99999999) a, generate_series(1, 99999999) b WHERE a.value % 7 = b.value % 5", "--timeout", "100ms"]);
    assert_eq!(code, 75, "{err}");
    assert!(err.contains("longer than the 100ms that it may take") && err.contains("`--timeout`"), "{err}");
    let missing = trail.path("nothing");
    let (code, _, err) = trail.query(&["SELECT 1", "--data", missing.to_str().expect("a path")]);
    assert_eq!(code, 64);
    assert!(err.contains("there is no data folder"), "{err}");
}

#[test]
fn statements_come_from_standard_input_and_tables_go_out() {
    let trail = Trail::new().with_days(2);
    let mut child = trail
        .keytrail(&["query", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("keytrail starts");
    let sql = b"SELECT day, count(*) AS events\nFROM events GROUP BY day ORDER BY day;\n";
    child.stdin.take().expect("piped").write_all(sql).expect("it reads");
    let (code, out, err) = text(child.wait_with_output().expect("it ends"));
    assert_eq!(
        (code, out.as_str()),
        (0, "day         events\n2023-01-01       1\n2023-01-02       1\n"),
        "{err}"
    );
}

/// `keytrail query ... | head -n 1`.
#[test]
fn a_closed_pipe_ends_quietly() {
    let trail = Trail::new().with_days(1);
    let mut child = trail
        .keytrail(&["query", "SELECT value FROM generate_series(1, 100000000000)", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("keytrail starts");
    let mut head = [0; 5];
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut head).expect("rows");
    drop(stdout);
    let (code, _, err) = text(child.wait_with_output().expect("it ends"));
    assert_eq!((code, &head, err.as_str()), (0, b"value", ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_stops_a_statement() {
    use std::os::unix::process::ExitStatusExt;

    let trail = Trail::new().with_days(1);
    for signal in ["INT", "TERM"] {
        let mut child = trail
            .keytrail(&["query", "SELECT value FROM generate_series(1, 100000000000)"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("keytrail starts");
        let mut first = [0; 5];
        let mut stdout = child.stdout.take().expect("piped");
        stdout.read_exact(&mut first).expect("rows");
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill starts").success());
        assert!(child.wait().expect("it ends").signal().is_some());
    }
}
