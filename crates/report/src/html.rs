//! One self-contained page of a report: no script, nothing to load, readable on paper, on a phone and without
//! colour.
//!
//! Every text goes through [`maud`], which escapes it; texts of logs go through `text` as well, which makes
//! hidden and reordering characters visible and keeps each text in its own direction.

mod chart;
mod cover;
mod coverage;
mod method;
mod operations;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keytrail_model::Hash;
use keytrail_model::printable::{count, escape};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::Report;
use crate::model::{Others, Status};

const STYLE: &str = include_str!("html/style.css");

/// Characters of a text that are shown; `report.json` has all of them.
const SHOWN: usize = 160;

/// The page of a report whose `report.json` has that SHA-256.
pub fn page(report: &Report, sha256: &str) -> String {
    let style = STANDARD.encode(Hash::of(STYLE.as_bytes()).0);
    let policy =
        format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'");
    let title = format!("keytrail report {}", report.cover.week);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="generator" content=(format!("keytrail {}", report.cover.tool.version));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#summary" { "Skip to the summary" }
                @if report.cover.status == Status::Provisional {
                    p.banner role="note" { "PROVISIONAL: made before the week was settled. It fixes nothing." }
                }
                (cover::header(report, sha256))
                (contents())
                main {
                    (cover::summary(report))
                    (coverage::coverage(&report.coverage))
                    (operations::keys(&report.keys))
                    (operations::operations(&report.operations))
                    (operations::privileged(&report.privileged))
                    (operations::failures(&report.failures))
                    (method::integrity(&report.integrity))
                    (method::late(&report.late, report.cover.amendment))
                    (method::method(&report.method))
                }
                footer {
                    p { "Report " code { (report.cover.report_id) } ", made from report.json with the SHA-256 " code { (sha256) } "." }
                }
            }
        }
    }
    .into_string()
}

/// Sections: the id and the heading.
const SECTIONS: [(&str, &str); 9] = [
    ("summary", "Summary"),
    ("coverage", "Coverage"),
    ("keys", "Keys"),
    ("operations", "Key operations"),
    ("privileged", "Privileged operations"),
    ("failures", "Failures"),
    ("integrity", "Integrity"),
    ("late", "Late data"),
    ("method", "Method"),
];

fn contents() -> Markup {
    html! {
        nav aria-label="Contents" {
            ol {
                @for (id, name) in SECTIONS { li { a href=(format!("#{id}")) { (name) } } }
            }
        }
    }
}

/// A section under its heading.
fn section(id: &str, content: Markup) -> Markup {
    let found = SECTIONS.iter().position(|(of, _)| *of == id).unwrap_or_default();
    html! {
        section id=(id) aria-labelledby=(format!("{id}-heading")) {
            h2 id=(format!("{id}-heading")) { span.number { (found + 1) } " " (SECTIONS[found].1) }
            (content)
        }
    }
}

/// A table that scrolls by itself where it is too wide. `heads` are names and whether numbers stand below.
fn table(caption: &str, heads: &[(&str, bool)], rows: &[Vec<Markup>]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption { (caption) }
                thead {
                    tr { @for (name, number) in heads { th.num[*number] scope="col" { (name) } } }
                }
                tbody {
                    @for row in rows {
                        tr {
                            @for (i, cell) in row.iter().enumerate() {
                                @let number = heads.get(i).is_some_and(|h| h.1);
                                @if i == 0 { th.num[number] scope="row" { (cell) } } @else { td.num[number].text[!number] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What is not shown in a table.
fn others(others: &Others, what: &str) -> Markup {
    let (operations, failures) = (count(others.operations), count(others.failures));
    html! {
        @match others.names {
            Some(0) => {}
            Some(names) => p.others {
                "And " (count(names)) " other " (what) ", with " (operations) " operations, " (failures) " failed."
            }
            None => p.others.warn {
                "There are more " (what) " than can be counted by name: " (operations) " operations, " (failures)
                " failed, of names that are not shown."
            }
        }
    }
}

/// A text of a log, for markup and attributes: hidden characters spelled out, the rest of a long one counted.
fn spelled(text: &str) -> String {
    let all = escape(text);
    let length = all.chars().count();
    if length <= SHOWN {
        return all;
    }
    all.chars().take(SHOWN).collect::<String>() + &format!("… ({} characters)", count(length as u64))
}

/// A text of a log.
fn text(text: &str) -> Markup {
    html! { bdi { (spelled(text)) } }
}

/// A text that may be missing.
fn optional(value: Option<&String>) -> Markup {
    match value {
        Some(value) => text(value),
        None => html! { span.none title="the records say none" { "–" } },
    }
}

/// A time to the second; the whole in its tooltip.
fn time(value: &str) -> Markup {
    let short = value.get(..19).unwrap_or(value);
    let (day, clock) = short.split_once('T').unwrap_or((short, ""));
    html! { time datetime=(value) title=(value) { span { (day) } " " span { (clock) } } }
}

fn optional_time(value: Option<&String>) -> Markup {
    match value {
        Some(value) => time(value),
        None => html! { span.none { "–" } },
    }
}

/// Seconds as `2 d 03:04:05`.
fn lasting(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days} d {clock}") } else { clock }
}

/// A median, or that there is none.
fn median(value: Option<u64>) -> Markup {
    match value {
        Some(n) => html! { (count(n)) },
        None => html! { span.none { "no history" } },
    }
}
