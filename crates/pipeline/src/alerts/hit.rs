//! A hit: one event, finding or batch that a rule applies to.

use keytrail_model::Uid;
use keytrail_model::printable::escape;
use serde::{Deserialize, Serialize};

use super::rule::{Rule, Severity};

/// Characters of a text from a log that an alert repeats.
const TEXT_CHARS: usize = 256;

/// What a rule applies to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The rule.
    pub rule: Rule,
    /// Its weight, for what it is about and how it ended.
    pub severity: Severity,
    /// It was tried, and failed.
    pub failed: bool,
    /// What it is grouped by; see [`Rule::by`].
    pub key: String,
    /// The event's own time, microseconds since 1970.
    pub time: Option<i64>,
    /// The event.
    pub uid: Option<Uid>,
    /// How many it stands for.
    pub count: u64,
    /// What is told of it.
    pub facts: Facts,
    /// Subcommand and arguments of `keytrail` that explain it.
    pub explain: Vec<String>,
}

/// What an alert tells of the first of its events. Values are those of the archive's columns, masked as
/// they are there, escaped and clipped.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// `event.dataset`.
    pub dataset: Option<String>,
    /// Declared source, else the detected format.
    pub source: Option<String>,
    /// `event.action`.
    pub action: Option<String>,
    /// `success`, `failure` or `unknown`.
    pub outcome: Option<String>,
    /// Who did it.
    pub actor: Option<String>,
    /// Where from.
    pub address: Option<String>,
    /// Account, project or cluster.
    pub account: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// More, in words of ours.
    pub detail: Option<String>,
}

/// A text of a log as alerts have it: nothing in it moves a cursor or begins a line, and it is short.
pub(super) fn shown(text: &str) -> String {
    let text = escape(text);
    match text.char_indices().nth(TEXT_CHARS) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
