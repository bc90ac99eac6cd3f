//! Rewrites by somebody who holds the signing key.

use keytrail_adapters::memory::MemoryStore;
use keytrail_archive::StoredRow;
use keytrail_model::manifest::{DroppedRow, ManifestKind, RowRun};
use keytrail_model::{Column, Hash, Manifest};
use keytrail_ports::BlobStore;

use super::{Push, codes, forge, set_column, set_detail, set_rows, size, trail_of};

/// What somebody who holds the key can do to a rewrite: verify, without any key, names the entry that
/// does not keep what another held.
#[test]
fn a_rewrite_that_changes_what_it_replaces_is_found() {
    let trail = trail_of(5);
    let by = size(&trail) - 1;
    assert_eq!(codes(&forge(&trail, |_, _| {})), Vec::<String>::new(), "the forger breaks nothing by itself");
    let found = |code: &str, says: &str, change: &dyn Fn(&mut Manifest, &MemoryStore)| {
        let forged = forge(&trail, |manifests, store| change(manifests.last_mut().unwrap(), store));
        let mut found = codes(&forged);
        found.retain(|f| !f.starts_with("DUP "));
        let wanted = format!("{code} log entry {by}: ");
        assert!(!found.is_empty() && found.iter().all(|f| f.starts_with(&wanted)), "{says}: {found:#?}");
        assert!(found.iter().any(|f| f.contains(says)), "{says}: {found:#?}");
    };
    let outcome = |row: &StoredRow<'_>, push: &mut Push<'_>| match row.number {
        3 => set_column(row, Column::EventOutcome, "success", push),
        _ => push(row),
    };
    found("COLUMN_MISMATCH", "the root over its rows' columns", &|m, store| {
        set_rows(store, m, &mut |row, push| outcome(row, push));
    });
    found("LEAF_MISMATCH", "of its 2 rows are there", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
    });
    found("LEAF_MISMATCH", "its row 10 comes from nowhere", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            push(row);
            if row.number == 9 {
                push(row);
            }
        });
    });
    // The same, with a mapping that fits.
    found("LEAF_MISMATCH", "is there twice", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            push(row);
            if row.number == 9 {
                push(row);
            }
        });
        set_detail(store, m, |d| d.rows.push(*d.rows.last().unwrap()));
    });
    // A row less, of which a list says that it was a copy of another.
    found("LEAF_MISMATCH", "the root over its event hashes", &|m, store| {
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
        set_detail(store, m, |d| {
            let RowRun { input, first, .. } = d.rows.pop().unwrap();
            d.dropped.push(DroppedRow { of: 8, input, row: first });
        });
    });
    found("LEAF_MISMATCH", "the root over its event hashes", &|m, store| {
        set_detail(store, m, |d| {
            let last = d.rows.len() - 1;
            d.rows.swap(0, last);
        });
    });
    found("LEAF_MISMATCH", "of no object", &|m, store| {
        set_detail(store, m, |d| d.rows[0].input = 5);
    });
    found("LEAF_MISMATCH", "of no object", &|m, store| {
        set_detail(store, m, |d| d.dropped.push(DroppedRow { of: 9, input: 0, row: u32::MAX }));
    });
    found("LEAF_MISMATCH", "fewer than come from others", &|m, store| {
        set_detail(store, m, |d| d.rows.push(RowRun { input: 0, first: 2, count: u32::MAX }));
    });
    // A renormalization may change columns, and nothing else.
    found("LEAF_MISMATCH", "of its 2 rows are there", &|m, store| {
        m.kind = ManifestKind::Renormalize;
        set_rows(store, m, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
    });
}

#[test]
fn what_is_retired_by_nobody_or_twice_is_found() {
    let trail = trail_of(5);
    let by = size(&trail) - 1;
    // An object that no entry retires is missed.
    let left_out = forge(&trail, |manifests, store| {
        let last = manifests.last_mut().unwrap();
        last.replaces.remove(0);
        set_rows(store, last, &mut |row, push| push(row));
    });
    let found = codes(&left_out);
    assert!(found.iter().any(|f| f.starts_with("FILE_MISSING archive/")), "{found:#?}");
    // An entry that retires what is retired is followed no further.
    let twice = forge(&trail, |manifests, _| {
        let again = manifests.last().unwrap().clone();
        manifests.push(again);
    });
    let found = codes(&twice);
    let said = format!("LEAF_MISMATCH log entry {}: ", by + 1);
    assert!(found.len() == 1 && found[0].starts_with(&said), "{found:#?}");
    assert!(found[0].contains("which has no object, or one that was replaced before"), "{found:#?}");
    // Nor is one that retires itself, what comes later, or what has no object.
    for leaf in [by, by + 7] {
        let later = forge(&trail, |manifests, _| manifests.last_mut().unwrap().replaces.push(leaf));
        assert!(codes(&later).iter().any(|f| f.contains("cannot be followed")), "{:#?}", codes(&later));
    }
    // The list of a rewrite is damaged: what was replaced cannot be looked into, which is said.
    let damaged = forge(&trail, |_, _| {});
    let detail = trail.readable(size(&trail)).objects().next().unwrap().rewrite.clone().unwrap().detail;
    damaged.store.replace(&detail.key, b"{}").unwrap();
    let report = damaged.verify();
    assert_eq!(report.failures().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["OBJECT_MISMATCH"]);
    assert!(
        report.unchecked.iter().any(|u| u.starts_with("what 1 rewrites replaced")),
        "{:?}",
        report.unchecked
    );
}

/// A row is left out, and the entry gives a wrong hash of the list that tells; a later entry gives the right one.
#[test]
fn a_list_is_what_every_entry_says_of_it() {
    let trail = trail_of(5);
    let by = size(&trail) - 1;
    let forged = forge(&trail, |manifests, store| {
        let last = manifests.last_mut().unwrap();
        set_rows(store, last, &mut |row, push| {
            if row.number != 9 {
                push(row);
            }
        });
        let right = last.detail.clone();
        last.detail.sha256 = Hash::default();
        manifests.push(Manifest {
            detail: right,
            kind: ManifestKind::Inputs,
            object: None,
            replaces: Vec::new(),
            rows: None,
            ..manifests[0].clone()
        });
    });
    let found = codes(&forged);
    let said = format!("LEAF_MISMATCH log entry {}: ", by + 1);
    assert!(
        found.iter().any(|f| f.starts_with(&said) && f.contains("an entry before does not")),
        "{found:#?}"
    );
}

/// Readers of the folder take the day of a row from where its object lies.
#[test]
fn an_object_outside_of_its_partition_is_found() {
    let trail = trail_of(5);
    let mut moved = String::new();
    let forged = forge(&trail, |manifests, store| {
        let object = manifests.last_mut().unwrap().object.as_mut().unwrap();
        let bytes = store.get(&object.key).unwrap().unwrap();
        store.delete(&object.key).unwrap();
        object.key = object.key.replace("day=2023-07-10", "day=2023-07-11");
        moved.clone_from(&object.key);
        store.replace(&object.key, &bytes).unwrap();
    });
    let found = codes(&forged);
    assert!(found.len() == 1 && found[0].starts_with(&format!("OBJECT_MISMATCH {moved}: ")), "{found:#?}");
    assert!(found[0].contains("does not lie in"), "{found:#?}");
}
