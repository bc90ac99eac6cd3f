//! Weekly reports of two processes that know nothing of each other.

use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::report::{Folded, Made, Reporting, Week, steps};
use keytrail_pipeline::{LogKeys, VerifierKey};
use keytrail_ports::{BlobStore, Signer};

use crate::memory::{Memory, ORIGIN, keyless};
use crate::pending::{archive, seal};

struct Quiet;

impl Folded for Quiet {
    fn day(&self, _: &str, _: u64) {}
}

/// Calls `with` so many minutes after the first head, on a trail with events of three weeks.
fn reporting<T>(trail: &Memory, minutes: i64, with: impl FnOnce(&Reporting<'_>) -> T) -> T {
    trail.with(&trail.store, &trail.lock, |t| {
        let keys = LogKeys::of(VerifierKey::new(ORIGIN, trail.signer.public_key()).unwrap());
        let note = trail.store.get("log/checkpoint").unwrap().unwrap();
        with(&Reporting {
            store: t.store,
            masker: Some(t.masker),
            checkpoint: keys.open(&note).unwrap(),
            keys,
            note,
            sources: &[],
            tables: t.tables,
            verified: None,
            threads: 1,
            now: Timestamp(1_700_000_000_000_000 + minutes * 60_000_000),
            told: &Quiet,
        })
    })
}

fn weeks() -> (Memory, [Week; 3]) {
    let trail = Memory::new();
    archive(&trail, &[("a", keyless(3) + &keyless(10) + &keyless(17))]);
    seal(&trail);
    let weeks = ["2023-W27", "2023-W28", "2023-W29"].map(|week| Week::parse(week).unwrap());
    (trail, weeks)
}

fn freeze(trail: &Memory, week: Week) {
    let frozen = reporting(trail, 0, |with| steps::freeze(with, Some(week)).unwrap()).unwrap();
    assert_eq!(frozen.week, week);
}

fn verify(trail: &Memory, week: Week, minutes: i64) {
    assert_eq!(reporting(trail, minutes, |with| steps::verify(with, week).unwrap()), (true, 0));
}

fn render(trail: &Memory, week: Week, minutes: i64) -> Result<Made, Fatal> {
    reporting(trail, minutes, |with| steps::render(with, week))
}

#[test]
fn two_who_make_the_same_report_make_one() {
    let (trail, [week, ..]) = weeks();
    freeze(&trail, week);
    // The second verifies at another time than the first, and what the first fixed is what both are of.
    let behind = trail.copy();
    verify(&trail, week, 1);
    verify(&behind, week, 2);
    let basis = |trail: &Memory| {
        let key = "reports/2023-W27/report.basis.json";
        trail.store.get(key).unwrap().unwrap()
    };
    let (first, second) = (basis(&trail), basis(&behind));
    verify(&trail, week, 2);
    assert_eq!(basis(&trail), first);
    let made = render(&trail, week, 3).unwrap();
    assert_eq!(render(&trail, week, 4).unwrap().report, made.report);
    assert_eq!(first, second, "a basis says nothing of when it was made");
}

#[test]
fn reports_that_are_begun_at_once_stay_a_chain() {
    let (trail, [one, two, three]) = weeks();
    // Each begins its own before the other's is listed.
    let behind = trail.copy();
    for (trail, week) in [(&trail, one), (&behind, two)] {
        freeze(trail, week);
        verify(trail, week, 1);
    }
    for key in behind.store.list("reports/2023-W28/").unwrap() {
        trail.store.replace(&key, &behind.store.get(&key).unwrap().unwrap()).unwrap();
    }
    let first = render(&trail, one, 2).unwrap();
    let overtaken = render(&trail, two, 2).unwrap_err();
    assert_eq!(overtaken.code, "Fatal.Reports");
    assert!(overtaken.message.contains("another report was made meanwhile"), "{overtaken:?}");
    // It is due still, and names the first one now.
    steps::published(&trail.store, &first.place.file("json")).unwrap();
    for week in [two, three] {
        freeze(&trail, week);
        verify(&trail, week, 5);
        let made = render(&trail, week, 6).unwrap();
        steps::published(&trail.store, &made.place.file("json")).unwrap();
    }
    let index = trail.store.get("reports/index.json").unwrap().unwrap();
    let index = String::from_utf8(index).unwrap();
    assert_eq!(index.matches("\"sha256\"").count(), 3, "{index}");
    let report = trail.store.get("reports/2023-W28/report.json").unwrap().unwrap();
    assert!(String::from_utf8(report).unwrap().contains(&first.report.sha256));
}
