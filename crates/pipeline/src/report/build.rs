//! A report from its basis and the archive: every part but those that are tables of operations.

use std::collections::{BTreeMap, BTreeSet};

use keytrail_model::time::day_name;
use keytrail_model::{Day, Fatal};
use keytrail_normalize::Format;
use keytrail_report::Report;
use keytrail_report::model::{
    Cover, Coverage, DayCoverage, DayState, KeyRow, Keys, Late, LateRow, Lost, Method, ObjectRow,
    Quarantined, ReportRef, SourceCoverage, Status, Undated, WEEKS_BEFORE,
};

use super::basis::Basis;
use super::day::{Key, SourceDay, SourceName};
use super::inventory::Inventory;
use super::names::Name;
use super::sealed::{Refused, Sealed};
use super::tables::{self, Folds, KEYS, heard, text, time};
use super::week::Week;
use super::weeks::{Weeks, lost};
use super::{queries, summary};

/// Makes the report of a basis; `made` are the reports made before it, oldest first.
pub fn build(
    basis: &Basis,
    inventory: Option<&Inventory>,
    week: Week,
    sealed: &Sealed,
    weeks: &mut Weeks<'_>,
    made: &[ReportRef],
) -> Result<Report, Fatal> {
    let (undated, undated_lost) = weeks.day(Day::Undated)?;
    let before = (1..=WEEKS_BEFORE as i64).rev().map(|back| weeks.week(week.back(back)));
    let folds = Folds { before: before.collect::<Result<_, _>>()?, week: weeks.week(week)? };
    let late = late(basis, sealed, made);
    let mut coverage = coverage(basis, week, sealed, &*weeks.refused()?, &folds);
    coverage.unreadable.extend(undated_lost);
    coverage.undated = undated
        .sources
        .iter()
        .map(|((dataset, source), day)| Undated {
            source: source.clone(),
            dataset: dataset.clone(),
            events: day.events,
        })
        .collect();
    let keys = keys(inventory, week, &folds);
    let operations = tables::operations(&folds);
    let privileged = tables::privileged(&folds);
    let failures = tables::failures(&folds);
    let mut report = Report {
        format: keytrail_report::model::FORMAT.to_owned(),
        cover: cover(basis, week, sealed),
        summary: keytrail_report::model::Summary {
            figures: tables::figures(&folds),
            attention: Vec::new(),
            limits: Vec::new(),
        },
        coverage,
        keys,
        operations,
        privileged,
        failures,
        integrity: basis.integrity.clone(),
        late,
        method: method(basis, week, sealed),
    };
    report.summary.attention = summary::attention(&report, &folds);
    report.summary.limits = summary::limits(&report, &folds);
    Ok(report)
}

fn cover(basis: &Basis, week: Week, sealed: &Sealed) -> Cover {
    let stem = basis.stem();
    let folder = format!("reports/{week}");
    let days: Vec<String> = week.days().chain([week.to().days()]).map(day_name).collect();
    let (from, to) = (days.first().cloned().unwrap_or_default(), days.last().cloned().unwrap_or_default());
    let mut how_to_verify = vec![format!("keytrail verify --data . --from {from} --to {to}")];
    if basis.status != Status::Provisional {
        how_to_verify[0] = format!(
            "keytrail verify --data . --keys keys/log.keys --known {folder}/{stem}.checkpoint --from {from} --to {to}"
        );
        how_to_verify.push(format!("keytrail report --data . --week {week} --out /tmp/again"));
        how_to_verify.push(format!(
            "cmp /tmp/again/{stem}.json {folder}/{stem}.json && sha256sum {folder}/{stem}.json"
        ));
    }
    Cover {
        report_id: basis.report_id(),
        status: basis.status,
        amendment: basis.amendment,
        week: basis.week.clone(),
        from: week.from().to_rfc3339(),
        to: week.to().to_rfc3339(),
        as_of: sealed.as_of.map(time),
        tool: basis.tool.clone(),
        checkpoint: basis.checkpoint.clone(),
        log_keys: basis.log_keys.clone(),
        tables: basis.inventory.clone().unwrap_or_default(),
        scope: basis.scope.clone(),
        previous: basis.previous.clone(),
        supersedes: basis.supersedes.clone(),
        how_to_verify,
    }
}

