//! Kubernetes, Google Cloud and Azure beyond golden files: real logs are read whole, each source claims its
//! own records alone, and secrets stay out of columns.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::fs;
use std::path::{Path, PathBuf};

use keytrail_model::row::{Encoded, Provenance, columns};
use keytrail_model::{Column, Reject, Rejection, RowBuffer, Timestamp};
use keytrail_normalize::framing::{Frame, Limits, Splitter};
use keytrail_normalize::{Context, Format, Masker, normalize};

const SOURCES: [Format; 3] = [Format::Gcp, Format::KeyVault, Format::Kubernetes];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The frames of a file, as a run cuts it; what is no frame fails the test.
fn frames(path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut keep = |frame: Frame<'_>| {
        assert_eq!(frame.verdict, Ok(()), "{}", path.display());
        out.push(String::from_utf8(frame.bytes.to_vec()).unwrap());
    };
    Splitter::new(Limits::default()).run(&fs::read(path).unwrap(), true, &mut keep);
    out
}

/// The input of a case.
fn input(format: &str, case: &str) -> PathBuf {
    let files = fs::read_dir(fixtures().join(format).join(case)).unwrap();
    let mut inputs = files.map(|f| f.unwrap().path()).filter(|f| f.file_stem().is_some_and(|s| s == "input"));
    inputs.next().unwrap()
}

/// The lines of a hostile case, which framing would cut otherwise.
fn hostile(format: &str) -> Vec<String> {
    fs::read_to_string(input(format, "hostile")).unwrap().lines().map(str::to_owned).collect()
}

fn event(format: Format, record: &str) -> Result<RowBuffer, Rejection> {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut rows = RowBuffer::new();
    normalize(format, record.as_bytes(), Provenance { input: 0, offset: 0 }, &ctx, &mut rows)?;
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

fn text(rows: &RowBuffer, column: Column) -> Option<String> {
    columns(rows.row(0).columns).find_map(|(c, value)| match value {
        Encoded::Text(t) if c == column => Some(t.to_owned()),
        _ => None,
    })
}

#[test]
fn real_logs_are_read_whole() {
    for (format, case, records, refused) in [
        (Format::Kubernetes, "audit2rbac", 37, 0),
        (Format::Kubernetes, "falco", 24, 0),
        (Format::Kubernetes, "event-list", 4, 0),
        (Format::Gcp, "google-cloudevents", 3, 0),
        (Format::Gcp, "plaso", 11, 2),
        (Format::KeyVault, "azure-docs", 1, 0),
        (Format::KeyVault, "keys-and-secrets", 15, 0),
        (Format::KeyVault, "managed-hsm", 5, 0),
    ] {
        let frames = frames(&input(format.name(), case));
        assert_eq!(frames.len(), records, "{case}");
        let strangers = frames.iter().filter(|f| Format::detect(f) != Some(format)).count();
        let bad = frames.iter().filter(|f| event(format, f).is_err()).count();
        assert_eq!((strangers, bad), (refused, refused), "{case}");
    }
}

/// Each record of any source that its own normalizer takes is detected as of that source.
#[test]
fn no_source_claims_the_records_of_another() {
    let mut seen = 0;
    for format in Format::ALL {
        for case in fs::read_dir(fixtures().join(format.name())).unwrap() {
            let case = case.unwrap().path();
            let Some(name) = case.file_name().and_then(|n| n.to_str()) else { continue };
            if name == "hostile" || name.contains("torn") {
                continue;
            }
            for record in frames_of_any(&input(format.name(), name)) {
                if event(format, &record).is_ok() {
                    seen += 1;
                    assert_eq!(Format::detect(&record), Some(format), "{}: {record}", format.name());
                }
            }
        }
    }
    assert!(seen > 700, "{seen}");
    for record in frames(&fixtures().join("hostile/other-sources/input.ndjson")) {
        assert_eq!(Format::detect(&record), None, "{record}");
    }
    for other in [
        "",
        "{}",
        r#"{"kind":"Event","apiVersion":"v1","involvedObject":{"kind":"Pod"},"reason":"Killing"}"#,
        r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{}}"#,
        r#"{"auditID":"x","stage":"production"}"#,
        r#"{"x":{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"x","stage":"Panic"}}"#,
        r#"{"logName":"projects/p/logs/requests","protoPayload":{"@type":"type.googleapis.com/google.appengine.logging.v1.RequestLog"}}"#,
        r#"{"logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity","textPayload":"x"}"#,
        r#"{"logName":"x","jsonPayload":{"protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog"}}}"#,
        r#"{"category":"AuditEvent","resourceId":"/SUBSCRIPTIONS/1/PROVIDERS/MICROSOFT.STORAGE/ACCOUNTS/A"}"#,
        r#"{"category":"AzurePolicyEvaluationDetails","resourceId":"/SUBSCRIPTIONS/1/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V"}"#,
        // The activity log of a vault.
        r#"{"category":"Administrative","operationName":"Microsoft.KeyVault/vaults/keys/purge/action","resourceId":"/subscriptions/1/providers/Microsoft.KeyVault/vaults/v/keys/k"}"#,
        r#"{"category":"AuditEvent","properties":{"resourceId":"/SUBSCRIPTIONS/1/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V"}}"#,
    ] {
        assert_eq!(Format::detect(other), None, "{other}");
    }
}

