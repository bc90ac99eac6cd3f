//! Evaluates and delivers: the few calls that a run or a service makes.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use keytrail_ledger::{Code, Finding};
use keytrail_model::{Fatal, Manifest, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;

use super::group::Groups;
use super::hit::{Facts, Hit, shown};
use super::receiver::{Receiver, Undelivered};
use super::rule::Rule;
use super::seals::{self, Range, Refused};
use super::{Alert, Options, Place, conflict};
use crate::conflicts;
use crate::readable::Readable;
use crate::seal;
use crate::trail::Trail;

/// Where nothing is remembered, what was archived so long ago is looked at: a day.
const LOOK_BACK: i64 = 86_400_000_000;

/// Entries read at once when the log is read from its end.
const BUNDLE: u64 = 256;

/// How long is waited for a receiver's answer at a time.
const ANSWER: Duration = Duration::from_millis(50);

/// Alerts of a trail to its receivers. A run opens one at its end, notes its findings, calls
/// [`sealed`](Self::sealed) and [`deliver`](Self::deliver) with a wait; a service opens one at its start, calls
/// `sealed` after each seal and `deliver` without a wait after it and at each poll.
pub struct Engine {
    options: Options,
    place: Place,
    receivers: Vec<Receiver>,
    readable: Readable,
}

impl Engine {
    /// Takes up what is remembered of each receiver. `size` is that of the sealed log. After an error the
    /// receivers are where they were.
    pub fn open(
        trail: &Trail<'_>,
        options: Options,
        place: Place,
        receivers: &mut Vec<Receiver>,
        size: u64,
    ) -> Result<Self, Fatal> {
        let since = trail.clock.now().0.saturating_sub(LOOK_BACK);
        for receiver in receivers.iter_mut() {
            receiver.resume(trail.store, trail.masker, size, &|| archived_since(trail.store, size, since))?;
        }
        Ok(Self { options, place, receivers: std::mem::take(receivers), readable: Readable::default() })
    }

    /// Looks at what was sealed since the last call, up to a log of `size`. What it finds is remembered, not
    /// told: see [`deliver`](Self::deliver).
    pub fn sealed(&mut self, trail: &Trail<'_>, size: u64) -> Result<(), Fatal> {
        let cursors = self.receivers.iter().map(|r| r.state.cursor).filter(|from| *from < size);
        let cursors: BTreeSet<u64> = cursors.collect();
        if cursors.is_empty() {
            return Ok(());
        }
        if self.readable.size == 0 {
            self.readable = Readable::kept(trail, size)?.unwrap_or_default();
        }
        self.readable.extend(trail.store, size)?;
        let readable = &self.readable;
        for from in cursors {
            let now = trail.clock.now();
            let of_cursor = |r: &&mut Receiver| r.state.cursor == from;
            let mut receivers: Vec<&mut Receiver> = self.receivers.iter_mut().filter(of_cursor).collect();
            let mut refused = receivers.first().map_or(Refused::default(), |r| r.state.refused);
            // A failure on the way leaves all as it was.
            let before: Vec<Groups> = receivers.iter().map(|r| r.state.groups.clone()).collect();
            let mut add = |hit: &Hit| {
                for r in receivers.iter_mut().filter(|r| r.wants(hit.severity)) {
                    r.state.groups.add(hit, now);
                }
            };
            let range = Range::new(trail.store, from, size)?;
            let mut looked = seals::look(
                (trail.store, trail.masker),
                &self.options,
                readable,
                &range,
                &mut refused,
                &mut |_, _, hit| {
                    add(hit);
                    Ok(())
                },
            );
            if looked.is_ok() && !self.options.off.contains(&Rule::Conflict) {
                looked = conflict::of_new(trail, readable, &range, &mut |_, hit| {
                    add(hit);
                    Ok(())
                });
            }
            for (receiver, before) in receivers.iter_mut().zip(before) {
                match &looked {
                    Ok(()) => {
                        receiver.state.cursor = size;
                        receiver.state.refused = refused;
                        receiver.save(trail.store, trail.masker)?;
                    }
                    Err(_) => receiver.state.groups = before,
                }
            }
            looked?;
        }
        Ok(())
    }

    /// Notes what a verify of keytrail's own found. CONFLICT is left out: [`sealed`](Self::sealed) tells of
    /// new ones.
    pub fn findings<'f>(
        &mut self,
        trail: &Trail<'_>,
        findings: impl IntoIterator<Item = &'f Finding>,
    ) -> Result<(), Fatal> {
        let hits: Vec<Hit> = findings.into_iter().filter_map(of_finding).collect();
        self.note(trail, &hits)
    }

    /// Notes what ended a run.
    pub fn failed(&mut self, trail: &Trail<'_>, fatal: &Fatal) -> Result<(), Fatal> {
        let rule = Rule::VerifyFailed;
        let detail = shown(&format!("a run ended with: {}", fatal.message));
        let hit = Hit {
            rule,
            severity: rule.severity(),
            failed: false,
            key: fatal.code.to_owned(),
            time: None,
            uid: None,
            count: 1,
            facts: Facts { detail: Some(detail), ..Facts::default() },
            explain: vec!["verify".into()],
        };
        self.note(trail, &[hit])
    }

    /// Notes that a declared source is silent: its name, when it was heard last (microseconds since 1970), and
    /// in words for how long it may be.
    pub fn silent(
        &mut self,
        trail: &Trail<'_>,
        source: &str,
        last: Option<i64>,
        allowed: &str,
    ) -> Result<(), Fatal> {
        let rule = Rule::SourceSilent;
        let heard = last.map_or_else(|| "never".to_owned(), |t| Timestamp(t).to_rfc3339());
        let hit = Hit {
            rule,
            severity: rule.severity(),
            failed: false,
            key: shown(source),
            time: last,
            uid: None,
            count: 1,
            facts: Facts {
                source: Some(shown(source)),
                detail: Some(format!("heard last: {heard}; allowed silence: {allowed}")),
                ..Facts::default()
            },
            explain: vec!["sources".into()],
        };
        self.note(trail, &[hit])
    }

    fn note(&mut self, trail: &Trail<'_>, hits: &[Hit]) -> Result<(), Fatal> {
        let hits: Vec<&Hit> = hits.iter().filter(|h| !self.options.off.contains(&h.rule)).collect();
        if hits.is_empty() {
            return Ok(());
        }
        let now = trail.clock.now();
        for receiver in &mut self.receivers {
            let wanted: Vec<_> = hits.iter().filter(|h| receiver.wants(h.severity)).collect();
            wanted.into_iter().for_each(|hit| receiver.state.groups.add(hit, now));
            receiver.save(trail.store, trail.masker)?;
        }
        Ok(())
    }

    /// Tells what is due and was not acknowledged yet. It returns when all receivers have answered for all of
    /// that, or none has taken anything for `wait`; with a `wait` of zero it only hands over and collects what
    /// has been answered meanwhile, as a service wants it at each poll. Gives what stays due.
    pub fn deliver(&mut self, trail: &Trail<'_>, wait: Duration) -> Result<Vec<Undelivered>, Fatal> {
        let window = self.options.window_micros;
        let now = || trail.clock.now();
        let mut end = Instant::now() + wait;
        loop {
            for receiver in &mut self.receivers {
                let answer = if wait.is_zero() { Duration::ZERO } else { ANSWER };
                let taken = receiver.settle(answer, window, &now);
                if taken {
                    end = Instant::now() + wait;
                }
                // What is sent must be remembered first: sent again it is the same.
                if receiver.raise(&self.place, now())? || taken {
                    receiver.save(trail.store, trail.masker)?;
                }
                receiver.send(now());
            }
            let busy = self.receivers.iter().any(Receiver::is_busy);
            if !busy || Instant::now() >= end {
                return Ok(self.receivers.iter().filter_map(Receiver::undelivered).collect());
            }
        }
    }
}

