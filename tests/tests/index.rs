//! The search index follows the archive: each event once, whatever happens to the server.

use std::fs;

use keytrail_tests::indexed::{Indexed, event};
use keytrail_tests::search_server::{SearchServer, namespace};
use keytrail_tests::tools;
use keytrail_tests::trail::{number, text};
use serde_json::{Value, json};

#[track_caller]
fn follows_the_archive(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let examples = tools::root().join("examples");
    let said = indexed.run(&[examples.to_str().expect("UTF-8")]);
    let rows = indexed.rows();
    assert_eq!(
        (number(&said["created"]), number(&said["pending"]), &said["parked"]),
        (rows, 0, &Value::Null)
    );
    assert_eq!((indexed.documents(), &said["dead_letters"]), (rows, &json!({})));
    // Numbers are those of the archive.
    for (field, column) in [
        ("event.action", "event_action"),
        ("keytrail.action.class", "keytrail_action_class"),
        ("source.ip", "source_ip"),
    ] {
        let sql = format!(
            "select {column}::varchar as value, count(*) as n from {{archive}} where {column} is not null group by 1"
        );
        let mut expected: Vec<(String, u64)> =
            indexed.trail.query(&sql).iter().map(|r| (text(&r["value"]), number(&r["n"]))).collect();
        let mut found = indexed.counted(field);
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{field}");
    }
    // Nothing is new, with the cursor and without.
    let again = indexed.index(0);
    assert_eq!((number(&again["created"]), number(&again["duplicates"])), (0, 0));
    fs::remove_dir_all(indexed.trail.data().join("state")).expect("removed");
    let again = indexed.index(0);
    assert_eq!((number(&again["created"]), number(&again["duplicates"])), (0, rows));
    // An index that was lost is made again.
    assert_eq!(server.delete(&format!("keytrail-*-{}-*", indexed.namespace)).status, 200);
    fs::remove_dir_all(indexed.trail.data().join("state")).expect("removed");
    assert_eq!(number(&indexed.index(0)["created"]), rows);
    assert_eq!(indexed.documents(), rows);
}

#[test]
fn elasticsearch_follows_the_archive() {
    follows_the_archive(&SearchServer::elasticsearch());
}

#[test]
fn opensearch_follows_the_archive() {
    follows_the_archive(&SearchServer::opensearch());
}

#[test]
fn rewrites_replace_what_they_change_and_nothing_else() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::with(&server, "original = true\n");
    for n in 0..5 {
        let input = indexed.trail.input(&format!("in/{n}.json"), event(&format!("e{n}"), n));
        let said = indexed.run(&[input.to_str().expect("UTF-8")]);
        assert_eq!((number(&said["created"]), number(&said["replaced"])), (1, 0), "{said}");
    }
    // Runs compacted, which is nothing to the index.
    assert!(indexed.trail.manifests().iter().any(|m| m["kind"] == "compact"));
    assert_eq!(indexed.documents(), 5);
    let rows = indexed.trail.query("select event_id, keytrail_uid from {archive} order by 1");
    let uid = text(&rows[3]["keytrail_uid"]);
    assert_eq!(text(&indexed.source(&uid)["event"]["original"]), event("e3", 3).trim());
    indexed.trail.keytrail(["withhold", &uid, "--reason", "a test"]).success();
    let said = indexed.index(0);
    assert!(number(&said["created"]) == 0 && number(&said["replaced"]) >= 1, "{said}");
    let source = indexed.source(&uid);
    assert_eq!((&source["event"]["original"], &source["event"]["id"]), (&Value::Null, &json!("e3")));
    assert_eq!(indexed.documents(), 5);
}

