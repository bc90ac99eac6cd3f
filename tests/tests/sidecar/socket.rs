//! The socket of the service that fronts the HSM.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use keytrail_sidecar_client::{Client, Error};
use keytrail_tests::sidecar::{SOURCE, Sidecar, shipped};
use serde_json::{Value, json};

/// An intent of the schema.
pub fn intent() -> String {
    json!({
        "actor": {"id": "svc-payments", "type": "service"},
        "operation": "sign",
        "policy": {"decision": "allow", "ids": ["p-1"]},
        "hsm": {"id": "hsm-1"},
        "key": {"id": "key-1", "algorithm": "EC-P256"},
        "mechanism": "CKM_ECDSA",
    })
    .to_string()
}

const DONE: &str = r#"{"result":{"rv":"CKR_OK"}}"#;

/// Intent, outcome and denial come back as receipts, and are shipped as the records that the receipts name.
#[test]
fn an_operation_is_on_record_before_its_result() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "mode = \"strict\"");
    sidecar.start();
    let mode = std::fs::metadata(sidecar.api_socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut client = Client::connect(sidecar.api_socket()).expect("it listens");
    let begun = client.intent("op/1", &intent()).expect("on record");
    assert!(begun.durable);
    let done = client.outcome("op/1", DONE).expect("on record");
    assert_eq!((done.intent.as_ref(), done.durable), (Some(&begun.receipt), true));
    let deny = json!({
        "actor": {"id": "svc-payments", "type": "service"}, "operation": "decrypt",
        "policy": {"decision": "deny"}, "reason": "outside of the change window",
    });
    let denied = client.deny("op-2", &deny.to_string()).expect("on record");
    for (refusal, status, code) in [
        (client.intent("op-3", r#"{"plaintext":"c2VjcmV0"}"#), 400, "Rejected.Body"),
        (client.outcome("op-4", DONE), 404, "Rejected.OperationUnknown"),
        (client.intent("-", &intent()), 400, "Rejected.Body"),
    ] {
        let Err(Error::Refused { status: got, code: got_code, message }) = refusal else {
            panic!("not refused: {refusal:?}")
        };
        assert_eq!((got, got_code.as_str()), (status, code), "{message}");
        assert!(!message.contains("plaintext"), "{message}");
    }
    client.intent("op-5", &intent()).expect("on record");
    let twice = client.intent("op-5", &intent());
    assert!(matches!(twice, Err(Error::Refused { status: 409, .. })), "{twice:?}");
    drop(client);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());

    let records = shipped(&sidecar.shipped());
    let at = |seq: u64| records.iter().find(|r| r.seq == seq).expect("shipped");
    for receipt in [&begun.receipt, &done.receipt, &denied.receipt] {
        let record = at(receipt.seq);
        assert_eq!(keytrail_model::merkle::leaf_hash(&record.bytes), receipt.leaf_hash);
        assert_eq!((receipt.source.as_str(), receipt.epoch), (SOURCE, 1));
    }
    let outcome = at(done.receipt.seq).envelope();
    assert_eq!(outcome["body"]["actor"]["id"], "svc-payments");
    assert_eq!(outcome["body"]["result"]["rv"], "CKR_OK");
    // Nobody said what came of it before the end.
    let unknown =
        records.iter().map(|r| r.envelope()).find(|r| r["phase"] == "outcome" && r["op_id"] == "op-5");
    let why = unknown.expect("an outcome")["body"]["result"]["unknown"].clone();
    assert_eq!(why, "the sidecar stopped before the service said the outcome");
    assert_eq!(records.last().expect("one").phase(), "epoch_close");
}

/// The examples of `schemas/sidecar-api.md` are what curl sends.
#[test]
fn curl_is_client_enough() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let curl = |path: &str, body: &str| {
        let out = Command::new("curl")
            .args(["-sS", "-i", "--unix-socket"])
            .arg(sidecar.api_socket())
            .args(["-d", body, &format!("http://sidecar/v1/{path}")])
            .output()
            .expect("curl starts");
        String::from_utf8(out.stdout).expect("UTF-8")
    };
    let answer = curl("intent/op-1", &intent());
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(
        answer.contains(&format!("keytrail-receipt: source=\"{SOURCE}\";epoch=1;seq=1;leaf_hash=")),
        "{answer}"
    );
    assert!(answer.contains(r#"{"durable":false,"receipt":{"source""#), "{answer}");
    let answer = curl("outcome/op-1", DONE);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""durable":true"#), "{answer}");
    let answer = curl("intent/op-2", "[]");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Rejected.Body"), "{answer}");
}

/// A caller may send on before it has an answer: answers come in the order of what was sent.
#[test]
fn a_pipeline_answers_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let mut stream = UnixStream::connect(sidecar.api_socket()).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
        .write_all(b"POST /v1/records HTTP/1.1\r\nHost: sidecar\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        .expect("asked");
    let mut send = |line: &str| {
        let line = format!("{line}\n");
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).expect("sent");
    };
    let line = |phase: &str, op: usize, body: &str| {
        format!(r#"{{"phase":"{phase}","op_id":"op-{op}","body":{body}}}"#)
    };
    const OPERATIONS: usize = 300;
    for op in 0..OPERATIONS {
        send(&line("intent", op, &intent()));
        send(&line("outcome", op, DONE));
    }
    send("no JSON");
    // The answers so far are there before the request ends.
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut seen = Vec::new();
    while seen.len() < 2 * OPERATIONS + 1 {
        let mut text = String::new();
        assert!(reader.read_line(&mut text).expect("an answer") > 0, "the answer ended: {seen:?}");
        if text.starts_with('{') {
            seen.push(serde_json::from_str::<Value>(&text).expect("JSON"));
        }
    }
    stream.write_all(b"0\r\n\r\n").expect("sent");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("the end");
    let numbers: Vec<u64> = seen.iter().filter_map(|a| a["receipt"]["seq"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() == 2 * OPERATIONS, "{numbers:?}");
    assert_eq!(seen.last().expect("one")["code"], "Rejected.Body");
    assert!(sidecar.stop().success());
    let heads = shipped(&sidecar.shipped()).iter().filter(|r| r.phase() == "head").count();
    assert!(heads >= 2 * OPERATIONS / 256, "{heads}");
}
