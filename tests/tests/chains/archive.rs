//! What a real sidecar ships, in the archive: each record once, with its place in the chain.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use keytrail_model::merkle::leaf_hash;
use keytrail_tests::oracle::oracle;
use keytrail_tests::sidecar::{SOURCE, Shipped, Sidecar, TOKEN, shipped};
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

use crate::{INTENT, rewritten, segments, used};

fn leaves(trail: &Trail) -> Vec<Value> {
    oracle("chains", [trail.data()]).as_array().expect("a list").clone()
}

/// The archive alone gives every leaf of the chain, by readers that know nothing of keytrail; again, nothing is new.
#[test]
fn every_record_of_a_sidecar_is_in_the_archive() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sidecar = used(folder.path());
    let records = shipped(&sidecar.shipped());
    let trail = Trail::new();
    let summary = trail.run_json([sidecar.shipped()]);
    let total = |summary: &Value, name: &str| number(&summary[name]);
    assert_eq!(total(&summary, "read"), records.len() as u64, "{summary:#}");
    assert_eq!(total(&summary, "accepted"), records.len() as u64, "{summary:#}");
    let rows = leaves(&trail);
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!((number(&row["epoch"]), number(&row["seq"])), (record.epoch, record.seq));
        let leaf = leaf_hash(&record.bytes).to_hex();
        assert_eq!((&row["leaf"], &row["column"]), (&json!(leaf), &json!(leaf)));
        let dataset = if record.phase() == "foreign" { "vault.audit" } else { "keytrail.key_operation" };
        assert_eq!((text(&row["dataset"]), text(&row["source"])), (dataset.to_owned(), SOURCE.to_owned()));
        assert_eq!(row["prev"], record.envelope()["prev"]);
    }
    assert!(records.iter().filter(|r| r.phase() == "foreign").count() > 40);
    let verified = trail.verify_json::<&str>(["--rederive"]);
    assert_eq!(verified.0, Some(0), "{:#}", verified.1);
    let before = trail.objects();
    let again = trail.run_json([sidecar.shipped()]);
    assert_eq!((total(&again, "accepted"), total(&again, "duplicates")), (0, records.len() as u64));
    assert_eq!(before, trail.objects());
}

/// What is out of its place, twice, damaged or of no known source is told apart, kept, and costs nothing else.
#[test]
fn what_is_wrong_in_a_segment_costs_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    for n in 0..20 {
        let line = match n {
            7 => "no source writes such a line".to_owned(),
            9 => r#"{"v":1,"source":"x","epoch":1,"seq":1,"prev":"","phase":"intent"}"#.to_owned(),
            _ => format!(
                r#"{{"time":"2026-01-02T03:04:{n:02}Z","type":"request","request":{{"id":"r-{n}","operation":"read","path":"sys/x"}}}}"#
            ),
        };
        assert_eq!(sidecar.line(TOKEN, line.as_bytes()).status, 200);
    }
    assert!(sidecar.stop().success());
    let files = segments(&sidecar.shipped());
    let bytes = fs::read(&files[0]).expect("a segment");
    let records: Vec<Shipped> = shipped(&sidecar.shipped());
    type Case<'a> = (&'a str, Vec<u8>, &'a [(&'a str, u64)]);
    let cases: [Case<'_>; 5] = [
        ("good", bytes.clone(), &[]),
        ("twice", rewritten(&files[0], |r| r.insert(5, r[4].clone())), &[("segment_duplicate", 1)]),
        ("swapped", rewritten(&files[0], |r| r.swap(3, 4)), &[("segment_order", 1)]),
        (
            "moved",
            rewritten(&files[0], |r| {
                let (a, b) = (r[3].1.clone(), r[4].1.clone());
                (r[3].1, r[4].1) = (b, a);
            }),
            &[("segment_order", 2)],
        ),
        (
            "flipped",
            {
                let mut b = bytes.clone();
                let at = b.len() / 2;
                b[at] ^= 1;
                b
            },
            &[("segment_damaged", 2)],
        ),
    ];
    for (name, bytes, expected) in cases {
        let trail = Trail::new();
        let mut inputs: Vec<PathBuf> = vec![trail.input(&format!("{name}.ktseg"), bytes)];
        inputs.extend(files[1..].iter().cloned());
        let summary = trail.run_json(inputs);
        let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
        for entry in trail.keytrail(["quarantine", "list", "--json"]).success().json_lines() {
            *rejected.entry(text(&entry["code"])).or_default() += 1;
        }
        assert_eq!(rejected.remove("format_unknown"), Some(2), "{name}: {summary:#}");
        assert_eq!(rejected, expected.iter().map(|(c, n)| ((*c).to_owned(), *n)).collect(), "{name}");
        let lost = u64::from(name == "flipped");
        let out_of_place = match name {
            "swapped" => 1,
            "moved" => 2,
            _ => 0,
        };
        assert_eq!(
            number(&summary["accepted"]) + 2 + lost + out_of_place,
            records.len() as u64,
            "{name}: {summary:#}"
        );
        // What is refused is there nevertheless: a gap is what is not.
        assert_eq!(summary.get("gaps").map_or(0, number), lost, "{name}: {summary:#}");
    }
}

