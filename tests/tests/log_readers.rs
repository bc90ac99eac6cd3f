//! Who else reads a trail: an auditor with a bundle and the binary alone, Tessera's fsck, a log builder and
//! a proof checker that share no code with keytrail.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use keytrail_tests::forge::Forger;
use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::{DAY_MICROS, Format, Load, Records};
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::Value;

/// 2026-01-05.
const START: i64 = 1_767_571_200_000_000;

/// Runs on a file of one event a day: one manifest a day.
fn add_days(trail: &Trail, first: u32, days: u32) {
    let load = Load {
        seed: first.into(),
        format: Format::Cloudtrail,
        events: days.into(),
        start_micros: START + i64::from(first) * DAY_MICROS,
        days,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let mut bytes = Vec::new();
    files::write(&mut Records::new(load), days.into(), Layout::Lines, &mut bytes).expect("written to memory");
    assert_eq!(trail.run([trail.input(&format!("days-{first}.jsonl"), bytes)]).code, Some(0));
}

fn example(name: &str) -> PathBuf {
    tools::root().join("examples").join(name)
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Three days of CloudTrail, two other sources, a quarantine entry.
fn mixed() -> Trail {
    let trail = Trail::new();
    for input in ["cloudtrail/invictus-attack-run", "openbao", "damaged", "key-operation"] {
        assert_eq!(trail.run([example(input)]).code, Some(0));
    }
    add_days(&trail, 0, 3);
    trail
}

/// `keytrail ARGS...` on another machine: no environment, no home, another folder.
fn elsewhere(folder: &Path, args: &[&str]) -> Ran {
    let binary = fs::canonicalize(tools::keytrail()).expect("the binary");
    Command::new(binary).args(args).env_clear().current_dir(folder).output().expect("starts").into()
}

/// Every path below a folder with its size and time: what changes if anything writes there.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let is = fs::metadata(&path).expect("a file or folder");
        if is.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
        }
        found.insert(path, (is.len(), is.modified().expect("a time")));
    }
    found
}

fn report(ran: &Ran) -> (Vec<(String, String)>, Vec<String>) {
    let json = ran.json();
    let list = |name: &str| json[name].as_array().expect("a list").clone();
    let findings = list("findings").iter().map(|f| (text(&f["code"]), text(&f["element"]))).collect();
    (findings, list("not_checked").iter().map(text).collect())
}

#[test]
fn a_bundle_verifies_with_the_binary_alone() {
    let trail = mixed();
    let keys = trail.trusted_keys();
    let known = trail.input("known", fs::read(trail.data().join("log/checkpoint")).expect("a head"));
    let bundle = trail.aside("bundle");
    let said = trail.keytrail(["export", "--out", shown(&bundle)]).success().stdout;
    assert!(said.contains("6 archive objects"), "{said}");
    assert!(
        trail.keytrail(["export", "--out", shown(&bundle)]).exits(64).stderr.contains("is there already")
    );
    let read_only = |path: &Path| {
        let mut mode = fs::metadata(path).expect("there").permissions();
        mode.set_readonly(true);
        fs::set_permissions(path, mode).expect("made read-only");
    };
    snapshot(&bundle).keys().for_each(|path| read_only(path));
    let before = snapshot(&bundle);
    // As the README in the bundle says it, from inside the bundle.
    let ran =
        elsewhere(&bundle, &["verify", "--bundle", ".", "--keys", shown(&keys), "--known", shown(&known)]);
    let out = ran.success().stdout;
    assert!(
        out.contains("good: 6 objects") && out.contains("authentic by the given keys, continues"),
        "{out}"
    );
    let ran = elsewhere(Path::new("/"), &["verify", "--rederive", "--bundle", shown(&bundle)]);
    let out = ran.success().stdout;
    assert!(out.contains("consistent only: key and head came from the archive itself"), "{out}");
    assert_eq!(snapshot(&bundle), before, "reading writes nothing");
    // A set data folder, which commands on the trail use, does not get into the way.
    assert_eq!(trail.keytrail(["verify", "--bundle", shown(&bundle)]).code, Some(0));
}

