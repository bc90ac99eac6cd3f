//! The sidecar as the only audit device of a live OpenBao.

use std::collections::BTreeSet;

use keytrail_tests::openbao::OpenBao;
use keytrail_tests::sidecar::{Sidecar, TOKEN, shipped};
use serde_json::{Value, json};

/// Ids of the requests and of the responses among shipped lines.
pub fn calls(records: &[keytrail_tests::sidecar::Shipped]) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut ids = (BTreeSet::new(), BTreeSet::new());
    for record in records.iter().filter(|r| r.phase() == "foreign") {
        let line: Value =
            serde_json::from_slice(record.line().expect("a line")).expect("OpenBao writes JSON");
        // What the server does by itself has no id.
        let Some(id) = line["request"]["id"].as_str().map(str::to_owned) else { continue };
        match line["type"].as_str() {
            Some("request") => ids.0.insert(id),
            Some("response") => ids.1.insert(id),
            other => panic!("{other:?}"),
        };
    }
    ids
}

/// A few calls, all of which succeed; their ids.
fn use_it(bao: &OpenBao) -> Vec<String> {
    let mut ids = Vec::new();
    let mut call = |path: &str, body: Value| {
        let answer = bao.call(path, &body);
        assert!(answer.status < 300, "{path}: {answer:?}");
        ids.extend(answer.body["request_id"].as_str().map(str::to_owned));
    };
    call("sys/mounts/transit", json!({"type": "transit"}));
    call("transit/keys/payments", json!({}));
    for _ in 0..20 {
        call("transit/encrypt/payments", json!({"plaintext": "a2V5dHJhaWw="}));
    }
    ids
}

/// Each line that OpenBao wrote over HTTP is a record, and the calls that it answered are all there.
#[test]
fn openbao_writes_over_http() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.http_device());
    let ids = use_it(&bao);
    drop(bao);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let (requests, responses) = calls(&shipped(&sidecar.shipped()));
    for id in &ids {
        assert!(requests.contains(id) && responses.contains(id), "{id}");
    }
}

/// As over HTTP, by lines over a Unix socket.
#[test]
fn openbao_writes_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.unix_device());
    let ids = use_it(&bao);
    drop(bao);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let (requests, responses) = calls(&shipped(&sidecar.shipped()));
    for id in &ids {
        assert!(requests.contains(id) && responses.contains(id), "{id}");
    }
}

/// Without the sidecar OpenBao refuses, and works again once it is back.
#[test]
fn openbao_fails_closed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for over_http in [true, false] {
        let mut sidecar = Sidecar::new(&folder.path().join(if over_http { "http" } else { "unix" }), "");
        sidecar.start();
        let device = if over_http { sidecar.http_device() } else { sidecar.unix_device() };
        let bao = OpenBao::start_with(&|_| device.clone());
        use_it(&bao);
        let encrypt = || bao.call("transit/encrypt/payments", &json!({"plaintext": "a2V5dHJhaWw="})).status;
        sidecar.kill();
        // What the device believes to be written goes nowhere at most once: the next line finds out.
        let refused = (0..3).map(|_| encrypt()).filter(|s| *s == 500).count();
        assert!(refused >= 2, "{refused}");
        sidecar.start();
        let taken = (0..3).map(|_| encrypt()).filter(|s| *s == 200).count();
        assert!(taken >= 2, "{taken}");
    }
}

/// A line is opaque: whatever its bytes are they stand in the record; one that comes again is the same one.
#[test]
fn lines_are_taken_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let large = vec![b'x'; 16 << 20];
    let lines: [&[u8]; 5] =
        [b"{\"type\":\"request\"}", b"\xff\x00 no JSON", b"inner\nline feed", b" ", &large];
    let mut receipts = Vec::new();
    for line in lines {
        let answer = sidecar.line(TOKEN, &[line, b"\n"].concat());
        assert_eq!(answer.status, 200, "{answer:?}");
        receipts.push(answer.receipt.expect("a receipt"));
    }
    let again = sidecar.line(TOKEN, lines[0]);
    assert_eq!((again.status, again.receipt.as_ref()), (200, receipts.first()));
    assert_eq!(sidecar.line("another token, long enough", lines[0]).status, 401);
    assert_eq!(sidecar.line(TOKEN, b"").status, 400);
    assert_eq!(sidecar.line(TOKEN, &vec![b'x'; (16 << 20) + 2]).status, 413);
    assert!(sidecar.stop().success());
    let records = shipped(&sidecar.shipped());
    let found: Vec<&[u8]> =
        records.iter().filter(|r| r.phase() == "foreign").filter_map(|r| r.line()).collect();
    assert!(found == lines, "{} lines", found.len());
}
