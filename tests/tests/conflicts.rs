//! Events that share their producer's key (ARCHITECTURE rule 4): all are kept, none is "the first", and
//! the run, `keytrail conflicts` and `verify` say the same of them.

use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

fn event(id: &str, time: &str, address: &str) -> String {
    format!(
        concat!(
            r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","accountId":"111122223333","#,
            r#""userName":"Alice"}},"eventTime":"{}","eventSource":"kms.amazonaws.com","#,
            r#""eventName":"DisableKey","awsRegion":"us-east-1","sourceIPAddress":"{}","eventID":"{}","#,
            r#""eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#,
        ),
        time, address, id
    )
}

const NOON: &str = "2026-01-05T12:00:00Z";

/// The same JSON value with its members in another order.
fn turned(event: &str) -> String {
    let first = r#""eventVersion":"1.08","#;
    let rest = event.strip_prefix(&format!("{{{first}")).expect("begins with its version");
    format!("{{{},{}}}", rest.strip_suffix('}').expect("an object"), first.trim_end_matches(','))
}

/// [accepted, duplicates, conflicts, variants]
fn counts(summary: &Value) -> [u64; 4] {
    ["accepted", "duplicates", "conflicts", "variants"].map(|name| number(&summary[name]))
}

/// (kind, producer's id, uids) by `keytrail conflicts`, and (code, uids named) by `verify`, sorted.
fn told(trail: &Trail) -> Vec<(String, String, Vec<String>)> {
    let mut shown: Vec<_> = trail
        .keytrail(["conflicts", "--json"])
        .success()
        .json_lines()
        .iter()
        .map(|one| {
            let events = one["events"].as_array().expect("a list");
            let mut uids: Vec<String> = events.iter().map(|e| text(&e["uid"])).collect();
            uids.sort();
            (text(&one["kind"]), text(&one["id"]), uids)
        })
        .collect();
    shown.sort();
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("good")), "what sources sent is no failure");
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), shown.len(), "{findings:?}");
    for (kind, id, uids) in &shown {
        let finding = findings.iter().find(|f| text(&f["element"]).ends_with(id)).expect("verify names it");
        assert_eq!(&text(&finding["code"]), kind);
        assert!(uids.iter().all(|uid| text(&finding["message"]).contains(uid)), "{finding}");
    }
    shown
}

fn kinds(told: &[(String, String, Vec<String>)]) -> Vec<(&str, &str, usize)> {
    told.iter().map(|(kind, id, uids)| (kind.as_str(), id.as_str(), uids.len())).collect()
}

#[test]
fn other_content_is_a_conflict_other_order_a_variant_other_space_a_duplicate() {
    let a = event("id-a", NOON, "192.0.2.1");
    let b = event("id-b", NOON, "192.0.2.1");
    let c = event("id-c", NOON, "192.0.2.1");
    let lines = [
        a.clone(),
        a.replace("192.0.2.1", "192.0.2.99"),
        b.clone(),
        turned(&b),
        c.clone(),
        c.replace("\":", "\" :\t"),
    ];
    assert_ne!(turned(&b), b);

    let trail = Trail::new();
    let all = trail.input("all.ndjson", lines.join("\n"));
    assert_eq!(counts(&trail.run_json([&all])), [5, 1, 1, 1]);
    let at_once = told(&trail);
    assert_eq!(kinds(&at_once), [("CONFLICT", "id-a", 2), ("VARIANT", "id-b", 2)]);
    // A replay is no new conflict.
    assert_eq!(counts(&trail.run_json([&all])), [0, 6, 0, 0]);

    // One run each, last first: what is told does not depend on the order.
    let one_by_one = Trail::new();
    let mut sum = [0; 4];
    for (i, line) in lines.iter().enumerate().rev() {
        let input = one_by_one.input(&format!("{i}.json"), line);
        for (sum, count) in sum.iter_mut().zip(counts(&one_by_one.run_json([&input]))) {
            *sum += count;
        }
    }
    assert_eq!(sum, [5, 1, 1, 1]);
    assert_eq!(told(&one_by_one), at_once);

    // Both of each are rows, and both can be shown.
    for (_, _, uids) in &at_once {
        for uid in uids {
            assert!(trail.keytrail(["explain", uid, "--raw"]).success().stdout.starts_with('{'));
        }
    }
}

/// Ingest judges inside the partition; `conflicts` and `verify` see all of them.
#[test]
fn claims_on_other_days_are_found_over_the_whole_archive() {
    let trail = Trail::new();
    let days = ["2026-01-05T23:59:59Z", "2026-01-06T00:00:01Z", "2031-02-30T00:00:00Z"];
    for (i, day) in days.iter().enumerate() {
        let input = trail.input(&format!("{i}.json"), event("id-d", day, "192.0.2.1"));
        assert_eq!(counts(&trail.run_json([&input])), [1, 0, 0, 0]);
    }
    let rows = trail.query("select distinct day from {archive} order by day");
    assert_eq!(rows, [json!({"day": "2026-01-05"}), json!({"day": "2026-01-06"}), json!({"day": "undated"})]);
    assert_eq!(kinds(&told(&trail)), [("CONFLICT", "id-d", 3)]);
}

/// An id means something to its producer only; and a record that says less claims less.
#[test]
fn the_same_id_elsewhere_is_no_conflict() {
    let trail = Trail::new();
    let here = event("id-e", NOON, "192.0.2.1");
    let input = trail.input(
        "in.ndjson",
        [
            here.clone(),
            // Another account.
            here.replace("111122223333", "444455556666"),
            // Vault judges no request.id while the device's instance is undeclared: two devices, one call.
            VAULT.into(),
            VAULT.replace("transit/keys/a", "transit/keys/b"),
            VAULT.replace(r#""type":"request""#, r#""type":"response""#),
        ]
        .join("\n"),
    );
    let summary = trail.run_json([&input]);
    assert_eq!(counts(&summary), [5, 0, 0, 0], "{summary}");
    assert!(told(&trail).is_empty());
    assert!(trail.keytrail(["conflicts"]).success().stdout.contains("0 found"));
}

/// A sequence number that is used twice is what a forged or forked source looks like.
#[test]
fn a_sequence_number_that_is_used_twice_is_a_conflict() {
    let example = keytrail_tests::tools::root().join("examples/key-operation/hsm-gateway.ndjson");
    let lines = std::fs::read_to_string(example).expect("the example");
    let forged = lines.lines().nth(5).expect("a sixth line").replacen(
        "\"time\":\"2026-01-05T0",
        "\"time\":\"2026-01-05T1",
        1,
    );
    assert!(!lines.contains(&forged));
    let trail = Trail::new();
    let good = trail.input("good.ndjson", &lines);
    trail.run_json([&good]);
    let bad = trail.input("bad.ndjson", forged);
    assert_eq!(counts(&trail.run_json([&bad])), [1, 0, 1, 0]);
    let found: Vec<Value> = trail.keytrail(["conflicts", "--json"]).success().json_lines();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0]["kind"], &found[0]["dataset"]),
        (&json!("CONFLICT"), &json!("keytrail.key_operation"))
    );
}

const VAULT: &str = concat!(
    r#"{"time":"2026-01-05T12:00:00Z","type":"request","auth":{"token_type":"default"},"#,
    r#""request":{"id":"id-e","operation":"read","namespace":{"id":"root"},"path":"transit/keys/a"}}"#,
);
