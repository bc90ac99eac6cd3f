//! Archived events are written again: what a user sees before and after.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_tests::trail::{Trail, number, text};
use serde_json::Value;

/// A CloudTrail event of one day.
fn event(id: &str, second: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","userName":"Alice","accountId":"111122223333"}},"eventTime":"2024-02-03T10:{:02}:{:02}Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","eventID":"{id}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}
"#,
        second / 60 % 60,
        second % 60
    )
}

/// A trail of so many runs of one input each, whose events lie between each other's.
fn trail_of(runs: usize) -> (Trail, Vec<PathBuf>) {
    let trail = Trail::new();
    let input = |run: usize| {
        let events = (0..5).map(|n| event(&format!("{run}-{n}"), run + n * 100)).collect::<String>();
        trail.input(&format!("in/{run}.json"), events)
    };
    let inputs: Vec<PathBuf> = (0..runs).map(input).collect();
    for input in &inputs {
        trail.run([input]).success();
    }
    (trail, inputs)
}

fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("a list").iter();
    findings
        .map(|f| format!("{} {}: {}", text(&f["code"]), text(&f["element"]), text(&f["message"])))
        .collect()
}

#[test]
fn compaction_changes_no_event() {
    let (trail, inputs) = trail_of(4);
    let before = trail.events();
    assert_eq!((trail.objects().len(), before.len()), (4, 20));
    // A fifth makes it pay; `run` does it by itself.
    let fifth = trail.input("in/5.json", event("late", 7));
    let summary = trail.run_json([&fifth]);
    assert_eq!(number(&summary["compacted"]["replaced"]["objects"]), 5);
    assert_eq!(trail.objects().len(), 1);
    let after = trail.events();
    assert!(before.iter().all(|e| after.contains(e)) && after.len() == 21);
    // Provenance stays with each row, and the order is the archive's.
    let rows = trail.query("select epoch_us(timestamp) as time, keytrail_input from {archive}");
    assert!(rows.is_sorted_by_key(|r| number(&r["time"])) && rows.len() == 21);
    for input in inputs.iter().chain([&fifth]) {
        let name = format!("{}@", input.display());
        assert!(rows.iter().any(|r| text(&r["keytrail_input"]).starts_with(&name)), "{name}");
    }
    let (code, report) = trail.verify_json(["--rederive"]);
    assert_eq!((code, findings(&report)), (Some(0), vec![]));
    let again = trail.run_json(inputs.iter().chain([&fifth]));
    assert_eq!((number(&again["accepted"]), number(&again["duplicates"])), (0, 21));
    let said = trail.keytrail(["compact"]).success().stdout;
    assert!(said.starts_with("nothing to compact"), "{said}");
    let uid = &after[0].0;
    trail.keytrail(["explain", uid]).success();
    // A bundle of it verifies elsewhere.
    let bundle = trail.aside("bundle");
    trail.keytrail(["export".as_ref(), "--out".as_ref(), bundle.as_os_str()]).success();
    trail.keytrail(["verify".as_ref(), "--bundle".as_ref(), bundle.as_os_str()]).success();
}

#[test]
fn the_plan_changes_nothing() {
    let (trail, _) = trail_of(4);
    let fifth = trail.input("in/5.json", event("late", 7));
    // A target below its objects' size: `run` leaves them apart.
    trail.run(["--object-size", "1kB"].iter().map(AsRef::as_ref).chain([fifth.as_os_str()])).success();
    let files = trail.files();
    let plan = trail.keytrail(["compact", "--dry-run", "--json"]).success().json();
    assert_eq!(number(&plan["merges"][0]["objects"]), 5);
    assert_eq!(plan["merges"][0]["day"], "2024-02-03");
    assert!(trail.keytrail(["compact", "--dry-run"]).success().stdout.contains("would make 1 objects of 5"));
    assert_eq!(trail.files(), files);
    assert!(trail.keytrail(["compact"]).success().stdout.starts_with("5 objects, "));
    assert_eq!(trail.objects().len(), 1);
    let nowhere = trail.keytrail(["compact", "--data", "nowhere"]).exits(64);
    assert!(nowhere.stderr.contains("holds no trail"), "{}", nowhere.stderr);
}

