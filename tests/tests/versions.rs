//! Archives that earlier versions wrote: they verify, and one query reads them together with today's.

use std::path::PathBuf;
use std::process::Command;

use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, copy_folder, number, text};

fn fixture(version: u32) -> PathBuf {
    tools::root().join(format!("tests/fixtures/archive/v{version}"))
}

#[test]
fn an_archive_of_version_1_verifies() {
    let trail = Trail::new();
    copy_folder(&fixture(1), &trail.data());
    let (code, report) = trail.verify_json::<&str>([]);
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!((code, findings.len()), (Some(0), 1), "{report:#}");
    assert_eq!(findings[0]["code"], "WITHHELD");
    assert_eq!((number(&report["objects"]), number(&report["rows"])), (1, 10));
    let uid = text(&findings[0]["element"]).rsplit(' ').next().expect("a uid").to_owned();
    let shown = trail.keytrail(["explain", &uid]).success().stdout;
    assert!(shown.contains("original  withheld: a fixture"), "{shown}");
    assert_eq!(trail.keytrail(["quarantine", "list", "--json"]).success().json_lines().len(), 1);
}

/// Files of all versions in one query, by readers that know nothing of keytrail.
#[test]
fn one_query_reads_all_versions() {
    let trail = Trail::new();
    let event = r#"{"eventVersion":"1.08","userIdentity":{"type":"Root","accountId":"111122223333"},"eventTime":"2024-02-04T00:00:00Z","eventSource":"kms.amazonaws.com","eventName":"DisableKey","awsRegion":"us-east-1","eventID":"now","eventType":"AwsApiCall","recipientAccountId":"111122223333"}"#;
    trail.run([trail.input("in.json", event)]).success();
    copy_folder(&fixture(1).join("archive"), &trail.data().join("archive"));
    let rows = trail
        .query("select event_action, count(distinct keytrail_uid) as n from {archive} group by 1 order by 1");
    let counted: Vec<_> = rows.iter().map(|r| (text(&r["event_action"]), number(&r["n"]))).collect();
    assert_eq!(counted, [("Decrypt".into(), 10), ("DisableKey".into(), 1)]);
    const SCRIPT: &str = "import sys, glob, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq\n\
        files = glob.glob(sys.argv[1] + '/archive/**/*.parquet', recursive=True)\n\
        schema = pa.unify_schemas([pq.read_schema(f) for f in files])\n\
        print(len(files), ds.dataset(files, schema=schema).to_table(columns=['keytrail_uid']).num_rows)\n";
    let output =
        Command::new(tools::python()).args(["-c", SCRIPT]).arg(trail.data()).output().expect("python starts");
    assert_eq!(Ran::from(output).success().stdout, "2 11\n");
}

/// What a sidecar of version 1 shipped is read, and proven to its last record.
#[test]
fn segments_of_version_1_are_read() {
    let folder = tools::root().join("tests/fixtures/segments/v1");
    let trail = Trail::new();
    let summary = trail.run_json([folder.join("input.ktseg")]);
    assert_eq!((number(&summary["accepted"]), number(&summary["read"])), (18, 18));
    let args = ["--audit-keys", "sidecar.keys", "--receipts", "receipts.jsonl"];
    let (code, report) =
        trail.verify_json(args.map(|a| if a.starts_with("--") { a.into() } else { folder.join(a) }));
    assert_eq!(code, Some(0), "{report:#}");
    let chains = &report["chains"];
    assert_eq!((number(&chains["epochs"]), number(&chains["records"])), (1, 18));
}
