//! Event source mappings of Kinesis: order, batches, failures, checkpoints.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{LONG, batches, function, harness, lines, until};
use keytrail_lambda_harness::{
    Destination, Fault, Faults, Function, Harness, KinesisMapping, StartingPosition, Stream, shard_id,
};
use serde_json::{Value, json};

struct Test {
    _folder: tempfile::TempDir,
    records: PathBuf,
    harness: Harness,
    stream: Stream,
}

fn test(shards: usize, change: impl FnOnce(Function) -> Function) -> Test {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let function = function("f").variable("RECORDS", records.display().to_string()).keep_history();
    Test {
        harness: harness(change(function)),
        records,
        stream: Stream::new("events", shards),
        _folder: folder,
    }
}

fn recording(records: &Path) -> Function {
    function("f").variable("RECORDS", records.display().to_string()).keep_history()
}

fn mapping() -> KinesisMapping {
    KinesisMapping { retry_delay: Duration::from_millis(1), ..KinesisMapping::default() }
}

impl Test {
    /// Puts records of one letter each under a key each, but `P` is `poison`.
    fn put(&self, letters: &str) -> Vec<String> {
        let data = |letter: char| if letter == 'P' { "poison".to_owned() } else { letter.to_string() };
        letters.chars().map(|letter| self.stream.put_to(0, format!("key-{letter}"), data(letter))).collect()
    }

    /// Maps the stream and waits until all of it is read: the batches as letters, and the last checkpoint.
    fn read(&self, mapping: KinesisMapping) -> (Vec<String>, Option<String>) {
        let source = self.harness.map_kinesis(&self.stream, "f", mapping).unwrap();
        source.wait(LONG).unwrap();
        let checkpoint = source.stop().remove(0);
        (self.letters(), checkpoint)
    }

    fn letters(&self) -> Vec<String> {
        use base64::Engine as _;
        let letter = |data: &String| {
            let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
            if data == b"poison" { 'P' } else { char::from(data[0]) }
        };
        batches(&self.records).iter().map(|batch| batch.iter().map(letter).collect()).collect()
    }
}

#[test]
fn batches_come_in_order_and_move_the_checkpoint() {
    let test = test(1, |f| f);
    let numbers = test.put("abcdefg");
    let (seen, checkpoint) = test.read(KinesisMapping { batch_size: 3, ..mapping() });
    assert_eq!(seen, ["abc", "def", "g"]);
    assert_eq!(checkpoint.as_ref(), numbers.last());
    let event: Value = serde_json::from_slice(&test.harness.history("f").unwrap()[0].payload).unwrap();
    let first = &event["Records"][0];
    assert_eq!(first["eventID"], format!("{}:{}", shard_id(0), numbers[0]));
    assert_eq!(first["eventSourceARN"], "arn:aws:kinesis:us-east-1:123456789012:stream/events");
    assert_eq!(first["invokeIdentityArn"], "arn:aws:iam::123456789012:role/f");
}

#[test]
fn a_mapping_goes_on_where_one_stopped() {
    let test = test(1, |f| f);
    test.put("abc");
    let (_, checkpoint) = test.read(mapping());
    test.put("de");
    let (seen, _) = test
        .read(KinesisMapping { starting_position: StartingPosition::After(vec![checkpoint]), ..mapping() });
    assert_eq!(seen, ["abc", "de"]);
    let source = test
        .harness
        .map_kinesis(
            &test.stream,
            "f",
            KinesisMapping { starting_position: StartingPosition::Latest, ..mapping() },
        )
        .unwrap();
    test.put("f");
    source.wait(LONG).unwrap();
    assert_eq!(test.letters(), ["abc", "de", "f"]);
}

#[test]
fn records_are_gathered_for_a_window() {
    let test = test(1, |f| f);
    let window = KinesisMapping { batch_size: 4, batching_window: LONG, ..mapping() };
    let source = test.harness.map_kinesis(&test.stream, "f", window).unwrap();
    for letter in ["a", "b", "c", "d"] {
        test.put(letter);
    }
    source.wait(LONG).unwrap();
    assert_eq!(test.letters(), ["abcd"]);
}

