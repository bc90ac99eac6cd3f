//! The one source of what `infra/elasticsearch/kibana` holds: terms, searches, and the list of dashboards.
//!
//! SQL stands beside each panel, written by hand over the table `events` (see [`TERMS`]): it shares nothing with what
//! the panel asks a search server, so that both have to be right to be equal.

#[path = "declared/coverage.rs"]
mod coverage;
#[path = "declared/one.rs"]
mod one;
#[path = "declared/operations.rs"]
mod operations;

use crate::filter::{Filter, and, has, is, not, one_of, or};
use crate::panel::{Dashboard, Figure, Search, View, count_of, max, min};

/// All dashboards.
pub fn dashboards() -> Vec<Dashboard> {
    vec![
        operations::operations_dashboard(),
        operations::failures_dashboard(),
        operations::privileged_dashboard(),
        one::key(),
        one::actor(),
        coverage::coverage(),
    ]
}

/// Phases of records of an operation that another record tells the end of.
const OPENINGS: [&str; 5] = ["RequestReceived", "ResponseStarted", "first", "intent", "request"];

/// Answers that say that somebody may not do what he asked for.
const DENIALS: [&str; 8] = [
    "AccessDenied",
    "AccessDeniedException",
    "Client.UnauthorizedOperation",
    "Forbidden",
    "KMS.AccessDeniedException",
    "Unauthorized",
    "UnauthorizedAccess",
    "UnauthorizedOperation",
];

/// Action classes that only few may use.
const PRIVILEGED: [&str; 10] = [
    "audit-control",
    "destroy",
    "schedule-deletion",
    "cancel-deletion",
    "disable",
    "export",
    "import",
    "policy-change",
    "grant",
    "administer",
];

/// What the SQL of panels calls things: columns of the tables `events` and `undated` beside those of the archive.
pub const TERMS: &str = "
    coalesce(keytrail_phase, '') NOT IN ('RequestReceived', 'ResponseStarted', 'first', 'intent', 'request') AS operation,
    keytrail_action_class IS NOT NULL AND operation AS key_operation,
    coalesce(event_outcome, '') = 'failure' AND operation AS failed,
    operation AND (coalesce(keytrail_policy_decision, '') = 'deny'
        OR coalesce(error_code, '') IN ('AccessDenied', 'AccessDeniedException', 'Client.UnauthorizedOperation', 'Forbidden',
            'KMS.AccessDeniedException', 'Unauthorized', 'UnauthorizedAccess', 'UnauthorizedOperation')) AS denied,
    operation AND coalesce(CASE dataset
        WHEN 'aws.cloudtrail' THEN keytrail_actor_type = 'Root' AND keytrail_actor_invoked_by IS NULL
            AND event_code IS DISTINCT FROM 'AwsServiceEvent'
        WHEN 'vault.audit' THEN list_contains(keytrail_actor_policies, 'root')
        WHEN 'kubernetes.audit' THEN list_contains(keytrail_actor_policies, 'system:masters') END, false) AS root,
    operation AND coalesce(keytrail_action_class, '') IN ('audit-control', 'destroy', 'schedule-deletion', 'cancel-deletion',
        'disable', 'export', 'import', 'policy-change', 'grant', 'administer') AS special,
    root OR special AS privileged,
    epoch_ms(timestamp) AS ms,
    epoch_ms(event_ingested) AS read_ms";

/// The record that counts its operation.
fn operation() -> Filter {
    not(one_of("keytrail.phase", &OPENINGS))
}

/// Something was done with a key.
fn key_operation() -> Filter {
    and([has("keytrail.action.class"), operation()])
}

/// It failed.
fn failed() -> Filter {
    and([is("event.outcome", "failure"), operation()])
}

/// Somebody was not let.
fn denied() -> Filter {
    and([or([is("keytrail.policy.decision", "deny"), one_of("error.code", &DENIALS)]), operation()])
}

/// A root identity did it.
fn root() -> Filter {
    let aws = [
        is("event.dataset", "aws.cloudtrail"),
        is("keytrail.actor.type", "Root"),
        not(has("keytrail.actor.invoked_by")),
        not(is("event.code", "AwsServiceEvent")),
    ];
    let vault = [is("event.dataset", "vault.audit"), is("keytrail.actor.policies", "root")];
    let kubernetes =
        [is("event.dataset", "kubernetes.audit"), is("keytrail.actor.policies", "system:masters")];
    and([or([and(aws), and(vault), and(kubernetes)]), operation()])
}

/// Of a class that only few may use.
fn special() -> Filter {
    and([one_of("keytrail.action.class", &PRIVILEGED), operation()])
}

/// As the weekly report has it: by a root identity, or of such a class.
fn privileged() -> Filter {
    or([root(), special()])
}

/// How many failed.
fn failures() -> Figure {
    count_of("failures", "Failures", failed())
}

/// The first event.
fn first() -> Figure {
    min("first", "First", "@timestamp")
}

/// The last event.
fn last() -> Figure {
    max("last", "Last", "@timestamp")
}

/// Columns of most searches.
const WHAT: [&str; 7] = [
    "event.dataset",
    "user.name",
    "keytrail.action.class",
    "event.action",
    "keytrail.key.id",
    "event.outcome",
    "source.ip",
];

/// All saved searches.
pub fn searches() -> Vec<Search> {
    let search = |id, title, finds, filter, sql| Search {
        id,
        title,
        finds,
        view: View::Events,
        filter,
        columns: WHAT.to_vec(),
        by: "@timestamp",
        sql,
    };
    let all =
        search("keytrail-search-events", "all events", "Every event that has a time.", Filter::All, "true");
    let operations = search(
        "keytrail-search-key-operations",
        "key operations",
        "What was done with keys, one line for each operation.",
        key_operation(),
        "key_operation",
    );
    let failures = search(
        "keytrail-search-failures",
        "failures and denials",
        "Operations that failed, and those that somebody was not let do.",
        or([failed(), denied()]),
        "failed OR denied",
    );
    let privileged = search(
        "keytrail-search-privileged",
        "privileged operations",
        "Operations by root identities, and of action classes that only few may use.",
        privileged(),
        "privileged",
    );
    let keys = search(
        "keytrail-search-keys",
        "events of keys",
        "Every record that names a key, with the state and version that it tells.",
        has("keytrail.key.id"),
        "keytrail_key_id IS NOT NULL",
    );
    let columns = [
        "user.name",
        "keytrail.action.class",
        "event.action",
        "event.outcome",
        "keytrail.key.state",
        "keytrail.key.version",
        "keytrail.uid",
    ];
    vec![
        all,
        operations,
        Search {
            columns: [
                &WHAT[..],
                &["error.code", "error.message", "event.reason", "keytrail.policy.decision"],
            ]
            .concat(),
            ..failures
        },
        privileged,
        Search { columns: columns.to_vec(), ..keys },
        Search {
            id: "keytrail-search-undated",
            title: "events without a time",
            finds: "Events whose own time is missing, cannot be read or lies before 2006; newest read first.",
            view: View::Undated,
            filter: Filter::All,
            columns: vec![
                "event.dataset",
                "keytrail.source",
                "user.name",
                "event.action",
                "keytrail.input",
                "keytrail.uid",
            ],
            by: "event.ingested",
            sql: "true",
        },
    ]
}
