//! Tables: what they add to events, that they change nothing else, and how what is wrong in them is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use keytrail_model::{Column, Value as Typed};
use keytrail_tests::forge::Forger;
use keytrail_tests::forge::rows::rewrite;
use keytrail_tests::mmdb::{self, Value as Geo};
use keytrail_tests::service::{Service, append};
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::Value;
use sha2::{Digest, Sha256};

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn event(id: &str, second: usize) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/Alice","userName":"Alice","accountId":"111122223333"}},"eventTime":"2024-02-03T10:00:{second:02}Z","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","resources":[{{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"{ARN}"}}],"eventID":"{id}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}
"#
    )
}

/// Writes a table and a configuration with it beside the trail; the path of the latter.
fn one_table(trail: &Trail, kind: &str, file: &str, bytes: impl AsRef<[u8]>) -> String {
    trail.input(file, bytes);
    let toml = format!("[[tables]]\nkind = \"{kind}\"\npath = \"{file}\"\n");
    trail.input("keytrail.toml", toml).to_str().expect("UTF-8").to_owned()
}

fn keys(owner: &str) -> String {
    format!("arn,owner,alias\n{ARN},{owner},alias/app\n")
}

/// What each sealed object proves: its roots, without its name, which tells of tables.
fn roots(trail: &Trail) -> BTreeSet<String> {
    let of = |m: &Value| format!("{} {}", m["rows"]["events_root"], m["rows"]["rows_root"]);
    trail.manifests().iter().map(of).collect()
}

fn owners(trail: &Trail) -> Vec<(String, String)> {
    let sql = "select event_id, keytrail_key_owner as owner from {archive} order by 1";
    trail.query(sql).iter().map(|r| (text(&r["event_id"]), text(&r["owner"]))).collect()
}

#[test]
fn tables_add_columns_and_change_nothing_else() {
    let config = tools::root().join("schemas/tables/keytrail.toml");
    let examples = tools::root().join("examples");
    // Masks follow from the trail's key: both have the same.
    let plain = Trail::new();
    plain.run([plain.input("first.json", event("first", 0))]).success();
    let enriched = plain.copy();
    plain.run([&examples]).success();
    let args = [examples.clone().into_os_string(), "--config".into(), config.clone().into_os_string()];
    enriched.run(&args).success();
    assert_eq!(plain.events(), enriched.events());
    assert_eq!(roots(&plain), roots(&enriched));
    let (code, report) = enriched.verify_json(["--rederive"]);
    assert_eq!(code, Some(0), "{report:#}");
    let again = enriched.run_json(&args);
    assert_eq!(number(&again["accepted"]), 0);
    // Every object says which tables were in use.
    for manifest in enriched.manifests().iter().skip(1).filter(|m| !m["rows"].is_null()) {
        let tables = manifest["rows"]["tables"].as_array().expect("a list");
        let names: Vec<_> = tables.iter().map(|t| text(&t["kind"])).collect();
        assert_eq!(names, ["accounts", "keys", "networks", "principals"]);
        let file = fs::read(config.with_file_name("keys.csv")).expect("the table");
        let hash: String = Sha256::digest(file).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(text(&tables[1]["sha256"]), hash);
    }
    // The owner changed in 2022; Dublin's key has the same id.
    let rows = enriched.query(
        "select keytrail_key_owner as owner, keytrail_key_arn as arn, min(timestamp)::varchar as first, max(timestamp)::varchar as last \
         from {archive} where keytrail_key_id = '1234abcd-12ab-34cd-56ef-1234567890ab' and keytrail_key_owner is not null \
         group by all",
    );
    assert!(rows.iter().any(|r| text(&r["owner"]) == "Ana Diaz"), "{rows:?}");
    for row in &rows {
        match text(&row["owner"]).as_str() {
            "Ana Diaz" => assert!(text(&row["last"]).as_str() < "2022-01-01"),
            _ if text(&row["arn"]).contains("eu-west-1") => {}
            _ => assert!(text(&row["first"]).as_str() >= "2022-01-01", "{row}"),
        }
    }
    let counts = enriched.query(
        "select count(*) filter (keytrail_actor_person = 'Bert-Jan') as person, \
         count(*) filter (keytrail_actor_person = 'Bert-Jan' and not keytrail_actor_privileged) as wrong, \
         count(*) filter (keytrail_source_zone = 'office' and source_ip like '192.168.%') as zone, \
         count(*) filter (cloud_account_name = 'research' and cloud_account_id = '123837392027') as account, \
         count(*) filter (keytrail_tables is null and keytrail_source_zone is not null) as untold from {archive}",
    );
    let counts = ["person", "wrong", "zone", "account", "untold"].map(|n| number(&counts[0][n]));
    assert_eq!(counts, [371, 0, counts[2], 433, 0]);
    assert!(counts[2] >= 300, "{counts:?}");
}