#[test]
fn a_batch_fits_a_payload() {
    let test = test(1, |f| f.memory_mib(1024));
    let megabyte = "a".repeat(1 << 20);
    for _ in 0..6 {
        test.stream.put_to(0, "key", megabyte.clone());
    }
    let (seen, _) = test.read(mapping());
    // As base64, four of them are 5.4 MiB.
    assert_eq!(seen, ["aaaa", "aa"]);
}

#[test]
fn lanes_keep_the_order_of_each_key() {
    let test = test(2, |f| f);
    let mut put = BTreeMap::<String, Vec<String>>::new();
    for n in 0..400 {
        let key = format!("key-{}", n % 16);
        put.entry(key.clone()).or_default().push(test.stream.put(key, format!("{n}")).1);
    }
    // Delays let lanes overtake each other where they may.
    let faults = Faults::none().seeded(3, 300, vec![Fault::Delay(Duration::from_millis(5))]);
    test.harness.set_faults("f", faults).unwrap();
    let four = KinesisMapping { batch_size: 5, parallelization_factor: 4, ..mapping() };
    let source = test.harness.map_kinesis(&test.stream, "f", four).unwrap();
    source.wait(LONG).unwrap();
    let mut seen = BTreeMap::<String, Vec<String>>::new();
    for line in lines(&test.records) {
        for record in serde_json::from_str::<Value>(&line).unwrap().as_array().unwrap() {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            seen.entry(text("key")).or_default().push(text("id"));
        }
    }
    assert_eq!(seen, put);
    assert!(test.harness.started("f").unwrap() > 2);
    let last = |shard: usize| Some(test.stream.records(shard).last().unwrap().sequence_number.clone());
    assert_eq!(source.stop(), [last(0), last(1)]);
}

#[test]
fn without_options_a_failed_batch_is_tried_as_a_whole() {
    let test =
        test(1, |f| f.faults(Faults::none().at(1, Fault::KillBeforeResponse).at(2, Fault::KillAtStart)));
    test.put("abc");
    assert_eq!(test.read(mapping()).0, ["abc", "abc"]);
}

#[test]
fn attempts_end_at_the_destination() {
    let test = test(1, |f| f);
    let (on_failure, discarded) = Destination::collect();
    let numbers = test.put("abPcd");
    let records = test.stream.records(0);
    let two = KinesisMapping {
        batch_size: 4,
        maximum_retry_attempts: Some(2),
        on_failure: Some(on_failure),
        ..mapping()
    };
    let (seen, checkpoint) = test.read(two);
    assert_eq!(seen, ["abPc", "abPc", "abPc", "d"]);
    assert_eq!(checkpoint.as_ref(), numbers.last());
    let mut record = discarded.all().remove(0);
    record.as_object_mut().unwrap().remove("timestamp").unwrap();
    let at = |index: usize| {
        let at = jiff::Timestamp::from_millisecond(records[index].arrival_ms).unwrap();
        at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
    };
    let expected = json!({
        "requestContext": {
            "requestId": test.harness.history("f").unwrap()[2].request_id,
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": numbers[0],
            "endSequenceNumber": numbers[3],
            "approximateArrivalOfFirstRecord": at(0),
            "approximateArrivalOfLastRecord": at(3),
            "batchSize": 4,
            "streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/events",
        },
    });
    assert_eq!(record, expected);
}

#[test]
fn a_report_moves_the_checkpoint_to_the_lowest_failure() {
    let test = test(1, |f| f.variable("ANSWER", "report"));
    let (on_failure, discarded) = Destination::collect();
    let numbers = test.put("abPcPd");
    let reported = KinesisMapping {
        report_batch_item_failures: true,
        maximum_retry_attempts: Some(1),
        on_failure: Some(on_failure),
        ..mapping()
    };
    let (seen, _) = test.read(reported);
    // Without bisecting, what follows the poison is discarded with it.
    assert_eq!(seen, ["abPcPd", "PcPd", "PcPd"]);
    let info = &discarded.all()[0]["KinesisBatchInfo"];
    assert_eq!(
        (&info["startSequenceNumber"], &info["endSequenceNumber"]),
        (&json!(numbers[2]), &json!(numbers[5]))
    );
    assert!(discarded.all()[0]["responseContext"].get("functionError").is_none());
}

