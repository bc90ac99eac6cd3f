//! The first page: what a person should look at, and what the report cannot say.
//!
//! Each of these follows from numbers of the report. None is a verdict.

use keytrail_report::Report;
use keytrail_report::model::{Attention, FailureRow, SourceCoverage, Status, WEEKS_OF_MEDIAN};

use super::tables::{Folds, heard};

/// An actor with more failures than this and three times its median is named.
const MANY_FAILURES: u64 = 20;

/// What to look at, most urgent first.
pub fn attention(report: &Report, folds: &Folds) -> Vec<Attention> {
    let mut all = Vec::new();
    let mut say = |kind: &str, section: &str, count: u64, one: &str, many: &str| {
        if count > 0 {
            let text = if count == 1 { one } else { many };
            all.push(Attention {
                kind: kind.to_owned(),
                count,
                text: text.to_owned(),
                section: section.to_owned(),
            });
        }
    };
    let coverage = &report.coverage;
    let codes = &report.integrity.codes;
    let count_of = |code: &str| codes.iter().filter(|c| c.code == code).map(|c| c.count).sum::<u64>();
    let broken = codes.iter().filter(|c| !c.informational && c.code != "GAP").map(|c| c.count).sum();
    say(
        "integrity",
        "integrity",
        broken,
        "finding of verify: something does not fit what was sealed",
        "findings of verify: things do not fit what was sealed",
    );
    say(
        "unreadable",
        "coverage",
        coverage.unreadable.len() as u64,
        "archive object could not be read: its events are not in this report",
        "archive objects could not be read: their events are not in this report",
    );
    say(
        "gap",
        "coverage",
        count_of("GAP"),
        "range of numbered records is missing",
        "ranges of numbered records are missing",
    );
    let silent = |wanted: &dyn Fn(&SourceCoverage) -> bool| {
        coverage.sources.iter().filter(|s| wanted(s)).count() as u64
    };
    say(
        "unheard",
        "coverage",
        silent(&|s| s.declared && s.events == 0),
        "declared source was not heard at all",
        "declared sources were not heard at all",
    );
    say(
        "silent",
        "coverage",
        silent(&|s| s.events > 0 && s.too_silent == Some(true)),
        "declared source was silent for longer than it may be",
        "declared sources were silent for longer than they may be",
    );
    let last = folds.before.len().saturating_sub(WEEKS_OF_MEDIAN);
    let recent = heard(folds.before.iter().skip(last));
    say(
        "fell-silent",
        "coverage",
        silent(&|s| !s.declared && s.events == 0 && recent.contains(&(s.dataset.clone(), s.source.clone()))),
        "source was heard in the four weeks before and not in this one",
        "sources were heard in the four weeks before and not in this one",
    );
    let kind =
        |name: &str| report.privileged.kinds.iter().filter(|k| k.kind == name).map(|k| k.operations).sum();
    say("root", "privileged", kind("root"), "operation by a root identity", "operations by root identities");
    say(
        "audit-control",
        "privileged",
        kind("audit-control"),
        "operation that controls what is recorded",
        "operations that control what is recorded",
    );
    say(
        "destroy",
        "privileged",
        kind("destroy"),
        "destruction of a key or secret",
        "destructions of keys or secrets",
    );
    say(
        "schedule-deletion",
        "privileged",
        kind("schedule-deletion"),
        "deletion of a key was scheduled",
        "deletions of keys were scheduled",
    );
    say(
        "policy-change",
        "privileged",
        kind("policy-change") + kind("grant"),
        "change of a policy or grant",
        "changes of policies or grants",
    );
    say(
        "export",
        "privileged",
        kind("export"),
        "export of key material or of a secret's value",
        "exports of key material or of secrets' values",
    );
    let unusual = |rows: &[FailureRow]| {
        let more = |r: &&FailureRow| {
            r.failures > MANY_FAILURES && r.median.is_some_and(|m| r.failures > m.saturating_mul(3))
        };
        rows.iter().filter(more).count() as u64
    };
    say(
        "failures",
        "failures",
        unusual(&report.failures.actors),
        "actor failed more than three times as often as in its four weeks before",
        "actors failed more than three times as often as in their four weeks before",
    );
    say(
        "undeclared-key",
        "keys",
        report.keys.undeclared_count.unwrap_or_default(),
        "key in events is not in the inventory",
        "keys in events are not in the inventory",
    );
    say(
        "conflict",
        "integrity",
        count_of("CONFLICT"),
        "producer's id stands for events that differ",
        "producers' ids stand for events that differ",
    );
    say(
        "quarantine",
        "coverage",
        coverage.quarantine.iter().map(|q| q.new).sum(),
        "record was refused since the report made before",
        "records were refused since the report made before",
    );
    let late = &report.late;
    let count = |rows: &[keytrail_report::model::LateRow]| rows.iter().map(|l| l.events).sum::<u64>();
    say(
        "late",
        "late",
        count(&late.weeks).max(count(&late.amends)),
        "event was sealed after the report of its week",
        "events were sealed after the report of their week",
    );
    say(
        "expired",
        "coverage",
        coverage.expired.iter().map(|l| l.rows).sum(),
        "event of the week was deleted by retention before this report",
        "events of the week were deleted by retention before this report",
    );
    all
}

/// What the report cannot say.
pub fn limits(report: &Report, folds: &Folds) -> Vec<String> {
    let mut all = vec![
        "A log proves what was recorded. What no source recorded, or never reached keytrail, is not here; gaps, silence and CloudTrail's digests bear on that.".to_owned(),
        "Actors, user agents and error texts are what producers and callers wrote. They are shown, not believed.".to_owned(),
        "This report counts and compares. It evaluates no control and says nothing of compliance.".to_owned(),
    ];
    if report.cover.status == Status::Provisional {
        all.push("PROVISIONAL: made less than 36 hours after the week's end. It fixes no checkpoint, no other report names it, and events may still come.".to_owned());
    }
    if report.cover.scope.is_empty() {
        all.push("No source is declared, so nothing says which sources should have been heard.".to_owned());
    }
    if report.keys.inventory.is_none() {
        all.push("No key inventory is declared: keys are known from events alone.".to_owned());
    }
    let weeks = folds.before.iter().filter(|w| w.all.events() > 0).count();
    if weeks < folds.before.len() {
        all.push(format!("Of the {} weeks before, {weeks} have events in the archive: without history there is no comparison.", folds.before.len()));
    }
    all
}
