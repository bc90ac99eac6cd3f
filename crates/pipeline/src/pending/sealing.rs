//! A sealer's turn: what of pending batches is new, and in which order it is sealed, told and forgotten.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use keytrail_archive::{Projection, Selection};
use keytrail_model::manifest::{ManifestKind, ObjectRef, RowsRef};
use keytrail_model::{Day, Detail, Fatal, Hash, Manifest, Partition, Uid};

use super::{Done, PENDING, Pending, RawObject, Sealed, Taken, replaced};
use crate::dedup::{Dedup, Verdict};
use crate::readable::{SealedObject, sealed_detail};
use crate::rewrite::Rewriter;
use crate::trail::Trail;
use crate::{concurrent, objects};

/// Batches that become one append to the log.
const BATCHES_AT_ONCE: usize = 256;

pub(super) struct Sealing<'a> {
    trail: &'a Trail<'a>,
    dedup: Dedup<'a>,
    /// Objects that this seal names.
    named: HashSet<String>,
    /// What its batches list.
    lists: Lists,
    /// The partition whose sealed objects could not be entered, and why.
    lost: Option<(Partition, String)>,
    /// A sealed object that is not there was not replaced meanwhile, since the log was read so often: it is lost.
    last: bool,
}

/// Batches, and what is to be sealed of them.
#[derive(Default)]
struct Turn {
    batches: Vec<(String, Pending, Judged)>,
    /// Batches that others sealed meanwhile.
    gone: u64,
}

/// Whether batches were judged. Where one cannot be sealed, what was judged before it is judged anew without it.
enum Judging {
    Done(Turn),
    Unsealable,
}

/// Batches that are not sealed now.
#[derive(Default)]
struct Waiting {
    /// Why, by key.
    why: BTreeMap<String, String>,
    /// Objects that they hold some of: they stay open.
    objects: HashSet<RawObject>,
    /// Partitions whose sealed objects cannot be read, and why: no batch of theirs can be sealed.
    partitions: BTreeMap<Partition, String>,
}

impl Waiting {
    fn add(&mut self, key: &str, pending: Option<Pending>, why: String) {
        self.why.insert(key.to_owned(), why);
        self.objects.extend(pending.into_iter().flat_map(Pending::into_objects));
    }
}

/// What is to be sealed of a batch.
#[derive(Default)]
struct Judged {
    manifests: Vec<Manifest>,
    /// Objects that nothing will name.
    leftover: Vec<String>,
    rows: u64,
    copies: u64,
    /// An archive object of it is not there.
    incomplete: bool,
}

/// Codes of errors of a batch that cannot be sealed.
const UNREADABLE: [&str; 4] =
    ["Fatal.Archive", "Fatal.ArchiveDamaged", "Fatal.ObjectConflict", "Fatal.ObjectMissing"];

impl<'a> Sealing<'a> {
    pub(super) fn new(trail: &'a Trail<'a>, last: bool) -> Self {
        let (named, lists) = (HashSet::new(), Lists::default());
        Self { trail, dedup: Dedup::new(trail), named, lists, lost: None, last }
    }