#[test]
fn bisecting_finds_the_poison_and_delivers_all_else() {
    for answer in ["error", "report"] {
        let test = test(1, |f| f.variable("ANSWER", answer));
        let (on_failure, discarded) = Destination::collect();
        let numbers = test.put("abcdefPgh");
        let bisected = KinesisMapping {
            bisect: true,
            report_batch_item_failures: answer == "report",
            maximum_retry_attempts: Some(2),
            on_failure: Some(on_failure),
            ..mapping()
        };
        let (seen, checkpoint) = test.read(bisected);
        let expected: &[&str] = if answer == "report" {
            // At the returned sequence number, then in the middle; splitting is no retry.
            &["abcdefPgh", "Pgh", "P", "P", "P", "gh"]
        } else {
            &["abcdefPgh", "abcd", "efPgh", "ef", "Pgh", "P", "P", "P", "gh"]
        };
        assert_eq!(seen, expected, "{answer}");
        assert_eq!(checkpoint.as_ref(), numbers.last());
        let info = &discarded.all()[0]["KinesisBatchInfo"];
        assert_eq!((discarded.all().len(), &info["batchSize"]), (1, &json!(1)));
        assert_eq!(info["startSequenceNumber"], numbers[6]);
    }
}

#[test]
fn a_report_of_the_first_record_may_leave_the_batch_whole() {
    let test = test(1, |f| f.variable("ANSWER", "report"));
    let (on_failure, discarded) = Destination::collect();
    test.put("aPbc");
    let whole = KinesisMapping {
        bisect: true,
        bisect_reported_first: false,
        report_batch_item_failures: true,
        maximum_retry_attempts: Some(1),
        on_failure: Some(on_failure),
        ..mapping()
    };
    assert_eq!(test.read(whole).0, ["aPbc", "Pbc", "Pbc"]);
    assert_eq!(discarded.all()[0]["KinesisBatchInfo"]["batchSize"], 3);
}

#[test]
fn an_answer_that_cannot_be_read_fails_the_batch() {
    for fixed in
        [r#"{"batchItemFailures":[{"itemIdentifier":"1"}]}"#, r#"{"batchItemFailures":[{"id":"1"}]}"#, "[]"]
    {
        let test = test(1, |f| f.variable("ANSWER", "fixed").variable("FIXED", fixed));
        test.put("ab");
        let once =
            KinesisMapping { report_batch_item_failures: true, maximum_retry_attempts: Some(1), ..mapping() };
        assert_eq!(test.read(once).0, ["ab", "ab"], "{fixed}");
    }
}

#[test]
fn throttling_is_no_attempt_and_age_ends_it() {
    let test = test(1, |f| f.faults((1..=5).fold(Faults::none(), |faults, n| faults.at(n, Fault::Throttle))));
    let (on_failure, discarded) = Destination::collect();
    test.put("ab");
    let none =
        KinesisMapping { maximum_retry_attempts: Some(0), on_failure: Some(on_failure.clone()), ..mapping() };
    assert_eq!(test.read(none).0, ["ab"]);
    assert_eq!((test.harness.history("f").unwrap().len(), discarded.all().len()), (6, 0));
    let always = Faults::none().seeded(1, 1000, vec![Fault::Throttle]);
    test.harness.set_faults("f", always).unwrap();
    let aged = KinesisMapping {
        maximum_record_age: Some(Duration::from_millis(20)),
        on_failure: Some(on_failure),
        ..mapping()
    };
    test.read(aged);
    assert_eq!(discarded.all()[0]["requestContext"]["condition"], "RecordAgeExceeded");
    assert_eq!(discarded.all()[0]["KinesisBatchInfo"]["batchSize"], 2);
}

#[test]
fn a_mapping_that_is_dropped_leaves_its_batch_to_the_next() {
    let test = test(1, |f| f.variable("ANSWER", "hang"));
    test.put("ab");
    let source = test.harness.map_kinesis(&test.stream, "f", mapping()).unwrap();
    until("the batch to be under way", || lines(&test.records).len() == 1);
    assert_eq!(source.checkpoints(), [None]);
    drop(source);
    test.harness.redeploy(recording(&test.records));
    assert_eq!(test.read(mapping()).0, ["ab", "ab"]);
}
