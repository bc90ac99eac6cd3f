//! What whoever holds the signing key can change, and who notices: verify on its own, `--rederive`, a
//! checkpoint kept from before (`--known`), keys kept elsewhere (`--keys`), or the next `run`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use keytrail_model::{Column, Kind, Timestamp, Value as Cell};
use keytrail_tests::forge::Forger;
use keytrail_tests::forge::rows::{leaf_of, manifest, rewrite};
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, copy_folder, text};
use serde_json::Value;

const CONSISTENT_ONLY: &str = "consistent only: key and head came from the archive itself";

/// A trail of three sources, with what an auditor keeps of it: its verifier key and its head.
struct Audited {
    trail: Trail,
    keys: String,
    known: String,
}

impl Audited {
    fn new() -> Self {
        let trail = Trail::new();
        for input in ["cloudtrail/invictus-attack-run", "openbao", "key-operation"] {
            assert_eq!(trail.run([example(input)]).code, Some(0));
        }
        let keys = path(trail.trusted_keys());
        let known = path(trail.input("known", head(&trail)));
        Self { trail, keys, known }
    }

    /// (exit code, codes and elements of what was found, the whole report)
    fn verify(&self, args: &[&str]) -> (Option<i32>, Vec<(String, String)>, Value) {
        let (code, report) = self.trail.verify_json(args);
        let found = report["findings"].as_array().expect("a list").iter();
        let found = found.map(|f| (text(&f["code"]), text(&f["element"])));
        // The documentation's example events share their ids.
        let found = found.filter(|(code, _)| code != "CONFLICT").collect();
        (code, found, report)
    }

    fn good(&self, args: &[&str]) -> Value {
        let (code, found, report) = self.verify(args);
        assert_eq!((code, found), (Some(0), vec![]), "{args:?}");
        report
    }

    fn finds(&self, args: &[&str], code: &str, element: &str) -> Value {
        let (exit, found, report) = self.verify(args);
        assert_eq!((exit, found), (Some(1), vec![(code.to_owned(), element.to_owned())]), "{report:#}");
        report
    }
}

fn example(name: &str) -> PathBuf {
    tools::root().join("examples").join(name)
}

fn path(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("UTF-8")
}

fn head(trail: &Trail) -> String {
    fs::read_to_string(trail.data().join("log/checkpoint")).expect("a checkpoint")
}

fn message(report: &Value) -> String {
    text(&report["findings"][0]["message"])
}

/// One outcome of one row becomes `success`, and manifest, log and signature fit again.
#[test]
fn a_changed_column_of_a_well_sealed_object_is_named_by_rederive() {
    let audited = Audited::new();
    let mut forger = Forger::with_its_key(&audited.trail);
    let leaf = leaf_of(&forger, "aws.cloudtrail");
    let before = manifest(&forger, leaf);
    let mut forged = None;
    rewrite(&mut forger, leaf, &mut |number, row| {
        if forged.is_none() && row.get(Column::EventOutcome) == Cell::Text("failure".into()) {
            row.set(Column::EventOutcome, &Cell::Text("success".into()));
            forged = Some(format!("row {number} uid {}", row.uid));
        }
        true
    });
    let object = manifest(&forger, leaf).object.expect("an object").key;
    let element = format!("{object} {}", forged.expect("an event that failed"));
    assert_ne!(object, before.object.clone().expect("an object").key, "rows are part of the name");

    forger.seal();
    assert_eq!(text(&audited.good(&[])["trust"]), CONSISTENT_ONLY);
    let report = audited.finds(&["--rederive"], "COLUMN_MISMATCH", &element);
    let said = message(&report);
    assert!(said.contains("`event_outcome` is `success`, the original gives `failure`"), "{said}");
    let shown = audited.trail.keytrail(["verify", "--rederive"]).exits(1).stdout;
    assert!(shown.contains(&format!("COLUMN_MISMATCH {element}: ")), "{shown}");
    // The key is the trail's own: only a head from before, or the original bytes, tell.
    audited.good(&["--keys", &audited.keys]);
    audited.finds(&["--keys", &audited.keys, "--known", &audited.known], "FORK", "log/checkpoint");

    // The same, but the manifest's root over the columns stays as it was.
    let mut changed = manifest(&forger, leaf);
    changed.rows.as_mut().expect("rows").rows_root = before.rows.expect("rows").rows_root;
    forger.entries[leaf] = changed.to_bytes();
    forger.seal();
    audited.finds(&[], "COLUMN_MISMATCH", &object);
}

