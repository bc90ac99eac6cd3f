//! The queries that give a report's tables, as the report prints them: for DuckDB, in the data folder.
//!
//! They say in SQL what [`super::fields`] and [`super::day`] say in Rust. A test runs exactly these texts on the
//! Parquet files and compares every number.

use keytrail_model::ActionClass;
use keytrail_model::time::day_name;
use keytrail_report::model::{Definition, Query, WEEKS_BEFORE, WEEKS_OF_MEDIAN};

use super::fields::{Kind, OPENINGS};
use super::names;
use super::tables::{ACTORS, FAILURES, GROUPS, KEYS};
use super::week::Week;

/// What makes the table `events` of a report's own list of objects, in the file at `path` in the data folder.
pub fn setup(path: &str) -> Vec<String> {
    let openings = list(OPENINGS.into_iter());
    let classes = list(Kind::ALL.into_iter().filter(|k| *k != Kind::Root).map(Kind::name));
    vec![
        format!(
            "SET VARIABLE objects = (SELECT list(object.key)\n  FROM (SELECT unnest(method.objects) AS object\n    \
             FROM read_json('{path}', maximum_object_size = 1000000000)))"
        ),
        format!(
            "CREATE VIEW events AS SELECT *,\n  \
             date_trunc('week', try_cast(day AS DATE))::DATE AS week,\n  \
             coalesce(keytrail_phase, '') NOT IN ({openings}) AS operation,\n  \
             coalesce(event_outcome = 'failure', false) AS failed,\n  \
             coalesce(cloud_account_id, cloud_project_id, orchestrator_cluster_name) AS account,\n  \
             coalesce(user_name, keytrail_actor_arn, user_id) AS actor,\n  \
             CASE WHEN keytrail_key_id IS NULL THEN keytrail_key_alias\n    \
             WHEN dataset = 'vault.audit' THEN concat(keytrail_key_store, keytrail_key_id)\n    \
             ELSE keytrail_key_id END AS key,\n  \
             CASE WHEN dataset = 'aws.cloudtrail' AND keytrail_actor_type = 'Root'\n      \
             AND keytrail_actor_invoked_by IS NULL AND event_code IS DISTINCT FROM 'AwsServiceEvent' THEN 'root'\n    \
             WHEN dataset = 'vault.audit' AND list_contains(keytrail_actor_policies, 'root') THEN 'root'\n    \
             WHEN dataset = 'kubernetes.audit' AND list_contains(keytrail_actor_policies, 'system:masters') THEN 'root'\n    \
             WHEN keytrail_action_class IN ({classes})\n      THEN keytrail_action_class END AS kind\n\
             FROM read_parquet(getvariable('objects'), hive_partitioning = true,\n  \
             hive_types = {{'dataset': VARCHAR, 'day': VARCHAR}}, union_by_name = true)"
        ),
    ]
}

