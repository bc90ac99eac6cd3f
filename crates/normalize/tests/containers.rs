//! What must hold of containers whatever they hold: a record is the same event in any of them, nothing
//! in them vanishes, and hostile ones take linear time and memory.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::containers::{MAX_DECODED_BYTES, MAX_LAYERS, open};
use keytrail_normalize::{Context, Format, Masker, normalize, normalize_of};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// Ways to carry a record.
#[derive(Clone, Copy, Debug)]
enum Wrap {
    Subscription,
    Export,
    /// An EventBridge event, with its detail as JSON where it is an object, else as a string.
    Event,
    EventAsString,
    /// A record of Kinesis in a Lambda event, gzip or not.
    Kinesis,
    KinesisGzip,
    /// A Lambda event of CloudWatch Logs.
    LogsEvent,
    /// A diagnostic log of AKS.
    Diagnostic,
}

fn wrap(record: &str, how: Wrap) -> String {
    let detail = |detail: &str| {
        format!(r#"{{"version":"0","id":"1","detail-type":"x","source":"y","detail": {detail} }}"#)
    };
    match how {
        Wrap::Subscription => json!({
            "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "g", "logStream": "s",
            "subscriptionFilters": ["f"], "logEvents": [{"id": "1", "timestamp": 1, "message": record}],
        })
        .to_string(),
        Wrap::Export => format!("2022-10-12T19:24:30.123Z {record}"),
        Wrap::Event if record.starts_with('{') => detail(record),
        Wrap::Event | Wrap::EventAsString => detail(&Value::from(record).to_string()),
        Wrap::Kinesis => kinesis(record.as_bytes()),
        Wrap::KinesisGzip => kinesis(&gzip(record.as_bytes())),
        Wrap::LogsEvent => logs_event(&gzip(record.as_bytes())),
        Wrap::Diagnostic => json!({
            "category": "kube-audit", "operationName": "x", "time": "2026-03-01T10:00:00Z",
            "properties": {"pod": "p", "log": format!("{record}\n")},
        })
        .to_string(),
    }
}

fn kinesis(data: &[u8]) -> String {
    json!({
        "kinesis": {"data": STANDARD.encode(data)}, "eventSource": "aws:kinesis", "eventVersion": "1.0",
        "eventID": "1", "eventName": "aws:kinesis:record",
    })
    .to_string()
}

fn logs_event(data: &[u8]) -> String {
    json!({"awslogs": {"data": STANDARD.encode(data)}}).to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Record, unit and code of each.
type Records = Vec<(String, String, &'static str)>;

/// The records of a frame and its control messages; `None`: no container.
fn opened(frame: &str) -> Option<(Records, u64)> {
    let mut records = Records::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let controls = open(frame.as_bytes(), &mut |c| {
        let code = c.verdict.map_or_else(|r| r.code.code(), |()| "ok");
        records.push((text(c.record), text(c.unit), code));
    })?;
    assert!(controls > 0 || !records.is_empty(), "{frame}");
    Some((records, controls))
}

fn uids(format: Format, record: &[u8]) -> Vec<String> {
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut rows = RowBuffer::new();
    let from = Provenance { input: 0, offset: 0 };
    normalize(format, record, from, &ctx, &mut rows).unwrap();
    rows.heads().iter().map(|h| h.uid.to_string()).collect()
}

fn how() -> impl Strategy<Value = Wrap> {
    prop::sample::select(vec![
        Wrap::Subscription,
        Wrap::Export,
        Wrap::Event,
        Wrap::EventAsString,
        Wrap::Kinesis,
        Wrap::KinesisGzip,
        Wrap::LogsEvent,
        Wrap::Diagnostic,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_is_the_same_event_in_any_containers(layers in prop::collection::vec(how(), 1..=5), n in 0usize..100) {
        let sources = [
            (Format::CloudTrail, fixture("cloudtrail/kms-guide/input.jsonl"), "\n"),
            (Format::Vault, fixture("vault/vault-2019/input.ndjson"), "\n"),
            (Format::CloudHsm, fixture("cloudhsm/audit-log-guide/input.txt"), "\n\n"),
        ];
        for (format, text, between) in &sources {
            let records: Vec<&str> = text.split(between).map(str::trim).filter(|r| !r.is_empty()).collect();
            let record = records[n % records.len()];
            // A line is exported once before it is in something else again.
            let layers = layers.chunk_by(|a, b| matches!((a, b), (Wrap::Export, Wrap::Export))).map(|c| &c[0]);
            let frame = layers.fold(record.to_owned(), |inner, how| wrap(&inner, *how));
            let (records, controls) = opened(&frame).unwrap();
            prop_assert_eq!(records.len(), 1);
            prop_assert_eq!((&*records[0].0, records[0].2, controls), (record, "ok", 0));
            prop_assert_eq!(Format::recognise(records[0].0.as_bytes()), Some(*format));
            prop_assert_eq!(uids(*format, records[0].0.as_bytes()), uids(*format, record.as_bytes()));
        }
    }

    #[test]
    fn containers_near_their_shapes_are_opened_or_refused(tokens in prop::collection::vec(prop::sample::select(vec![
        "{\"messageType\":\"DATA_MESSAGE\",\"logEvents\":[", "{\"message\":", "\"{\\\"a\\\":1}\"", "\"x\"", "\"\"", "]}", "},",
        "\"CONTROL_MESSAGE\"", "{\"detail-type\":\"x\",\"detail\":", "{\"a\":1}", "}", "null", "1", ",", "[", "]", " ", "\n",
        "2022-10-12T19:24:30.123Z ", "\"\\ud800\"", "\u{e9}", "\\", "\"", "{", "Time: 12/19/17 21:01:17.140812, usecs:1",
    ]), 0..30)) {
        let frame = tokens.concat();
        if let Some((records, _)) = opened(&frame) {
            for (record, unit, _) in &records {
                prop_assert!(unit.len() >= record.len() && unit.len() <= frame.len());
            }
        }
    }
}

#[test]
fn what_is_no_container_is_left_alone() {
    let messages = r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":"{}"}]}"#;
    for record in [
        "",
        "{}",
        "text",
        r#"{"logEvents":[{"message":"{}"}]}"#,
        r#"{"detail":{},"detailType":"x"}"#,
        r#"{"awslogs":{"data":"e30="},"eventVersion":"1.08"}"#,
        r#"{"kinesis":{"data":"e30="},"eventSource":"aws:sqs"}"#,
        r#"{"category":"kube-apiserver","properties":{"log":"{}"}}"#,
        &format!(r#"{{"a":{messages}}}"#),
        &messages.replacen('{', r#"{"eventVersion":"1.08","#, 1),
        &messages.replacen('{', r#"{"type":"request","#, 1),
        "2022-10-12 19:24:30.123 {}",
        "\u{fffd}2022-10-12T19:24:30.123Z {}",
    ] {
        assert_eq!(opened(record), None, "{record}");
    }
    assert!(opened(messages).is_some());
}

#[test]
fn layers_are_opened_up_to_a_bound() {
    let nested = |n: usize| (0..n).fold("{\"a\":1}".to_owned(), |inner, _| wrap(&inner, Wrap::Event));
    assert_eq!(opened(&nested(MAX_LAYERS)).unwrap().0[0].2, "ok");
    let deep = nested(MAX_LAYERS + 1);
    assert_eq!(opened(&deep).unwrap().0, [(wrap("{\"a\":1}", Wrap::Event), deep.clone(), "json_too_deep")]);
}

#[test]
fn refused_records_keep_what_holds_them_alone() {
    let alone = wrap(&wrap("{\"a\":1}", Wrap::Event), Wrap::Export);
    assert_eq!(opened(&alone).unwrap().0, [("{\"a\":1}".to_owned(), alone.clone(), "ok")]);
    let (records, _) = opened(&wrap(&alone, Wrap::Subscription)).unwrap();
    assert_eq!(records, [("{\"a\":1}".to_owned(), alone, "ok")]);
    // Records that share one are units themselves: else each would keep all of them.
    let shared = wrap("{\"a\":1}{\"a\":2}", Wrap::EventAsString);
    let units: Vec<_> = opened(&shared).unwrap().0.into_iter().map(|r| r.1).collect();
    assert_eq!(units, ["{\"a\":1}", "{\"a\":2}"]);
}

#[test]
fn control_messages_are_counted_and_nothing_else_is() {
    let control = json!({
        "messageType": "CONTROL_MESSAGE", "owner": "CloudwatchLogs", "logGroup": "", "logStream": "",
        "subscriptionFilters": [],
        "logEvents": [{"id": "", "timestamp": 1_510_254_469_274_i64,
            "message": "CWL CONTROL MESSAGE: Checking health of destination Firehose."}],
    });
    assert_eq!(opened(&control.to_string()), Some((Vec::new(), 1)));
    for (pointer, value) in [
        ("/owner", json!("111122223333")),
        ("/logGroup", json!("g")),
        ("/logStream", json!("s")),
        ("/messageType", json!("DATA_MESSAGE")),
        ("/logEvents/0/message", json!("{\"eventVersion\":\"1.08\"}")),
        ("/logEvents/0/message", json!("CWL CONTROL MESSAGE: {\"eventVersion\":\"1.08\"}")),
        ("/logEvents/0/message", json!({"eventVersion": "1.08"})),
    ] {
        let mut other = control.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        let (records, controls) = opened(&other.to_string()).unwrap();
        assert!(controls == 0 && records.len() == 1, "{other}");
    }
}

#[test]
fn what_the_container_says_of_the_hsm_is_in_the_row() {
    let text = fixture("cloudhsm/audit-log-guide/input.txt");
    let block = text.split("\n\n").next().unwrap();
    let frame = json!({
        "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "/aws/cloudhsm/cluster-likphkxygsn",
        "logStream": "hsm-nwbbiqbj4jk", "logEvents": [{"message": block}],
    });
    let masker = Masker::new(&[7; 32]);
    let ctx =
        Context { now: Timestamp::parse("2027-01-01T00:00:00Z").unwrap(), masker: &masker, declared: None };
    let mut rows = RowBuffer::new();
    let from = Provenance { input: 0, offset: 0 };
    // An envelope inside says nothing of a log stream: what is around it does.
    for frame in [frame.to_string(), wrap(&frame.to_string(), Wrap::Event)] {
        open(frame.as_bytes(), &mut |c| {
            normalize_of(Format::CloudHsm, c.record, c.origin, from, &ctx, &mut rows).unwrap();
        });
    }
    let (first, second) = (rows.row(0), rows.row(1));
    assert_eq!(first.columns, second.columns);
    let scope = keytrail_model::row::text(first.columns, keytrail_model::Column::KeytrailScope);
    assert_eq!(scope, Some("hsm-nwbbiqbj4jk"));
    assert_eq!(first.original, block.as_bytes());
    assert_eq!(uids(Format::CloudHsm, block.as_bytes()), [first.head.uid.to_string()]);
}

#[test]
fn what_a_frame_holds_encoded_is_bounded_over_all_layers() {
    let code = |frame: &str| opened(frame).unwrap().0.iter().map(|r| r.2).collect::<Vec<_>>();
    let bomb = logs_event(&gzip(&vec![b' '; MAX_DECODED_BYTES + 1]));
    assert_eq!(code(&bomb), ["inflated_too_large"]);
    // Behind one that is too large nothing is opened, however many there are.
    let bombs = Wrap::EventAsString;
    let many = wrap(&bomb.repeat(100), bombs);
    assert_eq!(code(&many), ["inflated_too_large"; 100]);
    let spaces = |n: usize| logs_event(&gzip(format!("{{\"a\":1}}{}", " ".repeat(n)).as_bytes()));
    let small = spaces(1 << 20);
    let both = small.clone() + &spaces(MAX_DECODED_BYTES - (1 << 20)) + &small;
    assert_eq!(code(&wrap(&both, bombs)), ["ok", "inflated_too_large", "inflated_too_large"]);
}

#[test]
fn data_that_is_not_what_it_should_be_is_refused() {
    for (frame, expected) in [
        (logs_event(b""), "field_missing"),
        (logs_event(&gzip(b"{}")[..15]), "compression_broken"),
        (logs_event(b"{}").replace("\"e30=\"", "\"e30\\u00e9\""), "field_type"),
        (logs_event(b"{}").replace("\"e30=\"", "1"), "field_type"),
        (logs_event(b"{}").replace("\"data\"", "\"date\""), "field_missing"),
        (r#"{"awslogs":"e30="}"#.to_owned(), "field_type"),
        (r#"{"category":"kube-audit","properties":{}}"#.to_owned(), "field_missing"),
        (r#"{"category":"kube-audit","properties":"x"}"#.to_owned(), "field_type"),
    ] {
        let records = opened(&frame).unwrap().0;
        assert_eq!(records.iter().map(|r| r.2).collect::<Vec<_>>(), [expected], "{frame}");
    }
}

/// Quadratic work on any of these would take hours, quadratic memory more than there is.
#[test]
fn hostile_containers_take_linear_time_and_memory() {
    const N: usize = 1 << 20;
    let event = |message: String| {
        json!({"messageType": "DATA_MESSAGE", "logEvents": [{"message": message}]}).to_string()
    };
    let inputs = [
        event("{".repeat(N)),
        event("{}".repeat(N / 2)),
        event("x\n".repeat(N / 2)),
        event("Time: 12/19/17 21:01:17.140812, usecs:1\nSequence No : 0x1\n".repeat(N / 60)),
        wrap(&"{\"a\":1}".repeat(N / 7), Wrap::EventAsString),
        wrap(&"2022-10-12T19:24:30.123Z {\"a\":1}\n".repeat(N / 33), Wrap::EventAsString),
        format!(
            r#"{{"messageType":"DATA_MESSAGE","logEvents":[{}{{}}]}}"#,
            r#"{"message":""},"#.repeat(N / 15)
        ),
        format!(r#"{{"messageType":"DATA_MESSAGE","logEvents":[{}0]}}"#, "0,".repeat(N / 2)),
        format!(r#"{{"detail-type":"x","detail":[{}0]}}"#, "0,".repeat(N / 2)),
        (0..MAX_LAYERS - 1)
            .fold(wrap(&"{}".repeat(N / 512), Wrap::Event), |inner, _| wrap(&inner, Wrap::Event)),
    ];
    for frame in &inputs {
        let (mut bytes, mut records) = (0, 0);
        open(frame.as_bytes(), &mut |c| {
            bytes += c.unit.len();
            records += 1;
        });
        assert!(records > 0 && bytes <= 2 * frame.len(), "{bytes} of {}: {}", frame.len(), &frame[..60]);
    }
}
