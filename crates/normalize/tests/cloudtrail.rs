//! CloudTrail beyond golden files: secrets stay out of columns, damage is survived, and records of other
//! formats are left alone.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::fs;
use std::path::Path;

use keytrail_model::row::{Encoded, Provenance, columns};
use keytrail_model::{Rejection, RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, cloudtrail, normalize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Every record of the CloudTrail fixtures, as its bytes stand in the file.
fn records() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/cloudtrail");
    let mut out = Vec::new();
    for case in fs::read_dir(root).unwrap() {
        let case = case.unwrap().path();
        if let Ok(lines) = fs::read_to_string(case.join("input.jsonl")) {
            out.extend(lines.lines().map(str::to_owned));
        }
        if let Ok(document) = fs::read_to_string(case.join("input.json")) {
            let list = document.find('[').unwrap();
            let end = document.rfind(']').unwrap();
            let items: Vec<&RawValue> = serde_json::from_str(&document[list..=end]).unwrap();
            out.extend(items.iter().map(|i| i.get().to_owned()));
        }
    }
    assert!(out.len() > 200, "{} records", out.len());
    out
}

fn event(record: &[u8]) -> Result<RowBuffer, Rejection> {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut rows = RowBuffer::new();
    normalize(Format::CloudTrail, record, Provenance { input: 0, offset: 0 }, &ctx, &mut rows)?;
    Ok(rows)
}

/// All texts of a row's columns.
fn texts(rows: &RowBuffer) -> String {
    let mut out = String::new();
    for (_, value) in columns(rows.row(0).columns) {
        match value {
            Encoded::Text(t) => out += t,
            Encoded::List(items) => items.for_each(|i| out = format!("{out}{i}\n")),
            _ => continue,
        }
        out.push('\n');
    }
    out
}

/// The strings under any of these names, at any depth.
fn under<'v>(value: &'v Value, names: &[&str], out: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(s) if names.contains(&key.as_str()) => out.push(s),
                    _ => under(value, names, out),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|i| under(i, names, out)),
        _ => {}
    }
}

#[test]
fn session_tokens_reach_no_column_and_no_terminal() {
    let masker = Masker::new(&[7; 32]);
    let mut tokens_seen = 0;
    for record in records() {
        let Ok(value) = serde_json::from_str::<Value>(&record) else { continue };
        let Ok(rows) = event(record.as_bytes()) else { continue };
        let mut tokens = Vec::new();
        under(&value, &["sessionToken", "secretAccessKey", "secretString"], &mut tokens);
        let shown = masker.mask_document(Some(Format::CloudTrail), rows.row(0).original);
        for token in tokens {
            tokens_seen += 1;
            let head = &token[..token.len().min(24)];
            assert!(!texts(&rows).contains(head), "{record}");
            assert!(!shown.contains(head), "{shown}");
        }
    }
    assert!(tokens_seen >= 5, "{tokens_seen} tokens");
}

/// A canary in every secret field that `schemas/sensitive.yaml` lists for this source.
#[test]
fn listed_fields_reach_no_column() {
    let yaml = include_str!("../../../schemas/sensitive.yaml");
    let list = yaml.split("  cloudtrail:\n").nth(1).unwrap();
    let paths: Vec<_> = list.lines().map_while(|l| l.strip_prefix("    - ")).collect();
    assert!(paths.len() > 20);
    let masker = Masker::new(&[7; 32]);
    for source in ["kms", "secretsmanager", "iam", "sts", "signin", "cloudhsm", "acm-pca"] {
        for path in &paths {
            let mut body = "\"canary-canary\"".to_owned();
            for name in path.rsplit('.') {
                body = format!("{{\"{name}\":{body}}}");
            }
            let head = format!("{{\"eventName\":\"X\",\"eventSource\":\"{source}.amazonaws.com\",");
            let record = format!("{head}{}", &body[1..]);
            assert!(!texts(&event(record.as_bytes()).unwrap()).contains("canary"), "{record}");
            let shown = masker.mask_document(Some(Format::CloudTrail), record.as_bytes());
            assert!(!shown.contains("canary"), "{shown}");
            assert!(serde_json::from_str::<Value>(&shown).is_ok(), "{shown}");
        }
    }
}

#[test]
fn secrets_in_free_texts_reach_no_column() {
    let secrets = [
        "hvs.CAESIJlWh1Zj0123456789abcdefAB",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "4111111111111111",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP",
    ];
    for record in records() {
        // Where the record already has a text that callers choose, it now has a secret in it.
        for secret in secrets {
            let poisoned =
                record.replacen("\"userAgent\":", &format!("\"userAgent\":\"x {secret}\",\"was\":"), 1);
            let poisoned = poisoned.replace("ExampleAlias", secret).replace("Engineering", secret);
            if let Ok(rows) = event(poisoned.as_bytes()) {
                assert!(!texts(&rows).contains(secret), "{poisoned}");
            }
        }
    }
}

