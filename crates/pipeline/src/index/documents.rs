//! The documents of an index, as far as they tell events apart.

use keytrail_index::{IndexName, Target};
use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_ports::EventIndex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pages::{MOST_HITS, Pages};

/// A document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Document {
    /// Its id, which is an event's uid, unless somebody else wrote it.
    pub id: String,
    /// `event.hash`.
    pub hash: Option<Hash>,
    /// `@timestamp`, to the millisecond.
    pub time: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Page {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    _id: String,
    #[serde(default)]
    fields: Fields,
}

#[derive(Default, Deserialize)]
struct Fields {
    #[serde(default, rename = "event.hash")]
    hash: Vec<String>,
    #[serde(default, rename = "@timestamp")]
    time: Vec<String>,
}

/// Hands over all documents of an index that a query finds.
///
/// # Errors
/// `Retryable.IndexFailed`: the server does not answer. `Fatal.IndexDenied`, `Fatal.IndexServer`.
pub fn each(
    index: &dyn EventIndex,
    target: Target,
    name: &IndexName,
    query: Value,
    each: &mut dyn FnMut(Document),
) -> Result<(), Fatal> {
    let search = json!({
        "query": query,
        "_source": false,
        "docvalue_fields": ["event.hash", {"field": "@timestamp", "format": "epoch_millis"}],
    });
    let mut pages = Pages::open(index, target, name.as_str(), search, MOST_HITS)?;
    while let Some(page) = pages.next()? {
        let page: Page = serde_json::from_slice(&page)
            .map_err(|e| Fatal::new("Fatal.IndexServer", format!("no answer to a search: {e}")))?;
        for Hit { _id: id, fields } in page.hits.hits {
            // Who has several is none of ours.
            let one = |values: Vec<String>| match <[String; 1]>::try_from(values) {
                Ok([value]) => Some(value),
                Err(_) => None,
            };
            let hash = one(fields.hash).and_then(|hash| Hash::from_hex(&hash));
            let time = one(fields.time).and_then(|time| time.parse::<i64>().ok());
            each(Document { id, hash, time: time.map(|ms| Timestamp(ms.saturating_mul(1_000))) });
        }
    }
    Ok(())
}