/// The queries of a week.
pub fn queries(week: Week) -> Vec<Query> {
    let monday = |back: usize| {
        let day = week.back(i64::try_from(back).unwrap_or_default()).days().next().unwrap_or_default();
        format!("DATE '{}'", day_name(day))
    };
    let this = format!("week = {}", monday(0));
    let since = format!("week BETWEEN {} AND {}", monday(WEEKS_BEFORE), monday(0));
    let of_median = format!("week BETWEEN {} AND {}", monday(WEEKS_OF_MEDIAN), monday(0));
    let (from, to) = (week.from().0 / 1_000_000, week.to().0 / 1_000_000);
    let query = |name: &str, gives: &str, sql: String| Query { name: name.into(), gives: gives.into(), sql };
    let weeks_before = || (1..=WEEKS_OF_MEDIAN).rev().map(|back| (back, monday(back)));
    let failed: String = weeks_before()
        .map(|(back, monday)| {
            format!(",\n    count(*) FILTER (WHERE week = {monday} AND failed) AS failed_{back}")
        })
        .collect();
    let before: String = weeks_before()
        .map(|(back, monday)| {
            format!(
                ",\n  CASE WHEN EXISTS (FROM heard WHERE heard.dataset = counts.dataset AND heard.week = {monday})\n    \
                 THEN failed_{back} END AS before_{back}"
            )
        })
        .collect();
    let failures = |names: &[&str], only: &str, limit: &str| {
        let (columns, order) = (names.join(", "), names.join(" NULLS FIRST, "));
        format!(
            "WITH heard AS (SELECT DISTINCT dataset, week FROM events),\ncounts AS (\n  SELECT dataset, {columns},\n    \
             count(*) FILTER (WHERE {this}) AS operations,\n    \
             count(*) FILTER (WHERE {this} AND failed) AS failures{failed}\n  \
             FROM events WHERE operation AND {of_median}{only} GROUP BY ALL)\n\
             SELECT dataset, {columns}, operations, failures{before}\nFROM counts WHERE failures > 0\n\
             ORDER BY failures DESC, dataset, {order} NULLS FIRST{limit}"
        )
    };
    let shown = format!(" LIMIT {FAILURES}");
    vec![
        query(
            "figures",
            "/summary/figures",
            format!(
                "SELECT week, count(*) AS events,\n  count(*) FILTER (WHERE operation) AS operations,\n  \
                 count(*) FILTER (WHERE operation AND keytrail_action_class IS NOT NULL) AS key_operations,\n  \
                 count(*) FILTER (WHERE operation AND failed) AS failures,\n  \
                 count(*) FILTER (WHERE operation AND kind IS NOT NULL) AS privileged,\n  \
                 count(DISTINCT (dataset, account, actor)) FILTER (WHERE operation) AS actors,\n  \
                 count(DISTINCT (dataset, key))\n    \
                 FILTER (WHERE operation AND keytrail_action_class IS NOT NULL AND key IS NOT NULL) AS keys\n\
                 FROM events WHERE {since} GROUP BY week ORDER BY week"
            ),
        ),
        query(
            "sources",
            "/coverage/sources",
            format!(
                "SELECT dataset, keytrail_source, count(*) AS events,\n  \
                 count(*) FILTER (WHERE keytrail_undeclared) AS undeclared_events,\n  \
                 count(*) FILTER (WHERE operation) AS operations,\n  \
                 count(*) FILTER (WHERE operation AND failed) AS failures,\n  \
                 min(timestamp) AS first, max(timestamp) AS last\n\
                 FROM events WHERE {this} GROUP BY ALL ORDER BY dataset, keytrail_source"
            ),
        ),
        query(
            "silence",
            "/coverage/sources/*/longest_silence_seconds",
            format!(
                "WITH seconds AS (\n  SELECT dataset, keytrail_source, epoch_us(timestamp) // 1000000 AS second FROM events WHERE {this}\n  \
                 UNION ALL SELECT DISTINCT dataset, keytrail_source, unnest([{from}, {to}]) FROM events WHERE {this}),\n\
                 gaps AS (SELECT dataset, keytrail_source,\n    \
                 second - lag(second) OVER (PARTITION BY dataset, keytrail_source ORDER BY second) AS gap FROM seconds)\n\
                 SELECT dataset, keytrail_source, max(gap) AS longest_silence_seconds\nFROM gaps GROUP BY ALL ORDER BY dataset, keytrail_source"
            ),
        ),
        query(
            "days",
            "/coverage/sources/*/days",
            format!(
                "WITH seconds AS (\n  SELECT dataset, keytrail_source, day, epoch_us(timestamp) // 1000000 AS second FROM events WHERE {this}\n  \
                 UNION ALL SELECT DISTINCT dataset, keytrail_source, day,\n    \
                 unnest([epoch(day::DATE)::BIGINT, epoch(day::DATE)::BIGINT + 86400]) FROM events WHERE {this}),\n\
                 gaps AS (SELECT dataset, keytrail_source, day,\n    \
                 second - lag(second) OVER (PARTITION BY dataset, keytrail_source, day ORDER BY second) AS gap FROM seconds)\n\
                 SELECT dataset, keytrail_source, day, events, failures, max(gap) AS longest_silence_seconds\n\
                 FROM gaps JOIN (SELECT dataset, keytrail_source, day, count(*) AS events,\n    \
                 count(*) FILTER (WHERE operation AND failed) AS failures\n  FROM events WHERE {this} GROUP BY ALL)\n  \
                 USING (dataset, keytrail_source, day)\nGROUP BY ALL ORDER BY dataset, keytrail_source, day"
            ),
        ),
        query(
            "undated",
            "/coverage/undated",
            "SELECT keytrail_source, dataset, count(*) AS events\nFROM events WHERE day = 'undated' GROUP BY ALL ORDER BY dataset, keytrail_source".into(),
        ),
        query(
            "classes",
            "/operations/classes",
            format!(
                "SELECT keytrail_action_class AS class, week, count(*) AS operations, count(*) FILTER (WHERE failed) AS failures\n\
                 FROM events WHERE operation AND keytrail_action_class IS NOT NULL AND {since}\nGROUP BY ALL ORDER BY class, week"
            ),
        ),
        query(
            "actors",
            "/operations/actors",
            format!(
                "SELECT dataset, account, actor, count(*) AS operations,\n  count(*) FILTER (WHERE failed) AS failures, max(timestamp) AS last\n\
                 FROM events WHERE operation AND keytrail_action_class IS NOT NULL AND {this}\n\
                 GROUP BY ALL ORDER BY operations DESC, dataset, account NULLS FIRST, actor NULLS FIRST LIMIT {ACTORS}"
            ),
        ),
        query("keys", "/keys/seen", keys(&this, &since)),
        query(
            "privileged_kinds",
            "/privileged/kinds",
            format!(
                "SELECT kind, week, count(*) AS operations, count(*) FILTER (WHERE failed) AS failures\n\
                 FROM events WHERE operation AND kind IS NOT NULL AND {of_median}\nGROUP BY ALL ORDER BY kind, week"
            ),
        ),
        query(
            "privileged",
            "/privileged/groups",
            format!(
                "SELECT kind, dataset, account, actor, coalesce(event_action, '') AS action, key, event_outcome AS outcome,\n  \
                 count(*) AS operations, min(timestamp) AS first, max(timestamp) AS last,\n  \
                 first(keytrail_uid ORDER BY timestamp, keytrail_uid) AS uid\n\
                 FROM events WHERE operation AND kind IS NOT NULL AND {this}\nGROUP BY ALL ORDER BY first, uid LIMIT {GROUPS}"
            ),
        ),
        query("failures_by_source", "/failures/sources", failures(&["keytrail_source"], "", "")),
        query("failures_by_actor", "/failures/actors", failures(&["account", "actor"], "", &shown)),
        query(
            "failures_by_key",
            "/failures/keys",
            failures(&["key"], " AND keytrail_action_class IS NOT NULL AND key IS NOT NULL", &shown),
        ),
    ]
}