#[track_caller]
fn takes_a_large_event_in_part(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let mut large: Value = serde_json::from_str(&event("large", 0)).expect("JSON");
    large["userAgent"] = json!("x".repeat(32 << 20));
    let context: serde_json::Map<_, _> = (0..10_000).map(|n| (format!("key-{n:05}"), json!("v"))).collect();
    large["requestParameters"] = json!({"keyId": "alias/large", "encryptionContext": context});
    let input = indexed.trail.input("in.json", format!("{large}\n{}", event("small", 1)));
    let said = indexed.run(&[input.to_str().expect("UTF-8"), "--max-record-size", "64MB"]);
    assert_eq!((number(&said["created"]), &said["dead_letters"]), (2, &json!({})), "{said}");
    let uid = indexed.trail.query("select keytrail_uid as uid from {archive} where event_id = 'large'");
    let source = indexed.source(&text(&uid[0]["uid"]));
    let partial = &source["keytrail"]["index"]["partial"];
    assert_eq!(*partial, json!(["keytrail.encryption_context", "user_agent.original"]));
    let context = source["keytrail"]["encryption_context"].as_object().expect("an object");
    assert_eq!((context.len(), text(&source["user_agent"]["original"]).len()), (100, 32_000));
    // What was left out is in the archive, and what is there is found.
    let found = json!({"query": {"term": {"keytrail.encryption_context": "v"}}});
    let found = server.post(&format!("{}/_search", indexed.pattern()), &found);
    assert_eq!(found.body["hits"]["total"]["value"], 1, "{found:?}");
    indexed.reconcile(0, &[]);
}

#[test]
fn elasticsearch_takes_a_large_event_in_part() {
    takes_a_large_event_in_part(&SearchServer::elasticsearch());
}

#[test]
fn opensearch_takes_a_large_event_in_part() {
    takes_a_large_event_in_part(&SearchServer::opensearch());
}

#[test]
fn what_a_mapping_refuses_is_a_dead_letter() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::with(&server, "original = true\n");
    // Somebody made the index with another type.
    let name = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
    let mapping = json!({"mappings": {"properties": {"event": {"properties": {"id": {"type": "long"}}}}}});
    assert_eq!(server.put(&name, &mapping).status, 200);
    let input = indexed.trail.input("in.json", event("17", 0) + &event("no number", 1) + &event("18", 2));
    let said = indexed.run(&[input.to_str().expect("UTF-8")]);
    assert_eq!((number(&said["created"]), number(&said["pending"])), (2, 0), "{said}");
    assert_eq!(
        said["dead_letters"].as_object().map(|kinds| kinds.values().map(number).sum()),
        Some(1),
        "{said}"
    );
    assert_eq!((indexed.documents(), server.count(&indexed.dead_letters())), (2, 1));
    let letter =
        server.get(&format!("{}/_search", indexed.dead_letters())).body["hits"]["hits"][0]["_source"].take();
    assert_eq!(letter["keytrail"]["index"]["name"], json!(name));
    let document = &letter["keytrail"]["index"]["document"];
    assert_eq!(document["event"]["id"], json!("no number"));
    assert!(document["event"]["original"].is_null(), "it would stay there after `withhold`: {document}");
    assert!(text(&letter["error"]["message"]).contains("event.id"), "{letter}");
    // It is not tried again for ever, and nobody misses it.
    assert_eq!(number(&indexed.index(0)["duplicates"]), 0);
    let reconciled = indexed.reconcile(0, &[]);
    assert_eq!((number(&reconciled["dead_letters"]), number(&reconciled["events"])), (1, 3));
    indexed.trail.verify().success();
}

#[test]
fn an_index_that_takes_no_writes_costs_delay_alone() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::on(&server);
    let first = indexed.trail.input("1.json", event("a", 0));
    indexed.run(&[first.to_str().expect("UTF-8")]);
    let block = |is: bool| {
        let settings = json!({"index.blocks.write": is});
        let name = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
        assert_eq!(server.put(&format!("{name}/_settings"), &settings).status, 200);
    };
    block(true);
    let second = indexed.trail.input("2.json", event("b", 1) + &event("c", 2));
    let said = indexed.run(&[second.to_str().expect("UTF-8")]);
    assert_eq!(
        (text(&said["parked"]["code"]), number(&said["pending"])),
        ("Retryable.IndexBlocked".into(), 2)
    );
    assert_eq!((indexed.rows(), indexed.documents()), (3, 1));
    indexed.index(75);
    block(false);
    assert_eq!(number(&indexed.index(0)["created"]), 2);
    assert_eq!(indexed.documents(), 3);
}