/// The whole way round: written to the sidecar, shipped, archived, sealed by a service that follows, proven by the
/// sidecar itself, freed.
#[test]
fn what_is_sealed_is_freed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trail = Trail::new();
    let mut sidecar = Sidecar::new(folder.path(), "");
    // The log has to be there for its keys to be pinned.
    trail.run([trail.undated()]).success();
    let keys = trail.trusted_keys();
    let seal = format!("[seal]\ndata = \"{}\"\nkeys = \"{}\"\n", trail.data().display(), keys.display());
    sidecar.configure("", &seal);
    sidecar.start();
    for n in 0..100 {
        assert_eq!(sidecar.post(&format!("/v1/intent/op-{n}"), INTENT).status, 201);
        assert_eq!(sidecar.post(&format!("/v1/outcome/op-{n}"), r#"{"result":{"rv":"CKR_OK"}}"#).status, 200);
        for line in ["request", "response"] {
            let line = format!(
                r#"{{"time":"2026-01-02T03:04:05Z","type":"{line}","request":{{"id":"r-{n}"}},"auth":{{}}}}"#
            );
            assert_eq!(sidecar.line(TOKEN, line.as_bytes()).status, 200);
        }
    }
    let begin = Instant::now();
    while sidecar.metric("keytrail_sidecar_unsealed_records").is_none_or(|n| n > 1.0) {
        trail.run([sidecar.shipped()]).success();
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{}",
            sidecar.admin("/metrics").expect("it answers").1
        );
    }
    assert!(sidecar.stop().success());
    trail.run([sidecar.shipped()]).success();
    let drained = sidecar.command(&["drain"]);
    assert_eq!(drained.status.code(), Some(0), "{}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(trail.verify().success().code, Some(0));
}

/// A line of OpenBao's audit log, of a second of a minute.
fn line(kind: &str, id: &str, path: &str, second: u32, error: &str) -> String {
    json!({
        "time": format!("2026-01-02T03:{:02}:{:02}Z", second / 60, second % 60),
        "type": kind, "auth": {"token_type": "default"}, "error": error,
        "request": {"id": id, "operation": "update", "path": path, "mount_type": "system"},
    })
    .to_string()
}

/// Calls that OpenBao logs once are told apart from those of which a line was refused or lost.
#[test]
fn a_lost_response_is_told_apart_from_one_that_never_was() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let lines = [
        line("response", "enabled", "sys/audit/sidecar", 0, ""),
        line("request", "probe", "sys/audit/test", 1, ""),
        line("request", "good", "transit/encrypt/a", 2, ""),
        line("response", "good", "transit/encrypt/a", 2, ""),
        line("request", "used-up", "sys/wrapping/unwrap", 3, "wrapping token is not valid or does not exist"),
        line("request", "lost", "transit/encrypt/a", 4, ""),
        line("request", "not-wrapped", "sys/wrapping/unwrap", 5, ""),
        line("response", "no-request", "transit/encrypt/a", 6, ""),
        line("request", "seal", "sys/seal", 7, ""),
        line("request", "last", "transit/encrypt/a", 300, ""),
        line("response", "last", "transit/encrypt/a", 300, ""),
        line("request", "under-way", "transit/encrypt/a", 301, ""),
    ];
    for line in &lines {
        assert_eq!(sidecar.line(TOKEN, line.as_bytes()).status, 200);
    }
    assert!(sidecar.stop().success());
    let trail = Trail::new();
    trail.run([sidecar.shipped()]).success();
    let (code, report) = trail.verify_json::<&str>([]);
    let mut found: Vec<String> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|f| format!("{} {}", text(&f["code"]), text(&f["message"])))
        .collect();
    found.sort();
    let orphan = |seq: u32, rest: &str| format!("ORPHAN_INTENT record {seq} of epoch 1, the {rest}");
    let expected = [
        orphan(6, "request of call `lost` has no response"),
        orphan(7, "request of call `not-wrapped` has no response"),
        orphan(8, "response of call `no-request` has no request"),
    ];
    assert_eq!((code, found), (Some(1), expected.to_vec()), "{report:#}");
    let told = report["not_checked"].to_string();
    assert!(told.contains("4 lines of calls that OpenBao and Vault log once"), "{told}");
    assert!(told.contains("1 calls of OpenBao or Vault at the ends"), "{told}");
}
