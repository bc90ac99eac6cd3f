//! What a declaration does to records: of each source, and of those that are not of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::path::Path;

use keytrail_model::row::{Provenance, text};
use keytrail_model::{Column, Reject, Rejection, RowBuffer, Timestamp};
use keytrail_normalize::framing::{Frame, Limits, Splitter};
use keytrail_normalize::sequence::{Position, of_refused};
use keytrail_normalize::{Context, Declaration, Format, Masker, Origin, normalize_of};

/// A typical input of each source.
const TYPICAL: [(Format, &str); 7] = [
    (Format::CloudHsm, "cloudhsm/audit-log-guide/input.txt"),
    (Format::CloudTrail, "../../examples/cloudtrail/stratus-red-team"),
    (Format::Gcp, "../../examples/gcp/audit.jsonl"),
    (Format::KeyOperation, "../../examples/key-operation/hsm-gateway.ndjson"),
    (Format::KeyVault, "../../examples/keyvault/audit-event.json"),
    (Format::Kubernetes, "../../examples/kubernetes/audit2rbac.log"),
    (Format::Vault, "vault/vault-2024/input.ndjson"),
];

/// The first records of a source, as a run cuts them.
fn records(path: &str) -> Vec<Vec<u8>> {
    let mut path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path);
    while path.is_dir() {
        let mut names: Vec<_> = path.read_dir().unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.retain(|p| p.is_dir() || p.extension().is_some_and(|e| e == "json" || e == "jsonl"));
        path = names[0].clone();
    }
    let mut out = Vec::new();
    Splitter::new(Limits::default()).run(&std::fs::read(path).unwrap(), true, &mut |frame: Frame<'_>| {
        out.push(frame.bytes.to_vec());
    });
    out.truncate(20);
    assert!(!out.is_empty());
    out
}

fn event(
    format: Format,
    record: &[u8],
    origin: &Origin<'_>,
    declared: Option<Declaration<'_>>,
) -> Result<RowBuffer, Rejection> {
    let masker = Masker::new(&[7; 32]);
    let ctx = Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared };
    let mut rows = RowBuffer::new();
    normalize_of(format, record, origin, Provenance { input: 0, offset: 0 }, &ctx, &mut rows)?;
    Ok(rows)
}

/// A declared source takes its format for granted and looks again at what is refused: no normalizer may
/// take another source's record.
#[test]
fn no_normalizer_takes_another_source_s_records() {
    for (is, path) in TYPICAL {
        for record in records(path) {
            assert_eq!(Format::recognise(&record), Some(is), "{path}");
            for (other, _) in TYPICAL.iter().filter(|(other, _)| *other != is) {
                let refused = event(*other, &record, &Origin::default(), None).unwrap_err();
                let looked_at_again =
                    matches!(refused.code, Reject::FieldMissing | Reject::FieldType | Reject::JsonBroken);
                assert!(looked_at_again, "{other:?} says of a record of {is:?}: {refused:?}");
            }
        }
    }
}

#[test]
fn a_declaration_is_in_the_row_and_in_no_identity() {
    for (format, path) in TYPICAL {
        let instance = format.has_instances().then_some("hsm-a1");
        let declared = Declaration { source: "mine", instance, accounts: &[] };
        for record in records(path) {
            let plain = event(format, &record, &Origin::default(), None).unwrap();
            let rows = event(format, &record, &Origin::default(), Some(declared)).unwrap();
            let (plain, row) = (plain.row(0), rows.row(0));
            assert_eq!((plain.head.uid, plain.head.group), (row.head.uid, row.head.group));
            assert_eq!(text(row.columns, Column::KeytrailSource), Some("mine"));
            assert_eq!(Declaration::of_row(format, row.columns), Some(declared));
            assert_eq!(Declaration::of_row(format, plain.columns), None);
            if format.has_instances() {
                assert_eq!(text(plain.columns, Column::KeytrailScope), None);
                assert_eq!(text(row.columns, Column::KeytrailScope), Some("hsm-a1"));
            }
        }
    }
}

#[test]
fn what_a_record_says_of_itself_has_to_be_what_is_declared() {
    let block = &records(TYPICAL[0].1)[0];
    let origin = Origin {
        account: "111122223333".into(),
        log_group: "/aws/cloudhsm/cluster-x".into(),
        log_stream: "hsm-a1".into(),
        ..Origin::default()
    };
    let accounts = ["111122223333".to_owned()];
    let of = |instance, accounts| Some(Declaration { source: "mine", instance, accounts });
    assert!(event(Format::CloudHsm, block, &origin, of(Some("hsm-a1"), &accounts)).is_ok());
    let others = ["444455556666".to_owned()];
    for declared in [of(Some("hsm-b2"), &accounts), of(None, &others)] {
        let refused = event(Format::CloudHsm, block, &origin, declared).unwrap_err();
        assert_eq!(refused.code, Reject::SourceMismatch);
        assert!(!refused.reason.contains("111122223333") && refused.reason.contains("`mine`"), "{refused:?}");
    }
    // Where the record names no account there is nothing to compare.
    assert!(event(Format::CloudHsm, block, &Origin::default(), of(None, &accounts)).is_ok());
    // Azure writes one subscription in two ways.
    let vault = &records(TYPICAL[4].1)[0];
    let rows = event(Format::KeyVault, vault, &Origin::default(), None).unwrap();
    let subscription = text(rows.row(0).columns, Column::CloudAccountId).unwrap().to_owned();
    let spelled = [subscription.to_ascii_uppercase(), subscription.to_ascii_lowercase()];
    for accounts in spelled.chunks(1) {
        assert!(event(Format::KeyVault, vault, &Origin::default(), of(None, accounts)).is_ok());
    }
}

#[test]
fn refused_records_still_say_where_they_stand() {
    let claimed = |refused: &[u8], hsm: Option<&str>| {
        let mut all = Vec::new();
        of_refused(refused, hsm, &mut |p: Position<'_>| all.push((p.source.to_string(), p.epoch, p.seq)));
        all
    };
    let block = String::from_utf8(records(TYPICAL[0].1)[0].clone()).unwrap();
    let broken = block.replace("Response", "Resp");
    assert_eq!(claimed(broken.as_bytes(), None), []);
    assert_eq!(claimed(broken.as_bytes(), Some("hsm-a1")), [("hsm-a1".to_owned(), 0xe8, 1)]);
    let record = String::from_utf8(records(TYPICAL[3].1)[2].clone()).unwrap();
    let broken = record.replacen('{', r#"{"unknown":1,"#, 1);
    assert_eq!(claimed(broken.as_bytes(), None), [("hsm-gateway-0000/partition-0".to_owned(), 1, 1)]);
    for hostile in [
        "",
        "{}",
        r#"{"source":"\u001b[31m","epoch":1,"seq":1}"#,
        "Time: x\nSequence No : 0x1\nOpcode : CN_X",
    ] {
        assert_eq!(claimed(hostile.as_bytes(), Some("hsm-a1")), [], "{hostile}");
    }
    let negative = record.replace("\"seq\":1,", "\"seq\":-1,");
    assert_eq!(claimed(negative.as_bytes(), None), []);
}
