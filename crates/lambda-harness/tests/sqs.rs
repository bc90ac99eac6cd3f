//! Event source mappings of SQS.

mod common;

use std::time::Duration;

use common::{LONG, batches, function, harness};
use keytrail_lambda_harness::{Queue, QueueMapping};
use serde_json::{Value, json};

#[test]
fn what_is_not_reported_is_deleted_and_the_rest_ends_in_the_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let function = function("f")
        .variable("RECORDS", records.display().to_string())
        .variable("ANSWER", "report")
        .keep_history();
    let harness = harness(function);
    let dead = Queue::new("dead", LONG);
    let queue = Queue::with_redrive("notifications", Duration::from_millis(20), 3, dead.clone());
    queue.send("a");
    let poison = queue.send("poison");
    queue.send("b");
    let mapping =
        QueueMapping { report_batch_item_failures: true, maximum_concurrency: 1, ..QueueMapping::default() };
    let source = harness.map_queue(&queue, "f", mapping).unwrap();
    let letters = dead.wait(&harness, 1, LONG).unwrap();
    assert_eq!((&letters[0].id, letters[0].receive_count), (&poison, 3));
    queue.wait(&harness, 0, LONG).unwrap();
    source.stop();
    assert_eq!(batches(&records), [vec!["a", "poison", "b"], vec!["poison"], vec!["poison"]]);
    let event: Value = serde_json::from_slice(&harness.history("f").unwrap()[1].payload).unwrap();
    let message = &event["Records"][0];
    assert_eq!(message["messageId"], *poison);
    assert_eq!(message["md5OfBody"], "35393c24384b8862798716628f7bc6f4");
    assert_eq!(message["attributes"]["ApproximateReceiveCount"], "2");
    assert_eq!(message["eventSource"], "aws:sqs");
    assert_eq!(message["eventSourceARN"], "arn:aws:sqs:us-east-1:123456789012:notifications");
    assert_eq!(message["messageAttributes"], json!({}));
}

#[test]
fn an_unknown_message_fails_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let function = function("f")
        .variable("RECORDS", records.display().to_string())
        .variable("ANSWER", "fixed")
        .variable("FIXED", r#"{"batchItemFailures":[{"itemIdentifier":"nobody"}]}"#);
    let harness = harness(function);
    let dead = Queue::new("dead", LONG);
    let queue = Queue::with_redrive("notifications", Duration::from_millis(10), 2, dead.clone());
    queue.send("a");
    queue.send("b");
    let mapping =
        QueueMapping { report_batch_item_failures: true, maximum_concurrency: 1, ..QueueMapping::default() };
    let _source = harness.map_queue(&queue, "f", mapping).unwrap();
    dead.wait(&harness, 2, LONG).unwrap();
    assert_eq!(batches(&records), [["a", "b"], ["a", "b"]]);
}
