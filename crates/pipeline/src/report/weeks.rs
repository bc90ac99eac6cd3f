//! The archive folded a day at a time, and days put together to weeks.
//!
//! What was folded of a day is kept in `state/report/<day>`, with the hashes of the day's objects and the
//! version of the fold; where these are no longer the same, the day is read again. All of it can be deleted. It is
//! tagged ([`crate::tagged`]), since whoever could write it could choose a report's numbers.
//! In: sealed objects. Out: [`WeekFold`]s.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use keytrail_archive::{Projection, Selection};
use keytrail_model::{Day, Fatal, Hash};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;
use keytrail_report::model::{Lost, WEEKS_BEFORE};
use serde::{Deserialize, Serialize};

use super::day::{DayFold, FOLD_VERSION, Folding, SourceDay, SourceName};
use super::earlier::{Part, part};
use super::fields::{Fields, projection};
use super::sealed::{Refused, Sealed};
use super::week::Week;
use crate::objects;
use crate::readable::SealedObject;
use crate::tagged;

/// A week.
#[derive(Default)]
pub struct WeekFold {
    /// All days together.
    pub all: DayFold,
    /// By day: sources by dataset and name.
    pub days: Vec<(i64, BTreeMap<SourceName, SourceDay>)>,
    /// Objects that could not be read.
    pub unreadable: Vec<Lost>,
}

/// Told how far the fold is.
pub trait Folded {
    /// A day was read: its name, and its rows.
    fn day(&self, day: &str, rows: u64);
}

/// Folds of one checkpoint.
pub struct Weeks<'a> {
    store: &'a dyn BlobStore,
    /// Tags what is kept of days; without it nothing is.
    masker: Option<&'a Masker>,
    sealed: &'a Sealed,
    /// The newest head, where the checkpoint is an older one.
    now: Option<&'a Sealed>,
    told: &'a dyn Folded,
    refused: Option<Rc<Refused>>,
    /// The weeks that were asked for last.
    kept: VecDeque<(Week, Rc<WeekFold>)>,
}

const TAG_DOMAIN: &[u8] = b"keytrail/report-day/1\n";

/// What is kept of a day.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    fold: u32,
    objects: Vec<Hash>,
    day: DayFold,
}

impl<'a> Weeks<'a> {
    /// Nothing is folded yet.
    pub fn new(
        store: &'a dyn BlobStore,
        masker: Option<&'a Masker>,
        sealed: &'a Sealed,
        told: &'a dyn Folded,
    ) -> Self {
        Self { store, masker, sealed, now: None, told, refused: None, kept: VecDeque::new() }
    }

    /// Of an older checkpoint than that of `now`: objects that were written again since are read as they are
    /// now, but for rows that were sealed later.
    pub fn of_older(
        store: &'a dyn BlobStore,
        masker: Option<&'a Masker>,
        sealed: &'a Sealed,
        now: &'a Sealed,
        told: &'a dyn Folded,
    ) -> Self {
        Self { now: Some(now), ..Self::new(store, masker, sealed, told) }
    }

    /// What is refused at the checkpoint.
    pub fn refused(&mut self) -> Result<Rc<Refused>, Fatal> {
        if let Some(known) = &self.refused {
            return Ok(Rc::clone(known));
        }
        let refused = Rc::new(self.sealed.refused(self.store)?);
        self.refused = Some(Rc::clone(&refused));
        Ok(refused)
    }

    /// A week.
    pub fn week(&mut self, week: Week) -> Result<Rc<WeekFold>, Fatal> {
        if let Some((_, known)) = self.kept.iter().find(|(w, _)| *w == week) {
            return Ok(Rc::clone(known));
        }
        let mut fold = WeekFold::default();
        for day in week.days() {
            let (folded, unreadable) = self.day(Day::Dated(day))?;
            fold.days.push((day, folded.sources.clone()));
            fold.all.add(folded);
            fold.unreadable.extend(unreadable);
        }
        let fold = Rc::new(fold);
        if self.kept.len() > WEEKS_BEFORE {
            self.kept.pop_front();
        }
        self.kept.push_back((week, Rc::clone(&fold)));
        Ok(fold)
    }

    /// A day, and its objects that could not be read.
    pub fn day(&self, day: Day) -> Result<(DayFold, Vec<Lost>), Fatal> {
        let objects = self.sealed.of_day(day);
        if objects.is_empty() {
            return Ok(Default::default());
        }
        let mut hashes: Vec<Hash> = objects.iter().map(|o| o.object.sha256).collect();
        hashes.sort_unstable();
        let place = format!("state/report/{day}");
        if let Some(masker) = self.masker
            && let Some(file) = self.store.get(&place)?
            && let Ok(kept) = tagged::read::<Kept>(masker, TAG_DOMAIN, &file)
            && (kept.fold, &kept.objects) == (FOLD_VERSION, &hashes)
        {
            return Ok((kept.day, Vec::new()));
        }
        let now = self
            .now
            .map(|now| now.of_day(day))
            .filter(|now| !objects.iter().all(|object| now.iter().any(|there| there.leaf == object.leaf)));
        let (folded, unreadable) = self.folded(day, now.unwrap_or(objects))?;
        self.told.day(&day.to_string(), folded.events());
        if let Some(masker) = self.masker.filter(|_| unreadable.is_empty() && self.now.is_none()) {
            let kept = Kept { fold: FOLD_VERSION, objects: hashes, day: folded };
            self.store.replace(&place, &tagged::write(masker, TAG_DOMAIN, &kept)?)?;
            return Ok((kept.day, unreadable));
        }
        Ok((folded, unreadable))
    }

    /// Reads a day: again without the objects that turn out to be damaged, so that none counts by halves.
    fn folded(&self, day: Day, objects: &[SealedObject]) -> Result<(DayFold, Vec<Lost>), Fatal> {
        let mut unreadable: Vec<Lost> = Vec::new();
        'again: loop {
            let mut folding = Folding::new(match day {
                Day::Dated(day) => Some(day),
                Day::Undated => None,
            });
            for object in objects.iter().filter(|o| !unreadable.iter().any(|lost| lost.leaf == o.leaf)) {
                match self.object(object, &mut folding) {
                    Ok(()) => {}
                    // What is wrong with it is among the findings, too.
                    Err(e) if matches!(e.code, "Fatal.ObjectMissing" | "Fatal.ArchiveDamaged") => {
                        unreadable.push(lost(object, e.message));
                        continue 'again;
                    }
                    Err(e) => return Err(e),
                }
            }
            unreadable.sort_by_key(|lost| lost.leaf);
            return Ok((folding.finish(), unreadable));
        }
    }

    fn object(&self, object: &SealedObject, folding: &mut Folding) -> Result<(), Fatal> {
        let key = &object.object.key;
        let wanted = match self.now {
            Some(now) => part(self.store, now.readable.history(), object, self.sealed.size)?,
            None => Part::All,
        };
        if wanted == Part::None {
            return Ok(());
        }
        let reader = objects::open(self.store, key)?;
        for batch in reader.batches(&Projection::Columns(projection()), Selection::All) {
            for row in batch.map_err(|e| objects::at(key, e))?.rows() {
                if wanted.has(row.number) {
                    folding.add(&object.rows.dataset, &Fields::of(&row));
                }
            }
        }
        Ok(())
    }
}

/// An object whose events are not told of.
pub fn lost(object: &SealedObject, why: String) -> Lost {
    Lost {
        dataset: object.rows.dataset.clone(),
        day: object.rows.day.clone(),
        leaf: object.leaf,
        rows: object.rows.count,
        why,
    }
}
