//! Archive objects go when their retention ends, with an entry of the log that says by which rule.
//!
//! An object expires when all of its events, and their archiving, are of days before a limit: what was
//! filled in late is kept as long as all else, counted from when it came. A legal hold keeps what it names.
//! An expired event is forgotten: reading its log again archives it again, and it is kept anew.

use std::collections::BTreeSet;

use keytrail_model::manifest::{Decision, MAX_REPLACED, ManifestKind};
use keytrail_model::{Day, Detail, Fatal, Manifest, Timestamp, Uid};

use crate::holds::Hold;
use crate::readable::{Readable, SealedObject};
use crate::retention;
use crate::rewrite::{self, Sealer};
use crate::trail::Trail;
use crate::withhold::held;

/// How long events are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Days from an event, and from its archiving, after which it expires.
    pub days: u32,
    /// Of this dataset; of all.
    pub dataset: Option<String>,
    /// Events without a usable time expire by the day of their archiving alone; else they never do.
    pub undated: bool,
}

/// What expires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// By rule, in their order: what it says, and the objects.
    pub expired: Vec<(Decision, Vec<SealedObject>)>,
    /// What holds keep, and which hold, by its place.
    pub kept: Vec<(SealedObject, usize)>,
    /// Why objects stay of which nobody can say whether a hold names an event in them.
    pub skipped: Vec<String>,
}

/// Says which of some events an object holds.
pub type Held<'a> = dyn FnMut(&SealedObject, &BTreeSet<Uid>) -> Result<BTreeSet<Uid>, Fatal> + 'a;

/// What expires at a time.
pub fn plan(
    readable: &Readable,
    rules: &[Rule],
    holds: &[Hold],
    now: Timestamp,
    held: &mut Held<'_>,
) -> Result<Plan, Fatal> {
    let uids: BTreeSet<Uid> = holds.iter().filter_map(|h| h.uid).collect();
    let expired = rules.iter().map(|r| (r.decision(now), Vec::new())).collect();
    let mut plan = Plan { expired, kept: Vec::new(), skipped: Vec::new() };
    for object in readable.objects() {
        // The first rule that names its dataset counts, also where a later one is shorter.
        let of = |decision: &Decision| retention::names(decision, object);
        let by = plan.expired.iter().position(|(decision, _)| of(decision));
        let Some(by) = by.filter(|by| retention::allows(&plan.expired[*by].0, object, now)) else { continue };
        let inside = match uids.is_empty() {
            true => Ok(BTreeSet::new()),
            false => held(object, &uids),
        };
        let inside = match inside {
            Ok(inside) => inside,
            Err(e) if rewrite::is_damage(&e) => {
                plan.skipped.push(e.message);
                continue;
            }
            Err(e) => return Err(e),
        };
        match holds.iter().position(|h| h.keeps(object, &inside)) {
            Some(hold) => plan.kept.push((object.clone(), hold)),
            None => plan.expired[by].1.push(object.clone()),
        }
    }
    plan.expired.retain(|(_, objects)| !objects.is_empty());
    Ok(plan)
}

/// Seals what expires now, then deletes it; gives the plan as it was carried out.
pub fn expire(trail: &Trail<'_>, rules: &[Rule], holds: &[Hold]) -> Result<Plan, Fatal> {
    rewrite::upon(trail, |readable| {
        let now = trail.clock.now();
        let plan = plan(readable, rules, holds, now, &mut |object, uids| held(trail.store, object, uids))?;
        let mut sealer = Sealer::new(trail);
        for (decision, objects) in &plan.expired {
            let detail = Detail { decision: Some(decision.clone()), version: 1, ..Detail::default() };
            let (bytes, detail) = detail.to_object();
            trail.store.put_if_absent(&detail.key, &bytes)?;
            let mut leaves: Vec<u64> = objects.iter().map(|o| o.leaf).collect();
            leaves.sort_unstable();
            for some in leaves.chunks(MAX_REPLACED) {
                let manifest = Manifest {
                    archived: now.0,
                    detail: detail.clone(),
                    kind: ManifestKind::Expire,
                    object: None,
                    replaces: some.to_vec(),
                    rows: None,
                    version: 1,
                };
                sealer.add(readable, manifest)?;
            }
        }
        sealer.finish(readable)?;
        Ok(plan)
    })
}

