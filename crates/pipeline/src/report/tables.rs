//! Tables of a report from the folds of its week and of the weeks before.

use std::collections::BTreeSet;
use std::rc::Rc;

use keytrail_model::{ActionClass, Timestamp};
use keytrail_report::model::{
    ActorRow, ClassRow, FailureRow, Failures, Figure, KindRow, Operations, Others, Privileged, PrivilegedRow,
    WEEKS_OF_MEDIAN,
};

use super::day::{Count, DayFold, SourceName};
use super::fields::Kind;
use super::names::{Name, Names};
use super::weeks::WeekFold;

/// Actors shown.
pub const ACTORS: usize = 100;
/// Keys shown.
pub const KEYS: usize = 200;
/// Groups of privileged operations shown.
pub const GROUPS: usize = 200;
/// Failing actors and keys shown, each.
pub const FAILURES: usize = 50;

/// A week and those before, oldest first.
pub struct Folds {
    /// The week.
    pub week: Rc<WeekFold>,
    /// Those before.
    pub before: Vec<Rc<WeekFold>>,
}

impl Folds {
    /// A number of each of the weeks before; `None` where there is no event.
    fn before(&self, number: impl Fn(&DayFold) -> u64) -> Vec<Option<u64>> {
        self.before.iter().map(|w| (w.all.events() > 0).then(|| number(&w.all))).collect()
    }

    /// Failures of the weeks that medians are over; `None` where the dataset has no event.
    fn failures_before(&self, dataset: &str, failures: impl Fn(&DayFold) -> Option<u64>) -> Vec<Option<u64>> {
        self.of_median().map(|w| if w.all.events_of(dataset) > 0 { failures(&w.all) } else { None }).collect()
    }

    fn of_median(&self) -> impl Iterator<Item = &Rc<WeekFold>> {
        self.before.iter().skip(self.before.len().saturating_sub(WEEKS_OF_MEDIAN))
    }
}

/// The mean of the middle two of the last four, rounded down.
pub fn median(before: &[Option<u64>]) -> Option<u64> {
    let last = before.get(before.len().checked_sub(WEEKS_OF_MEDIAN)?..)?;
    let mut known: Vec<u64> = last.iter().copied().collect::<Option<_>>()?;
    known.sort_unstable();
    let (low, high) = (known.get(WEEKS_OF_MEDIAN / 2 - 1)?, known.get(WEEKS_OF_MEDIAN / 2)?);
    Some(low.midpoint(*high))
}

/// RFC 3339.
pub fn time(micros: i64) -> String {
    Timestamp(micros).to_rfc3339()
}

/// A number of a fold; `None` where there were too many names.
type Number = fn(&DayFold) -> Option<u64>;

/// The counts of the first page.
pub fn figures(folds: &Folds) -> Vec<Figure> {
    let numbers: [(&str, Number); 7] = [
        ("events", |f| Some(f.events())),
        ("operations", |f| Some(f.operations().operations)),
        ("key operations", |f| Some(f.key_operations().operations)),
        ("failures", |f| Some(f.operations().failures)),
        ("privileged operations", |f| Some(f.privileged_operations().operations)),
        ("actors", |f| Some(f.actors.all()?.len() as u64)),
        ("keys", |f| Some(f.keys.all()?.len() as u64)),
    ];
    let figure = |(name, number): &(&str, Number)| {
        let before: Vec<Option<u64>> =
            folds.before.iter().map(|w| if w.all.events() > 0 { number(&w.all) } else { None }).collect();
        Some(Figure {
            name: (*name).to_owned(),
            count: number(&folds.week.all)?,
            median: median(&before),
            before,
        })
    };
    numbers.iter().filter_map(figure).collect()
}

/// What was done with keys.
pub fn operations(folds: &Folds) -> Operations {
    let fold = &folds.week.all;
    let of = |fold: &DayFold, i: usize| fold.classes.get(i).copied().unwrap_or_default();
    let classes = ActionClass::ALL.into_iter().enumerate().map(|(i, class)| {
        let count = of(fold, i);
        let before = folds.before(|f| of(f, i).operations);
        ClassRow {
            class: class.name().to_owned(),
            operations: count.operations,
            failures: count.failures,
            median: median(&before),
            before,
        }
    });
    let total = fold.key_operations();
    let (rows, others) = shown(&fold.actors, ACTORS, total, |a| a.keys, |a| a.keys.operations);
    let actors = rows.into_iter().map(|(name, actor)| ActorRow {
        dataset: text(name, 0).unwrap_or_default(),
        account: text(name, 1),
        actor: text(name, 2),
        operations: actor.keys.operations,
        failures: actor.keys.failures,
        last: actor.last.map(time).unwrap_or_default(),
    });
    Operations {
        total: total.operations,
        failures: total.failures,
        classes: classes.filter(|c| c.operations > 0 || c.before.iter().flatten().any(|n| *n > 0)).collect(),
        actors: actors.collect(),
        others,
    }
}

