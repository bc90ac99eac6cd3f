//! The weekly report: folded from the sealed archive of one checkpoint, a day at a time (CONTROLS section 3).
//!
//! What it is: weeks, the fold (`day`) with its partial results in `state/`, the tables and words that fill a
//! [`keytrail_report::Report`], and the chain of reports in `reports/`. What it is not: it evaluates no control
//! and renders nothing. Who calls it holds the folder's lock.
//! In: a store and the head of its log. Out: `reports/<week>/report.{json,html}`, amendments, and what was made.

mod basis;
mod build;
pub mod day;
mod earlier;
mod fields;
mod integrity;
mod inventory;
mod names;
mod queries;
mod sealed;
mod shelf;
pub mod steps;
mod summary;
mod tables;
mod week;
mod weeks;

use std::sync::Arc;

use keytrail_enrich::Tables;
use keytrail_ledger::{Checkpoint, LogKeys};
use keytrail_model::{Fatal, Timestamp};
use keytrail_normalize::Masker;
use keytrail_ports::BlobStore;
use keytrail_report::model::{
    CheckpointRef, DeclaredSource as Declared, Duplicates, DuplicatesOf, ReportRef, Tool,
};

pub use keytrail_report::model::Status;
pub use shelf::Place;
pub use week::Week;
pub use weeks::Folded;

use crate::config::DeclaredSource;
use crate::verify;
use basis::Basis;
use inventory::Inventory;
use sealed::Sealed;
use shelf::Shelf;
use weeks::Weeks;

/// What reports are made of, beside the archive.
pub struct Reporting<'a> {
    /// The data folder.
    pub store: &'a dyn BlobStore,
    /// With the trail's key, where it is at hand: partial results are kept and believed by its tag.
    pub masker: Option<&'a Masker>,
    /// The log's public keys.
    pub keys: LogKeys,
    /// The newest head of the log.
    pub checkpoint: Checkpoint,
    /// Its signed note.
    pub note: Vec<u8>,
    /// What is expected to be heard.
    pub sources: &'a [Arc<DeclaredSource>],
    /// Declared tables: the key inventory is asked.
    pub tables: &'a Tables,
    /// Objects of log entries from here on were just verified, and nothing was found.
    pub verified: Option<u64>,
    /// Cores to use.
    pub threads: usize,
    /// The time.
    pub now: Timestamp,
    /// Told how far it is.
    pub told: &'a dyn Folded,
}

impl Reporting<'_> {
    /// The key inventory as it is at the end of a week.
    fn inventory(&self, week: Week) -> Option<Inventory> {
        Inventory::of(self.tables, Timestamp(week.to().0 - 1))
    }
}

/// A report that is there now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// What the list says of it.
    pub report: ReportRef,
    /// What kind it is.
    pub status: Status,
    /// Its files.
    pub place: Place,
    /// Whether it is new.
    pub new: bool,
    /// Whether `verify` found something else than what sources sent or what was decided.
    pub findings: bool,
}

/// Which reports a call makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Those of one week: the report, and an amendment where events were sealed after it.
    Week(Week),
    /// Those of every week with events that is settled.
    Touched,
}

