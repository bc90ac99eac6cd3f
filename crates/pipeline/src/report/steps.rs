//! A report in steps, where a state machine takes them: freeze, verify, assess each day, render. Together they are
//! [`make`](super::make).
//!
//! Each step finds what the one before left in the store, and can be taken again: a frozen checkpoint
//! (`reports/<week>/<report>.checkpoint`), then the report's basis, then what is kept of each day.

use keytrail_ledger::{Checkpoint, Note, VerifierKey};
use keytrail_model::time::{day_name, day_number};
use keytrail_model::{Day, Fatal};
use keytrail_ports::{BlobStore, Put};
use keytrail_report::model::ReportRef;

use super::sealed::Sealed;
use super::shelf::{Place, Shelf};
use super::week::Week;
use super::weeks::Weeks;
use super::{Made, Reporting, finish, found, is_due, new_basis, next, remade, week_of};
use crate::trail::Trail;

/// A week whose report is due, at a head of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frozen {
    /// The week.
    pub week: Week,
    /// Entries of the log that the report is of.
    pub size: u64,
    /// Its days with events, `YYYY-MM-DD`.
    pub days: Vec<String>,
}

/// Fixes the head of the log that the next report that is due is of: that of a week, or of the oldest. `None`: nothing is due.
///
/// # Errors
/// As [`make`](super::make).
pub fn freeze(with: &Reporting<'_>, wanted: Option<Week>) -> Result<Option<Frozen>, Fatal> {
    let shelf = Shelf::open(with.store)?;
    let sealed = Sealed::load(with.store, with.checkpoint.size)?;
    let frozen = |week: Week, size| {
        let days = week.days().filter(|day| !sealed.of_day(Day::Dated(*day)).is_empty());
        Frozen { week, size, days: days.map(day_name).collect() }
    };
    if let Some(basis) = shelf.begun()? {
        return Ok(Some(frozen(week_of(&basis.week)?, basis.checkpoint.size)));
    }
    // One that was made, and not published.
    for due in with.store.list("reports/")?.iter().filter(|key| key.ends_with(DUE)) {
        let made = shelf.made().iter().find(|made| place_of(made).file("due") == *due);
        if let Some(made) = made {
            return Ok(Some(frozen(week_of(&made.week)?, made.size)));
        }
    }
    let settled = sealed.weeks().into_iter().filter(|week| week.is_settled(with.now));
    let due = settled.filter(|week| wanted.is_none_or(|wanted| wanted == *week));
    let Some(week) = due.into_iter().find(|week| is_due(&shelf, &sealed, *week)) else { return Ok(None) };
    let place = place(with, &shelf, week);
    with.store.put_if_absent(&place.file("due"), b"")?;
    let key = place.file("checkpoint");
    let size = match with.store.put_if_absent(&key, &with.note)? {
        Put::Created => with.checkpoint.size,
        Put::Exists => head(with, &key)?.0.size,
    };
    Ok(Some(frozen(week, size)))
}

/// Verifies a frozen week, and fixes what its report is a function of. Gives whether nothing was found, and how much was.
///
/// # Errors
/// As [`make`](super::make); `Fatal.Reports`: the week is not frozen.
pub fn verify(with: &Reporting<'_>, week: Week) -> Result<(bool, u64), Fatal> {
    let mut shelf = Shelf::open(with.store)?;
    let sealed = Sealed::load(with.store, with.checkpoint.size)?;
    let made = shelf.of_week(&week.to_string()).last().map(|made| (*made).clone());
    let basis = match (shelf.begun()?.filter(|begun| begun.week == week.to_string()), made) {
        (Some(begun), _) => begun,
        (None, Some(made)) if !is_frozen(with, &shelf, week)? || !is_due(&shelf, &sealed, week) => {
            shelf.basis(&made)?
        }
        (None, _) => {
            let key = place(with, &shelf, week).file("checkpoint");
            let (checkpoint, note) = head(with, &key)?;
            let at = Reporting { keys: with.keys.clone(), checkpoint, note, ..*with };
            let found = found(&at, &[(week.from().0, week.to().0)])?;
            let Some(found) = found.first() else { return Err(not_frozen(week)) };
            let basis = new_basis(&at, &shelf, week, found)?;
            shelf.begin(basis)?
        }
    };
    Ok((basis.integrity.good, basis.integrity.findings.len() as u64))
}