#[test]
fn another_event_under_the_same_id_is_told() {
    let server = SearchServer::elasticsearch();
    let indexed = Indexed::on(&server);
    let many: String = (0..400).map(|n| event(&format!("e{n}"), n % 60)).collect();
    let input = indexed.trail.input("in.json", many);
    indexed.run(&[input.to_str().expect("UTF-8")]);
    let name = format!("keytrail-aws.cloudtrail-{}-2024.02", indexed.namespace);
    assert_eq!(server.count(&name), 400);
    let uids = indexed.trail.query("select keytrail_uid as uid from {archive}");
    let lines: Vec<Value> = uids
        .iter()
        .flat_map(|row| {
            [json!({"index": {"_index": name, "_id": row["uid"]}}), json!({"event": {"id": "forged"}})]
        })
        .collect();
    assert_eq!(server.bulk(&lines).status, 200);
    fs::remove_dir_all(indexed.trail.data().join("state")).expect("removed");
    let ran = indexed.trail.keytrail(["index", "--config", &indexed.config]).exits(70);
    assert!(ran.stderr.contains("holds another event"), "{}", ran.stderr);
}

#[test]
fn a_secured_server_lets_in_whom_it_knows() {
    let server = SearchServer::secured();
    let key = server.api_key(&json!({"name": namespace(), "role_descriptors": {"keytrail": {
        "cluster": ["monitor", "manage_index_templates"],
        "index": [{"names": ["keytrail-*"], "privileges": ["create_index", "create_doc", "index", "read", "view_index_metadata", "maintenance"]}],
    }}}));
    let indexed = Indexed::on(&server);
    let (good, bad) =
        (indexed.trail.input("good.key", &key), indexed.trail.input("bad.key", "bm9ib2R5OmF0IGFsbA=="));
    for file in [&good, &bad] {
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(file, owner).expect("its mode");
    }
    let config = |key: &std::path::Path, ca: &std::path::Path| {
        let more = format!("credentials = \"{}\"\nca_file = \"{}\"\n", key.display(), ca.display());
        let toml = fs::read_to_string(&indexed.config).expect("a configuration") + &more;
        indexed.trail.input("secured.toml", toml).to_str().expect("UTF-8").to_owned()
    };
    let input = indexed.trail.input("in.json", event("a", 0));
    let run =
        |config: String| indexed.trail.keytrail(["run", input.to_str().expect("UTF-8"), "--config", &config]);
    let unknown = run(config(&good, &server.other_ca())).exits(70);
    assert!(unknown.stderr.contains("certificate is not to be trusted"), "{}", unknown.stderr);
    let denied = run(config(&bad, &server.ca())).exits(70);
    assert!(denied.stderr.contains("does not let keytrail in"), "{}", denied.stderr);
    assert!(!denied.stderr.contains("bm9ib2R5"), "{}", denied.stderr);
    // The archive did not wait for it.
    assert_eq!(indexed.rows(), 1);
    let summary = run(config(&good, &server.ca())).success();
    assert!(summary.stdout.contains("index    1 new"), "{}", summary.stdout);
    assert_eq!(indexed.documents(), 1);
    // The rights that schemas/index.md names are enough.
    indexed.trail.keytrail(["reconcile", "--config", &config(&good, &server.ca())]).success();
}

mod own_server {
    use keytrail_tests::search_server::{Kind, OwnServer};

    use super::*;

    /// A queue of one: most of what is sent at once is refused, some of it item by item.
    #[test]
    fn back_pressure_loses_nothing() {
        let server = OwnServer::start(
            Kind::Elasticsearch,
            &["thread_pool.write.size=1", "thread_pool.write.queue_size=1"],
        );
        let indexed = Indexed::with(&server, "connections = 8\nbulk_bytes = 100000\npatience = \"2m\"\n");
        let load = indexed.trail.load(5, 20, 40, 20_000);
        let said = indexed.run(&[load.to_str().expect("UTF-8")]);
        assert_eq!((number(&said["created"]), number(&said["pending"])), (20_000, 0), "{said}");
        let pools = server.get("_nodes/stats/thread_pool").body;
        let node = pools["nodes"].as_object().and_then(|nodes| nodes.values().next()).expect("a node");
        assert!(number(&node["thread_pool"]["write"]["rejected"]) > 0, "it was never busy");
        assert_eq!(indexed.documents(), 20_000);
    }
}
