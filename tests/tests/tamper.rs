//! Every file of a good trail is damaged in every way: `verify` names that file by its path in the data
//! folder, with the right code, and no other.
//!
//! A seeded sample by default; `KEYTRAIL_TAMPER=all` tries every file with every mutation, a number there
//! is another seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use keytrail_tests::load::random::Random;
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, found, text};
use serde_json::Value;

/// Files of the sample per class and mutation.
const SAMPLE: usize = 2;

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Mutation {
    /// One bit at this many thousandths of the file.
    Flip(u64),
    Drop,
    /// 90 % are left.
    Cut,
    Empty,
    /// A byte more at the end.
    Append,
    /// Changes places with another file of its class.
    Swap,
    /// Changes places with a file of another class.
    Exchange,
    /// Is a copy of another file of its class.
    Copy,
    /// A folder has its name.
    Folder,
    /// A link to what it was has its name.
    Link,
}

const MUTATIONS: [Mutation; 15] = [
    Mutation::Flip(0),
    Mutation::Flip(1),
    Mutation::Flip(250),
    Mutation::Flip(500),
    Mutation::Flip(750),
    Mutation::Flip(1000),
    Mutation::Drop,
    Mutation::Cut,
    Mutation::Empty,
    Mutation::Append,
    Mutation::Swap,
    Mutation::Exchange,
    Mutation::Copy,
    Mutation::Folder,
    Mutation::Link,
];

/// Kinds of files that are damaged in their own way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
    Archive,
    Detail,
    Quarantine,
    Bundle,
    Tile,
    Checkpoint,
}

impl Class {
    fn of(path: &str) -> Option<Self> {
        Some(match path.split('/').collect::<Vec<_>>()[..] {
            ["archive", ..] => Self::Archive,
            ["detail", ..] => Self::Detail,
            ["quarantine", ..] => Self::Quarantine,
            ["log", "tile", "entries", ..] => Self::Bundle,
            ["log", "tile", ..] => Self::Tile,
            ["log", "checkpoint"] => Self::Checkpoint,
            _ => return None,
        })
    }

    /// The code of a file that is there and is another.
    fn changed(self) -> &'static str {
        match self {
            Self::Archive | Self::Detail | Self::Quarantine => "OBJECT_MISMATCH",
            Self::Bundle => "LEAF_MISMATCH",
            Self::Tile => "TILE_MISMATCH",
            Self::Checkpoint => "SIG_INVALID",
        }
    }
}

/// Several runs: several appends to the log, partial tiles, quarantine, a conflict-free mix of sources.
fn small() -> Trail {
    let trail = Trail::new();
    let examples = tools::root().join("examples");
    for input in ["cloudtrail/invictus-attack-run", "openbao", "damaged", "key-operation", "vault"] {
        assert_eq!(trail.run([examples.join(input)]).code, Some(0), "{input}");
    }
    // Records that are refused make quarantine entries, a late file a second object of a partition.
    let broken: String =
        (0..4).map(|i| format!("{{\"eventVersion\":\"1.08\",\"eventID\":{i},\"cut\n")).collect();
    trail.run([trail.input("broken.jsonl", broken)]);
    for seed in 1..=2 {
        assert_eq!(trail.run([trail.load(seed, 0, 3, 60)]).code, Some(0));
    }
    trail
}

/// One manifest a day: full tiles and bundles, and a tile of level 1.
fn large() -> Trail {
    let trail = Trail::new();
    for (seed, days) in [(1, 200), (2, 60)] {
        assert_eq!(trail.run([trail.load(seed, 0, days, days.into())]).code, Some(0));
    }
    trail
}

/// A mutation of one file, and the other file that takes part in it.
#[derive(Clone, Debug)]
struct Case {
    path: String,
    class: Class,
    mutation: Mutation,
    other: Option<String>,
}