#[test]
fn a_tampered_bundle_is_found() {
    let trail = mixed();
    let bundle = trail.aside("bundle");
    let _ = trail.keytrail(["export", "--out", shown(&bundle)]).success();
    for (path, _) in snapshot(&bundle).into_iter().filter(|(path, _)| path.is_file()) {
        let name = shown(path.strip_prefix(&bundle).expect("below it")).to_owned();
        if ["README.md", "bundle.json"].contains(&name.as_str()) {
            continue;
        }
        let good = fs::read(&path).expect("a file");
        fs::write(&path, &good[..good.len() / 2]).expect("written");
        let ran = elsewhere(Path::new("/"), &["verify", "--json", "--bundle", shown(&bundle)]);
        if name.starts_with("keys/") {
            assert!(ran.exits(2).stderr.contains(&name));
        } else {
            let (findings, _) = report(&ran.exits(1));
            assert!(findings.len() == 1 && findings[0].1 == name, "{name}: {findings:?}");
        }
        fs::remove_file(&path).expect("removed");
        let ran = elsewhere(Path::new("/"), &["verify", "--json", "--bundle", shown(&bundle)]);
        match ran.code {
            Some(2) => assert!(ran.stderr.contains(&name), "{}", ran.stderr),
            _ => assert_eq!(report(&ran.exits(1)).0, [("FILE_MISSING".to_owned(), name)]),
        }
        fs::write(&path, good).expect("put right");
    }
    assert_eq!(elsewhere(Path::new("/"), &["verify", "--bundle", shown(&bundle)]).code, Some(0));
    fs::write(bundle.join("bundle.json"), "{}x").expect("written");
    let ran = elsewhere(Path::new("/"), &["verify", "--bundle", shown(&bundle)]).exits(2);
    assert!(ran.stderr.contains("bundle.json"), "{}", ran.stderr);
}

/// A range is exported or verified: what is outside of it was not checked, and that is said.
#[test]
fn a_range_says_what_it_did_not_check() {
    let trail = mixed();
    let objects = trail.objects();
    assert_eq!(objects.len(), 6, "{objects:?}");
    let day = |day: &str| objects.iter().find(|o| o.contains(day)).expect("an object of the day").clone();
    let range = ["--from", "2023-07-10", "--to", "2023-07-11"];
    let outside = "5 of 6 archive objects: all of their events are outside of 2023-07-10T00:00:00.000000Z to \
                   2023-07-11T00:00:00.000000Z";

    let bundle = trail.aside("bundle");
    let _ = trail.keytrail([&["export", "--out", shown(&bundle)], &range[..]].concat()).success();
    let ran = elsewhere(Path::new("/"), &["verify", "--json", "--bundle", shown(&bundle)]).success();
    let (findings, unchecked) = report(&ran);
    assert_eq!((findings, number(&ran.json()["objects"])), (vec![], 1));
    assert!(unchecked.contains(&outside.to_owned()), "{unchecked:#?}");
    let out = elsewhere(&bundle, &["verify", "--bundle", "."]).success().stdout;
    assert!(out.contains(&format!("not checked: {outside}\n")), "{out}");
    // What should be in the range and is not is found.
    fs::remove_file(bundle.join(day("2023-07-10"))).expect("removed");
    let ran = elsewhere(Path::new("/"), &["verify", "--json", "--bundle", shown(&bundle)]).exits(1);
    assert_eq!(report(&ran).0, [("FILE_MISSING".to_owned(), day("2023-07-10"))]);

    // The same range of the trail itself, with damage inside and outside of it.
    for (damaged, found) in [("2023-07-10", true), ("2026-01-06", false)] {
        let path = trail.data().join(day(damaged));
        let good = fs::read(&path).expect("an object");
        fs::write(&path, b"x").expect("written");
        let ran = trail.keytrail([&["verify", "--json"], &range[..]].concat());
        let (findings, unchecked) = report(&ran);
        let expected = [("OBJECT_MISMATCH".to_owned(), day(damaged))];
        assert_eq!(findings, if found { &expected[..] } else { &[] });
        assert_eq!(ran.code, Some(i32::from(found)));
        assert!(unchecked.contains(&outside.to_owned()), "{unchecked:#?}");
        fs::write(&path, good).expect("put right");
    }
}

