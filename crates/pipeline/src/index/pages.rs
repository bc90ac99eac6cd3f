//! All hits of a search, page by page, as they were at one moment.
//!
//! What it is: a point in time, read on from hit to hit, on either kind of server. What it is not: a reader of hits. In:
//! indices and a search. Out: answers, each a page. Whoever loses one reads all of them once more.

use keytrail_index::{KEPT, Points, Refusal, Target};
use keytrail_model::Fatal;
use keytrail_ports::EventIndex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::point::{self, Point};
use super::setup::refusal;

/// Hits of a page, at most: what servers give at once.
pub const MOST_HITS: usize = 10_000;

/// The pages of a search.
pub struct Pages<'a> {
    /// `None` where there is no index.
    point: Option<Point<'a>>,
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
        let point = Point::open(index, indices, &[Points::of(target)])?;
        let size = size.min(MOST_HITS);
        body["size"] = size.into();
        body["track_total_hits"] = false.into();
        if body["sort"].is_null() {
            body["sort"] = json!(["_shard_doc"]);
        }
        Ok(Self { point, body, size, after: None, done: false })
    }

    /// The next page, an answer as the server gives it; `None` after the last one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Fatal> {
        let Some(point) = self.point.as_mut().filter(|_| !self.done) else { return Ok(None) };
        self.body["pit"] = json!({"id": point.name, "keep_alive": KEPT});
        if let Some(after) = &self.after {
            self.body["search_after"] = serde_json::from_str(after.get()).unwrap_or_default();
        }
        let body = self.body.to_string();
        let reply = point.ask(body.as_bytes())?;
        if reply.status != 200 {
            return Err(refused(reply.status, &reply.body));
        }
        let page: Page<'_> = serde_json::from_slice(&reply.body)
            .map_err(|e| Fatal::new("Fatal.IndexServer", format!("no answer to a search: {e}")))?;
        self.done = page.hits.hits.len() < self.size;
        if let Some(name) = page.pit_id {
            point.name = name.to_owned();
        }
        self.after = page.hits.hits.last().and_then(|hit| hit.sort).map(ToOwned::to_owned);
        self.done |= self.after.is_none();
        Ok(Some(reply.body))
    }
}

fn refused(status: u16, body: &[u8]) -> Fatal {
    match Refusal::of(status, body) {
        // It was asked as it always is.
        Refusal::Mistake(_) => {
            Fatal::new("Fatal.IndexServer", format!("the server refuses a search: {}", refusal(status, body)))
        }
        refusal => point::refused(refusal),
    }
}
