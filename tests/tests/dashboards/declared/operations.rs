//! What was done with keys, what failed, and what only few may do.

use super::*;
use crate::panel::{Bucket, By, Panel, count, metric, over_time, table, time, unique, values};

fn class(most: u64) -> Bucket {
    values("class", "Action class", "keytrail.action.class", most)
}

fn dataset() -> Bucket {
    values("dataset", "Dataset", "event.dataset", 20)
}

fn actor(most: u64) -> Bucket {
    values("actor", "Actor", "user.name", most)
}

fn key(most: u64) -> Bucket {
    values("key", "Key", "keytrail.key.id", most)
}

fn action(most: u64) -> Bucket {
    values("action", "Action", "event.action", most)
}

fn operations_of() -> Figure {
    count("operations", "Operations")
}

fn keys() -> Figure {
    unique("keys", "Keys", "keytrail.key.id")
}

fn actors() -> Figure {
    unique("actors", "Actors", "user.name")
}

/// Key operations.
pub fn operations_dashboard() -> Dashboard {
    let all = key_operation;
    Dashboard {
        id: "keytrail-key-operations",
        title: "key operations",
        answers: "What is done with keys: how much, with which, by whom, in which source, with what algorithms.",
        from: "now-30d",
        controls: vec![("Dataset", "event.dataset"), ("Action class", "keytrail.action.class")],
        panels: vec![
            metric(
                "Key operations",
                all(),
                operations_of(),
                "SELECT count(*) AS operations FROM events WHERE key_operation",
            ),
            metric(
                "Keys",
                all(),
                keys(),
                "SELECT count(DISTINCT keytrail_key_id) AS keys FROM events WHERE key_operation",
            ),
            metric(
                "Actors",
                all(),
                actors(),
                "SELECT count(DISTINCT user_name) AS actors FROM events WHERE key_operation",
            ),
            metric(
                "Failures",
                all(),
                failures(),
                "SELECT count(*) FILTER (failed) AS failures FROM events WHERE key_operation",
            ),
            over_time(
                "Operations over time, by action class",
                all(),
                class(30),
                time(),
                "SELECT keytrail_action_class AS class, ms // 86400000 * 86400000 AS time, count(*) AS events
                 FROM events WHERE key_operation GROUP BY ALL",
            ),
            table(
                "Sources",
                all(),
                [dataset()],
                [operations_of(), failures(), keys(), actors(), last()],
                "SELECT dataset, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   count(DISTINCT keytrail_key_id) AS keys, count(DISTINCT user_name) AS actors, max(ms) AS last
                 FROM events WHERE key_operation GROUP BY ALL",
            ),
            table(
                "Keys used most",
                all(),
                [key(25)],
                [operations_of(), failures(), actors(), first(), last()],
                "SELECT keytrail_key_id AS key, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   count(DISTINCT user_name) AS actors, min(ms) AS first, max(ms) AS last
                 FROM events WHERE key_operation AND key IS NOT NULL GROUP BY ALL ORDER BY operations DESC, key LIMIT 25",
            ),
            table(
                "Actors who do most",
                all(),
                [actor(25)],
                [operations_of(), failures(), keys(), last()],
                "SELECT user_name AS actor, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   count(DISTINCT keytrail_key_id) AS keys, max(ms) AS last
                 FROM events WHERE key_operation AND actor IS NOT NULL GROUP BY ALL ORDER BY operations DESC, actor LIMIT 25",
            ),
            table(
                "Algorithms",
                all(),
                [values("algorithm", "Algorithm", "keytrail.key.algorithm", 20)],
                [operations_of(), keys(), last()],
                "SELECT keytrail_key_algorithm AS algorithm, count(*) AS operations, count(DISTINCT keytrail_key_id) AS keys,
                   max(ms) AS last
                 FROM events WHERE key_operation AND algorithm IS NOT NULL GROUP BY ALL
                 ORDER BY operations DESC, algorithm LIMIT 20",
            ),
            table(
                "Keys of the inventory, by tier and owner",
                all(),
                [
                    values("tier", "Tier", "keytrail.key.tier", 10),
                    values("owner", "Owner", "keytrail.key.owner", 50),
                ],
                [operations_of(), failures(), keys(), last()],
                "SELECT keytrail_key_tier AS tier, keytrail_key_owner AS owner, count(*) AS operations,
                   count(*) FILTER (failed) AS failures, count(DISTINCT keytrail_key_id) AS keys, max(ms) AS last
                 FROM events WHERE key_operation AND tier IS NOT NULL AND owner IS NOT NULL GROUP BY ALL",
            )
            .wide(),
            Panel::search("Key operations, newest first", "keytrail-search-key-operations"),
        ],
    }
}