/// What only few may do.
pub fn privileged(folds: &Folds) -> Privileged {
    let fold = &folds.week.all;
    let of = |fold: &DayFold, i: usize| fold.kinds.get(i).copied().unwrap_or_default();
    let kinds = Kind::ALL.into_iter().enumerate().map(|(i, kind)| {
        let count = of(fold, i);
        let before = folds.before(|f| of(f, i).operations);
        KindRow {
            kind: kind.name().to_owned(),
            operations: count.operations,
            failures: count.failures,
            median: median(&before),
        }
    });
    let total = fold.privileged_operations();
    let mut groups: Vec<_> = fold.privileged.all().into_iter().flatten().collect();
    groups.sort_by(|(_, a), (_, b)| a.first.cmp(&b.first));
    let all = groups.len();
    groups.truncate(GROUPS);
    let others = Others {
        names: fold.privileged.all().map(|_| (all - groups.len()) as u64),
        ..rest(total, groups.iter().map(|(_, g)| g.count))
    };
    let groups = groups.into_iter().map(|(name, group)| {
        let (first, uid) = group.first.clone().unwrap_or_default();
        PrivilegedRow {
            kind: text(name, 0).unwrap_or_default(),
            dataset: text(name, 1).unwrap_or_default(),
            account: text(name, 2),
            actor: text(name, 3),
            action: text(name, 4).unwrap_or_default(),
            key: text(name, 5),
            outcome: text(name, 6),
            operations: group.count.operations,
            first: time(first),
            last: time(group.last),
            uid,
        }
    });
    Privileged { kinds: kinds.collect(), groups: groups.collect(), others }
}

/// What did not succeed.
pub fn failures(folds: &Folds) -> Failures {
    let fold = &folds.week.all;
    let row =
        |dataset: String, account, name: Option<String>, count: Count, before: Vec<Option<u64>>| FailureRow {
            dataset,
            account,
            name,
            operations: count.operations,
            failures: count.failures,
            median: median(&before),
            before,
        };
    let mut sources: Vec<FailureRow> = fold
        .sources
        .iter()
        .filter(|(_, source)| source.count.failures > 0)
        .map(|((dataset, name), source)| {
            let of = (dataset.clone(), name.clone());
            let before = folds.failures_before(dataset, |f| {
                Some(f.sources.get(&of).map_or(0, |source| source.count.failures))
            });
            row(of.0.clone(), None, Some(of.1.clone()), source.count, before)
        })
        .collect();
    sources.sort_by_key(|row| std::cmp::Reverse(row.failures));
    let (rows, other_actors) =
        shown(&fold.actors, FAILURES, fold.operations(), |a| a.all, |a| a.all.failures);
    let actors = rows.into_iter().map(|(name, actor)| {
        let dataset = text(name, 0).unwrap_or_default();
        let before = folds.failures_before(&dataset, |f| {
            f.actors.all().map(|all| all.get(name).map_or(0, |actor| actor.all.failures))
        });
        row(dataset, text(name, 1), text(name, 2), actor.all, before)
    });
    let total = super::day::sum(fold.keys.all().into_iter().flatten().map(|(_, key)| key.count));
    let total = if fold.keys.all().is_some() { total } else { fold.key_operations() };
    let (rows, other_keys) = shown(&fold.keys, FAILURES, total, |k| k.count, |k| k.count.failures);
    let keys = rows.into_iter().map(|(name, key)| {
        let dataset = text(name, 0).unwrap_or_default();
        let before = folds.failures_before(&dataset, |f| {
            f.keys.all().map(|all| all.get(name).map_or(0, |key| key.count.failures))
        });
        row(dataset, None, text(name, 1), key.count, before)
    });
    Failures { sources, actors: actors.collect(), other_actors, keys: keys.collect(), other_keys }
}

/// A row of a table.
type Row<'a, V> = (&'a Name, &'a V);

/// The rows of the greatest rank, but those of none, and what is left; equal ones by name.
fn shown<V>(
    names: &Names<V>,
    limit: usize,
    total: Count,
    count: impl Fn(&V) -> Count,
    rank: impl Fn(&V) -> u64,
) -> (Vec<Row<'_, V>>, Others) {
    let mut rows: Vec<_> = names.all().into_iter().flatten().filter(|(_, v)| rank(v) > 0).collect();
    rows.sort_by(|(a, v), (b, w)| rank(w).cmp(&rank(v)).then_with(|| a.cmp(b)));
    let all = rows.len();
    rows.truncate(limit);
    let others = Others {
        names: names.all().map(|_| (all - rows.len()) as u64),
        ..rest(total, rows.iter().map(|(_, v)| count(v)))
    };
    (rows, others)
}

/// What of a total is not shown.
pub fn rest(total: Count, shown: impl Iterator<Item = Count>) -> Others {
    let shown = super::day::sum(shown);
    Others {
        names: None,
        operations: total.operations.saturating_sub(shown.operations),
        failures: total.failures.saturating_sub(shown.failures),
    }
}

/// A part of a name.
pub fn text(name: &Name, part: usize) -> Option<String> {
    name.get(part).cloned().flatten()
}

/// The sources that were heard in some of the weeks.
pub fn heard<'a>(weeks: impl Iterator<Item = &'a Rc<WeekFold>>) -> BTreeSet<SourceName> {
    weeks.flat_map(|w| w.all.sources.keys().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_history_is_not_zero() {
        assert_eq!(median(&[Some(9), Some(1), Some(4), Some(2), Some(7)]), Some(3));
        assert_eq!(median(&[Some(0), Some(0), Some(1), Some(0)]), Some(0));
        assert_eq!(median(&[Some(9), Some(1), None, Some(2), Some(7)]), None);
        assert_eq!(median(&[Some(9), Some(1), Some(2)]), None);
    }
}