#[test]
fn rewrites_keep_what_tables_said_when_events_came() {
    let trail = Trail::new();
    let config = one_table(&trail, "keys", "keys.csv", keys("Ana"));
    for n in 0..5 {
        let input = trail.input(&format!("in/{n}.json"), event(&format!("e{n}"), n));
        if n == 3 {
            one_table(&trail, "keys", "keys.csv", keys("Li"));
        }
        trail.run([input.to_str().expect("UTF-8"), "--config", &config]).success();
    }
    let expected: Vec<(String, String)> =
        (0..5).map(|n| (format!("e{n}"), if n < 3 { "Ana" } else { "Li" }.to_owned())).collect();
    assert_eq!(owners(&trail), expected);
    let manifests = trail.manifests();
    let of = |kind: &str| manifests.iter().filter(|m| text(&m["kind"]) == kind).collect::<Vec<_>>();
    // One object was made of those before and after the table changed: it names both of its versions.
    let merged = of("compact");
    assert!(merged.iter().any(|m| m["rows"]["tables"].as_array().map(Vec::len) == Some(2)), "{merged:?}");
    let added = of("add");
    let uid = |n: usize| {
        let rows = trail.query("select event_id, keytrail_uid from {archive} order by 1");
        text(&rows[n]["keytrail_uid"])
    };
    trail.keytrail(["withhold", &uid(4), "--reason", "a test"]).success();
    assert_eq!(owners(&trail), expected);
    assert_eq!(trail.verify_json(["--rederive"]).0, Some(0));
    // An event says which of the two tables it was.
    for n in [0, 4] {
        let shown: Value = trail.keytrail(["explain", "--json", &uid(n)]).success().json();
        let enrichment = &shown["enrichment"];
        assert_eq!(text(&enrichment["fields"]["keytrail.key.owner"]), expected[n].1);
        assert_eq!(enrichment["tables"], added[n]["rows"]["tables"], "{shown:#}");
        assert!(shown["event"]["fields"]["keytrail.key.owner"].is_null());
    }
    let said = trail.keytrail(["explain", &uid(0)]).success().stdout;
    let line = said.lines().find(|l| l.contains("keytrail.key.owner")).expect("it is shown");
    assert!(line.contains("Ana  (keys keys@"), "{line}");
}

