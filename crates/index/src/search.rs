//! Searches: what is asked of a server, and what it answers.
//!
//! What it is: bodies of requests for pages of events, newest first, at one point in time; readers of the answers.
//! What it is not: it sends nothing. In: query strings, values of fields, times. Out: bytes to send; documents as the
//! server has them.
//!
//! Query strings are the server's own syntax and are the only thing that it parses: values of fields, times and names
//! stand in places of their own, so that nothing in them is syntax.

mod field;
mod refusal;

use std::collections::BTreeMap;

use keytrail_model::{Column, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub use field::{FieldName, UnknownField};
pub use refusal::Refusal;

use crate::mapping::{Target, WORDS};
use crate::name::Namespace;
use crate::text::cut;

/// How long a server keeps a point in time for which nobody asks.
pub const KEPT: &str = "5m";

/// Bytes of query strings: servers repeat them in what they say of each of their shards.
const MOST_QUERY_BYTES: usize = 4_096;

/// Values of fields: what servers take of terms.
const MOST_VALUES: usize = 1_000;

/// What is searched for: events that all of it holds for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Search {
    queries: Vec<String>,
    /// Any of the values.
    fields: BTreeMap<FieldName, Vec<String>>,
    /// From this time on.
    since: Option<Timestamp>,
    /// Before this time.
    until: Option<Timestamp>,
}

/// What is wrong with a search, in words.
pub type Mistake = String;

impl Search {
    /// Events from a time on, and before another one; of any time without.
    pub fn between(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self { since, until, ..Self::default() }
    }

    /// Adds a query string.
    ///
    /// # Errors
    /// It is too long, or names a field that is none.
    pub fn query(&mut self, query: &str) -> Result<(), Mistake> {
        if query.trim().is_empty() {
            return Err("an empty query finds nothing: leave it out to find all events".into());
        }
        let bytes = self.queries.iter().map(String::len).sum::<usize>() + query.len();
        if bytes > MOST_QUERY_BYTES {
            return Err(format!("expected a query of at most {MOST_QUERY_BYTES} bytes, found {bytes}"));
        }
        // Those that begin with `_` are the server's own.
        for name in field::names_in(query).into_iter().filter(|name| !name.starts_with('_')) {
            FieldName::new(name).map_err(|unknown| {
                let colon =
                    if name.contains('.') { "" } else { " A colon in a value stands in quotes, or as `\\:`" };
                format!("`{}`: {unknown}{colon}", cut(query, 200))
            })?;
        }
        self.queries.push(query.to_owned());
        Ok(())
    }

    /// Adds a value of a field; of several values of one field any will do.
    ///
    /// # Errors
    /// Nothing is found by it.
    pub fn field(&mut self, name: FieldName, value: &str) -> Result<(), Mistake> {
        if let Some(mistake) = name.mistake(value) {
            return Err(mistake);
        }
        if self.fields.values().map(Vec::len).sum::<usize>() >= MOST_VALUES {
            return Err(format!("expected at most {MOST_VALUES} values of fields"));
        }
        self.fields.entry(name).or_default().push(value.to_owned());
        Ok(())
    }

    /// What a server says is wrong with it, with the query that it says that of where there is one alone.
    pub fn explain(&self, mistake: Mistake) -> Mistake {
        match self.queries.as_slice() {
            [query] if !mistake.starts_with('`') => format!("`{query}`: {mistake}"),
            _ => mistake,
        }
    }

    fn filters(&self) -> Vec<Value> {
        let queries = self.queries.iter().map(|query| {
            json!({"query_string": {
                "query": query,
                "fields": WORDS,
                "default_operator": "AND",
                // A search of every term of an index, and what is no value of its field, are told of.
                "allow_leading_wildcard": false,
                "analyze_wildcard": false,
                "lenient": false,
            }})
        });
        let fields = self.fields.iter().map(|(name, values)| {
            let any = values.iter().map(|value| {
                let kind = if name.is_words() { "match_phrase" } else { "term" };
                json!({kind: {name.as_str(): value}})
            });
            json!({"bool": {"should": any.collect::<Vec<_>>(), "minimum_should_match": 1}})
        });
        let mut filters: Vec<Value> = queries.chain(fields).collect();
        if self.since.is_some() || self.until.is_some() {
            let millis = |time: Timestamp| time.0.div_euclid(1_000);
            let mut range = json!({"format": "epoch_millis"});
            // Indices know times to the millisecond.
            self.since.into_iter().for_each(|time| range["gte"] = millis(time).into());
            self.until.into_iter().for_each(|time| range["lt"] = millis(time).into());
            filters.push(json!({"range": {crate::field(Column::Timestamp): range}}));
        }
        filters
    }
}

/// A page that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// The point in time, as the server named it.
    pub point: &'a str,
    /// Events, at most.
    pub size: usize,
    /// Behind this event.
    pub after: Option<&'a Place>,
    /// Fields of documents; all without.
    pub fields: Option<&'a [FieldName]>,
}