/// Each derived column is forged in a row of its own: all of them are named.
#[test]
fn rederive_names_every_column() {
    let audited = Audited::new();
    // Time and dataset place a row: verify sees them without --rederive. The normalizer's version: below. Whether
    // a source was declared is not in the original.
    let columns: Vec<Column> = Column::ALL
        .into_iter()
        .filter(|c| c.derived())
        .filter(|c| !matches!(c, Column::Timestamp | Column::EventDataset | Column::KeytrailNormalizer))
        .filter(|c| *c != Column::KeytrailUndeclared)
        .collect();
    let mut forger = Forger::with_its_key(&audited.trail);
    let leaf = leaf_of(&forger, "aws.cloudtrail");
    let mut expected = BTreeMap::new();
    rewrite(&mut forger, leaf, &mut |number, row| {
        if let Some(column) = columns.get(number) {
            row.set(
                *column,
                &match column.kind() {
                    Kind::Text | Kind::Binary => Cell::Text("forged".into()),
                    Kind::Int => Cell::Int(-42),
                    Kind::Bool => Cell::Bool(row.get(*column) != Cell::Bool(true)),
                    Kind::Time => Cell::Time(Timestamp(42)),
                    Kind::List => Cell::List(vec!["forged".into()]),
                },
            );
            expected.insert(row.uid.to_string(), column.name());
        }
        true
    });
    forger.seal();
    let (code, _, report) = audited.verify(&["--rederive"]);
    assert_eq!(code, Some(1));
    let findings = report["findings"].as_array().expect("a list");
    for finding in findings {
        let uid = text(&finding["element"]).rsplit(' ').next().expect("a uid").to_owned();
        if finding["code"] == "LEAF_MISMATCH" {
            // A place in a chain is looked for in the original at once.
            assert!(text(&finding["message"]).starts_with("it has a place in a chain"), "{finding}");
            continue;
        }
        let column = expected.remove(&uid).unwrap_or_else(|| panic!("{finding}"));
        // Around another envelope the line is no event at all.
        let around = column == "keytrail_ledger_envelope";
        let expected =
            if around { "the original gives no event: ".to_owned() } else { format!("`{column}` is ") };
        assert!(text(&finding["message"]).starts_with(&expected), "{finding}");
        assert_eq!(finding["code"], "COLUMN_MISMATCH");
    }
    assert!(expected.is_empty(), "not noticed: {expected:?}");
}

/// A row that says that another version made it cannot be derived again: that is said.
#[test]
fn rows_of_other_versions_are_said_to_be_unchecked() {
    let audited = Audited::new();
    let mut forger = Forger::with_its_key(&audited.trail);
    let leaf = leaf_of(&forger, "aws.cloudtrail");
    rewrite(&mut forger, leaf, &mut |number, row| {
        if number == 0 {
            row.set(Column::KeytrailNormalizer, &Cell::Text("cloudtrail/0".into()));
            row.set(Column::EventOutcome, &Cell::Text("success".into()));
        }
        true
    });
    forger.seal();
    let report = audited.good(&["--rederive"]);
    let unchecked = report["not_checked"].to_string();
    assert!(unchecked.contains("columns of 1 rows by `cloudtrail/0`"), "{unchecked}");
}

/// A time or dataset that does not belong into the partition is named without `--rederive`.
#[test]
fn a_misplaced_row_is_named() {
    let audited = Audited::new();
    let mut forger = Forger::with_its_key(&audited.trail);
    let leaf = leaf_of(&forger, "aws.cloudtrail");
    let mut uid = String::new();
    rewrite(&mut forger, leaf, &mut |number, row| {
        if number == 7 {
            row.set(Column::EventDataset, &Cell::Text("vault.audit".into()));
            uid = row.uid.to_string();
        }
        true
    });
    forger.seal();
    let object = manifest(&forger, leaf).object.expect("an object").key;
    audited.finds(&[], "COLUMN_MISMATCH", &format!("{object} row 7 uid {uid}"));
}

