//! The Invoke API over HTTP.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod common;

use base64::Engine as _;
use common::{LONG, function, harness};
use keytrail_lambda_harness::{Fault, Faults, Harness};
use serde_json::{Value, json};

struct Answer {
    status: u16,
    headers: ureq::http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn post(harness: &Harness, name: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let address = harness.front().unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.post(format!("http://{address}/2015-03-31/functions/{name}/invocations"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}

#[test]
fn the_three_types_of_invocation() {
    let harness = harness(function("f").keep_history());
    let log = [("x-amz-log-type", "Tail")];
    let answer = post(&harness, "f", &log, r#"{"op":"log","text":"hear"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (200, "null"));
    assert_eq!(answer.header("x-amz-executed-version"), Some("$LATEST"));
    assert!(answer.header("x-amzn-requestid").is_some() && answer.header("x-amz-function-error").is_none());
    let tail =
        base64::engine::general_purpose::STANDARD.decode(answer.header("x-amz-log-result").unwrap()).unwrap();
    assert!(String::from_utf8(tail).unwrap().contains("\nhear\n"));

    let answer = post(&harness, "f", &[("x-amz-invocation-type", "Event")], r#"{"op":"calls"}"#);
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    harness.settle("f", LONG).unwrap();
    let answer = post(&harness, "f", &[("x-amz-invocation-type", "DryRun")], "{}");
    assert_eq!(answer.status, 204);
    assert_eq!(harness.history("f").unwrap().len(), 2);

    let answer = post(&harness, "f", &[("x-amz-invocation-type", "Other")], "{}");
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (400, Some("InvalidParameterValueException"))
    );
}

#[test]
fn names_come_in_three_forms() {
    let harness = harness(function("f"));
    for name in
        ["f", "f:$LATEST", "123456789012:function:f", "arn:aws:lambda:us-east-1:123456789012:function:f"]
    {
        for name in [name.to_owned(), name.replace(':', "%3A").replace('$', "%24")] {
            assert_eq!(post(&harness, &name, &[], r#"{"op":"echo"}"#).body, r#"{"op":"echo"}"#, "{name}");
        }
    }
}

#[test]
fn errors_have_the_shapes_of_lambda() {
    let harness = harness(function("f").faults(Faults::none().at(2, Fault::Throttle)));
    let answer = post(&harness, "f", &[], r#"{"op":"error","text":"no"}"#);
    assert_eq!((answer.status, answer.header("x-amz-function-error")), (200, Some("Unhandled")));
    assert_eq!(answer.json()["errorMessage"], "no");

    let answer = post(&harness, "f", &[], "{}");
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (429, Some("TooManyRequestsException")));
    let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
    assert_eq!(answer.json(), json!({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}));

    let answer = post(&harness, "g", &[], "{}");
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (404, Some("ResourceNotFoundException")));
    let message = "Function not found: arn:aws:lambda:us-east-1:123456789012:function:g";
    assert_eq!(answer.json(), json!({"Type": "User", "Message": message}));

    let answer = post(&harness, "f", &[], &"1".repeat((6 << 20) + 1));
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (413, Some("RequestTooLargeException")));
    let answer = post(&harness, "f", &[], "{");
    assert_eq!(
        (answer.status, answer.header("x-amzn-errortype")),
        (400, Some("InvalidRequestContentException"))
    );
}
