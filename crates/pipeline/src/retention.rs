//! Archive objects whose retention ended: what `verify` says of them.

use std::collections::BTreeMap;

use keytrail_ledger::{Code, Finding};
use keytrail_model::manifest::{Decision, ManifestKind};
use keytrail_model::{Day, Fatal, Timestamp};
use keytrail_ports::BlobStore;

use crate::readable::{self, Readable, SealedObject};
use crate::verify::Report;

/// Names every expired object, and those that expired though the rule that was sealed says otherwise. What
/// cannot be judged, because the list with the rule is missing or damaged, is not checked.
pub(crate) fn check(
    store: &dyn BlobStore,
    readable: &Readable,
    wanted: &dyn Fn(&SealedObject) -> bool,
    report: &mut Report,
) -> Result<(), Fatal> {
    let mut rules = BTreeMap::new();
    let mut lost: BTreeMap<u64, u64> = BTreeMap::new();
    for (leaf, sealed) in readable.decisions(ManifestKind::Expire) {
        let detail = match readable::detail(store, sealed) {
            Ok(detail) => detail,
            Err(e) if e.code == "Fatal.ObjectMissing" => None,
            Err(e) => return Err(e),
        };
        rules.insert(leaf, detail.map(|d| d.decision));
    }
    for retired in readable.history().values().filter(|r| r.kind == ManifestKind::Expire) {
        let (object, leaf) = (&retired.object, retired.by);
        if !wanted(object) {
            continue;
        }
        let sealed = Timestamp(retired.at);
        let Some(Some(rule)) = rules.get(&leaf) else {
            *lost.entry(leaf).or_default() += 1;
            continue;
        };
        let rule = rule.as_ref();
        let rule = rule.filter(|d| names(d, object) && allows(d, object, sealed));
        let (code, message) = match rule {
            Some(rule) => (
                Code::Expired,
                format!("its {} rows expired by log entry {leaf}: {}", object.rows.count, rule.reason),
            ),
            None => (
                Code::FileMissing,
                format!("log entry {leaf} says that it expired, and names no rule by which it does"),
            ),
        };
        report.findings.push(Finding::new(code, &object.object.key, message));
    }
    let said = |(leaf, objects)| {
        format!("by which rule {objects} objects of log entry {leaf} expired: see the finding of its list")
    };
    report.unchecked.extend(lost.into_iter().map(said));
    Ok(())
}

/// Whether a decision is of an object's dataset.
pub(crate) fn names(decision: &Decision, object: &SealedObject) -> bool {
    decision.dataset.as_ref().is_none_or(|dataset| *dataset == object.rows.dataset)
}

/// Whether an object's events and their archiving are of days before the decision's, which was over when it
/// was made.
pub(crate) fn allows(decision: &Decision, object: &SealedObject, made: Timestamp) -> bool {
    let Some(before) = decision.before.as_deref().and_then(Day::parse) else { return false };
    let event = match Day::parse(&object.rows.day) {
        Some(Day::Undated) => decision.undated,
        Some(day) => day < before,
        None => false,
    };
    let Day::Dated(before) = before else { return false };
    event && Timestamp(object.archived).days() < before && before <= made.days()
}
