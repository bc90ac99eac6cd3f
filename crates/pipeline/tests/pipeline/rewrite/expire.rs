//! Objects whose retention ended.

use keytrail_archive::StoredRow;
use keytrail_model::Fatal;
use keytrail_model::manifest::ManifestKind;
use keytrail_pipeline::expire::{self, Rule};
use keytrail_pipeline::holds::Hold;
use keytrail_ports::{BlobStore, CheckpointStore};

use super::{codes, for_each_row, forge, inputs, manifests, set_detail, settled, size, trail_of};
use crate::memory::Memory;

const DAY: i64 = 86_400_000_000;

/// A trail of so many objects that were archived 100 days before the clock of these tests, which stands at
/// 2023-11-14.
pub fn old(objects: u32) -> Memory {
    forge(&trail_of(objects), |manifests, _| manifests.iter_mut().for_each(|m| m.archived -= DAY * 100))
}

fn rule(days: u32) -> Rule {
    Rule { days, dataset: None, undated: false }
}

/// Deletes what is older than 90 days.
pub fn all(trail: &Memory, store: &dyn BlobStore, lock: &dyn CheckpointStore) -> Result<(), Fatal> {
    trail.with(store, lock, |t| expire::expire(t, &[rule(90)], &[]).map(|_| ()))
}

#[test]
fn what_expired_is_told_from_what_is_missing() {
    let trail = trail_of(2);
    // They were archived today.
    let plan = trail.with(&trail.store, &trail.lock, |t| expire::expire(t, &[rule(1)], &[])).unwrap();
    assert_eq!(plan.expired, []);
    let later = old(2);
    let uid = |row: &StoredRow<'_>| row.uid;
    let mut held = None;
    let key = later.store.list("archive/").unwrap().remove(0);
    for_each_row(&later.store, &key, &mut |row| held = Some(uid(row)));
    let hold = Hold { uid: held, ..Hold::default() };
    let expire = |holds: &[Hold]| {
        later.with(&later.store, &later.lock, |t| expire::expire(t, &[rule(90)], holds)).unwrap()
    };
    let plan = expire(std::slice::from_ref(&hold));
    assert_eq!((plan.expired[0].1.len(), plan.kept.len()), (1, 1));
    let told = codes(&later);
    assert!(told.len() == 1 && told[0].starts_with("EXPIRED archive/"), "{told:#?}");
    assert!(told[0].contains("older than 90 days: every dataset"), "{told:#?}");
    assert_eq!(later.store.list("archive/").unwrap(), [key]);
    assert_eq!(expire(&[hold]).expired, []);
    // A replay comes in again.
    assert_eq!(later.run(&inputs(0, 2)).unwrap().total.accepted, 2);
    assert_eq!(codes(&later).len(), 1);
    // One that the rule does not reach, and one that no rule is named for.
    let young = forge(&later, |manifests, store| {
        let expired = manifests.iter_mut().find(|m| m.kind == ManifestKind::Expire).unwrap();
        set_detail(store, expired, |d| d.decision.as_mut().unwrap().before = Some("2023-07-10".into()));
    });
    let found = codes(&young);
    assert!(found.len() == 1 && found[0].starts_with("FILE_MISSING archive/"), "{found:#?}");
    // One of a rule for another dataset, and one of a rule that was not over when it was sealed.
    for (dataset, before) in [(Some("vault.audit"), "2023-08-10"), (None, "2023-11-15")] {
        let wrong = forge(&later, |manifests, store| {
            let expired = manifests.iter_mut().find(|m| m.kind == ManifestKind::Expire).unwrap();
            set_detail(store, expired, |d| {
                let decision = d.decision.as_mut().unwrap();
                (decision.dataset, decision.before) = (dataset.map(Into::into), Some(before.into()));
            });
        });
        let found = codes(&wrong);
        assert!(found.len() == 1 && found[0].starts_with("FILE_MISSING archive/"), "{found:#?}");
    }
    let silent = forge(&later, |manifests, store| {
        let expired = manifests.iter_mut().find(|m| m.kind == ManifestKind::Expire).unwrap();
        set_detail(store, expired, |d| d.decision = None);
    });
    assert!(codes(&silent)[0].starts_with("FILE_MISSING archive/"), "{:#?}", codes(&silent));
}

/// Two writers that archive the same events name one object. Where one entry's retention ends first, the object
/// stays for the other.
#[test]
fn an_object_that_two_entries_name_stays_for_the_second() {
    let trail = trail_of(1);
    let twice = forge(&trail, |manifests, _| {
        let again = manifests[0].clone();
        manifests[0].archived -= DAY * 100;
        manifests.push(again);
    });
    let plan = twice.with(&twice.store, &twice.lock, |t| expire::expire(t, &[rule(90)], &[])).unwrap();
    assert_eq!(plan.expired[0].1.len(), 1);
    settled(&twice, "one entry expired");
    assert_eq!(twice.rows(size(&twice)), 2);
}

/// Whether a hold is of an event in it nobody can say: it stays, and all else goes.
#[test]
fn a_damaged_object_stays_where_a_hold_names_an_event() {
    let trail = old(2);
    let key = trail.store.list("archive/").unwrap().remove(0);
    trail.store.replace(&key, b"no object").unwrap();
    let hold = Hold { uid: Some(keytrail_model::Uid([0; 20])), ..Hold::default() };
    let plan = trail.with(&trail.store, &trail.lock, |t| expire::expire(t, &[rule(90)], &[hold])).unwrap();
    assert_eq!((plan.expired[0].1.len(), plan.skipped.len()), (1, 1));
    assert!(plan.skipped[0].contains(&key), "{plan:?}");
    assert_eq!(trail.store.list("archive/").unwrap(), [key]);
    assert_eq!(manifests(&trail).last().unwrap().replaces.len(), 1);
}
