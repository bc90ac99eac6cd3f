//! Grouping: of a rule and key, the first hit is told at once, and what comes within the window after it in
//! one summary at the window's end.
//!
//! A group holds at most one alert that is being sent, which does not change any more, and one tally of
//! what came since. So whatever a log or a receiver that is down does, the state stays small: counts grow,
//! not lists. Beyond [`GROUPS_A_RULE`] keys, further ones of a rule share one group.

use std::collections::BTreeMap;

use keytrail_model::{Fatal, Timestamp};
use serde::{Deserialize, Serialize};

use super::alert::{Alert, Place};
use super::hit::{Facts, Hit};
use super::rule::{Rule, Severity};

/// Keys of a rule that have a group of their own at once.
const GROUPS_A_RULE: usize = 100;

/// The key of the group that further ones share.
const FURTHER: &str = "(further ones)";

/// Uids that an alert names.
const UIDS: usize = 10;

/// How long a state that is seen again and again is not told again: a day.
const STATE_WINDOW: i64 = 86_400_000_000;

/// Hits that are not told yet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tally {
    pub count: u64,
    pub severity: Severity,
    pub first: Option<i64>,
    pub last: Option<i64>,
    /// The first ones.
    pub uids: Vec<String>,
    /// Of the first hit.
    pub facts: Facts,
    pub explain: Vec<String>,
}

impl Tally {
    fn of(hit: &Hit) -> Self {
        Self {
            count: hit.count,
            severity: hit.severity,
            first: hit.time,
            last: hit.time,
            uids: hit.uid.iter().map(ToString::to_string).collect(),
            facts: hit.facts.clone(),
            explain: hit.explain.clone(),
        }
    }

    fn add(&mut self, hit: &Hit) {
        self.count = self.count.saturating_add(hit.count);
        self.severity = self.severity.max(hit.severity);
        self.first = [self.first, hit.time].into_iter().flatten().min();
        self.last = self.last.max(hit.time);
        if self.uids.len() < UIDS {
            self.uids.extend(hit.uid.iter().map(ToString::to_string));
        }
    }
}

/// An alert that is being sent: its text is what was sent before, if it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sending {
    pub id: String,
    pub body: String,
    severity: Severity,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    /// From when on the tally may be told, microseconds since 1970.
    due: i64,
    /// Something was told before within the window.
    told: bool,
    sending: Option<Sending>,
    tally: Option<Tally>,
}

/// What hits are grouped by: rule, whether it failed, key, and dataset and account, within which keys are one
/// of a kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Key(Rule, bool, String, String);

/// All groups of a receiver.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(Key, Group)>", into = "Vec<(Key, Group)>")]
pub(super) struct Groups(BTreeMap<Key, Group>);

impl From<Vec<(Key, Group)>> for Groups {
    fn from(list: Vec<(Key, Group)>) -> Self {
        Self(list.into_iter().collect())
    }
}

impl From<Groups> for Vec<(Key, Group)> {
    fn from(groups: Groups) -> Self {
        groups.0.into_iter().collect()
    }
}

impl Groups {
    /// Counts a hit that was seen at `now`.
    pub fn add(&mut self, hit: &Hit, now: Timestamp) {
        let mut within = [&hit.facts.dataset, &hit.facts.account].map(|f| f.as_deref().unwrap_or_default());
        // One token is used in several namespaces.
        if hit.rule == Rule::RootUsed {
            within[1] = "";
        }
        let mut key = Key(hit.rule, hit.failed, hit.key.clone(), within.join(" "));
        if !self.0.contains_key(&key) {
            let of_rule = self
                .0
                .range(Key(hit.rule, false, String::new(), String::new())..)
                .take_while(|(k, _)| k.0 == hit.rule);
            if of_rule.take(GROUPS_A_RULE).count() == GROUPS_A_RULE {
                key = Key(hit.rule, hit.failed, FURTHER.into(), String::new());
            }
        }
        let group =
            self.0.entry(key).or_insert(Group { due: now.0, told: false, sending: None, tally: None });
        if group.tally.is_none() && group.sending.is_none() && group.due <= now.0 {
            // Its window has passed: this is a first one again.
            group.told = false;
        }
        match &mut group.tally {
            Some(tally) => tally.add(hit),
            None => group.tally = Some(Tally::of(hit)),
        }
    }

    /// Makes alerts of the tallies that are due, shows them to `each`, and forgets groups whose window passed
    /// with nothing in it. Whether anything changed.
    pub fn raise(
        &mut self,
        place: &Place,
        now: Timestamp,
        each: &mut dyn FnMut(&Alert),
    ) -> Result<bool, Fatal> {
        let before = self.0.len();
        self.0.retain(|_, g| g.sending.is_some() || g.tally.is_some() || g.due > now.0);
        let mut changed = self.0.len() != before;
        for (Key(rule, failed, key, _), group) in &mut self.0 {
            // A clock that was ahead when its window began must not hold it back for as long.
            let latest = now.0.saturating_add(STATE_WINDOW);
            if group.due > latest {
                group.due = latest;
                changed = true;
            }
            if group.sending.is_some() || group.due > now.0 {
                continue;
            }
            let Some(tally) = group.tally.take() else { continue };
            let alert = Alert::new(place, *rule, *failed, key, group.told, &tally, now);
            each(&alert);
            group.sending = Some(Sending {
                id: alert.content().id.clone(),
                body: alert.to_json()?,
                severity: tally.severity,
            });
            changed = true;
        }
        Ok(changed)
    }

    /// What is to be sent, but for those that `skip` names, the weightiest first.
    pub fn sending(&self, skip: &dyn Fn(&str) -> bool) -> Option<(&Key, &Sending)> {
        self.0
            .iter()
            .filter_map(|(key, group)| Some((key, group.sending.as_ref()?)))
            .filter(|(_, s)| !skip(&s.id))
            .max_by(|(a, x), (b, y)| (x.severity, *b).cmp(&(y.severity, *a)))
    }

    /// How many alerts wait to be acknowledged.
    pub fn unsent(&self) -> usize {
        self.0.values().filter(|g| g.sending.is_some()).count()
    }

    /// All that is to be sent was acknowledged.
    pub fn acknowledged_all(&mut self, window: i64, now: Timestamp) {
        let sent = self.0.iter().filter(|(_, g)| g.sending.is_some()).map(|(key, _)| key.clone());
        for key in sent.collect::<Vec<_>>() {
            self.acknowledged(&key, window, now);
        }
    }

    /// A receiver acknowledged the alert of a group: its window begins.
    pub fn acknowledged(&mut self, key: &Key, window: i64, now: Timestamp) {
        if let Some(group) = self.0.get_mut(key) {
            group.sending = None;
            group.told = true;
            group.due = now.0.saturating_add(if key.0.is_state() { STATE_WINDOW } else { window });
        }
    }

    /// When the next window ends in which something came.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.0.values().filter(|g| g.tally.is_some()).map(|g| Timestamp(g.due)).min()
    }
}
