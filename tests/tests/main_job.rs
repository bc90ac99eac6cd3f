//! The main job as a user runs it: what it says, what it leaves, how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::{Format, Load};
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, found, number, text};
use serde_json::{Value, json};

const COUNTS: [&str; 6] = ["read", "accepted", "duplicates", "rejected", "conflicts", "variants"];

fn examples() -> String {
    tools::root().join("examples").canonicalize().expect("examples/").display().to_string()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn load(format: Format, events: u64) -> Load {
    Load {
        seed: 7,
        format,
        events,
        start_micros: 20_458 * 86_400_000_000,
        days: 2,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    }
}

#[test]
fn the_examples_become_a_proven_archive() {
    let trail = Trail::new();
    let ran = trail.run([examples().as_str(), "--json"]).exits(0);
    let summary = ran.json();

    // Fixed names (issue 3 section 5): others parse this.
    let fixed: BTreeSet<&str> = COUNTS.into_iter().chain(["sources", "log", "reports"]).collect();
    assert_eq!(keys(&summary), fixed);
    assert_eq!(keys(&summary["log"]), ["origin", "tree_size", "root_hash"].into());
    let sources = summary["sources"].as_array().expect("a list");
    let names: Vec<&str> = sources.iter().filter_map(|s| s["source"].as_str()).collect();
    assert_eq!(names, ["cloudhsm", "cloudtrail", "gcp", "key-operation", "keyvault", "kubernetes", "vault"]);
    for counts in sources.iter().chain([&summary]) {
        let [read, accepted, duplicates, rejected, ..] = COUNTS.map(|name| number(&counts[name]));
        assert_eq!(read, accepted + duplicates + rejected, "{counts}");
        assert!(read > 0, "{counts}");
    }
    for source in sources {
        assert_eq!(keys(source), COUNTS.into_iter().chain(["source"]).collect());
    }
    for name in COUNTS {
        let sum: u64 = sources.iter().map(|s| number(&s[name])).sum();
        assert_eq!(number(&summary[name]), sum, "{name}");
    }

    // The examples hold damaged records: a warning, and still exit 0.
    let rejected = number(&summary["rejected"]);
    assert!(rejected > 0);
    assert!(ran.stderr.contains(&format!("warning: {rejected} of ")), "{}", ran.stderr);
    let kept = trail.keytrail(["quarantine", "list", "--json"]).success().json_lines();
    assert_eq!(kept.len() as u64, rejected);

    // The archive as DuckDB sees it.
    let rows = trail.query(
        "select count(*) n, count(distinct keytrail_uid) uids, \
         count_if(event_hash = sha256(event_original)) hashed, \
         count_if(event_dataset = dataset) placed, \
         count_if(day = coalesce(strftime(timestamp, '%Y-%m-%d'), 'undated')) dated from {archive}",
    );
    let n = &summary["accepted"];
    assert_eq!(rows, [json!({"n": n, "uids": n, "hashed": n, "placed": n, "dated": n})]);

    // Every record that a reader of JSON who knows nothing of keytrail cuts out of the files, byte for
    // byte, and nothing else.
    let output = Command::new(tools::python())
        .arg(tools::root().join("tests/tests/records.py"))
        .arg(examples())
        .output()
        .expect("python starts");
    let expected: BTreeSet<String> = Ran::from(output).success().stdout.lines().map(str::to_owned).collect();
    let archived: BTreeSet<String> = trail.events().into_iter().map(|(_, hash)| hash).collect();
    let missing: Vec<_> = expected.difference(&archived).collect();
    let invented: Vec<_> = archived.difference(&expected).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing {missing:?}, invented {invented:?}");

    // The log names exactly the objects that are there, and what was said is what is signed.
    let log = &summary["log"];
    let manifests = trail.manifests();
    assert_eq!(number(&log["tree_size"]), manifests.len() as u64);
    let mut named: Vec<String> =
        manifests.iter().filter(|m| !m["object"].is_null()).map(|m| text(&m["object"]["key"])).collect();
    named.sort();
    assert_eq!(named, trail.objects());
    let checkpoint = fs::read_to_string(trail.data().join("log/checkpoint")).expect("a checkpoint");
    let said: Vec<String> = ["origin", "tree_size", "root_hash"]
        .map(|name| log[name].as_str().map_or_else(|| log[name].to_string(), str::to_owned))
        .into();
    assert_eq!(checkpoint.lines().take(3).collect::<Vec<_>>(), said);
    let keys = trail.trusted_keys();
    let (code, report) = trail.verify_json(["--keys", keys.to_str().expect("UTF-8"), "--rederive"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((&report["rows"], &report["log"]), (&summary["accepted"], log));
}

#[test]
fn the_summary_for_people_gives_the_same_figures() {
    let json_trail = Trail::new();
    let summary = json_trail.run_json([examples()]);
    let trail = Trail::new();
    let said = trail.run([examples()]).exits(0).stdout;
    let total = said.lines().find(|line| line.starts_with("total")).expect("a line of totals");
    let figures: Vec<u64> =
        total.split_whitespace().skip(1).map(|f| f.replace(',', "").parse().expect("a count")).collect();
    assert_eq!(figures, COUNTS.map(|name| number(&summary[name])));
    assert!(said.contains("SHA256:"), "no fingerprint of the key in:\n{said}");
    assert!(said.contains("verify   good"), "{said}");
    assert!(said.contains(&format!("size {}, root ", summary["log"]["tree_size"])), "{said}");
}

#[test]
fn exit_codes_say_what_to_do() {
    let trail = Trail::new();
    // Usage: nothing is touched.
    for args in [&["run"][..], &["run", "--no-such-option", "x"], &["walk"], &["run", "no/such/file"]] {
        let ran = trail.keytrail(args.iter().copied()).exits(64);
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
    let ran = trail.run(["no/such/file"]).exits(64);
    assert!(ran.stderr.contains("`no/such/file`"), "{}", ran.stderr);
    assert!(!trail.data().exists(), "a usage error made a data folder");
    trail.keytrail(["verify"]).exits(2);

    // Every record refused: 65, and all are kept; one good beside them: 0 and a warning.
    let bad = trail.input("bad.ndjson", "{\"no\":\"source\"}\n{\"nor\":\"this\"}\n");
    let ran = trail.run([bad.as_os_str(), "--json".as_ref()]).exits(65);
    assert_eq!(ran.json()["rejected"], 2);
    assert_eq!(trail.keytrail(["quarantine", "list", "--json"]).success().json_lines().len(), 2);
    trail.verify().exits(0);
    let good = trail.input("good.json", EVENT);
    let ran = trail.run([&bad, &good]).exits(0);
    assert!(ran.stderr.contains("warning: 2 of 3 records rejected"), "{}", ran.stderr);
    // Duplicates are no rejects: refused ones beside them are again only a warning.
    trail.run([&bad, &good]).exits(0);
    // An empty input is no error.
    let empty = trail.input("empty.ndjson", "");
    assert_eq!(trail.run([empty.as_os_str(), "--json".as_ref()]).exits(0).json()["read"], 0);

    // Keys that are gone: 78 and what is missing where; nothing is signed by a new key.
    let files = trail.files();
    let secrets = fs::read_dir(trail.keys()).expect("keys").next().expect("one trail").expect("it").path();
    for name in ["log-0.key", "mask.key"] {
        let (key, away) = (secrets.join(name), trail.aside("away"));
        fs::rename(&key, &away).expect("moved");
        let more = trail.input("more.json", EVENT.replace("11111111", "22222222"));
        let ran = trail.run([more]).exits(78);
        assert!(ran.stderr.contains(&key.display().to_string()), "{}", ran.stderr);
        assert!(!key.exists(), "`{name}` was made anew");
        fs::rename(&away, &key).expect("moved back");
    }
    let archive = |files: &std::collections::BTreeMap<String, String>| -> Vec<(String, String)> {
        let kept = files.iter().filter(|(name, _)| !name.starts_with("state/"));
        kept.map(|(name, hash)| (name.clone(), hash.clone())).collect()
    };
    assert_eq!(archive(&trail.files()), archive(&files));
    let inside = trail.data().join("keys-of-mine");
    let ran = trail
        .keytrail(["run", good.to_str().expect("UTF-8"), "--key-dir", inside.to_str().expect("UTF-8")])
        .exits(78);
    assert!(ran.stderr.contains("inside the data folder"), "{}", ran.stderr);
}

#[test]
fn the_second_run_on_a_folder_says_who_holds_it() {
    let trail = Trail::new();
    let good = trail.input("good.json", EVENT);
    trail.run([&good]).exits(0);
    let mut first = trail
        .command(["run", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = first.stdin.take().expect("piped");
    // More than a pipe holds: once it is written, the run is reading and has the lock.
    stdin.write_all(&vec![b'\n'; 1 << 20]).expect("it reads");

    let ran = trail.run([&good]).exits(75);
    let (pid, said) = (first.id(), &ran.stderr);
    assert!(said.contains(&format!("is in use by pid {pid}, ")), "{said}");
    assert!(said.contains("run - --json"), "{said}");
    // Readers are not kept out.
    trail.verify().exits(0);

    stdin.write_all(EVENT.replace("11111111", "22222222").as_bytes()).expect("it reads");
    drop(stdin);
    let ran = Ran::from(first.wait_with_output().expect("it ends")).exits(0);
    assert_eq!(ran.json()["accepted"], 1);
    trail.run([&good]).exits(0);
}

#[test]
fn a_run_that_is_told_to_stop_seals_what_it_read() {
    let trail = Trail::new();
    let folder = trail.aside("load");
    // The second input is standard input: its end is ours to give.
    let paths =
        files::write_folder(load(Format::Mixed, 3_000), Layout::Lines, None, 3, &folder).expect("written");
    let [first, second, third] = paths.try_into().expect("three files");
    let second = fs::read(second).expect("read");
    let mut run = trail
        .command(["run".as_ref(), first.as_os_str(), "-".as_ref(), third.as_os_str(), "--json".as_ref()])
        .args(["--threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = run.stdin.take().expect("piped");
    let (head, tail) = second.split_at(second.len() / 2);
    // Far more than a pipe holds, so it has been read.
    assert!(head.len() > 256 << 10);
    stdin.write_all(head).expect("it reads");
    let told = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().expect("kill starts");
    assert!(told.success());
    // It may stop reading before the end.
    drop(stdin.write_all(tail));
    drop(stdin);
    let ran = Ran::from(run.wait_with_output().expect("it ends")).exits(75);
    assert!(ran.stderr.contains("run the same command again"), "{}", ran.stderr);
    let sealed = number(&ran.json()["accepted"]);
    assert!((1_000..3_000).contains(&sealed), "{sealed} rows are sealed");
    let (_, report) = trail.verify_json::<&str>([]);
    assert_eq!(number(&report["rows"]), sealed);
    // Chains whose rest was not read fell silent, as far as anybody can tell.
    let silent = |codes: BTreeSet<String>| codes == BTreeSet::from(["TAIL_SILENT".to_owned()]);
    assert!(found(&report).into_values().all(silent), "{report:#}");

    let args = ["run".as_ref(), first.as_os_str(), "-".as_ref(), third.as_os_str(), "--json".as_ref()];
    let summary = trail.keytrail_fed(args, &second).exits(0).json();
    assert_eq!((number(&summary["accepted"]), number(&summary["duplicates"])), (3_000 - sealed, sealed));
    let undisturbed = Trail::new();
    undisturbed.keytrail_fed(args, &second).exits(0);
    assert_eq!(trail.events(), undisturbed.events());
    trail.verify().exits(0);
}

#[test]
fn what_is_archived_does_not_depend_on_the_number_of_cores() {
    // One trail, copied: the same keys, so that masked values are the same too.
    let one = Trail::new();
    let start = one.input("start.json", EVENT);
    one.run([&start]).exits(0);
    let folder = one.aside("load");
    for (format, layout) in [(Format::Cloudtrail, Layout::Records), (Format::Mixed, Layout::Lines)] {
        files::write_folder(
            Load { shuffle: true, replay_percent: 5, ..load(format, 4_000) },
            layout,
            Some(6),
            7,
            &folder.join(format!("{layout:?}")),
        )
        .expect("written");
    }
    let (four, objects) = (one.copy(), "300kB");
    let run = |trail: &Trail, threads| {
        let args = ["--threads", threads, "--object-size", objects].map(std::ffi::OsStr::new);
        trail.run_json([folder.as_os_str(), examples().as_ref()].into_iter().chain(args))
    };
    let (a, b) = (run(&one, "1"), run(&four, "4"));
    let said = |summary: &Value| COUNTS.map(|name| summary[name].clone());
    assert_eq!((said(&a), &a["sources"]), (said(&b), &b["sources"]));
    let sealed = |trail: &Trail| -> Vec<Value> {
        let parts = |m: &Value| json!([m["object"]["key"], m["rows"], m["kind"]]);
        trail.manifests().iter().map(parts).collect()
    };
    let leaves = sealed(&one);
    assert_eq!(leaves, sealed(&four));
    let keys: BTreeSet<String> = leaves.iter().map(|leaf| leaf[0].to_string()).collect();
    assert_eq!(keys.len(), leaves.len());
    let busiest =
        leaves.iter().filter(|leaf| leaf[0].to_string().contains("aws.cloudtrail/day=2026-01-05")).count();
    assert!(busiest > 1, "the size asked for makes no second object in a partition");
}

/// A CloudTrail event, compact.
const EVENT: &str = concat!(
    r#"{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","principalId":"EX_PRINCIPAL_ID","#,
    r#""arn":"arn:aws:iam::111122223333:user/Alice","accountId":"111122223333","userName":"Alice"},"#,
    r#""eventTime":"2026-01-05T10:00:00Z","eventSource":"kms.amazonaws.com","eventName":"DisableKey","#,
    r#""awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","requestParameters":null,"#,
    r#""responseElements":null,"eventID":"11111111-26fd-4dc7-9c3c-1b2ef7a1d3c1","readOnly":false,"#,
    r#""eventType":"AwsApiCall","recipientAccountId":"111122223333"}"#,
);
