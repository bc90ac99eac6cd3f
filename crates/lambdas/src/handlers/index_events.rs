//! `index-events`: archive objects to the search index, ahead of sealing or as its cursor says.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use keytrail_adapters::aws::Aws;
use keytrail_adapters::elasticsearch::{Credentials, Elasticsearch};
use keytrail_model::Fatal;
use keytrail_pipeline::index::{Indexed, Indexer, Indexing, Told};
use keytrail_pipeline::{Config, Trail, pending};
use serde::{Deserialize, Serialize};

use crate::trail::{Fetch, Locks};
use crate::{Call, Environment, Handler, Line, TrailPorts};

/// The function.
pub struct IndexEvents {
    trail: TrailPorts,
    server: Option<String>,
    secret: Box<Fetch>,
    indexer: Mutex<Indexer>,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    /// A batch that is not sealed yet; without it, what the cursor says.
    #[serde(default)]
    pending: Option<String>,
}

/// What became of rows.
#[derive(Debug, Default, Serialize)]
pub struct Answer {
    created: u64,
    duplicates: u64,
    replaced: u64,
    dead_letters: u64,
    pending: u64,
    more: bool,
}

/// Credentials of the search index, as its secret has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Secret {
    Key { api_key: String },
    User { username: String, password: String },
}

struct Quiet;

impl Told for Quiet {
    fn at(&self, _: u64, _: u64) {}
}

impl IndexEvents {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let trail = TrailPorts::of(environment, &aws, Locks::None);
        let server = environment.optional("KEYTRAIL_ELASTICSEARCH");
        let secret = environment.optional("KEYTRAIL_ELASTICSEARCH_SECRET");
        let fetch = move || secret.as_ref().map_or(Ok(None), |id| aws.secret(id));
        Ok(Self::new(trail, server, Box::new(fetch)))
    }

    /// Of these ports.
    pub fn new(trail: TrailPorts, server: Option<String>, secret: Box<Fetch>) -> Self {
        Self { trail, server, secret, indexer: Mutex::default() }
    }

    fn server(&self, url: &str, config: &Config) -> Result<Elasticsearch, Fatal> {
        let wrong = |e: String| Fatal::new("Fatal.Config", format!("the search index: {e}"));
        let credentials = match (self.secret)()? {
            None => Credentials::None,
            Some(text) => match serde_json::from_str(&text) {
                Ok(Secret::Key { api_key }) => Credentials::ApiKey(api_key),
                Ok(Secret::User { username: user, password }) => Credentials::Basic { user, password },
                Err(_) => {
                    return Err(wrong(
                        "expected a secret with `api_key`, or `username` and `password`".into(),
                    ));
                }
            },
        };
        Elasticsearch::new(url, &credentials, None, config.index.timeout).map_err(wrong)
    }

    fn index(
        &self,
        (trail, config): (&Trail<'_>, &Config),
        url: &str,
        wanted: &Wanted,
        stop: &AtomicBool,
    ) -> Result<(Indexed, Option<i64>), Fatal> {
        let size = || Ok(trail.log().published()?.map_or(0, |head| head.size));
        let server = self.server(url, config)?;
        let with = Indexing {
            store: trail.store,
            masker: Some(trail.masker),
            index: &server,
            settings: &config.index.settings,
            now: trail.clock.now(),
            size: &size,
            told: &Quiet,
        };
        let mut indexer = self.indexer.lock().unwrap_or_else(PoisonError::into_inner);
        indexer.resume(trail, config.index.settings.namespace.as_str())?;
        let Some(key) = &wanted.pending else {
            let indexed = indexer.index(&with, stop)?;
            let oldest = indexer.oldest_waiting(&indexed);
            return Ok((indexed, oldest));
        };
        // Once it is sealed the cursor comes to it.
        let Some(objects) = pending::objects(trail, key)? else { return Ok(Default::default()) };
        let oldest = objects.iter().map(|object| object.archived).min();
        Ok((indexer.index_ahead(&with, &objects, stop)?, oldest))
    }
}

impl Handler for IndexEvents {
    type Event = Wanted;
    type Answer = Answer;

    fn handle(&self, wanted: Wanted, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let Some(url) = &self.server else { return Ok(Answer::default()) };
        let stop = call.stop();
        let (done, oldest) =
            self.trail.with(|trail, config| self.index((trail, config), url, &wanted, stop.flag()))?;
        let answer = Answer {
            created: done.created,
            duplicates: done.duplicates,
            replaced: done.replaced,
            dead_letters: done.dead_letters.values().sum(),
            pending: done.pending,
            more: done.pending > 0,
        };
        line.count("DocumentsCreated", answer.created);
        line.count("DocumentsDuplicate", answer.duplicates);
        line.count("DocumentsRefused", answer.dead_letters);
        line.count("DocumentsPending", answer.pending);
        let now = self.trail.clock.now().0;
        line.since("IndexLagSeconds", oldest.unwrap_or(now), now);
        match done.parked {
            Some((code, why)) => Err(Fatal::new(code, why)),
            None => Ok(answer),
        }
    }
}
