//! Searches of the index: its events at one point in time, newest first, page by page.
//!
//! What it is: asks for pages, hands them on, and closes the point in time, however that ends. What it is not: it reads
//! no archive; what is found is what the index has. In: a [`Search`]. Out: documents.

use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_index::{FieldName, Namespace, PageRequest, Points, Refusal, Search, Total, events_of, page};
use keytrail_model::Fatal;
use keytrail_ports::EventIndex;
use serde_json::value::RawValue;

use super::point::{Point, refused};

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
    let Some(mut point) = Point::open(with.index, &events_of(with.namespace), &Points::ALL)? else {
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
        let reply = point.ask(&search.page(&request));
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
