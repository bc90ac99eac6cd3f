//! Synchronous invokes: environments, errors, limits, logs.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod common;

use std::fs;
use std::time::Duration;

use common::{LONG, example, function, harness, lines, until};
use keytrail_lambda_harness::{Call, Function, Harness, Invocation, InvokeError, limits};
use serde_json::{Value, json};

fn error(invocation: &Invocation) -> Value {
    assert_eq!(invocation.function_error, Some("Unhandled"), "{invocation:?}");
    invocation.json()
}

#[test]
fn the_first_invocation_is_cold_and_the_next_is_warm() {
    let harness = harness(function("f"));
    let first = harness.invoke("f", r#"{"op":"calls"}"#).unwrap();
    let second = harness.invoke("f", r#"{"op":"calls"}"#).unwrap();
    assert_eq!((first.json(), second.json()), (json!(1), json!(2)));
    assert!(first.is_cold() && !second.is_cold());
    assert_eq!(harness.started("f").unwrap(), 1);
    assert!(first.max_memory_bytes > 100_000 && first.function_error.is_none());
    assert_ne!(first.request_id, second.request_id);
}

#[test]
fn the_log_has_the_lines_of_lambda_and_those_of_the_function() {
    let harness = harness(function("f"));
    let cold = harness.invoke("f", r#"{"op":"log","text":"it says"}"#).unwrap();
    let id = &cold.request_id;
    let begin = format!(
        "INIT_START Runtime Version: provided:al2023\ninit of the function\nSTART RequestId: {id} Version: $LATEST\n\
         it says\nand on the other side\nEND RequestId: {id}\nREPORT RequestId: {id}\tDuration: "
    );
    assert!(cold.log.starts_with(&begin), "{}", cold.log);
    let report = cold.log.lines().last().unwrap();
    assert!(report.contains(&format!(
        "\tBilled Duration: {} ms\tMemory Size: 128 MB\tMax Memory Used: ",
        cold.billed.as_millis()
    )));
    assert!(report.contains("\tInit Duration: "));
    assert!(cold.billed >= cold.duration + cold.init.unwrap());
    let warm = harness.invoke("f", r#"{"op":"log","text":"again"}"#).unwrap();
    assert!(warm.log.starts_with(&format!("START RequestId: {}", warm.request_id)), "{}", warm.log);
    assert!(
        warm.log.contains("\nagain\n")
            && !warm.log.contains("it says")
            && !warm.log.contains("Init Duration")
    );
    assert_eq!(harness.log("f").unwrap(), cold.log + &warm.log);
}

#[test]
fn the_environment_has_what_lambda_sets() {
    let harness = harness(function("f").variable("KEYTRAIL_DATA", "s3://bucket"));
    let answer = harness.invoke("f", r#"{"op":"environment"}"#).unwrap().json();
    let variables = &answer["variables"];
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_REGION", "us-east-1"),
        ("TZ", ":UTC"),
        ("_HANDLER", "bootstrap"),
        ("KEYTRAIL_DATA", "s3://bucket"),
    ] {
        assert_eq!(variables[name], value, "{name}");
    }
    assert_eq!(variables["TMPDIR"], answer["folder"]);
    // Nothing of the test's own.
    assert!(variables.get("CARGO_MANIFEST_DIR").is_none());
    let folder = answer["folder"].as_str().unwrap().to_owned();
    assert!(fs::metadata(&folder).is_ok());
    drop(harness);
    assert!(fs::metadata(&folder).is_err());
}

#[test]
fn the_function_learns_of_its_invocation() {
    let harness = harness(function("f"));
    let before = jiff::Timestamp::now().as_millisecond();
    let client = json!({
        "installation_id": "i", "app_title": "t", "app_version_name": "1", "app_version_code": "1",
        "app_package_name": "p",
    });
    let call = Call {
        payload: r#"{"op":"context"}"#.into(),
        client_context: Some(json!({"client": client, "custom": {"a": "b"}, "env": {}}).to_string()),
        trace_id: Some("Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
        ..Call::default()
    };
    let invocation = harness.invoke_with("f", call).unwrap();
    let answer = invocation.json();
    assert_eq!(answer["id"], *invocation.request_id);
    assert_eq!(answer["arn"], "arn:aws:lambda:us-east-1:123456789012:function:f");
    assert_eq!(answer["trace"], "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700");
    assert_eq!(answer["client"]["custom"]["a"], "b");
    let left = answer["deadline"].as_i64().unwrap() - before;
    assert!((29_000..60_000).contains(&left), "{left}");
}

#[test]
fn an_error_is_the_functions_own_and_the_environment_lives_on() {
    let harness = harness(function("f"));
    let failed = harness.invoke("f", r#"{"op":"error","text":"no"}"#).unwrap();
    assert_eq!(error(&failed)["errorMessage"], "no");
    let failed = harness.invoke("f", r#"{"op":"panic","text":"oh"}"#).unwrap();
    assert!(error(&failed)["errorMessage"].as_str().unwrap().contains("oh"), "{failed:?}");
    assert_eq!(harness.invoke("f", r#"{"op":"calls"}"#).unwrap().json(), 3);
    assert_eq!(harness.started("f").unwrap(), 1);
}

#[test]
fn a_crash_is_answered_and_the_next_environment_is_fresh() {
    let harness = harness(function("f"));
    for (event, reason) in [
        (r#"{"op":"exit","code":1}"#, "Runtime exited with error: exit status 1"),
        (r#"{"op":"exit","code":0}"#, "Runtime exited without providing a reason"),
        (r#"{"op":"abort"}"#, "Runtime exited with error: signal: aborted"),
    ] {
        let crashed = harness.invoke("f", event).unwrap();
        let message = error(&crashed)["errorMessage"].as_str().unwrap().replace(" (core dumped)", "");
        assert_eq!(message, format!("RequestId: {} Error: {reason}", crashed.request_id));
        assert_eq!(crashed.error_type().unwrap(), "Runtime.ExitError");
        assert!(crashed.log.contains("\tStatus: error\tError Type: Runtime.ExitError"), "{}", crashed.log);
        let next = harness.invoke("f", r#"{"op":"calls"}"#).unwrap();
        assert_eq!((next.json(), next.is_cold()), (json!(1), true));
    }
}

#[test]
fn a_timeout_kills_the_environment() {
    let harness = harness(function("f").timeout(Duration::from_millis(1500)));
    let late = harness.invoke("f", r#"{"op":"hang"}"#).unwrap();
    let id = &late.request_id;
    let expected = json!({
        "errorType": "Sandbox.Timedout",
        "errorMessage": format!("RequestId: {id} Error: Task timed out after 1.50 seconds"),
    });
    assert_eq!(error(&late), expected);
    assert!(late.log.contains("about to hang\n"), "{}", late.log);
    assert!(late.log.contains(&format!("Z {id} Task timed out after 1.50 seconds\n")), "{}", late.log);
    assert!(late.log.contains("\tStatus: timeout"), "{}", late.log);
    assert!(late.duration >= Duration::from_millis(1500) && late.duration < LONG);
    assert!(harness.invoke("f", "{}").unwrap().is_cold());
}

#[test]
fn more_memory_than_there_is_kills() {
    let harness = harness(function("f").memory_mib(64));
    for event in [r#"{"op":"allocate","mib":128,"hold":true}"#, r#"{"op":"allocate","mib":80}"#] {
        let killed = harness.invoke("f", event).unwrap();
        let message =
            format!("RequestId: {} Error: Runtime exited with error: signal: killed", killed.request_id);
        assert_eq!(error(&killed), json!({"errorType": "Runtime.ExitError", "errorMessage": message}));
    }
    let fits = harness.invoke("f", r#"{"op":"allocate","mib":16}"#).unwrap();
    assert_eq!(fits.json(), 16 << 20);
    assert!(fits.max_memory_bytes > 16 << 20);
}

#[test]
fn nothing_runs_between_invocations() {
    let harness = harness(function("f"));
    harness.deploy(function("other")).unwrap();
    let count = || harness.invoke("f", r#"{"op":"count"}"#).unwrap().json().as_u64().unwrap();
    count();
    until("the environment to stop", || harness.idle("f").unwrap()[0].1);
    let pid = harness.idle("f").unwrap()[0].0[0];
    let spent = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/../../stat")).unwrap();
    let before = spent();
    harness.invoke("other", r#"{"op":"spin","ms":100}"#).unwrap();
    assert_eq!(before, spent());
    // Thawed, it goes on: 100 ms would have been up to a thousand steps.
    let first = count();
    harness.invoke("other", r#"{"op":"spin","ms":100}"#).unwrap();
    let second = count();
    assert!(second - first < 100, "{first} {second}");
    until("the thread to go on", || count() > second);
}

#[test]
fn an_environment_takes_one_invocation_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    let harness = harness(function("f").reserved_concurrency(2));
    let event = json!({"op": "meet", "here": here, "there": there}).to_string();
    std::thread::scope(|scope| {
        let meet = || harness.invoke("f", event.clone()).unwrap();
        let (one, two) = (scope.spawn(meet), scope.spawn(meet));
        until("both to run", || lines(&here).len() == 2);
        let refused = harness.invoke("f", "{}").unwrap_err();
        assert_eq!((refused.status(), refused.name()), (429, "TooManyRequestsException"));
        fs::write(&there, "").unwrap();
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert!(one.is_cold() && two.is_cold() && one.request_id != two.request_id);
    });
    assert!(!harness.invoke("f", "{}").unwrap().is_cold());
    assert_eq!(harness.started("f").unwrap(), 2);
}

#[test]
fn environments_can_be_started_ahead() {
    let harness = harness(function("f"));
    harness.warm("f", 2).unwrap();
    assert_eq!(harness.started("f").unwrap(), 2);
    let first = harness.invoke("f", r#"{"op":"calls"}"#).unwrap();
    assert_eq!(first.json(), 1);
    assert_eq!(harness.started("f").unwrap(), 2);
}

#[test]
fn payloads_have_limits() {
    let harness = harness(function("f").memory_mib(1024));
    let sized = |bytes: usize| format!(r#"{{"op":"context","x":"{}"}}"#, "x".repeat(bytes - 23));
    let fits = harness.invoke("f", sized(limits::SYNC_PAYLOAD_BYTES)).unwrap();
    assert!(fits.function_error.is_none(), "{:?}", fits.payload);
    let refused = harness.invoke("f", sized(limits::SYNC_PAYLOAD_BYTES + 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    );
    assert_eq!((refused.status(), refused.name()), (413, "RequestTooLargeException"));
    let refused = harness.invoke_async("f", sized(limits::ASYNC_PAYLOAD_BYTES + 1)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
    );
    harness.invoke_async("f", sized(limits::ASYNC_PAYLOAD_BYTES)).unwrap();
    harness.settle("f", LONG).unwrap();
    let refused = harness.invoke("f", "nonsense").unwrap_err();
    assert_eq!((refused.status(), refused.name()), (400, "InvalidRequestContentException"));
    let unknown = harness.invoke("g", "{}").unwrap_err();
    assert_eq!(unknown.to_string(), "Function not found: arn:aws:lambda:us-east-1:123456789012:function:g");
    assert!(matches!(unknown, InvokeError::ResourceNotFound { .. }));
}

#[test]
fn responses_have_a_limit() {
    let harness = harness(function("f").memory_mib(1024));
    let large =
        |bytes: usize| harness.invoke("f", json!({"op": "large", "bytes": bytes - 2}).to_string()).unwrap();
    assert_eq!(large(limits::RESPONSE_BYTES).payload.len(), limits::RESPONSE_BYTES);
    let expected = json!({
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    });
    assert_eq!(error(&large(limits::RESPONSE_BYTES + 1)), expected);
}

#[test]
fn the_runtime_api_refuses_what_does_not_belong() {
    let harness = harness(function("f"));
    let misuse = |path: &str, headers: &str, body: &str| {
        let event = json!({"op": "misuse", "path": path, "headers": headers, "body": body});
        let answer = harness.invoke("f", event.to_string()).unwrap().json();
        (answer["status"].as_str().unwrap().to_owned(), answer["body"].clone())
    };
    let wrong_id = json!({"errorType": "InvalidRequestID", "errorMessage": "Invalid request ID"});
    for path in ["response", "error"] {
        let path = format!("/2018-06-01/runtime/invocation/nobody/{path}");
        assert_eq!(misuse(&path, "", "{}"), ("400".to_owned(), wrong_id.clone()));
    }
    let (status, body) =
        misuse("/2020-01-01/extension/register", "lambda-extension-name: late\r\n", r#"{"events":[]}"#);
    assert_eq!((&*status, &body["errorType"]), ("403", &json!("Extension.RegistrationClosed")));
    let headers = "lambda-extension-identifier: nobody\r\nlambda-extension-function-error-type: X.Y\r\n";
    let (status, body) = misuse("/2020-01-01/extension/exit/error", headers, "");
    assert_eq!((&*status, &body["errorType"]), ("403", &json!("Extension.UnknownExtensionIdentifier")));
}

#[test]
fn an_init_phase_that_fails_is_done_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let once = folder.path().join("once");
    let harness =
        harness(function("f").variable("INIT", "once").variable("ONCE", once.display().to_string()));
    let invocation = harness.invoke("f", r#"{"op":"calls"}"#).unwrap();
    assert_eq!((invocation.json(), invocation.function_error), (json!(1), None));
    assert!(
        invocation.log.contains("\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\n"),
        "{}",
        invocation.log
    );
    assert_eq!(harness.started("f").unwrap(), 2);
}

#[test]
fn an_init_phase_that_fails_twice_fails_the_invocation() {
    let harness = harness(function("f").variable("INIT", "exit"));
    let failed = harness.invoke("f", "{}").unwrap();
    let message = format!("RequestId: {} Error: Runtime exited with error: exit status 3", failed.request_id);
    assert_eq!(error(&failed), json!({"errorType": "Runtime.ExitError", "errorMessage": message}));
    assert!(failed.log.contains("Phase: init") && failed.log.contains("Phase: invoke"), "{}", failed.log);
    assert_eq!(harness.started("f").unwrap(), 2);
}

#[test]
fn an_init_phase_that_says_why_it_fails_is_heard() {
    let harness = harness(function("f").variable("INIT", "report"));
    let failed = harness.invoke("f", "{}").unwrap();
    assert_eq!(
        error(&failed),
        json!({"errorType": "Fatal.Config", "errorMessage": "no key", "stackTrace": []})
    );
    assert!(failed.log.contains("Phase: init\tStatus: error\tError Type: Fatal.Config\n"), "{}", failed.log);
}

#[test]
fn an_init_phase_ends() {
    let limit = Duration::from_millis(50);
    let slow = Function { init_limit: limit, ..function("f").variable("INIT", "hang").timeout(limit) };
    let harness = harness(slow);
    let late = harness.invoke("f", "{}").unwrap();
    assert_eq!(late.error_type().unwrap(), "Sandbox.Timedout");
    assert!(late.log.contains("\tPhase: init\tStatus: timeout\n"), "{}", late.log);
}

#[test]
fn a_program_that_is_not_there_is_no_entrypoint() {
    let harness = harness(Function::new("f", "/nonexistent/bootstrap"));
    assert_eq!(harness.invoke("f", "{}").unwrap().error_type().unwrap(), "Runtime.InvalidEntrypoint");
}

#[test]
fn the_root_of_an_image_is_a_function() {
    let root = tempfile::tempdir().unwrap();
    let runtime = root.path().join("var/runtime");
    fs::create_dir_all(&runtime).unwrap();
    fs::create_dir_all(root.path().join("var/task")).unwrap();
    fs::copy(example("function"), runtime.join("bootstrap")).unwrap();
    let harness = Harness::new().unwrap();
    harness.deploy(Function::from_root("image", root.path(), None).timeout(LONG)).unwrap();
    let answer = harness.invoke("image", r#"{"op":"environment"}"#).unwrap().json();
    let task = root.path().join("var/task").canonicalize().unwrap();
    assert_eq!(answer["folder"], task.to_str().unwrap());
    assert_eq!(answer["variables"]["LAMBDA_TASK_ROOT"], root.path().join("var/task").to_str().unwrap());
}

#[test]
fn processor_time_is_the_functions_own() {
    let harness = harness(function("f"));
    harness.invoke("f", "{}").unwrap();
    let busy = harness.invoke("f", r#"{"op":"spin","ms":100}"#).unwrap();
    let idle = harness.invoke("f", r#"{"op":"sleep","ms":100}"#).unwrap();
    assert!(busy.cpu > Duration::from_millis(20), "{:?}", busy.cpu);
    assert!(idle.cpu < busy.cpu / 2, "{:?} {:?}", idle.cpu, busy.cpu);
}
