//! An index of its own for a trail, and what commands said of it.

use std::env;
use std::fs;
use std::path::Path;

use keytrail_tests::projection::{Archive, Projection, archive};
use keytrail_tests::search_server::{SearchServer, namespace};
use keytrail_tests::trail::{Trail, number};
use serde_json::Value;

pub const SHORT_EVENTS: u64 = 600;

/// 2024-01-30: with the next days in two months, so that there are two indices.
pub const END_OF_MONTH: i64 = 29;

pub fn events() -> u64 {
    env::var("KEYTRAIL_FAULT_EVENTS")
        .map_or(SHORT_EVENTS, |n| n.parse().expect("KEYTRAIL_FAULT_EVENTS is a number"))
}

pub fn is_long() -> bool {
    events() > SHORT_EVENTS
}

/// The configuration of an index of its own for a trail.
pub struct Target<'a> {
    pub trail: &'a Trail,
    pub server: &'a SearchServer,
    pub namespace: String,
    pub config: String,
}

impl<'a> Target<'a> {
    /// At this URL; small bodies, and more lines of `[index]`.
    pub fn at(url: &str, trail: &'a Trail, server: &'a SearchServer, more: &str) -> Self {
        let namespace = namespace();
        let patience = if more.contains("patience") { "" } else { "patience = \"10s\"\n" };
        let toml = format!(
            "[index]\nurl = \"{url}\"\nnamespace = \"{namespace}\"\nbulk_bytes = 100000\n{patience}{more}"
        );
        let config = trail.input(&format!("{namespace}.toml"), toml).to_str().expect("UTF-8").to_owned();
        Self { trail, server, namespace, config }
    }

    pub fn indexing(&self) -> [&str; 4] {
        ["index", "--json", "--config", &self.config]
    }

    /// `keytrail index`, which ends with that code.
    #[track_caller]
    pub fn index(&self, code: i32) -> Value {
        self.trail.keytrail(self.indexing()).exits(code).json()
    }

    /// `keytrail run` of an input; what the summary says of the index.
    #[track_caller]
    pub fn run(&self, input: &Path) -> Value {
        let args = [input.to_str().expect("UTF-8"), "--no-report", "--config", &self.config];
        self.trail.run_json(args)["index"].clone()
    }

    /// What the index holds, which is all of the archive, as DuckDB has it and as `keytrail reconcile` says.
    #[track_caller]
    pub fn projection(&self, archive: &Archive) -> Projection {
        let is = Projection::of(archive, self.server, &self.namespace).whole();
        let said = self.trail.keytrail(["reconcile", "--json", "--config", &self.config]).success().json();
        let counts = ["documents", "dead_letters", "pending"].map(|field| number(&said[field]));
        assert_eq!(counts, [is.documents, is.dead_letters.len() as u64, 0], "{said}");
        assert_eq!(said["differences"], serde_json::json!([]), "{said}");
        is
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.server.count(&format!("keytrail-*-{}-*,-keytrail-deadletter-*", self.namespace))
    }

    pub fn pattern(&self) -> String {
        format!("keytrail-*-{}-*", self.namespace)
    }

    /// Replaces a part of the configuration.
    pub fn configure(&self, from: &str, to: &str) {
        let toml = fs::read_to_string(&self.config).expect("there");
        assert!(toml.contains(from), "{toml}");
        fs::write(&self.config, toml.replace(from, to)).expect("written");
    }

    /// Forgets how far the index follows.
    pub fn forget(&self) {
        fs::remove_dir_all(self.trail.data().join("state/index")).expect("removed");
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        // It may be down by now.
        let _gone = self.server.try_call("DELETE", &self.pattern(), "");
    }
}

/// An archive that no index follows yet, of four days from that one on.
pub fn archived(first_day: i64, events: u64) -> (Trail, Archive) {
    let trail = Trail::new();
    let load = trail.load(7, first_day, 4, events);
    trail.run([load.as_os_str(), "--no-report".as_ref()]).success();
    let archive = archive(&trail);
    (trail, archive)
}

/// Outcomes of commands on one index, added up.
#[derive(Default, Debug)]
pub struct Sum {
    pub created: u64,
    pub duplicates: u64,
    pub dead_letters: u64,
    /// Why a command left the rest for later.
    pub parked: Vec<String>,
}

impl Sum {
    pub fn add(&mut self, said: &Value) {
        self.created += number(&said["created"]);
        self.duplicates += number(&said["duplicates"]);
        self.dead_letters +=
            said["dead_letters"].as_object().expect("kinds").values().map(number).sum::<u64>();
        self.parked.extend(said["parked"]["code"].as_str().map(str::to_owned));
    }
}
