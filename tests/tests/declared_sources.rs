//! `keytrail.toml` and declared sources (ARCHITECTURE rule 7): what is declared marks rows, refuses what is
//! not of it, tells devices apart, and never touches identity.

use std::fs;

use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::{Value, json};

fn cloudtrail(id: &str, account: &str) -> String {
    format!(
        concat!(
            r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","accountId":"{0}","userName":"Alice"}},"#,
            r#""eventTime":"2026-01-05T12:00:00Z","eventSource":"kms.amazonaws.com","eventName":"DisableKey","#,
            r#""awsRegion":"us-east-1","eventID":"{1}","eventType":"AwsApiCall","recipientAccountId":"{0}"}}"#,
            "\n"
        ),
        account, id
    )
}

fn vault(request: &str, salt: &str) -> String {
    format!(
        concat!(
            r#"{{"time":"2026-01-05T12:00:00.5Z","type":"request","auth":{{"client_token":"hmac-sha256:{1}"}},"#,
            r#""request":{{"id":"0f9b0d9a-0000-0000-0000-{0}","operation":"read","path":"transit/keys/a"}}}}"#,
            "\n"
        ),
        request, salt
    )
}

/// Writes `keytrail.toml` beside the trail; its path.
fn config(trail: &Trail, text: &str) -> String {
    trail.input("keytrail.toml", text).to_str().expect("UTF-8").to_owned()
}

/// The summary's sources: name, read, accepted, duplicates, rejected.
fn sources(summary: &Value) -> Vec<(String, [u64; 4])> {
    let counts = |s: &Value| ["read", "accepted", "duplicates", "rejected"].map(|name| number(&s[name]));
    let sources = summary["sources"].as_array().expect("a list");
    sources.iter().map(|s| (text(&s["source"]), counts(s))).collect()
}

const TWO: &str = r#"
[[sources]]
name = "trail-prod"
dataset = "aws.cloudtrail"
location = "cloudtrail"
accounts = "111122223333"

[[sources]]
name = "vault-eu"
dataset = "vault.audit"
instance = "vault-eu/file"
location = "vault/*.log"
longest_silence = "15m"
"#;

fn two_sources(trail: &Trail) {
    trail.input(
        "cloudtrail/2026/a.json",
        cloudtrail("one", "111122223333") + &cloudtrail("two", "111122223333"),
    );
    trail.input("vault/audit.log", vault("000000000001", "a") + &vault("000000000002", "a"));
    trail.input("elsewhere/b.log", vault("000000000003", "a"));
}

#[test]
fn a_declaration_changes_no_identity() {
    let trail = Trail::new();
    two_sources(&trail);
    let config = config(&trail, TWO);
    let folder = trail.aside("");
    let places = ["cloudtrail", "vault", "elsewhere"].map(|name| folder.join(name));
    let first = trail.run_json(&places);
    assert_eq!(sources(&first), [("cloudtrail".into(), [2, 2, 0, 0]), ("vault".into(), [3, 3, 0, 0])]);

    let args: Vec<_> = places
        .iter()
        .map(|p| p.as_os_str().to_owned())
        .chain(["--config".into(), config.clone().into()])
        .collect();
    let again = trail.run_json(&args);
    assert_eq!(
        sources(&again),
        [
            ("trail-prod".into(), [2, 0, 2, 0]),
            ("vault".into(), [1, 0, 1, 0]),
            ("vault-eu".into(), [2, 0, 2, 0])
        ]
    );

    let declared = Trail::new();
    declared.run_json(&args);
    assert_eq!(declared.events(), trail.events());
    let rows = declared.query(
        "select keytrail_source, keytrail_undeclared, keytrail_scope, count(*) as n from {archive} group by all order by all",
    );
    assert_eq!(
        rows,
        [
            json!({"keytrail_source": "trail-prod", "keytrail_undeclared": false, "keytrail_scope": "111122223333", "n": 2}),
            json!({"keytrail_source": "vault", "keytrail_undeclared": true, "keytrail_scope": null, "n": 1}),
            json!({"keytrail_source": "vault-eu", "keytrail_undeclared": false, "keytrail_scope": "vault-eu/file", "n": 2}),
        ]
    );
    for trail in [&trail, &declared] {
        let (code, report) = trail.verify_json(["--rederive"]);
        assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    }
    // And back: what was declared first is a duplicate undeclared.
    assert_eq!(number(&declared.run_json(&places)["duplicates"]), 5);
}

