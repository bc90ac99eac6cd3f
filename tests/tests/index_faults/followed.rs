//! A service keeps the index up by itself.

use std::fs;
use std::time::Duration;

use keytrail_tests::fault_proxy::{Fault, FaultProxy, When};
use keytrail_tests::load::Format;
use keytrail_tests::projection::archive;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::service::{Service, append, lines, sealed_rows, until};
use keytrail_tests::trail::Trail;

use crate::target::Target;

const EVENTS: u64 = 200;

#[test]
fn a_followed_archive_is_indexed_through_an_outage_and_a_kill() {
    let server = SearchServer::elasticsearch();
    let proxy = FaultProxy::before(&server.url());
    let trail = Trail::new();
    let target = Target::at(&proxy.url(), &trail, &server, "");
    let live = trail.aside("live");
    fs::create_dir(&live).expect("made");
    let args = [live.to_str().expect("UTF-8"), "--config", &target.config];
    let grow = |seed| append(&live.join("audit.log"), &lines(Format::Cloudtrail, seed, EVENTS));

    grow(1);
    let service = Service::start(&trail, &args);
    until("documents", || target.documents() == EVENTS);
    // Nobody is there while it sends, and it goes on when somebody is.
    proxy.set(vec![Fault::Down(Duration::from_millis(700)).on("_bulk", When::Nth(1..=1))]);
    grow(2);
    until("the rest", || target.documents() == 2 * EVENTS);
    assert_eq!(proxy.faults(), 1);
    // It is killed while nobody is there.
    proxy.set(vec![Fault::Down(Duration::from_millis(700)).on("_bulk", When::Nth(1..=1))]);
    grow(3);
    until("the outage", || proxy.faults() == 1);
    service.kill();
    assert!(sealed_rows(&trail) > 2 * EVENTS, "the archive waited");
    let service = Service::start(&trail, &args);
    grow(4);
    until("all", || target.documents() == 4 * EVENTS);
    assert!(service.stop().success());
    let archive = archive(&trail);
    assert_eq!(target.projection(&archive).documents, archive.len() as u64);
    assert_eq!(archive.len() as u64, 4 * EVENTS);
}
