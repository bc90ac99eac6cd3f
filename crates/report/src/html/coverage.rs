//! What was heard, day by day, and what was not.

use maud::{Markup, html};

use super::chart::{self, Day};
use super::{count, lasting, optional_time, section, table, text, time};
use crate::model::{Coverage, DayCoverage, DayState, Lost, SourceCoverage};

/// Coverage.
pub fn coverage(coverage: &Coverage) -> Markup {
    section(
        "coverage",
        html! {
            @if coverage.sources.is_empty() {
                p { "No source was heard in this week or the twelve before it, and none is declared." }
            } @else {
                (chart::week(&days(coverage)))
                (by_day(coverage))
                (by_source(coverage))
            }
            (quarantine(coverage))
            (lost("Objects that could not be read: their events are in no number of this report", &coverage.unreadable))
            (lost("Events of the week that retention took before this report", &coverage.expired))
        },
    )
}

fn days(coverage: &Coverage) -> Vec<Day> {
    let Some(first) = coverage.sources.first() else { return Vec::new() };
    let sum = |i: usize, number: fn(&DayCoverage) -> u64| {
        coverage.sources.iter().filter_map(|s| s.days.get(i)).map(number).sum()
    };
    let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    first
        .days
        .iter()
        .enumerate()
        .map(|(i, day)| Day {
            name: format!("{} {}", names.get(i).unwrap_or(&""), day.day.get(8..).unwrap_or_default()),
            events: sum(i, |d| d.events),
            failures: sum(i, |d| d.failures),
        })
        .collect()
}

fn by_day(coverage: &Coverage) -> Markup {
    let days: Vec<String> =
        coverage.sources.first().into_iter().flat_map(|s| &s.days).map(|d| d.day.clone()).collect();
    html! {
        div.scroll tabindex="0" role="region" aria-label="Events by source and day" {
            table.days {
                caption { "Events by source and day" }
                thead { tr {
                    th scope="col" { "source" }
                    @for day in &days { th.num scope="col" { (day.get(5..).unwrap_or(day)) } }
                    th.num scope="col" { "week" }
                } }
                tbody { @for source in &coverage.sources { tr {
                    th scope="row" { (name(source)) }
                    @for day in &source.days { (cell(day)) }
                    td.num { strong { (count(source.events)) } }
                } } }
            }
        }
        p.small { "Hatched: no event was heard. Below each number, the longest time without one." }
    }
}

fn cell(day: &DayCoverage) -> Markup {
    let silence = lasting(day.longest_silence_seconds);
    html! {
        @match day.state {
            DayState::Heard => td.num { (count(day.events)) br; span.small { (silence) } },
            DayState::Silent => td.num.silent { span.chip { "silent" } },
            DayState::Expired => td.num.silent { (count(day.events)) br; span.chip { "expired" } },
            DayState::Unreadable => td.num.silent { (count(day.events)) br; span.chip { "unreadable" } },
        }
    }
}

fn name(source: &SourceCoverage) -> Markup {
    html! {
        (text(&source.source))
        @if source.source != source.dataset { br; span.small { (text(&source.dataset)) } }
        @if !source.declared { br; span.chip { "undeclared" } }
        @if source.declared && source.events == 0 { br; span.chip.warn { "not heard" } }
    }
}

fn by_source(coverage: &Coverage) -> Markup {
    let heads = [
        ("source", false),
        ("events", true),
        ("failed", true),
        ("first", false),
        ("last", false),
        ("longest silence", true),
        ("allowed", true),
        ("missing ranges", true),
        ("refused", true),
        ("duplicates", true),
    ];
    let duplicates = |s: &SourceCoverage| {
        coverage.duplicates.sources.iter().find(|d| d.source == s.source).map_or(0, |d| d.records)
    };
    let rows: Vec<Vec<Markup>> = coverage
        .sources
        .iter()
        .map(|s| {
            vec![
                name(s),
                html! { (count(s.events)) },
                html! { (count(s.failures)) },
                optional_time(s.first.as_ref()),
                optional_time(s.last.as_ref()),
                html! { (lasting(s.longest_silence_seconds)) @if s.too_silent == Some(true) { br; span.chip.warn { "too long" } } },
                html! { @match s.allowed_silence_seconds { Some(n) => (lasting(n)), None => span.none { "not declared" } } },
                html! { @match s.gaps { Some(n) => (count(n)), None => span.none { "not numbered" } } },
                html! { (count(s.quarantined)) @if s.quarantined_new > 0 { br; span.small { (count(s.quarantined_new)) " new" } } },
                html! { (count(duplicates(s))) },
            ]
        })
        .collect();
    html! {
        (table("Sources", &heads, &rows))
        p.small {
            "Missing ranges are of the source's dataset. Refused records are all of the quarantine at the checkpoint, new ones those sealed since the report made before. "
            "Duplicates are no events and not in the log: runs have counted them "
            @match &coverage.duplicates.since { Some(at) => { "since " (time(at)) "." } None => { "not yet." } }
        }
        @if !coverage.undated.is_empty() {
            p {
                "Without a time that can be read, and so of no week: "
                @for (i, undated) in coverage.undated.iter().enumerate() {
                    @if i > 0 { ", " }
                    (count(undated.events)) " of " (text(&undated.source))
                }
                "."
            }
        }
    }
}

fn quarantine(coverage: &Coverage) -> Markup {
    let rows: Vec<Vec<Markup>> = coverage
        .quarantine
        .iter()
        .map(|q| vec![text(&q.source), text(&q.code), html! { (count(q.records)) }, html! { (count(q.new)) }])
        .collect();
    html! {
        @if rows.is_empty() { p { "No record was refused." } }
        @else { (table("Refused records, in quarantine", &[("source", false), ("reason", false), ("records", true), ("new", true)], &rows)) }
    }
}

fn lost(caption: &str, objects: &[Lost]) -> Markup {
    let rows: Vec<Vec<Markup>> = objects
        .iter()
        .map(|l| {
            vec![
                text(&l.day),
                text(&l.dataset),
                html! { (count(l.leaf)) },
                html! { (count(l.rows)) },
                text(&l.why),
            ]
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            (table(caption, &[("day", false), ("dataset", false), ("log entry", true), ("rows", true), ("why", false)], &rows))
        }
    }
}
