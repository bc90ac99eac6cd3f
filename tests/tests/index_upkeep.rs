//! Over the years: index and archive are compared and repaired, indices are cut anew, expire, and leave things out.

use std::fs;

use keytrail_tests::indexed::{Indexed, event, event_at};
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::tools;
use keytrail_tests::trail::{number, text};
use serde_json::{Value, json};

/// Counts of what differs, over all hours.
fn differing(reconciled: &Value) -> (u64, u64, u64) {
    let differences = reconciled["differences"].as_array().expect("differences");
    let sum = |kind: &str| differences.iter().map(|d| number(&d[kind]["count"])).sum();
    (sum("missing"), sum("changed"), sum("foreign"))
}

#[track_caller]
fn is_compared_and_repaired(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let examples = tools::root().join("examples");
    indexed.run(&[examples.to_str().expect("UTF-8")]);
    let rows = indexed.rows();
    let same = indexed.reconcile(0, &[]);
    assert_eq!((number(&same["events"]), number(&same["documents"])), (rows, rows));
    assert!(number(&same["hours"]) > 20, "{same}");

    // Somebody deletes, changes and adds documents.
    let some = "select keytrail_uid as uid, event_dataset as dataset, strftime(timestamp, '%Y.%m') as month, \
                strftime(timestamp, '%Y-%m-%dT%H') as hour from {archive} where timestamp > '2006-01-01' \
                order by keytrail_uid limit 2";
    let some = indexed.trail.query(some);
    let index = |row: &Value| {
        format!("keytrail-{}-{}-{}", text(&row["dataset"]), indexed.namespace, text(&row["month"]))
    };
    let (gone, changed) = (&some[0], &some[1]);
    let mut forged = indexed.source(&text(&changed["uid"]));
    forged["event"]["hash"] = json!("0".repeat(64));
    let time = forged["@timestamp"].clone();
    let hostile = "\u{1b}[2Jid \"with\" everything/%2f..";
    let lines = [
        json!({"delete": {"_index": index(gone), "_id": gone["uid"]}}),
        json!({"index": {"_index": index(changed), "_id": changed["uid"]}}),
        forged,
        json!({"index": {"_index": index(changed), "_id": hostile}}),
        json!({"@timestamp": time, "event": {"hash": "1".repeat(64)}}),
        json!({"index": {"_index": index(changed), "_id": "without-a-time"}}),
        json!({"any": "thing"}),
    ];
    assert_eq!(server.bulk(&lines).items(), [200, 200, 201, 201]);
    let found = indexed.reconcile(1, &[]);
    assert_eq!(differing(&found), (1, 1, 2), "{found}");
    let differences = found["differences"].as_array().expect("differences");
    let missing = differences.iter().find(|d| number(&d["missing"]["count"]) == 1).expect("it is named");
    assert_eq!(
        (&missing["missing"]["first"][0], &missing["index"], &missing["hour"], &missing["dataset"]),
        (&gone["uid"], &json!(index(gone)), &gone["hour"], &gone["dataset"])
    );
    let shown = indexed.trail.keytrail(["reconcile", "--config", &indexed.config]).exits(1).stdout;
    assert!(shown.contains(&text(&changed["uid"])) && !shown.contains('\u{1b}'), "{shown}");

    let repaired = indexed.reconcile(0, &["--repair"]);
    assert_eq!(differing(&repaired), (1, 1, 2));
    assert_eq!((differing(&indexed.reconcile(0, &[])), indexed.documents()), ((0, 0, 0), rows));

    // An index that was lost is made again.
    assert_eq!(server.delete(&index(gone)).status, 200);
    let lost = differing(&indexed.reconcile(1, &[]));
    assert!(lost.0 >= 1 && (lost.1, lost.2) == (0, 0), "{lost:?}");
    let again = indexed.trail.keytrail(["reindex", "--json", "--config", &indexed.config]).success().json();
    assert_eq!(number(&again["created"]), lost.0);
    assert_eq!(number(&again["created"]) + number(&again["replaced"]), rows);
    indexed.reconcile(0, &[]);
}

#[test]
fn an_elasticsearch_is_compared_and_repaired() {
    is_compared_and_repaired(&SearchServer::elasticsearch());
}

#[test]
fn an_opensearch_is_compared_and_repaired() {
    is_compared_and_repaired(&SearchServer::opensearch());
}

#[test]
fn what_is_not_indexed_yet_is_not_missing() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::on(&server);
    let input = indexed.trail.input("in.json", event("a", 0) + &event("b", 1));
    indexed.run(&[input.to_str().expect("UTF-8")]);
    fs::remove_dir_all(indexed.trail.data().join("state")).expect("removed");
    let uid = indexed.trail.events()[0].0.clone();
    let name = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
    assert_eq!(server.delete(&format!("{name}/_doc/{uid}")).status, 200);
    let found = indexed.reconcile(75, &[]);
    assert_eq!((number(&found["pending"]), differing(&found)), (1, (0, 0, 0)), "{found}");
    assert_eq!(number(&indexed.index(0)["created"]), 1);
    indexed.reconcile(0, &[]);
}

#[test]
fn a_time_is_indexed_again() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::on(&server);
    let input = indexed.trail.input("in.json", event("a", 0) + &event("b", 30) + &event("c", 59));
    indexed.run(&[input.to_str().expect("UTF-8")]);
    let reindex = |from, to| {
        let args = ["reindex", "--from", from, "--to", to, "--json", "--config", &indexed.config];
        let said = indexed.trail.keytrail(args).success().json();
        (number(&said["created"]), number(&said["replaced"]), number(&said["pending"]))
    };
    assert_eq!(reindex("2024-02-03T10:00:01Z", "2024-02-03T10:00:59Z"), (0, 1, 0));
    assert_eq!(reindex("2024-02-03", "2024-02-04"), (0, 3, 0));
    assert_eq!(reindex("2024-02-04", "2024-02-05"), (0, 0, 0));
    assert_eq!(indexed.documents(), 3);
}

