//! Mappings and templates of indices, made from the table of columns.
//!
//! What it is: component and index templates as a server takes them. What it is not: their installation. Only types
//! that Elasticsearch and OpenSearch both have: what ECS calls `wildcard` is `keyword`, `match_only_text` is `text`.
//! Fields that are not in the mapping are kept and not indexed (`dynamic: false`): whoever chooses names in a log
//! adds none to it.

use keytrail_model::{Column, Kind};
use serde_json::{Map, Value, json};

use crate::field;

/// Version of the templates: raised with each change of them.
pub const VERSION: u32 = 1;

/// A keyword is indexed up to so many characters, as ECS says.
pub(crate) const MOST_KEYWORD_CHARS: u32 = 1_024;

/// Fields that a word without a field is looked for in.
pub(crate) const WORDS: [&str; 5] =
    ["event.action", "event.id", "user.name", "error.message", "keytrail.key.id"];

/// Whose templates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Elasticsearch 8 and 9.
    Elasticsearch,
    /// OpenSearch 2 and 3.
    OpenSearch,
}

impl Target {
    /// The type of an object with names of the producer's choice.
    fn open_object(self) -> Value {
        match self {
            Self::Elasticsearch => {
                json!({"type": "flattened", "ignore_above": MOST_KEYWORD_CHARS, "depth_limit": 2})
            }
            Self::OpenSearch => json!({"type": "flat_object"}),
        }
    }
}

/// A component template: its name and what it holds.
#[derive(Clone, PartialEq, Debug)]
pub struct Component {
    /// Its name on the server.
    pub name: &'static str,
    /// Its body.
    pub body: Value,
}

/// The mapping of documents.
pub fn mapping(target: Target) -> Value {
    let mut root = Map::new();
    for column in Column::ALL {
        put(&mut root, field(column), of_column(column, target));
    }
    put(&mut root, crate::document::PARTIAL, keyword());
    json!({"dynamic": false, "properties": root})
}

/// Component templates that [`index_template`] is composed of.
pub fn components(target: Target) -> Vec<Component> {
    let meta = json!({"managed_by": "keytrail", "version": VERSION});
    vec![
        Component {
            name: "keytrail-mappings",
            body: json!({"version": VERSION, "_meta": meta, "template": {"mappings": mapping(target)}}),
        },
        Component {
            name: "keytrail-settings",
            body: json!({"version": VERSION, "_meta": meta, "template": {"settings": {"index": {
                "codec": "best_compression",
                "refresh_interval": "5s",
                // A copy where there is a second node; a single one stays green.
                "auto_expand_replicas": "0-1",
                "query": {"default_field": WORDS},
            }}}}),
        },
    ]
}

/// The template of all indices of events, under the aliases that readers use.
pub fn index_template() -> Value {
    json!({
        "index_patterns": ["keytrail-*"],
        "composed_of": ["keytrail-settings", "keytrail-mappings"],
        // Above the templates that come with a server, which are of 100 and 200.
        "priority": 500,
        "version": VERSION,
        "_meta": {"managed_by": "keytrail", "version": VERSION},
        "template": {"aliases": {"keytrail": {}, "logs-keytrail": {}}},
    })
}

/// The template of what an index refused: the document as it was, not indexed, and why.
pub fn dead_letter_template() -> Value {
    let mut root = Map::new();
    let date = json!({"type": "date"});
    for (name, mapping) in [
        ("@timestamp", date.clone()),
        ("event.created", date),
        ("event.dataset", keyword()),
        ("event.hash", keyword()),
        ("keytrail.uid", keyword()),
        ("keytrail.index.name", keyword()),
        ("error.type", keyword()),
        ("error.message", json!({"type": "text"})),
        ("keytrail.index.document", json!({"type": "object", "enabled": false})),
    ] {
        put(&mut root, name, mapping);
    }
    json!({
        "index_patterns": ["keytrail-deadletter-*"],
        "priority": 600,
        "version": VERSION,
        "_meta": {"managed_by": "keytrail", "version": VERSION},
        "template": {"mappings": {"dynamic": false, "properties": root}},
    })
}

fn keyword() -> Value {
    json!({"type": "keyword", "ignore_above": MOST_KEYWORD_CHARS})
}

fn of_column(column: Column, target: Target) -> Value {
    match (column, column.kind()) {
        (Column::SourceIp | Column::RelatedIp, _) => json!({"type": "ip", "ignore_malformed": true}),
        (Column::ErrorMessage, _) => json!({"type": "text"}),
        (Column::UserAgentOriginal, _) => {
            let mut keyword = keyword();
            keyword["fields"] = json!({"text": {"type": "text"}});
            keyword
        }
        (Column::KeytrailEncryptionContext, _) => target.open_object(),
        (Column::EventOriginal | Column::KeytrailLedgerEnvelope, _) => {
            json!({"type": "keyword", "index": false, "doc_values": false})
        }
        (_, Kind::Text | Kind::List | Kind::Binary) => keyword(),
        (_, Kind::Int) => json!({"type": "long"}),
        (_, Kind::Bool) => json!({"type": "boolean"}),
        (_, Kind::Time) => json!({"type": "date"}),
    }
}

/// Puts a field's mapping below the objects that it lies in.
fn put(properties: &mut Map<String, Value>, name: &str, mapping: Value) {
    match name.split_once('.') {
        None => {
            properties.insert(name.to_owned(), mapping);
        }
        Some((object, rest)) => {
            let inner = properties.entry(object).or_insert_with(|| json!({"properties": {}}));
            if let Some(inner) = inner["properties"].as_object_mut() {
                put(inner, rest, mapping);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(mapping: &'a Value, name: &str) -> &'a Value {
        name.split('.').fold(mapping, |at, segment| &at["properties"][segment])
    }

    #[test]
    fn each_column_is_mapped_once() {
        for target in [Target::Elasticsearch, Target::OpenSearch] {
            let mapping = mapping(target);
            for column in Column::ALL {
                let found = of(&mapping, field(column));
                assert!(found["type"].is_string(), "{}: {found}", field(column));
                assert!(found["properties"].is_null(), "{} is a field and an object", field(column));
            }
            assert_eq!(of(&mapping, "source.ip")["type"], "ip");
            assert_eq!(of(&mapping, "@timestamp")["type"], "date");
            assert_eq!(mapping["dynamic"], false);
        }
    }

    #[test]
    fn types_are_those_that_both_servers_have() {
        let text = serde_json::to_string(&(mapping(Target::Elasticsearch), mapping(Target::OpenSearch)))
            .expect("JSON");
        for missing in ["wildcard", "match_only_text", "constant_keyword", "scaled_float", "unsigned_long"] {
            assert!(!text.contains(missing), "{missing}");
        }
    }
}
