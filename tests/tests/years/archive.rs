//! An archive that was written again in every way, and the one that it was made of.

use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Column, Value};
use keytrail_tests::forge::Forger;
use keytrail_tests::forge::rows::{manifest, rewrite};
use keytrail_tests::trail::Trail;

const DAY_MICROS: i64 = 86_400_000_000;

/// What has what the commands below have to do: days of some objects each.
pub fn before(days: u32, objects_a_day: u64, events_a_day: u64) -> Trail {
    let trail = Trail::new();
    for seed in 0..objects_a_day {
        let events = events_a_day * u64::from(days);
        // Objects above the size that is asked for stay apart.
        trail.run([trail.load(seed, 0, days, events).as_os_str(), "--object-size=1kB".as_ref()]).success();
    }
    trail
}

/// Lets an older normalizer have made the rows of a day's objects.
pub fn age_rows(trail: &Trail, day: &str) {
    let mut forger = Forger::with_its_key(trail);
    for leaf in leaves(&forger, day) {
        rewrite(&mut forger, leaf, &mut |_, row| {
            row.set(Column::KeytrailNormalizer, &Value::Text("cloudtrail/0".into()));
            row.set(Column::EventOutcome, &Value::Text("unknown".into()));
            true
        });
    }
    forger.seal_for_good();
}

/// Lets a day's objects have been archived 400 days ago.
pub fn age_archiving(trail: &Trail, day: &str) {
    let mut forger = Forger::with_its_key(trail);
    for leaf in leaves(&forger, day) {
        let mut manifest = manifest(&forger, leaf);
        manifest.archived -= 400 * DAY_MICROS;
        forger.entries[leaf] = manifest.to_bytes();
    }
    forger.seal_for_good();
}

/// Log entries that name objects of a day.
pub fn leaves(forger: &Forger, day: &str) -> Vec<usize> {
    let is = |leaf: &usize| manifest(forger, *leaf).rows.is_some_and(|rows| rows.day.starts_with(day));
    (0..forger.entries.len()).filter(is).collect()
}

/// The last log entry of a kind.
pub fn last(forger: &Forger, kind: ManifestKind) -> usize {
    let is = |leaf: &usize| manifest(forger, *leaf).kind == kind;
    (0..forger.entries.len()).rev().find(is).unwrap_or_else(|| panic!("no `{}`", kind.name()))
}

/// Uids of a day, sorted.
pub fn uids(trail: &Trail, day: &str) -> Vec<String> {
    let sql = format!("select keytrail_uid as uid from {{archive}} where day = '{day}' order by all");
    trail.query(&sql).iter().map(|row| keytrail_tests::trail::text(&row["uid"])).collect()
}

/// An archive with an object of each kind and of several at once: of the days of 2024, the 1st was compacted, the
/// 2nd renormalized, compacted, and two of its events are withheld, the 3rd was compacted and expired, one object of
/// the 4th was renormalized; the 5th is as it came.
pub fn rewritten() -> Trail {
    let trail = before(3, 4, 12);
    age_rows(&trail, "2024-01-02");
    trail.keytrail(["renormalize", "--dataset", "aws.cloudtrail"]).success();
    age_archiving(&trail, "2024-01-03");
    // A fifth object of each day makes compaction pay.
    trail.run([trail.load(10, 0, 2, 24)]).success();
    trail.keytrail(["compact", "--object-size", "128MB"]).success();
    let some = uids(&trail, "2024-01-02");
    trail.keytrail(["withhold", &some[3], &some[17], "--reason", "request 17"]).success();
    trail.keytrail(["expire", "--older-than", "90d", "--dataset", "aws.cloudtrail", "--apply"]).success();
    trail.run([trail.load(11, 3, 1, 12)]).success();
    age_rows(&trail, "2024-01-04");
    trail.keytrail(["renormalize", "--dataset", "aws.cloudtrail"]).success();
    trail.run([trail.load(12, 3, 2, 24)]).success();
    trail.verify().success();
    trail
}
