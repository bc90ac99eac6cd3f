//! A trail and its search index, as tests have them.
//!
//! What it is: a trail, a configuration with `[index]` and a namespace of its own on a server that tests share. In:
//! inputs. Out: what `keytrail` says, and what the server holds. Its indices are deleted with it.

use serde_json::{Value, json};

use crate::search_server::{SearchServer, namespace};
use crate::trail::{Ran, Trail, number};

/// A trail, a server, and what tells this trail's indices from others.
pub struct Indexed<'a> {
    /// The trail.
    pub trail: Trail,
    /// The server.
    pub server: &'a SearchServer,
    /// Part of all names of its indices.
    pub namespace: String,
    /// The configuration's path.
    pub config: String,
}

impl<'a> Indexed<'a> {
    /// With what is configured by default.
    #[must_use]
    pub fn on(server: &'a SearchServer) -> Self {
        Self::with(server, "")
    }

    /// With more lines of `[index]`.
    #[must_use]
    pub fn with(server: &'a SearchServer, more: &str) -> Self {
        let mut indexed = Self { trail: Trail::new(), server, namespace: namespace(), config: String::new() };
        indexed.configure(more);
        indexed
    }

    /// Other lines of `[index]`.
    pub fn configure(&mut self, more: &str) {
        let (url, namespace) = (self.server.url(), &self.namespace);
        let patience = if more.contains("patience") { "" } else { "patience = \"2s\"\n" };
        let toml = format!("[index]\nurl = \"{url}\"\nnamespace = \"{namespace}\"\n{patience}{more}");
        self.config = self.trail.input("keytrail.toml", toml).to_str().expect("UTF-8").to_owned();
    }

    /// All of its indices of events.
    #[must_use]
    pub fn pattern(&self) -> String {
        format!("keytrail-*-{}-*,-keytrail-deadletter-*", self.namespace)
    }

    /// Its indices of dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> String {
        format!("keytrail-deadletter-{}-*", self.namespace)
    }

    /// How many documents of events there are.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.server.count(&self.pattern())
    }

    /// Runs inputs into the trail; what the summary says of the index.
    pub fn run(&self, inputs: &[&str]) -> Value {
        self.trail.run_json([inputs, &["--config", &self.config]].concat())["index"].clone()
    }

    /// `keytrail index`, which ends with that code.
    #[track_caller]
    pub fn index(&self, code: i32) -> Value {
        self.trail.keytrail(["index", "--json", "--config", &self.config]).exits(code).json()
    }

    /// `keytrail reconcile`, which ends with that code.
    #[track_caller]
    pub fn reconcile(&self, code: i32, args: &[&str]) -> Value {
        let args = [&["reconcile", "--json", "--config", &self.config], args].concat();
        self.trail.keytrail(args).exits(code).json()
    }

    /// `keytrail search ARGS...`.
    #[must_use]
    pub fn search(&self, args: &[&str]) -> Ran {
        self.trail.keytrail([&["search", "--config", &self.config], args].concat())
    }

    /// Documents that a search finds.
    #[track_caller]
    #[must_use]
    pub fn found(&self, args: &[&str]) -> Vec<Value> {
        self.search(&[&["--json"], args].concat()).success().json_lines()
    }

    /// How many events the archive holds.
    #[must_use]
    pub fn rows(&self) -> u64 {
        number(&self.trail.query("select count(*) as n from {archive}")[0]["n"])
    }

    /// How many documents have each value of a field.
    #[must_use]
    pub fn counted(&self, field: &str) -> Vec<(String, u64)> {
        let ask = json!({"size": 0, "aggs": {"by": {"terms": {"field": field, "size": 1000, "order": {"_key": "asc"}}}}});
        assert!(self.documents() > 0);
        let found = self.server.post(&format!("{}/_search", self.pattern()), &ask);
        let buckets = found.body["aggregations"]["by"]["buckets"].as_array().expect("buckets");
        let of = |bucket: &Value| {
            let key = &bucket["key_as_string"].as_str().map_or_else(|| bucket["key"].clone(), |k| json!(k));
            (key.as_str().map_or_else(|| key.to_string(), str::to_owned), number(&bucket["doc_count"]))
        };
        buckets.iter().map(of).collect()
    }

    /// The document of an event.
    #[must_use]
    pub fn source(&self, uid: &str) -> Value {
        assert!(self.documents() > 0);
        let found = self
            .server
            .post(&format!("{}/_search", self.pattern()), &json!({"query": {"ids": {"values": [uid]}}}));
        assert_eq!(found.body["hits"]["total"]["value"], 1, "{found:?}");
        found.body["hits"]["hits"][0]["_source"].clone()
    }
}

impl Drop for Indexed<'_> {
    fn drop(&mut self) {
        self.server.delete(&format!("keytrail-*-{}-*", self.namespace));
    }
}

/// A CloudTrail record of a key's use in a minute of 2024-02-03, a line.
#[must_use]
pub fn event(id: &str, second: usize) -> String {
    event_at(id, &format!("2024-02-03T10:00:{second:02}Z"))
}

/// A CloudTrail record of a key's use at a time (RFC 3339), a line.
#[must_use]
pub fn event_at(id: &str, time: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"IAMUser","userName":"Alice","accountId":"111122223333"}},"eventTime":"{time}","eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","eventID":"{id}","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}
"#
    )
}