fn keys(this: &str, since: &str) -> String {
    let good = |class: &str| format!("keytrail_action_class = '{class}' AND NOT failed");
    let newest = |column: &str| {
        format!("last({column} ORDER BY timestamp, keytrail_uid) FILTER (WHERE {column} IS NOT NULL)")
    };
    format!(
        "SELECT dataset, key, {} AS alias,\n  {} AS algorithm,\n  {} AS state,\n  \
         count(*) FILTER (WHERE {this}) AS operations,\n  count(*) FILTER (WHERE {this} AND failed) AS failures,\n  \
         min(timestamp) AS first, max(timestamp) AS last,\n  \
         min(timestamp) FILTER (WHERE keytrail_action_class IN ('create', 'import') AND NOT failed) AS created,\n  \
         max(timestamp) FILTER (WHERE {}) AS rotated,\n  \
         max(timestamp) FILTER (WHERE {}) AS scheduled,\n  max(timestamp) FILTER (WHERE {}) AS cancelled,\n  \
         CASE WHEN cancelled IS NULL OR cancelled < scheduled THEN scheduled END AS deletion_scheduled,\n  \
         max(timestamp) FILTER (WHERE {}) AS destroyed\n\
         FROM events WHERE operation AND keytrail_action_class IS NOT NULL AND key IS NOT NULL AND {since}\n\
         GROUP BY dataset, key ORDER BY operations DESC, dataset, key LIMIT {KEYS}",
        newest("keytrail_key_alias"),
        newest("keytrail_key_algorithm"),
        newest("keytrail_key_state"),
        good(ActionClass::Rotate.name()),
        good(ActionClass::ScheduleDeletion.name()),
        good(ActionClass::CancelDeletion.name()),
        good(ActionClass::Destroy.name()),
    )
}