/// Cut anywhere and with any byte changed, a record is read or refused, the same each time.
#[test]
fn damaged_records_are_read_or_refused() {
    let masker = Masker::new(&[7; 32]);
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let bytes = b"\"{}[],:\\ue0 1-.nt\x00\xff\xc3\n";
    for record in records().iter().filter(|r| r.len() < 3_000) {
        for _ in 0..10 {
            let mut damaged = record.clone().into_bytes();
            for _ in 0..=random(3) {
                let at = random(damaged.len());
                match random(3) {
                    0 => damaged[at] = bytes[random(bytes.len())],
                    1 => damaged.insert(at, bytes[random(bytes.len())]),
                    _ => drop(damaged.remove(at)),
                }
            }
            if random(4) == 0 {
                damaged.truncate(random(damaged.len()));
            }
            let (one, two) = (event(&damaged), event(&damaged));
            match (one, two) {
                (Ok(a), Ok(b)) => assert_eq!(a.row(0).digest(), b.row(0).digest()),
                (Err(a), Err(b)) => {
                    assert_eq!(a, b);
                    assert!(!a.reason.contains("struct") && !a.reason.ends_with('.'), "{}", a.reason);
                }
                _ => panic!("read once, refused once"),
            }
            let text = String::from_utf8_lossy(&damaged);
            cloudtrail::recognises(&text);
            let shown = masker.mask_document(Some(Format::CloudTrail), &damaged);
            assert_eq!(masker.mask_document(Some(Format::CloudTrail), shown.as_bytes()), shown);
            let scrubbed = masker.scrub(text);
            assert_eq!(masker.scrub(scrubbed.as_ref()), scrubbed);
        }
    }
}

#[test]
fn only_cloudtrail_records_are_claimed() {
    for record in records() {
        if event(record.as_bytes()).is_ok() && record.contains("eventVersion") {
            assert!(cloudtrail::recognises(&record), "{record}");
        }
    }
    for other in [
        "",
        "{}",
        "no json",
        // Vault, with a CloudTrail record in a value.
        r#"{"time":"2026-01-01T00:00:00Z","type":"request","request":{"id":"x","data":{"eventVersion":"1.08","eventName":"a"}}}"#,
        r#"{"type":"response","data":"{\"eventVersion\":\"1.08\",\"eventName\":\"a\"}"}"#,
        // Key operations, Kubernetes, Google Cloud, Azure.
        r#"{"v":1,"source":"s","epoch":1,"seq":0,"prev":"","phase":"intent","op_id":"x","time":"t","body":{}}"#,
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"x","stage":"ResponseComplete"}"#,
        r#"{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog"},"insertId":"x","logName":"y"}"#,
        r#"{"time":"t","category":"AuditEvent","operationName":"VaultGet","resultType":"Success","correlationId":"x"}"#,
        // What AWS sends in much the same form.
        r#"{"awsAccountId":"111122223333","digestStartTime":"t","eventVersion":"1.1","eventName":"x"}"#,
        r#"{"eventVersion":"2.1","eventSource":"aws:s3","eventName":"ObjectCreated:Put"}"#,
        r#"{"eventVersion":"1.0","eventSource":"aws:kinesis","eventName":"aws:kinesis:record"}"#,
        r#"{"eventID":"1","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb"}"#,
        r#"{"CloudTrailEvent":7}"#,
    ] {
        assert!(!cloudtrail::recognises(other), "{other}");
    }
    assert!(cloudtrail::recognises(r#" { "eventVersion" : "1.08", "eventName":"torn"#));
    assert!(cloudtrail::recognises(r#"{"EventId":"x","CloudTrailEvent":"{}"}"#));
}

#[test]
fn a_wrapped_event_keeps_the_unescaped_bytes() {
    let inner = r#"{"eventVersion":"1.08","eventName":"A","eventID":"e","recipientAccountId":"1"}"#;
    let wrapped =
        format!("{{\"EventId\":\"e\",\"CloudTrailEvent\":{}}}", serde_json::to_string(inner).unwrap());
    let (a, b) = (event(wrapped.as_bytes()).unwrap(), event(inner.as_bytes()).unwrap());
    assert_eq!(a.row(0).original, inner.as_bytes());
    assert_eq!(a.row(0).head.uid, b.row(0).head.uid);
}

/// The scope and key of an identity are frozen: archives hold what follows from them.
#[test]
fn identities_are_frozen() {
    let uid = |record: &str| event(record.as_bytes()).unwrap().row(0).head.uid.to_string();
    let keyless = |record: &str| event(record.as_bytes()).unwrap().row(0).head.keyless;
    let full = r#"{"eventName":"A","eventID":"e","recipientAccountId":"1","userIdentity":{"accountId":"2"}}"#;
    let old = r#"{"eventName":"A","eventID":"e","userIdentity":{"accountId":"2"}}"#;
    let none = r#"{"eventName":"A"}"#;
    assert_eq!(uid(full), "482323ba344e703a1bcc3ced53e872f64a0cc5a9");
    assert_eq!(uid(old), "1b20747465e9d3fef95daf06210a83f9d8eebdad");
    assert_eq!(uid(none), "1ee65dd4c8acb85a7422aab1fc8353b073c2202a");
    assert!(!keyless(full) && !keyless(old) && keyless(none));
}