#[test]
fn without_inputs_the_declared_locations_are_read() {
    let trail = Trail::new();
    two_sources(&trail);
    let path = config(&trail, TWO);
    let read = trail.run_json(["--config", &path]);
    assert_eq!(sources(&read), [("trail-prod".into(), [2, 2, 0, 0]), ("vault-eu".into(), [2, 2, 0, 0])]);
    // Where the file lies in the current folder nothing has to be said; nothing new is nothing new.
    let here = trail.command(["run", "--json"]).current_dir(trail.aside("")).output().expect("it runs");
    assert_eq!(number(&Ran::from(here).success().json()["duplicates"]), 4);
    let ran = trail.run::<&str>([]).exits(64);
    assert!(ran.stderr.contains("nothing to read: name an INPUT, or declare sources"), "{}", ran.stderr);
    // A link leads a second source to the first one's file.
    std::os::unix::fs::symlink(trail.aside("vault"), trail.aside("linked")).expect("a link");
    let twice = format!("{TWO}\n[[sources]]\nname = 'other'\ndataset = 'vault.audit'\nlocation = 'linked'\n");
    let ran = trail.run(["--config", &config(&trail, &twice)]).exits(78);
    assert!(ran.stderr.contains("lies in locations of the sources `vault-eu` and `other`"), "{}", ran.stderr);
}

#[test]
fn what_is_not_of_its_source_waits_for_another_declaration() {
    let trail = Trail::new();
    two_sources(&trail);
    trail.input("cloudtrail/mixed.json", cloudtrail("three", "444455556666") + &vault("000000000009", "a"));
    let path = config(&trail, TWO);
    let ran = trail.keytrail(["run", "--config", &path, "--json"]).success();
    assert_eq!(
        sources(&ran.json()),
        [("trail-prod".into(), [4, 2, 0, 2]), ("vault-eu".into(), [2, 2, 0, 0])]
    );
    assert!(ran.stderr.contains("source_mismatch 2"), "{}", ran.stderr);
    let reasons = || {
        let listed = trail.keytrail(["quarantine", "list", "--json"]).success().json_lines();
        let mut reasons: Vec<String> = listed.iter().map(|e| text(&e["reason"])).collect();
        reasons.sort();
        reasons
    };
    assert_eq!(
        reasons(),
        [
            "expected a record of `aws.cloudtrail`, as the source `trail-prod` declares, found one of `vault.audit`",
            "expected a record of an account that the source `trail-prod` declares",
        ]
    );

    // Nothing is admitted while the declaration is not known or says the same.
    let replay = |config: &[&str]| trail.keytrail([&["quarantine", "replay", "--json"], config].concat());
    let unknown = replay(&[]).exits(78);
    assert!(unknown.stderr.contains("is of the declared source `trail-prod`"), "{}", unknown.stderr);
    let same = replay(&["--config", &path]).exits(65).json();
    assert_eq!(sources(&same), [("trail-prod".into(), [2, 0, 0, 2])]);

    let wider = TWO.replace("accounts = \"111122223333\"", "accounts = [\"111122223333\", \"444455556666\"]");
    let admitted = replay(&["--config", &config(&trail, &wider)]).success().json();
    assert_eq!(sources(&admitted), [("trail-prod".into(), [2, 1, 0, 1])]);
    // Declared no more: what is left is admitted as what it is.
    let narrow = TWO.split("\n[[sources]]").nth(2).map(|vault| format!("[[sources]]{vault}")).expect("two");
    let undeclared = replay(&["--config", &config(&trail, &narrow)]).success().json();
    assert_eq!(sources(&undeclared), [("cloudtrail".into(), [1, 0, 1, 0]), ("vault".into(), [1, 1, 0, 0])]);
    let (code, report) = trail.verify_json(["--rederive"]);
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
}

#[test]
fn an_instance_makes_one_device_s_records_comparable_and_tells_two_apart() {
    let devices = |trail: &Trail| {
        trail.input("a.log", vault("000000000001", "a") + &vault("000000000002", "a"));
        trail.input("b.log", vault("000000000001", "b") + &vault("000000000002", "b"));
    };
    let declared = |names: &[(&str, &str)]| -> String {
        let one = |(file, instance): &(&str, &str)| {
            format!(
                "[[sources]]\nname = 'vault-{file}'\ndataset = 'vault.audit'\nlocation = '{file}.log'\n{instance}\n"
            )
        };
        names.iter().map(one).collect()
    };
    for (text, conflicts) in [
        (declared(&[("a", ""), ("b", "")]), 0),
        (declared(&[("a", "instance = 'x'"), ("b", "instance = 'y'")]), 0),
        (declared(&[("a", "instance = 'x'"), ("b", "instance = 'x'")]), 2),
    ] {
        let trail = Trail::new();
        devices(&trail);
        let summary = trail.run_json(["--config", &config(&trail, &text)]);
        assert_eq!((number(&summary["accepted"]), number(&summary["conflicts"])), (4, conflicts), "{text}");
        let found = trail.keytrail(["conflicts", "--json"]).success().json_lines();
        assert_eq!(found.len() as u64, conflicts, "{text}");
    }
}

