//! What reaches a terminal or a pipe.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, text};
use serde_json::{Value, json};

use crate::{entries, lines, name, record, run};

fn strings() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hostile/blns.json");
    let mut strings: Vec<String> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    strings.extend(
        ["\u{1b}]0;title\u{7}", "\u{9b}31m", "a\u{202e}b\u{2066}c\u{200f}", "\u{7f}\u{0}"].map(String::from),
    );
    strings
}

/// No character that moves a cursor, changes colours, or hides or reorders text; line feeds end lines only.
fn is_tame(text: &str) -> bool {
    !text.chars().any(|c| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

fn cloudtrail(n: usize, s: &str) -> Value {
    let mut r: Value = serde_json::from_str(&record(n)).unwrap();
    for field in
        ["eventName", "eventSource", "awsRegion", "sourceIPAddress", "userAgent", "errorCode", "errorMessage"]
    {
        r[field] = s.into();
    }
    r["eventTime"] = s.into();
    r["userIdentity"]["userName"] = s.into();
    r["userIdentity"]["arn"] = s.into();
    r["requestParameters"] = json!({"keyId": s, "encryptionContext": {s: s}});
    r["resources"] = json!([{"ARN": s, "type": s}]);
    r
}

fn vault(s: &str) -> Value {
    json!({"time": s, "type": "request", "auth": {"display_name": s, "entity_id": s, "metadata": {"username": s}},
        "request": {"id": s, "operation": "update", "path": format!("transit/encrypt/{s}"), "remote_address": s,
        "namespace": {"id": s, "path": s}, "mount_type": "transit", "data": {s: s}}, "error": s})
}

/// Hostile strings in every field: archived, and shown tamely by every command that shows them.
#[test]
fn hostile_strings() {
    let trail = Trail::new();
    let lines: String = strings()
        .iter()
        .enumerate()
        .flat_map(|(n, s)| [cloudtrail(n, s).to_string() + "\n", vault(s).to_string() + "\n"])
        .collect();
    let input = trail.input("input", &lines);
    let (_, counts, _) = run(&trail, &[name(&input)]);
    assert_eq!(counts.rejected, 0, "{:?}", entries(&trail));
    assert!(trail.verify_json(["--rederive"]).0 == Some(0));

    // The same ids with other content: conflicts that show everything.
    let again: String = strings()
        .iter()
        .enumerate()
        .map(|(n, s)| cloudtrail(n, &format!("{s}!")).to_string() + "\n")
        .collect();
    run(&trail, &[name(&trail.input("again", again))]);
    for args in [&["conflicts"][..], &["conflicts", "--json"]] {
        let shown = trail.keytrail(args).success().stdout;
        assert!(shown.lines().count() > 400 && is_tame(&shown), "{args:?}");
    }
    let found = trail.keytrail(["conflicts", "--json"]).success().json_lines();
    for conflict in found.iter().step_by(50) {
        let uid = text(&conflict["events"][0]["uid"]);
        assert!(is_tame(&trail.keytrail(["explain", &uid]).success().stdout));
        let shown = trail.keytrail(["explain", "--json", &uid]).success();
        assert!(is_tame(&shown.stdout) && shown.json()["event"]["uid"] == uid.as_str());
    }
    let bad: String = strings()
        .iter()
        .map(|s| format!("{{\"eventVersion\":\"1.08\",\"{}\n", s.replace('\n', "")))
        .collect();
    run(&trail, &[name(&trail.input("bad\u{1b}[31m\u{202e}", format!("{}{bad}", crate::lines(0, 600))))]);
    for args in [&["quarantine", "list"][..], &["quarantine", "list", "--json"]] {
        let shown = trail.keytrail(args).success().stdout;
        assert!(shown.lines().count() > 100 && is_tame(&shown), "{args:?}");
    }
    for entry in entries(&trail).iter().step_by(40) {
        assert!(is_tame(&trail.keytrail(["quarantine", "show", &entry.id]).success().stdout));
    }
}

/// A reader that goes away ends nothing with a panic, neither of standard output nor of standard error.
#[test]
fn readers_that_go_away() {
    let trail = Trail::new();
    let bad: String =
        (0..3_000).map(|n| format!("{{\"eventVersion\":\"1.08\",\"eventName\":{n}}}\n")).collect();
    let input = trail.input("input", lines(0, 50) + &bad);
    let piped = |command: &str| {
        let script = format!("set -o pipefail; {command}; echo \"${{PIPESTATUS[0]}}\" >&2");
        let out = Command::new("bash")
            .args(["-c", &script])
            .env("K", tools::keytrail())
            .env("IN", &input)
            .env("KEYTRAIL_DATA", trail.data())
            .env("KEYTRAIL_KEY_DIR", trail.keys())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!stderr.contains("panicked") && !stderr.contains("roken pipe"), "{command}: {stderr}");
        stderr.lines().last().unwrap().to_owned()
    };
    assert_eq!(piped("\"$K\" run \"$IN\" 2>&1 | true"), "0");
    for command in [
        "\"$K\" quarantine list | head -1",
        "\"$K\" quarantine list --json | true",
        "\"$K\" verify | true",
        "\"$K\" run \"$IN\" --json | true",
        "\"$K\" run \"$IN\" 2>&1 >/dev/null | true",
        "\"$K\" run \"$IN\" 2>/dev/full | cat >/dev/null",
        "\"$K\" log key | true",
        "\"$K\" --help | true",
    ] {
        assert_eq!(piped(command), "0", "{command}");
    }
}