/// Terms.
pub fn definitions() -> Vec<Definition> {
    let define = |term: &str, meaning: String| Definition { term: term.into(), meaning };
    vec![
        define("week", "ISO 8601, UTC, from Monday 00:00 to the next Monday 00:00, which is not part of it; by the events' own time".into()),
        define("event", "a row of the archive objects that are listed here: one record of a source, each content once".into()),
        define("operation", format!("an event that tells how something ended: its phase is none of {}. Where two audit devices of one Vault are read, each of them counts; a record of a batch counts once", OPENINGS.join(", "))),
        define("key operation", "an operation with an action class of key management; secrets in stores of secrets count, too".into()),
        define("failure", "an operation whose outcome is `failure`: denied, refused or broken off".into()),
        define("actor", "the name of the caller, else its ARN, else its id, within dataset and account (project, cluster). Records of service events may name nobody".into()),
        define("key", "the key's id (of Vault: its mount and name), else its alias, within its dataset. The second key of a re-encryption is not counted".into()),
        define("declared key", "one that the inventory of the cover has under its id, the last part of its ARN or an alias, capital letters aside; which keys are not declared, and which declared ones no event names, follows from that table and not from a query".into()),
        define("privileged operation", format!("an operation by a root identity (the root user of an AWS account, a Vault token with the policy `root`, a member of `system:masters`), else one of a class of {}", Kind::ALL.into_iter().skip(1).map(Kind::name).collect::<Vec<_>>().join(", "))),
        define("longest silence", "the longest time between two seconds with events, and to the start and end of the week or day".into()),
        define("median", format!("of the {WEEKS_OF_MEDIAN} weeks before, the mean of the middle two rounded down; none where the archive has no event of the dataset (of summary and classes: no event at all) in one of them: there is no history")),
        define("gap", "numbers that are missing between two numbered records, as `keytrail verify` finds them. Only key operations of the platform's own service and the audit log of CloudHSM are numbered".into()),
        define("late", "sealed after the checkpoint of the report of its week; counted by the log's entries of the kind `add`, from the size of the report made before to this one's".into()),
        define("worth a look", "an actor with more than 20 failures and more than three times its median is named in the summary; so is a source that was silent for longer than declared, or that was heard in the four weeks before and not in this one".into()),
    ]
}

/// What bounds the tables.
pub fn bounds() -> Vec<Definition> {
    let define = |term: &str, n: usize| Definition { term: term.into(), meaning: n.to_string() };
    vec![
        define(
            "names that a table of a week is counted by; with more of them it names none, and says so",
            names::LIMIT,
        ),
        define("actors shown", ACTORS),
        define("keys shown", KEYS),
        define("groups of privileged operations shown", GROUPS),
        define("failing actors and keys shown, each", FAILURES),
    ]
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", ")
}
