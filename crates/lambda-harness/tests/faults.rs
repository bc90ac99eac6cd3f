//! Faults come at the invocation that they are for.

mod common;

use std::fs;
use std::time::Duration;

use common::{function, harness, lines};
use keytrail_lambda_harness::{Fault, Faults, InvokeError};
use serde_json::json;

#[test]
fn each_fault_does_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let faults = Faults::none()
        .at(2, Fault::KillAtStart)
        .at(3, Fault::KillAfter(Duration::from_millis(5)))
        .at(4, Fault::KillBeforeResponse)
        .at(5, Fault::Throttle)
        .at(6, Fault::Duplicate { at_once: false })
        .at(7, Fault::Duplicate { at_once: true })
        .at(8, Fault::CrashAtInit)
        .at(9, Fault::Respond("{\"instead\":true}".into()))
        .at(10, Fault::Delay(Duration::from_millis(20)));
    let harness = harness(function("f").faults(faults));
    let event = json!({"op": "echo", "mark": mark});
    // What the invocation came to, and how often the function ran because of it.
    let invoke = |event: &serde_json::Value| {
        let before = lines(&mark).len();
        let result = harness.invoke("f", event.to_string());
        (result, lines(&mark)[before..].to_vec())
    };
    let killed = |id: &str| {
        let message = format!("RequestId: {id} Error: Runtime exited with error: signal: killed");
        json!({"errorType": "Runtime.ExitError", "errorMessage": message})
    };

    let (plain, ran) = invoke(&event);
    assert_eq!((plain.unwrap().json(), ran.len()), (event.clone(), 1));

    let (at_start, ran) = invoke(&event);
    let at_start = at_start.unwrap();
    assert_eq!((at_start.json(), ran.len()), (killed(&at_start.request_id), 0));

    let (after, ran) = invoke(&json!({"op": "hang", "mark": mark}));
    let after = after.unwrap();
    assert_eq!(after.json(), killed(&after.request_id));
    assert!(ran.len() <= 1);

    let (lost, ran) = invoke(&event);
    let lost = lost.unwrap();
    assert_eq!((lost.json(), ran), (killed(&lost.request_id), vec![lost.request_id.clone()]));

    let (throttled, ran) = invoke(&event);
    assert_eq!((throttled.unwrap_err(), ran.len()), (InvokeError::TooManyRequests, 0));

    for _ in 0..2 {
        let (twice, ran) = invoke(&event);
        let id = twice.unwrap().request_id;
        assert_eq!(ran, [id.clone(), id]);
    }

    let started = harness.started("f").unwrap();
    let (crashed, ran) = invoke(&event);
    let crashed = crashed.unwrap();
    assert_eq!((crashed.json(), ran.len()), (killed(&crashed.request_id), 0));
    assert_eq!(harness.started("f").unwrap(), started + 2);

    let (instead, ran) = invoke(&event);
    assert_eq!((instead.unwrap().json(), ran.len()), (json!({"instead": true}), 1));

    let begun = std::time::Instant::now();
    let (delayed, _) = invoke(&event);
    assert_eq!(delayed.unwrap().json(), event);
    assert!(begun.elapsed() >= Duration::from_millis(20));
    fs::remove_file(&mark).unwrap();
}
