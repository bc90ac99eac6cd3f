//! Every file of an archive that was written again is damaged: `verify` names that file, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use keytrail_tests::trail::{Trail, found, text};

use crate::archive::rewritten;

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    /// One bit in the middle.
    Flip,
    Drop,
    /// 90 % are left.
    Cut,
    /// Changes places with the next file of its folder's kind.
    Swap,
}

/// The code of a file that is there and is another.
fn changed(path: &str) -> &'static str {
    if path.starts_with("log/tile/entries/") {
        "LEAF_MISMATCH"
    } else if path.starts_with("log/tile/") {
        "TILE_MISMATCH"
    } else {
        "OBJECT_MISMATCH"
    }
}

fn kind(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// Damages files, and gives what verify says when that is not what it should.
fn misjudged(trail: &Trail, path: &str, other: Option<&String>, change: Change) -> Option<String> {
    let file = |path: &str| trail.data().join(path);
    let bytes = fs::read(file(path)).expect("a file of the trail");
    let mut expected = BTreeMap::from([(path.to_owned(), BTreeSet::from([changed(path).to_owned()]))]);
    let mut before = vec![(file(path), bytes.clone())];
    match change {
        Change::Flip => {
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 4;
            fs::write(file(path), flipped).expect("written");
        }
        Change::Drop => {
            fs::remove_file(file(path)).expect("removed");
            expected.insert(path.to_owned(), BTreeSet::from(["FILE_MISSING".to_owned()]));
        }
        Change::Cut => fs::write(file(path), &bytes[..bytes.len() * 9 / 10]).expect("written"),
        Change::Swap => {
            let other = other?;
            let others = fs::read(file(other)).expect("a file of the trail");
            fs::write(file(path), &others).expect("written");
            fs::write(file(other), &bytes).expect("written");
            before.push((file(other), others));
            expected.insert(other.clone(), BTreeSet::from([changed(other).to_owned()]));
        }
    }
    let ran = trail.keytrail(["verify", "--json", "--threads", "1"]);
    before.into_iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("put right"));
    let found = if ran.stdout.is_empty() { BTreeMap::new() } else { found(&ran.json()) };
    (ran.code != Some(1) || found != expected).then(|| {
        format!(
            "{change:?} of {path}: exit {:?}, expected {expected:?}, {}{}",
            ran.code, ran.stdout, ran.stderr
        )
    })
}

#[test]
fn every_file_of_a_rewritten_archive_is_named_when_it_is_damaged() {
    let trail = rewritten();
    let files: Vec<String> = trail
        .names()
        .into_iter()
        .filter(|f| ["archive/", "detail/", "log/tile/"].iter().any(|folder| f.starts_with(folder)))
        .collect();
    let kinds: BTreeSet<String> = trail.manifests().iter().map(|m| text(&m["kind"])).collect();
    for kind in ["add", "compact", "renormalize", "withhold", "expire"] {
        assert!(kinds.contains(kind), "no `{kind}` among {kinds:?}");
    }
    let mut wrong = Vec::new();
    for (at, path) in files.iter().enumerate() {
        let other = files[at + 1..].iter().find(|f| kind(f) == kind(path) && kind(path) != "log");
        for change in [Change::Flip, Change::Drop, Change::Cut, Change::Swap] {
            wrong.extend(misjudged(&trail, path, other, change));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    trail.verify().success();
}