/// Makes the reports that are wanted and not there; gives those of the week that was asked for, or what is new.
///
/// # Errors
/// `Fatal.Reports`: the list of reports is damaged or gone. `Fatal.ReportDiffers`: the file of a report is
/// missing or changed, and it does not come out as it was. `Config.Tables`: that takes tables which are not given.
/// The store's own.
pub fn make(with: &Reporting<'_>, wanted: Wanted) -> Result<Vec<Made>, Fatal> {
    let mut shelf = Shelf::open(with.store)?;
    let sealed = Sealed::load(with.store, with.checkpoint.size)?;
    let mut weeks = Weeks::new(with.store, with.masker, &sealed, with.told);
    let mut made = Vec::new();
    if let Some(basis) = shelf.begun()? {
        made.push(finish(with, &mut shelf, &sealed, &mut weeks, &basis)?);
    }
    let due = match wanted {
        Wanted::Week(week) => [week].into_iter().filter(|w| is_due(&shelf, &sealed, *w)).collect(),
        Wanted::Touched => {
            let settled = sealed.weeks().into_iter().filter(|week| week.is_settled(with.now));
            settled.filter(|week| is_due(&shelf, &sealed, *week)).collect::<Vec<_>>()
        }
    };
    if let Wanted::Week(week) = wanted {
        for known in shelf.of_week(&week.to_string()) {
            let found = remade(with, &shelf, &sealed, known)?;
            made.retain(|m| m.report != found.report);
            made.push(found);
        }
    }
    let ranges: Vec<(i64, i64)> = due.iter().map(|week| (week.from().0, week.to().0)).collect();
    let found = found(with, &ranges)?;
    for (week, found) in due.into_iter().zip(&found) {
        let basis = new_basis(with, &shelf, week, found)?;
        if basis.status == Status::Provisional {
            let inventory = with.inventory(week);
            let report = build::build(&basis, inventory.as_ref(), week, &sealed, &mut weeks, &[])?;
            let report = shelf.put_provisional(&basis, &report)?;
            made.push(of(report, basis.status, true, !basis.integrity.good));
        } else {
            let basis = shelf.begin(basis)?;
            made.push(finish(with, &mut shelf, &sealed, &mut weeks, &basis)?);
        }
    }
    Ok(made)
}

/// What `verify` finds in each of these ranges.
fn found(with: &Reporting<'_>, ranges: &[(i64, i64)]) -> Result<Vec<verify::Report>, Fatal> {
    let options = verify::Options {
        keys: with.keys.clone(),
        pinned: false,
        known: None,
        from: None,
        to: None,
        first_leaf: 0,
        rederive: None,
        digests: None,
        threads: with.threads,
        gaps: true,
        audit_keys: Vec::new(),
        receipts: Vec::new(),
        writing: true,
    };
    verify::by_range(with.store, &options, ranges, with.verified)
}

/// Whether a week has no report, or events that were sealed after its last one.
fn is_due(shelf: &Shelf<'_>, sealed: &Sealed, week: Week) -> bool {
    let Some(last) = shelf.of_week(&week.to_string()).last().map(|r| r.size) else { return true };
    sealed.newest.get(&week).is_some_and(|leaf| *leaf >= last)
}

fn of(report: ReportRef, status: Status, new: bool, findings: bool) -> Made {
    let place = Place::of(&report.week, status, report.amendment);
    Made { report, status, place, new, findings }
}

/// A report is a function of its tables, too.
fn same_tables(with: &Reporting<'_>, basis: &Basis, week: Week) -> Result<Option<Inventory>, Fatal> {
    let inventory = with.inventory(week);
    if basis.inventory.as_deref() == inventory.as_ref().map(Inventory::tables) {
        return Ok(inventory);
    }
    let tables: Vec<String> =
        basis.inventory.iter().flatten().map(|t| format!("`{}`, SHA-256 {}", t.name, t.sha256)).collect();
    let tables = if tables.is_empty() { "none".to_owned() } else { tables.join("; ") };
    Err(Fatal::new(
        "Config.Tables",
        format!("to make the report of {} again takes its key inventory: {tables}", basis.week),
    ))
}

/// Makes the report of a basis.
fn finish(
    with: &Reporting<'_>,
    shelf: &mut Shelf<'_>,
    sealed: &Sealed,
    weeks: &mut Weeks<'_>,
    basis: &Basis,
) -> Result<Made, Fatal> {
    let week = week_of(&basis.week)?;
    let report = if basis.checkpoint.size == with.checkpoint.size {
        let inventory = same_tables(with, basis, week)?;
        build::build(basis, inventory.as_ref(), week, sealed, weeks, shelf.before(basis))?
    } else {
        rebuild(with, shelf, sealed, basis, week)?
    };
    let made = shelf.put(basis, &report)?;
    Ok(of(made, basis.status, true, !basis.integrity.good))
}