/// All cases of a trail, those of the sample first.
fn cases(trail: &Trail, seed: u64) -> (Vec<Case>, usize) {
    let hashes = trail.files();
    let files: Vec<(&String, Class)> =
        hashes.keys().filter_map(|path| Class::of(path).map(|class| (path, class))).collect();
    let mut random = Random::of(seed, 0);
    let (mut all, mut sampled) = (Vec::new(), Vec::new());
    let mut taken: BTreeMap<(Class, Mutation), usize> = BTreeMap::new();
    let mut shuffled = files.clone();
    shuffled.sort_by_cached_key(|_| random.bits());
    for (path, class) in shuffled {
        for mutation in MUTATIONS {
            let same = match mutation {
                Mutation::Swap | Mutation::Copy => true,
                Mutation::Exchange => false,
                _ => {
                    push(
                        &mut all,
                        &mut sampled,
                        &mut taken,
                        Case { path: path.clone(), class, mutation, other: None },
                    );
                    continue;
                }
            };
            let partners: Vec<&String> = files
                .iter()
                .filter(|(p, c)| (*c == class) == same && hashes[*p] != hashes[path])
                .map(|(p, _)| *p)
                .collect();
            if !partners.is_empty() {
                let other = partners[random.below(partners.len() as u64) as usize].clone();
                let case = Case { path: path.clone(), class, mutation, other: Some(other) };
                push(&mut all, &mut sampled, &mut taken, case);
            }
        }
    }
    let count = sampled.len();
    sampled.extend(all);
    (sampled, count)
}

fn push(
    all: &mut Vec<Case>,
    sampled: &mut Vec<Case>,
    taken: &mut BTreeMap<(Class, Mutation), usize>,
    case: Case,
) {
    let count = taken.entry((case.class, case.mutation)).or_default();
    if *count < SAMPLE {
        *count += 1;
        sampled.push(case);
    } else {
        all.push(case);
    }
}

/// A damaged file, put right again when it goes.
struct Damage {
    before: Vec<(std::path::PathBuf, Vec<u8>)>,
    aside: std::path::PathBuf,
}

impl Damage {
    fn new(trail: &Trail, case: &Case) -> Self {
        let path = trail.data().join(&case.path);
        let bytes = fs::read(&path).expect("a file of the trail");
        let mut damage = Self { before: vec![(path.clone(), bytes.clone())], aside: trail.aside("linked") };
        let mut changed = bytes.clone();
        match case.mutation {
            Mutation::Flip(thousandths) => {
                let at = (bytes.len() - 1) as u64 * thousandths / 1000;
                changed[at as usize] ^= 1 << (thousandths % 7);
                fs::write(&path, changed).expect("written");
            }
            Mutation::Drop => fs::remove_file(&path).expect("removed"),
            Mutation::Cut => fs::write(&path, &bytes[..bytes.len() * 9 / 10]).expect("written"),
            Mutation::Empty => fs::write(&path, b"").expect("written"),
            Mutation::Append => {
                changed.push(0);
                fs::write(&path, changed).expect("written");
            }
            Mutation::Swap | Mutation::Exchange | Mutation::Copy => {
                let other = trail.data().join(case.other.as_deref().expect("has a partner"));
                let others = fs::read(&other).expect("a file of the trail");
                fs::write(&path, &others).expect("written");
                if case.mutation != Mutation::Copy {
                    fs::write(&other, bytes).expect("written");
                    damage.before.push((other, others));
                }
            }
            Mutation::Folder => {
                fs::remove_file(&path).expect("removed");
                fs::create_dir(&path).expect("made");
            }
            Mutation::Link => {
                fs::rename(&path, &damage.aside).expect("moved");
                std::os::unix::fs::symlink(&damage.aside, &path).expect("linked");
            }
        }
        damage
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        for (path, bytes) in &self.before {
            if path.is_dir() {
                fs::remove_dir(path).expect("removed");
            } else if path.is_symlink() {
                fs::remove_file(path).expect("removed");
                fs::remove_file(&self.aside).expect("removed");
            }
            fs::write(path, bytes).expect("put right");
        }
    }
}

/// Files that could not be checked because what names them is damaged.
fn unchecked(report: &Value) -> BTreeSet<String> {
    let said = report["not_checked"].as_array().expect("a list").iter().map(text);
    said.filter_map(|line| Some(line.strip_prefix('`')?.split_once("`: what names it")?.0.to_owned()))
        .collect()
}