/// Frames of a file whatever their verdict.
fn frames_of_any(path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let mut keep = |frame: Frame<'_>| out.push(String::from_utf8_lossy(frame.bytes).into_owned());
    Splitter::new(Limits::default()).run(&fs::read(path).unwrap(), true, &mut keep);
    out
}

/// What identity is made of: the same call is one event whatever its form, two stages are two, and a source
/// that names no scope is not judged for conflicts.
#[test]
fn identity_follows_from_the_record() {
    let uid = |format, record: &str| event(format, record).unwrap().row(0).head.uid;
    let group = |format, record: &str| event(format, record).unwrap().row(0).head.group;
    let k = r#"{"auditID":"a","stage":"ResponseComplete","verb":"get","user":{"username":"x"}}"#;
    let spaced = k.replace(',', ", ");
    let other_user = k.replace("\"x\"", "\"y\"");
    let other_stage = k.replace("ResponseComplete", "RequestReceived");
    assert_eq!(uid(Format::Kubernetes, k), uid(Format::Kubernetes, &spaced));
    assert_ne!(uid(Format::Kubernetes, k), uid(Format::Kubernetes, &other_user));
    assert_eq!(group(Format::Kubernetes, k), group(Format::Kubernetes, &other_user));
    assert_ne!(group(Format::Kubernetes, k), group(Format::Kubernetes, &other_stage));
    assert_eq!(text(&event(Format::Kubernetes, k).unwrap(), Column::KeytrailScope), None);

    let g = r#"{"logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity","timestamp":"2026-01-01T00:00:00Z","insertId":"i","protoPayload":{"methodName":"m"}}"#;
    let scope = text(&event(Format::Gcp, g).unwrap(), Column::KeytrailScope);
    assert_eq!(scope.as_deref(), Some("projects/p/logs/cloudaudit.googleapis.com%2Factivity"));
    assert_eq!(group(Format::Gcp, g), group(Format::Gcp, &g.replace("\"m\"", "\"n\"")));
    for (was, is) in [("projects/p", "projects/q"), ("00:00Z", "00:01Z"), ("\"i\"", "\"j\"")] {
        assert_ne!(group(Format::Gcp, g), group(Format::Gcp, &g.replace(was, is)), "{is}");
    }
    let without_id = event(Format::Gcp, &g.replace("insertId", "other")).unwrap();
    assert_eq!(text(&without_id, Column::KeytrailScope), None);

    let v = r#"{"category":"AuditEvent","resourceId":"/SUBSCRIPTIONS/1/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V","operationName":"KeyGet","correlationId":"c"}"#;
    let rows = event(Format::KeyVault, v).unwrap();
    assert_eq!((text(&rows, Column::KeytrailScope), text(&rows, Column::EventId)), (None, None));
    assert_ne!(group(Format::KeyVault, v), group(Format::KeyVault, &v.replace("KeyGet", "KeyList")));
}

#[test]
fn values_of_secrets_reach_no_column_and_no_terminal() {
    let masker = Masker::new(&[7; 32]);
    let secrets = [
        "hunter2",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "hvs.CAESIJlWh1Zj0123456789abcdefAB",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJSUzI1NiJ9",
        "abcdef0123456789.xyz",
        "aHVudGVyMg==",
        "Y29ycmVjdC1ob3JzZQ==",
        "YmF0dGVyeS1zdGFwbGU=",
        "correct-horse",
        "canary-aio",
    ];
    let mut seen = [false; 11];
    for format in SOURCES {
        let made =
            ["secrets-and-rbac", "keys-and-secrets"].map(|case| fixtures().join(format.name()).join(case));
        let cases = made.iter().filter(|case| case.is_dir()).filter_map(|case| case.file_name()?.to_str());
        let typical: Vec<String> = cases.flat_map(|case| frames(&input(format.name(), case))).collect();
        for record in hostile(format.name()).into_iter().chain(typical) {
            let present: Vec<usize> = (0..secrets.len()).filter(|i| record.contains(secrets[*i])).collect();
            let shown = masker.mask_document(Some(format), record.as_bytes());
            let columns = event(format, &record).map_or_else(|r| r.reason, |rows| texts(&rows));
            for i in present {
                seen[i] = true;
                assert!(!columns.contains(secrets[i]), "{}: {columns}", secrets[i]);
                // In a query of a path there is no shape but that of a named value.
                assert!(!shown.contains(secrets[i]), "{}: {shown}", secrets[i]);
            }
        }
    }
    assert_eq!(seen, [true; 11], "a fixture has lost a secret");
}

