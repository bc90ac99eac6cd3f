use proptest::prelude::*;

use super::*;
use crate::keys::tests::{key, signed};
use crate::tree::tests::{Files, log};

fn good(size: u64) -> Files {
    let (mut files, size, root) = log(&[size]);
    files.insert(CHECKPOINT.into(), signed(size, root, &[1]));
    files
}

fn check(files: &Files, known: Option<&Checkpoint>) -> (Audit, Vec<(u64, bool)>) {
    let names: Vec<String> = files.keys().cloned().collect();
    let keys = LogKeys::of(key(1).1);
    let mut seen = Vec::new();
    let read = |p: &str| Ok(files.get(p).cloned());
    let audit = audit(&read, &names, Some(&keys), known, &mut |e| seen.push((e.index, e.agrees))).unwrap();
    (audit, seen)
}

fn found(files: &Files) -> Vec<String> {
    let mut all: Vec<String> =
        check(files, None).0.findings.iter().map(|f| format!("{} {}", f.code, f.element)).collect();
    all.dedup();
    all
}

#[test]
fn a_good_log_has_no_findings() {
    for size in [0, 1, 255, 256, 257, 1000, 65_793] {
        let (audit, seen) = check(&good(size), None);
        assert_eq!(audit.findings, [], "{size}");
        assert!(audit.authentic);
        assert_eq!(audit.checkpoint.unwrap().size, size);
        assert!(seen.iter().copied().eq((0..size).map(|i| (i, true))));
    }
}

/// Each file of a log, alone: flipped, cut, extended, dropped, emptied.
#[test]
fn each_change_of_each_file_is_named() {
    for size in [1, 5, 256, 300, 600] {
        let files = good(size);
        for (path, bytes) in &files {
            let code = match Tile::parse(path) {
                None => "SIG_INVALID",
                Some(Tile { level: Level::Entries, .. }) => "LEAF_MISMATCH",
                Some(_) => "TILE_MISMATCH",
            };
            let want = vec![format!("{code} log/{path}")];
            let mut changes: Vec<(String, Vec<u8>)> = Vec::new();
            for at in [0, 1, 2, bytes.len() / 2, bytes.len() - 1] {
                let mut b = bytes.clone();
                b[at] ^= 0x10;
                changes.push((format!("flip {at}"), b));
            }
            changes.push(("cut".into(), bytes[..bytes.len() - 1].to_vec()));
            changes.push(("half".into(), bytes[..bytes.len() / 2].to_vec()));
            changes.push(("empty".into(), Vec::new()));
            changes.push(("more".into(), [bytes, &b"\0\0"[..]].concat()));
            changes.push(("twice".into(), [&bytes[..], bytes].concat()));
            for (what, changed) in changes {
                let mut files = files.clone();
                files.insert(path.clone(), changed);
                assert_eq!(found(&files), want, "{size}: {path}: {what}");
            }
            let mut dropped = files.clone();
            dropped.remove(path);
            assert_eq!(found(&dropped), [format!("FILE_MISSING log/{path}")], "{size}: {path}");
        }
    }
}

#[test]
fn all_bad_files_are_named() {
    let mut files = good(1000);
    for path in ["tile/entries/000", "tile/0/001", "tile/1/000.p/3"] {
        files.get_mut(path).unwrap()[40] ^= 1;
    }
    files.remove("tile/entries/002");
    files.insert("tile/2/000.p/1".into(), vec![0; 32]);
    files.insert("junk".into(), vec![]);
    assert_eq!(
        found(&files),
        [
            "FILE_MISSING log/tile/entries/002",
            "LEAF_MISMATCH log/tile/entries/000",
            "TILE_MISMATCH log/tile/0/001",
            "TILE_MISMATCH log/tile/1/000.p/3",
            "FILE_UNLISTED log/junk",
            "FILE_UNLISTED log/tile/2/000.p/1",
        ]
    );
}

#[test]
fn swapped_files_are_both_named() {
    let swap = |a: &str, b: &str| {
        let mut files = good(600);
        let (x, y) = (files[a].clone(), files[b].clone());
        files.insert(a.into(), y);
        files.insert(b.into(), x);
        found(&files)
    };
    assert_eq!(
        swap("tile/entries/000", "tile/entries/001"),
        ["LEAF_MISMATCH log/tile/entries/000", "LEAF_MISMATCH log/tile/entries/001"]
    );
    assert_eq!(
        swap("tile/0/000", "tile/0/001"),
        ["TILE_MISMATCH log/tile/0/000", "TILE_MISMATCH log/tile/0/001"]
    );
}

/// An entry replaced in its bundle and in all hashes above it, under the old head.
#[test]
fn a_rewritten_tree_is_not_the_signed_one() {
    for size in [5, 300] {
        let files = good(size);
        let mut other = Files::new();
        let (mut rewritten, ..) = log(&[size]);
        let mut entries: Vec<Vec<u8>> = (0..size).map(crate::tree::tests::entry).collect();
        entries[3] = b"forged".to_vec();
        let done =
            crate::tree::append(0, &Hash::of(b""), &mut |_| Ok(None), entries.iter().map(Vec::as_slice))
                .unwrap();
        rewritten.extend(done.objects.into_iter().map(|o| (o.path, o.bytes)));
        other.extend(rewritten.clone());
        other.insert(CHECKPOINT.into(), files[CHECKPOINT].clone());
        assert_eq!(found(&other), ["LEAF_MISMATCH log/checkpoint"]);
        assert!(!check(&other, None).0.authentic);
        // Where only bundle and tile were rewritten, level 1 convicts them.
        if size > 256 {
            other.insert("tile/1/000.p/1".into(), files["tile/1/000.p/1"].clone());
            assert_eq!(found(&other), ["LEAF_MISMATCH log/tile/entries/000", "TILE_MISMATCH log/tile/0/000"]);
        }
    }
}

