//! Keys, operations, privileged operations, failures.

use maud::{Markup, html};

use super::{chart, count, median, optional, others, section, table, text, time};
use crate::model::{FailureRow, Failures, KeyRow, Keys, Operations, Privileged};

/// Keys.
pub fn keys(keys: &Keys) -> Markup {
    let mut heads = vec![("key", false)];
    if keys.inventory.is_some() {
        heads.push(("owner, purpose", false));
    }
    heads.extend([
        ("operations", true),
        ("failed", true),
        ("algorithm", false),
        ("state", false),
        ("first and last use", false),
        ("life", false),
    ]);
    let rows: Vec<Vec<Markup>> = keys
        .seen
        .iter()
        .map(|k| {
            let mut cells = vec![key(k)];
            if keys.inventory.is_some() {
                cells.push(html! { (optional(k.owner.as_ref())) @if let Some(purpose) = &k.purpose { br; span.small { (text(purpose)) } } });
            }
            cells.extend([
                html! { (count(k.operations)) },
                html! { (count(k.failures)) },
                optional(k.algorithm.as_ref()),
                optional(k.state.as_ref()),
                html! { (time(&k.first)) br; (time(&k.last)) },
                life(k),
            ]);
            cells
        })
        .collect();
    let unseen: Vec<Vec<Markup>> = keys
        .declared_unseen
        .iter()
        .map(|k| vec![text(&k.key), optional(k.owner.as_ref()), optional(k.purpose.as_ref())])
        .collect();
    section(
        "keys",
        html! {
            p {
                "Keys and secrets that events name since " (time(&keys.from)) "; operations are those of the week. "
                @match &keys.inventory {
                    Some(i) => { "The inventory " (text(&i.names.join(", "))) " declares " (count(i.keys)) " keys: " (count(keys.undeclared_count.unwrap_or_default())) " seen are not in it, " (count(keys.declared_unseen_count)) " of it were not seen." }
                    None => { strong { "No inventory is declared" } ", so nothing says which keys there should be." }
                }
            }
            @if rows.is_empty() { p { "No event names a key." } } @else { (table("Keys as seen in events", &heads, &rows)) }
            (others(&keys.others, "keys"))
            @if !unseen.is_empty() {
                (table("Declared keys that no event names", &[("key", false), ("owner", false), ("purpose", false)], &unseen))
                @if keys.declared_unseen_count > unseen.len() as u64 {
                    p.others { "And " (count(keys.declared_unseen_count - unseen.len() as u64)) " others." }
                }
            }
        },
    )
}

/// What happened to a key, in the order of the vocabulary.
fn life(k: &KeyRow) -> Markup {
    let dates = [
        ("created", &k.created),
        ("rotated", &k.rotated),
        ("deletion scheduled", &k.deletion_scheduled),
        ("destroyed", &k.destroyed),
    ];
    html! {
        @if dates.iter().all(|(_, at)| at.is_none()) { span.none { "–" } } @else {
            ul.life { @for (what, at) in dates { @if let Some(at) = at { li { (what) " " (time(at)) } } } }
        }
    }
}

fn key(k: &KeyRow) -> Markup {
    html! {
        (text(&k.key))
        @if let Some(alias) = k.alias.as_ref().filter(|a| **a != k.key) { br; span.small { (text(alias)) } }
        br; span.small { (text(&k.dataset)) }
        @if k.declared == Some(false) { br; span.chip.warn { "not declared" } }
    }
}