fn coverage(basis: &Basis, week: Week, sealed: &Sealed, refused: &Refused, folds: &Folds) -> Coverage {
    let expired: Vec<Lost> = sealed
        .expired(week)
        .map(|(object, by)| lost(object, format!("retention ended: log entry {by}")))
        .collect();
    let unreadable = folds.week.unreadable.clone();
    let mut quarantine: BTreeMap<(&str, &str), Quarantined> = BTreeMap::new();
    let seen = basis.previous.as_ref().map_or(0, |p| p.size);
    for ((source, code, leaf), records) in refused {
        let of = quarantine.entry((source, code)).or_insert_with(|| Quarantined {
            source: source.clone(),
            code: code.clone(),
            records: 0,
            new: 0,
        });
        of.records += records;
        of.new += if *leaf >= seen { *records } else { 0 };
    }
    let quarantine: Vec<Quarantined> = quarantine.into_values().collect();
    let mut names: BTreeSet<SourceName> = heard(folds.before.iter().chain([&folds.week]));
    names.extend(basis.scope.iter().map(|s| (s.dataset.clone(), s.name.clone())));
    let sources = names.into_iter().map(|of| {
        let declared = basis.scope.iter().find(|s| (&s.dataset, &s.name) == (&of.0, &of.1));
        let all = folds.week.all.sources.get(&of).cloned().unwrap_or_default();
        let (from, to) = (week.from().0 / 1_000_000, week.to().0 / 1_000_000);
        let longest = all.longest_silence(from, to);
        let allowed = declared.and_then(|d| d.longest_silence_seconds);
        let days = folds.week.days.iter().map(|(day, sources)| {
            let none = SourceDay::default();
            let heard = sources.get(&of).unwrap_or(&none);
            let name = day_name(*day);
            let is = |lost: &[Lost]| lost.iter().any(|l| l.day == name && l.dataset == of.0);
            DayCoverage {
                events: heard.events,
                failures: heard.count.failures,
                longest_silence_seconds: heard.longest_silence(day * 86_400, (day + 1) * 86_400),
                state: match () {
                    () if is(&unreadable) => DayState::Unreadable,
                    () if is(&expired) => DayState::Expired,
                    () if heard.events > 0 => DayState::Heard,
                    () => DayState::Silent,
                },
                day: name,
            }
        });
        let of_source = |q: &&Quarantined| q.source == of.1;
        SourceCoverage {
            days: days.collect(),
            declared: declared.is_some(),
            events: all.events,
            undeclared_events: all.undeclared,
            operations: all.count.operations,
            failures: all.count.failures,
            first: all.times.map(|(first, _)| time(first)),
            last: all.times.map(|(_, last)| time(last)),
            longest_silence_seconds: longest,
            allowed_silence_seconds: allowed,
            too_silent: allowed.map(|allowed| longest > allowed),
            gaps: gaps(basis, &of.0),
            quarantined: quarantine.iter().filter(of_source).map(|q| q.records).sum(),
            quarantined_new: quarantine.iter().filter(of_source).map(|q| q.new).sum(),
            dataset: of.0,
            source: of.1,
        }
    });
    Coverage {
        sources: sources.collect(),
        undated: Vec::new(),
        duplicates: basis.duplicates.clone(),
        quarantine,
        expired,
        unreadable,
    }
}

/// Ranges that are missing in a dataset; `None` where nothing is numbered.
fn gaps(basis: &Basis, dataset: &str) -> Option<u64> {
    let numbered = Format::ALL.into_iter().any(|f| f.dataset() == dataset && f.is_numbered());
    let prefix = format!("{dataset} ");
    let of = basis.integrity.gaps.iter().filter(|gap| gap.element.starts_with(&prefix)).count() as u64;
    numbered.then_some(of)
}

