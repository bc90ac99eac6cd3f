//! Rewrites by whoever holds the log's key: objects, manifests, tiles and signature fit, and `verify` names the
//! entry all the same.

use keytrail_model::manifest::ManifestKind;
use keytrail_model::{Column, Value};
use keytrail_tests::forge::Forger;
use keytrail_tests::forge::rows::{change_detail, manifest, rewrite};
use keytrail_tests::trail::{Trail, text};

use crate::archive::{last, leaves, rewritten};

/// Codes and elements of what counts.
fn findings(trail: &Trail) -> Vec<(String, String)> {
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!(code, Some(1), "{report:#}");
    let found = report["findings"].as_array().expect("a list").iter();
    let found = found.map(|f| (text(&f["code"]), text(&f["element"])));
    found.filter(|(code, _)| !["WITHHELD", "EXPIRED", "CONFLICT"].contains(&code.as_str())).collect()
}

/// Each case begins with the same archive.
fn forged(trail: &Trail, forge: impl FnOnce(&mut Forger)) -> Trail {
    let copy = trail.copy();
    let mut forger = Forger::with_its_key(&copy);
    forge(&mut forger);
    forger.seal();
    copy
}

#[test]
fn a_signed_rewrite_that_does_not_keep_what_it_replaced_is_named() {
    let trail = rewritten();
    assert_eq!(forged(&trail, |_| {}).verify().code, Some(0), "the forger breaks nothing by itself");
    // The last rewrite of each kind whose object is still there.
    for kind in [ManifestKind::Compact, ManifestKind::Renormalize, ManifestKind::Withhold] {
        let of = |forger: &Forger| {
            let there = |leaf: &usize| {
                let manifest = manifest(forger, *leaf);
                manifest.kind == kind && forger.data.join(&manifest.object.expect("has one").key).exists()
            };
            (0..forger.entries.len()).rev().find(there).expect("an object of the kind")
        };
        let mut entry = String::new();
        let drops = forged(&trail, |forger| {
            let leaf = of(forger);
            entry = format!("log entry {leaf}");
            rewrite(forger, leaf, &mut |number, _| number != 5);
        });
        let found = findings(&drops);
        assert!(
            !found.is_empty() && found.iter().all(|f| *f == ("LEAF_MISMATCH".into(), entry.clone())),
            "{found:?}"
        );
        // Another event in the place of one.
        let changes = forged(&trail, |forger| {
            let leaf = of(forger);
            rewrite(forger, leaf, &mut |number, row| {
                if number == 5 {
                    let text = String::from_utf8(row.original.clone()).expect("UTF-8");
                    row.replace_original(text.replacen("eventName", "eventNamE", 1).into_bytes());
                }
                true
            });
        });
        let found = findings(&changes);
        assert!(
            !found.is_empty() && found.iter().all(|f| *f == ("LEAF_MISMATCH".into(), entry.clone())),
            "{found:?}"
        );
        // What it says of one.
        let columns = forged(&trail, |forger| {
            let leaf = of(forger);
            rewrite(forger, leaf, &mut |number, row| {
                if number == 5 {
                    row.set(Column::UserName, &Value::Text("somebody else".into()));
                }
                true
            });
        });
        if kind == ManifestKind::Renormalize {
            // It may derive columns: whether from the same bytes says `--rederive`.
            columns.verify().success();
            let (code, report) = columns.verify_json(["--rederive"]);
            assert_eq!((code, text(&report["findings"][0]["code"])), (Some(1), "COLUMN_MISMATCH".into()));
        } else {
            let found = findings(&columns);
            assert!(
                !found.is_empty() && found.iter().all(|f| *f == ("COLUMN_MISMATCH".into(), entry.clone())),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_withholding_that_takes_more_than_it_says_is_named() {
    let trail = rewritten();
    let (mut object, mut uid) = (String::new(), String::new());
    let more = forged(&trail, |forger| {
        let leaf = last(forger, ManifestKind::Withhold);
        rewrite(forger, leaf, &mut |number, row| {
            if number == 0 {
                row.withheld = true;
                uid = row.uid.to_string();
            }
            true
        });
        object = manifest(forger, leaf).object.expect("has one").key;
    });
    assert_eq!(findings(&more), [("LEAF_MISMATCH".into(), format!("{object} row 0 uid {uid}"))]);
    // The list no longer says it of one.
    let less = forged(&trail, |forger| {
        let leaf = last(forger, ManifestKind::Withhold);
        change_detail(forger, leaf, |detail| {
            uid = detail.decision.as_mut().expect("a decision").uids.remove(0);
        });
    });
    let found = findings(&less);
    assert!(found.len() == 1 && found[0].0 == "LEAF_MISMATCH" && found[0].1.ends_with(&uid), "{found:?}");
}

#[test]
fn an_expiry_of_what_had_to_be_kept_is_named() {
    let trail = rewritten();
    // Of the 5th day: archived today.
    let mut young = String::new();
    let early = forged(&trail, |forger| {
        let leaf = leaves(forger, "2024-01-05")[0];
        young = manifest(forger, leaf).object.expect("has one").key;
        std::fs::remove_file(forger.data.join(&young)).expect("removed");
        let mut expiry = manifest(forger, last(forger, ManifestKind::Expire));
        expiry.replaces = vec![leaf as u64];
        forger.entries.push(expiry.to_bytes());
    });
    assert_eq!(findings(&early), [("FILE_MISSING".into(), young)]);
    // By a rule for another dataset: all that expired is missed.
    let other = forged(&trail, |forger| {
        let leaf = last(forger, ManifestKind::Expire);
        change_detail(forger, leaf, |d| {
            d.decision.as_mut().expect("a decision").dataset = Some("vault.audit".into());
        });
    });
    let found = findings(&other);
    assert!(!found.is_empty() && found.iter().all(|(code, _)| code == "FILE_MISSING"), "{found:?}");
    assert!(found.iter().all(|(_, object)| object.contains("day=2024-01-03/")), "{found:?}");
}

/// What a manifest claims is no reason to end early, or never.
#[test]
fn counts_that_no_object_has_end_no_command() {
    let trail = forged(&rewritten(), |forger| {
        for leaf in leaves(forger, "2024-01-0") {
            let mut manifest = manifest(forger, leaf);
            manifest.rows.as_mut().expect("rows").count = u64::MAX;
            manifest.object.as_mut().expect("an object").bytes = u64::MAX;
            forger.entries[leaf] = manifest.to_bytes();
        }
    });
    for args in [
        &["verify"][..],
        &["conflicts"],
        &["alerts"],
        &["sources"],
        &["compact", "--dry-run"],
        &["renormalize", "--dataset", "aws.cloudtrail", "--dry-run"],
        &["expire", "--older-than", "1d"],
    ] {
        let ran = trail.keytrail(args);
        assert!(matches!(ran.code, Some(0 | 1 | 70)), "{args:?}: {ran:?}");
    }
}
