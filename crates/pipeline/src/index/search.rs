//! Searches of the index: its events at one point in time, newest first, page by page.
//!
//! What it is: asks for pages, hands them on, and closes the point in time, however that ends. What it is not: it reads
//! no archive; what is found is what the index has. In: a [`Search`]. Out: documents.

use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_index::{
    FieldName, Namespace, PAGE_PATH, PageRequest, Points, Refusal, Search, Total, events_of, page,
};
use keytrail_model::Fatal;
use keytrail_ports::{EventIndex, IndexBody, IndexRequest, Method, Reply};
use serde_json::value::RawValue;

use super::setup::reached;

/// Events of the first page; of further ones so many as make about so many bytes.
const FIRST_PAGE: usize = 100;
const PAGE_BYTES: usize = 4 << 20;
const MOST_EVENTS: usize = 1_000;

/// What searching needs.
#[derive(Clone, Copy)]
pub struct Searching<'a> {
    /// The server.
    pub index: &'a dyn EventIndex,
    /// Whose events.
    pub namespace: &'a Namespace,
    /// Events, at most.
    pub limit: Option<u64>,
    /// Fields of documents; all without.
    pub fields: Option<&'a [FieldName]>,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Events that were handed on.
    pub events: u64,
    /// How many there are.
    pub total: Option<Total>,
    /// There is no index to look in.
    pub no_index: bool,
    /// It was stopped.
    pub stopped: bool,
}

/// Searches, and hands events on as documents until there are no more, `each` wants no more, or `stop`.
///
/// # Errors
/// `Usage.Search`: the server does not understand the search, and says where. `Fatal.IndexDenied`,
/// `Fatal.IndexServer`, `Retryable.IndexFailed`: as for writes.
pub fn search(
    with: &Searching<'_>,
    search: &Search,
    stop: &AtomicBool,
    each: &mut dyn FnMut(&[Box<RawValue>]) -> bool,
) -> Result<Found, Fatal> {
    let mut found = Found::default();
    let Some(mut point) = Point::open(with)? else {
        return Ok(Found { no_index: true, ..found });
    };
    let (mut after, mut next) = (None, FIRST_PAGE);
    loop {
        if stop.load(Ordering::Relaxed) {
            found.stopped = true;
            return Ok(found);
        }
        let left = with.limit.map_or(u64::MAX, |limit| limit - found.events);
        let size = usize::try_from(left).map_or(next, |left| left.min(next));
        let request = PageRequest { point: &point.name, size, after: after.as_ref(), fields: with.fields };
        let reply = ask(with.index, Method::Post, PAGE_PATH, &search.page(&request));
        if stop.load(Ordering::Relaxed) {
            continue;
        }
        let reply = reply?;
        let got = page(reply.status, &reply.body).map_err(|refusal| match refusal {
            Refusal::Mistake(why) => refused(Refusal::Mistake(search.explain(why))),
            other => refused(other),
        })?;
        if let Some(name) = got.point {
            point.name = name;
        }
        found.total = found.total.or(got.total);
        found.no_index = got.shards == 0;
        let events = got.events.len();
        found.events += events as u64;
        if (events > 0 && !each(&got.events)) || events < size || with.limit == Some(found.events) {
            return Ok(found);
        }
        after = got.after;
        next = (PAGE_BYTES / (reply.body.len() / events).max(1)).clamp(1, MOST_EVENTS);
    }
}

/// A point in time, which is closed when nobody has it any more.
struct Point<'a> {
    index: &'a dyn EventIndex,
    points: Points,
    name: String,
}

impl<'a> Point<'a> {
    /// Opens one; `None` where there is no index.
    fn open(with: &Searching<'a>) -> Result<Option<Self>, Fatal> {
        let index = with.index;
        for points in Points::ALL {
            let reply = ask(index, Method::Post, &points.open(with.namespace), &[])?;
            match points.opened(&reply.body).filter(|_| reply.status == 200) {
                Some(name) => return Ok(Some(Self { index, points, name })),
                None if is_unknown(&reply) => {}
                // One of no index at all is refused by OpenSearch.
                None if reply.status == 400 && has_no_index(with)? => return Ok(None),
                None => {
                    return Err(match Refusal::of(reply.status, &reply.body) {
                        Refusal::Mistake(why) => Fatal::new(
                            "Fatal.IndexServer",
                            format!("the server opens no point in time: {why}"),
                        ),
                        refusal => refused(refusal),
                    });
                }
            }
        }
        let why = "whoever answers has no points in time: expected Elasticsearch 8 or OpenSearch 2, or newer";
        Err(Fatal::new("Fatal.IndexServer", why))
    }
}

impl Drop for Point<'_> {
    fn drop(&mut self) {
        let (path, body) = self.points.close(&self.name);
        // One that stays open is closed by the server after a while.
        let _closed = ask(self.index, Method::Delete, path, &body);
    }
}

/// Whether a server does not have what was asked for.
fn is_unknown(reply: &Reply) -> bool {
    matches!(reply.status, 400 | 404 | 405)
        && memchr::memmem::find(&reply.body, b"no handler found").is_some()
}

fn has_no_index(with: &Searching<'_>) -> Result<bool, Fatal> {
    let reply = ask(with.index, Method::Post, &format!("{}/_search?size=0", events_of(with.namespace)), &[])?;
    Ok(page(reply.status, &reply.body).is_ok_and(|page| page.shards == 0))
}

fn ask(index: &dyn EventIndex, method: Method, path: &str, body: &[u8]) -> Result<Reply, Fatal> {
    let body = if body.is_empty() { IndexBody::Empty } else { IndexBody::Json(body) };
    reached(index.send(&IndexRequest { method, path, body }))
}

fn refused(refusal: Refusal) -> Fatal {
    match refusal {
        Refusal::Mistake(why) => {
            Fatal::new("Usage.Search", format!("the server does not understand the search: {why}"))
        }
        Refusal::Denied(why) => {
            Fatal::new("Fatal.IndexDenied", format!("the server does not let keytrail read: {why}"))
        }
        Refusal::Gone => Fatal::new(
            "Retryable.IndexFailed",
            "the server closed the search, which waited for too long: these are not all events, run it again",
        ),
        Refusal::Failed(why) => Fatal::new("Retryable.IndexFailed", why),
    }
}