/// A canary in every secret field that `schemas/sensitive.yaml` lists.
#[test]
fn listed_fields_reach_no_column() {
    let yaml = include_str!("../../../schemas/sensitive.yaml");
    let masker = Masker::new(&[7; 32]);
    for (format, head) in [
        (
            Format::Kubernetes,
            r#"{"auditID":"a","stage":"ResponseComplete","verb":"get","objectRef":{"resource":"secrets","name":"n"},"#,
        ),
        (
            Format::Gcp,
            r#"{"logName":"l","protoPayload":{"serviceName":"cloudkms.googleapis.com","methodName":"Decrypt","#,
        ),
        (
            Format::KeyVault,
            r#"{"category":"AuditEvent","operationName":"SecretGet","resourceId":"/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V","#,
        ),
    ] {
        let list = yaml.split(&format!("  {}:\n", format.name())).nth(1).unwrap();
        let paths: Vec<_> = list.lines().map_while(|l| l.strip_prefix("    - ")).collect();
        assert!(paths.len() >= 3, "{}", format.name());
        for path in paths {
            let (path, last) =
                path.strip_suffix("\"]").and_then(|p| p.rsplit_once("[\"")).unwrap_or((path, ""));
            let path = path.strip_prefix("protoPayload.").unwrap_or(path);
            let mut body = "\"canary-canary\"".to_owned();
            for name in [last].into_iter().chain(path.rsplit('.')).filter(|n| !n.is_empty()) {
                body = format!("{{\"{name}\":{body}}}");
            }
            let record =
                format!("{head}{}{}", &body[1..], if head.contains("protoPayload") { "}" } else { "" });
            assert!(!texts(&event(format, &record).unwrap()).contains("canary"), "{record}");
            assert!(!masker.mask_document(Some(format), record.as_bytes()).contains("canary"), "{record}");
        }
    }
}

/// Quadratic work on any of these would take minutes.
#[test]
fn long_lists_take_linear_time() {
    let list = |item: &dyn Fn(usize) -> String| (0..100_000).map(item).collect::<Vec<_>>().join(",");
    let names = list(&|i| format!("\"n{i}\""));
    let subjects = list(&|i| format!("{{\"kind\":\"User\",\"name\":\"u{i}\"}}"));
    let ips = list(&|i| format!("\"10.{}.{}.{}\"", i >> 16, i >> 8 & 255, i & 255));
    let kubernetes = format!(
        r#"{{"auditID":"a","stage":"ResponseComplete","verb":"create","user":{{"username":"u","groups":[{names}]}},"sourceIPs":[{ips}],"objectRef":{{"apiGroup":"rbac.authorization.k8s.io","resource":"clusterrolebindings","name":"b"}},"requestObject":{{"subjects":[{subjects}],"roleRef":{{"name":"r"}}}}}}"#
    );
    event(Format::Kubernetes, &kubernetes).unwrap();
    let asked = list(&|i| format!("{{\"resource\":\"r{i}\",\"granted\":true}}"));
    let chain = list(&|i| format!("{{\"principalSubject\":\"s{i}\"}}"));
    let deltas = list(&|i| format!("{{\"member\":\"m{i}\",\"role\":\"r{i}\"}}"));
    let gcp = format!(
        r#"{{"protoPayload":{{"serviceName":"cloudkms.googleapis.com","methodName":"SetIamPolicy","authorizationInfo":[{asked}],"authenticationInfo":{{"serviceAccountDelegationInfo":[{chain}]}},"serviceData":{{"policyDelta":{{"bindingDeltas":[{deltas}]}}}}}}}}"#
    );
    event(Format::Gcp, &gcp).unwrap();
    let keyvault = format!(
        r#"{{"category":"AuditEvent","operationName":"VaultPatch","resourceId":"/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/V","identity":{{"claim":{{"amr":[{names}]}}}},"properties":{{"addedAccessPolicy":{{"Permissions":{{"keys":[{names}]}}}}}}}}"#
    );
    event(Format::KeyVault, &keyvault).unwrap();
}

#[test]
fn refusals_name_the_field_and_no_value() {
    for format in SOURCES {
        for record in hostile(format.name()) {
            let Err(refused) = event(format, &record) else { continue };
            if matches!(refused.code, Reject::FieldType | Reject::FieldMissing | Reject::JsonDuplicateKey) {
                assert!(refused.reason.starts_with('`'), "{}", refused.reason);
            }
            assert!(
                !refused.reason.contains("hunter2") && !refused.reason.ends_with('.'),
                "{}",
                refused.reason
            );
        }
    }
}
