//! `infra/aws` and `statemachines`: linters find nothing, and template, machines, code and runbook tell of the same things.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use keytrail_tests::tools;

/// A script's success, and what it printed.
fn said(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    (status.success(), [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
}

/// The check of a checkout.
fn cross_check(root: &Path) -> Command {
    let mut command = Command::new(tools::aws().join("sam/bin/python"));
    command.arg(root.join("tests/aws/cross_check.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[test]
fn linters_find_nothing() {
    let aws = tools::aws();
    let home = aws.parent().expect("the tools");
    let (good, text) = said(Command::new(tools::root().join("tests/aws/lint")).env("KEYTRAIL_TOOLS", home));
    assert!(good, "{text}");
}

#[test]
fn template_machines_code_and_runbook_agree() {
    let (good, text) = said(&mut cross_check(&tools::root()));
    assert!(good && text.ends_with(" 0 problems\n"), "{text}");
}

/// What is changed in one place alone is told.
#[test]
fn what_differs_is_told() {
    let cases = [
        ("infra/aws/template.yaml", "Action: [s3:DeleteObject]", "Action: [s3:*]", "`s3:*`"),
        (
            "infra/aws/template.yaml",
            "KEYTRAIL_PARKED: ",
            "KEYTRAIL_QUEUE: ",
            "environment of redrive-batches: `KEYTRAIL_PARKED` is missing",
        ),
        (
            "infra/aws/template.yaml",
            "'${ArchiveBucket.Arn}/state/uids/*'",
            "'${ArchiveBucket.Arn}/*'",
            "rights of archive-events: `('s3:PutObject', 'ArchiveBucket/*')` is not expected",
        ),
        (
            "infra/aws/template.yaml",
            "{Name: event_hash, Type: string}",
            "{Name: event_hash, Type: binary}",
            "columns differ from archive.v1.json",
        ),
        (
            "infra/aws/template.yaml",
            "            BisectBatchOnFunctionError: true\n",
            "",
            "RecordsStream: batches are not bisected",
        ),
        (
            "infra/aws/template.yaml",
            "Prefix: open/",
            "Prefix: incoming/",
            "RawBucket: versions that are not taken expire by `markers`",
        ),
        (
            "infra/aws/functions.yaml",
            "Fatal.LogFork, ",
            "",
            "errors that seal/SealArchive catches: `Fatal.LogFork` is not expected",
        ),
        (
            "infra/aws/RUNBOOK.md",
            "| `ROLLBACK` ",
            "| `ROLLED` ",
            "sections of RUNBOOK.md: `ROLLBACK` is missing",
        ),
        (
            "infra/aws/RUNBOOK.md",
            "### `SealMissedAlarm`",
            "### Sealing",
            "sections of RUNBOOK.md: `SealMissedAlarm` is missing",
        ),
        (
            "infra/aws/COSTS.md",
            "| **a million events** |",
            "| **an event** |",
            "COSTS.md: differs from what it is made of",
        ),
        ("infra/aws/samconfig.toml", "LockMode=COMPLIANCE", "LockMode=GOVERNANCE", "prod does not lock"),
        (
            "statemachines/ingest.asl.json",
            "\"TimeoutSeconds\": 120",
            "\"TimeoutSeconds\": 190",
            "ingest: its functions may take 250 s, expected less than 240",
        ),
        (
            "statemachines/ingest.asl.json",
            "\"seconds\": 100",
            "\"seconds\": 120",
            "ingest/ArchiveEvents: gives its function as long as it waits",
        ),
        (
            "statemachines/backfill.asl.json",
            "\"execution.$\": \"$$.Execution.Id\"",
            "\"run.$\": \"$$.Execution.Id\"",
            "`execution.$` is missing",
        ),
    ];
    let copy = tempfile::tempdir().expect("a temporary folder");
    let at = |path: &str| copy.path().join(path);
    for path in [
        "infra/aws",
        "statemachines",
        "tests/aws",
        "schemas",
        "crates/ledger",
        "crates/normalize",
        "crates/lambdas",
    ] {
        let from = tools::root().join(path);
        if from.exists() {
            fs::create_dir_all(at(path).parent().expect("a folder")).expect("made");
            let (good, text) = said(Command::new("cp").arg("-r").args([from, at(path)]));
            assert!(good, "{text}");
        }
    }
    let (good, text) = said(&mut cross_check(copy.path()));
    assert!(good, "{text}");
    for (file, old, new, expected) in cases {
        let text = fs::read_to_string(at(file)).expect("the file");
        assert!(text.contains(old), "{file}: {old}");
        fs::write(at(file), text.replacen(old, new, 1)).expect("written");
        let (good, problems) = said(&mut cross_check(copy.path()));
        assert!(!good && problems.contains(expected), "{file}: `{old}`: {problems}");
        fs::write(at(file), text).expect("written");
    }
}

/// What functions called in the emulation, which enforces no rights, is held against those that they have.
#[test]
fn calls_without_a_right_are_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let names = r#"{"stream": "keytrail-test-records", "buckets": {"archive": "a", "raw": "r"}, "queues": {"parked": "http://q/parked"},
        "topics": {"alerts": "arn:t"}, "machines": {"ingest": "arn:m"}, "secret": "arn:s"}"#;
    let call =
        |function: &str, rest: &str| format!("{{\"function\": \"keytrail-test-{function}\", {rest}}}\n");
    let covered = [
        call(
            "archive-events",
            r#""service": "s3", "operation": "PutObject", "Bucket": "a", "Key": "archive/x", "ObjectLockMode": "GOVERNANCE""#,
        ),
        call(
            "archive-events",
            r#""service": "s3", "operation": "GetObject", "Bucket": "r", "Key": "staged/x", "VersionId": "1""#,
        ),
        call(
            "archive-events",
            r#""service": "s3", "operation": "HeadObject", "Bucket": "a", "Key": "archive/x", "VersionId": "1""#,
        ),
        call(
            "archive-events",
            r#""service": "s3", "operation": "CompleteMultipartUpload", "Bucket": "a", "Key": "archive/x""#,
        ),
        call(
            "seal-archive",
            r#""service": "s3", "operation": "GetObjectTagging", "Bucket": "r", "Key": "incoming/x", "VersionId": "1""#,
        ),
        call("archive-events", r#""service": "s3", "operation": "ListObjectsV2", "Bucket": "a""#),
        call(
            "archive-events",
            r#""service": "s3", "operation": "GetObject", "Bucket": "another", "Key": "AWSLogs/x""#,
        ),
        call(
            "redrive-batches",
            r#""service": "stepfunctions", "operation": "StartExecution", "stateMachineArn": "arn:x:keytrail-test-ingest""#,
        ),
        call(
            "redrive-batches",
            r#""service": "sqs", "operation": "ReceiveMessage", "QueueUrl": "http://q/parked""#,
        ),
        call("publish-alerts", r#""service": "sns", "operation": "Publish", "TopicArn": "arn:t""#),
    ];
    let not_covered = [
        call(
            "stage-records",
            r#""service": "s3", "operation": "PutObject", "Bucket": "a", "Key": "archive/x""#,
        ),
        call(
            "archive-events",
            r#""service": "s3", "operation": "DeleteObjects", "Bucket": "a", "Delete": {"Objects": [{"Key": "log/x"}]}"#,
        ),
        call(
            "render-report",
            r#""service": "s3", "operation": "CreateMultipartUpload", "Bucket": "a", "Key": "reports/x", "ObjectLockLegalHoldStatus": "ON""#,
        ),
        call("index-events", r#""service": "sns", "operation": "Publish", "TopicArn": "arn:t""#),
    ];
    let check = |calls: &str| {
        fs::write(folder.path().join("calls"), calls).expect("written");
        fs::write(folder.path().join("names"), names).expect("written");
        let mut command = Command::new(tools::aws().join("sam/bin/python"));
        command.arg(tools::root().join("tests/aws/rights.py")).args(["calls", "names"]);
        said(command.current_dir(folder.path()))
    };
    assert_eq!(check(&covered.concat()), (true, "10 calls, 0 without a right\n".to_owned()));
    let told = "archive-events: no right covers `s3:DeleteObject` on `ArchiveBucket/log/x`\n\
                index-events: no right covers `sns:Publish` on `AlertsTopic`\n\
                render-report: no right covers `s3:PutObjectLegalHold` on `ArchiveBucket/reports/x`\n\
                stage-records: no right covers `s3:PutObject` on `ArchiveBucket/archive/x`\n\
                14 calls, 4 without a right\n";
    assert_eq!(check(&[covered.concat(), not_covered.concat()].concat()), (false, told.to_owned()));
}
