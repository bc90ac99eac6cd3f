//! Raw objects through all functions of ingest: the same events as on one machine, once each.

use std::path::{Path, PathBuf};

use keytrail_tests::cloud::Cloud;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number};
use serde_json::{Value, json};

/// Files below a folder, by their paths in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Sums of a count over answers of `archive-events`.
fn sum(answers: &[Value], count: &str) -> u64 {
    answers.iter().map(|answer| number(&answer["counts"][count])).sum()
}

#[test]
fn objects_of_a_bucket_become_the_events_that_one_machine_makes_of_them() {
    let cloud = Cloud::new();
    let examples = tools::root().join("examples");
    let files = files(&examples);
    let mut objects = Vec::new();
    for file in &files {
        let key = format!("incoming/{}", file.strip_prefix(&examples).expect("below it").display());
        let bytes = std::fs::read(file).expect("a file");
        cloud.put(&key, &bytes);
        objects.push((key, bytes.len()));
    }
    let named: Vec<(&str, usize)> = objects.iter().map(|(key, size)| (key.as_str(), *size)).collect();
    // Two messages, the second of which comes twice.
    let (first, second) = named.split_at(named.len() / 2);
    for (id, objects) in [("1", first), ("2", second), ("2", second)] {
        let answer = cloud.call("stage-objects", &cloud.notification(id, objects));
        assert_eq!(answer, json!({"batchItemFailures": []}));
    }
    assert_eq!(cloud.open(), files.len());
    // Neither what is no message of S3 keeps the others, nor what S3 says once of itself.
    let mut broken = cloud.notification("3", &[]);
    broken["Records"][0]["body"] = "no JSON".into();
    let test = json!({"messageId": "4", "body": "{\"Service\":\"Amazon S3\",\"Event\":\"s3:TestEvent\"}"});
    broken["Records"].as_array_mut().expect("a list").push(test);
    let answer = cloud.call("stage-objects", &broken);
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "3"}]}));

    let one = Trail::new();
    let run = one.run_json([&examples]);
    // An execution's name is that of what it holds: the message that came twice started it once.
    let inputs = cloud.started(2);
    assert_eq!(inputs.len(), 2);
    // Both calls know nothing of each other.
    let answers: Vec<Value> = inputs.iter().flat_map(|input| cloud.archive(input)).collect();
    assert_eq!(sum(&answers, "read"), number(&run["read"]));
    assert_eq!(sum(&answers, "rejected"), number(&run["rejected"]));
    let sealed = cloud.seal();
    assert_eq!((number(&sealed["sealed"]), number(&sealed["waiting"])), (2, 0));
    assert_eq!(cloud.open(), 0, "what the log names is not open");
    // Delivered again.
    let again = cloud.archive(&inputs[1]);
    assert_eq!(sum(&again, "accepted"), 0);
    assert_eq!(number(&cloud.seal()["entries"]), 0);

    let trail = cloud.fetched();
    assert_eq!(trail.events(), one.events());
    let (code, report) = trail.verify_json(["--keys", "keys/log.keys"].map(|arg| match arg {
        "keys/log.keys" => trail.data().join(arg).display().to_string(),
        other => other.to_owned(),
    }));
    assert_eq!((code, &report["trust"]), (Some(0), &json!("authentic by the given keys")), "{report}");
    assert_eq!(report["rows"], run["accepted"]);

    // What waits is nothing.
    let swept = cloud.call("sweep-raw", &json!({}));
    assert_eq!((number(&swept["open"]), number(&swept["unsealed"])), (0, 0), "{swept}");
}

#[test]
fn a_function_says_what_it_did_in_one_line() {
    let cloud = Cloud::new();
    let line = b"{\"no\":\"event\"}\n";
    let object = cloud.put("incoming/a.log", line);
    let done = cloud.try_call("archive-events", &json!({"batch": "one", "objects": [object]}));
    let lines: Vec<Value> = done.log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [line] = lines.as_slice() else { panic!("{}", done.log) };
    assert_eq!((&line["Function"], &line["Environment"]), (&json!("archive-events"), &json!("")));
    assert_eq!(
        (&line["RecordsRejected"], &line["ColdStart"], &line["batch"]),
        (&json!(1.0), &json!(1.0), &json!("one"))
    );
    assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Keytrail");
    let again = cloud.try_call("archive-events", &json!({"batch": 1}));
    assert_eq!(again.error_type().as_deref(), Some("Fatal.Input"), "{}", again.log);
    assert!(again.log.contains("\"cold_start\":false"), "{}", again.log);
}

#[test]
fn what_is_wrong_with_the_environment_ends_a_function_at_once() {
    let cloud = Cloud::new();
    let broken = cloud
        .function("archive-events")
        .variable("KEYTRAIL_DATA", "/var/data")
        .variable("KEYTRAIL_LOCK", "maybe");
    cloud.deploy(broken);
    let done = cloud.try_call("archive-events", &json!({"batch": "b", "objects": []}));
    assert!(done.function_error.is_some());
    assert!(
        done.log.contains("`KEYTRAIL_DATA`: expected a place as s3://bucket/prefix, found `/var/data`")
            && done
                .log
                .contains("`KEYTRAIL_LOCK`: expected `GOVERNANCE`, `COMPLIANCE` or `none`, found `maybe`"),
        "{}",
        done.log
    );
}