/// Original bytes change, or an event is left out, and all that is above is made to fit: nothing inside
/// the trail tells, and verify says so; a head from before does.
#[test]
fn a_changed_or_dropped_original_differs_from_the_known_head() {
    for drop in [true, false] {
        let audited = Audited::new();
        let mut forger = Forger::with_its_key(&audited.trail);
        let leaf = leaf_of(&forger, "aws.cloudtrail");
        rewrite(&mut forger, leaf, &mut |number, row| {
            if number == 5 && !drop {
                let text = String::from_utf8(row.original.clone()).expect("UTF-8");
                row.replace_original(text.replacen("userAgent", "userAgenT", 1).into_bytes());
            }
            number != 5 || !drop
        });
        forger.seal();
        assert_eq!(text(&audited.good(&[])["trust"]), CONSISTENT_ONLY);
        assert!(audited.trail.verify().success().stdout.contains(CONSISTENT_ONLY));
        let report = audited.finds(&["--known", &audited.known], "FORK", "log/checkpoint");
        assert!(message(&report).contains("two histories"), "{report:#}");
        // Those that know an older head than the newest notice as well.
        let with_more = Audited { known: audited.known.clone(), keys: audited.keys.clone(), ..audited };
        forger.entries.push(forger.entries[leaf].clone());
        forger.seal();
        let (code, found, _) = with_more.verify(&["--known", &with_more.known]);
        assert_eq!(code, Some(1));
        assert!(found.contains(&("FORK".into(), "log/checkpoint".into())), "{found:?}");
    }
}

/// An original that is not what its hash says is named with its row.
#[test]
fn an_original_that_its_hash_does_not_fit_is_named() {
    let audited = Audited::new();
    let mut forger = Forger::with_its_key(&audited.trail);
    let leaf = leaf_of(&forger, "vault.audit");
    let mut uid = String::new();
    rewrite(&mut forger, leaf, &mut |number, row| {
        if number == 3 {
            row.original.push(b' ');
            uid = row.uid.to_string();
        }
        true
    });
    forger.seal();
    let object = manifest(&forger, leaf).object.expect("an object").key;
    audited.finds(&[], "LEAF_MISMATCH", &format!("{object} row 3 uid {uid}"));
}

/// An entry of a well signed log that is no manifest, or names nonsense, stops nothing.
#[test]
fn hostile_manifests_are_findings() {
    let audited = Audited::new();
    let mut forger = Forger::with_its_key(&audited.trail);
    let good = forger.entries.clone();
    let leaf = leaf_of(&forger, "vault.audit");
    let count = {
        let mut changed = manifest(&forger, leaf);
        changed.rows.as_mut().expect("rows").count = u64::MAX;
        changed.to_bytes()
    };
    forger.entries.extend([b"no manifest".to_vec(), Vec::new(), count]);
    forger.seal();
    let (code, found, _) = audited.verify(&[]);
    assert_eq!(code, Some(1));
    let size = good.len();
    for element in [format!("log entry {size}"), format!("log entry {}", size + 1)] {
        assert!(found.contains(&("LEAF_MISMATCH".into(), element.clone())), "{element}: {found:?}");
    }
    let object = manifest(&forger, leaf).object.expect("an object").key;
    assert!(found.contains(&("LEAF_MISMATCH".into(), object)), "{found:?}");
}

/// Everything signed again by a key of the same name.
#[test]
fn a_trail_signed_by_another_key_is_consistent_only() {
    let audited = Audited::new();
    let forger = Forger::with_another_key(&audited.trail);
    forger.seal();
    assert_eq!(text(&audited.good(&[])["trust"]), CONSISTENT_ONLY);
    let report = audited.finds(&["--keys", &audited.keys], "SIG_INVALID", "log/checkpoint");
    assert!(text(&report["trust"]).starts_with("not authentic"), "{report:#}");
    // The known head is none of that key.
    let ran = audited.trail.keytrail(["verify", "--known", &audited.known]).exits(2);
    assert!(ran.stderr.contains(&audited.known), "{}", ran.stderr);
    // `run` does not go on with a key that is not its own.
    let ran = audited.trail.run([example("vault")]).exits(78);
    assert!(ran.stderr.contains("is another one than"), "{}", ran.stderr);
}

