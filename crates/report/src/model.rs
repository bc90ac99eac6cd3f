//! What a report says. Fields stand in the order of the file; numbers are integers, times RFC 3339 in UTC with
//! six fraction digits, days `YYYY-MM-DD`, hashes lower-case hexadecimal. One file: it is one table of fields.

use serde::{Deserialize, Serialize};

/// The version of this form.
pub const FORMAT: &str = "keytrail.report/1";

/// Weeks before the one that is reported which are compared with it.
pub const WEEKS_BEFORE: usize = 12;

/// The newest of them, which medians are over.
pub const WEEKS_OF_MEDIAN: usize = 4;

macro_rules! parts {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
        )*
    };
}

/// What kind of report it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The first report of a week, made 36 hours after its end or later: its checkpoint is fixed.
    Final,
    /// Made again because events of the week were sealed after the report that it supersedes.
    Amendment,
    /// Made before: it fixes nothing, and no other report names it.
    Provisional,
}

/// What a day of a source is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayState {
    /// Events were archived.
    Heard,
    /// No event.
    Silent,
    /// Retention ended for events of the day, so the count is of what is left.
    Expired,
    /// Objects of the day could not be read, so the count is of the others.
    Unreadable,
}

parts! {
    /// A weekly report.
    Report {
        /// [`FORMAT`].
        format: String,
        /// What it is of, and what proves it.
        cover: Cover,
        /// One page.
        summary: Summary,
        /// What was heard.
        coverage: Coverage,
        /// Keys.
        keys: Keys,
        /// What was done with keys.
        operations: Operations,
        /// What only few may do.
        privileged: Privileged,
        /// What did not succeed.
        failures: Failures,
        /// What `verify` found.
        integrity: Integrity,
        /// Events that were sealed after the report of their week.
        late: Late,
        /// How all of it was computed.
        method: Method,
    }

    /// Cover and seal.
    Cover {
        /// Names the report: week, amendment, and the start of a hash over all that it is a function of.
        report_id: String,
        /// What kind it is.
        status: Status,
        /// Number of the amendment, from 1.
        amendment: Option<u32>,
        /// ISO week, `2023-W28`.
        week: String,
        /// Its first moment.
        from: String,
        /// The first moment behind it.
        to: String,
        /// The newest archived time among the checkpoint's manifests.
        as_of: Option<String>,
        /// What made it.
        tool: Tool,
        /// The log's head whose archive it tells of.
        checkpoint: CheckpointRef,
        /// SHA-256 fingerprints of the log's keys.
        log_keys: Vec<String>,
        /// Tables that it was made with.
        tables: Vec<TableRef>,
        /// What was declared to be heard.
        scope: Vec<DeclaredSource>,
        /// The report that was made before.
        previous: Option<ReportRef>,
        /// The report of the same week that this one supersedes.
        supersedes: Option<ReportRef>,
        /// Commands that check it, to be run in the data folder.
        how_to_verify: Vec<String>,
    }

    /// What made a report.
    Tool {
        /// `keytrail`.
        name: String,
        /// Its version.
        version: String,
        /// Version of the fold.
        fold: u32,
    }

    /// A head of the log.
    CheckpointRef {
        /// The log's name.
        origin: String,
        /// Entries.
        size: u64,
        /// Root hash in Base64.
        root: String,
        /// The signed note as it was published.
        note: String,
    }

    /// A table.
    TableRef {
        /// What it is of.
        name: String,
        /// SHA-256 of its file.
        sha256: String,
        /// Its rows.
        rows: u64,
    }

    /// A declared source.
    DeclaredSource {
        /// Its name.
        name: String,
        /// What its records are.
        dataset: String,
        /// How long it may be silent.
        longest_silence_seconds: Option<u64>,
    }

    /// Another report.
    ReportRef {
        /// Its week.
        week: String,
        /// Its amendment.
        amendment: Option<u32>,
        /// Size of its checkpoint's log.
        size: u64,
        /// SHA-256 of its `report.json`.
        sha256: String,
    }

    /// One page.
    Summary {
        /// Counts of the week, beside those of the weeks before.
        figures: Vec<Figure>,
        /// What a person should look at, most urgent first.
        attention: Vec<Attention>,
        /// What the report cannot say.
        limits: Vec<String>,
    }

    /// A count of the week and of those before.
    Figure {
        /// Its name.
        name: String,
        /// The week's.
        count: u64,
        /// Those of [`WEEKS_BEFORE`] weeks before, oldest first; null where the archive has no event of the week.
        before: Vec<Option<u64>>,
        /// Median of the last [`WEEKS_OF_MEDIAN`]; null where one of them has no event.
        median: Option<u64>,
    }

    /// Something to look at.
    Attention {
        /// Stable name of the kind.
        kind: String,
        /// How many.
        count: u64,
        /// In words.
        text: String,
        /// Where the details are: the name of a part of the report.
        section: String,
    }

    /// What was heard.
    Coverage {
        /// Source by source.
        sources: Vec<SourceCoverage>,
        /// Events without a usable time: they are of no week.
        undated: Vec<Undated>,
        /// Refused records, at the checkpoint.
        quarantine: Vec<Quarantined>,
        /// Records that were there already, as runs counted them when the checkpoint was fixed.
        duplicates: Duplicates,
        /// Events of the week that retention took before the checkpoint.
        expired: Vec<Lost>,
        /// Objects of the week that could not be read.
        unreadable: Vec<Lost>,
    }

    /// What was heard of a source.
    SourceCoverage {
        /// Declared name, else the detected format.
        source: String,
        /// `event.dataset`.
        dataset: String,
        /// Whether it is declared.
        declared: bool,
        /// Events.
        events: u64,
        /// Of these, events that no declaration claims.
        undeclared_events: u64,
        /// Operations: see the definitions.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// Time of the first event.
        first: Option<String>,
        /// Time of the last event.
        last: Option<String>,
        /// The longest time without an event, from the start of the week to its end.
        longest_silence_seconds: u64,
        /// What it may be.
        allowed_silence_seconds: Option<u64>,
        /// Whether it was longer; null where nothing is declared.
        too_silent: Option<bool>,
        /// Ranges of numbers that are missing between records of its dataset; null where they are not numbered.
        gaps: Option<u64>,
        /// Its refused records at the checkpoint.
        quarantined: u64,
        /// Of these, those sealed since the report made before.
        quarantined_new: u64,
        /// Day by day.
        days: Vec<DayCoverage>,
    }

    /// A day of a source.
    DayCoverage {
        /// The day.
        day: String,
        /// Events.
        events: u64,
        /// Failed operations.
        failures: u64,
        /// The longest time without an event, from its start to its end.
        longest_silence_seconds: u64,
        /// What it is like.
        state: DayState,
    }

    /// Events without a time.
    Undated {
        /// Source.
        source: String,
        /// `event.dataset`.
        dataset: String,
        /// How many, in the whole archive.
        events: u64,
    }

    /// Refused records of a source and a reason.
    Quarantined {
        /// Source that they were counted for.
        source: String,
        /// Code of the rejection.
        code: String,
        /// Records at the checkpoint.
        records: u64,
        /// Of these, those sealed since the report made before.
        new: u64,
    }

    /// Records that were there already.
    Duplicates {
        /// Since when they are counted; null where nothing was counted.
        since: Option<String>,
        /// By source.
        sources: Vec<DuplicatesOf>,
    }

    /// Of a source.
    DuplicatesOf {
        /// Source.
        source: String,
        /// How many.
        records: u64,
    }

    /// An object whose events are not told of.
    Lost {
        /// `event.dataset`.
        dataset: String,
        /// Its day.
        day: String,
        /// Index of its manifest in the log.
        leaf: u64,
        /// Rows that its manifest names.
        rows: u64,
        /// Why.
        why: String,
    }

    /// What a table leaves out.
    Others {
        /// How many names are not shown; null where there were too many to be counted.
        names: Option<u64>,
        /// Their operations.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
    }

    /// Keys.
    Keys {
        /// Days that keys were looked for in: the week and the twelve before it.
        from: String,
        /// The declared inventory; null where none was given.
        inventory: Option<InventoryRef>,
        /// Keys with the most operations of the week first.
        seen: Vec<KeyRow>,
        /// The rest.
        others: Others,
        /// Declared keys that no event names.
        declared_unseen: Vec<DeclaredKey>,
        /// How many there are.
        declared_unseen_count: u64,
        /// Keys in events that are not declared; null where no inventory was given.
        undeclared_count: Option<u64>,
    }

    /// An inventory.
    InventoryRef {
        /// Names of its tables; the cover has their hashes.
        names: Vec<String>,
        /// Declared keys.
        keys: u64,
    }

    /// A declared key.
    DeclaredKey {
        /// Its id or alias as declared.
        key: String,
        /// Who answers for it.
        owner: Option<String>,
        /// What for.
        purpose: Option<String>,
    }

    /// A key as events tell of it.
    KeyRow {
        /// `event.dataset`.
        dataset: String,
        /// Id, else alias.
        key: String,
        /// Name that was used last.
        alias: Option<String>,
        /// Algorithm that was named last.
        algorithm: Option<String>,
        /// State that was named last.
        state: Option<String>,
        /// Operations of the week.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// First operation in the days looked at.
        first: String,
        /// Last operation.
        last: String,
        /// When it was created or imported.
        created: Option<String>,
        /// When it was rotated last.
        rotated: Option<String>,
        /// When its deletion was scheduled last; null where that was called off later.
        deletion_scheduled: Option<String>,
        /// When its material was destroyed.
        destroyed: Option<String>,
        /// Whether the inventory has it; null where there is none.
        declared: Option<bool>,
        /// Who answers for it, by the inventory.
        owner: Option<String>,
        /// What for.
        purpose: Option<String>,
    }

    /// What was done with keys.
    Operations {
        /// All of them.
        total: u64,
        /// Failed ones.
        failures: u64,
        /// By action class, in the order of the vocabulary.
        classes: Vec<ClassRow>,
        /// Actors with the most operations first.
        actors: Vec<ActorRow>,
        /// The rest.
        others: Others,
    }

    /// Operations of a class.
    ClassRow {
        /// Action class.
        class: String,
        /// Operations.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// Those of the weeks before, oldest first; null where the archive has no event of the week.
        before: Vec<Option<u64>>,
        /// Median of the last four.
        median: Option<u64>,
    }

    /// Operations of an actor.
    ActorRow {
        /// `event.dataset`.
        dataset: String,
        /// Account, project or cluster.
        account: Option<String>,
        /// Name, else ARN, else id; null where the records say none.
        actor: Option<String>,
        /// Key operations.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// Time of the last.
        last: String,
    }

    /// What only few may do.
    Privileged {
        /// By kind.
        kinds: Vec<KindRow>,
        /// Who did what with which key, oldest first.
        groups: Vec<PrivilegedRow>,
        /// The rest.
        others: Others,
    }

    /// Privileged operations of a kind.
    KindRow {
        /// Root, or the action class.
        kind: String,
        /// Operations.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// Median of the four weeks before.
        median: Option<u64>,
    }

    /// Privileged operations that differ in their time alone.
    PrivilegedRow {
        /// Root, or the action class.
        kind: String,
        /// `event.dataset`.
        dataset: String,
        /// Account, project or cluster.
        account: Option<String>,
        /// Who.
        actor: Option<String>,
        /// What, as the producer names it.
        action: String,
        /// With which key.
        key: Option<String>,
        /// How it ended.
        outcome: Option<String>,
        /// How often.
        operations: u64,
        /// First time.
        first: String,
        /// Last time.
        last: String,
        /// The first event: `keytrail explain UID` shows it.
        uid: String,
    }

    /// What did not succeed.
    Failures {
        /// By source.
        sources: Vec<FailureRow>,
        /// By actor, most failures first.
        actors: Vec<FailureRow>,
        /// What is left out of `actors`.
        other_actors: Others,
        /// By key.
        keys: Vec<FailureRow>,
        /// What is left out of `keys`.
        other_keys: Others,
    }

    /// Failures of a source, an actor or a key.
    FailureRow {
        /// `event.dataset`.
        dataset: String,
        /// Account, project or cluster; of actors.
        account: Option<String>,
        /// Source, actor or key; null where the records say none.
        name: Option<String>,
        /// Operations.
        operations: u64,
        /// Of these, failed ones.
        failures: u64,
        /// Failures of the four weeks before, oldest first; null where the dataset has no event in the week.
        before: Vec<Option<u64>>,
        /// Their median; null where one of them is: there is no history.
        median: Option<u64>,
    }

    /// What `verify` found when the report was made.
    Integrity {
        /// Whether nothing but what sources sent and what was decided was found.
        good: bool,
        /// What the check covered.
        scope: String,
        /// Archive objects that were checked.
        objects: u64,
        /// Their rows.
        rows: u64,
        /// Findings by code.
        codes: Vec<CodeCount>,
        /// Numbers that are missing between records: the findings of the code `GAP`, as far as there is room.
        gaps: Vec<FindingRow>,
        /// The other findings, as far as there is room.
        findings: Vec<FindingRow>,
        /// How many are left out.
        more: u64,
        /// What was not checked.
        not_checked: Vec<String>,
    }

    /// Findings of a code.
    CodeCount {
        /// The code.
        code: String,
        /// Whether it tells what sources sent or what was decided, and is no failure.
        informational: bool,
        /// How many.
        count: u64,
    }

    /// A finding.
    FindingRow {
        /// Its code.
        code: String,
        /// What it is about.
        element: String,
        /// What was found and what was expected.
        message: String,
    }

    /// Events that were sealed after the report of their week.
    Late {
        /// Entries of the log that were looked at: from the size of the report made before...
        from_leaf: u64,
        /// ...to this report's.
        to_leaf: u64,
        /// Events by week and dataset.
        weeks: Vec<LateRow>,
        /// Of an amendment: events of its own week that the superseded report does not have.
        amends: Vec<LateRow>,
    }

    /// Late events.
    LateRow {
        /// Their week.
        week: String,
        /// Their day.
        day: String,
        /// `event.dataset`.
        dataset: String,
        /// How many.
        events: u64,
        /// First and last entry of the log that seals some of them.
        first_leaf: u64,
        /// The last.
        last_leaf: u64,
    }

    /// How it was computed.
    Method {
        /// Terms.
        definitions: Vec<Definition>,
        /// Statements that make the tables which queries read, for DuckDB in the data folder.
        setup: Vec<String>,
        /// Queries that give the report's tables.
        queries: Vec<Query>,
        /// How many names a table holds at most, and how many rows the report shows.
        bounds: Vec<Definition>,
        /// The archive objects that were read, by ascending leaf index.
        objects: Vec<ObjectRow>,
    }

    /// A term.
    Definition {
        /// The term.
        term: String,
        /// What it means here.
        meaning: String,
    }

    /// A query.
    Query {
        /// Its name.
        name: String,
        /// The part of the report that it gives, as a JSON pointer.
        gives: String,
        /// The SQL.
        sql: String,
    }

    /// An archive object.
    ObjectRow {
        /// Index of its manifest in the log.
        leaf: u64,
        /// Path in the data folder.
        key: String,
        /// SHA-256.
        sha256: String,
        /// Rows.
        rows: u64,
    }
}

impl Report {
    /// The bytes of `report.json`.
    pub fn to_json(&self) -> Vec<u8> {
        // Structs of strings and numbers always serialise.
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads `report.json`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let report: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if report.format != FORMAT {
            return Err(format!("the format is `{}`, expected `{FORMAT}`", report.format.escape_debug()));
        }
        Ok(report)
    }
}
