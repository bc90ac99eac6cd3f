//! The weekly report: its numbers are those that DuckDB finds, it comes out the same again, and what came late is
//! told of.

use std::fs;
use std::path::PathBuf;

use keytrail_tests::oracle::oracle;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

fn examples() -> PathBuf {
    tools::root().join("examples")
}

/// `report.json`, or another file of a week.
fn read(trail: &Trail, file: &str) -> Value {
    serde_json::from_slice(&bytes(trail, file)).expect("JSON")
}

fn bytes(trail: &Trail, file: &str) -> Vec<u8> {
    fs::read(trail.data().join("reports").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// Every number of these reports by DuckDB, and their form by the JSON Schema; the tables that agree.
fn agree(trail: &Trail, files: &[&str]) -> u64 {
    let schema = tools::root().join("schemas/report.v1.schema.json");
    let data = trail.data();
    let mut args = vec![schema.to_str().expect("UTF-8").to_owned(), data.to_str().expect("UTF-8").to_owned()];
    args.extend(files.iter().map(|file| format!("reports/{file}")));
    number(&oracle("report", args)["tables"])
}

/// A call of CloudTrail at a time.
fn call(id: u32, time: &str, action: &str, more: &Value) -> Value {
    let mut event = json!({
        "eventVersion": "1.08", "eventTime": time, "eventSource": "kms.amazonaws.com", "eventName": action,
        "awsRegion": "us-east-1", "eventID": format!("{id:08}-0000-4000-8000-000000000000"),
        "eventType": "AwsApiCall", "recipientAccountId": "111122223333", "sourceIPAddress": "10.0.0.1",
        "userIdentity": {
            "type": "IAMUser", "accountId": "111122223333", "userName": "alice",
            "arn": "arn:aws:iam::111122223333:user/alice",
        },
        "resources": [{"type": "AWS::KMS::Key", "accountId": "111122223333",
            "ARN": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

fn lines(events: &[Value]) -> String {
    events.iter().map(|e| format!("{e}\n")).collect()
}

/// What is kept of days is used again, and believed by its tag alone.
#[test]
fn numbers_cannot_be_chosen_in_state() {
    let trail = Trail::new();
    let events: Vec<Value> =
        (0..5).map(|n| call(n, &format!("2023-07-12T10:00:0{n}Z"), "Decrypt", &json!({}))).collect();
    trail.run([trail.input("in.ndjson", lines(&events))]).success();
    let expected = bytes(&trail, "2023-W28/report.json");
    let kept = trail.data().join("state/report/2023-07-12");
    let file = fs::read_to_string(&kept).expect("a day that is kept");
    let forged = file.replace("\"events\":5", "\"events\":4");
    assert_ne!(forged, file);
    fs::write(&kept, forged).expect("written");
    fs::remove_file(trail.data().join("reports/2023-W28/report.json")).expect("removed");
    trail.keytrail(["report", "--week", "2023-W28"]).success();
    assert_eq!(bytes(&trail, "2023-W28/report.json"), expected);
}

/// By the command alone, too.
#[test]
fn days_are_kept_for_the_next_report() {
    let trail = Trail::new();
    let event = call(1, "2023-07-12T10:00:00Z", "Decrypt", &json!({}));
    trail.run([trail.input("in.json", lines(&[event])).as_os_str(), "--no-report".as_ref()]).success();
    let day = trail.data().join("state/report/2023-07-12");
    assert!(!day.exists());
    trail.keytrail(["report", "--week", "2023-W28"]).success();
    assert!(day.exists());
}

#[test]
fn numbers_are_those_of_duckdb() {
    let trail = Trail::new();
    let summary = trail.run_json([examples()]);
    let made = summary["reports"].as_array().expect("reports");
    let weeks: Vec<String> = made.iter().map(|r| text(&r["week"])).collect();
    assert!(weeks.len() > 25 && weeks.contains(&"2023-W28".to_owned()), "{weeks:?}");
    // Of each source at least one.
    let some = ["2016-W01", "2017-W37", "2018-W03", "2021-W42", "2023-W28", "2024-W03", "2026-W02"];
    let files = some.map(|week| format!("{week}/report.json"));
    assert_eq!(agree(&trail, &files.each_ref().map(String::as_str)), 13 * 7);

    let report = read(&trail, "2023-W28/report.json");
    assert_eq!(report["cover"]["status"], "final");
    assert_eq!(number(&report["summary"]["figures"][0]["count"]), 433);
    let silent = report["coverage"]["sources"][0]["days"].as_array().expect("days");
    assert_eq!(silent.iter().filter(|d| d["state"] == "silent").count(), 6);
    // The chain: each names the hash of the one before, in the order of the index.
    let index = read(&trail, "index.json");
    let mut before = Value::Null;
    for made in index["reports"].as_array().expect("reports") {
        let report = read(&trail, &format!("{}/report.json", text(&made["week"])));
        assert_eq!(report["cover"]["previous"], before);
        before = made.clone();
    }
}

/// Thirteen weeks of one source, with history, failures, lifecycles, root and two who share a name.
fn weeks() -> Vec<Value> {
    let mut events = Vec::new();
    for n in 0..420u32 {
        let (week, at) = (n % 13, n * 7_919 % 604_800);
        let day = week * 7 + at / 86_400;
        // 2024-04-15 is a Monday; April has 30 days, May 31, June 30.
        let (month, date) = match 15 + day {
            d if d <= 30 => (4, d),
            d if d <= 61 => (5, d - 30),
            d if d <= 91 => (6, d - 61),
            d => (7, d - 91),
        };
        let time =
            format!("2024-{month:02}-{date:02}T{:02}:{:02}:{:02}Z", at / 3_600 % 24, at / 60 % 60, at % 60);
        let action = [
            "Decrypt",
            "Encrypt",
            "CreateKey",
            "ScheduleKeyDeletion",
            "CancelKeyDeletion",
            "PutKeyPolicy",
            "DisableKey",
            "Decrypt",
            "Sign",
        ][(n * 31 % 9) as usize];
        let key =
            format!("arn:aws:kms:us-east-1:111122223333:key/{:08x}-12ab-34cd-56ef-1234567890ab", n * 17 % 11);
        let mut more =
            json!({"resources": [{"type": "AWS::KMS::Key", "accountId": "111122223333", "ARN": key}]});
        match n % 10 {
            0 | 1 => more["errorCode"] = "AccessDenied".into(),
            2 => {
                more["userIdentity"] = json!({"type": "Root", "accountId": "111122223333", "arn": "arn:aws:iam::111122223333:root"})
            }
            3 => more["recipientAccountId"] = "444455556666".into(),
            4 => more["userIdentity"] = json!({"type": "AWSService", "invokedBy": "rds.amazonaws.com"}),
            _ => {}
        }
        events.push(call(n, &time, action, &more));
    }
    events
}

#[test]
fn weeks_are_compared_with_those_before() {
    let trail = Trail::new();
    let input = trail.input("thirteen.ndjson", lines(&weeks()));
    trail.run([input]).success();
    assert_eq!(agree(&trail, &["2024-W16/report.json", "2024-W20/report.json", "2024-W28/report.json"]), 39);
    let report = read(&trail, "2024-W28/report.json");
    let before = report["summary"]["figures"][0]["before"].as_array().expect("weeks");
    assert!(before.len() == 12 && before.iter().all(|n| n.as_u64() > Some(20)), "{before:?}");
    assert!(report["failures"]["actors"][0]["median"].is_u64());
    let first = read(&trail, "2024-W16/report.json");
    assert!(first["failures"]["actors"][0]["median"].is_null(), "there is no history");
    assert!(first["summary"]["figures"][0]["before"][11].is_null());
}

#[test]
fn it_comes_out_the_same_whatever_was_lost() {
    let trail = Trail::new();
    let all = weeks();
    trail.run([trail.input("a.ndjson", lines(&all[..200]))]).success();
    let files = ["2024-W28/report.json", "2024-W28/report.html", "2024-W28/report.checkpoint"];
    let first = files.map(|file| bytes(&trail, file));
    let again = |trail: &Trail, what: &str| {
        trail.keytrail(["report", "--week", "2024-W28"]).success();
        for (file, first) in files.iter().zip(&first).take(2) {
            assert!(bytes(trail, file) == *first, "{what}: {file} is another one");
        }
    };
    again(&trail, "as it is");
    for lost in ["reports/2024-W28/report.html", "reports/2024-W28/report.json", "state"] {
        let path = trail.data().join(lost);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        again(&trail, lost);
    }
    // A page that somebody changed, and a killed run's leavings.
    fs::write(trail.data().join("reports/2024-W28/report.html"), "<p>All is well.").expect("written");
    again(&trail, "changed page");

    // More events, late ones too, and all objects of a day in one: what was sealed then is told apart.
    trail.run([trail.input("b.ndjson", lines(&all[200..]))]).success();
    let mut compacted = false;
    for n in 0..6 {
        let event = call(1_000 + n, "2024-07-08T12:00:00Z", "Decrypt", &Value::Null);
        let summary = trail.run_json([trail.input("late.ndjson", lines(&[event]))]);
        compacted |= !summary["compacted"].is_null();
    }
    assert!(compacted, "`run` compacts at its end");
    assert_eq!(first[2], bytes(&trail, files[2]));
    fs::remove_file(trail.data().join("reports/2024-W28/report.json")).expect("removed");
    fs::remove_dir_all(trail.data().join("state")).expect("removed");
    again(&trail, "compacted");
    assert_eq!(trail.keytrail(["verify"]).success().code, Some(0));

    // A changed report is not believed, and not passed off as the first one.
    let index = trail.data().join("reports/index.json");
    let sha256 = text(&read(&trail, "index.json")["reports"][0]["sha256"]);
    let forged = fs::read_to_string(&index).expect("UTF-8").replace(&sha256, &"0".repeat(64));
    fs::write(&index, forged).expect("written");
    let week = text(&read(&trail, "index.json")["reports"][0]["week"]);
    let ran = trail.keytrail(["report", "--week", &week]).exits(70);
    assert!(
        ran.stderr.contains("is missing or changed, and it does not come out as it was"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_killed_run_is_finished_by_the_next() {
    let trail = Trail::new();
    let input = trail.input("a.ndjson", lines(&weeks()));
    trail.run([&input]).success();
    let done = trail.files();
    let reports: Vec<_> = done.iter().filter(|(name, _)| name.starts_with("reports/")).collect();
    let last = text(&read(&trail, "index.json")["reports"][12]["week"]);
    // As it is between the first file of the last report and its entry in the index.
    let folder = trail.data().join("reports");
    for file in ["report.html", "report.json"] {
        fs::remove_file(folder.join(&last).join(file)).expect("removed");
    }
    let mut index = read(&trail, "index.json");
    index["reports"].as_array_mut().expect("reports").pop();
    fs::write(folder.join("index.json"), serde_json::to_vec(&index).expect("JSON")).expect("written");

    trail.run([&input]).success();
    let after = trail.files();
    for (name, sha256) in reports {
        assert_eq!(after.get(name), Some(sha256), "{name}");
    }
}

#[test]
fn late_events_are_amended() {
    let trail = Trail::new();
    let event = |id, time: &str| call(id, time, "Decrypt", &Value::Null);
    let first = [event(1, "2024-05-06T10:00:00Z"), event(2, "2024-05-13T10:00:00Z")];
    trail.run([trail.input("1.ndjson", lines(&first))]).success();
    let (w19, w20) = (bytes(&trail, "2024-W19/report.json"), bytes(&trail, "2024-W20/report.json"));

    let late = [
        event(3, "2024-05-07T10:00:00Z"),
        event(4, "2024-05-07T11:00:00Z"),
        event(5, "2024-05-20T10:00:00Z"),
    ];
    let summary = trail.run_json([trail.input("2.ndjson", lines(&late))]);
    let made = summary["reports"].as_array().expect("reports");
    let told: Vec<_> = made.iter().map(|r| (text(&r["week"]), text(&r["status"]))).collect();
    assert_eq!(
        told,
        [("2024-W19".into(), "amendment".into()), ("2024-W21".into(), "final".into())]
            as [(String, String); 2]
    );
    // Nothing is rewritten.
    assert_eq!((bytes(&trail, "2024-W19/report.json"), bytes(&trail, "2024-W20/report.json")), (w19, w20));

    let index = read(&trail, "index.json");
    let amendment = read(&trail, "2024-W19/amendment-1.json");
    assert_eq!(amendment["cover"]["supersedes"], index["reports"][0]);
    assert_eq!(amendment["cover"]["previous"], index["reports"][1]);
    assert_eq!(number(&amendment["summary"]["figures"][0]["count"]), 3);
    let row = json!({"week": "2024-W19", "day": "2024-05-07", "dataset": "aws.cloudtrail", "events": 2});
    for list in ["weeks", "amends"] {
        let found = &amendment["late"][list];
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
        for (name, value) in row.as_object().expect("a row") {
            assert_eq!(found[0][name], *value);
        }
    }
    // It was told once: the report after it has nothing more to tell.
    let w21 = read(&trail, "2024-W21/report.json");
    assert_eq!(w21["late"]["weeks"], json!([]));
    assert_eq!(w21["cover"]["previous"]["amendment"], 1);
    // Late events by the log's own entries.
    let from = number(&amendment["late"]["from_leaf"]) as usize;
    let added: u64 = trail.manifests()[from..]
        .iter()
        .filter(|m| m["kind"] == "add" && m["rows"]["day"] == "2024-05-07")
        .map(|m| number(&m["rows"]["count"]))
        .sum();
    assert_eq!(added, 2);
    assert_eq!(agree(&trail, &["2024-W19/amendment-1.json", "2024-W21/report.json"]), 26);
    // Again, it is a no-op; `report` gives both.
    assert!(trail.run_json([trail.aside("2.ndjson")])["reports"].is_null());
    let listed = trail.keytrail(["report", "--week", "2024-W19", "--json"]).success().json();
    assert_eq!(listed["reports"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_week_that_is_not_settled_fixes_nothing() {
    let trail = Trail::new();
    let now = jiff::Timestamp::now();
    let events = [call(1, &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), "Decrypt", &Value::Null)];
    let week = now.strftime("%G-W%V").to_string();
    let summary = trail.run_json([trail.input("now.ndjson", lines(&events))]);
    assert!(summary["reports"].is_null(), "run waits for 36 hours");
    let ran = trail.keytrail(["report", "--week", &week, "--json"]).success().json();
    assert_eq!(ran["reports"][0]["status"], "provisional");
    let report = read(&trail, &format!("{week}/provisional.json"));
    assert_eq!(report["cover"]["previous"], Value::Null);
    assert_eq!(number(&report["summary"]["figures"][0]["count"]), 1);
    let page = String::from_utf8(bytes(&trail, &format!("{week}/provisional.html"))).expect("UTF-8");
    assert!(page.contains("PROVISIONAL"));
    assert!(!trail.data().join("reports/index.json").exists(), "it is not chained");
}

#[test]
fn silence_is_said() {
    let trail = Trail::new();
    let events = [
        call(1, "2024-05-06T00:00:00Z", "Decrypt", &Value::Null),
        call(2, "2024-05-06T12:00:00Z", "Decrypt", &Value::Null),
        call(3, "2024-05-11T23:59:59Z", "Decrypt", &Value::Null),
    ];
    trail.input("ct/a.ndjson", lines(&events));
    let config = trail.input(
        "keytrail.toml",
        "[[sources]]\nname = \"trail\"\ndataset = \"aws.cloudtrail\"\nlocation = \"ct\"\nlongest_silence = \"7d\"\n\
         [[sources]]\nname = \"hsm\"\ndataset = \"aws.cloudhsm\"\nlocation = \"hsm\"\nlongest_silence = \"15m\"\n",
    );
    let config = config.to_str().expect("UTF-8");
    fs::create_dir(trail.aside("hsm")).expect("made");
    trail.run(["--config", config, "--no-report"]).success();
    assert!(!trail.data().join("reports").exists());
    trail.keytrail(["report", "--config", config, "--week", "2024-W19"]).success();
    let report = read(&trail, "2024-W19/report.json");
    let sources = report["coverage"]["sources"].as_array().expect("sources");
    let names: Vec<_> = sources.iter().map(|s| (text(&s["source"]), number(&s["events"]))).collect();
    assert_eq!(names, [("hsm".to_owned(), 0), ("trail".to_owned(), 3)]);
    assert_eq!(number(&sources[0]["longest_silence_seconds"]), 604_800);
    assert_eq!((&sources[0]["too_silent"], &sources[1]["too_silent"]), (&json!(true), &json!(false)));
    assert_eq!(number(&sources[1]["longest_silence_seconds"]), 5 * 86_400 + 43_199);
    let days = sources[1]["days"].as_array().expect("days");
    let days: Vec<_> =
        days.iter().map(|d| (text(&d["state"]), number(&d["longest_silence_seconds"]))).collect();
    assert_eq!(days[0], ("heard".to_owned(), 43_200));
    assert_eq!(days[5], ("heard".to_owned(), 86_399));
    assert!(days[1..5].iter().all(|day| *day == ("silent".to_owned(), 86_400)));
    let kinds: Vec<_> =
        report["summary"]["attention"].as_array().expect("list").iter().map(|a| text(&a["kind"])).collect();
    assert!(kinds.contains(&"unheard".to_owned()), "{kinds:?}");
    // A week of silence has a report, too.
    trail.keytrail(["report", "--config", config, "--week", "2024-W18"]).success();
    let report = read(&trail, "2024-W18/report.json");
    assert_eq!(number(&report["summary"]["figures"][0]["count"]), 0);
    assert_eq!(report["coverage"]["sources"].as_array().map(Vec::len), Some(2));
    assert_eq!(agree(&trail, &["2024-W19/report.json", "2024-W18/report.json"]), 26);
}

#[test]
fn keys_are_held_against_the_inventory() {
    let trail = Trail::new();
    let events = [call(1, "2024-05-06T10:00:00Z", "Decrypt", &Value::Null)];
    let other = json!({"resources": [{"type": "AWS::KMS::Key", "accountId": "111122223333",
        "ARN": "arn:aws:kms:us-east-1:111122223333:key/77777777-12ab-34cd-56ef-1234567890ab"}]});
    let input = trail.input(
        "a.ndjson",
        lines(&[&events[..], &[call(2, "2024-05-07T10:00:00Z", "Sign", &other)]].concat()),
    );
    trail.input(
        "keys.csv",
        "id,owner,purpose\n1234ABCD-12ab-34cd-56ef-1234567890ab,Payments,Cards\nunused,Archive,\n",
    );
    let config = trail
        .input("keytrail.toml", "[[tables]]\nname = \"inventory\"\nkind = \"keys\"\npath = \"keys.csv\"\n");
    let config = config.to_str().expect("UTF-8");
    trail.run([input.to_str().expect("UTF-8"), "--config", config]).success();
    let keys = &read(&trail, "2024-W19/report.json")["keys"];
    let seen: Vec<_> =
        keys["seen"].as_array().expect("keys").iter().map(|k| (&k["declared"], &k["owner"])).collect();
    assert_eq!(seen, [(&json!(true), &json!("Payments")), (&json!(false), &Value::Null)]);
    assert_eq!(
        (number(&keys["undeclared_count"]), &keys["declared_unseen"][0]["key"]),
        (1, &json!("unused"))
    );
    assert_eq!(agree(&trail, &["2024-W19/report.json"]), 13);
    // The table is a part of what a report is a function of.
    let first = bytes(&trail, "2024-W19/report.json");
    fs::remove_file(trail.data().join("reports/2024-W19/report.json")).expect("removed");
    let ran = trail.keytrail(["report", "--week", "2024-W19"]).exits(78);
    assert!(ran.stderr.contains("takes its key inventory: `inventory`, SHA-256"), "{}", ran.stderr);
    trail.keytrail(["report", "--week", "2024-W19", "--config", config]).success();
    assert_eq!(bytes(&trail, "2024-W19/report.json"), first);
}

#[test]
fn what_is_damaged_or_gone_is_no_blank() {
    let trail = Trail::new();
    let events = [
        call(1, "2024-05-06T10:00:00Z", "Decrypt", &Value::Null),
        call(2, "2024-05-07T10:00:00Z", "Decrypt", &Value::Null),
        call(3, "2024-05-08T10:00:00Z", "Decrypt", &Value::Null),
    ];
    trail.run([trail.input("a.ndjson", lines(&events)).as_os_str(), "--no-report".as_ref()]).success();
    let object = trail.objects()[1].clone();
    fs::write(trail.data().join(&object), b"no Parquet").expect("written");
    let ran = trail.keytrail(["report", "--week", "2024-W19", "--json"]).exits(70);
    assert_eq!(ran.json()["reports"][0]["findings"], true);
    let report = read(&trail, "2024-W19/report.json");
    assert_eq!(number(&report["summary"]["figures"][0]["count"]), 2);
    assert_eq!(report["coverage"]["unreadable"][0]["day"], "2024-05-07");
    assert_eq!(report["coverage"]["sources"][0]["days"][1]["state"], "unreadable");
    assert_eq!(report["integrity"]["good"], false);
    assert_eq!(report["integrity"]["findings"][0]["code"], "OBJECT_MISMATCH");
    assert_eq!(report["integrity"]["findings"][0]["element"], object);
}

#[test]
fn wrong_weeks_and_folders_in_use_are_refused() {
    let trail = Trail::new();
    trail.keytrail(["report", "--week", "2024-W60"]).exits(64);
    trail.keytrail(["report"]).exits(64);
    trail.run([trail.input("a.ndjson", lines(&weeks()[..3])).as_os_str(), "--no-report".as_ref()]).success();
    let lock = fs::File::open(trail.data()).expect("opened");
    lock.try_lock().expect("free");
    trail.keytrail(["report", "--week", "2024-W16"]).exits(75);
    drop(lock);
    let out = trail.aside("out");
    trail.keytrail(["report", "--week", "2024-W16", "--out", out.to_str().expect("UTF-8")]).success();
    assert_eq!(fs::read(out.join("report.json")).expect("copied"), bytes(&trail, "2024-W16/report.json"));
}
