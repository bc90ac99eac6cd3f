//! The archive as readers see it that nobody here wrote: DuckDB and pyarrow, and the raw logs read anew in Python.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use keytrail_tests::load::files::{Layout, write_gzip};
use keytrail_tests::load::{DAY_MICROS, Format, Load, Records};
use keytrail_tests::oracle::{oracle, oracle_in};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

fn examples() -> PathBuf {
    tools::root().join("examples")
}

fn uids(trail: &Trail, sql: &str) -> Vec<String> {
    trail.query(sql).iter().map(|row| text(&row["keytrail_uid"])).collect()
}

#[test]
fn duckdb_pyarrow_and_keytrail_read_the_same() {
    let trail = Trail::new();
    let summary = trail.run_json([examples(), trail.undated()]);
    let some = "select keytrail_uid from {archive} qualify row_number() over \
                (partition by dataset, day = 'undated' order by hash(keytrail_uid)) <= 4";
    let explained: Vec<String> = uids(&trail, some)
        .iter()
        .map(|uid| trail.keytrail(["explain", uid, "--json"]).success().stdout.trim().to_owned())
        .collect();
    let explained = trail.input("explained.ndjson", explained.join("\n"));

    let read = oracle("readers", [tools::root(), trail.data(), explained]);

    assert_eq!(read["rows"], summary["accepted"]);
    assert_eq!(number(&read["explained"]), 27, "4 of each dataset, of Key Vault its one, and the 2 undated");
    assert_eq!(read["objects"], summary["log"]["tree_size"], "one object an entry of the log");
    let days = read["days"].as_array().expect("days");
    assert_eq!(days.last(), Some(&json!("undated")));
    let (code, report) = trail.verify_json(["--rederive"]);
    assert_eq!((code, &report["rows"]), (Some(0), &read["rows"]), "{report}");
    let by_source = trail.query(
        "select keytrail_source s, count(distinct keytrail_uid) n from {archive} group by all order by 1",
    );
    let said: Vec<Value> = summary["sources"]
        .as_array()
        .expect("sources")
        .iter()
        .filter(|s| s["accepted"] != 0)
        .map(|s| json!({"s": s["source"], "n": s["accepted"]}))
        .collect();
    assert_eq!(by_source, said);
}

#[test]
fn the_archive_holds_what_the_raw_logs_say() {
    let trail = Trail::new();
    let summary = trail.run_json([examples()]);

    let figures = oracle("reread", [trail.data(), examples()]);

    let events: u64 = figures.as_object().expect("datasets").values().map(|f| number(&f["events"])).sum();
    assert_eq!(events, number(&summary["accepted"]));
    let values: u64 = figures.as_object().expect("datasets").values().map(|f| number(&f["values"])).sum();
    assert!(values > 25_000, "{figures}");
}

#[test]
fn documented_sql_runs_as_it_is_written() {
    let trail = Trail::new();
    trail.run_json([examples(), trail.undated()]);
    symlink(trail.data(), trail.aside("trail")).expect("a link");

    let ran = oracle_in(&trail.aside("."), "documents", [tools::root()]).json();

    for rows in ran["rows"].as_array().expect("one count a statement") {
        assert!(number(rows) > 0, "a statement finds nothing in the examples: {ran}");
    }
}

#[test]
fn rows_keep_to_ecs_and_to_the_mapping_tables() {
    let trail = Trail::new();
    // Golden results lie beside the inputs; they are refused, and that is counted elsewhere.
    let summary = trail.run_json([examples(), tools::root().join("tests/fixtures")]);

    let ecs = oracle("ecs", [trail.data()]);
    let mappings = oracle("mappings", [tools::root(), trail.data()]);

    assert_eq!(ecs["rows"], summary["accepted"]);
    let tables = fs::read_dir(tools::root().join("schemas/mappings")).expect("mapping tables");
    let tables = tables.map(|t| fs::read_to_string(t.expect("an entry").path()).expect("a table"));
    let sources = tables.filter(|t| t.contains("normalizer `")).count();
    assert_eq!(mappings.as_object().expect("normalizers").len(), sources, "{mappings}");
}

