//! Reports that were made: `reports/` of the data folder, and the chain that they are in.
//!
//! `reports/index.json` lists them in the order of their making; each names the hash of the one before.
//! The basis of a report is its first file, its entry in the list the last thing that is written: whatever a
//! killed process left is made again from there, byte for byte.

use std::collections::HashSet;

use keytrail_model::{Fatal, Hash};
use keytrail_ports::{BlobStore, Put, Swap};
use keytrail_report::model::{ReportRef, Status};
use keytrail_report::{Report, html};
use serde::{Deserialize, Serialize};

use super::basis::{Basis, stem};

const INDEX: &str = "reports/index.json";
const BASIS: &str = ".basis.json";
const VERSION: u32 = 1;

/// The list of reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    version: u32,
    /// In the order of their making.
    reports: Vec<ReportRef>,
}

/// All reports of a data folder.
pub struct Shelf<'a> {
    store: &'a dyn BlobStore,
    index: Index,
    /// Its bytes; `None`: it is not there.
    stored: Option<Vec<u8>>,
}

/// Where the files of a report are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    folder: String,
    stem: String,
}

impl Place {
    /// Of a week's report.
    pub fn of(week: &str, status: Status, amendment: Option<u32>) -> Self {
        Self { folder: format!("reports/{week}"), stem: stem(status, amendment) }
    }

    /// The key of a file: `json`, `html`, `basis.json`, `checkpoint`.
    pub fn file(&self, suffix: &str) -> String {
        format!("{}/{}.{suffix}", self.folder, self.stem)
    }
}

impl<'a> Shelf<'a> {
    /// Reads the list.
    ///
    /// # Errors
    /// `Fatal.Reports`: it is damaged, or there are reports and it is gone.
    pub fn open(store: &'a dyn BlobStore) -> Result<Self, Fatal> {
        let wrong = |what: String| Fatal::new("Fatal.Reports", what);
        let stored = store.get(INDEX)?;
        let index = match &stored {
            Some(json) => serde_json::from_slice::<Index>(json)
                .map_err(|e| wrong(format!("`{INDEX}`: {e}")))
                .and_then(|index| match index.version {
                    VERSION => Ok(index),
                    other => {
                        Err(wrong(format!("`{INDEX}`: version `{other}` is not known, expected {VERSION}")))
                    }
                })?,
            None => {
                let begun: Vec<String> = bases(store)?;
                if let [first, _, ..] = begun.as_slice() {
                    return Err(wrong(format!(
                        "there is `{first}`, and others, and no `{INDEX}`: restore that file, it chains the reports"
                    )));
                }
                Index { version: VERSION, reports: Vec::new() }
            }
        };
        Ok(Self { store, index, stored })
    }

    /// Reports in the order of their making.
    pub fn made(&self) -> &[ReportRef] {
        &self.index.reports
    }

    /// The reports that were made before one, which need not be made yet.
    pub fn before(&self, basis: &Basis) -> &[ReportRef] {
        let is = |r: &ReportRef| r.week == basis.week && r.amendment == basis.amendment;
        let end = self.made().iter().position(is).unwrap_or(self.made().len());
        &self.made()[..end]
    }

    /// Reports of a week, the first one first.
    pub fn of_week(&self, week: &str) -> Vec<&ReportRef> {
        self.made().iter().filter(|r| r.week == week).collect()
    }

    /// The basis of a report that a killed process was making: the list does not have it yet.
    pub fn begun(&self) -> Result<Option<Basis>, Fatal> {
        let listed: HashSet<String> = self.made().iter().map(|made| place(made).file("basis.json")).collect();
        match bases(self.store)?.into_iter().find(|key| !listed.contains(key)) {
            Some(key) => self.read_basis(&key).map(Some),
            None => Ok(None),
        }
    }

    /// The basis of a report that was made.
    pub fn basis(&self, made: &ReportRef) -> Result<Basis, Fatal> {
        self.read_basis(&place(made).file("basis.json"))
    }

    fn read_basis(&self, key: &str) -> Result<Basis, Fatal> {
        let json = self
            .store
            .get(key)?
            .ok_or_else(|| Fatal::new("Fatal.Reports", format!("`{key}` is not there: restore that file")))?;
        serde_json::from_slice(&json).map_err(|e| Fatal::new("Fatal.Reports", format!("`{key}`: {e}")))
    }

    /// Puts the basis of a report, and gives it: from here on it is fixed. Where another process was quicker, it is that one's.
    pub fn begin(&mut self, basis: Basis) -> Result<Basis, Fatal> {
        // A basis without a list of reports says that the list was lost.
        if self.stored.is_none() {
            self.list(None)?;
        }
        let key = Place::of(&basis.week, basis.status, basis.amendment).file("basis.json");
        match self.store.put_if_absent(&key, &basis.to_json())? {
            Put::Created => Ok(basis),
            Put::Exists => self.read_basis(&key),
        }
    }

