//! A proxy before the server fails: requests and answers that are lost, late, cut or wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keytrail_tests::fault_proxy::{Fault, FaultProxy, Rule, When};
use keytrail_tests::load::random::Random;
use keytrail_tests::projection::Archive;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::trail::{Trail, number};

use crate::target::{SHORT_EVENTS, Sum, Target, archived, events, is_long};

/// A fault, and what comes of it.
struct Case {
    name: &'static str,
    rules: Vec<Rule>,
    /// More lines of `[index]`.
    more: &'static str,
    /// Why the rest is left for later, if so; without the fault it is caught up on.
    parked: Option<&'static str>,
    /// At least so many seconds.
    seconds: u64,
    /// Left to the long form: the client does the same as in another one.
    long: bool,
    /// At least so many answers were lost: what they were about is sent once more and found there.
    again: u64,
}

fn case(name: &'static str, rules: impl Into<Vec<Rule>>) -> Case {
    Case { name, rules: rules.into(), more: "", parked: None, seconds: 0, long: false, again: 0 }
}

/// The 2nd to the 4th of all bulk requests.
fn some(fault: Fault) -> [Rule; 1] {
    [fault.on("_bulk", When::Nth(2..=4))]
}

fn cases() -> Vec<Case> {
    let always = |fault: Fault| [fault.on("_bulk", When::Always)];
    let short = "patience = \"1s\"\n";
    let storm = |percent: u64, faults: &[Fault]| -> Vec<Rule> {
        let share = |n| When::Share(percent, Random::of(0x1DE5, n));
        (0..).zip(faults).map(|(n, fault)| fault.on("", share(n))).collect()
    };
    vec![
        case("none", []),
        case("429 for a request", some(Fault::Status(429))),
        Case { seconds: 1, ..case("429, Retry-After: 1", some(Fault::Busy(1))) },
        Case {
            parked: Some("Retryable.IndexBusy"),
            ..case("429, Retry-After: 3600", always(Fault::Busy(3600)))
        },
        Case { long: true, ..case("500", some(Fault::Status(500))) },
        case("502", some(Fault::Status(502))),
        Case { long: true, ..case("503", some(Fault::Status(503))) },
        Case { long: true, ..case("504", some(Fault::Status(504))) },
        Case { again: 3, ..case("504, work done", some(Fault::DoneWith(504))) },
        Case {
            more: short,
            parked: Some("Retryable.IndexFailed"),
            long: true,
            ..case("502 for ever", always(Fault::Status(502)))
        },
        Case { long: true, ..case("dropped", some(Fault::Dropped)) },
        Case { again: 3, ..case("closed, work done", some(Fault::Closed)) },
        Case { again: 3, ..case("answer cut", some(Fault::Cut)) },
        Case {
            more: short,
            again: 1,
            parked: Some("Retryable.IndexFailed"),
            long: true,
            ..case("answers cut for ever", always(Fault::Cut))
        },
        case("slow", some(Fault::Late(Duration::from_millis(300)))),
        Case {
            more: "timeout = \"1s\"\n",
            again: 3,
            seconds: 1,
            ..case("slower than the timeout", some(Fault::Late(Duration::from_millis(1_500))))
        },
        Case {
            seconds: 1,
            ..case("refused for 1 s", [Fault::Down(Duration::from_secs(1)).on("_bulk", When::Nth(3..=3))])
        },
        Case { again: 3, ..case("a status missing", some(Fault::NoStatus)) },
        Case { again: 3, ..case("an item too many", some(Fault::OneMore)) },
        Case { again: 3, ..case("an item too few", some(Fault::OneLess)) },
        Case { again: 3, ..case("another order", some(Fault::Reversed)) },
        case("compressed", some(Fault::Gzip)),
        Case { again: 3, ..case("compressed, not said", some(Fault::Garbled)) },
        Case { again: 3, ..case("a page", some(Fault::Page)) },
        Case {
            more: short,
            again: 1,
            parked: Some("Retryable.IndexFailed"),
            ..case("pages for ever", always(Fault::Page))
        },
        case(
            "first contact fails",
            [Fault::Status(503).on("", When::Nth(1..=3)), Fault::Cut.on("", When::Nth(4..=6))],
        ),
        // The 1st asks whether an index is there, the 2nd makes it.
        case("index made, answer lost", [Fault::Closed.on("keytrail-a", When::Nth(2..=2))]),
        case("429 to make an index", [Fault::Status(429).on("keytrail-a", When::Nth(1..=3))]),
        // Which indices there are, and which templates: a page says nothing of it.
        case(
            "first answers are pages",
            [Fault::Page.on("keytrail-*", When::Nth(1..=1)), Fault::Page.on("_", When::Nth(1..=2))],
        ),
        Case {
            more: "patience = \"1m\"\ntimeout = \"1s\"\n",
            again: 1,
            ..case(
                "storm: a third of all requests",
                storm(
                    5,
                    &[
                        Fault::Status(429),
                        Fault::Status(502),
                        Fault::DoneWith(504),
                        Fault::Closed,
                        Fault::Cut,
                        Fault::Late(Duration::from_millis(1_200)),
                        Fault::NoStatus,
                        Fault::Reversed,
                    ],
                ),
            )
        },
    ]
}