#[test]
fn another_key_is_not_ours() {
    let mut files = good(300);
    let root = log(&[300]).2;
    files.insert(CHECKPOINT.into(), signed(300, root, &[2]));
    let (audit, _) = check(&files, None);
    assert_eq!(found(&files), ["SIG_INVALID log/checkpoint"]);
    assert_eq!((audit.checkpoint, audit.authentic), (None, false));
    let names: Vec<String> = files.keys().cloned().collect();
    let unsigned = super::audit(&|p| Ok(files.get(p).cloned()), &names, None, None, &mut |_| {}).unwrap();
    assert_eq!(
        (unsigned.findings.len(), unsigned.checkpoint.is_some(), unsigned.authentic),
        (0, true, false)
    );
}

#[test]
fn rollback_and_fork() {
    let known = |size, root| Checkpoint { origin: "log".into(), size, root };
    let codes = |files: &Files, known: &Checkpoint| -> Vec<Code> {
        check(files, Some(known)).0.findings.iter().map(|f| f.code).collect()
    };
    let files = good(600);
    for size in [0, 1, 255, 256, 257, 512, 599, 600] {
        assert_eq!(codes(&files, &known(size, log(&[size]).2)), [], "{size}");
        assert_eq!(codes(&files, &known(size, Hash::of(b"x"))), [Code::Fork], "{size}");
    }
    assert_eq!(codes(&files, &known(601, log(&[601]).2)), [Code::Rollback]);
    // Damage is not taken for a fork.
    let mut damaged = files.clone();
    damaged.get_mut("tile/entries/000").unwrap()[40] ^= 1;
    assert_eq!(codes(&damaged, &known(300, log(&[300]).2)), [Code::LeafMismatch]);
    let elsewhere = Checkpoint { origin: "elsewhere".into(), ..known(600, log(&[600]).2) };
    assert_eq!(codes(&files, &elsewhere), [Code::Fork]);
}

#[test]
fn superseded_partial_tiles_must_be_right() {
    let (old, ..) = log(&[300]);
    let mut files = good(700);
    for (path, bytes) in old.iter().filter(|(p, _)| p.contains(".p/")) {
        files.insert(path.clone(), bytes.clone());
    }
    assert_eq!(found(&files), [""; 0]);
    for path in ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"] {
        let mut bad = files.clone();
        bad.get_mut(path).unwrap()[9] ^= 1;
        let code = if path.contains("entries") { "LEAF_MISMATCH" } else { "TILE_MISMATCH" };
        assert_eq!(found(&bad), [format!("{code} log/{path}")]);
    }
}

/// Both pass Tessera's fsck.
#[test]
fn a_full_tile_in_place_of_a_partial_one() {
    let (longer, ..) = log(&[512]);
    let mut files = good(300);
    for path in ["tile/0/001", "tile/entries/001"] {
        files.insert(path.into(), longer[path].clone());
        files.remove(&format!("{path}.p/44"));
    }
    assert_eq!(
        found(&files),
        [
            "FILE_MISSING log/tile/0/001.p/44",
            "FILE_MISSING log/tile/entries/001.p/44",
            "FILE_UNLISTED log/tile/0/001",
            "FILE_UNLISTED log/tile/entries/001",
        ]
    );
}

#[test]
fn a_huge_size_is_bounded() {
    let mut files = good(5);
    files.insert(CHECKPOINT.into(), signed(u64::MAX, Hash::of(b"x"), &[1]));
    let (audit, _) = check(&files, None);
    assert!(audit.findings.len() < 2 * 1_000 + 50, "{}", audit.findings.len());
    assert!(!audit.authentic);
    let mut files = good(5);
    files.remove(CHECKPOINT);
    files.insert("tile/7/x018/x446/x744/x073/x709/x551/615".into(), vec![]);
    files.insert("tile/0/x018/x446/x744/x073/x709/x551/615".into(), vec![]);
    assert!(check(&files, None).0.findings.len() < 2 * 1_000 + 50);
}

#[test]
fn a_reader_that_fails_is_no_finding() {
    let e = audit(&|p| Err(format!("cannot read `{p}`")), &[], None, None, &mut |_| {}).unwrap_err();
    assert_eq!(e, "cannot read `checkpoint`");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_change_is_found(size in 1u64..700, which: prop::sample::Index, at: prop::sample::Index, bit in 0u32..8) {
        let mut files = good(size);
        let path = files.keys().nth(which.index(files.len())).unwrap().clone();
        let bytes = files.get_mut(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let all = found(&files);
        prop_assert_eq!(all.len(), 1, "{:?}", all);
        let suffix = format!(" log/{}", path);
        prop_assert!(all[0].ends_with(&suffix), "{:?}", all);
    }
}
