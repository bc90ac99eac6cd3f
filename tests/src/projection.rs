//! What an index holds, against what an archive holds.
//!
//! What it is: each event's id and hash as DuckDB reads them from the archive's files, and each document's as the
//! server lists them. What it is not: no code of keytrail counts here. In: a trail, a server. Out: what is missing,
//! doubled, different.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::search_server::SearchServer;
use crate::trail::{Trail, number, text};

/// All events of an archive, by uid: their hashes.
pub type Archive = BTreeMap<String, String>;

/// Reads an archive.
///
/// # Panics
/// If it holds a uid twice.
#[must_use]
pub fn archive(trail: &Trail) -> Archive {
    let events = trail.events();
    let rows = events.len();
    let archive: Archive = events.into_iter().collect();
    assert_eq!(archive.len(), rows, "the archive holds a uid twice");
    archive
}

/// An index against an archive.
#[derive(Debug)]
pub struct Projection {
    /// Documents of events.
    pub documents: u64,
    /// Documents that are there more than once, in whichever index.
    pub doubled: u64,
    /// Dead letters: the index's reason, by uid.
    pub dead_letters: BTreeMap<String, String>,
    /// Events that are neither a document nor a dead letter.
    pub lost: BTreeSet<String>,
    /// Documents of no event, or with another hash than the event's.
    pub strangers: BTreeSet<String>,
}

impl Projection {
    /// Of all indices of a namespace, as they can be read now.
    #[must_use]
    pub fn of(archive: &Archive, server: &SearchServer, namespace: &str) -> Self {
        let events = format!("keytrail-*-{namespace}-*,-keytrail-deadletter-*");
        let letters = format!("keytrail-deadletter-{namespace}-*");
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for hit in hits(server, &events, "event.hash") {
            found.entry(text(&hit["_id"])).or_default().push(text(&hit["_source"]["event"]["hash"]));
        }
        let reason = |hit: &Value| {
            let error = &hit["_source"]["error"];
            format!("{}: {}", text(&error["type"]), text(&error["message"]))
        };
        let dead_letters: BTreeMap<String, String> =
            hits(server, &letters, "error").iter().map(|hit| (text(&hit["_id"]), reason(hit))).collect();
        let is_of = |uid: &String, hash: &String| archive.get(uid).is_some_and(|archived| archived == hash);
        Self {
            documents: found.len() as u64,
            doubled: found.values().map(|hashes| hashes.len() as u64 - 1).sum(),
            lost: archive
                .keys()
                .filter(|uid| !found.contains_key(*uid) && !dead_letters.contains_key(*uid))
                .cloned()
                .collect(),
            strangers: found
                .iter()
                .filter(|(uid, hashes)| !hashes.iter().all(|hash| is_of(uid, hash)))
                .map(|(uid, _)| uid.clone())
                .chain(dead_letters.keys().filter(|uid| !archive.contains_key(*uid)).cloned())
                .collect(),
            dead_letters,
        }
    }

    /// Itself, if each event is a document or a dead letter, once, and nothing else is there.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    #[must_use]
    pub fn whole(self) -> Self {
        assert!(self.lost.is_empty(), "lost: {:?}", self.lost);
        assert_eq!(self.doubled, 0, "doubled");
        assert!(self.strangers.is_empty(), "not in the archive: {:?}", self.strangers);
        self
    }
}

/// All documents of these indices, with one field of theirs.
fn hits(server: &SearchServer, indices: &str, field: &str) -> Vec<Value> {
    // Also makes them readable.
    let count = server.count(indices);
    let ask = json!({"size": 5_000, "_source": [field], "sort": ["_doc"]});
    let mut page = server.post(&format!("{indices}/_search?scroll=1m"), &ask);
    let mut all = Vec::new();
    loop {
        assert_eq!(page.status, 200, "{page:?}");
        let hits = page.body["hits"]["hits"].as_array().expect("hits");
        if hits.is_empty() {
            break;
        }
        all.extend_from_slice(hits);
        if all.len() as u64 >= count {
            break;
        }
        let next = json!({"scroll": "1m", "scroll_id": page.body["_scroll_id"]});
        page = server.post("_search/scroll", &next);
    }
    assert_eq!((all.len() as u64, number(&json!(count))), (count, count), "of {indices}");
    all
}
