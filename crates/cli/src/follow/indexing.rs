//! The search index of a service, in a thread of its own: the archive never waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use keytrail_adapters::elasticsearch::Elasticsearch;
use keytrail_model::Fatal;
use keytrail_pipeline::config::DeclaredIndex;
use keytrail_pipeline::index::{Indexed, Indexer, Told};

use super::log;
use super::metrics::{IndexMetrics, SharedMetrics};
use crate::folder::Folder;
use crate::index::follow_log;

/// How often it looks whether the log went on.
const LOOK: Duration = Duration::from_millis(500);

/// How long it leaves a server alone that took nothing.
const REST: Duration = Duration::from_secs(5);

/// How long the last seal's rows may take once the service was asked to end.
const LAST: Duration = Duration::from_secs(5);

/// How often it is looked whether they are done.
const WATCH: Duration = Duration::from_millis(50);

/// Follows the log.
pub struct Follower<'a> {
    folder: &'a Folder,
    server: (&'a Elasticsearch, &'a DeclaredIndex),
    json: bool,
    metrics: &'a SharedMetrics,
    indexer: Indexer,
    /// Size of the log up to which all is indexed.
    done: u64,
    /// What was said last of what keeps it from its work.
    waits: Option<String>,
}

/// When a service ends.
#[derive(Default, Debug)]
pub struct End {
    /// Nothing more is sealed.
    sealed: AtomicBool,
    /// Nobody waits for the index any more.
    now: AtomicBool,
}

impl End {
    /// Has what was sealed last indexed, if the server takes it in time.
    pub fn wait(&self, follower: &ScopedJoinHandle<'_, ()>, server: &Elasticsearch) {
        self.sealed.store(true, Ordering::Relaxed);
        follower.thread().unpark();
        let last = Instant::now() + LAST;
        while !follower.is_finished() {
            if Instant::now() >= last {
                self.now.store(true, Ordering::Relaxed);
                // What was under way is found to be there, or sent again, next time.
                server.cancel();
            }
            thread::sleep(WATCH);
        }
    }
}

impl<'a> Follower<'a> {
    /// Of a folder and a server.
    pub fn new(
        folder: &'a Folder,
        server: (&'a Elasticsearch, &'a DeclaredIndex),
        json: bool,
        metrics: &'a SharedMetrics,
    ) -> Self {
        Self { folder, server, json, metrics, indexer: Indexer::default(), done: 0, waits: None }
    }

    /// Works until the service ended; what is not indexed by then is caught up on by the next one.
    pub fn run(mut self, end: &End) {
        let mut again = Instant::now();
        loop {
            // What is sealed before it is asked is indexed yet.
            let last = end.sealed.load(Ordering::Relaxed);
            let size = self.folder.head().map_or(0, |(checkpoint, _)| checkpoint.size);
            if size > self.done && Instant::now() >= again {
                let indexed = follow_log(&mut self.indexer, self.folder, self.server, self.metrics, &end.now);
                self.count(|metrics| metrics.indexed(&indexed, size));
                if !self.tell(indexed) {
                    again = Instant::now() + REST;
                }
            }
            if last {
                return;
            }
            thread::park_timeout(LOOK);
        }
    }

    fn count(&self, with: impl FnOnce(&mut IndexMetrics)) {
        self.metrics.with(|metrics| metrics.index.as_mut().map(with));
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

/// A service shows no progress, and counts it.
impl Told for SharedMetrics {
    fn at(&self, done: u64, of: u64) {
        self.with(|metrics| metrics.index.as_mut().map(|index| index.pending(of.saturating_sub(done))));
    }
}
