//! What is sealed, seal by seal, to hits.
//!
//! A seal is the manifests that share a detail object. Its `add` manifests give rows, its detail object the
//! records that went to quarantine. Other kinds of manifests mostly rewrite what was looked
//! at before.

use std::collections::{BTreeMap, HashSet};

use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Detail, Fatal, Manifest, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;

use super::Options;
use super::event::{self, Found};
use super::hit::{Facts, Hit, shown};
use super::rule::Rule;
use crate::readable::Readable;
use crate::seal;

/// Records of operations that wait for another one that says how they ended.
const OPENINGS: usize = 10_000;

/// How long records that go to quarantine are added up: an hour.
const HOUR: i64 = 3_600_000_000;

/// What was read and refused within an hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refused {
    /// When the hour began.
    since: i64,
    read: u64,
    refused: u64,
    /// Refused ones that were told already.
    told: u64,
}

/// A range of the log to be looked at.
pub(super) struct Range {
    /// First leaf.
    pub from: u64,
    /// Size of the log.
    pub size: u64,
    /// When what lies before it was archived last, microseconds since 1970: what is new was ingested later.
    pub since: i64,
}

impl Range {
    /// The log from a leaf on.
    pub fn new(store: &dyn BlobStore, from: u64, size: u64) -> Result<Self, Fatal> {
        let mut since = i64::MIN;
        if from > 0 {
            seal::read_entries(store, size, from - 1, from, &mut |_, bytes| {
                since = Manifest::parse(bytes).map_or(i64::MIN, |m| m.archived);
                Ok(())
            })?;
        }
        Ok(Self { from, size, since })
    }
}

/// One seal.
struct Seal {
    detail: String,
    leaf: u64,
    archived: Timestamp,
    /// Archive objects with new rows, and from when on they were ingested: of a rewrite, not all are new.
    objects: Vec<(String, i64)>,
    /// How many rows are new.
    rows: u64,
}

/// Looks at the seals of a range, in order, and hands over leaf, time of archiving and hit.
///
/// An object that was replaced before it was looked at is not there any more: then the new rows of those that
/// replaced objects of its partition are looked at.
pub(super) fn look(
    (store, masker): (&dyn BlobStore, &Masker),
    options: &Options,
    readable: &Readable,
    range: &Range,
    refused: &mut Refused,
    each: &mut dyn FnMut(u64, Timestamp, &Hit) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut look = Look { store, masker, options, refused };
    let live = readable.object_keys();
    let mut replaced: HashSet<(String, String)> = HashSet::new();
    let mut open: Option<Seal> = None;
    seal::read_entries(store, range.size, range.from, range.size, &mut |leaf, bytes| {
        let manifest = Manifest::parse(bytes)
            .map_err(|e| Fatal::new("Fatal.LogEntry", format!("log entry {leaf}: {e}")))?;
        if open.as_ref().is_some_and(|s| s.detail != manifest.detail.key)
            && let Some(seal) = open.take()
        {
            look.seal(&seal, each)?;
        }
        let seal = open.get_or_insert(Seal {
            detail: manifest.detail.key,
            leaf,
            archived: Timestamp(manifest.archived),
            objects: Vec::new(),
            rows: 0,
        });
        if let (Some(object), Some(rows)) = (manifest.object, manifest.rows) {
            let is_new = manifest.kind == ManifestKind::Add;
            let partition = (rows.dataset, rows.day);
            if is_new {
                // A manifest may claim any number.
                seal.rows = seal.rows.saturating_add(rows.count);
            }
            if live.contains(object.key.as_str()) && (is_new || replaced.contains(&partition)) {
                // By the log and not by a clock, which may have been put back.
                seal.objects.push((object.key, if is_new { i64::MIN } else { range.since }));
            } else {
                replaced.insert(partition);
            }
        }
        Ok(())
    })?;
    match open {
        Some(seal) => look.seal(&seal, each),
        None => Ok(()),
    }
}

struct Look<'a> {
    store: &'a dyn BlobStore,
    masker: &'a Masker,
    options: &'a Options,
    refused: &'a mut Refused,
}

