//! Asynchronous events: retries, destinations, age.

mod common;

use std::time::Duration;

use common::{LONG, function, harness, lines};
use keytrail_lambda_harness::{AsyncPolicy, Destination, Fault, Faults};
use serde_json::json;

#[test]
fn a_failed_event_is_tried_three_times_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let (on_failure, failed) = Destination::collect();
    let policy = AsyncPolicy { on_failure: Some(on_failure), ..AsyncPolicy::quick() };
    let harness = harness(function("f").asynchronous(policy));
    let event = json!({"op": "error", "text": "no", "mark": mark});
    let id = harness.invoke_async("f", event.to_string()).unwrap();
    let mut record = failed.wait(1, LONG).unwrap().remove(0);
    assert_eq!(lines(&mark), vec![id.clone(); 3]);
    let timestamp = record.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{timestamp}");
    let error_type = record["responsePayload"]["errorType"].clone();
    let expected = json!({
        "version": "1.0",
        "requestContext": {
            "requestId": id,
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": event,
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorType": error_type, "errorMessage": "no"},
    });
    assert_eq!(record, expected);
}

#[test]
fn a_retry_that_succeeds_ends_it() {
    let (on_failure, failed) = Destination::collect();
    let (on_success, succeeded) = Destination::collect();
    let policy =
        AsyncPolicy { on_failure: Some(on_failure), on_success: Some(on_success), ..AsyncPolicy::quick() };
    let faults = Faults::none().at(1, Fault::KillAtStart);
    let harness = harness(function("f").asynchronous(policy).faults(faults).keep_history());
    let id = harness.invoke_async("f", r#"{"op":"echo"}"#).unwrap();
    harness.settle("f", LONG).unwrap();
    let record = succeeded.wait(1, LONG).unwrap().remove(0);
    assert_eq!(record["requestContext"]["condition"], "Success");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(record["responsePayload"], json!({"op": "echo"}));
    assert_eq!(record["responseContext"], json!({"statusCode": 200, "executedVersion": "$LATEST"}));
    assert!(failed.all().is_empty());
    let past = harness.history("f").unwrap();
    assert_eq!(past.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 2]);
    assert!(past.iter().all(|p| p.request_id == id));
}

#[test]
fn throttling_is_no_attempt() {
    let (on_failure, failed) = Destination::collect();
    let policy = AsyncPolicy { on_failure: Some(on_failure), ..AsyncPolicy::quick() };
    let faults = (1..=4).fold(Faults::none(), |faults, n| faults.at(n, Fault::Throttle));
    let harness = harness(function("f").asynchronous(policy).faults(faults).keep_history());
    harness.invoke_async("f", r#"{"op":"error"}"#).unwrap();
    let record = failed.wait(1, LONG).unwrap().remove(0);
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 3);
    assert_eq!(harness.history("f").unwrap().len(), 7);
}

#[test]
fn an_event_gets_only_so_old() {
    let (on_failure, failed) = Destination::collect();
    let policy = AsyncPolicy {
        on_failure: Some(on_failure),
        retry_delays: vec![Duration::from_secs(60)],
        max_age: Duration::from_secs(30),
        ..AsyncPolicy::quick()
    };
    let harness = harness(function("f").asynchronous(policy));
    harness.invoke_async("f", r#"{"op":"error"}"#).unwrap();
    let record = failed.wait(1, LONG).unwrap().remove(0);
    assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 1);
}
