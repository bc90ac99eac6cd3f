//! Original bytes taken out.

use keytrail_archive::StoredRow;
use keytrail_model::{Day, Fatal, Uid};
use keytrail_pipeline::holds::Hold;
use keytrail_pipeline::withhold::{self, Withholding};
use keytrail_ports::{BlobStore, CheckpointStore};

use super::{Push, codes, for_each_row, forge, inputs, set_rows, settled, size, trail_of};
use crate::memory::Memory;

fn withhold(trail: &Memory, uids: &[Uid], holds: &[Hold]) -> Result<(u64, Withholding), Fatal> {
    let uids = uids.iter().copied().collect();
    trail.with(&trail.store, &trail.lock, |t| withhold::withhold(t, &uids, "because", holds, 1))
}

/// Every event's, in the order of the log.
pub fn uids(trail: &Memory) -> Vec<Uid> {
    let mut uids = Vec::new();
    for object in trail.readable(size(trail)).objects() {
        for_each_row(&trail.store, &object.object.key, &mut |row| uids.push(row.uid));
    }
    uids
}

/// Withholds the first event of each of three objects.
pub fn some(trail: &Memory, store: &dyn BlobStore, lock: &dyn CheckpointStore) -> Result<(), Fatal> {
    let uids = uids(trail);
    let uids = [uids[0], uids[2], uids[4]].into();
    trail.with(store, lock, |t| withhold::withhold(t, &uids, "because", &[], 1).map(|_| ()))
}

#[test]
fn originals_that_nobody_withheld_are_missed() {
    let trail = trail_of(2);
    let uid = uids(&trail)[1];
    let gone = |row: &StoredRow<'_>, push: &mut Push<'_>| {
        let original = row.original.filter(|_| row.uid != uid);
        push(&StoredRow { original, ..*row });
    };
    let forged = forge(&trail, |manifests, store| set_rows(store, &mut manifests[0], &mut { gone }));
    let found = codes(&forged);
    assert!(found.len() == 1 && found[0].starts_with("LEAF_MISMATCH archive/"), "{found:#?}");
    assert!(found[0].contains("no entry of the log withholds them"), "{found:#?}");

    assert_eq!(withhold(&trail, &[Uid([0; 20])], &[]).unwrap_err().code, "Usage.NotFound");
    assert_eq!(withhold(&trail, &[uid], &[]).unwrap().1.rows, 1);
    let told = codes(&trail);
    assert!(
        told.len() == 1 && told[0].starts_with("WITHHELD ") && told[0].ends_with(": because"),
        "{told:#?}"
    );
    // A decision for one event takes no other one's bytes, and holds from its entry on.
    let more = forge(&trail, |manifests, store| {
        set_rows(store, manifests.last_mut().unwrap(), &mut |row, push| {
            push(&StoredRow { original: None, ..*row });
        });
    });
    let failures: Vec<String> = more.verify().failures().map(ToString::to_string).collect();
    assert!(failures.len() == 1 && failures[0].starts_with("LEAF_MISMATCH archive/"), "{failures:#?}");
}

#[test]
fn an_event_under_a_hold_keeps_its_bytes() {
    let trail = trail_of(2);
    let (all, before) = (uids(&trail), size(&trail));
    let of = |hold: Hold| withhold(&trail, &all[..2], &[Hold { reason: "case 17".into(), ..hold }]);
    let day = Day::parse("2023-07-10");
    for hold in [
        Hold { uid: Some(all[1]), ..Hold::default() },
        Hold { dataset: Some("aws.cloudtrail".into()), ..Hold::default() },
        Hold { from: day, to: day, ..Hold::default() },
        Hold { dataset: Some("aws.cloudtrail".into()), to: day, uid: Some(all[0]), ..Hold::default() },
    ] {
        let refused = of(hold.clone()).unwrap_err();
        assert_eq!(refused.code, "Usage.Held", "{hold:?}");
        assert!(refused.message.contains("under the legal hold `case 17`"), "{}", refused.message);
    }
    assert_eq!((codes(&trail), size(&trail)), (Vec::new(), before));
    // Holds of others.
    for hold in [
        Hold { uid: Some(all[3]), ..Hold::default() },
        Hold { dataset: Some("vault.audit".into()), ..Hold::default() },
        Hold { from: Day::parse("2023-07-11"), ..Hold::default() },
        Hold { from: day, uid: Some(Uid([0; 20])), ..Hold::default() },
    ] {
        of(hold.clone()).unwrap_or_else(|e| panic!("{hold:?}: {e}"));
    }
    assert_eq!(codes(&trail).len(), 2);
}

#[test]
fn a_damaged_object_stops_nothing_but_what_it_holds() {
    let trail = trail_of(3);
    let all = uids(&trail);
    let objects: Vec<String> = trail.readable(size(&trail)).objects().map(|o| o.object.key.clone()).collect();
    let good = trail.store.get(&objects[1]).unwrap().unwrap();
    trail.store.replace(&objects[1], b"no object").unwrap();
    let missing = withhold(&trail, &[all[2]], &[]).unwrap_err();
    assert_eq!(missing.code, "Fatal.ArchiveDamaged");
    assert!(missing.message.contains(&objects[1]), "{}", missing.message);
    let done = withhold(&trail, &[all[0], all[4]], &[]).unwrap().1;
    assert_eq!((done.objects, done.rows, done.skipped.len()), (2, 2, 1));
    assert!(done.skipped[0].contains(&objects[1]), "{done:?}");
    trail.store.replace(&objects[1], &good).unwrap();
    assert_eq!(codes(&trail).len(), 2);
    // Damaged where nobody looks before the bytes are written again: all others are withheld.
    let mut flipped = good.clone();
    flipped[8] ^= 1;
    trail.store.replace(&objects[1], &flipped).unwrap();
    let done = withhold(&trail, &[all[1], all[2], all[5]], &[]).unwrap().1;
    assert_eq!((done.objects, done.skipped.len()), (2, 1));
    trail.store.replace(&objects[1], &good).unwrap();
    withhold(&trail, &all, &[]).unwrap();
    settled(&trail, "all withheld");
    assert_eq!(codes(&trail).len(), 6);
    assert_eq!(trail.run(&inputs(0, 3)).unwrap().total.accepted, 0);
}