/// What is wrong with how verify judged a case, if anything.
fn misjudged(case: &Case, ran: &Ran) -> Option<String> {
    if case.mutation == Mutation::Link {
        // What a link leads to is not part of the trail: it cannot be verified, and is named.
        let named = ran.code == Some(2) && ran.stderr.contains(&case.path);
        return (!named).then(|| format!("exit {:?}: {}{}", ran.code, ran.stdout, ran.stderr));
    }
    if ran.code != Some(1) {
        return Some(format!("exit {:?}: {}{}", ran.code, ran.stdout, ran.stderr));
    }
    let report = ran.json();
    let found = found(&report);
    let code = |class: Class| {
        let gone = matches!(case.mutation, Mutation::Drop | Mutation::Folder);
        BTreeSet::from([if gone { "FILE_MISSING" } else { class.changed() }.to_owned()])
    };
    let mut expected = BTreeMap::from([(case.path.clone(), code(case.class))]);
    if let (Some(other), Mutation::Swap | Mutation::Exchange) = (&case.other, case.mutation) {
        expected.insert(other.clone(), code(Class::of(other).expect("has a class")));
    }
    // One of two files may have been the list that names the other: then that is what is said of it.
    if case.other.is_some() {
        expected.retain(|path, _| found.contains_key(path) || !unchecked(&report).contains(path));
    }
    (found != expected || text(&report["verdict"]) != "findings")
        .then(|| format!("expected {expected:?}, found {:#}", report["findings"]))
}

/// Tries the cases on two copies of the trail at once.
fn try_all(trail: &Trail, cases: &[Case], range: &[&str]) -> Vec<String> {
    let queue = Mutex::new(cases.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let copy = trail.copy();
            let (queue, wrong) = (&queue, &wrong);
            scope.spawn(move || {
                loop {
                    let next = queue.lock().expect("no thread panicked").next();
                    let Some(case) = next else { break };
                    let damage = Damage::new(&copy, case);
                    let ran = copy.keytrail([&["verify", "--json", "--threads", "1"], range].concat());
                    drop(damage);
                    if let Some(why) = misjudged(case, &ran) {
                        let message = format!("{:?} of {}: {why}", case.mutation, case.path);
                        wrong.lock().expect("no thread panicked").push(message);
                    }
                }
                assert_eq!(copy.verify().code, Some(0), "all damage is put right");
            });
        }
    });
    wrong.into_inner().expect("no thread panicked")
}