fn keys(inventory: Option<&Inventory>, week: Week, folds: &Folds) -> Keys {
    // All weeks together, but the operations are of this one.
    let mut all: BTreeMap<&Name, Key> = BTreeMap::new();
    let mut complete = true;
    for fold in folds.before.iter().chain([&folds.week]) {
        complete &= fold.all.keys.all().is_some();
        for (name, key) in fold.all.keys.all().into_iter().flatten() {
            super::names::Tallied::add(all.entry(name).or_default(), key.clone());
        }
    }
    if !complete {
        all.clear();
    }
    let of_week = |name: &Name| folds.week.all.keys.get(name).map(|k| k.count).unwrap_or_default();
    let mut rows: Vec<_> = all.iter().map(|(name, key)| (*name, key, of_week(name))).collect();
    rows.sort_by(|(a, _, x), (b, _, y)| y.operations.cmp(&x.operations).then_with(|| a.cmp(b)));
    let mut unseen: BTreeSet<usize> = (0..inventory.map_or(0, |i| i.keys().len())).collect();
    let mut undeclared_count = 0;
    let mut declared: BTreeMap<&Name, usize> = BTreeMap::new();
    for (name, key, _) in &rows {
        let names = [name.get(1).and_then(Option::as_deref), key.alias.as_ref().map(|a| a.text.as_str())];
        match inventory.and_then(|i| i.find(names.into_iter().flatten())) {
            Some(place) => {
                unseen.remove(&place);
                declared.insert(name, place);
            }
            None => undeclared_count += 1,
        }
    }
    let declared_unseen_count = unseen.len() as u64;
    let all_keys = inventory.map_or(&[][..], Inventory::keys);
    let unseen = unseen.into_iter().filter_map(|place| all_keys.get(place)).take(KEYS).cloned().collect();
    let count = rows.len();
    rows.truncate(KEYS);
    let shown = rows.iter().map(|(_, _, count)| *count);
    let total = match folds.week.all.keys.all() {
        Some(keys) => super::day::sum(keys.values().map(|k| k.count)),
        None => folds.week.all.key_operations(),
    };
    let others = keytrail_report::model::Others {
        names: complete.then_some((count - rows.len()) as u64),
        ..tables::rest(total, shown)
    };
    let row = |(name, key, count): (&Name, &Key, super::day::Count)| {
        let entry = declared.get(name).and_then(|place| all_keys.get(*place));
        let (first, last) = key.times.unwrap_or_default();
        KeyRow {
            dataset: text(name, 0).unwrap_or_default(),
            key: text(name, 1).unwrap_or_default(),
            alias: key.alias.as_ref().map(|s| s.text.clone()),
            algorithm: key.algorithm.as_ref().map(|s| s.text.clone()),
            state: key.state.as_ref().map(|s| s.text.clone()),
            operations: count.operations,
            failures: count.failures,
            first: time(first),
            last: time(last),
            created: key.created.map(time),
            rotated: key.rotated.map(time),
            deletion_scheduled: key.scheduled.filter(|at| key.cancelled.is_none_or(|c| c < *at)).map(time),
            destroyed: key.destroyed.map(time),
            declared: inventory.map(|_| entry.is_some()),
            owner: entry.and_then(|e| e.owner.clone()),
            purpose: entry.and_then(|e| e.purpose.clone()),
        }
    };
    Keys {
        from: week.back(WEEKS_BEFORE as i64).from().to_rfc3339(),
        inventory: inventory.map(Inventory::reference),
        seen: rows.into_iter().map(row).collect(),
        others,
        declared_unseen: unseen,
        declared_unseen_count,
        undeclared_count: inventory.map(|_| undeclared_count),
    }
}

/// Events sealed after the report of their week.
fn late(basis: &Basis, sealed: &Sealed, made: &[ReportRef]) -> Late {
    let from_leaf = basis.previous.as_ref().map_or(0, |p| p.size);
    let first_of: BTreeMap<Week, u64> = made
        .iter()
        .filter(|r| r.amendment.is_none())
        .filter_map(|r| Some((Week::parse(&r.week)?, r.size)))
        .collect();
    let own = Week::parse(&basis.week);
    let amended_from = basis.supersedes.as_ref().map(|s| s.size);
    let rows = |wanted: &dyn Fn(Week, u64) -> bool| {
        let mut rows: BTreeMap<(Week, i64, &str), LateRow> = BTreeMap::new();
        for added in &sealed.added {
            let week = Week::of_day(added.day);
            if !wanted(week, added.leaf) {
                continue;
            }
            let row = rows.entry((week, added.day, &added.dataset)).or_insert_with(|| LateRow {
                week: week.to_string(),
                day: day_name(added.day),
                dataset: added.dataset.clone(),
                events: 0,
                first_leaf: added.leaf,
                last_leaf: added.leaf,
            });
            row.events += added.rows;
            row.last_leaf = added.leaf;
        }
        rows.into_values().collect::<Vec<_>>()
    };
    Late {
        from_leaf,
        to_leaf: basis.checkpoint.size,
        weeks: rows(&|week, leaf| leaf >= from_leaf && first_of.get(&week).is_some_and(|size| leaf >= *size)),
        amends: rows(&|week, leaf| Some(week) == own && amended_from.is_some_and(|size| leaf >= size)),
    }
}

fn method(basis: &Basis, week: Week, sealed: &Sealed) -> Method {
    let days = (0..=WEEKS_BEFORE as i64).flat_map(|back| week.back(back).days()).map(Day::Dated);
    let mut objects: Vec<ObjectRow> = days
        .chain([Day::Undated])
        .flat_map(|day| sealed.of_day(day))
        .map(|o| ObjectRow {
            leaf: o.leaf,
            key: o.object.key.clone(),
            sha256: o.object.sha256.to_string(),
            rows: o.rows.count,
        })
        .collect();
    objects.sort_by_key(|o| o.leaf);
    Method {
        definitions: queries::definitions(),
        setup: queries::setup(&format!("reports/{week}/{}.json", basis.stem())),
        queries: queries::queries(week),
        bounds: queries::bounds(),
        objects,
    }
}