/// The report of a basis whose checkpoint is not the head.
fn rebuild(
    with: &Reporting<'_>,
    shelf: &Shelf<'_>,
    now: &Sealed,
    basis: &Basis,
    week: Week,
) -> Result<keytrail_report::Report, Fatal> {
    let inventory = same_tables(with, basis, week)?;
    let sealed = Sealed::load(with.store, basis.checkpoint.size)?;
    let mut weeks = Weeks::of_older(with.store, with.masker, &sealed, now, with.told);
    build::build(basis, inventory.as_ref(), week, &sealed, &mut weeks, shelf.before(basis))
}

/// A report that was made before: as it is, or made again where its file is missing or changed.
fn remade(with: &Reporting<'_>, shelf: &Shelf<'_>, now: &Sealed, known: &ReportRef) -> Result<Made, Fatal> {
    let status = shelf::status(known);
    let basis = shelf.basis(known)?;
    if !shelf.is_whole(known)? {
        let week = week_of(&known.week)?;
        let report = rebuild(with, shelf, now, &basis, week)?;
        let json = report.to_json();
        let sha256 = keytrail_model::Hash::of(&json).to_string();
        let place = Place::of(&known.week, status, known.amendment);
        if sha256 != known.sha256 {
            return Err(Fatal::new(
                "Fatal.ReportDiffers",
                format!(
                    "`{}` is missing or changed, and it does not come out as it was: another version of keytrail \
                     made it ({}), or what it was made of is gone; restore the file with the SHA-256 {}",
                    place.file("json"),
                    basis.tool.version,
                    known.sha256
                ),
            ));
        }
        with.store.replace(&place.file("json"), &json)?;
        shelf.is_whole(known)?;
    }
    Ok(of(known.clone(), status, false, !basis.integrity.good))
}

fn week_of(name: &str) -> Result<Week, Fatal> {
    Week::parse(name).ok_or_else(|| Fatal::new("Fatal.Reports", format!("`{name}` is not an ISO week")))
}

/// What the next report of a week is.
fn next(with: &Reporting<'_>, shelf: &Shelf<'_>, week: Week) -> (Status, Option<u32>) {
    match shelf.of_week(&week.to_string()).last() {
        None if !week.is_settled(with.now) => (Status::Provisional, None),
        None => (Status::Final, None),
        Some(last) => (Status::Amendment, Some(last.amendment.unwrap_or_default() + 1)),
    }
}

fn new_basis(
    with: &Reporting<'_>,
    shelf: &Shelf<'_>,
    week: Week,
    found: &verify::Report,
) -> Result<Basis, Fatal> {
    let earlier = shelf.of_week(&week.to_string());
    let (status, amendment) = next(with, shelf, week);
    let (duplicates, since) = crate::sources::counted_duplicates(with.store)?;
    Ok(Basis {
        version: Basis::VERSION,
        week: week.to_string(),
        status,
        amendment,
        tool: Tool {
            name: "keytrail".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fold: day::FOLD_VERSION,
        },
        checkpoint: CheckpointRef {
            origin: with.checkpoint.origin.clone(),
            size: with.checkpoint.size,
            root: with.checkpoint.root_base64(),
            note: String::from_utf8_lossy(&with.note).into_owned(),
        },
        log_keys: with.keys.keys().iter().map(|k| format!("SHA256:{}", k.key.fingerprint())).collect(),
        scope: with
            .sources
            .iter()
            .map(|s| Declared {
                name: s.name.clone(),
                dataset: s.format.dataset().to_owned(),
                longest_silence_seconds: s.longest_silence.map(|d| d.as_secs()),
            })
            .collect(),
        inventory: with.inventory(week).map(|i| i.tables().to_vec()),
        previous: if status == Status::Provisional { None } else { shelf.made().last().cloned() },
        supersedes: earlier.last().map(|r| (*r).clone()),
        duplicates: Duplicates {
            since: since.map(|t| t.to_rfc3339()),
            sources: duplicates
                .into_iter()
                .map(|(source, records)| DuplicatesOf { source, records })
                .collect(),
        },
        integrity: integrity::integrity(week, found),
    })
}
