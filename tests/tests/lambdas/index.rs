//! The search index: ahead of sealing, behind its cursor, and down for the whole run.

use std::time::Duration;

use keytrail_tests::cloud::Cloud;
use keytrail_tests::fault_proxy::{Fault, FaultProxy, When};
use keytrail_tests::search_server::{SearchServer, namespace};
use keytrail_tests::trail::number;
use serde_json::json;

/// So many events of one day.
fn text(from: usize, to: usize) -> String {
    let event = |n: usize| {
        json!({
            "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
            "eventTime": "2023-07-01T11:42:20Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
            "awsRegion": "us-east-1", "recipientAccountId": "111122223333", "eventID": format!("event-{n}"),
        })
        .to_string()
            + "\n"
    };
    (from..to).map(event).collect()
}

#[test]
fn an_index_that_is_down_costs_delay_alone() {
    let engine = SearchServer::elasticsearch();
    let proxy = FaultProxy::before(&engine.url());
    let cloud = Cloud::new();
    let namespace = namespace();
    cloud.put(
        "keytrail.toml",
        format!("[index]\nnamespace = \"{namespace}\"\npatience = \"1s\"\n").as_bytes(),
    );
    cloud.deploy(
        cloud
            .function("index-events")
            .variable("KEYTRAIL_ELASTICSEARCH", proxy.url())
            .variable("KEYTRAIL_CONFIG", format!("s3://{}/keytrail.toml", cloud.raw)),
    );
    let batch = |key: &str, text: String| json!({"batch": key, "objects": [cloud.put(key, text.as_bytes())]});
    // Ahead of sealing.
    let first = cloud.archive(&batch("incoming/1", text(0, 50))).remove(0);
    let indexed = cloud.call("index-events", &json!({"pending": first["pending"]}));
    assert_eq!((number(&indexed["created"]), &indexed["more"]), (50, &json!(false)));
    cloud.seal();
    // The cursor skips what was indexed ahead.
    let indexed = cloud.call("index-events", &json!({}));
    assert_eq!((number(&indexed["created"]), number(&indexed["duplicates"])), (0, 0), "{indexed}");

    // Down for a whole run: the archive goes on.
    proxy.set(vec![Fault::Down(Duration::from_secs(3_600)).on("", When::Always)]);
    let second = cloud.archive(&batch("incoming/2", text(30, 90))).remove(0);
    let down = cloud.try_call("index-events", &json!({"pending": second["pending"]}));
    let error = down.error_type().expect("it is down");
    assert!(error.starts_with("Retryable.Index"), "{error}");
    assert_eq!(number(&cloud.seal()["sealed"]), 1);
    assert!(cloud.try_call("index-events", &json!({})).error_type().is_some());
    proxy.end_outage();
    let indexed = cloud.call("index-events", &json!({}));
    assert_eq!((number(&indexed["created"]), number(&indexed["pending"])), (40, 0), "{indexed}");
    let again = cloud.call("index-events", &json!({}));
    assert_eq!((number(&again["created"]), number(&again["duplicates"])), (0, 0), "{again}");
    engine.post(&format!("keytrail-*-{namespace}-*/_refresh"), &json!(null));
    assert_eq!(engine.count(&format!("keytrail-*-{namespace}-*")), 90);
}
