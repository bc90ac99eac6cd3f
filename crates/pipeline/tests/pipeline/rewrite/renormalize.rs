//! Columns derived again.

use std::sync::atomic::AtomicBool;

use keytrail_archive::StoredRow;
use keytrail_model::row::encode;
use keytrail_model::{Column, Fatal, Value};
use keytrail_pipeline::renormalize::{self, Renormalized, Selected};
use keytrail_ports::{BlobStore, CheckpointStore};

use super::{
    codes, column, columns_of, events, forge, inputs, set_column, set_rows, settled, size, trail_of,
};
use crate::memory::Memory;

/// All objects of the dataset.
fn every() -> Selected {
    Selected { dataset: "aws.cloudtrail".into(), from: None, to: None }
}

fn renormalize(trail: &Memory, selected: &Selected) -> Result<Renormalized, Fatal> {
    trail.with(&trail.store, &trail.lock, |t| {
        renormalize::renormalize(t, selected, 1, &AtomicBool::new(false)).map(|(_, done)| done)
    })
}

/// Derives all columns again.
pub fn all(trail: &Memory, store: &dyn BlobStore, lock: &dyn CheckpointStore) -> Result<(), Fatal> {
    trail.with(store, lock, |t| renormalize::renormalize(t, &every(), 1, &AtomicBool::new(false)).map(|_| ()))
}

/// A trail of so many objects, all of whose rows an older normalizer made.
pub fn older(objects: u32) -> Memory {
    forge(&trail_of(objects), |manifests, store| {
        for manifest in manifests {
            set_rows(store, manifest, &mut |row, push| {
                set_column(row, Column::EventOutcome, "unknown", &mut |row| {
                    set_column(row, Column::KeytrailNormalizer, "cloudtrail/0", push);
                });
            });
        }
    })
}

/// A trail of one object by an older normalizer: its rows lack a column, and one has an original that this
/// version refuses.
fn of_an_older_version() -> (Memory, Memory) {
    let trail = Memory::new();
    trail.run(&inputs(0, 6)).unwrap();
    let older = forge(&trail, |manifests, store| {
        set_rows(store, &mut manifests[0], &mut |row, push| {
            let values = columns_of(row).into_iter().filter_map(|(column, value)| match column {
                Column::EventOutcome => None,
                Column::KeytrailNormalizer if row.number != 4 => {
                    Some((column, Value::Text("cloudtrail/0".into())))
                }
                _ => Some((column, value)),
            });
            let mut columns = Vec::new();
            encode(&mut columns, values);
            if row.number == 2 {
                let original = b"{\"eventVersion\":17}";
                let hash = Some(keytrail_model::Hash::of(original));
                push(&StoredRow { columns: &columns, original: Some(original), hash, ..*row });
            } else if row.number == 4 {
                // By this version: it stays as it is.
                push(row);
            } else {
                push(&StoredRow { columns: &columns, ..*row });
            }
        });
    });
    (trail, older)
}

#[test]
fn columns_of_older_normalizers_are_derived_again() {
    let (trail, older) = of_an_older_version();
    assert_eq!(codes(&older), Vec::<String>::new());
    let before = events(&older);
    assert_eq!(column(&older, Column::EventOutcome).iter().flatten().count(), 1);
    let selected = |from| Selected { from, ..every() };
    let later = selected(Some(i64::MAX));
    assert_eq!(renormalize(&older, &later).unwrap(), Renormalized::default());
    let wrong = Selected { dataset: "aws".into(), from: None, to: None };
    assert_eq!(renormalize(&older, &wrong).unwrap_err().code, "Usage.Dataset");

    let done = renormalize(&older, &selected(None)).unwrap();
    assert_eq!((done.objects, done.rows.get("cloudtrail/0"), done.kept), (1, Some(&10), 1));
    settled(&older, "renormalized");
    assert_eq!(events(&older), before, "uid and hash of each event");
    // But for the refused one, all is as this version makes it.
    let (is, should) = (column(&older, Column::EventOutcome), column(&trail, Column::EventOutcome));
    assert_eq!((is[2].clone(), is.len()), (None, 12));
    assert!(is.iter().zip(&should).enumerate().all(|(n, (is, should))| n == 2 || is == should));
    let manifest = older.readable(size(&older));
    let object = manifest.objects().next().unwrap();
    assert_eq!(object.rows.normalizers, ["cloudtrail/0", "cloudtrail/1"]);
    // Once more: nothing is derived, and nothing is written.
    let after = size(&older);
    let again = renormalize(&older, &selected(None)).unwrap();
    assert_eq!((again.objects, again.kept, size(&older)), (0, 1, after));
    // Compaction of what was renormalized; the objects at the bottom are put together through both.
    for i in 6..14 {
        older.run(&inputs(i, i + 1)).unwrap();
    }
    settled(&older, "compacted");
    assert!(before.is_subset(&events(&older)));
    assert!(older.readable(size(&older)).objects().any(|o| o.rows.count > 12));
}