    /// Seals what is pending, as far as time suffices.
    pub(super) fn run(
        mut self,
        known: &mut Sealed,
        taken: &Taken<'_>,
        stop: &AtomicBool,
    ) -> Result<Done, Fatal> {
        let trail = self.trail;
        let keys = trail.store.list(PENDING)?;
        let mut waiting = Waiting::default();
        let Turn { batches, gone } = loop {
            match self.turn(known, &keys, &mut waiting, stop)? {
                Judging::Done(turn) => break turn,
                // One that cannot be sealed keeps no others. What was judged against it is judged anew: its rows are
                // nobody's copies.
                Judging::Unsealable => {
                    waiting.partitions.extend(self.lost.take());
                    self = Self::new(trail, self.last);
                }
            }
        };
        let head = known.head.clone().ok_or_else(|| Fatal::new("Fatal.Internal", "the log has no head"))?;
        let mut done = Done {
            head,
            batches: batches.len() as u64,
            entries: 0,
            rows: batches.iter().map(|(.., judged)| judged.rows).sum(),
            copies: batches.iter().map(|(.., judged)| judged.copies).sum(),
            archived: None,
            waiting: (keys.len() as u64).saturating_sub(gone + batches.len() as u64),
            unreadable: waiting.why.into_values().collect(),
            retries: 0,
        };
        for manifest in batches.iter().flat_map(|(_, pending, _)| &pending.manifests) {
            let (first, last) = done.archived.unwrap_or((manifest.archived, manifest.archived));
            done.archived = Some((first.min(manifest.archived), last.max(manifest.archived)));
        }
        let manifests = batches.iter().flat_map(|(.., judged)| &judged.manifests);
        let entries: Vec<Vec<u8>> = manifests.map(Manifest::to_bytes).collect();
        if !entries.is_empty() {
            let head = trail.log().append(Some(known.readable.size), &entries)?;
            done.entries = entries.len() as u64;
            done.head = head.clone();
            known.extend(trail, head)?;
        }
        let named = known.readable.object_keys();
        for (key, pending, judged) in batches {
            let leftover = || {
                let unnamed = judged.leftover.iter().filter(|key| !named.contains(key.as_str()));
                unnamed.into_iter().try_for_each(|key| trail.store.delete(key))
            };
            // Who finds neither it nor the log's word of it takes it for lost. A batch is given again then, but one that is
            // a part of an object would wait for ever: it is forgotten first, and what is left over is an orphan at worst.
            if pending.part.is_none() {
                leftover()?;
            }
            // What is not in the archive has to be given again.
            if !judged.incomplete {
                let done: Vec<_> = pending.objects.iter().filter(|o| !waiting.objects.contains(*o)).collect();
                concurrent::each(&done, |object| taken(object))?;
            }
            trail.store.delete(&key)?;
            if pending.part.is_some() {
                leftover()?;
            }
        }
        Ok(done)
    }