    /// Puts the files of a report that was [begun](Self::begin), and adds it to the list.
    ///
    /// # Errors
    /// `Fatal.Reports`: another process made another report meanwhile; this one is to be begun anew.
    pub fn put(&mut self, basis: &Basis, report: &Report) -> Result<ReportRef, Fatal> {
        let (made, json) = reference(basis, report);
        let place = Place::of(&basis.week, basis.status, basis.amendment);
        // To make it took its time.
        *self = Self::open(self.store)?;
        let listed =
            self.made().iter().find(|r| r.week == made.week && r.amendment == made.amendment).cloned();
        let is_listed = listed.is_some();
        let is_ours = match &listed {
            Some(listed) => *listed == made,
            None => basis.previous.as_ref() == self.made().last() && self.is_begun(basis, &place)?,
        };
        if !is_ours {
            return Err(self.overtaken(basis, &place));
        }
        self.store.replace(&place.file("checkpoint"), basis.checkpoint.note.as_bytes())?;
        self.store.replace(&place.file("json"), &json)?;
        self.store.replace(&place.file("html"), html::page(report, &made.sha256).as_bytes())?;
        if !is_listed {
            self.list(Some(&made))?;
            if !self.made().contains(&made) {
                return Err(self.overtaken(basis, &place));
            }
            if made.amendment.is_none() {
                for suffix in ["json", "html"] {
                    let provisional = Place::of(&made.week, Status::Provisional, None);
                    self.store.delete(&provisional.file(suffix))?;
                }
            }
        }
        Ok(made)
    }

    /// Adds a report to the list, or makes the list, unless another process wrote it meanwhile: then it is that one's.
    fn list(&mut self, made: Option<&ReportRef>) -> Result<(), Fatal> {
        let mut index = self.index.clone();
        index.reports.extend(made.cloned());
        // Structs of strings and numbers always serialise.
        let mut json = serde_json::to_vec_pretty(&index).unwrap_or_default();
        json.push(b'\n');
        match self.store.swap(INDEX, self.stored.as_deref(), &json)? {
            Swap::Done => (self.index, self.stored) = (index, Some(json)),
            Swap::Lost => *self = Self::open(self.store)?,
        }
        Ok(())
    }

    /// Gives up a report that was begun behind another than is the last one now, if it is still the one that was begun.
    fn overtaken(&self, basis: &Basis, place: &Place) -> Fatal {
        let key = place.file("basis.json");
        let why = format!(
            "`{}`: another report was made meanwhile, and this one has to name it: make it again",
            place.file("json")
        );
        let is_listed = self.made().iter().any(|r| r.week == basis.week && r.amendment == basis.amendment);
        match self.is_begun(basis, place) {
            Err(e) => return e,
            Ok(true) if !is_listed => {
                if let Err(e) = self.store.delete(&key) {
                    return e.into();
                }
            }
            Ok(_) => {}
        }
        Fatal::new("Fatal.Reports", why)
    }

    /// Whether a report was begun as this one, and not as another since.
    fn is_begun(&self, basis: &Basis, place: &Place) -> Result<bool, Fatal> {
        let key = place.file("basis.json");
        Ok(self.store.get(&key)?.is_some() && self.read_basis(&key)? == *basis)
    }

    /// Puts the files of a provisional report; nothing else names it.
    pub fn put_provisional(&self, basis: &Basis, report: &Report) -> Result<ReportRef, Fatal> {
        let (made, json) = reference(basis, report);
        let place = Place::of(&basis.week, basis.status, None);
        self.store.replace(&place.file("json"), &json)?;
        self.store.replace(&place.file("html"), html::page(report, &made.sha256).as_bytes())?;
        Ok(made)
    }

    /// Whether the files of a report are there: the one that the list names, and the page that comes of it. A
    /// page that is missing or another one is made again.
    pub fn is_whole(&self, made: &ReportRef) -> Result<bool, Fatal> {
        let place = place(made);
        let Some(json) = self.store.get(&place.file("json"))? else { return Ok(false) };
        if Hash::of(&json).to_string() != made.sha256 {
            return Ok(false);
        }
        let Ok(report) = Report::parse(&json) else { return Ok(false) };
        let (key, page) = (place.file("html"), html::page(&report, &made.sha256));
        if self.store.get(&key)?.as_deref() != Some(page.as_bytes()) {
            self.store.replace(&key, page.as_bytes())?;
        }
        Ok(true)
    }
}

fn reference(basis: &Basis, report: &Report) -> (ReportRef, Vec<u8>) {
    let json = report.to_json();
    let made = ReportRef {
        week: basis.week.clone(),
        amendment: basis.amendment,
        size: basis.checkpoint.size,
        sha256: Hash::of(&json).to_string(),
    };
    (made, json)
}

/// The keys of all bases.
fn bases(store: &dyn BlobStore) -> Result<Vec<String>, Fatal> {
    let mut keys = store.list("reports/")?;
    keys.retain(|key| key.ends_with(BASIS));
    Ok(keys)
}

/// Where the files of a report of the list are.
fn place(made: &ReportRef) -> Place {
    Place::of(&made.week, status(made), made.amendment)
}

/// The status of a report of the list.
pub fn status(made: &ReportRef) -> Status {
    if made.amendment.is_some() { Status::Amendment } else { Status::Final }
}
