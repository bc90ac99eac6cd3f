//! The server does not take what it is sent, or takes it from two at once.

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::projection::archive;
use keytrail_tests::search_server::{SearchServer, namespace};
use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::{Value, json};

use crate::target::{END_OF_MONTH, Sum, Target, archived, events};

#[track_caller]
fn two_at_once(server: &SearchServer) {
    let (one, archive) = archived(END_OF_MONTH, events());
    let other = one.copy();
    let target = Target::at(&server.url(), &one, server, "");
    let start = |trail: &Trail| -> Child {
        let mut command = trail.command(target.indexing());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("keytrail starts")
    };
    let both = [start(&one), start(&other)];
    let mut sum = Sum::default();
    for child in both {
        let said = Ran::from(child.wait_with_output().expect("it ends")).success().json();
        assert_eq!(number(&said["created"]) + number(&said["duplicates"]), archive.len() as u64, "{said}");
        sum.add(&said);
    }
    // Each event was new to one of them.
    assert_eq!((sum.created, sum.duplicates), (archive.len() as u64, archive.len() as u64));
    assert_eq!(target.projection(&archive).documents, archive.len() as u64);
}

#[test]
fn two_indexers_of_one_elasticsearch_double_nothing() {
    two_at_once(&SearchServer::elasticsearch());
}

#[test]
fn two_indexers_of_one_opensearch_double_nothing() {
    two_at_once(&SearchServer::opensearch());
}

/// As a server does above the flood stage.
#[track_caller]
fn full_disk(server: &SearchServer) {
    let (trail, archive) = archived(END_OF_MONTH, 400);
    let target = Target::at(&server.url(), &trail, server, "patience = \"1s\"\n");
    let index = |month: &str| format!("keytrail-aws.cloudtrail-{}-2024.{month}", target.namespace);
    let block = |is: Value| {
        let settings = json!({"index.blocks.read_only_allow_delete": is});
        assert_eq!(server.put(&format!("{}/_settings", index("02")), &settings).status, 200);
    };
    // One index takes writes, the other does not.
    assert_eq!(server.put(&index("02"), &Value::Null).status, 200);
    block(json!(true));
    let said = target.index(75);
    assert_eq!(text(&said["parked"]["code"]), "Retryable.IndexDiskFull", "{said}");
    assert!(number(&said["created"]) > 0 && number(&said["pending"]) > 0, "{said}");
    block(Value::Null);
    target.index(0);
    assert_eq!(target.projection(&archive).documents, 400);
}

#[test]
fn a_full_disk_of_elasticsearch_costs_delay_alone() {
    full_disk(&SearchServer::elasticsearch());
}

#[test]
fn a_full_disk_of_opensearch_costs_delay_alone() {
    full_disk(&SearchServer::opensearch());
}

#[test]
fn a_key_that_expired_stops_the_index_and_not_the_archive() {
    let server = SearchServer::secured();
    let trail = Trail::new();
    let key_file = |name: &str, key: &str| {
        let path = trail.input(name, key);
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, owner).expect("its mode");
        path
    };
    let name = namespace();
    let expired = server.api_key(&json!({"name": name, "expiration": "1ms"}));
    let (old, new) =
        (key_file("old.key", &expired), key_file("new.key", &server.api_key(&json!({"name": name}))));
    let begin = Instant::now();
    while server.with_api_key(&expired).get("").status != 401 {
        assert!(begin.elapsed() < Duration::from_secs(30), "the key does not expire");
        thread::sleep(Duration::from_millis(20));
    }
    let secured = format!("credentials = \"{}\"\nca_file = \"{}\"\n", old.display(), server.ca().display());
    let target = Target::at(&server.url(), &trail, &server, &secured);
    let load = trail.load(7, 0, 4, 300);
    let args = ["run", load.to_str().expect("UTF-8"), "--no-report", "--config", &target.config];
    let denied = trail.keytrail(args).exits(70);
    assert!(denied.stderr.contains("does not let keytrail in"), "{}", denied.stderr);
    let archive = archive(&trail);
    assert_eq!(archive.len(), 300);
    assert_eq!(target.documents(), 0);
    // Somebody puts another key in its place.
    fs::copy(&new, &old).expect("copied");
    assert_eq!(number(&target.index(0)["created"]), 300);
    assert_eq!(target.projection(&archive).documents, 300);
}
