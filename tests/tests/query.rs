//! `keytrail query` gives the rows that DuckDB gives: one text, the same Parquet files. And a query over one day
//! reads that day's objects alone.
//!
//! The queries are those of `tests/queries`. `KEYTRAIL_QUERY_EVENTS=50000000` is the long form of the last test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::{DAY_MICROS, Format, Load};
use keytrail_tests::oracle::oracle;
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, number};
use serde_json::{Value, json};

/// The queries of `tests/queries`: name (`<topic>/<name>`) and text.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for topic in listed(&tools::root().join("tests/queries")) {
        for path in listed(&topic) {
            let name = path.strip_prefix(tools::root().join("tests/queries")).expect("below it");
            let name = name.with_extension("").to_str().expect("UTF-8").to_owned();
            queries.push((name, fs::read_to_string(path).expect("a query")));
        }
    }
    queries
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// `keytrail query ARGS...` by the build that has SQL; not started.
fn query(trail: &Trail, args: &[&str]) -> Command {
    let mut command = Command::new(tools::keytrail_sql());
    command
        .arg("query")
        .args(args)
        .env("KEYTRAIL_DATA", trail.data())
        .env("KEYTRAIL_KEY_DIR", trail.keys())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

fn ask(trail: &Trail, args: &[&str]) -> Ran {
    query(trail, args).output().expect("keytrail starts").into()
}

/// Answers to these queries as `--format json` prints them, in a folder beside the trail.
fn answers(trail: &Trail, name: &str, queries: &[(String, String)]) -> PathBuf {
    let (folder, next) = (trail.aside(name), AtomicUsize::new(0));
    let worker = || {
        while let Some((name, sql)) = queries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let raw: &[&str] = if sql.contains("\n-- with --raw\n") { &["--raw"] } else { &[] };
            let ran = ask(trail, &[&[sql, "--format", "json", "--threads", "1"], raw].concat());
            assert_eq!(ran.code, Some(0), "{name}\n{}", ran.stderr);
            let path = folder.join(name).with_extension("ndjson");
            fs::create_dir_all(path.parent().expect("has a parent")).expect("its folder is made");
            fs::write(path, ran.stdout).expect("an answer is written");
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(worker);
        }
    });
    folder
}

#[test]
fn keytrail_and_duckdb_find_the_same_rows() {
    let (trail, root) = (Trail::new(), tools::root());
    // Some rows know of tables, some do not, and some days have two objects.
    let tables = root.join("schemas/tables/keytrail.toml");
    let run = |args: &[&Path]| trail.run([&[Path::new("--no-report")], args].concat()).success();
    run(&[&root.join("examples"), Path::new("--config"), &tables]);
    run(&[&root.join("tests/fixtures"), &trail.undated()]);

    let queries = queries();
    let agreed = oracle("query", [trail.data(), answers(&trail, "answers", &queries)]);
    assert_eq!(agreed["queries"], queries.len());
    assert_eq!(agreed["empty"], json!([]), "a query has to find something, or to say that it finds nothing");
    assert!(queries.len() >= 48 && number(&agreed["ordered"]) >= 24, "{agreed}");
}

#[test]
fn compaction_changes_no_answer() {
    let trail = Trail::new();
    let examples = tools::root().join("examples");
    let calls = fs::read_to_string(examples.join("openbao/audit.jsonl")).expect("an example");
    let calls: Vec<&str> = calls.lines().collect();
    let files = listed(&examples.join("cloudtrail/invictus-attack-run"));
    let parts = 6;
    for part in 0..parts {
        let lines = calls.chunks(calls.len().div_ceil(parts)).nth(part).expect("a part").join("\n");
        let mut inputs = vec![trail.input(&format!("{part}.jsonl"), lines)];
        inputs.extend(files.iter().skip(part).step_by(parts).cloned());
        // Objects stay apart until `compact` is asked for.
        let keep_apart = ["--no-report", "--object-size", "1kB"].map(PathBuf::from);
        trail.run(keep_apart.into_iter().chain(inputs)).success();
    }
    let queries: Vec<_> = queries().into_iter().step_by(4).collect();
    let before = answers(&trail, "before", &queries);
    let agreed = oracle("query", [&trail.data(), &before]);

    let objects = trail.objects().len();
    trail.keytrail(["compact"]).success();
    assert!(trail.objects().len() <= objects - 5, "{objects} objects became {:?}", trail.objects());
    let after = answers(&trail, "after", &queries);
    assert_eq!(oracle("query", [trail.data(), after, before]), agreed);
    assert!(number(&agreed["rows"]) > 100, "{agreed}");
}