#[test]
fn withheld_bytes_do_not_come_back() {
    let (trail, inputs) = trail_of(4);
    let (uid, hash) = trail.events().remove(3);
    let secret = format!(
        "select event_id, event_original is null as gone from {{archive}} where keytrail_uid = '{uid}'"
    );
    assert_eq!(trail.query(&secret)[0]["gone"], false);
    trail.keytrail(["withhold", &uid]).exits(64);
    trail.keytrail(["withhold", &uid[..39], "--reason", "r"]).exits(64);
    let unknown = trail.keytrail(["withhold", &"0".repeat(40), &uid, "--reason", "r"]).exits(64);
    assert!(unknown.stderr.contains("no event has the uid"), "{}", unknown.stderr);

    let reason = "request 17 \u{1b}[31m";
    let said = trail.keytrail(["withhold", &uid, "--reason", reason]).success().stdout;
    assert!(said.starts_with("1 events withheld, 1 objects replaced"), "{said}");
    let check = |trail: &Trail| {
        assert_eq!(trail.query(&secret)[0]["gone"], true);
        assert!(trail.events().contains(&(uid.clone(), hash.clone())));
        let (code, report) = trail.verify_json(["--rederive"]);
        let found = findings(&report);
        assert!(code == Some(0) && found.len() == 1, "{found:#?}");
        assert!(found[0].starts_with("WITHHELD ") && found[0].ends_with(reason), "{found:#?}");
        let shown = trail.keytrail(["explain", &uid]).success().stdout;
        assert!(shown.contains("original  withheld: request 17 \\u{1b}[31m"), "{shown}");
        assert_eq!(text(&trail.keytrail(["explain", &uid, "--json"]).success().json()["withheld"]), reason);
        trail.keytrail(["explain", &uid, "--raw"]).exits(64);
        trail.keytrail(["conflicts"]).success();
    };
    check(&trail);
    let again = trail.keytrail(["withhold", &uid, "--reason", "once more"]).success().stdout;
    assert!(again.starts_with("withheld already"), "{again}");
    let replay = trail.run_json(&inputs);
    assert_eq!((number(&replay["accepted"]), number(&replay["duplicates"])), (0, 20));
    check(&trail);
    // A withheld row among others that are put together.
    let fifth = trail.input("in/5.json", event("late", 7));
    assert_eq!(number(&trail.run_json([&fifth])["compacted"]["replaced"]["objects"]), 5);
    check(&trail);
    // The bytes are in no file of the data folder.
    for name in trail.names() {
        let bytes = fs::read(trail.data().join(&name)).expect("readable");
        let plain = bytes.windows(9).any(|w| w == b"\"eventID\"");
        assert!(!plain, "{name}");
    }
}

