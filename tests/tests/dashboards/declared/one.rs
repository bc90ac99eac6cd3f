//! The life of one key, and what one actor does.

use super::*;
use crate::panel::{Panel, count, metric, over_time, table, time, unique, values};

/// Classes that change what a key is, or who may use it.
const CHANGES: [&str; 12] = [
    "create",
    "import",
    "rotate",
    "enable",
    "disable",
    "schedule-deletion",
    "cancel-deletion",
    "destroy",
    "export",
    "policy-change",
    "grant",
    "alias-change",
];

/// One key's life.
pub fn key() -> Dashboard {
    let all = || has("keytrail.key.id");
    let events = || count("events", "Events");
    Dashboard {
        id: "keytrail-one-key",
        title: "one key's life",
        answers: "Choose a key above: when it was made, used, rotated, disabled, given to others and destroyed, in which state \
                  and version it was, and who used it. Within one dataset a key has one id; Vault's needs its mount (key store), too.",
        from: "now-10y",
        controls: vec![
            ("Dataset", "event.dataset"),
            ("Key store or mount", "keytrail.key.store"),
            ("Key", "keytrail.key.id"),
        ],
        panels: vec![
            metric(
                "First event",
                all(),
                first(),
                "SELECT min(ms) AS first FROM events WHERE keytrail_key_id IS NOT NULL",
            ),
            metric(
                "Last event",
                all(),
                last(),
                "SELECT max(ms) AS last FROM events WHERE keytrail_key_id IS NOT NULL",
            ),
            metric(
                "Operations",
                and([all(), key_operation()]),
                count("operations", "Operations"),
                "SELECT count(*) AS operations FROM events WHERE key_operation AND keytrail_key_id IS NOT NULL",
            ),
            metric(
                "Failures",
                and([all(), failed()]),
                count("failures", "Failures"),
                "SELECT count(*) AS failures FROM events WHERE failed AND keytrail_key_id IS NOT NULL",
            ),
            over_time(
                "Operations over time, by action class",
                and([all(), key_operation()]),
                values("class", "Action class", "keytrail.action.class", 30),
                time(),
                "SELECT keytrail_action_class AS class, ms // 86400000 * 86400000 AS time, count(*) AS events
                 FROM events WHERE key_operation AND keytrail_key_id IS NOT NULL GROUP BY ALL",
            ),
            table(
                "What changed it",
                and([all(), one_of("keytrail.action.class", &CHANGES), operation()]),
                [
                    values("class", "Action class", "keytrail.action.class", 30),
                    values("outcome", "Outcome", "event.outcome", 5),
                ],
                [events(), first(), last()],
                "SELECT keytrail_action_class AS class, event_outcome AS outcome, count(*) AS events, min(ms) AS first,
                   max(ms) AS last
                 FROM events WHERE operation AND keytrail_key_id IS NOT NULL AND outcome IS NOT NULL
                   AND class IN ('create', 'import', 'rotate', 'enable', 'disable', 'schedule-deletion', 'cancel-deletion',
                     'destroy', 'export', 'policy-change', 'grant', 'alias-change')
                 GROUP BY ALL",
            ),
            table(
                "How it was used",
                and([all(), key_operation()]),
                [
                    values("class", "Action class", "keytrail.action.class", 30),
                    values("action", "Action", "event.action", 100),
                ],
                [count("operations", "Operations"), failures(), unique("actors", "Actors", "user.name"), last()],
                "SELECT keytrail_action_class AS class, event_action AS action, count(*) AS operations,
                   count(*) FILTER (failed) AS failures, count(DISTINCT user_name) AS actors, max(ms) AS last
                 FROM events WHERE key_operation AND keytrail_key_id IS NOT NULL AND action IS NOT NULL GROUP BY ALL",
            ),
            table(
                "States, as told after an event",
                all(),
                [values("state", "State", "keytrail.key.state", 20)],
                [events(), first(), last()],
                "SELECT keytrail_key_state AS state, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE keytrail_key_id IS NOT NULL AND state IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Versions",
                all(),
                [values("version", "Version", "keytrail.key.version", 50)],
                [events(), first(), last()],
                "SELECT keytrail_key_version AS version, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE keytrail_key_id IS NOT NULL AND version IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Who used it",
                and([all(), key_operation()]),
                [
                    values("actor", "Actor", "user.name", 100),
                    values("class", "Action class", "keytrail.action.class", 30),
                ],
                [count("operations", "Operations"), failures(), first(), last()],
                "SELECT user_name AS actor, keytrail_action_class AS class, count(*) AS operations,
                   count(*) FILTER (failed) AS failures, min(ms) AS first, max(ms) AS last
                 FROM events WHERE key_operation AND keytrail_key_id IS NOT NULL AND actor IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Names that it had",
                all(),
                [values("alias", "Alias", "keytrail.key.alias", 20)],
                [events(), first(), last()],
                "SELECT keytrail_key_alias AS alias, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE keytrail_key_id IS NOT NULL AND alias IS NOT NULL GROUP BY ALL
                 ORDER BY events DESC, alias LIMIT 20",
            ),
            Panel::search("Its events, newest first", "keytrail-search-keys"),
        ],
    }
}

