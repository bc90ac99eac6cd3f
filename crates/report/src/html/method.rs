//! Integrity, late data, and how everything was computed.

use maud::{Markup, html};

use super::{count, section, table, text};
use crate::model::{FindingRow, Integrity, Late, LateRow, Method};

/// What `verify` found.
pub fn integrity(integrity: &Integrity) -> Markup {
    let codes: Vec<Vec<Markup>> = integrity
        .codes
        .iter()
        .map(|c| {
            let means =
                if c.informational { "what sources sent or what was decided" } else { "does not fit" };
            vec![html! { code { (c.code) } }, html! { (count(c.count)) }, html! { (means) }]
        })
        .collect();
    section(
        "integrity",
        html! {
            p {
                @if integrity.good { strong { "Good" } } @else { strong.warn { "Not good" } }
                ": " (count(integrity.objects)) " objects and " (count(integrity.rows)) " rows were recomputed from their bytes up to the signed head. Checked: " (integrity.scope) "."
            }
            @if !codes.is_empty() {
                (table("Findings by code", &[("code", false), ("count", true), ("meaning", false)], &codes))
            }
            (findings("Numbers that are missing", &integrity.gaps))
            (findings("Findings", &integrity.findings))
            @if integrity.more > 0 { p.others { "And " (count(integrity.more)) " others: keytrail verify names them." } }
            @if !integrity.not_checked.is_empty() {
                h3 { "Not checked" }
                ul { @for what in &integrity.not_checked { li { (text(what)) } } }
            }
        },
    )
}

fn findings(caption: &str, findings: &[FindingRow]) -> Markup {
    let rows: Vec<Vec<Markup>> = findings
        .iter()
        .map(|f| vec![html! { code { (f.code) } }, text(&f.element), text(&f.message)])
        .collect();
    html! { @if !rows.is_empty() { (table(caption, &[("code", false), ("about", false), ("what", false)], &rows)) } }
}

/// Events that were sealed after the report of their week.
pub fn late(late: &Late, amendment: Option<u32>) -> Markup {
    section(
        "late",
        html! {
            @if amendment.is_some() {
                (rows("Events of this week that the superseded report does not have", &late.amends))
            }
            @if late.weeks.is_empty() {
                p { "Between log entries " (count(late.from_leaf)) " and " (count(late.to_leaf)) " no event came for a week that had its report." }
            } @else {
                (rows("Events that came after the report of their week", &late.weeks))
            }
        },
    )
}

fn rows(caption: &str, rows: &[LateRow]) -> Markup {
    let rows: Vec<Vec<Markup>> = rows
        .iter()
        .map(|l| {
            vec![
                html! { (l.week) },
                html! { (l.day) },
                text(&l.dataset),
                html! { (count(l.events)) },
                html! { (count(l.first_leaf)) " to " (count(l.last_leaf)) },
            ]
        })
        .collect();
    table(
        caption,
        &[("week", false), ("day", false), ("dataset", false), ("events", true), ("log entries", true)],
        &rows,
    )
}

/// How everything was computed.
pub fn method(method: &Method) -> Markup {
    let objects: Vec<Vec<Markup>> = method
        .objects
        .iter()
        .map(|o| {
            vec![
                html! { (count(o.leaf)) },
                html! { code { (text(&o.key)) } },
                html! { (count(o.rows)) },
                html! { code.uid { (o.sha256) } },
            ]
        })
        .collect();
    section(
        "method",
        html! {
            h3 { "Terms" }
            dl.terms { @for d in &method.definitions { div { dt { (d.term) } dd { (d.meaning) } } } }
            h3 { "Bounds" }
            dl.terms { @for d in &method.bounds { div { dt { (d.term) } dd { (d.meaning) } } } }
            h3 { "Queries" }
            p { "Every number can be computed anew with DuckDB, in the data folder. First:" }
            @for sql in &method.setup { pre tabindex="0" { (sql) ";" } }
            @for query in &method.queries {
                h4 { (query.name) " " span.small { "gives " code { (query.gives) } } }
                pre tabindex="0" { (query.sql) ";" }
            }
            h3 { "Objects" }
            @if objects.is_empty() { p { "No archive object was read." } } @else {
                (table("Archive objects that were read", &[("log entry", true), ("object", false), ("rows", true), ("SHA-256", false)], &objects))
            }
        },
    )
}
