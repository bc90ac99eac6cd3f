//! What Kibana asks a server for a panel or a search, and the rows that it shows of the answer.
//!
//! Three things differ from Kibana's own requests: spans of time are of UTC, `auto` is a day, and spans without events
//! are left out (`min_doc_count`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::panel::{Bucket, By, Figure, Figures, Of, Search, View};

/// Which events are shown: what a person sets on a dashboard.
#[derive(Clone, Debug)]
pub struct Shown {
    /// From and to, RFC 3339.
    pub range: (&'static str, &'static str),
    /// What was chosen in controls: a field and its value.
    pub chosen: Vec<(&'static str, &'static str)>,
}

/// Rows by the names of their columns.
pub type Rows = Vec<BTreeMap<String, Value>>;

/// The request of a panel.
pub fn figures(panel: &Figures, shown: &Shown) -> Value {
    let mut request = json!({
        "size": 0,
        "track_total_hits": true,
        "query": query(panel.filter.query(), panel.view, shown),
    });
    let aggregations = aggregations(panel, &panel.buckets);
    if !aggregations.is_empty() {
        request["aggs"] = Value::Object(aggregations);
    }
    request
}

/// The request of a search.
pub fn search(search: &Search, shown: &Shown) -> Value {
    json!({
        "size": 10_000,
        "track_total_hits": true,
        "query": query(search.filter.query(), search.view, shown),
        "sort": [{search.by: {"order": "desc", "unmapped_type": "boolean"}}],
        "_source": [],
        "fields": search.columns,
    })
}

fn query(filter: Value, view: View, shown: &Shown) -> Value {
    let mut filters = vec![filter];
    if view == View::Events {
        let (from, to) = shown.range;
        filters.push(
            json!({"range": {"@timestamp": {"gte": from, "lte": to, "format": "strict_date_optional_time"}}}),
        );
    }
    filters.extend(shown.chosen.iter().map(|(field, value)| json!({"match_phrase": {*field: value}})));
    json!({"bool": {"filter": filters}})
}

fn aggregations(panel: &Figures, buckets: &[Bucket]) -> Map<String, Value> {
    let Some((bucket, inner)) = buckets.split_first() else {
        return panel.figures.iter().filter_map(|f| Some((f.name.to_owned(), of_figure(f)?))).collect();
    };
    let mut aggregation = match &bucket.by {
        By::Values(field, most) => json!({"terms": {
            "field": field, "size": most, "shard_size": (most * 3 / 2 + 10).max(1_000), "order": {"_count": "desc"},
        }}),
        By::Time(field, every) => {
            let every = if *every == "auto" { "1d" } else { every };
            json!({"date_histogram": {
                "field": field, "calendar_interval": every, "time_zone": "UTC", "min_doc_count": 1,
            }})
        }
        By::Filters(filters) => {
            let filters: Map<String, Value> =
                filters.iter().map(|(label, filter)| ((*label).to_owned(), filter.query())).collect();
            json!({"filters": {"filters": filters}})
        }
    };
    let below = aggregations(panel, inner);
    if !below.is_empty() {
        aggregation["aggs"] = Value::Object(below);
    }
    [(bucket.name.to_owned(), aggregation)].into_iter().collect()
}

/// `None`: it is what every bucket has.
fn of_figure(figure: &Figure) -> Option<Value> {
    match &figure.of {
        Of::Count => None,
        Of::CountWhere(filter) => Some(json!({"filter": filter.query()})),
        Of::Unique(field) => Some(json!({"cardinality": {"field": field}})),
        Of::Min(field) => Some(json!({"min": {"field": field}})),
        Of::Max(field) => Some(json!({"max": {"field": field}})),
    }
}

/// The rows of an answer; buckets without events have none.
#[track_caller]
pub fn rows(panel: &Figures, answer: &Value) -> Rows {
    let mut whole = answer["aggregations"].clone();
    whole["doc_count"] = answer["hits"]["total"]["value"].clone();
    assert!(whole["doc_count"].is_u64(), "{answer}");
    let mut rows = Rows::new();
    rows_below(panel, &panel.buckets, &whole, &BTreeMap::new(), &mut rows);
    rows
}

fn rows_below(
    panel: &Figures,
    buckets: &[Bucket],
    at: &Value,
    above: &BTreeMap<String, Value>,
    rows: &mut Rows,
) {
    let Some((bucket, inner)) = buckets.split_first() else {
        let mut row = above.clone();
        row.extend(panel.figures.iter().map(|figure| (figure.name.to_owned(), value(figure, at))));
        rows.push(row);
        return;
    };
    let found = &at[bucket.name];
    if matches!(bucket.by, By::Values(..)) {
        assert_eq!(found["doc_count_error_upper_bound"], 0, "counts are exact: {found}");
    }
    let named: Vec<(Value, &Value)> = match &found["buckets"] {
        Value::Array(list) => list.iter().map(|b| (key(bucket, b), b)).collect(),
        Value::Object(map) => map.iter().map(|(label, b)| (json!(label), b)).collect(),
        other => panic!("no buckets of `{}`: {other}", bucket.name),
    };
    for (key, below) in named.into_iter().filter(|(_, below)| below["doc_count"] != 0) {
        let mut above = above.clone();
        above.insert(bucket.name.to_owned(), key);
        rows_below(panel, inner, below, &above, rows);
    }
}

fn key(bucket: &Bucket, found: &Value) -> Value {
    match (&bucket.by, &found["key_as_string"]) {
        // Times are compared as milliseconds since 1970.
        (By::Time(..), _) | (_, Value::Null) => found["key"].clone(),
        (_, text) => text.clone(),
    }
}

fn value(figure: &Figure, at: &Value) -> Value {
    match &figure.of {
        Of::Count => at["doc_count"].clone(),
        Of::CountWhere(_) => at[figure.name]["doc_count"].clone(),
        Of::Unique(_) => at[figure.name]["value"].clone(),
        // Whole numbers, and times in milliseconds, which servers give as floating point.
        Of::Min(_) | Of::Max(_) => match at[figure.name]["value"].as_f64() {
            Some(number) => {
                assert!(number.fract() == 0.0, "{number}");
                json!(format!("{number:.0}").parse::<i64>().expect("a number"))
            }
            None => Value::Null,
        },
    }
}