/// One actor.
pub fn actor() -> Dashboard {
    let all = || has("user.name");
    let events = || count("events", "Events");
    Dashboard {
        id: "keytrail-one-actor",
        title: "one actor",
        answers: "Choose an actor above: what was done under that name, with which keys, from where, with which tools, in \
                  which sessions, and what failed.",
        from: "now-1y",
        controls: vec![
            ("Dataset", "event.dataset"),
            ("Actor", "user.name"),
            ("Person of the table of principals", "keytrail.actor.person"),
        ],
        panels: vec![
            metric("Events", all(), events(), "SELECT count(*) AS events FROM events WHERE user_name IS NOT NULL"),
            metric(
                "Failures",
                and([all(), failed()]),
                count("failures", "Failures"),
                "SELECT count(*) AS failures FROM events WHERE failed AND user_name IS NOT NULL",
            ),
            metric(
                "Keys",
                all(),
                unique("keys", "Keys", "keytrail.key.id"),
                "SELECT count(DISTINCT keytrail_key_id) AS keys FROM events WHERE user_name IS NOT NULL",
            ),
            metric(
                "Addresses",
                all(),
                unique("addresses", "Addresses", "source.ip"),
                "SELECT count(DISTINCT source_ip) AS addresses FROM events WHERE user_name IS NOT NULL",
            ),
            over_time(
                "Events over time, by dataset",
                all(),
                values("dataset", "Dataset", "event.dataset", 20),
                time(),
                "SELECT dataset, ms // 86400000 * 86400000 AS time, count(*) AS events
                 FROM events WHERE user_name IS NOT NULL GROUP BY ALL",
            ),
            table(
                "What was done",
                and([all(), operation()]),
                [
                    values("dataset", "Dataset", "event.dataset", 20),
                    values("action", "Action", "event.action", 300),
                ],
                [count("operations", "Operations"), failures(), last()],
                "SELECT dataset, event_action AS action, count(*) AS operations, count(*) FILTER (failed) AS failures,
                   max(ms) AS last
                 FROM events WHERE operation AND user_name IS NOT NULL AND action IS NOT NULL GROUP BY ALL",
            ),
            table(
                "With which keys",
                and([all(), key_operation()]),
                [
                    values("key", "Key", "keytrail.key.id", 100),
                    values("class", "Action class", "keytrail.action.class", 30),
                ],
                [count("operations", "Operations"), failures(), last()],
                "SELECT keytrail_key_id AS key, keytrail_action_class AS class, count(*) AS operations,
                   count(*) FILTER (failed) AS failures, max(ms) AS last
                 FROM events WHERE key_operation AND user_name IS NOT NULL AND key IS NOT NULL GROUP BY ALL",
            ),
            table(
                "From where",
                all(),
                [values("address", "Address", "source.address", 100)],
                [events(), first(), last()],
                "SELECT source_address AS address, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE user_name IS NOT NULL AND address IS NOT NULL GROUP BY ALL",
            ),
            table(
                "With which tools",
                all(),
                [values("agent", "User agent", "user_agent.original", 100)],
                [events(), first(), last()],
                "SELECT user_agent_original AS agent, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE user_name IS NOT NULL AND agent IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Sessions",
                all(),
                [values("session", "Session", "keytrail.actor.session", 100)],
                [events(), first(), last()],
                "SELECT keytrail_actor_session AS session, count(*) AS events, min(ms) AS first, max(ms) AS last
                 FROM events WHERE user_name IS NOT NULL AND session IS NOT NULL GROUP BY ALL",
            ),
            table(
                "Under which identities",
                all(),
                [
                    values("kind", "Kind", "keytrail.actor.type", 20),
                    values("arn", "ARN", "keytrail.actor.arn", 100),
                ],
                [events(), first(), last()],
                "SELECT keytrail_actor_type AS kind, keytrail_actor_arn AS arn, count(*) AS events, min(ms) AS first,
                   max(ms) AS last
                 FROM events WHERE user_name IS NOT NULL AND kind IS NOT NULL AND arn IS NOT NULL GROUP BY ALL",
            ),
            Panel::search("Events, newest first", "keytrail-search-events"),
        ],
    }
}
