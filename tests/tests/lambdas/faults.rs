//! What goes wrong between functions and AWS, and inside of functions: nothing is lost, nothing doubled.

use std::time::Duration;

use keytrail_lambda_harness::{Fault, Faults};
use keytrail_tests::cloud::Cloud;
use keytrail_tests::fault_proxy::{self, FaultProxy, When};
use keytrail_tests::load::random::Random;
use keytrail_tests::localstack::LocalStack;
use keytrail_tests::trail::{Trail, number};
use serde_json::{Value, json};

/// An object of some events; neighbours share some of them.
fn text(n: usize) -> String {
    let event = |n: usize| {
        let day = 1 + n % 3;
        json!({
            "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
            "eventTime": format!("2023-07-{day:02}T11:42:20Z"), "eventSource": "kms.amazonaws.com",
            "eventName": "Decrypt", "awsRegion": "us-east-1", "recipientAccountId": "111122223333",
            "eventID": format!("event-{n}"),
        })
        .to_string()
            + "\n"
    };
    (n * 20..n * 20 + 30).map(event).collect::<String>() + &format!("refused {n}\n")
}

/// Batches of an object each, staged; what executions were started with.
fn staged(cloud: &Cloud, batches: usize) -> Vec<Value> {
    for n in 0..batches {
        let (key, text) = (format!("incoming/{n}.log"), text(n));
        cloud.put(&key, text.as_bytes());
        cloud.call("stage-objects", &cloud.notification(&n.to_string(), &[(&key, text.len())]));
    }
    cloud.started(batches)
}

/// The archive is what one machine makes of the same objects, and proves it.
fn check(cloud: &Cloud, batches: usize) {
    let one = Trail::new();
    let inputs: Vec<_> = (0..batches).map(|n| one.input(&format!("{n}.log"), text(n))).collect();
    let run = one.run_json(&inputs);
    let trail = cloud.fetched();
    assert_eq!(trail.events(), one.events());
    let (code, report) = trail.verify_json([""; 0]);
    assert_eq!((code, &report["rows"]), (Some(0), &run["accepted"]), "{report}");
    let refused = |trail: &Trail| trail.names().iter().filter(|name| name.starts_with("quarantine/")).count();
    assert_eq!(refused(&trail), refused(&one));
    assert!(!trail.names().iter().any(|name| name.starts_with("state/pending/")));
    assert_eq!(cloud.open(), 0);
}

/// Calls until it succeeds, as a state machine does; how often it failed.
fn persist(cloud: &Cloud, name: &str, event: &Value) -> usize {
    for failed in 0..50 {
        let done = cloud.try_call(name, event);
        match done.error_type() {
            None => return failed,
            Some(error) => assert!(
                error.starts_with("Retryable.")
                    || error == "Runtime.ExitError"
                    || error == "Sandbox.Timedout",
                "{error}: {}",
                done.log
            ),
        }
    }
    panic!("{name} never succeeds");
}

#[test]
fn functions_killed_at_any_moment_lose_and_double_nothing() {
    let cloud = Cloud::new();
    const BATCHES: usize = 6;
    let inputs = staged(&cloud, BATCHES);
    // One call after the other is killed a little later.
    let mut faults = Faults::none();
    for n in 0..12u64 {
        faults = faults.at(2 * n + 1, Fault::KillAfter(Duration::from_millis(4 + 9 * n)));
    }
    faults = faults.at(24, Fault::KillBeforeResponse).at(26, Fault::Duplicate { at_once: true });
    cloud.deploy(cloud.function("archive-events").faults(faults.clone()));
    cloud.deploy(cloud.function("seal-archive").faults(faults));
    let (mut archive, mut seal) = (0, 0);
    for round in 0..3 {
        for input in &inputs {
            archive += persist(&cloud, "archive-events", input);
            if round < 2 {
                seal += persist(&cloud, "seal-archive", &json!({}));
            }
        }
    }
    persist(&cloud, "seal-archive", &json!({}));
    check(&cloud, BATCHES);
    // The same for compaction; behind it everything is delivered once more.
    let mut faults = Faults::none();
    for n in 0..8u64 {
        faults = faults.at(n + 1, Fault::KillAfter(Duration::from_millis(10 + 25 * n)));
    }
    cloud.deploy(cloud.function("compact-archive").faults(faults));
    let compact = persist(&cloud, "compact-archive", &json!({}));
    assert!(compact >= 3, "killed {compact} times");
    // What a killed call sealed and did not hide any more, the next one hides.
    cloud.deploy(cloud.function("compact-archive"));
    persist(&cloud, "compact-archive", &json!({}));
    let objects = cloud.fetched().objects().len();
    assert!(objects <= 3, "one object a day is left of {objects}");
    for input in &inputs {
        persist(&cloud, "archive-events", input);
    }
    cloud.deploy(cloud.function("seal-archive"));
    assert_eq!(number(&cloud.seal()["entries"]), 0);
    assert!(archive >= 6 && seal >= 6, "killed {archive} and {seal} times");
    check(&cloud, BATCHES);
}