/// Failures and denials.
pub fn failures_dashboard() -> Dashboard {
    let denials = || count("denials", "Denials");
    let all = || count("failures", "Failures");
    Dashboard {
        id: "keytrail-failures",
        title: "failures and denials",
        answers: "What fails and who is not let: since when, with which error, who, which keys, from where.",
        from: "now-30d",
        controls: vec![("Dataset", "event.dataset"), ("Actor", "user.name")],
        panels: vec![
            metric(
                "Operations",
                operation(),
                operations_of(),
                "SELECT count(*) AS operations FROM events WHERE operation",
            ),
            metric("Failures", failed(), all(), "SELECT count(*) AS failures FROM events WHERE failed"),
            metric("Denials", denied(), denials(), "SELECT count(*) AS denials FROM events WHERE denied"),
            metric(
                "Actors who fail",
                failed(),
                actors(),
                "SELECT count(DISTINCT user_name) AS actors FROM events WHERE failed",
            ),
            over_time(
                "Failures over time, by dataset",
                failed(),
                dataset(),
                time(),
                "SELECT dataset, ms // 86400000 * 86400000 AS time, count(*) AS events FROM events WHERE failed GROUP BY ALL",
            ),
            over_time(
                "Denials over time, by dataset",
                denied(),
                dataset(),
                time(),
                "SELECT dataset, ms // 86400000 * 86400000 AS time, count(*) AS events FROM events WHERE denied GROUP BY ALL",
            ),
            table(
                "Errors",
                failed(),
                [dataset(), values("code", "Error", "error.code", 50)],
                [all(), actors(), first(), last()],
                "SELECT dataset, error_code AS code, count(*) AS failures, count(DISTINCT user_name) AS actors,
                   min(ms) AS first, max(ms) AS last
                 FROM events WHERE failed AND code IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Actions that fail",
                failed(),
                [dataset(), action(100)],
                [all(), count_of("denials", "Denials", denied()), last()],
                "SELECT dataset, event_action AS action, count(*) AS failures, count(*) FILTER (denied) AS denials,
                   max(ms) AS last
                 FROM events WHERE failed AND action IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Who fails",
                failed(),
                [actor(25)],
                [all(), count_of("denials", "Denials", denied()), unique("actions", "Actions", "event.action"), last()],
                "SELECT user_name AS actor, count(*) AS failures, count(*) FILTER (denied) AS denials,
                   count(DISTINCT event_action) AS actions, max(ms) AS last
                 FROM events WHERE failed AND actor IS NOT NULL GROUP BY ALL ORDER BY failures DESC, actor LIMIT 25",
            ),
            table(
                "Keys with which it fails",
                failed(),
                [key(25)],
                [all(), actors(), last()],
                "SELECT keytrail_key_id AS key, count(*) AS failures, count(DISTINCT user_name) AS actors, max(ms) AS last
                 FROM events WHERE failed AND key IS NOT NULL GROUP BY ALL ORDER BY failures DESC, key LIMIT 25",
            ),
            table(
                "Who was not let, and what",
                denied(),
                [actor(50), action(50)],
                [denials(), unique("keys", "Keys", "keytrail.key.id"), last()],
                "SELECT user_name AS actor, event_action AS action, count(*) AS denials,
                   count(DISTINCT keytrail_key_id) AS keys, max(ms) AS last
                 FROM events WHERE denied AND actor IS NOT NULL AND action IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Addresses",
                failed(),
                [values("address", "Address", "source.ip", 25)],
                [all(), actors(), last()],
                "SELECT source_ip AS address, count(*) AS failures, count(DISTINCT user_name) AS actors, max(ms) AS last
                 FROM events WHERE failed AND address IS NOT NULL GROUP BY ALL",
            ),
            Panel::search("Failures and denials, newest first", "keytrail-search-failures"),
        ],
    }
}