    /// Judges batches, one against those before it, as many as are sealed at once.
    fn turn(
        &mut self,
        known: &Sealed,
        keys: &[String],
        waiting: &mut Waiting,
        stop: &AtomicBool,
    ) -> Result<Judging, Fatal> {
        let mut turn = Turn::default();
        for key in keys {
            if turn.batches.len() >= BATCHES_AT_ONCE || stop.load(Ordering::Relaxed) {
                break;
            }
            if waiting.why.contains_key(key) {
                continue;
            }
            let pending = match Pending::load(self.trail, key) {
                Ok(Some(pending)) => pending,
                // Another sealer was quicker.
                Ok(None) => {
                    turn.gone += 1;
                    continue;
                }
                Err(e) if UNREADABLE.contains(&e.code) => {
                    waiting.add(key, None, e.message);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if let Some(why) = self.held_up(known, &pending, waiting) {
                waiting.add(key, Some(pending), why);
                continue;
            }
            match self.judge(known, &pending) {
                // Whoever closes the object does not know that some of it is lost.
                Ok(Judged { incomplete: true, .. }) if pending.part.is_some() => {
                    let why = format!(
                        "`{key}`: an archive object of it is not there, and it is a part of a raw object"
                    );
                    waiting.add(key, Some(pending), why);
                    return Ok(Judging::Unsealable);
                }
                Ok(judged) => turn.batches.push((key.clone(), pending, judged)),
                Err(e) if UNREADABLE.contains(&e.code) => {
                    waiting.add(key, Some(pending), e.message);
                    return Ok(Judging::Unsealable);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Judging::Done(turn))
    }

    /// Why a batch cannot be sealed, where it is of a partition that was found to be damaged.
    fn held_up(&self, known: &Sealed, pending: &Pending, waiting: &Waiting) -> Option<String> {
        pending.manifests.iter().find_map(|manifest| {
            let (partition, object, _) = added(manifest).ok()??;
            let why = waiting.partitions.get(&partition)?;
            (!self.is_sealed(known, &partition, object)).then(|| why.clone())
        })
    }

    /// Whether the log names an object, or will by this seal.
    fn is_sealed(&self, known: &Sealed, partition: &Partition, object: &ObjectRef) -> bool {
        let mut sealed = known.readable.partitions.get(partition).into_iter().flatten();
        self.named.contains(&object.key) || sealed.any(|o| o.object.key == object.key)
    }

    /// What of a batch is new.
    fn judge(&mut self, known: &Sealed, pending: &Pending) -> Result<Judged, Fatal> {
        let mut judged = Judged::default();
        let (mut adds, mut is_changed) = (Vec::new(), false);
        for manifest in pending.manifests.iter().filter(|m| m.kind == ManifestKind::Add) {
            match self.without_copies(known, manifest, &mut judged)? {
                Some(add) => {
                    is_changed |= add != *manifest;
                    judged.rows += add.rows.as_ref().map_or(0, |rows| rows.count);
                    adds.push(add);
                }
                None => is_changed = true,
            }
        }
        let Some(first) = pending.manifests.first() else { return Ok(judged) };
        let mut whole = sealed_detail(self.trail.store, &first.detail)?;
        if judged.incomplete {
            // Not all of them is in the archive.
            whole.inputs.clear();
            is_changed = true;
        }
        let detail = self.lists.new_of(known, &whole);
        let has_new = !(detail.inputs.is_empty() && detail.quarantine.is_empty());
        if adds.is_empty() && !has_new {
            return Ok(judged);
        }
        let reference = if detail == whole && !is_changed {
            first.detail.clone()
        } else {
            let (bytes, reference) = detail.to_object();
            self.trail.store.put_if_absent(&reference.key, &bytes)?;
            reference
        };
        if adds.is_empty() {
            let kind = ManifestKind::Inputs;
            adds.push(Manifest { kind, object: None, rows: None, ..first.clone() });
        }
        judged.manifests =
            adds.into_iter().map(|add| Manifest { detail: reference.clone(), ..add }).collect();
        Ok(judged)
    }

    /// A manifest of the rows that the archive does not hold; `None` where there is none.
    fn without_copies(
        &mut self,
        known: &Sealed,
        manifest: &Manifest,
        judged: &mut Judged,
    ) -> Result<Option<Manifest>, Fatal> {
        let Some((partition, object, rows)) = added(manifest)? else { return Ok(None) };
        if self.is_sealed(known, &partition, object) {
            judged.copies += rows.count;
            return Ok(None);
        }
        if let Err(e) = self.dedup.enter(&partition, &known.readable) {
            let e = if self.last { e } else { replaced(e) };
            self.lost = UNREADABLE.contains(&e.code).then(|| (partition, e.message.clone()));
            return Err(e);
        }
        let reader = match objects::open(self.trail.store, &object.key) {
            // An earlier seal found that the archive holds all of it, and was killed before it forgot the batch; or it is lost.
            Err(e) if e.code == "Fatal.ObjectMissing" => {
                judged.incomplete = true;
                return Ok(None);
            }
            opened => opened?,
        };
        let mut copies: HashSet<Uid> = HashSet::new();
        for batch in reader.batches(&Projection::index(), Selection::All) {
            for row in batch.map_err(|e| objects::at(&object.key, e))?.rows() {
                let group = row.group.unwrap_or_default();
                if self.dedup.judge(&partition, group, &row.uid)? == Verdict::Duplicate {
                    copies.insert(row.uid);
                }
            }
        }
        judged.copies += copies.len() as u64;
        if copies.is_empty() {
            self.named.insert(object.key.clone());
            return Ok(Some(manifest.clone()));
        }
        judged.leftover.push(object.key.clone());
        if copies.len() as u64 == rows.count {
            return Ok(None);
        }
        let input = SealedObject {
            leaf: 0,
            object: object.clone(),
            rows: rows.clone(),
            archived: manifest.archived,
            rewrite: None,
        };
        let (object, rows) = Rewriter::new(self.trail, 1).without(&partition, &input, &copies)?;
        self.named.insert(object.key.clone());
        Ok(Some(Manifest { object: Some(object), rows: Some(rows), ..manifest.clone() }))
    }
}

/// The partition, the object and the rows of a manifest that adds some.
fn added(manifest: &Manifest) -> Result<Option<(Partition, &ObjectRef, &RowsRef)>, Fatal> {
    let (Some(object), Some(rows)) = (&manifest.object, &manifest.rows) else { return Ok(None) };
    let day = Day::parse(&rows.day)
        .ok_or_else(|| Fatal::new("Fatal.Archive", format!("`{}` is not a day", rows.day)))?;
    Ok(Some((Partition { dataset: rows.dataset.clone(), day }, object, rows)))
}

/// What the batches of a seal list.
#[derive(Default)]
struct Lists {
    inputs: HashSet<Hash>,
    quarantine: HashSet<String>,
}

impl Lists {
    /// A batch's lists, without what is listed already.
    fn new_of(&mut self, known: &Sealed, detail: &Detail) -> Detail {
        let mut new = detail.clone();
        new.inputs.retain(|i| !known.taken.inputs.contains(&i.sha256) && self.inputs.insert(i.sha256));
        new.quarantine
            .retain(|q| !known.taken.quarantine.contains(&q.key) && self.quarantine.insert(q.key.clone()));
        new
    }
}
