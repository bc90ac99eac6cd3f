//! Cover, seal and the first page.

use maud::{Markup, html};

use super::{chart, count, median, section, text, time};
use crate::Report;
use crate::model::{ReportRef, Status};

/// Cover and seal.
pub fn header(report: &Report, sha256: &str) -> Markup {
    let cover = &report.cover;
    let kind = match cover.status {
        Status::Final => "Weekly report".to_owned(),
        Status::Provisional => "Weekly report, PROVISIONAL".to_owned(),
        Status::Amendment => format!("Weekly report, amendment {}", cover.amendment.unwrap_or_default()),
    };
    html! {
        header {
            p.brand { "keytrail" }
            h1 { (kind) " " span.week { (cover.week) } }
            p.period { (time(&cover.from)) " to " (time(&cover.to)) " UTC, the end not included" }
            div.seal role="region" aria-label="Seal" {
                dl {
                    div { dt { "Report" } dd { code { (cover.report_id) } } }
                    div { dt { "As of" } dd { @match &cover.as_of { Some(at) => { (time(at)) " UTC, the newest archived time" } None => { "nothing is archived" } } } }
                    div { dt { "SHA-256 of report.json" } dd { code { (sha256) } } }
                    div { dt { "Log" } dd { code { (text(&cover.checkpoint.origin)) } ", size " (count(cover.checkpoint.size)) } }
                    div { dt { "Root hash" } dd { code { (text(&cover.checkpoint.root)) } } }
                    div { dt { "Log key" } dd { @for key in &cover.log_keys { code { (text(key)) } " " } } }
                    div { dt { "Made by" } dd { (cover.tool.name) " " (cover.tool.version) ", fold " (cover.tool.fold) } }
                    div { dt { "Report made before" } dd { (reference(cover.previous.as_ref(), "none: it is the first one")) } }
                    @if cover.status == Status::Amendment {
                        div { dt { "Supersedes" } dd { (reference(cover.supersedes.as_ref(), "nothing")) } }
                    }
                    div { dt { "Declared sources" } dd {
                        @if cover.scope.is_empty() { "none" }
                        @for source in &cover.scope { span.item { (text(&source.name)) " (" (source.dataset) ")" } " " }
                    } }
                    @for table in &cover.tables {
                        div { dt { "Table " (text(&table.name)) } dd { (count(table.rows)) " rows, SHA-256 " code { (table.sha256) } } }
                    }
                }
                p.verify-title { "To check it, in the data folder:" }
                pre tabindex="0" { @for line in &cover.how_to_verify { (line) "\n" } }
                p.small { "keys/log.keys came with the data: only the key as you got it from elsewhere proves authenticity." }
            }
        }
    }
}

fn reference(report: Option<&ReportRef>, none: &str) -> Markup {
    html! {
        @match report {
            None => (none),
            Some(r) => {
                (r.week) @if let Some(n) = r.amendment { ", amendment " (n) }
                ", log size " (count(r.size)) ", SHA-256 " code { (r.sha256) }
            }
        }
    }
}

/// The first page.
pub fn summary(report: &Report) -> Markup {
    let summary = &report.summary;
    section(
        "summary",
        html! {
            h3 { "What happened" }
            ul.figures {
                @for figure in &summary.figures {
                    li {
                        span.name { (figure.name) }
                        span.big { (count(figure.count)) }
                        (chart::sparkline(&figure.name, &figure.before, figure.count))
                        span.median { "median of 4 weeks: " (median(figure.median)) }
                    }
                }
            }
            p.small { "Each bar is a week, this one filled; × is a week without any event in the archive." }
            p {
                "keytrail verify: "
                @if report.integrity.good { strong { "good" } } @else { strong.warn { "not good" } }
                ", " (count(report.integrity.objects)) " archive objects and " (count(report.integrity.rows)) " rows of the week recomputed. "
                a href="#integrity" { "What it checked and found" }
            }
            h3 { "What needs eyes" }
            @if summary.attention.is_empty() {
                p { "Nothing that this report looks for. What it looks for is in " a href="#method" { "Method" } "." }
            } @else {
                ul.attention {
                    @for item in &summary.attention {
                        li { strong { (count(item.count)) } " " (item.text) " " a href=(format!("#{}", item.section)) { "details" } }
                    }
                }
            }
            h3 { "What this report cannot say" }
            ul.limits { @for limit in &summary.limits { li { (limit) } } }
        },
    )
}