/// Privileged operations.
pub fn privileged_dashboard() -> Dashboard {
    let kinds = || {
        let classes = PRIVILEGED
            .into_iter()
            .map(|class| (class, and([is("keytrail.action.class", class), operation()])));
        let filters = std::iter::once(("by a root identity", root())).chain(classes).collect();
        Bucket { name: "kind", label: "Kind", by: By::Filters(filters) }
    };
    let declared = || and([is("keytrail.actor.privileged", "true"), operation()]);
    Dashboard {
        id: "keytrail-privileged",
        title: "privileged operations",
        answers: "What only few may do, and what root identities do: destroy, export, import, disable, grant, change policies, \
                  administer, stop recording.",
        from: "now-90d",
        controls: vec![("Dataset", "event.dataset"), ("Actor", "user.name")],
        panels: vec![
            metric(
                "Privileged operations",
                privileged(),
                operations_of(),
                "SELECT count(*) AS operations FROM events WHERE privileged",
            ),
            metric(
                "By root identities",
                root(),
                operations_of(),
                "SELECT count(*) AS operations FROM events WHERE root",
            ),
            metric(
                "Actors",
                privileged(),
                actors(),
                "SELECT count(DISTINCT user_name) AS actors FROM events WHERE privileged",
            ),
            metric(
                "By callers who are declared privileged",
                declared(),
                operations_of(),
                "SELECT count(*) AS operations FROM events WHERE operation AND keytrail_actor_privileged",
            ),
            table(
                "Kinds: an operation by a root identity counts in its class, too",
                privileged(),
                [kinds()],
                [operations_of(), failures(), actors(), first(), last()],
                "SELECT kind, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   count(DISTINCT user_name) AS actors, min(ms) AS first, max(ms) AS last
                 FROM (SELECT 'by a root identity' AS kind, * FROM events WHERE root
                   UNION ALL SELECT keytrail_action_class AS kind, * FROM events WHERE special) AS kinds GROUP BY ALL",
            ),
            table(
                "Who, of which class",
                privileged(),
                [actor(50), class(30)],
                [operations_of(), failures(), keys(), last()],
                "SELECT user_name AS actor, keytrail_action_class AS class, count(*) AS operations,
                   count(*) FILTER (failed) AS failures, count(DISTINCT keytrail_key_id) AS keys, max(ms) AS last
                 FROM events WHERE privileged AND actor IS NOT NULL AND class IS NOT NULL GROUP BY ALL",
            ),
            over_time(
                "Over time, by action class",
                special(),
                class(30),
                time(),
                "SELECT keytrail_action_class AS class, ms // 86400000 * 86400000 AS time, count(*) AS events
                 FROM events WHERE special GROUP BY ALL",
            ),
            table(
                "What root identities did",
                root(),
                [dataset(), actor(50), action(200)],
                [operations_of(), last()],
                "SELECT dataset, user_name AS actor, event_action AS action, count(*) AS operations, max(ms) AS last
                 FROM events WHERE root AND actor IS NOT NULL AND action IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Recording started, stopped, changed",
                and([is("keytrail.action.class", "audit-control"), operation()]),
                [action(50), actor(50)],
                [operations_of(), first(), last()],
                "SELECT event_action AS action, user_name AS actor, count(*) AS operations, min(ms) AS first, max(ms) AS last
                 FROM events WHERE operation AND keytrail_action_class = 'audit-control' AND actor IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Callers who are declared privileged",
                declared(),
                [values("person", "Person", "keytrail.actor.person", 50), dataset()],
                [operations_of(), failures(), keys(), last()],
                "SELECT keytrail_actor_person AS person, dataset, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   count(DISTINCT keytrail_key_id) AS keys, max(ms) AS last
                 FROM events WHERE operation AND keytrail_actor_privileged AND person IS NOT NULL GROUP BY ALL",
            )
            .wide(),
            Panel::search("Privileged operations, newest first", "keytrail-search-privileged"),
        ],
    }
}