/// Key operations.
pub fn operations(operations: &Operations) -> Markup {
    let classes: Vec<Vec<Markup>> = operations
        .classes
        .iter()
        .map(|c| {
            vec![
                html! { (c.class) },
                html! { (count(c.operations)) },
                html! { (count(c.failures)) },
                median(c.median),
                chart::sparkline(&c.class, &c.before, c.operations),
            ]
        })
        .collect();
    let actors: Vec<Vec<Markup>> = operations
        .actors
        .iter()
        .map(|a| {
            vec![
                optional(a.actor.as_ref()),
                optional(a.account.as_ref()),
                text(&a.dataset),
                html! { (count(a.operations)) },
                html! { (count(a.failures)) },
                time(&a.last),
            ]
        })
        .collect();
    section(
        "operations",
        html! {
            p { (count(operations.total)) " operations with keys and secrets, " (count(operations.failures)) " of them failed." }
            @if !classes.is_empty() {
                (table("By class", &[("class", false), ("operations", true), ("failed", true), ("median of 4 weeks", true), ("12 weeks and this one", false)], &classes))
            }
            @if !actors.is_empty() {
                (table("By actor", &[("actor", false), ("account", false), ("dataset", false), ("operations", true), ("failed", true), ("last", false)], &actors))
            }
            (others(&operations.others, "actors"))
            p.small { "By key: see " a href="#keys" { "Keys" } "." }
        },
    )
}

/// Privileged operations.
pub fn privileged(privileged: &Privileged) -> Markup {
    let kinds: Vec<Vec<Markup>> = privileged
        .kinds
        .iter()
        .map(|k| {
            vec![
                html! { (k.kind) },
                html! { (count(k.operations)) },
                html! { (count(k.failures)) },
                median(k.median),
            ]
        })
        .collect();
    let groups: Vec<Vec<Markup>> = privileged
        .groups
        .iter()
        .map(|g| {
            vec![
                html! { (time(&g.first)) @if g.operations > 1 { br; span.small { "to " (time(&g.last)) } } },
                html! { (g.kind) },
                html! { (optional(g.actor.as_ref())) br; span.small { (optional(g.account.as_ref())) } },
                html! { (text(&g.action)) br; span.small { (text(&g.dataset)) } },
                optional(g.key.as_ref()),
                optional(g.outcome.as_ref()),
                html! { (count(g.operations)) },
                html! { code.uid { (g.uid) } },
            ]
        })
        .collect();
    let heads = [
        ("when", false),
        ("kind", false),
        ("who", false),
        ("what", false),
        ("key", false),
        ("outcome", false),
        ("times", true),
        ("first event", false),
    ];
    section(
        "privileged",
        html! {
            (table("By kind", &[("kind", false), ("operations", true), ("failed", true), ("median of 4 weeks", true)], &kinds))
            @if groups.is_empty() { p { "There was none." } } @else {
                (table("Who did what with which key", &heads, &groups))
                p.small { "Operations that differ in their time alone are one line. " code { "keytrail explain UID" } " shows an event, its bytes and its proof." }
            }
            (others(&privileged.others, "groups"))
        },
    )
}

/// Failures.
pub fn failures(failures: &Failures) -> Markup {
    section(
        "failures",
        html! {
            @if failures.sources.is_empty() { p { "No operation failed." } } @else {
                (failing("Failures by source", "source", &failures.sources))
                (failing("Failures by actor", "actor", &failures.actors))
                (left("actors", failures.other_actors.names))
                (failing("Failures by key", "key", &failures.keys))
                (left("keys", failures.other_keys.names))
            }
        },
    )
}

fn left(what: &str, names: Option<u64>) -> Markup {
    html! {
        @match names {
            Some(0) => {}
            Some(n) => p.others { "And " (count(n)) " other " (what) " with failures." }
            None => p.others.warn { "There are more " (what) " than can be counted by name." }
        }
    }
}

fn failing(caption: &str, what: &str, rows: &[FailureRow]) -> Markup {
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|r| {
            vec![
                html! { (optional(r.name.as_ref())) @if let Some(account) = &r.account { br; span.small { (text(account)) } } },
                text(&r.dataset),
                html! { (count(r.failures)) },
                html! { (count(r.operations)) },
                median(r.median),
                chart::sparkline(r.name.as_deref().unwrap_or("failures"), &r.before, r.failures),
            ]
        })
        .collect();
    let heads = [
        (what, false),
        ("dataset", false),
        ("failed", true),
        ("of operations", true),
        ("median of 4 weeks", true),
        ("4 weeks and this one", false),
    ];
    html! { @if !rows.is_empty() { (table(caption, &heads, &rows)) } }
}
