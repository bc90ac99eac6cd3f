//! The servers that stand for a cluster in other tests do what these count on.

use keytrail_tests::search_server::{Kind, OwnServer, SearchServer, namespace};
use serde_json::{Value, json};

/// An index of this test, with a mapping that keytrail's have too.
fn index(server: &SearchServer) -> String {
    let name = format!("keytrail-smoke-{}-2026.01", namespace());
    let made = server.put(&name, &json!({"mappings": {"properties": {"event.action": {"type": "keyword"}}}}));
    assert_eq!((made.status, &made.body["acknowledged"]), (200, &json!(true)), "{made:?}");
    name
}

fn create(index: &str, id: &str) -> [Value; 2] {
    [json!({"create": {"_index": index, "_id": id}}), json!({"event.action": "Decrypt"})]
}

/// A document is created once, and who tries again is told so.
#[track_caller]
fn creates_once(server: &SearchServer) {
    let index = index(server);
    let first = server.bulk(&create(&index, "a"));
    assert_eq!((first.status, first.items()), (200, vec![201]), "{first:?}");
    let second = server.bulk(&[create(&index, "a"), create(&index, "b")].concat());
    assert_eq!((second.status, second.items()), (200, vec![409, 201]), "{second:?}");
    assert_eq!(server.count(&index), 2);
    let found =
        server.post(&format!("{index}/_search"), &json!({"query": {"term": {"event.action": "Decrypt"}}}));
    assert_eq!(found.body["hits"]["total"]["value"], 2, "{found:?}");
    assert_eq!(server.delete(&index).status, 200);
    assert_eq!(server.get(&index).status, 404);
}

#[test]
fn elasticsearch_creates_a_document_once() {
    let server = SearchServer::elasticsearch();
    assert_eq!(server.get("").body["version"]["number"], "9.1.10");
    creates_once(&server);
}

#[test]
fn opensearch_creates_a_document_once() {
    let server = SearchServer::opensearch();
    let version = server.get("").body["version"].take();
    assert_eq!((&version["number"], &version["distribution"]), (&json!("3.6.0"), &json!("opensearch")));
    creates_once(&server);
}

#[test]
fn a_secured_server_knows_whom_it_talks_to() {
    let server = SearchServer::secured();
    let namespace = namespace();
    let privileges =
        json!({"index": [{"names": [format!("keytrail-*-{namespace}-*")], "privileges": ["create_doc"]}]});
    let writer = server.api_key(&json!({"name": namespace, "role_descriptors": {"writer": privileges}}));
    let writer = server.with_api_key(&writer);
    let written = writer.bulk(
        &[create(&format!("keytrail-a-{namespace}-1"), "a"), create("keytrail-b-another-1", "a")].concat(),
    );
    assert_eq!((written.status, written.items()), (200, vec![403, 403]), "no index may be made: {written:?}");
    assert_eq!(server.put(&format!("keytrail-a-{namespace}-1"), &Value::Null).status, 200);
    let written = writer.bulk(
        &[create(&format!("keytrail-a-{namespace}-1"), "a"), create("keytrail-b-another-1", "a")].concat(),
    );
    assert_eq!((written.status, written.items()), (200, vec![201, 403]), "{written:?}");

    for stranger in [server.with_api_key("d3Jvbmc6d3Jvbmc="), server.with_password("keytrail", "wrong")] {
        assert_eq!(stranger.get("").status, 401);
    }
    let refused = server.trusting(&server.other_ca()).try_call("GET", "", "").expect_err("of another CA");
    assert!(refused.to_string().contains("UnknownIssuer"), "{refused}");
}

mod own_server {
    use super::*;

    #[test]
    fn a_restart_keeps_documents_and_settings() {
        let mut server = OwnServer::start(Kind::Elasticsearch, &["thread_pool.write.queue_size=7"]);
        let index = index(&server);
        assert_eq!(server.bulk(&create(&index, "a")).items(), [201]);
        let url = server.url();
        server.kill();
        server.try_call("GET", "", "").expect_err("no server");
        server.restart();
        assert_eq!(server.url(), url);
        assert_eq!(server.bulk(&create(&index, "a")).items(), [409]);
        assert_eq!(server.count(&index), 1);
        let settings = server.get("_nodes/settings?flat_settings=true").body.to_string();
        assert!(settings.contains(r#""thread_pool.write.queue_size":"7""#), "{settings}");
    }
}