impl Look<'_> {
    fn seal(
        &mut self,
        seal: &Seal,
        each: &mut dyn FnMut(u64, Timestamp, &Hit) -> Result<(), Fatal>,
    ) -> Result<(), Fatal> {
        if let Some(hit) = self.quarantine(seal)? {
            each(seal.leaf, seal.archived, &hit)?;
        }
        let mut openings: BTreeMap<(Rule, String), Hit> = BTreeMap::new();
        let mut ended: HashSet<(Rule, String)> = HashSet::new();
        for (key, since) in &seal.objects {
            let mut failed = Ok(());
            let mut take = |found: Found| {
                let Found { hit, operation, opening } = found;
                match operation.map(|operation| (hit.rule, operation)) {
                    Some(call) if opening && openings.len() < OPENINGS => {
                        openings.entry(call).or_insert(hit);
                        return;
                    }
                    Some(call) if !opening && ended.len() < OPENINGS => {
                        ended.insert(call);
                    }
                    _ => {}
                }
                if failed.is_ok() && !self.options.off.contains(&hit.rule) {
                    failed = each(seal.leaf, seal.archived, &hit);
                }
            };
            match event::hits(self.store, key, *since, self.masker, &mut take) {
                Ok(()) => failed?,
                // The store does not answer: later it may.
                Err(e) if e.code.starts_with("Retryable.") => return Err(e),
                // What can never be read must not keep the rest from being told.
                Err(e) => each(seal.leaf, seal.archived, &unreadable(key, &e))?,
            }
        }
        openings.retain(|call, hit| !ended.contains(call) && !self.options.off.contains(&hit.rule));
        let mut left: Vec<Hit> = openings.into_values().collect();
        left.sort_by_key(|hit| (hit.time, hit.uid));
        for mut hit in left {
            hit.facts.detail.get_or_insert_with(|| "no record says how it ended".into());
            each(seal.leaf, seal.archived, &hit)?;
        }
        Ok(())
    }

    /// Adds up what a seal read and refused; a hit where that is more than is usual.
    fn quarantine(&mut self, seal: &Seal) -> Result<Option<Hit>, Fatal> {
        let parsed = self.store.get(&seal.detail)?.and_then(|bytes| Detail::parse(&bytes).ok());
        // What is missing or damaged is a finding of verify.
        let Some(detail) = parsed else { return Ok(None) };
        let refused = detail.quarantine.len() as u64;
        let read = detail.inputs.iter().fold(0u64, |n, i| n.saturating_add(i.read)).max(seal.rows + refused);
        let sums = &mut *self.refused;
        if seal.archived.0.saturating_sub(sums.since) >= HOUR || seal.archived.0 < sums.since {
            *sums = Refused { since: seal.archived.0, ..Refused::default() };
        }
        sums.read = sums.read.saturating_add(read);
        sums.refused = sums.refused.saturating_add(refused);
        let limit = &self.options.quarantine;
        let many = sums.refused > limit.records
            && sums.refused.saturating_mul(100) > sums.read.saturating_mul(limit.percent);
        if refused == 0 || !many || self.options.off.contains(&Rule::Quarantine) {
            return Ok(None);
        }
        let count = sums.refused - sums.told;
        sums.told = sums.refused;
        let ids = detail.quarantine.iter().filter_map(|q| q.key.strip_prefix("quarantine/")).take(1);
        let mut explain = vec!["quarantine".to_owned(), "show".into()];
        explain.extend(ids.map(str::to_owned));
        Ok(Some(Hit {
            rule: Rule::Quarantine,
            severity: Rule::Quarantine.severity(),
            failed: false,
            key: "quarantine".into(),
            time: None,
            uid: None,
            count,
            facts: Facts {
                detail: Some(format!("{} of {} records within an hour", sums.refused, sums.read)),
                ..Facts::default()
            },
            explain,
        }))
    }
}

fn unreadable(key: &str, error: &Fatal) -> Hit {
    Hit {
        rule: Rule::VerifyFailed,
        severity: Rule::VerifyFailed.severity(),
        failed: false,
        key: shown(key),
        time: None,
        uid: None,
        count: 1,
        facts: Facts {
            detail: Some(shown(&format!("its events were not looked at: {}", error.message))),
            ..Facts::default()
        },
        explain: vec!["verify".into()],
    }
}
