//! Reports that were made: `reports/` of the data folder, and the chain that they are in.
//!
//! `reports/index.json` lists them in the order of their making; each names the hash of the one before.
//! A report in the making has its basis in `reports/pending.json`, from before its first file until after its
//! entry in the list: whatever a killed process left is made again from there, byte for byte.

use keytrail_model::{Fatal, Hash};
use keytrail_ports::BlobStore;
use keytrail_report::model::{ReportRef, Status};
use keytrail_report::{Report, html};
use serde::{Deserialize, Serialize};

use super::basis::{Basis, stem};

const INDEX: &str = "reports/index.json";
const PENDING: &str = "reports/pending.json";
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
        let index = match store.get(INDEX)? {
            Some(json) => serde_json::from_slice::<Index>(&json)
                .map_err(|e| wrong(format!("`{INDEX}`: {e}")))
                .and_then(|index| match index.version {
                    VERSION => Ok(index),
                    other => {
                        Err(wrong(format!("`{INDEX}`: version `{other}` is not known, expected {VERSION}")))
                    }
                })?,
            None => {
                let made = |key: &String| key.ends_with("/report.json");
                if store.get(PENDING)?.is_none()
                    && let Some(report) = store.list("reports/")?.iter().find(|key| made(key))
                {
                    return Err(wrong(format!(
                        "there is `{report}` and no `{INDEX}`: restore that file, it chains the reports"
                    )));
                }
                Index { version: VERSION, reports: Vec::new() }
            }
        };
        Ok(Self { store, index })
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

    /// The basis of a report that a killed process was making.
    pub fn pending(&self) -> Result<Option<Basis>, Fatal> {
        let Some(json) = self.store.get(PENDING)? else { return Ok(None) };
        let basis: Basis = serde_json::from_slice(&json)
            .map_err(|e| Fatal::new("Fatal.Reports", format!("`{PENDING}`: {e}")))?;
        Ok(Some(basis))
    }

    /// The basis of a report that was made.
    pub fn basis(&self, made: &ReportRef) -> Result<Basis, Fatal> {
        let key = Place::of(&made.week, status(made), made.amendment).file("basis.json");
        let json = self
            .store
            .get(&key)?
            .ok_or_else(|| Fatal::new("Fatal.Reports", format!("`{key}` is not there: restore that file")))?;
        serde_json::from_slice(&json).map_err(|e| Fatal::new("Fatal.Reports", format!("`{key}`: {e}")))
    }

    /// Says that a report is being made.
    pub fn begin(&self, basis: &Basis) -> Result<(), Fatal> {
        Ok(self.store.replace(PENDING, &basis.to_json())?)
    }

    /// Puts the files of a report and adds it to the list.
    pub fn put(&mut self, basis: &Basis, report: &Report) -> Result<ReportRef, Fatal> {
        let (made, json) = reference(basis, report);
        let place = Place::of(&basis.week, basis.status, basis.amendment);
        self.store.replace(&place.file("checkpoint"), basis.checkpoint.note.as_bytes())?;
        self.store.replace(&place.file("basis.json"), &basis.to_json())?;
        self.store.replace(&place.file("json"), &json)?;
        self.store.replace(&place.file("html"), html::page(report, &made.sha256).as_bytes())?;
        let is_listed = |r: &ReportRef| r.week == made.week && r.amendment == made.amendment;
        if !self.index.reports.iter().any(is_listed) {
            self.index.reports.push(made.clone());
            // Structs of strings and numbers always serialise.
            let mut index = serde_json::to_vec_pretty(&self.index).unwrap_or_default();
            index.push(b'\n');
            self.store.replace(INDEX, &index)?;
            if made.amendment.is_none() {
                for suffix in ["json", "html"] {
                    let provisional = Place::of(&made.week, Status::Provisional, None);
                    self.store.delete(&provisional.file(suffix))?;
                }
            }
        }
        self.store.delete(PENDING)?;
        Ok(made)
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
        let place = Place::of(&made.week, status(made), made.amendment);
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

/// The status of a report of the list.
pub fn status(made: &ReportRef) -> Status {
    if made.amendment.is_some() { Status::Amendment } else { Status::Final }
}
