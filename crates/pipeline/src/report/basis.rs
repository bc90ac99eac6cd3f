//! What a report is a function of, beside the archive at its checkpoint: fixed when the report is made first,
//! so that it comes out the same when it is made again.

use keytrail_model::Hash;
use keytrail_report::model::{
    CheckpointRef, DeclaredSource, Duplicates, Integrity, ReportRef, Status, TableRef, Tool,
};
use serde::{Deserialize, Serialize};

/// Format of the file.
const VERSION: u32 = 1;

/// What is fixed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Format: 1.
    pub version: u32,
    /// ISO week.
    pub week: String,
    /// What kind of report.
    pub status: Status,
    /// Number of the amendment.
    pub amendment: Option<u32>,
    /// What makes it: another version may make other bytes.
    pub tool: Tool,
    /// The head of the log.
    pub checkpoint: CheckpointRef,
    /// Fingerprints of the log's keys.
    pub log_keys: Vec<String>,
    /// What was declared to be heard.
    pub scope: Vec<DeclaredSource>,
    /// Tables of the key inventory; `None`: none was declared.
    pub inventory: Option<Vec<TableRef>>,
    /// The report made before.
    pub previous: Option<ReportRef>,
    /// The report of the same week that it supersedes.
    pub supersedes: Option<ReportRef>,
    /// What runs had counted.
    pub duplicates: Duplicates,
    /// What `verify` found.
    pub integrity: Integrity,
}

impl Basis {
    /// The version that this one writes.
    pub const VERSION: u32 = VERSION;

    /// Its file.
    pub fn to_json(&self) -> Vec<u8> {
        // Structs of strings and numbers always serialise.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Names the report: its week, and the start of a hash over all that it is a function of.
    pub fn report_id(&self) -> String {
        let amendment = self.amendment.map_or(String::new(), |n| format!("-amendment-{n}"));
        format!("{}{amendment}-{}", self.week, &Hash::of(&self.to_json()).to_hex()[..16])
    }

    /// The name of its files, without what comes behind the dot.
    pub fn stem(&self) -> String {
        stem(self.status, self.amendment)
    }
}

/// As [`Basis::stem`].
pub fn stem(status: Status, amendment: Option<u32>) -> String {
    match (status, amendment) {
        (Status::Provisional, _) => "provisional".to_owned(),
        (_, Some(n)) => format!("amendment-{n}"),
        (_, None) => "report".to_owned(),
    }
}
