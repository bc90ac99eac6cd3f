//! All hits of a search, page by page, as they were at one moment.
//!
//! What it is: a point in time, opened, read on from hit to hit and closed, on either kind of server. What it is not:
//! a reader of hits. In: indices and a search. Out: answers, each a page. A page that got lost is asked for again: it
//! is the same.

use keytrail_index::Target;
use keytrail_model::Fatal;
use keytrail_ports::{EventIndex, IndexBody, Method};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::setup::{ask, refusal};

/// How long a server keeps a moment after each page.
const KEEP_ALIVE: &str = "5m";

/// Hits of a page, at most: what servers give at once.
pub const MOST_HITS: usize = 10_000;

/// The pages of a search.
pub struct Pages<'a> {
    index: &'a dyn EventIndex,
    target: Target,
    moment: String,
    body: Value,
    /// Hits of a full page.
    size: usize,
    /// Where the last page ended; `None` before the first one.
    after: Option<Box<RawValue>>,
    done: bool,
}

/// What of a page is needed for the next one.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    pit_id: Option<&'a str>,
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Deserialize)]
struct Hits<'a> {
    #[serde(borrow, default)]
    hits: Vec<Hit<'a>>,
}

#[derive(Deserialize)]
struct Hit<'a> {
    #[serde(borrow)]
    sort: Option<&'a RawValue>,
}

impl<'a> Pages<'a> {
    /// Of a search (`query`, `sort`, what of the hits is wanted) in indices, with so many hits a page. Without `sort`
    /// hits come in the server's own order, which costs least.
    ///
    /// # Errors
    /// `Retryable.IndexFailed`: the server does not answer. `Fatal.IndexDenied`, `Fatal.IndexServer`.
    pub fn open(
        index: &'a dyn EventIndex,
        target: Target,
        indices: &str,
        mut body: Value,
        size: usize,
    ) -> Result<Self, Fatal> {
        let place = match target {
            Target::Elasticsearch => "_pit",
            Target::OpenSearch => "_search/point_in_time",
        };
        let path = format!("{indices}/{place}?keep_alive={KEEP_ALIVE}");
        let reply = ask(index, Method::Post, &path, IndexBody::Empty)?;
        let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let moment = match (reply.status, said["id"].as_str().or(said["pit_id"].as_str())) {
            (200, Some(moment)) => moment.to_owned(),
            _ => return Err(refused(reply.status, &reply.body)),
        };
        let size = size.min(MOST_HITS);
        body["size"] = size.into();
        body["track_total_hits"] = false.into();
        if body["sort"].is_null() {
            body["sort"] = json!(["_shard_doc"]);
        }
        Ok(Self { index, target, moment, body, size, after: None, done: false })
    }

    /// The next page, an answer as the server gives it; `None` after the last one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        if self.done {
            return Ok(None);
        }
        self.body["pit"] = json!({"id": self.moment, "keep_alive": KEEP_ALIVE});
        if let Some(after) = &self.after {
            self.body["search_after"] = serde_json::from_str(after.get()).unwrap_or_default();
        }
        let body = self.body.to_string();
        let reply = ask(self.index, Method::Post, "_search", IndexBody::Json(body.as_bytes()))?;
        if reply.status != 200 {
            return Err(refused(reply.status, &reply.body));
        }
        let page: Page<'_> = serde_json::from_slice(&reply.body)
            .map_err(|e| Fatal::new("Fatal.IndexServer", format!("no answer to a search: {e}")))?;
        self.done = page.hits.hits.len() < self.size;
        if let Some(moment) = page.pit_id {
            self.moment = moment.to_owned();
        }
        self.after = page.hits.hits.last().and_then(|hit| hit.sort).map(ToOwned::to_owned);
        self.done |= self.after.is_none();
        Ok(Some(reply.body))
    }
}

impl Drop for Pages<'_> {
    fn drop(&mut self) {
        let (path, body) = match self.target {
            Target::Elasticsearch => ("_pit", json!({"id": self.moment})),
            Target::OpenSearch => ("_search/point_in_time", json!({"pit_id": [self.moment]})),
        };
        // The server forgets it by itself, later.
        drop(ask(self.index, Method::Delete, path, IndexBody::Json(body.to_string().as_bytes())));
    }
}

fn refused(status: u16, body: &[u8]) -> Fatal {
    Fatal::new("Fatal.IndexServer", format!("the server refuses a search: {}", refusal(status, body)))
}