#[test]
fn a_configuration_is_written_and_checked() {
    let trail = Trail::new();
    let path = trail.aside("keytrail.toml");
    let path = path.to_str().expect("UTF-8");
    trail.keytrail(["config", "init", "--out", path]).success();
    let written = fs::read_to_string(path).expect("it is written");
    trail.keytrail(["config", "init", "--out", path]).exits(64);
    assert_eq!(trail.keytrail(["config", "init", "--out", "-"]).success().stdout, written);
    let good = trail.keytrail(["config", "check", path]).success();
    assert!(good.stdout.contains("good: 0 sources"), "{}", good.stdout);

    two_sources(&trail);
    let report = trail.keytrail(["config", "check", "--json", &config(&trail, TWO)]).success().json();
    assert_eq!(report["sources"][0]["locations"], json!([{"location": "cloudtrail", "files": 1}]));
    assert_eq!(report["sources"][1]["locations"], json!([{"location": "vault/*.log", "files": 1}]));

    let bad = config(&trail, "[[sources]]\nnane = 'a'\ndataset = 'vault'\nlocation = 'x'\n");
    let told = trail.keytrail(["config", "check", &bad]).exits(78).stdout;
    for line in [
        "line 1: `sources[0].name`: missing",
        "line 2: `sources[0].nane`: unknown key, did you mean `name`?",
        "line 3: `sources[0].dataset`: the dataset of `vault` is `vault.audit`",
    ] {
        assert!(told.contains(line), "{told}");
    }
    // A command that works with it stops at once, with the same words.
    let ran = trail.run(["--config", &bad]).exits(78);
    assert!(ran.stderr.contains("3 problems in") && ran.stderr.contains("line 2: "), "{}", ran.stderr);
    assert!(!trail.data().exists());
}

/// The account of a source by `keytrail sources --json`.
fn accounts(trail: &Trail, config: &str) -> Vec<Value> {
    let shown = trail.keytrail(["sources", "--json", "--config", config]).success().json();
    shown["sources"].as_array().expect("a list").clone()
}

#[test]
fn what_was_heard_of_each_source_is_told() {
    let trail = Trail::new();
    two_sources(&trail);
    let text = format!(
        "{TWO}\n[[sources]]\nname = 'quiet'\ndataset = 'kubernetes.audit'\nlocation = 'quiet'\nlongest_silence = '1d'\n"
    );
    let path = config(&trail, &text);
    // Two events of one id, and one of the day before yesterday that no hour of the last day has.
    trail.input(
        "cloudtrail/b.json",
        cloudtrail("one", "111122223333").replace("DisableKey", "EnableKey")
            + &cloudtrail("old", "111122223333").replace("2026-01-05", "2026-01-03")
            + &cloudtrail("other", "999988887777"),
    );
    let run = |args: &[&str]| trail.run_json([&["--config", &path], args].concat());
    run(&[]);
    run(&[]);
    run(&[trail.aside("elsewhere").to_str().expect("UTF-8")]);

    let all = accounts(&trail, &path);
    let names: Vec<&str> = all.iter().map(|a| a["source"].as_str().expect("a name")).collect();
    assert_eq!(names, ["trail-prod", "vault-eu", "quiet", "vault"], "declared ones first, in their order");
    let told =
        |number: usize, keys: &[&str]| keys.iter().map(|key| all[number][key].clone()).collect::<Vec<_>>();
    let counts = ["events", "events_last_day", "duplicates", "rejected", "conflicts", "gaps"];
    assert_eq!(told(0, &counts), [4, 3, 4, 1, 1, 0].map(|n| json!(n)), "{}", all[0]);
    assert_eq!(told(1, &counts), [2, 2, 2, 0, 0, 0].map(|n| json!(n)), "{}", all[1]);
    assert_eq!(all[0]["last_event"], "2026-01-05T12:00:00.000000Z");
    assert_eq!(
        told(0, &["declared", "longest_silence_seconds", "overdue"]),
        [json!(true), Value::Null, json!(false)]
    );
    assert_eq!(told(1, &["longest_silence_seconds", "overdue"]), [json!(900), json!(false)]);
    let left = all[1]["silence_left_seconds"].as_i64().expect("a number");
    assert!((600..=900).contains(&left), "{left} seconds left of 900");
    assert_eq!(told(2, &["events", "last_heard", "overdue"]), [json!(0), Value::Null, json!(true)]);
    assert_eq!(told(3, &["declared", "dataset", "events"]), [json!(false), json!("vault.audit"), json!(1)]);

    let text = trail.keytrail(["sources", "--config", &path]).success().stdout;
    assert!(
        text.contains("never") && text.contains("OVERDUE") && text.contains("vault (undeclared)"),
        "{text}"
    );

    // What a run counted is state: it may go, and the rest stands.
    fs::remove_file(trail.data().join("state/duplicates")).expect("it is there");
    let all = accounts(&trail, &path);
    assert_eq!((&all[0]["duplicates"], &all[0]["events"]), (&json!(0), &json!(4)));
}