#[test]
fn two_sealers_at_once_seal_each_batch_once() {
    let cloud = Cloud::new();
    const BATCHES: usize = 8;
    let inputs = staged(&cloud, BATCHES);
    for pair in inputs.chunks(2) {
        // Both batches share events, and each call is one of two at once.
        cloud.deploy(
            cloud.function("archive-events").faults(Faults::none().at(1, Fault::Duplicate { at_once: true })),
        );
        for input in pair {
            persist(&cloud, "archive-events", input);
        }
        cloud.deploy(
            cloud.function("seal-archive").faults(Faults::none().at(1, Fault::Duplicate { at_once: true })),
        );
        persist(&cloud, "seal-archive", &json!({}));
    }
    // The one that the caller does not hear of may still be at work.
    cloud.harness.settle("seal-archive", Duration::from_secs(60)).expect("all calls end");
    persist(&cloud, "seal-archive", &json!({}));
    check(&cloud, BATCHES);
}

#[test]
fn an_execution_that_vanishes_is_driven_again() {
    let cloud = Cloud::new();
    let inputs = staged(&cloud, 3);
    // The first one alone runs.
    cloud.archive(&inputs[0]);
    cloud.seal();
    assert_eq!(cloud.open(), 2);
    let swept = cloud.call("sweep-raw", &json!({}));
    assert_eq!((number(&swept["open"]), number(&swept["redriven"])), (2, 2), "{swept}");
    let again = cloud.started(1);
    assert_eq!(again.iter().map(|i| i["objects"].as_array().map_or(0, Vec::len)).sum::<usize>(), 2);
    for input in &again {
        cloud.archive(input);
    }
    cloud.seal();
    check(&cloud, 3);
}

#[test]
fn a_large_object_that_vanished_is_back_filled_again() {
    let cloud = Cloud::new();
    for n in 0..2 {
        cloud.put(&format!("incoming/{n}.log"), text(n).as_bytes());
    }
    // As S3 tells of it, the second one is large.
    let event = cloud.notification("1", &[("incoming/0.log", text(0).len()), ("incoming/1.log", 80 << 20)]);
    cloud.call("stage-objects", &event);
    let of = |inputs: &[Value]| inputs.iter().map(|i| i["objects"][0]["key"].clone()).collect::<Vec<_>>();
    let small = [json!("incoming/0.log")];
    let large = [json!("incoming/1.log")];
    assert_eq!((of(&cloud.started(1)), of(&cloud.back_filled(1))), (small.to_vec(), large.to_vec()));
    // Nobody came back for either.
    let swept = cloud.call("sweep-raw", &json!({}));
    assert_eq!(number(&swept["redriven"]), 2, "{swept}");
    let (started, filled) = (cloud.started(1), cloud.back_filled(1));
    assert_eq!((of(&started), of(&filled)), (small.to_vec(), large.to_vec()));
    for input in started.iter().chain(&filled) {
        cloud.archive(input);
    }
    cloud.seal();
    check(&cloud, 2);
}

#[test]
fn a_busy_s3_costs_time_alone() {
    let aws = LocalStack::shared();
    let proxy = FaultProxy::before(&aws.url());
    let cloud = Cloud::with_s3_at(&proxy.url());
    const BATCHES: usize = 4;
    let inputs = staged(&cloud, BATCHES);
    let lock: &'static str = Box::leak(format!("{}/log-staging/lock", cloud.archive).into_boxed_str());
    let archive: &'static str = Box::leak(format!("{}/", cloud.archive).into_boxed_str());
    let share = |percent, seed| When::Share(percent, Random::of(seed, 0));
    proxy.set(vec![
        // The checkpoint's swap fails, and is done or not.
        fault_proxy::Fault::DoneWith(500).on(lock, share(25, 1)),
        fault_proxy::Fault::Closed.on(lock, share(20, 2)),
        fault_proxy::Fault::Status(503).on(archive, share(10, 3)),
        fault_proxy::Fault::DoneWith(503).on(archive, share(5, 4)),
        fault_proxy::Fault::Cut.on(archive, share(5, 5)),
    ]);
    for _ in 0..2 {
        for input in &inputs {
            persist(&cloud, "archive-events", input);
            persist(&cloud, "seal-archive", &json!({}));
        }
    }
    let faults = proxy.faults();
    proxy.end_outage();
    persist(&cloud, "seal-archive", &json!({}));
    assert!(faults > 20, "{faults}");
    check(&cloud, BATCHES);
}

#[test]
fn a_call_that_time_does_not_suffice_for_is_ended_and_tried_again() {
    let cloud = Cloud::new();
    let inputs = staged(&cloud, 1);
    cloud.deploy(cloud.function("archive-events").timeout(Duration::from_millis(1)));
    let done = cloud.try_call("archive-events", &inputs[0]);
    assert_eq!(done.error_type().as_deref(), Some("Sandbox.Timedout"), "{}", done.log);
    cloud.deploy(cloud.function("archive-events"));
    cloud.archive(&inputs[0]);
    cloud.seal();
    check(&cloud, 1);
}