/// Where a page's last event stands in the order of a search.
#[derive(Clone, Debug)]
pub struct Place(Box<RawValue>);

impl Search {
    /// The body of a request for a page.
    pub fn page(&self, request: &PageRequest<'_>) -> Vec<u8> {
        let (time, uid) = (crate::field(Column::Timestamp), crate::field(Column::KeytrailUid));
        let mut body = json!({
            "size": request.size,
            "pit": {"id": request.point, "keep_alive": KEPT},
            "query": {"bool": {"filter": self.filters()}},
            "sort": [
                {time: {"order": "desc", "missing": "_last", "unmapped_type": "date"}},
                {uid: {"order": "asc", "missing": "_last", "unmapped_type": "keyword"}},
            ],
            // More are not counted one by one, and only once.
            "track_total_hits": if request.after.is_none() { json!(10_000) } else { json!(false) },
        });
        if let Some(fields) = request.fields {
            body["_source"] = fields.iter().map(|name| name.as_str()).collect();
        }
        if let Some(Place(after)) = request.after {
            // It was JSON when it came.
            body["search_after"] = serde_json::from_str(after.get()).unwrap_or_default();
        }
        // Values of JSON always serialise.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// Where a page is asked for. Without all shards a search would leave events out and say nothing of it.
pub const PAGE_PATH: &str = "_search?allow_partial_search_results=false";

/// How a server keeps points in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Points {
    /// `_pit`: Elasticsearch.
    Pit,
    /// `_search/point_in_time`: OpenSearch.
    PointInTime,
}

impl Points {
    /// Both, the first of them asked first: servers do not take the other's.
    pub const ALL: [Self; 2] = [Self::Pit, Self::PointInTime];

    /// Of a server.
    pub fn of(target: Target) -> Self {
        match target {
            Target::Elasticsearch => Self::Pit,
            Target::OpenSearch => Self::PointInTime,
        }
    }

    /// The path to open one of indices, by a name or pattern.
    pub fn open(self, indices: &str) -> String {
        let path = match self {
            Self::Pit => "_pit?",
            Self::PointInTime => "_search/point_in_time?allow_partial_pit_creation=false&",
        };
        format!("{indices}/{path}keep_alive={KEPT}")
    }

    /// The name of one that was opened.
    pub fn opened(self, body: &[u8]) -> Option<String> {
        #[derive(Deserialize)]
        struct Opened {
            #[serde(alias = "pit_id")]
            id: String,
        }
        serde_json::from_slice(body).ok().map(|Opened { id }| id)
    }

    /// Path and body to close one.
    pub fn close(self, point: &str) -> (&'static str, Vec<u8>) {
        let (path, body) = match self {
            Self::Pit => ("_pit", json!({"id": point})),
            Self::PointInTime => ("_search/point_in_time", json!({"pit_id": [point]})),
        };
        (path, body.to_string().into_bytes())
    }
}

/// The pattern of all indices with events of a namespace: aliases are those of all namespaces.
pub fn events_of(namespace: &Namespace) -> String {
    format!("keytrail-*-{namespace}-*,-keytrail-deadletter-*")
}

/// A page of events.
#[derive(Debug)]
pub struct Page {
    /// Documents, newest first, those without a time last.
    pub events: Vec<Box<RawValue>>,
    /// Behind the last of them.
    pub after: Option<Place>,
    /// The point in time, where the server gave it another name.
    pub point: Option<String>,
    /// How many there are, on the first page.
    pub total: Option<Total>,
    /// Parts of indices that were looked through.
    pub shards: u64,
}

/// How many events a search finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Total {
    /// So many.
    pub events: u64,
    /// Or more.
    pub or_more: bool,
}

/// Reads an answer.
///
/// # Errors
/// Why there is none.
pub fn page(status: u16, body: &[u8]) -> Result<Page, Refusal> {
    if status != 200 {
        return Err(Refusal::of(status, body));
    }
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| Refusal::Failed(format!("no answer to a search: {e}")))?;
    if answer.timed_out || answer.shards.failed > 0 {
        return Err(Refusal::Failed("the server did not look through all of its shards".into()));
    }
    let hits = answer.hits;
    Ok(Page {
        after: hits.hits.last().and_then(|hit| hit.sort.clone()).map(Place),
        events: hits.hits.into_iter().map(|hit| hit.source).collect(),
        point: answer.pit_id,
        total: hits.total.map(|total| Total { events: total.value, or_more: total.relation != "eq" }),
        shards: answer.shards.total,
    })
}