#[test]
fn an_event_under_a_legal_hold_keeps_its_bytes() {
    let (trail, _) = trail_of(2);
    let events = trail.events();
    let config =
        trail.input("keytrail.toml", format!("[[holds]]\nreason = \"case 17\"\nuid = \"{}\"\n", events[0].0));
    let before = trail.files();
    let withhold = |uids: &[&str]| {
        let args = ["withhold", "--reason", "request 17", "--config", config.to_str().expect("UTF-8")];
        trail.keytrail([&args, uids].concat())
    };
    let refused = withhold(&[&events[1].0, &events[0].0]).exits(64);
    assert!(refused.stderr.contains("is under the legal hold `case 17`"), "{}", refused.stderr);
    trail.verify().success();
    let archive = |files: &std::collections::BTreeMap<String, String>| {
        files
            .iter()
            .filter(|(name, _)| name.starts_with("archive/"))
            .map(|(_, hash)| hash.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(archive(&trail.files()), archive(&before));
    withhold(&[&events[1].0]).success();
    trail.keytrail(["expire", "--older-than", "1d", "--config", "nowhere.toml"]).exits(78);
}

#[test]
fn what_expires_is_said_before_it_goes() {
    let (trail, inputs) = trail_of(2);
    let plan = |args: &[&str]| trail.keytrail(["expire", "--json"].iter().chain(args)).success().json();
    trail.keytrail(["expire"]).exits(64);
    let files = trail.files();
    // Its events are of 2024, but it was archived today.
    assert_eq!(plan(&["--older-than", "1d"]), serde_json::json!({"expired": [], "held": [], "skipped": []}));
    assert_eq!(trail.files(), files);
    let said = trail.keytrail(["expire", "--older-than", "1d", "--apply"]).success().stdout;
    assert!(said.starts_with("expired: 0 objects of 0 days, 0 rows"), "{said}");
    let config = trail.input("keytrail.toml", "[[retention]]\nolder_than = \"36h\"\n");
    trail.keytrail(["expire".as_ref(), "--config".as_ref(), config.as_os_str()]).exits(78);
    let events = trail.events().len() as u64;
    assert_eq!(number(&trail.run_json(&inputs)["duplicates"]), events);
}

/// Ten thousand small inputs of one day: what is made of them is as large as the events make it.
#[test]
fn many_small_inputs_make_few_objects() {
    const INPUTS: usize = 10_000;
    let trail = Trail::new();
    for i in 0..INPUTS {
        trail.input(&format!("in/{i}.json"), event(&format!("{i}"), i % 3_000));
    }
    let summary = trail.run_json([trail.aside("in")]);
    assert_eq!(number(&summary["accepted"]), INPUTS as u64);
    assert_eq!((trail.objects().len(), trail.manifests().len()), (1, 1));
    let whole = Trail::new();
    let all: String = (0..INPUTS).map(|i| event(&format!("{i}"), i % 3_000)).collect();
    whole.run([whole.input("all.json", all)]).success();
    let bytes = |trail: &Trail| {
        let size = |name: &String| fs::metadata(trail.data().join(name)).expect("is there").len();
        trail.names().iter().filter(|n| n.starts_with("archive/")).map(size).sum::<u64>()
    };
    assert!(bytes(&trail) < bytes(&whole) * 3 / 2, "{} and {}", bytes(&trail), bytes(&whole));
    trail.verify().success();
}

/// Readers of a folder in which objects are replaced all the time.
#[test]
fn readers_miss_nothing_while_objects_are_replaced() {
    let (trail, _) = trail_of(4);
    let (uid, _) = trail.events().remove(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in [vec!["verify"], vec!["explain", &uid], vec!["conflicts"], vec!["export"]] {
            let (trail, done) = (&trail, &done);
            scope.spawn(move || {
                let mut times = 0;
                while !done.load(Ordering::Relaxed) || times == 0 {
                    let bundle = trail.aside(&format!("bundle-{times}"));
                    let mut args: Vec<&OsStr> = reader.iter().map(AsRef::as_ref).collect();
                    if reader == ["export"] {
                        args.extend(["--out".as_ref(), bundle.as_os_str()]);
                    }
                    trail.keytrail(&args).success();
                    if reader == ["export"] {
                        trail
                            .keytrail(["verify".as_ref(), "--bundle".as_ref(), bundle.as_os_str()])
                            .success();
                    }
                    times += 1;
                }
            });
        }
        for i in 4..24 {
            let input = trail.input(&format!("in/{i}.json"), event(&format!("{i}"), i * 7));
            trail.run([input]).success();
        }
        done.store(true, Ordering::Relaxed);
    });
    let manifests = trail.manifests();
    assert!(manifests.iter().filter(|m| m["kind"] == "compact").count() > 3);
    assert_eq!(trail.events().len(), 40);
}
