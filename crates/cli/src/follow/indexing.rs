//! The search index of a service, in a thread of its own: the archive never waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_adapters::elasticsearch::Elasticsearch;
use keytrail_model::Fatal;
use keytrail_pipeline::config::DeclaredIndex;
use keytrail_pipeline::index::{Indexed, Indexer, Told};

use super::log;
use crate::folder::Folder;
use crate::index::follow_log;

/// How often it looks whether the log went on.
const LOOK: Duration = Duration::from_millis(500);

/// How long it leaves a server alone that took nothing.
const REST: Duration = Duration::from_secs(5);

/// Follows the log.
pub struct Follower<'a> {
    folder: &'a Folder,
    server: (&'a Elasticsearch, &'a DeclaredIndex),
    json: bool,
    indexer: Indexer,
    /// Size of the log up to which all is indexed.
    done: u64,
    /// What was said last of what keeps it from its work.
    waits: Option<String>,
}

/// A service shows no progress.
struct Silent;

impl Told for Silent {
    fn at(&self, _done: u64, _of: u64) {}
}

impl<'a> Follower<'a> {
    /// Of a folder and a server.
    pub fn new(folder: &'a Folder, server: (&'a Elasticsearch, &'a DeclaredIndex), json: bool) -> Self {
        Self { folder, server, json, indexer: Indexer::default(), done: 0, waits: None }
    }

    /// Works until the service ended; what is not indexed by then is caught up on by the next one.
    pub fn run(mut self, ended: &AtomicBool) {
        let mut again = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            let size = self.folder.head().map_or(0, |(checkpoint, _)| checkpoint.size);
            if size > self.done && Instant::now() >= again {
                let indexed = follow_log(&mut self.indexer, self.folder, self.server, &Silent, ended);
                if !self.tell(indexed) {
                    again = Instant::now() + REST;
                }
            }
            thread::sleep(LOOK);
        }
    }

    /// Says what was done, and once what keeps it from more; whether there is nothing of that.
    fn tell(&mut self, indexed: Result<Indexed, Fatal>) -> bool {
        let indexed = match indexed {
            Ok(indexed) => indexed,
            Err(fatal) => return self.wait("index-failed", fatal.code, fatal.message),
        };
        self.done = indexed.cursor;
        let dead: u64 = indexed.dead_letters.values().sum();
        if indexed.created + indexed.replaced + dead > 0 {
            let fields = [
                ("created", indexed.created.into()),
                ("replaced", indexed.replaced.into()),
                ("duplicates", indexed.duplicates.into()),
                ("dead_letters", dead.into()),
                ("pending", indexed.pending.into()),
            ];
            log(self.json, "indexed", &fields);
        }
        match indexed.parked {
            Some((code, why)) => self.wait("index-waits", code, why),
            None => {
                self.waits = None;
                true
            }
        }
    }

    fn wait(&mut self, event: &str, code: &str, why: String) -> bool {
        if self.waits.as_ref() != Some(&why) {
            log(self.json, event, &[("code", code.into()), ("why", why.as_str().into())]);
            self.waits = Some(why);
        }
        false
    }
}