#[derive(Deserialize)]
struct Answer {
    timed_out: bool,
    pit_id: Option<String>,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    total: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    total: Option<Counted>,
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Counted {
    value: u64,
    relation: String,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_source")]
    source: Box<RawValue>,
    sort: Option<Box<RawValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(search: &Search, after: Option<&Place>) -> Value {
        let fields = [FieldName::of(Column::EventAction)];
        let request = PageRequest { point: "p\"", size: 7, after, fields: Some(&fields) };
        serde_json::from_slice(&search.page(&request)).expect("JSON")
    }

    fn name(name: &str) -> FieldName {
        FieldName::new(name).expect(name)
    }

    #[test]
    fn values_are_no_syntax() {
        let mut search = Search::between(Some(Timestamp(1_999_999)), None);
        search.query("user.name:Alice OR error.code:*").expect("fits");
        let hostile = "*\"}}]} OR _exists_:x\n\u{0}";
        search.field(name("user.name"), hostile).expect("fits");
        search.field(name("user.name"), "").expect("fits");
        search.field(name("error.message"), "not authorized").expect("fits");
        let body = body(&search, None);
        let filters = body["query"]["bool"]["filter"].as_array().expect("a list");
        assert_eq!(filters[0]["query_string"]["query"], "user.name:Alice OR error.code:*");
        assert_eq!(filters[0]["query_string"]["allow_leading_wildcard"], false);
        assert_eq!(
            filters[1]["bool"]["should"],
            json!([{"match_phrase": {"error.message": "not authorized"}}])
        );
        assert_eq!(
            filters[2]["bool"]["should"],
            json!([{"term": {"user.name": hostile}}, {"term": {"user.name": ""}}])
        );
        assert_eq!(filters[3], json!({"range": {"@timestamp": {"format": "epoch_millis", "gte": 1_999}}}));
        assert_eq!(
            (&body["pit"]["id"], &body["size"], &body["_source"]),
            (&json!("p\""), &json!(7), &json!(["event.action"]))
        );
    }

    #[test]
    fn what_would_find_nothing_is_told() {
        let mut search = Search::default();
        for (query, expected) in [
            ("user.nam:x", "`user.nam:x`: no field is named `user.nam`; did you mean `user.name`?"),
            (
                "arn:aws",
                "`arn:aws`: no field is named `arn`; did you mean `keytrail.key.arn`? A colon in a value stands in quotes, or as `\\:`",
            ),
            (
                "urn:aws",
                "`urn:aws`: no field is named `urn`: schemas/archive.md lists them. A colon in a value stands in quotes, or as `\\:`",
            ),
            (" ", "an empty query finds nothing: leave it out to find all events"),
        ] {
            assert_eq!(search.query(query), Err(expected.to_owned()));
        }
        search.query("_id:x AND _index:y").expect("fields of the server");
        assert!(
            search.query(&"x".repeat(MOST_QUERY_BYTES)).expect_err("long").contains("at most 4096 bytes")
        );
        assert!(search.field(name("event.sequence"), "x").expect_err("no number").contains("a whole number"));
        assert_eq!(Search::default().explain("why".into()), "why");
        let mut search = Search::default();
        search.query("source.ip:foo").expect("a query");
        assert_eq!(search.explain("'foo' is none".into()), "`source.ip:foo`: 'foo' is none");
        assert_eq!(search.explain("`x`: none".into()), "`x`: none");
    }

    /// As Elasticsearch 9.1 and OpenSearch 3.6 answered.
    #[test]
    fn pages_are_read() {
        let first = br#"{"pit_id":"next","took":3,"timed_out":false,"_shards":{"total":33,"successful":33,"skipped":0,"failed":0},
            "hits":{"total":{"value":10000,"relation":"gte"},"max_score":null,"hits":[
            {"_index":"i","_id":"u","_score":null,"_source":{"a":1},"sort":[1795253448629,"e19e",137438953825]},
            {"_index":"i","_id":"v","_score":null,"_source":{"a":2},"sort":[-9223372036854775808,null,9223372036854775807]}]}}"#;
        let first = page(200, first).expect("a page");
        assert_eq!(first.events.iter().map(|e| e.get()).collect::<Vec<_>>(), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!((first.point.as_deref(), first.shards), (Some("next"), 33));
        assert_eq!(first.total, Some(Total { events: 10_000, or_more: true }));
        let next = body(&Search::default(), first.after.as_ref());
        assert_eq!(next["search_after"], json!([i64::MIN, null, i64::MAX]));
        assert_eq!(next["track_total_hits"], false);
        let failed = |text: &[u8]| matches!(page(200, text), Err(Refusal::Failed(_)));
        assert!(failed(b"<html>"));
        assert!(failed(br#"{"timed_out":true,"_shards":{"total":1,"failed":0},"hits":{"hits":[]}}"#));
        assert!(failed(br#"{"timed_out":false,"_shards":{"total":1,"failed":1},"hits":{"hits":[]}}"#));
        assert_eq!(Points::Pit.opened(br#"{"id":"x","_shards":{}}"#).as_deref(), Some("x"));
        assert_eq!(Points::PointInTime.opened(br#"{"pit_id":"y"}"#).as_deref(), Some("y"));
        assert_eq!(Points::Pit.opened(b"{}"), None);
    }
}
