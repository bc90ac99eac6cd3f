//! The template as it is deployed, to LocalStack, with the real zips, a real search engine and a live OpenBao behind the
//! sidecar: from what producers put to the report that is published.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keytrail_model::Hash;
use keytrail_tests::openbao::OpenBao;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::sidecar::Sidecar;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

use crate::stack::{LIMIT, Stack, uids};

#[test]
fn the_template_archives_indexes_proves_and_reports_what_producers_put() {
    let engine = SearchServer::elasticsearch();
    let stack = Stack::deploy(
        "test",
        &[
            format!("ElasticsearchUrl={}", engine.url()),
            "LockMode=GOVERNANCE".to_owned(),
            "RecordsWindowSeconds=0".to_owned(),
            "ObjectsWindowSeconds=1".to_owned(),
        ],
    );
    let aws = &stack.aws;
    // Who reads reports.
    let queue = aws.call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": "reports-of-the-test"}));
    let queue = text(&queue["QueueUrl"]);
    let topic = stack.name("topics", "reports");
    aws.query(
        "sns",
        &format!(
            "Action=Subscribe&Version=2010-03-31&Protocol=sqs&TopicArn={topic}&Endpoint=arn:aws:sqs:us-east-1:000000000000:reports-of-the-test"
        ),
    );

    // Files of other services, put where the bucket tells of them.
    let examples = tools::root().join("examples");
    let mut inputs = Vec::new();
    let mut open: Vec<_> =
        ["vault/audit.ndjson", "kubernetes", "cloudhsm", "gcp"].map(|name| examples.join(name)).into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
            continue;
        }
        let key = format!("incoming/{}", path.strip_prefix(&examples).expect("below it").display());
        aws.put_object(&stack.raw(), &key, &std::fs::read(&path).expect("a file"));
        inputs.push(path);
    }
    // Calls of a live OpenBao, whose only audit device is the sidecar.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    let stream = text(&stack.names["stream"]);
    let to =
        format!("kinesis = {{ stream = \"{stream}\", bucket = \"{}\", prefix = \"sidecars\" }}", stack.raw());
    sidecar.configure("", &format!("[ship]\ninterval = \"100ms\"\n{to}\n"));
    sidecar.set_environment(aws.whole_environment(&aws.url()));
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.http_device());
    assert!(bao.call("sys/mounts/transit", &json!({"type": "transit"})).status < 300);
    assert!(bao.call("transit/keys/k", &json!({})).status < 300);
    for n in 0..20 {
        assert!(
            bao.call("transit/encrypt/k", &json!({"plaintext": STANDARD.encode(n.to_string())})).status < 500
        );
    }
    let begin = Instant::now();
    while sidecar.metric("keytrail_sidecar_unshipped_records") != Some(0.0) {
        assert!(begin.elapsed() < LIMIT, "{:#?}", sidecar.logged());
        thread::sleep(Duration::from_millis(50));
    }
    let shipped = inputs.len() + 1;
    stack.settle(shipped);

    // Each event is archived exactly once, and it is what one machine makes of the same files.
    let trail = stack.fetched();
    let one = Trail::new();
    one.run_json(&inputs);
    let (cloud, local) = (uids(&trail), uids(&one));
    assert_eq!(local.difference(&cloud).count(), 0, "all of the files is in the archive");
    let chained = trail.query("select count(*) n from {archive} where keytrail_ledger_source is not null and event_dataset = 'vault.audit'");
    assert!(number(&chained[0]["n"]) >= 40, "a request and a response of each call: {chained:?}");
    assert_eq!(trail.events().len(), cloud.len(), "no event is there twice");
    let (code, verified) = stack.keytrail(&["verify", "--json"]);
    assert_eq!(code, one.verify_json([""; 0]).0, "{verified}");

    // Indexed exactly once.
    let (code, said) = stack.keytrail(&["reconcile", "--elasticsearch", &engine.url()]);
    if code != Some(0) {
        // What was not indexed ahead of sealing is by the cursor.
        stack.call("index-events", &json!({}));
        let (code, said) = stack.keytrail(&["reconcile", "--elasticsearch", &engine.url()]);
        assert_eq!(code, Some(0), "{said}");
    } else {
        assert_eq!(code, Some(0), "{said}");
    }

    // Retention was set, and is read back; a locked version cannot be deleted.
    let object =
        aws.keys(&stack.archive()).into_iter().find(|key| key.starts_with("archive/")).expect("an object");
    let (status, headers) = aws.s3_headers("HEAD", &format!("{}/{object}", stack.archive()));
    assert_eq!((status, headers["x-amz-object-lock-mode"].as_str()), (200, "GOVERNANCE"));
    let version = &headers["x-amz-version-id"];
    let (status, _) = aws.s3_headers("DELETE", &format!("{}/{object}?versionId={version}", stack.archive()));
    assert_eq!(status, 403);

    // Compaction, and everything is still there.
    stack.run("seal", &json!({}));
    assert_eq!(uids(&stack.fetched()), cloud);

    // The weekly reports, signed and published with their digests.
    stack.run("weekly-report", &json!({}));
    let mut digests = Vec::new();
    loop {
        let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1});
        let answer = aws.call("sqs", "AmazonSQS.ReceiveMessage", &ask);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            let done = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
            aws.call("sqs", "AmazonSQS.DeleteMessage", &done);
            let notice: Value = serde_json::from_str(&text(&message["Body"])).expect("JSON");
            digests.push(serde_json::from_str::<Value>(&text(&notice["Message"])).expect("a digest"));
        }
    }
    let reports = stack.name("buckets", "reports");
    let published: BTreeSet<String> = digests.iter().map(|digest| text(&digest["week"])).collect();
    assert!(!published.is_empty() && published.len() == digests.len(), "one message a week: {digests:?}");
    for digest in &digests {
        let key = text(&digest["json"]).replace(&format!("s3://{reports}/"), "");
        let report = aws.object(&reports, &key);
        assert_eq!(Hash::of(&report).to_string(), text(&digest["sha256"]));
        let signature = text(&digest["signature"]).replace(&format!("s3://{reports}/"), "");
        let signed = String::from_utf8(aws.object(&reports, &signature)).expect("a note");
        assert!(
            signed.contains(&text(&digest["sha256"])) && signed.contains("\n\u{2014} keytrail.aws/"),
            "{signed}"
        );
    }
    // Nothing is due now.
    let again = stack.call("freeze-week", &json!({}));
    assert_eq!(again["week"], Value::Null);

    // A back-fill says what it costs before it begins; done twice, it adds nothing.
    let input = json!({"backfill": {"bucket": stack.raw(), "prefix": "incoming/"}, "dry_run": true});
    let planned = stack.run("backfill", &input);
    assert!(planned.to_string().contains("USD"), "{planned}");
    let input = json!({"backfill": {"bucket": stack.raw(), "prefix": "incoming/"}, "dry_run": false});
    stack.run("backfill", &input);
    stack.settle(shipped);
    assert_eq!(uids(&stack.fetched()), cloud);
    assert_eq!(stack.fetched().events().len(), cloud.len());

    // A batch that was parked goes on where somebody drives it again.
    let event = json!({
        "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
        "eventTime": "2023-07-01T11:42:20Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
        "awsRegion": "us-east-1", "recipientAccountId": "111122223333", "eventID": "parked",
    });
    aws.put_object(&stack.raw(), "staged/parked.ndjson", event.to_string().as_bytes());
    let input =
        json!({"batch": "parked", "objects": [{"bucket": stack.raw(), "key": "staged/parked.ndjson"}]});
    let parked = json!({"machine": "ingest", "input": input, "error": "Retryable.Store", "cause": "", "execution": ""});
    let send = json!({"QueueUrl": stack.name("queues", "parked"), "MessageBody": parked.to_string()});
    aws.call("sqs", "AmazonSQS.SendMessage", &send);
    stack.run("redrive", &json!({}));
    stack.settle(shipped + 1);
    assert_eq!(uids(&stack.fetched()).len(), cloud.len() + 1);
    // What fails for good is parked, with enough to be driven again.
    let start = json!({"stateMachineArn": stack.name("machines", "ingest"), "input": json!({"batch": 1}).to_string()});
    aws.call("states", "AWSStepFunctions.StartSyncExecution", &start);
    let parked = stack.parked();
    let body: Value = serde_json::from_str(&text(&parked["Messages"][0]["Body"])).expect("JSON");
    assert_eq!(
        (&body["machine"], &body["input"]["batch"], &body["error"]),
        (&json!("ingest"), &json!(1), &json!("Fatal.Input"))
    );
    // Driven again before its cause is mended it is parked again, and its redrive ends.
    let queue = stack.name("queues", "parked");
    let seen = json!({
        "QueueUrl": queue, "ReceiptHandle": parked["Messages"][0]["ReceiptHandle"], "VisibilityTimeout": 0,
    });
    aws.call("sqs", "AmazonSQS.ChangeMessageVisibility", &seen);
    let driven = stack.run("redrive", &json!({}));
    assert_eq!(driven["redriven"]["answer"]["redriven"], 1, "{driven}");
    let begin = Instant::now();
    loop {
        let counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let ask = json!({"QueueUrl": queue, "AttributeNames": counts});
        let is = aws.call("sqs", "AmazonSQS.GetQueueAttributes", &ask);
        let count = |name: &str| text(&is["Attributes"][name]).parse::<u64>().expect("a number");
        if counts.map(count).iter().sum::<u64>() == 1 {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "{is}");
        thread::sleep(Duration::from_millis(50));
    }

    // No function did what its role may not.
    stack.calls_are_covered();
}