#[test]
fn secrets_stay_in_the_original_bytes() {
    let trail = Trail::new();
    let raw = trail.aside("raw");
    fs::create_dir(&raw).expect("a folder");
    // Real events with session tokens; a second one of the same id, so that a conflict shows both; a torn
    // one, so that quarantine shows it.
    let attack = fs::read_dir(examples().join("cloudtrail/invictus-attack-run")).expect("examples");
    let mut events = Vec::new();
    for file in attack {
        let records: Value =
            serde_json::from_slice(&fs::read(file.expect("an entry").path()).expect("readable"))
                .expect("JSON");
        let records = records["Records"].as_array().expect("records").clone();
        events.extend(
            records.into_iter().filter(|e| !e["responseElements"]["credentials"]["sessionToken"].is_null()),
        );
    }
    let mut second = events[0].clone();
    second["sourceIPAddress"] = "198.51.100.7".into();
    let whole = events[1].to_string();
    let token = whole.find("sessionToken").expect("a token");
    fs::write(raw.join("events.json"), json!({ "Records": events }).to_string()).expect("written");
    fs::write(raw.join("second.json"), second.to_string()).expect("written");
    // Torn behind the token, and in its middle.
    fs::write(raw.join("torn.json"), &whole[..whole.len() - 9]).expect("written");
    fs::write(raw.join("torn-in-token.json"), &whole[..token + 300]).expect("written");
    let summary = trail.run_json([examples(), raw.clone()]);
    assert!(number(&summary["conflicts"]) >= 5 && number(&summary["rejected"]) >= 4, "{summary}");

    let both = trail.aside("all");
    fs::create_dir(&both).expect("a folder");
    let figures = oracle("secrets", ["rows".into(), trail.data(), examples()]);
    let holders: Vec<String> = figures["holders"].as_array().expect("uids").iter().map(text).collect();
    assert!(number(&figures["secrets"]) >= 15 && holders.len() >= 16, "{figures}");

    let mut shown = Vec::new();
    let mut keep = |name: String, args: &[&str]| {
        let ran = trail.keytrail(args).success();
        shown.push(trail.input(&format!("shown/{name}"), ran.stdout + &ran.stderr));
    };
    for uid in &holders {
        keep(format!("explain-{uid}"), &["explain", uid]);
        keep(format!("explain-json-{uid}"), &["explain", uid, "--json"]);
    }
    keep("conflicts".into(), &["conflicts"]);
    keep("conflicts-json".into(), &["conflicts", "--json"]);
    keep("verify".into(), &["verify"]);
    keep("list".into(), &["quarantine", "list"]);
    for entry in trail.keytrail(["quarantine", "list", "--json"]).success().json_lines() {
        let id = text(&entry["id"]);
        keep(format!("quarantined-{id}"), &["quarantine", "show", &id]);
    }
    // The commands showed the events, and the sieve is not blind: verbatim, a secret is found.
    let explained = fs::read_to_string(&shown[0]).expect("readable");
    assert!(explained.contains("masked:"), "{explained}");
    let args = |files: &[PathBuf]| [vec!["text".into(), examples()], files.to_vec()].concat();
    oracle_in(&tools::root(), "secrets", args(&shown));
    let verbatim = trail.keytrail(["explain", &holders[0], "--raw"]).success();
    let verbatim = trail.input("verbatim", verbatim.stdout);
    let found = std::panic::catch_unwind(|| oracle_in(&tools::root(), "secrets", args(&[verbatim])));
    assert!(found.is_err(), "`explain --raw` gives the bytes as they are");
}

#[test]
fn readers_skip_row_groups_by_time() {
    let trail = Trail::new();
    let mut records = Records::new(Load {
        seed: 5,
        format: Format::Cloudtrail,
        events: 40_000,
        start_micros: 20_458 * DAY_MICROS,
        days: 1,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    });
    let load = trail.aside("load.json.gz");
    write_gzip(&mut records, 40_000, Layout::Lines, 1, File::create(&load).expect("a file"))
        .expect("written");
    let summary = trail.run_json([load]);
    assert_eq!(number(&summary["accepted"]), 40_000);

    let figures = oracle("pruning", [trail.data().as_os_str(), "1".as_ref()]);

    assert_eq!(number(&figures["rows"]), 40_000);
    let groups = number(&figures["groups"]);
    assert!(groups >= 3, "{figures}");
    // What came in by time lies by time; a day that came in shuffled has a sorted stretch for each 64 MB of it.
    assert_eq!(number(&figures["overlaps"]), 0, "{figures}");
    assert!(
        number(&figures["kept"]) <= 2,
        "an hour of the day lies in one row group, or on a bound: {figures}"
    );
}
