//! Servers that are killed, and that refuse all that they are sent.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::fault_proxy::{Fault, FaultProxy, When};
use keytrail_tests::projection::archive;
use keytrail_tests::search_server::{Kind, OwnServer, SearchServer};
use keytrail_tests::trail::{Ran, number, text};
use serde_json::{Value, json};

use crate::target::{END_OF_MONTH, Target, archived, events, is_long};

/// Waits until it is so.
#[track_caller]
fn until(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(90), "not in time: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn set(server: &SearchServer, settings: Value) {
    let answer = server.put("_cluster/settings", &json!({"persistent": settings}));
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Somebody wrote to an index of ours before its templates were there: his document decides the mapping.
fn mapping_by_somebody_else(server: &SearchServer) {
    let (trail, archive) = archived(END_OF_MONTH, 400);
    let target = Target::at(&server.url(), &trail, server, "");
    let name = format!("keytrail-aws.cloudtrail-{}-2024.01", target.namespace);
    let theirs = json!({"event": {"id": 17}});
    assert_eq!(server.put(&format!("{name}/_doc/theirs"), &theirs).status, 201);
    let said = target.index(0);
    assert_eq!(server.delete(&format!("{name}/_doc/theirs")).status, 200);
    let is = target.projection(&archive);
    let of_january =
        number(&trail.query("select count(*) as n from {archive} where day like '2024-01-%'")[0]["n"]);
    assert!(of_january > 0 && of_january < 400);
    assert_eq!((is.documents, is.dead_letters.len() as u64), (400 - of_january, of_january), "{said}");
    for reason in is.dead_letters.values() {
        assert!(reason.contains("event.id") && reason.contains("long"), "{reason}");
    }
}

/// An administrator made all of it read-only.
fn read_only(server: &SearchServer) {
    let (trail, archive) = archived(0, 200);
    let target = Target::at(&server.url(), &trail, server, "patience = \"1s\"\n");
    // Where templates are missing, and where an index is.
    assert_eq!(server.delete("_index_template/keytrail").status, 200);
    set(server, json!({"cluster.blocks.read_only": true}));
    let said = target.index(75);
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexBlocked", "{said}");
    set(server, json!({"cluster.blocks.read_only": null}));
    trail.keytrail(["index", "setup", "--config", &target.config]).success();
    set(server, json!({"cluster.blocks.read_only": true}));
    let said = target.index(75);
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexBlocked", "{said}");
    set(server, json!({"cluster.blocks.read_only": null}));
    assert_eq!(number(&target.index(0)["created"]), 200);
    assert_eq!(target.projection(&archive).documents, 200);
}

/// The server's own watch over its disk, which looks every ten seconds.
fn flood_stage(server: &SearchServer) {
    let (trail, archive) = archived(END_OF_MONTH, 400);
    let target = Target::at(&server.url(), &trail, server, "patience = \"1s\"\n");
    let name = format!("keytrail-aws.cloudtrail-{}-2024.01", target.namespace);
    assert_eq!(server.put(&name, &Value::Null).status, 200);
    let marks = |at: Value| {
        let watermark = "cluster.routing.allocation.disk.watermark";
        let mut settings = json!({"cluster.routing.allocation.disk.threshold_enabled": !at.is_null()});
        for mark in ["low", "high", "flood_stage"] {
            settings[format!("{watermark}.{mark}")] = at.clone();
        }
        settings["cluster.info.update.interval"] = if at.is_null() { Value::Null } else { json!("10s") };
        set(server, settings);
    };
    let is_full =
        || server.get(&format!("{name}/_settings")).body.to_string().contains("read_only_allow_delete");
    // So much has to be free.
    marks(json!("1000000gb"));
    until("the flood stage", is_full);
    let said = target.index(75);
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexDiskFull", "{said}");
    // The server takes its block away once there is room.
    marks(json!("1b"));
    // OpenSearch lets nobody make an index for some seconds more.
    until("room", || !is_full() && server.put("probe", &Value::Null).status == 200);
    assert_eq!(server.delete("probe").status, 200);
    marks(Value::Null);
    target.index(0);
    assert_eq!(target.projection(&archive).documents, 400);
}

/// Killed in the middle of a bulk request; then it is not there for two runs.
fn outage(server: &mut OwnServer) {
    let known: SearchServer = (**server).clone();
    let (trail, _) = archived(0, events());
    let proxy = FaultProxy::before(&known.url());
    let target = Target::at(&proxy.url(), &trail, &known, "patience = \"1s\"\nconnections = 2\n");
    proxy.set(vec![Fault::Late(Duration::from_millis(20)).on("_bulk", When::Always)]);
    let indexing = trail.command(target.indexing()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    until("some documents", || proxy.faults() >= 4);
    server.kill();
    let said = Ran::from(indexing.expect("it starts").wait_with_output().expect("it ends")).exits(75).json();
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexFailed", "{said}");
    assert!(number(&said["created"]) > 0 && number(&said["pending"]) > 0, "{said}");
    // The archive goes on.
    let more = |seed: u64| trail.load(seed, 0, 2, 200);
    let said = target.run(&more(8));
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexFailed", "{said}");
    // Who waits long enough sees it come back; the run catches up on all that is there.
    target.configure("patience = \"1s\"", "patience = \"2m\"");
    let input = more(9);
    thread::scope(|scope| {
        let run = scope.spawn(|| target.run(&input));
        server.restart();
        let said = run.join().expect("it ends");
        assert_eq!((number(&said["pending"]), &said["parked"]), (0, &Value::Null), "{said}");
    });
    let archive = archive(&trail);
    assert_eq!(archive.len() as u64, events() + 400);
    assert_eq!(target.projection(&archive).documents, archive.len() as u64);
}

fn all(kind: Kind) {
    let mut server = OwnServer::start(kind, &[]);
    mapping_by_somebody_else(&server);
    read_only(&server);
    outage(&mut server);
    if is_long() {
        flood_stage(&server);
    }
}

#[test]
fn a_server_that_fails_costs_delay_alone() {
    all(Kind::Elasticsearch);
    if is_long() {
        all(Kind::Opensearch);
    }
}