/// The data folder is put back to an older copy.
#[test]
fn a_rollback_is_noticed_by_the_known_head_and_by_run() {
    let audited = Audited::new();
    let older = audited.trail.aside("last-week");
    copy_folder(&audited.trail.data(), &older);
    assert_eq!(audited.trail.run([example("vault")]).code, Some(0));
    let newer = head(&audited.trail);
    let known = path(audited.trail.input("newer", &newer));
    let restore = |from: &PathBuf| {
        fs::remove_dir_all(audited.trail.data()).expect("removed");
        copy_folder(from, &audited.trail.data());
    };
    let now = audited.trail.aside("now");
    copy_folder(&audited.trail.data(), &now);

    restore(&older);
    audited.good(&["--keys", &audited.keys]);
    audited.good(&["--keys", &audited.keys, "--known", &audited.known]);
    let report = audited.finds(&["--keys", &audited.keys, "--known", &known], "ROLLBACK", "log/checkpoint");
    assert!(text(&report["trust"]).contains("does not continue the known head"), "{report:#}");
    let refused = audited.trail.run([example("vault")]).exits(70);
    assert!(refused.stderr.contains("an older or another copy"), "{}", refused.stderr);
    assert_eq!(
        head(&audited.trail),
        fs::read_to_string(&audited.known).expect("a head"),
        "nothing is written"
    );

    // A copy that went its own way, and is longer by now, is no continuation either.
    restore(&older);
    let keys = audited.trail.aside("keys-elsewhere");
    copy_folder(&audited.trail.keys(), &keys);
    for entry in fs::read_dir(&keys).expect("a key folder") {
        fs::remove_file(entry.expect("a trail's").path().join("head")).expect("removed");
    }
    let elsewhere = |args: &[&str]| -> Ran {
        audited.trail.command(args).env("KEYTRAIL_KEY_DIR", &keys).output().expect("starts").into()
    };
    for input in ["damaged", "cloudtrail/aws-documentation", "cloudtrail/lookup-events"] {
        let _ = elsewhere(&["run", &path(example(input))]);
    }
    let (code, found, _) = audited.verify(&["--keys", &audited.keys, "--known", &known]);
    assert_eq!((code, found), (Some(1), vec![("FORK".into(), "log/checkpoint".into())]));
    let refused = audited.trail.run([example("vault")]).exits(70);
    assert!(refused.stderr.contains("an older or another copy"), "{}", refused.stderr);

    restore(&now);
    audited.good(&["--keys", &audited.keys, "--known", &known]);
    assert_eq!(audited.trail.run([example("vault")]).code, Some(0));
}

/// Both keys sign through the overlap; each key file is good for the heads that it is of.
#[test]
fn keys_are_rotated() {
    let audited = Audited::new();
    let trail = &audited.trail;
    let bundle = path(trail.aside("before"));
    let _ = trail.keytrail(["export", "--out", &bundle]).success();
    let signatures = || head(trail).lines().filter(|l| l.starts_with('\u{2014}')).count();
    assert_eq!(signatures(), 1);

    let said = trail.keytrail(["log", "rotate-key"]).success().stdout;
    assert_eq!(said.lines().count(), 2, "{said}");
    let early = trail.keytrail(["log", "rotate-key", "--finish"]).exits(64);
    assert!(early.stderr.contains("run once"), "{}", early.stderr);
    audited.good(&["--keys", &audited.keys, "--known", &audited.known]);

    assert_eq!(trail.run([example("vault")]).code, Some(0));
    assert_eq!(signatures(), 2);
    let overlap = path(trail.input("overlap", head(trail)));
    audited.good(&["--keys", &audited.keys, "--known", &audited.known]);

    let _ = trail.keytrail(["log", "rotate-key", "--finish"]).success();
    assert_eq!(trail.run([example("cloudtrail/aws-documentation")]).code, Some(0));
    assert_eq!(signatures(), 1);
    let rotated = path(trail.input("rotated", trail.keytrail(["log", "key", "--all"]).success().stdout));
    for known in [&audited.known, &overlap] {
        let report = audited.good(&["--keys", &rotated, "--known", known]);
        assert!(text(&report["trust"]).starts_with("authentic by the given keys, continues"), "{report:#}");
    }
    audited.good(&[]);
    // The old key alone says nothing of the new head, and still proves the old one.
    audited.finds(&["--keys", &audited.keys], "SIG_INVALID", "log/checkpoint");
    for keys in [&audited.keys, &rotated] {
        let ran = trail.keytrail(["verify", "--bundle", &bundle, "--keys", keys]);
        assert!(ran.success().stdout.contains("authentic by the given keys"));
    }
    // The old key may sign no more: a head by it alone is refused.
    let forger = Forger::with_its_key(trail);
    forger.seal();
    audited.finds(&["--keys", &rotated], "SIG_INVALID", "log/checkpoint");
}