/// Tries all mutations, or those of the sample, there only of the log if `log_only`.
fn every_mutation_is_named(trail: &Trail, log_only: bool) {
    assert!(trail.verify().success().stdout.contains("\ngood: "));
    let asked = std::env::var("KEYTRAIL_TAMPER").unwrap_or_default();
    let (mut cases, sample) = cases(trail, asked.parse().unwrap_or(1));
    let mut range = &[][..];
    if asked != "all" {
        cases.truncate(sample);
        if log_only {
            let in_log = |path: &String| path.starts_with("log/");
            cases.retain(|case| in_log(&case.path) && case.other.iter().all(in_log));
            // A range without events leaves out all objects; of the log it leaves out nothing.
            range = &["--from", "2006-01-01", "--to", "2006-01-02"];
        }
    }
    let wrong = try_all(trail, &cases, range);
    println!("{} of {} mutations named as they should be", cases.len() - wrong.len(), cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn every_mutation_of_a_small_trail_is_named() {
    every_mutation_is_named(&small(), false);
}

#[test]
fn every_mutation_of_a_log_with_full_tiles_is_named() {
    let trail = large();
    let files = trail.files();
    for path in ["log/tile/0/000", "log/tile/entries/000", "log/tile/1/000.p/1"] {
        assert!(files.contains_key(path), "{path}: {files:?}");
    }
    // Objects are those of the small trail, only more.
    every_mutation_is_named(&trail, true);
}

/// Damage to many files at once, of every class: all are named, none hides another.
#[test]
fn all_of_several_are_named() {
    let trail = small();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut seen: BTreeMap<Class, usize> = BTreeMap::new();
    let mut damages = Vec::new();
    for path in trail.files().into_keys() {
        let Some(class) = Class::of(&path) else { continue };
        // A damaged bundle or detail object takes the names of others with it: see the next test.
        if class == Class::Bundle || class == Class::Detail {
            continue;
        }
        let n = seen.entry(class).or_default();
        *n += 1;
        let (mutation, code) = match *n % 4 {
            0 => continue,
            1 => (Mutation::Flip(500), class.changed()),
            2 => (Mutation::Drop, "FILE_MISSING"),
            _ => (Mutation::Cut, class.changed()),
        };
        expected.entry(path.clone()).or_default().insert(code.to_owned());
        damages.push(Damage::new(&trail, &Case { path, class, mutation, other: None }));
    }
    for added in ["archive/dataset=aws.cloudtrail/day=2023-07-10/x.parquet", "archive/.hidden", "detail/x"] {
        fs::write(trail.data().join(added), b"x").expect("written");
        expected.entry(added.to_owned()).or_default().insert("FILE_UNLISTED".to_owned());
    }
    let (code, report) = trail.verify_json::<&str>([]);
    assert_eq!((code, found(&report)), (Some(1), expected.clone()));
    assert!(seen.values().all(|n| *n > 0) && seen.len() == 4, "{seen:?}");
    let shown = trail.verify().exits(1).stdout;
    for (path, codes) in expected {
        for code in codes {
            assert!(
                shown.lines().any(|l| l.starts_with(&format!("{code} {path}"))),
                "{code} {path}\n{shown}"
            );
        }
    }
}

/// What a damaged list named cannot be checked: that is said, and not blamed on the files.
#[test]
fn what_a_damaged_list_named_is_not_blamed() {
    let trail = small();
    for (class, lost) in
        [(Class::Bundle, "archive/"), (Class::Bundle, "detail/"), (Class::Detail, "quarantine/")]
    {
        let lists: Vec<String> =
            trail.files().into_keys().filter(|path| Class::of(path) == Some(class)).collect();
        let mut said = BTreeSet::new();
        for path in lists {
            let case = Case { path: path.clone(), class, mutation: Mutation::Drop, other: None };
            let _damage = Damage::new(&trail, &case);
            let (code, report) = trail.verify_json::<&str>([]);
            let expected = BTreeMap::from([(path, BTreeSet::from(["FILE_MISSING".to_owned()]))]);
            assert_eq!((code, found(&report)), (Some(1), expected));
            said.extend(unchecked(&report));
        }
        for path in trail.files().into_keys().filter(|path| path.starts_with(lost)) {
            assert!(said.contains(&path), "{path} is not among {said:#?}");
        }
    }
}

/// Files that nothing sealed names, wherever they are.
#[test]
fn added_files_are_named() {
    let trail = small();
    let objects = trail.objects();
    let copied = fs::read(trail.data().join(&objects[0])).expect("an object");
    let day = Path::new(&objects[0]).parent().and_then(Path::to_str).expect("has a folder").to_owned();
    for (path, bytes, code) in [
        (format!("{day}/20230710T000000Z-0123456789abcdef.parquet"), &copied[..], "FILE_UNLISTED"),
        (format!("{day}/_SUCCESS"), b"", "FILE_UNLISTED"),
        ("archive/dataset=other/day=undated/x.parquet".into(), b"x", "FILE_UNLISTED"),
        (format!("detail/{}", "0".repeat(64)), b"{}", "FILE_UNLISTED"),
        (format!("quarantine/{}", "0".repeat(64)), b"{}\n", "UNSEALED"),
        ("log/tile/0/001".into(), b"x", "FILE_UNLISTED"),
        ("log/tile/entries/x001/000".into(), b"x", "FILE_UNLISTED"),
        ("log/tile/1/000.p/1".into(), b"x", "FILE_UNLISTED"),
        ("log/checkpoint.old".into(), b"x", "FILE_UNLISTED"),
    ] {
        let file = trail.data().join(&path);
        fs::create_dir_all(file.parent().expect("has a folder")).expect("made");
        fs::write(&file, bytes).expect("written");
        let (exit, report) = trail.verify_json::<&str>([]);
        let expected = BTreeMap::from([(path, BTreeSet::from([code.to_owned()]))]);
        assert_eq!((exit, found(&report)), (Some(1), expected));
        fs::remove_file(file).expect("removed");
    }
    assert_eq!(trail.verify().code, Some(0));
}

/// Without its public keys a trail cannot be verified; given ones do.
#[test]
fn a_damaged_key_file_is_named() {
    let trail = small();
    let keys = trail.trusted_keys();
    let file = trail.data().join("keys/log.keys");
    let good = fs::read_to_string(&file).expect("the key file");
    for bad in ["", "x\n", &good.replacen('+', "-", 1), &good.replace("keytrail.local", "keytrail.xocal")] {
        fs::write(&file, bad).expect("written");
        let ran = trail.verify().exits(2);
        assert!(ran.stderr.contains("keys/log.keys"), "{}", ran.stderr);
        let given = trail.keytrail(["verify", "--keys", keys.to_str().expect("UTF-8")]).success();
        assert!(given.stdout.contains("authentic by the given keys"), "{}", given.stdout);
    }
    fs::remove_file(&file).expect("removed");
    assert!(trail.verify().exits(2).stderr.contains("keys/log.keys"));
}
