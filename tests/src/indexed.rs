//! A trail that a search server follows, for a test.
//!
//! What it is: a trail, a configuration that names a server, and a namespace that no other test has; its indices go
//! when the test ends. In: arguments. Out: what commands print, what the server has.

use serde_json::Value;

use crate::search_server::{Kind, SearchServer, namespace};
use crate::trail::{Ran, Trail};

/// A trail, a server, and what tells this trail's indices from others.
pub struct IndexedTrail {
    /// The trail.
    pub trail: Trail,
    /// The server.
    pub server: SearchServer,
    /// Its part of the names of indices.
    pub namespace: String,
    /// The configuration's path.
    pub config: String,
}

impl IndexedTrail {
    /// A trail that does not exist yet, with more lines of `[index]`.
    #[must_use]
    pub fn on(server: &SearchServer, more: &str) -> Self {
        let (trail, namespace) = (Trail::new(), namespace());
        let toml = format!("[index]\nurl = \"{}\"\nnamespace = \"{namespace}\"\n{more}", server.url());
        let config = trail.input("keytrail.toml", toml).to_str().expect("UTF-8").to_owned();
        Self { trail, server: server.clone(), namespace, config }
    }

    /// All indices with events.
    #[must_use]
    pub fn events(&self) -> String {
        format!("keytrail-*-{}-*,-keytrail-deadletter-*", self.namespace)
    }

    /// How many documents can be found, after a refresh.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.server.count(&self.events())
    }

    /// Runs inputs into trail and index, all of them, and has all documents found; what the summary says of the index.
    #[track_caller]
    pub fn run(&self, inputs: &[&str]) -> Value {
        let said = self.trail.run_json([inputs, &["--config", &self.config, "--no-report"]].concat());
        assert_eq!(
            (&said["index"]["pending"], &said["index"]["parked"]),
            (&Value::from(0), &Value::Null),
            "{said}"
        );
        let _refreshed = self.documents();
        said["index"].clone()
    }

    /// `keytrail search ARGS...`.
    #[must_use]
    pub fn search(&self, args: &[&str]) -> Ran {
        self.trail.keytrail([&["search", "--config", &self.config], args].concat())
    }

    /// Documents that are found.
    #[track_caller]
    pub fn found(&self, args: &[&str]) -> Vec<Value> {
        self.search(&[&["--json"], args].concat()).success().json_lines()
    }
}

impl Drop for IndexedTrail {
    fn drop(&mut self) {
        // A server that a test ended has no indices.
        if self.server.kind() != Kind::Secured {
            let _gone = self.server.try_call("DELETE", &format!("keytrail-*-{}-*", self.namespace), "");
        }
    }
}