/// The first log entry from which on all were archived at or after a time, as far as clocks go.
fn archived_since(store: &dyn BlobStore, size: u64, since: i64) -> Result<u64, Fatal> {
    let mut from = size;
    while from > 0 {
        let start = (from - 1) / BUNDLE * BUNDLE;
        let mut older = None;
        seal::read_entries(store, size, start, from, &mut |leaf, bytes| {
            // What is no manifest is a finding of verify.
            if Manifest::parse(bytes).is_ok_and(|m| m.archived < since) {
                older = Some(leaf);
            }
            Ok(())
        })?;
        match older {
            Some(leaf) => return Ok(leaf + 1),
            None => from = start,
        }
    }
    Ok(0)
}

fn of_finding(finding: &Finding) -> Option<Hit> {
    let rule = match finding.code {
        Code::Gap => Rule::Gap,
        Code::TailSilent => Rule::TailSilent,
        code if code.informational() => return None,
        _ => Rule::VerifyFailed,
    };
    let key = match rule {
        Rule::VerifyFailed => finding.code.as_str().to_owned(),
        _ => shown(&finding.element),
    };
    Some(Hit {
        rule,
        severity: rule.severity(),
        failed: false,
        key,
        time: None,
        uid: None,
        count: 1,
        facts: Facts { detail: Some(shown(&finding.to_string())), ..Facts::default() },
        explain: vec!["verify".into()],
    })
}

