//! Points in time: indices as they were at one moment, for all pages of a search.

use keytrail_index::{PAGE_PATH, Points, Refusal, page};
use keytrail_model::Fatal;
use keytrail_ports::{EventIndex, IndexBody, IndexRequest, Method, Reply};

use super::setup::reached;

/// A point in time, which is closed when nobody has it any more.
pub struct Point<'a> {
    index: &'a dyn EventIndex,
    points: Points,
    /// As the server named it last.
    pub name: String,
}

impl<'a> Point<'a> {
    /// Opens one of indices, by a name or pattern, of the first of these kinds that the server has; `None` where there
    /// is no index.
    ///
    /// # Errors
    /// `Fatal.IndexDenied`, `Fatal.IndexServer`, `Retryable.IndexFailed`.
    pub fn open(index: &'a dyn EventIndex, indices: &str, kinds: &[Points]) -> Result<Option<Self>, Fatal> {
        for points in kinds {
            let reply = ask(index, Method::Post, &points.open(indices), &[])?;
            match points.opened(&reply.body).filter(|_| reply.status == 200) {
                Some(name) => return Ok(Some(Self { index, points: *points, name })),
                None if is_unknown(&reply) => {}
                // One of no index at all is refused by OpenSearch.
                None if reply.status == 400 && has_no_index(index, indices)? => return Ok(None),
                None => {
                    return Err(match Refusal::of(reply.status, &reply.body) {
                        Refusal::Mistake(why) => {
                            let why = format!("the server opens no point in time: {why}");
                            Fatal::new("Fatal.IndexServer", why)
                        }
                        refusal => refused(refusal),
                    });
                }
            }
        }
        let why = "whoever answers has no points in time: expected Elasticsearch 8 or OpenSearch 2, or newer";
        Err(Fatal::new("Fatal.IndexServer", why))
    }

    /// Asks for a page, by a body that names this point.
    pub fn ask(&self, body: &[u8]) -> Result<Reply, Fatal> {
        ask(self.index, Method::Post, PAGE_PATH, body)
    }
}

impl Drop for Point<'_> {
    fn drop(&mut self) {
        let (path, body) = self.points.close(&self.name);
        // One that stays open is closed by the server after a while.
        drop(ask(self.index, Method::Delete, path, &body));
    }
}

/// What a server refuses, as an error.
pub fn refused(refusal: Refusal) -> Fatal {
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

/// Whether a server does not have what was asked for.
fn is_unknown(reply: &Reply) -> bool {
    matches!(reply.status, 400 | 404 | 405)
        && memchr::memmem::find(&reply.body, b"no handler found").is_some()
}

fn has_no_index(index: &dyn EventIndex, indices: &str) -> Result<bool, Fatal> {
    let reply = ask(index, Method::Post, &format!("{indices}/_search?size=0"), &[])?;
    Ok(page(reply.status, &reply.body).is_ok_and(|page| page.shards == 0))
}

fn ask(index: &dyn EventIndex, method: Method, path: &str, body: &[u8]) -> Result<Reply, Fatal> {
    let body = if body.is_empty() { IndexBody::Empty } else { IndexBody::Json(body) };
    reached(index.send(&IndexRequest { method, path, body }))
}