#[test]
fn what_configuration_leaves_out_is_in_the_archive_alone() {
    let server = SearchServer::elasticsearch();
    let more = "[[index.exclude]]\nclasses = [\"decrypt\"]\noutcomes = [\"success\"]\n\
                [[index.exclude]]\ndatasets = [\"vault.audit\"]\n";
    let indexed = Indexed::with(&server, more);
    let examples = tools::root().join("examples");
    let said = indexed.run(&[examples.to_str().expect("UTF-8")]);
    let left_out = "select count(*) as n from {archive} where event_dataset = 'vault.audit' \
                    or (keytrail_action_class = 'decrypt' and event_outcome = 'success')";
    let left_out = number(&indexed.trail.query(left_out)[0]["n"]);
    assert!(left_out > 0 && left_out < indexed.rows());
    assert_eq!((number(&said["not_indexed"]), number(&said["pending"])), (left_out, 0), "{said}");
    assert_eq!(indexed.documents(), indexed.rows() - left_out);
    assert_eq!(number(&indexed.reconcile(0, &[])["not_indexed"]), left_out);
    indexed.trail.verify().success();
}

#[test]
fn another_cut_needs_a_month_from_which_it_holds() {
    let server = SearchServer::elasticsearch();
    let mut indexed = Indexed::on(&server);
    let input = indexed.trail.input("1.json", event("a", 0));
    indexed.run(&[input.to_str().expect("UTF-8")]);
    for wrong in ["period = \"day\"\n", "shards = 2\n"] {
        indexed.configure(wrong);
        let ran = indexed.trail.keytrail(["index", "--config", &indexed.config]).exits(78);
        assert!(ran.stderr.contains("2024.02` is there with 1 shards"), "{}", ran.stderr);
    }
    indexed.configure("[[index.changes]]\nfrom = \"2024-03\"\nperiod = \"day\"\nshards = 2\n");
    let late = event("b", 1) + &event_at("c", "2024-03-01T00:00:00Z");
    let input = indexed.trail.input("2.json", late);
    assert_eq!(number(&indexed.run(&[input.to_str().expect("UTF-8")])["created"]), 2);
    let month = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
    let day = format!("keytrail-aws.cloudtrail-{}-2024.03.01", indexed.namespace);
    assert_eq!((server.count(&month), server.count(&day)), (2, 1));
    let settings = &server.get(&format!("{day}/_settings?flat_settings=true")).body[&day]["settings"];
    assert_eq!(settings["index.number_of_shards"], "2");
    // It ages from the end of its day on.
    assert_eq!(settings["index.lifecycle.origination_date"], "1709337600000");
    indexed.reconcile(0, &[]);
}

#[track_caller]
fn expires_by_event_time(server: &SearchServer) {
    let mut indexed = Indexed::on(server);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let yesterday = i64::try_from(now.as_micros()).expect("it fits") - 86_400_000_000;
    let yesterday = keytrail_model::Timestamp(yesterday).to_rfc3339();
    let events = event_at("old", "2010-03-04T05:06:07Z") + &event_at("new", &yesterday);
    let input = indexed.trail.input("in.json", events + &event_at("undated", "1999-01-01T00:00:00Z"));
    assert_eq!(number(&indexed.run(&[input.to_str().expect("UTF-8")])["created"]), 3);
    let expire = |indexed: &Indexed<'_>, args: &[&str], code| {
        let args = [&["index", "expire", "--config", &indexed.config], args].concat();
        // It needs no data folder.
        indexed.trail.keytrail(args).exits(code)
    };
    assert!(expire(&indexed, &[], 64).stderr.contains("no `retention`"));
    indexed.configure("retention = \"400d\"\n");
    let old = format!("keytrail-aws.cloudtrail-{}-2010.03", indexed.namespace);
    assert_eq!(expire(&indexed, &["--dry-run"], 0).stdout, format!("{old} would be deleted\n"));
    assert_eq!(indexed.documents(), 3);
    assert_eq!(
        number(&indexed.reconcile(0, &[])["expired"]),
        1,
        "an index that was not deleted yet is no finding"
    );
    assert_eq!(expire(&indexed, &[], 0).stdout, format!("{old} deleted\n"));
    assert_eq!(expire(&indexed, &[], 0).stdout, "no index is that old\n");
    // It does not come back.
    fs::remove_dir_all(indexed.trail.data().join("state")).expect("removed");
    let said = indexed.index(0);
    assert_eq!((number(&said["created"]), number(&said["duplicates"]), number(&said["expired"])), (0, 2, 1));
    assert_eq!((indexed.documents(), indexed.rows()), (2, 3));
    indexed.reconcile(0, &[]);
    // These servers have no lifecycles, and setup says so.
    let said = indexed.trail.keytrail(["index", "setup", "--config", &indexed.config]).success().stdout;
    assert!(said.contains("lifecycle") && said.contains("index expire"), "{said}");
}

#[test]
fn elasticsearch_expires_by_event_time() {
    expires_by_event_time(&SearchServer::elasticsearch());
}

#[test]
fn opensearch_expires_by_event_time() {
    expires_by_event_time(&SearchServer::opensearch());
}