/// What would have been told of what was archived from a time on (microseconds since 1970), had there been
/// a receiver that takes each alert at once: oldest first. Findings of verify and silence are not in the log,
/// and not among them.
pub fn preview(
    store: &dyn BlobStore,
    masker: &Masker,
    readable: &Readable,
    options: &Options,
    place: &Place,
    from: Option<i64>,
    each: &mut dyn FnMut(&Alert),
) -> Result<(), Fatal> {
    let start = match from {
        None => 0,
        Some(from) => archived_since(store, readable.size, from)?,
    };
    let mut conflicts = if options.off.contains(&Rule::Conflict) {
        Vec::new()
    } else {
        conflicts_of(store, readable, start)?
    };
    conflicts.sort_by_key(|(leaf, _)| *leaf);
    let mut conflicts = conflicts.into_iter().peekable();
    let mut groups = Groups::default();
    let mut last: Option<Timestamp> = None;
    let range = Range::new(store, start, readable.size)?;
    let mut tell = |groups: &mut Groups, until: Option<Timestamp>| -> Result<(), Fatal> {
        while let Some(due) = groups.next_due().filter(|due| until.is_none_or(|until| *due < until)) {
            groups.raise(place, due, each)?;
            groups.acknowledged_all(options.window_micros, due);
        }
        Ok(())
    };
    let refused = &mut Refused::default();
    seals::look((store, masker), options, readable, &range, refused, &mut |leaf, archived, hit| {
        if last != Some(archived) {
            tell(&mut groups, Some(archived))?;
            last = Some(archived);
        }
        while let Some((_, conflict)) = conflicts.next_if(|(at, _)| *at <= leaf) {
            groups.add(&conflict, archived);
        }
        groups.add(hit, archived);
        Ok(())
    })?;
    let end = last.unwrap_or(Timestamp(0));
    conflicts.for_each(|(_, hit)| groups.add(&hit, end));
    tell(&mut groups, None)
}

/// Conflicts with an event in log entries from `start` on, by the entry of the newest one.
fn conflicts_of(store: &dyn BlobStore, readable: &Readable, start: u64) -> Result<Vec<(u64, Hit)>, Fatal> {
    let mut out = Vec::new();
    let leaves: HashMap<&str, u64> = readable.objects().map(|o| (o.object.key.as_str(), o.leaf)).collect();
    conflicts::find(store, readable, &|_| true, &mut |conflict| {
        let leaf = |key: &str| leaves.get(key).copied().unwrap_or_default();
        let newest = conflict.events.iter().max_by_key(|(key, _)| leaf(key));
        if let Some((key, event)) = newest
            && conflict.differs
            && leaf(key) >= start
        {
            out.push((leaf(key), conflict::hit(&conflict, event.uid)));
        }
        Ok(())
    })?;
    Ok(out)
}