impl Rule {
    fn decision(&self, now: Timestamp) -> Decision {
        let before = Day::Dated(now.days() - i64::from(self.days)).to_string();
        let of = self.dataset.as_deref().unwrap_or("every dataset");
        let undated = if self.undated { ", undated events by their archiving alone" } else { "" };
        let reason = format!(
            "older than {} days: {of}, events and their archiving before {before}{undated}",
            self.days
        );
        Decision {
            before: Some(before),
            dataset: self.dataset.clone(),
            reason,
            uids: Vec::new(),
            undated: self.undated,
        }
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Hash;
    use keytrail_model::manifest::{DetailRef, ObjectRef, RowsRef};

    use super::*;

    const NOW: &str = "2025-01-01T00:00:00Z";

    fn readable(objects: &[(&str, &str, &str)]) -> Readable {
        let mut readable = Readable::default();
        for (leaf, (dataset, day, archived)) in (0..).zip(objects) {
            let archived = Timestamp::parse(&format!("{archived}T12:00:00Z")).unwrap().0;
            let rows = RowsRef {
                count: 1,
                dataset: (*dataset).into(),
                day: (*day).into(),
                events_root: Hash::default(),
                normalizers: Vec::new(),
                rows_root: Hash::default(),
                schema: 1,
                tables: Vec::new(),
                time_max: None,
                time_min: None,
            };
            let detail =
                DetailRef { count: 0, key: "d".into(), root: Hash::default(), sha256: Hash::default() };
            let object = ObjectRef { bytes: 1, key: format!("{leaf}"), sha256: Hash::default() };
            let (object, rows) = (Some(object), Some(rows));
            let kind = ManifestKind::Add;
            let manifest =
                Manifest { archived, detail, kind, object, replaces: Vec::new(), rows, version: 1 };
            readable.add(leaf, manifest).unwrap();
        }
        readable
    }

    fn expired(objects: &[(&str, &str, &str)], rules: &[Rule], holds: &[Hold]) -> (Vec<u64>, Vec<u64>) {
        let now = Timestamp::parse(NOW).unwrap();
        let in_second = |o: &SealedObject, uids: &BTreeSet<Uid>| {
            Ok(if o.leaf == 1 { uids.clone() } else { BTreeSet::new() })
        };
        let plan = plan(&readable(objects), rules, holds, now, &mut { in_second }).unwrap();
        let mut gone: Vec<u64> = plan.expired.iter().flat_map(|(_, o)| o.iter().map(|o| o.leaf)).collect();
        gone.sort_unstable();
        (gone, plan.kept.iter().map(|(o, _)| o.leaf).collect())
    }

    fn rule(days: u32) -> Rule {
        Rule { days, dataset: None, undated: false }
    }

    #[test]
    fn event_and_archiving_have_to_be_older() {
        let objects = [
            ("a", "2024-12-21", "2024-12-21"),
            ("a", "2024-12-22", "2024-12-22"),
            // A back-fill.
            ("a", "2014-01-01", "2024-12-22"),
            ("a", "undated", "2014-01-01"),
            ("b", "2024-12-21", "2024-12-21"),
        ];
        assert_eq!(expired(&objects, &[rule(10)], &[]).0, [0, 4]);
        assert_eq!(expired(&objects, &[rule(10_000)], &[]).0, Vec::<u64>::new());
        assert_eq!(expired(&objects, &[Rule { undated: true, ..rule(10) }], &[]).0, [0, 3, 4]);
        assert_eq!(expired(&objects, &[Rule { dataset: Some("b".into()), ..rule(0) }], &[]).0, [4]);
        let two = [Rule { dataset: Some("b".into()), ..rule(0) }, rule(10)];
        assert_eq!(expired(&objects, &two, &[]).0, [0, 4]);
        // The first that names its dataset counts, also where a later one is shorter.
        let longer = [Rule { dataset: Some("a".into()), ..rule(10_000) }, rule(10)];
        assert_eq!(expired(&objects, &longer, &[]).0, [4]);
    }

    #[test]
    fn holds_keep_what_they_name() {
        let objects = [
            ("a", "2020-01-01", "2020-01-01"),
            ("a", "2020-01-02", "2020-01-02"),
            ("b", "2020-01-03", "2020-01-03"),
            ("b", "undated", "2020-01-03"),
        ];
        let rules = [Rule { undated: true, ..rule(10) }];
        let kept = |hold: Hold| expired(&objects, &rules, &[hold]).1;
        assert_eq!(kept(Hold { dataset: Some("a".into()), ..Hold::default() }), [0, 1]);
        // What has no day may lie inside.
        assert_eq!(kept(Hold { from: Day::parse("2020-01-02"), ..Hold::default() }), [1, 2, 3]);
        assert_eq!(kept(Hold { to: Day::parse("2020-01-01"), ..Hold::default() }), [0, 3]);
        assert_eq!(kept(Hold { uid: Some(Uid([1; 20])), ..Hold::default() }), [1]);
        assert_eq!(
            kept(Hold { uid: Some(Uid([1; 20])), dataset: Some("b".into()), ..Hold::default() }),
            [0; 0]
        );
        assert_eq!(kept(Hold::default()), [0, 1, 2, 3]);
    }
}
