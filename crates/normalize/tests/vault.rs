//! What must hold of Vault records whatever their values: pairs join, and raw secrets reach no column.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use keytrail_model::row::{Encoded, Provenance, columns};
use keytrail_model::{Column, RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, normalize};

fn lines(case: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vault").join(case);
    let text = fs::read_to_string(path.join("input.ndjson")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The columns of each accepted line, lists joined by line feeds.
fn rows(lines: &[String]) -> Vec<BTreeMap<Column, String>> {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut out = Vec::new();
    for line in lines {
        let mut buffer = RowBuffer::new();
        let from = Provenance { input: 0, offset: 0 };
        if normalize(Format::Vault, line.as_bytes(), from, &ctx, &mut buffer).is_err() {
            continue;
        }
        let row = buffer.row(0);
        out.push(
            columns(row.columns)
                .map(|(column, value)| {
                    let text = match value {
                        Encoded::Text(t) => t.to_owned(),
                        Encoded::Int(n) => n.to_string(),
                        Encoded::Bool(b) => b.to_string(),
                        Encoded::List(items) => items.collect::<Vec<_>>().join("\n"),
                    };
                    (column, text)
                })
                .collect(),
        );
    }
    out
}

#[test]
fn every_record_of_openbao_and_vault_is_recognised_and_accepted() {
    for (case, expected) in [
        ("openbao-transit", 85),
        ("openbao-system", 94),
        ("openbao-standby-pair", 15),
        ("vault-2019", 1),
        ("vault-2024", 22),
    ] {
        let lines = lines(case);
        assert_eq!(rows(&lines).len(), expected, "{case}");
        let json = lines.iter().filter(|l| l.starts_with('{'));
        assert!(json.into_iter().all(|l| Format::detect(l) == Some(Format::Vault)), "{case}");
    }
    for other in [
        r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","type":"request","request":{}}"#,
        r#"{"eventVersion":"1.08","type":"request","request":{}}"#,
        r#"{"type":"request"}"#,
        r#"{"type":"request","request":"x"}"#,
        r#"{"type":"other","request":{}}"#,
    ] {
        assert_ne!(Format::detect(other), Some(Format::Vault), "{other}");
    }
}

#[test]
fn the_lines_of_a_call_agree() {
    let mut calls: BTreeMap<String, Vec<BTreeMap<Column, String>>> = BTreeMap::new();
    for row in rows(&[lines("openbao-transit"), lines("openbao-system"), lines("vault-2024")].concat()) {
        calls.entry(row[&Column::KeytrailOperationId].clone()).or_default().push(row);
    }
    let pairs: Vec<_> = calls.values().filter(|lines| lines.len() == 2).collect();
    assert!(pairs.len() > 80, "{}", pairs.len());
    for pair in pairs {
        for column in [
            Column::EventAction,
            Column::KeytrailActionClass,
            Column::KeytrailKeyId,
            Column::KeytrailKeyStore,
            Column::KeytrailResourceIds,
            Column::KeytrailVaultNamespace,
            Column::KeytrailBatchCount,
        ] {
            assert_eq!(pair[0].get(&column), pair[1].get(&column), "{}: {:?}", column.name(), pair[0]);
        }
        let failed = |row: &BTreeMap<Column, String>| row[&Column::EventOutcome] == "failure";
        for row in pair {
            match row[&Column::KeytrailPhase].as_str() {
                "request" => assert_ne!(row[&Column::EventOutcome], "success"),
                _ => assert_ne!(row[&Column::EventOutcome], "unknown"),
            }
        }
        // An error of the request line is one of the call.
        if pair.iter().any(|r| r[&Column::KeytrailPhase] == "request" && failed(r)) {
            assert!(pair.iter().all(failed), "{:?}", pair[0]);
        }
    }
}

#[test]
fn an_array_is_no_object() {
    let good = r#"{"type":"response","auth":{"policy_results":{"granting_policies":[{"name":"a"}]},"metadata":{}},
                   "request":{"id":"1","namespace":{}},"response":{"auth":{},"wrap_info":{}}}"#;
    assert_eq!(rows(&[good.into()]).len(), 1);
    for field in ["auth", "policy_results", "metadata", "request", "namespace", "response", "wrap_info"] {
        let start = good.find(&format!(r#""{field}":{{"#)).unwrap() + field.len() + 3;
        let bad = format!(r#"{}["a","b","c","d"],"rest":{}"#, &good[..start], &good[start..]);
        assert_eq!(rows(&[bad]).len(), 0, "{field}");
    }
    assert_eq!(rows(&[good.replace(r#"[{"name":"a"}]"#, r#"[["a"]]"#)]).len(), 0);
}

#[test]
fn raw_secrets_reach_no_column() {
    let lines = lines("hostile");
    let secrets = [
        "hvs.CAESIJ0000000000000000000000000000000000",
        "hvs.CAESIJ1111111111111111111111111111111111",
        "hvs.CAESIJ2222222222222222222222222222222222",
        "Zr4kXcSJq0d9nT7yG1AbCdEf",
        "Yr4kXcSJq0d9nT7yG1AbCdEf",
        "NDExMTExMTExMTExMTExMQ==",
        "AAAAAAAAAAAAAAAAAAAAAAAA",
        "hunter2",
        "page the oncall",
    ];
    for secret in secrets {
        assert!(lines.iter().any(|l| l.contains(secret)), "the fixture has no {secret}");
    }
    for row in rows(&lines) {
        for (column, text) in row {
            assert!(!secrets.iter().any(|s| text.contains(s)), "{}: {text}", column.name());
        }
    }
}
