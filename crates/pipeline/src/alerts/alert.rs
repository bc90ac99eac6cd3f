//! An alert as receivers get it: `schemas/alert.v1.schema.json`.
//!
//! The outer form is the one that the Standard Webhooks specification recommends: `type`, `timestamp`,
//! `data`. Values of logs are escaped and clipped before they get here; titles hold none of them.

use keytrail_model::{Fatal, Hash, Timestamp};
use serde::Serialize;

use super::group::Tally;
use super::hit::Facts;
use super::rule::{Rule, Severity};

/// `type` of all alerts; the schema's version is part of it.
const TYPE: &str = "keytrail.alert.v1";

/// What people are told.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Alert {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it was raised.
    timestamp: String,
    data: Content,
}

/// What is in an alert.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Content {
    /// Stays the same however often it is sent.
    pub id: String,
    /// The rule.
    pub rule: Rule,
    /// Its weight.
    pub severity: Severity,
    /// Words of ours.
    pub title: &'static str,
    /// It sums up what came after an alert of the same group.
    pub summary: bool,
    /// How many it stands for.
    pub count: u64,
    /// Oldest time of the events.
    pub first: Option<String>,
    /// Newest time of the events.
    pub last: Option<String>,
    /// What it is grouped by, beside the rule and whether it failed.
    pub group: GroupKey,
    /// The trail's origin.
    pub trail: String,
    /// The first of the events.
    pub uids: Vec<String>,
    /// More of the first of them.
    #[serde(flatten)]
    pub facts: Facts,
    /// The command that explains it.
    pub command: String,
}

/// What alerts of a rule are grouped by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GroupKey {
    /// What rules of that kind are grouped by.
    pub by: &'static str,
    /// Which one.
    pub key: String,
}

/// What all alerts of a trail share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The trail's origin.
    pub trail: String,
    /// Its data folder, as a shell takes it.
    pub data: String,
}

impl Alert {
    /// The alert of a tally, raised at a time.
    pub(super) fn new(
        place: &Place,
        rule: Rule,
        failed: bool,
        key: &str,
        summary: bool,
        tally: &Tally,
        now: Timestamp,
    ) -> Self {
        let time = |t: Option<i64>| t.map(|t| Timestamp(t).to_rfc3339());
        Self {
            kind: TYPE,
            timestamp: now.to_rfc3339(),
            data: Content {
                id: id(place, rule, failed, key, tally, now),
                rule,
                severity: tally.severity,
                title: rule.title(failed),
                summary,
                count: tally.count,
                first: time(tally.first),
                last: time(tally.last),
                group: GroupKey { by: rule.by(), key: key.to_owned() },
                trail: place.trail.clone(),
                uids: tally.uids.clone(),
                facts: tally.facts.clone(),
                command: format!("keytrail {} --data {}", tally.explain.join(" "), place.data),
            },
        }
    }

    /// What is in it.
    pub fn content(&self) -> &Content {
        &self.data
    }

    /// When it was raised, RFC 3339.
    pub fn timestamp(&self) -> &str {
        &self.timestamp
    }

    /// The JSON object.
    ///
    /// # Errors
    /// None that this type can give.
    pub fn to_json(&self) -> Result<String, Fatal> {
        serde_json::to_string(self).map_err(|e| Fatal::new("Fatal.Internal", format!("an alert: {e}")))
    }
}

/// Follows from the first event, so that it stays the same if the same events are looked at again; of
/// what has no uid, from when it was seen.
fn id(place: &Place, rule: Rule, failed: bool, key: &str, tally: &Tally, now: Timestamp) -> String {
    let when = now.0.to_string();
    let what = tally.uids.first().map_or(when.as_str(), String::as_str);
    let failed = if failed { "failed" } else { "" };
    let parts = ["keytrail/alert/1", &place.trail, rule.id(), failed, key, what].join("\n");
    format!("alert_{}", &Hash::of(parts.as_bytes()).to_hex()[..32])
}
