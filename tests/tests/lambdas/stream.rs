//! Records of a stream: what a sidecar ships, log events of CloudWatch, and what is neither.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_lambda_harness::{Destination, Fault, Faults, KinesisMapping, Stream};
use keytrail_tests::cloud::Cloud;
use keytrail_tests::tools;
use keytrail_tests::trail::Trail;
use serde_json::json;

/// How long a stream may take.
const LIMIT: Duration = Duration::from_secs(60);

fn mapping(batch_size: usize) -> KinesisMapping {
    KinesisMapping {
        batch_size,
        bisect: true,
        maximum_retry_attempts: Some(8),
        report_batch_item_failures: true,
        ..KinesisMapping::default()
    }
}

/// A record of CloudWatch Logs with one event, as a subscription sends it.
fn cloudwatch(message: &str) -> Vec<u8> {
    let record = json!({
        "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "g", "logStream": "s",
        "subscriptionFilters": ["f"], "logEvents": [{"id": "1", "timestamp": 1_700_000_000_000u64, "message": message}],
    });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(record.to_string().as_bytes()).expect("in memory");
    gzip.finish().expect("in memory")
}

fn event(n: usize) -> String {
    json!({
        "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
        "eventTime": "2023-07-01T11:42:20Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
        "awsRegion": "us-east-1", "recipientAccountId": "111122223333", "eventID": format!("event-{n}"),
    })
    .to_string()
}

#[test]
fn every_record_of_a_stream_is_archived_once_whatever_happens_to_the_calls() {
    let cloud = Cloud::new();
    let segments =
        std::fs::read(tools::root().join("tests/fixtures/segments/v1/input.ktseg")).expect("a fixture");
    let stream = Stream::new("records", 2);
    let one = Trail::new();
    let mut lines = String::new();
    stream.put("bao-1", segments.clone());
    for n in 0..200 {
        lines += &(event(n) + "\n");
        match n % 2 {
            0 => stream.put(format!("k{}", n % 7), event(n)),
            _ => stream.put(format!("k{}", n % 7), cloudwatch(&event(n))),
        };
    }
    stream.put("k3", "no record of anybody");
    let inputs = [one.input("segments.ktseg", &segments), one.input("events.ndjson", lines)];
    let run = one.run_json(&inputs);

    // Calls are killed before, while and after they work; some come twice.
    let faults = Faults::none()
        .at(1, Fault::KillAtStart)
        .at(3, Fault::KillBeforeResponse)
        .at(4, Fault::Duplicate { at_once: true })
        .at(6, Fault::KillAfter(Duration::from_millis(20)))
        .at(7, Fault::KillBeforeResponse)
        .at(9, Fault::Duplicate { at_once: false });
    cloud.deploy(cloud.function("stage-records").faults(faults));
    let (lost, collected) = Destination::collect();
    let source = cloud
        .harness
        .map_kinesis(&stream, "stage-records", KinesisMapping { on_failure: Some(lost), ..mapping(25) })
        .expect("a mapping");
    source.wait(LIMIT).expect("all records are taken");
    source.stop();
    assert_eq!(collected.all().len(), 0, "no record was given up");

    for input in cloud.started(1) {
        cloud.archive(&input);
    }
    cloud.seal();
    // What was staged by calls whose start was never heard of.
    for _ in 0..3 {
        cloud.call("sweep-raw", &json!({}));
        for input in cloud.started(0) {
            cloud.archive(&input);
        }
        cloud.seal();
    }
    assert_eq!(cloud.open(), 0);
    let trail = cloud.fetched();
    assert_eq!(trail.events(), one.events());
    let (code, report) = trail.verify_json([""; 0]);
    assert_eq!(report["rows"], run["accepted"], "{report}");
    assert_eq!(code, one.verify_json([""; 0]).0);
    let refused = trail.keytrail(["quarantine", "list"]).success();
    assert!(
        refused.stdout.contains("no record of anybody") || refused.stdout.contains("json_broken"),
        "{}",
        refused.stdout
    );
}