/// With `KEYTRAIL_BLESS=1` in the environment the page is written anew.
#[test]
fn the_page_lists_every_query() {
    let mut list = String::from("<!-- queries: made from tests/queries, see below -->\n");
    let mut topic = String::new();
    for (name, sql) in queries() {
        let (of, _) = name.split_once('/').expect("a topic");
        if of != topic {
            topic = of.to_owned();
            let _ = write!(list, "\n### {}{}\n\n", of[..1].to_uppercase(), &of[1..]);
        }
        let question = sql.lines().next().and_then(|line| line.strip_prefix("-- "));
        let question = question.unwrap_or_else(|| panic!("{name}: the first line asks no question"));
        let _ = writeln!(list, "- [{question}](../tests/queries/{name}.sql)");
    }
    list.push('\n');
    let path = tools::root().join("schemas/query.md");
    let page = fs::read_to_string(&path).expect("the page");
    let (start, rest) = page.split_once("<!-- queries:").expect("the list's start");
    let (_, end) = rest.split_once("<!-- end of queries -->").expect("the list's end");
    let expected = format!("{start}{list}<!-- end of queries -->{end}");
    if std::env::var_os("KEYTRAIL_BLESS").is_some() {
        fs::write(path, expected).expect("the page is written");
        return;
    }
    assert!(page == expected, "the queries in schemas/query.md are out of date: run with KEYTRAIL_BLESS=1");
}

/// Whatever the archive's size: the objects of other days may be gone.
#[test]
fn a_day_is_read_alone() {
    const DAYS: u32 = 400;
    let events = std::env::var("KEYTRAIL_QUERY_EVENTS").map_or(1_200, |n| n.parse().expect("a number"));
    let trail = Trail::new();
    let load = Load {
        seed: 29,
        format: Format::Cloudtrail,
        events,
        start_micros: 19_723 * DAY_MICROS,
        days: DAYS,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let input = trail.aside("load");
    files::write_folder(load, Layout::Records, Some(1), events.div_ceil(50_000), &input).expect("written");
    trail.run([Path::new("--no-report"), &input]).success();
    let objects = trail.objects();
    assert!(objects.len() >= DAYS as usize);

    // 2024-06-30 is in the midst of it.
    let of_day = |object: &&String| object.contains("/day=2024-06-30/");
    let bytes: u64 = objects.iter().filter(of_day).map(|o| size(&trail.data().join(o))).sum();
    let asked = [
        "day = '2024-06-30'",
        "day >= '2024-06-30' AND day < '2024-07-01'",
        "timestamp >= '2024-06-30T00:00:00Z' AND timestamp < '2024-07-01T00:00:00Z'",
    ];
    let found = |asked: &str| {
        let sql = format!(
            "SELECT count(*) AS n, min(timestamp) AS first, max(user_name) AS name FROM events WHERE {asked}"
        );
        let ran = ask(&trail, &[&sql, "--format", "json"]).success();
        let row: Value = serde_json::from_str(&ran.stdout).expect("a row");
        (row, read(&ran.stderr))
    };
    let whole = asked.map(found);
    for (row, read) in &whole {
        assert!(number(&row["n"]).abs_diff(events / u64::from(DAYS)) <= 1, "{row}");
        assert_eq!(row, &whole[0].0);
        assert_eq!(read.objects, objects.iter().filter(of_day).count());
        assert_eq!(read.all_objects, objects.len());
        // Told in three digits.
        assert!(read.bytes <= bytes as f64 * 1.05, "{read:?} of {bytes} bytes");
    }
    for object in objects.iter().filter(|o| !of_day(o)) {
        fs::remove_file(trail.data().join(object)).expect("removed");
    }
    assert_eq!(asked.map(found), whole);
}

/// What the line below the rows says was read.
#[derive(PartialEq, Debug)]
struct Read {
    objects: usize,
    all_objects: usize,
    bytes: f64,
}

/// `1 row; read 1 of 400 objects, 24.5 kB of 12.3 MB, 0.02 s`.
fn read(told: &str) -> Read {
    let line = told.lines().last().unwrap_or_default().replace(',', "");
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["row;", "read", objects, "of", all_objects, "objects", bytes, unit, "of", ..] = words[1..] else {
        panic!("`{line}` does not tell what was read");
    };
    let unit = ["B", "kB", "MB", "GB"].iter().position(|u| *u == unit).expect("a unit");
    Read {
        objects: objects.parse().expect("a number"),
        all_objects: all_objects.parse().expect("a number"),
        bytes: bytes.parse::<f64>().expect("a number") * 1000f64.powi(unit as i32),
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").len()
}