/// Tessera's fsck and a log builder of a few lines agree with the log, at sizes around what fills a tile.
#[test]
fn others_read_the_log() {
    let trail = Trail::new();
    let mut size = 0;
    for days in [1, 1, 1, 4, 1, 247, 1, 1, 3] {
        add_days(&trail, size, days);
        size += days;
        let checkpoint = fs::read_to_string(trail.data().join("log/checkpoint")).expect("a head");
        assert_eq!(checkpoint.lines().nth(1), Some(size.to_string().as_str()));
        let key = trail.trusted_keys();
        let out = fsck(&trail, &key);
        assert!(out.code == Some(0), "size {size}: {out:?}");

        let log = |trail: &Trail| {
            let files = trail.files().into_iter();
            files.filter(|(path, _)| path.starts_with("log/")).collect::<BTreeMap<_, _>>()
        };
        let rebuilt = trail.copy();
        Forger::with_its_key(&rebuilt).seal();
        assert_eq!(log(&rebuilt), log(&trail), "size {size}");

        if [3, 8, 260].contains(&size) {
            for path in log(&trail).keys() {
                let path = trail.data().join(path);
                let good = fs::read(&path).expect("a file");
                let mut bad = good.clone();
                bad[good.len() / 2] ^= 1;
                fs::write(&path, bad).expect("written");
                assert_eq!(fsck(&trail, &key).code, Some(1), "size {size}, {}", path.display());
                fs::write(&path, good).expect("put right");
            }
        }
    }
    assert_eq!(size, 260);
}

fn fsck(trail: &Trail, key: &Path) -> Ran {
    let url = format!("file://{}/log/", trail.data().display());
    let mut command = Command::new(tools::fsck());
    command.args(["-key", shown(key), "-url", &url]).output().expect("fsck starts").into()
}

/// The proof that `explain` prints leads from the event's bytes to the signed head.
#[test]
fn inclusion_proofs_hold_for_others() {
    let trail = mixed();
    add_days(&trail, 10, 255);
    let first_and_last = "select min_by(keytrail_uid, timestamp) a, max_by(keytrail_uid, timestamp) b, \
                          any_value(keytrail_uid) c from {archive} group by event_dataset, dayofweek(timestamp)";
    let rows = trail.query(first_and_last);
    let (mut proven, mut refused_before) = (0, None);
    for uid in rows.iter().flat_map(|row| ["a", "b", "c"].map(|name| text(&row[name]))) {
        let explained = trail.keytrail(["explain", &uid, "--json"]).success();
        let raw = trail.command(["explain", &uid, "--raw"]).output().expect("starts").stdout;
        let raw = trail.input("raw", raw);
        let ran = prove(&trail, &explained.json(), &raw);
        assert!(ran.code == Some(0), "{uid}: {ran:?}");
        proven += 1;
        if refused_before.is_none() && explained.json()["proof"]["row_path"] != Value::Array(vec![]) {
            refused_before = Some(uid);
            refused(&trail, &explained.json(), &raw);
        }
    }
    assert!(proven >= 9 && refused_before.is_some(), "{proven}");
}

/// The checker itself does not say yes to everything.
fn refused(trail: &Trail, good: &Value, raw: &Path) {
    for (pointer, value) in [
        ("/event/hash", Value::from("00".repeat(32))),
        ("/proof/row", number(&good["proof"]["row"]).wrapping_add(1).into()),
        ("/proof/leaf_index", Value::from(0)),
        ("/proof/tree_size", Value::from(1)),
        ("/proof/row_path/0", Value::from("00".repeat(32))),
        ("/proof/leaf_path/0", Value::from("00".repeat(32))),
    ] {
        let mut bad = good.clone();
        let place = bad.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} of {good:#}"));
        if *place != value {
            *place = value;
            assert_eq!(prove(trail, &bad, raw).code, Some(1), "{pointer}");
        }
    }
    let other = trail.input("other", b"{}");
    assert_eq!(prove(trail, good, &other).code, Some(1));
}

fn prove(trail: &Trail, explained: &Value, raw: &Path) -> Ran {
    let explained = trail.input("explained.json", explained.to_string());
    let script = tools::root().join("tests/tests/inclusion.py");
    let args = [shown(&script), shown(&explained), shown(raw), shown(&trail.data())].map(str::to_owned);
    Command::new(tools::python()).arg("-S").args(args).output().expect("python starts").into()
}