#[test]
fn renormalized_events_keep_what_tables_said() {
    let trail = Trail::new();
    let config = one_table(&trail, "keys", "keys.csv", keys("Ana"));
    let input = trail.input("in.json", event("e0", 0));
    trail.run([input.to_str().expect("UTF-8"), "--config", &config]).success();
    let tables = trail.manifests()[0]["rows"]["tables"].clone();
    let mut forger = Forger::with_its_key(&trail);
    rewrite(&mut forger, 0, &mut |_, row| {
        row.set(Column::KeytrailNormalizer, &Typed::Text("cloudtrail/0".into()));
        row.set(Column::EventOutcome, &Typed::Text("unknown".into()));
        true
    });
    forger.seal_for_good();
    assert_eq!(owners(&trail), [("e0".to_owned(), "Ana".to_owned())]);
    one_table(&trail, "keys", "keys.csv", keys("Li"));
    trail.keytrail(["renormalize", "--dataset", "aws.cloudtrail"]).success();
    assert_eq!(owners(&trail), [("e0".to_owned(), "Ana".to_owned())]);
    let rows = trail.query("select event_outcome from {archive}");
    assert_eq!(text(&rows[0]["event_outcome"]), "success");
    let manifests = trail.manifests();
    let last = manifests.last().expect("a manifest");
    assert_eq!((text(&last["kind"]), &last["rows"]["tables"]), ("renormalize".to_owned(), &tables));
    assert_eq!(trail.verify_json(["--rederive"]).0, Some(0));
}

#[test]
fn what_is_wrong_in_tables_stops_the_start_and_is_told_whole() {
    let trail = Trail::new();
    let input = trail.input("in.json", event("e", 0));
    let config = one_table(&trail, "keys", "keys.csv", "id,owner,valid_from\na,\u{1b}[31m,soon\n,x,\n");
    let more = fs::read_to_string(&config).expect("there")
        + "[[tables]]\nkind = \"networks\"\npath = \"gone.csv\"\n";
    fs::write(&config, more).expect("written");
    let run = trail.run([input.to_str().expect("UTF-8"), "--config", &config]);
    assert_eq!(run.code, Some(78));
    for expected in [
        "keys.csv: row 1 (line 2), column `valid_from`: expected a time as in `2024-01-31T12:00:00Z`, or a date as in `2024-01-31`, found `soon`",
        "keys.csv: row 2 (line 3), column `id`: missing, expected an id, an `arn` or an `alias` of the key",
        "gone.csv: cannot be read: No such file",
        "3 problems in tables",
    ] {
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        if !expected.starts_with('3') {
            let checked = trail.keytrail(["config", "check", &config]);
            assert_eq!(checked.code, Some(78));
            assert!(checked.stdout.contains(expected), "{}", checked.stdout);
        }
    }
    let check = trail.keytrail(["enrich", "check", "--json", "--config", &config]);
    assert_eq!(check.code, Some(78));
    let problems = check.json();
    assert_eq!(
        (&problems["problems"][1]["column"], &problems["problems"][1]["row"]),
        (&"id".into(), &2.into())
    );
    // Nothing was begun.
    assert!(!trail.data().exists());
    one_table(&trail, "keys", "keys.csv", keys("Ana"));
    trail.run([input.to_str().expect("UTF-8"), "--config", &config]).success();
}

#[test]
fn tables_are_checked_against_an_archive() {
    let trail = Trail::new();
    let input =
        trail.input("in.json", event("a", 0) + &event("b", 1).replace("1234abcd-12ab", "0000abcd-12ab"));
    trail.run([&input]).success();
    let config = one_table(&trail, "keys", "keys.csv", keys("Ana") + "x,,\n");
    let bad = trail.keytrail(["enrich", "check", "--config", &config]);
    assert_eq!(bad.code, Some(78), "{}", bad.stdout);
    let config = one_table(
        &trail,
        "keys",
        "keys.csv",
        "arn,owner,valid_from,cost_centre\n".to_owned() + ARN + ",Ana,2024-01-01,17\n",
    );
    let data = trail.data();
    let args = ["enrich", "check", "--config", &config, "--data", data.to_str().expect("UTF-8")];
    let said = trail.keytrail(args).success().stdout;
    assert!(said.contains("not read: cost_centre") && said.contains("2024-01-01 to .."), "{said}");
    let shares = said.lines().find(|l| l.ends_with("events (50.0 %)")).expect("shares");
    assert!(shares.starts_with("keys "), "{said}");
    let uid = trail.query("select keytrail_uid as uid from {archive} where event_id = 'a'");
    let said =
        trail.keytrail(args.iter().copied().chain(["--event", &text(&uid[0]["uid"])])).success().stdout;
    assert!(said.contains("keytrail.key.owner               Ana"), "{said}");
}

