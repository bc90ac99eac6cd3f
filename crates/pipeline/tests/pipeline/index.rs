//! Indexing into a server that is a few lines.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use keytrail_model::Timestamp;
use keytrail_pipeline::index::{Indexer, Indexing, Settings, Told};
use keytrail_ports::{EventIndex, IndexRequest, Method, Reply, Unreachable};

use crate::memory::{Memory, input, keyless};

/// Has all templates and indices; documents are its end.
struct Mistaken;

impl EventIndex for Mistaken {
    fn send(&self, request: &IndexRequest<'_>) -> Result<Reply, Unreachable> {
        let body = match (request.method, request.path) {
            (Method::Get, "") => r#"{"version":{"number":"9.1.0"},"cluster_uuid":"a"}"#,
            (_, path) if path.starts_with("_bulk") => panic!("a mistake"),
            _ => "{}",
        };
        Ok(Reply { status: 200, retry_after: None, body: body.into() })
    }
}

struct Silent;

impl Told for Silent {
    fn at(&self, _: u64, _: u64) {}
}

#[test]
fn a_mistake_in_a_thread_that_sends_ends_indexing_with_an_error() {
    let trail = Memory::new();
    let events: String = (1..29).map(keyless).collect();
    let size = trail.run(&[input("in", events)]).unwrap().checkpoint.size;
    // A body for each event: more than there are threads.
    let mut settings = Settings { connections: 2, patience: Duration::ZERO, ..Settings::default() };
    settings.limits.items = 1;
    let indexing = Indexing {
        store: &trail.store,
        masker: None,
        index: &Mistaken,
        settings: &settings,
        now: Timestamp(1_700_000_000_000_000),
        size: &|| Ok(size),
        told: &Silent,
    };
    let e = Indexer::default().index(&indexing, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(e.code, "Fatal.Internal");
}
