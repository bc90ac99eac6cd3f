//! What ECS 9.4 allows: fields and types from its published field list, and the values of the four
//! categorization fields, whose lists are in `generated/ecs/ecs_flat.yml` of the same release.

use std::collections::{BTreeMap, HashMap};

use keytrail_model::{Column, Kind};
use serde_json::Value;

const FIELDS: &str = include_str!("../../../../tests/fixtures/ecs/ecs-9.4.0-fields.csv");

const KINDS: [&str; 8] =
    ["alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"];

const OUTCOMES: [&str; 3] = ["failure", "success", "unknown"];

/// `event.category` and the `event.type`s expected with it.
const CATEGORIES: [(&str, &[&str]); 20] = [
    (
        "api",
        &[
            "access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start",
            "user",
        ],
    ),
    ("authentication", &["start", "end", "info"]),
    ("configuration", &["access", "change", "creation", "deletion", "info"]),
    ("database", &["access", "change", "info", "error"]),
    ("driver", &["change", "end", "info", "start"]),
    ("email", &["info"]),
    ("file", &["access", "change", "creation", "deletion", "info"]),
    ("host", &["access", "change", "end", "info", "start"]),
    ("iam", &["admin", "change", "creation", "deletion", "group", "info", "user"]),
    ("intrusion_detection", &["allowed", "denied", "info"]),
    ("library", &["start"]),
    ("malware", &["info"]),
    ("network", &["access", "allowed", "connection", "denied", "end", "info", "protocol", "start"]),
    ("package", &["access", "change", "deletion", "info", "installation", "start"]),
    ("process", &["access", "change", "end", "info", "start"]),
    ("registry", &["access", "change", "creation", "deletion"]),
    ("session", &["start", "end", "info"]),
    ("threat", &["indicator"]),
    ("vulnerability", &["info"]),
    ("web", &["access", "error", "info"]),
];

/// Whether an event's categorization is one that ECS defines; rejections are not events.
pub fn check_values(event: &BTreeMap<String, Value>) -> Result<(), String> {
    if event.contains_key("rejected") {
        return Ok(());
    }
    let text = |field: &str| event.get(field).and_then(Value::as_str);
    if !text("event.kind").is_some_and(|k| KINDS.contains(&k)) {
        return Err(format!("`event.kind` is {:?}", event.get("event.kind")));
    }
    if !text("event.outcome").is_none_or(|o| OUTCOMES.contains(&o)) {
        return Err(format!("`event.outcome` is {:?}", event.get("event.outcome")));
    }
    let list = |field: &str| -> Vec<&str> {
        event.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let mut expected = Vec::new();
    for category in list("event.category") {
        let Some((_, types)) = CATEGORIES.iter().find(|(c, _)| *c == category) else {
            return Err(format!("`event.category` has `{category}`"));
        };
        expected.extend_from_slice(types);
    }
    for kind in list("event.type") {
        if !expected.contains(&kind) {
            return Err(format!(
                "`event.type` has `{kind}`, which is not expected with `event.category` {:?}",
                list("event.category")
            ));
        }
    }
    if let Some(ip) = text("source.ip")
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        return Err(format!("`source.ip` is `{ip}`"));
    }
    for ip in list("related.ip") {
        if ip.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("`related.ip` has `{ip}`"));
        }
    }
    Ok(())
}

/// Every column is a field of ECS with the same type, or stands under `keytrail.`.
#[test]
fn columns_are_fields_of_ecs() {
    let mut fields = HashMap::new();
    for line in FIELDS.lines().filter(|l| l.starts_with("9.4.0,")) {
        // Field, type and normalization stand before the first cell that may hold a comma.
        let cells: Vec<_> = line.split(',').collect();
        fields.insert(cells[3], (cells[4], cells[6]));
    }
    assert!(fields.len() > 2_000, "the field list was not read: {} fields", fields.len());
    let mut wrong = Vec::new();
    for column in Column::ALL {
        let field = column.field();
        if field.starts_with("keytrail.") {
            continue;
        }
        let Some((kind, normalization)) = fields.get(field) else {
            wrong.push(format!("`{field}` is no field of ECS 9.4"));
            continue;
        };
        let fits = match column.kind() {
            Kind::Text => {
                matches!(*kind, "keyword" | "wildcard" | "match_only_text" | "ip")
                    && *normalization != "array"
            }
            Kind::List => matches!(*kind, "keyword" | "ip") && *normalization == "array",
            Kind::Int => *kind == "long",
            Kind::Bool => *kind == "boolean",
            Kind::Time => *kind == "date",
            // ECS keeps the original as a keyword; bytes that are not UTF-8 need a binary column.
            Kind::Binary => field == "event.original",
        };
        if !fits {
            wrong.push(format!("`{field}` is `{kind}` {normalization} in ECS, {:?} here", column.kind()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
