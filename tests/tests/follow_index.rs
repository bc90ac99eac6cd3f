//! The search index of a service: what is sealed is found soon after, whatever happens to the server, and the archive
//! never waits for it.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use keytrail_tests::indexed::{Indexed, event};
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::service::{Service, append, get, metric, sealed_rows, until};
use keytrail_tests::trail::{Trail, text};
use serde_json::Value;

/// A service that follows a file and has metrics; their address.
fn start(trail: &Trail, config: &str) -> (Service, String) {
    let log = trail.aside("a.log");
    let args = [log.to_str().expect("UTF-8"), "--config", config, "--metrics", "127.0.0.1:0"];
    let mut service = Service::start(trail, &args);
    let address = text(&service.line("metrics")["address"]);
    (service, address)
}

fn events(ids: std::ops::Range<usize>) -> Vec<u8> {
    ids.map(|n| event(&format!("e{n}"), n % 60)).collect::<String>().into_bytes()
}

fn outcome(address: &str, outcome: &str) -> Option<String> {
    metric(address, &format!("keytrail_index_documents_total{{outcome=\"{outcome}\"}}"))
}

fn is_caught_up(address: &str) -> bool {
    metric(address, "keytrail_index_pending_rows").as_deref() == Some("0")
        && metric(address, "keytrail_index_lag_entries").as_deref() == Some("0")
        && metric(address, "keytrail_index_lag_seconds").as_deref() == Some("0.000")
}

fn what_is_sealed_is_found(server: &SearchServer) {
    let indexed = Indexed::on(server);
    let log = indexed.trail.input("a.log", events(0..3));
    let (mut service, address) = start(&indexed.trail, &indexed.config);
    // What can be found; none while an index is being made.
    let found = |refresh: bool| {
        if refresh {
            server.post(&format!("{}/_refresh", indexed.pattern()), &Value::Null);
        }
        server.get(&format!("{}/_count", indexed.pattern())).body["count"].as_u64()
    };
    for round in 1..4 {
        assert_eq!(service.line("sealed")["accepted"], 3);
        until("it is there", || found(true) == Some(round * 3));
        if round < 3 {
            append(&log, &events(round as usize * 3..round as usize * 3 + 3));
        }
    }
    until("all is counted", || {
        outcome(&address, "created").as_deref() == Some("9") && is_caught_up(&address)
    });
    assert_eq!(outcome(&address, "dead_letter").as_deref(), Some("0"));
    // The server refreshes by itself: nobody has to ask it for that.
    append(&log, &events(9..10));
    service.line("sealed");
    until("it is found", || found(false) == Some(10));
    // What is sealed last is indexed before the service ends.
    append(&log, &events(10..15));
    until("it is read", || {
        metric(&address, "keytrail_read_bytes_total")
            == Some(fs::metadata(&log).expect("there").len().to_string())
    });
    assert_eq!(service.stop().code(), Some(0));
    assert_eq!((indexed.documents(), indexed.rows()), (15, 15));
    // The next one knows how far it was.
    let (service, address) = start(&indexed.trail, &indexed.config);
    until("it has looked", || is_caught_up(&address));
    assert_eq!(outcome(&address, "duplicate").as_deref(), Some("0"));
    assert_eq!(service.stop().code(), Some(0));
}

#[test]
fn elasticsearch_has_what_is_sealed() {
    what_is_sealed_is_found(&SearchServer::elasticsearch());
}

#[test]
fn opensearch_has_what_is_sealed() {
    what_is_sealed_is_found(&SearchServer::opensearch());
}

/// Somebody answers no request, ever.
#[test]
fn a_server_that_hangs_holds_up_no_end() {
    let trail = Trail::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let config = trail.input("keytrail.toml", format!("[index]\nurl = \"{url}\"\n"));
    let log = trail.input("a.log", events(0..3));
    let (mut service, address) = start(&trail, config.to_str().expect("UTF-8"));
    service.line("sealed");
    // It was asked, and waits for an answer.
    let (_asked, _) = silent.accept().expect("a connection");
    append(&log, &events(3..5));
    assert_eq!(service.line("sealed")["accepted"], 2);
    assert_eq!(get(&address, "/healthz"), "ok\n");
    let lag = || metric(&address, "keytrail_index_lag_seconds").and_then(|s| s.parse::<f64>().ok());
    until("its lag is seen", || lag().is_some_and(|seconds| seconds > 0.1));
    let since = Instant::now();
    assert_eq!(service.stop().code(), Some(0));
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert_eq!(sealed_rows(&trail), 5);
    trail.verify().success();
}

/// What no waiting mends is told, and stops nothing but the index.
#[test]
fn a_server_that_lets_nobody_in_stops_nothing_else() {
    let server = SearchServer::secured();
    let trail = Trail::new();
    let key = trail.input("search.key", "bm9ib2R5OmF0IGFsbA==");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    let toml = format!(
        "[index]\nurl = \"{}\"\ncredentials = \"{}\"\nca_file = \"{}\"\n",
        server.url(),
        key.display(),
        server.ca().display()
    );
    let config = trail.input("keytrail.toml", toml);
    let log = trail.input("a.log", events(0..3));
    let (mut service, address) = start(&trail, config.to_str().expect("UTF-8"));
    let failed = service.line("index-failed");
    assert_eq!(failed["code"], "Fatal.IndexDenied");
    assert!(!failed.to_string().contains("bm9ib2R5"), "{failed}");
    append(&log, &events(3..5));
    assert_eq!(service.line("sealed")["accepted"], 2);
    let parked = || metric(&address, "keytrail_index_parked{code=\"Fatal.IndexDenied\"}");
    until("it is counted", || parked().as_deref() == Some("1"));
    assert_eq!(get(&address, "/healthz"), "ok\n");
    assert_eq!(service.stop().code(), Some(0));
    assert_eq!(sealed_rows(&trail), 5);
}

mod own_server {
    use keytrail_tests::search_server::{Kind, OwnServer};

    use super::*;

    #[test]
    fn a_service_catches_up_on_an_outage_by_itself() {
        let mut server = OwnServer::start(Kind::Elasticsearch, &[]);
        let known = (*server).clone();
        let indexed = Indexed::with(&known, "patience = \"1s\"\n");
        let log = indexed.trail.input("a.log", events(0..3));
        let (mut service, address) = start(&indexed.trail, &indexed.config);
        until("the first are counted", || outcome(&address, "created").as_deref() == Some("3"));
        server.kill();
        let parked = || metric(&address, "keytrail_index_parked{code=\"Retryable.IndexFailed\"}");
        service.line("sealed");
        for ids in [3..5, 5..9] {
            append(&log, &events(ids));
            service.line("sealed");
        }
        until("it is parked", || parked().as_deref() == Some("1"));
        until("it is known how much waits", || {
            metric(&address, "keytrail_index_pending_rows").as_deref() == Some("6")
        });
        assert_eq!(
            (metric(&address, "keytrail_index_lag_entries").as_deref(), get(&address, "/healthz").as_str()),
            (Some("2"), "ok\n")
        );
        server.restart();
        until("all is caught up on", || {
            outcome(&address, "created").as_deref() == Some("9") && is_caught_up(&address)
        });
        assert_eq!((parked().as_deref(), indexed.documents()), (Some("0"), 9));
        assert_eq!(service.stop().code(), Some(0));
        indexed.reconcile(0, &[]);
    }
}