/// A Parquet table as pandas and others write it, and a database of places.
#[test]
fn parquet_and_mmdb_are_read() {
    let trail = Trail::new();
    const SCRIPT: &str = "import sys, datetime, pyarrow as pa, pyarrow.parquet as pq\n\
        pq.write_table(pa.table({'arn': [sys.argv[2]], 'owner': pa.array(['Ana']).dictionary_encode(),\n\
          'alias': [['alias/app']], 'valid_from': pa.array([datetime.date(2024, 1, 1)]),\n\
          'valid_to': pa.array([datetime.datetime(2030, 1, 1)], pa.timestamp('ns'))}), sys.argv[1], compression='snappy')\n";
    let table: PathBuf = trail.aside("keys.parquet");
    let wrote = Command::new(tools::python()).args(["-c", SCRIPT]).arg(&table).arg(ARN).output();
    Ran::from(wrote.expect("python starts")).success();
    let city = || Geo::Map(vec![("names", Geo::Map(vec![("en", Geo::Text("Utrecht"))]))]);
    let place = Geo::Map(vec![("country", Geo::Map(vec![("iso_code", Geo::Text("NL"))])), ("city", city())]);
    let asn = vec![
        ("autonomous_system_number", Geo::Number(64_496)),
        ("autonomous_system_organization", Geo::Text("Example Net")),
    ];
    trail.input("city.mmdb", mmdb::database(&[([192, 0, 2, 0], 24, place)]));
    trail.input("asn.mmdb", mmdb::database(&[([192, 0, 0, 0], 8, Geo::Map(asn))]));
    let config = trail.input(
        "keytrail.toml",
        "[[tables]]\nkind = \"keys\"\npath = \"keys.parquet\"\n[[tables]]\nkind = \"geoip\"\npath = \"city.mmdb\"\n\
         [[tables]]\nkind = \"geoip\"\nname = \"asn\"\npath = \"asn.mmdb\"\n",
    );
    let config = config.to_str().expect("UTF-8");
    let input = trail.input("in.json", event("a", 0));
    trail.run([input.to_str().expect("UTF-8"), "--config", config]).success();
    let rows = trail.query(
        "select keytrail_key_owner o, keytrail_key_declared_alias a, source_geo_country_iso_code c, source_geo_city_name t, \
         source_as_number n, source_as_organization_name g, len(keytrail_tables) l from {archive}",
    );
    let row = &rows[0];
    let said = ["o", "a", "c", "t", "g"].map(|n| text(&row[n]));
    assert_eq!(said, ["Ana", "alias/app", "NL", "Utrecht", "Example Net"]);
    assert_eq!((number(&row["n"]), number(&row["l"])), (64_496, 3));
    // Half a file is told as such.
    let whole = fs::read(&table).expect("there");
    fs::write(&table, &whole[..whole.len() / 2]).expect("written");
    let check = trail.keytrail(["enrich", "check", "--config", config]);
    assert_eq!(check.code, Some(78));
    assert!(check.stdout.contains("keys.parquet: no Parquet that can be read: "), "{}", check.stdout);
}

#[test]
fn a_service_enriches_what_it_follows() {
    let trail = Trail::new();
    let config = one_table(&trail, "keys", "keys.csv", keys("Ana"));
    let log = trail.input("log.json", event("a", 0));
    let log = log.to_str().expect("UTF-8");
    let mut service = Service::start(&trail, &["--config", &config, log]);
    service.line("sealed");
    append(log.as_ref(), event("b", 1).as_bytes());
    service.line("sealed");
    assert!(service.stop().success());
    assert_eq!(owners(&trail), [("a".into(), "Ana".into()), ("b".into(), "Ana".into())]);
}