/// Folds a day, so that the report finds it folded. Gives its rows.
///
/// # Errors
/// The store's own.
pub fn assess(with: &Reporting<'_>, day: &str) -> Result<u64, Fatal> {
    let number = day_number(day)
        .ok_or_else(|| Fatal::new("Usage.Day", format!("`{day}` is no day, expected one as 2023-07-10")))?;
    let sealed = Sealed::load(with.store, with.checkpoint.size)?;
    let weeks = Weeks::new(with.store, with.masker, &sealed, with.told);
    let (fold, _) = weeks.day(Day::Dated(number))?;
    Ok(fold.events())
}

/// Makes the report of a verified week, or gives the newest that was made of it.
///
/// # Errors
/// As [`make`](super::make); `Fatal.Reports`: the week is neither verified nor reported.
pub fn render(with: &Reporting<'_>, week: Week) -> Result<Made, Fatal> {
    let mut shelf = Shelf::open(with.store)?;
    let sealed = Sealed::load(with.store, with.checkpoint.size)?;
    if let Some(basis) = shelf.begun()?.filter(|begun| begun.week == week.to_string()) {
        let mut weeks = Weeks::new(with.store, with.masker, &sealed, with.told);
        return finish(with, &mut shelf, &sealed, &mut weeks, &basis);
    }
    let known = shelf.of_week(&week.to_string()).last().map(|made| (*made).clone());
    remade(with, &shelf, &sealed, &known.ok_or_else(|| not_frozen(week))?)
}

/// Signs the hash of a week's newest report by the log's keys; gives where the signature is. It is a note of C2SP whose text
/// names log, report and hash; no checkpoint has such a first line.
///
/// # Errors
/// `Fatal.ReportDiffers`: the report has another hash. As [`render`].
pub fn sign(with: &Reporting<'_>, trail: &Trail<'_>, week: Week, sha256: &str) -> Result<String, Fatal> {
    let shelf = Shelf::open(with.store)?;
    let known = shelf.of_week(&week.to_string());
    let known = known.iter().find(|made| made.sha256 == sha256).ok_or_else(|| {
        Fatal::new("Fatal.ReportDiffers", format!("{week} has no report with the SHA-256 {sha256}"))
    })?;
    let place = place_of(known);
    let text = format!("{}/report\n{}\nsha256 {sha256}\n", trail.origin, place.file("json"));
    let mut signatures = Vec::new();
    for signer in trail.signers {
        let key = VerifierKey::new(signer.name(), signer.public_key())
            .map_err(|e| Fatal::new("Fatal.LogKey", e))?;
        signatures.push((key, signer.sign(text.as_bytes())?));
    }
    let signed: Vec<_> = signatures.iter().map(|(key, signature)| (key, *signature)).collect();
    let key = place.file("sig");
    with.store.replace(&key, &Note::signed(text, &signed).to_bytes())?;
    Ok(key)
}

/// What the mark of a report that is to be published ends with.
const DUE: &str = ".due";

/// A report was published.
pub fn published(store: &dyn BlobStore, json: &str) -> Result<(), Fatal> {
    let stem = json.strip_suffix(".json").unwrap_or(json);
    Ok(store.delete(&format!("{stem}{DUE}"))?)
}

/// Whether the head that a week's next report is of is fixed.
fn is_frozen(with: &Reporting<'_>, shelf: &Shelf<'_>, week: Week) -> Result<bool, Fatal> {
    Ok(with.store.get(&place(with, shelf, week).file("checkpoint"))?.is_some())
}

fn place_of(made: &ReportRef) -> Place {
    Place::of(&made.week, super::shelf::status(made), made.amendment)
}

fn place(with: &Reporting<'_>, shelf: &Shelf<'_>, week: Week) -> Place {
    let (status, amendment) = next(with, shelf, week);
    Place::of(&week.to_string(), status, amendment)
}

fn head(with: &Reporting<'_>, key: &str) -> Result<(Checkpoint, Vec<u8>), Fatal> {
    let wrong = |why: String| Fatal::new("Fatal.Reports", format!("`{key}`: {why}"));
    let note = with.store.get(key)?.ok_or_else(|| wrong("expected a frozen head of the log".into()))?;
    Ok((with.keys.open(&note).map_err(wrong)?, note))
}

fn not_frozen(week: Week) -> Fatal {
    Fatal::new(
        "Fatal.Reports",
        format!("{week} has no report, and none was begun: freeze and verify it first"),
    )
}