/// Sends an archive through a fault.
#[track_caller]
fn survives(case: Case, trail: &Trail, archive: &Archive, server: &SearchServer, proxy: &FaultProxy) {
    let Case { name, rules, more, parked, seconds, again, long: _ } = case;
    let begin = Instant::now();
    let target = Target::at(&proxy.url(), trail, server, more);
    let faulty = !rules.is_empty();
    proxy.set(rules);
    let (mut sum, size) = (Sum::default(), trail.manifests().len() as u64);
    let said = target.index(if parked.is_some() { 75 } else { 0 });
    assert_eq!(number(&said["cursor"]) == size, parked.is_none(), "{name}: {said}");
    sum.add(&said);
    let (requests, faults) = (proxy.requests(), proxy.faults());
    assert_eq!(sum.parked, parked.iter().copied().map(str::to_owned).collect::<Vec<_>>(), "{name}");
    assert_eq!(faults > 0, faulty, "{name}: the fault was not met");
    proxy.set(Vec::new());
    if parked.is_some() {
        let said = target.index(0);
        assert_eq!((number(&said["cursor"]), number(&said["pending"])), (size, 0), "{name}: {said}");
        sum.add(&said);
    }
    let is = target.projection(archive);
    println!(
        "| {name} | {requests} | {faults} | {} | {} | {} | {} | {} | {:.1} |",
        is.documents,
        sum.duplicates,
        is.dead_letters.len(),
        is.lost.len(),
        is.doubled,
        begin.elapsed().as_secs_f64()
    );
    assert_eq!(is.dead_letters, BTreeMap::new(), "{name}");
    assert_eq!(is.documents, archive.len() as u64, "{name}");
    // Each event was new once, by what keytrail saw or by what it was told later.
    assert!(sum.created + sum.duplicates >= is.documents && sum.created <= is.documents, "{name}: {sum:?}");
    assert!(sum.duplicates >= again, "{name}: {sum:?}");
    assert!(begin.elapsed() >= Duration::from_secs(seconds), "{name}: it was asked to wait");
}

fn print_head() {
    println!(
        "| fault | requests | hit | documents | duplicates answered | dead letters | lost | doubled | s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
}

#[test]
fn each_fault_on_the_way_to_elasticsearch_costs_delay_alone() {
    let server = SearchServer::elasticsearch();
    let proxy = FaultProxy::before(&server.url());
    let (trail, archive) = archived(0, events());
    print_head();
    for case in cases().into_iter().filter(|case| is_long() || !case.long) {
        survives(case, &trail, &archive, &server, &proxy);
    }
}

#[test]
fn faults_on_the_way_to_opensearch_cost_delay_alone() {
    let server = SearchServer::opensearch();
    let proxy = FaultProxy::before(&server.url());
    let (trail, archive) = archived(0, events());
    print_head();
    for case in cases() {
        // All of them are one client's: the other server has to answer as this one does.
        if is_long()
            || ["answer cut", "a status missing"].contains(&case.name)
            || case.name.starts_with("storm")
        {
            survives(case, &trail, &archive, &server, &proxy);
        }
    }
}

/// Samples of what is there already are compared; an answer that is none says nothing of them.
#[test]
fn samples_in_an_answer_that_is_wrong_are_no_forgery() {
    let server = SearchServer::elasticsearch();
    let proxy = FaultProxy::before(&server.url());
    let (trail, archive) = archived(0, SHORT_EVENTS);
    // One body: several samples in one answer.
    let target = Target::at(&proxy.url(), &trail, &server, "");
    target.configure("bulk_bytes = 100000\n", "");
    target.index(0);
    for fault in [Fault::Reversed, Fault::OneLess, Fault::Page, Fault::Cut, Fault::Status(503)] {
        target.forget();
        proxy.set(vec![fault.on("_mget", When::Always)]);
        assert_eq!(number(&target.index(0)["duplicates"]), SHORT_EVENTS);
        assert_eq!(proxy.faults(), 1, "{fault:?}: nothing was compared");
    }
    assert_eq!(target.projection(&archive).documents, SHORT_EVENTS);
}
