//! Which file is which, on a real file system: what was read of each is what it held.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keytrail_normalize::framing::Frame;

use super::Notice;
use super::file::{Due, Progress};
use super::files::Files;
use super::position::Stored;
use crate::archiver::Copies;
use crate::input::{Buffers, Limits, part};

const STILL: Duration = Duration::from_secs(3_600);

/// Files that are followed, and what was read of them.
struct Reader {
    files: Files,
    notices: Vec<Notice>,
    read: Vec<String>,
}

impl Reader {
    fn of(patterns: &[PathBuf]) -> Self {
        let patterns: Vec<_> = patterns.iter().map(|p| p.clone().into_os_string()).collect();
        let files = Files::new(&patterns, &[], STILL, Instant::now());
        Self { files, notices: Vec::new(), read: Vec::new() }
    }

    /// Polls once and reads what is due, as the service does. Gives the records that are new.
    fn round(&mut self) -> Vec<String> {
        let now = Instant::now();
        self.files.poll(now, &mut self.notices);
        let before = self.read.len();
        for again in 0..2 {
            let due: Vec<(u64, Due)> =
                self.files.iter().filter_map(|(id, f)| Some((id, f.due(now, STILL)?))).collect();
            for (id, due) in due {
                let Some(followed) = self.files.get_mut(id) else { continue };
                let Ok(file) = followed.open() else { continue };
                if !followed.is_same(&file).unwrap() {
                    assert_eq!(again, 0);
                    self.files.written_anew(id, now, &mut self.notices);
                    continue;
                }
                let Some(part) = followed.part(due, &file, &Limits::default()).unwrap() else { continue };
                let mut sink = |frame: Frame<'_>| {
                    self.read.push(String::from_utf8_lossy(frame.bytes).into_owned());
                    Ok(())
                };
                let done = part::read(&part, &Limits::default(), &mut Buffers::default(), &mut sink).unwrap();
                followed.taken(&part, &done, 1, Copies::new(), now);
                self.files.hold(id, &file);
            }
        }
        self.read[before..].to_vec()
    }

    /// What a seal would keep, and another process find.
    fn restarted(mut self, patterns: &[PathBuf]) -> Self {
        let mut next = Self::of(patterns);
        let stored = self.files.values_mut().filter(|f| f.progress != Progress::Unread).map(|f| Stored {
            path: f.path.clone(),
            name: f.name.clone(),
            stat: f.stat,
            progress: f.progress.clone(),
        });
        next.files.restore(stored.collect(), Instant::now());
        next
    }
}

fn record(n: u32) -> String {
    format!("{{\"n\":{n}}}")
}

fn append(path: &Path, numbers: std::ops::Range<u32>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    for n in numbers {
        writeln!(file, "{}", record(n)).unwrap();
    }
}

fn records(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(record).collect()
}

/// The rotated file and the one that took its name are both known after a restart: the rest of the one that is not
/// watched any more is read.
#[test]
fn a_restart_in_the_middle_of_a_rotation_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    let patterns = [log.clone()];
    let mut reader = Reader::of(&patterns);
    append(&log, 0..3);
    assert_eq!(reader.round(), records(0..3));
    fs::rename(&log, &old).unwrap();
    append(&log, 10..12);
    assert_eq!(reader.round(), records(10..12));
    assert_eq!(reader.files.len(), 2);

    let mut reader = reader.restarted(&patterns);
    append(&old, 3..5);
    append(&log, 12..13);
    let mut read = reader.round();
    read.sort_by_key(String::len);
    assert_eq!(read, records([3, 4, 12]));
    assert_eq!(reader.notices, []);
    // Nothing stays that is followed by nobody.
    assert_eq!(reader.round(), Vec::<String>::new());
    assert_eq!(reader.files.values_mut().filter(|f| f.watched).count(), 1);
}

/// The copy of a file that was cut short is no second file of its path after a restart.
#[test]
fn a_restart_after_copy_and_truncate_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (log, copy) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    let patterns = [log.clone()];
    let mut reader = Reader::of(&patterns);
    append(&log, 0..3);
    assert_eq!(reader.round(), records(0..3));
    append(&log, 3..4);
    fs::copy(&log, &copy).unwrap();
    File::options().write(true).truncate(true).open(&log).unwrap();
    append(&log, 20..21);
    let mut read = reader.round();
    read.sort_by_key(String::len);
    assert_eq!(read, records([3, 20]));

    let mut reader = reader.restarted(&patterns);
    append(&log, 21..22);
    assert_eq!(reader.round(), records(21..22));
    assert_eq!(reader.round(), Vec::<String>::new());
    assert_eq!(reader.notices, []);
    assert_eq!(reader.files.values_mut().filter(|f| f.watched).count(), 1);
}

/// Two files that begin alike are two: what was not read of the first is read under its new name.
#[test]
fn a_new_file_that_begins_like_the_rotated_one_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("a.log"), dir.path().join("a.log.1"));
    for keeps_handle in [true, false] {
        let mut reader = Reader::of(std::slice::from_ref(&log));
        append(&log, 0..1);
        assert_eq!(reader.round(), records(0..1));
        if !keeps_handle {
            reader.files.values_mut().for_each(|f| f.handle = None);
        }
        append(&log, 1..3);
        fs::rename(&log, &old).unwrap();
        append(&log, 0..1);
        append(&log, 5..6);
        let mut read = reader.round();
        read.sort();
        assert_eq!(read, records([0, 1, 2, 5]), "{keeps_handle}");
        fs::remove_file(&log).unwrap();
        fs::remove_file(&old).unwrap();
    }
}

/// A file that another one was put in place of, with the same beginning, goes on where it was.
#[test]
fn a_file_that_was_replaced_by_a_longer_self_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, next) = (dir.path().join("a.log"), dir.path().join("next"));
    let mut reader = Reader::of(std::slice::from_ref(&log));
    append(&log, 0..3);
    assert_eq!(reader.round(), records(0..3));
    append(&next, 0..5);
    fs::rename(&next, &log).unwrap();
    assert_eq!(reader.round(), records(3..5));
    assert_eq!(reader.files.len(), 1);
}

/// A folder that nobody can look into for a while is not empty: nothing of it is read again.
#[test]
fn files_of_a_folder_that_fails_for_a_while_are_not_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (real, mount) = (dir.path().join("real"), dir.path().join("mount"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &mount).unwrap();
    for pattern in [mount.clone(), mount.join("a.log")] {
        let mut reader = Reader::of(&[pattern]);
        fs::write(real.join("a.log"), "").unwrap();
        append(&real.join("a.log"), 0..3);
        assert_eq!(reader.round(), records(0..3));
        reader.files.values_mut().for_each(|f| f.handle = None);
        // Too many links: no answer, and not that nothing is there.
        fs::remove_file(&mount).unwrap();
        std::os::unix::fs::symlink(&mount, &mount).unwrap();
        append(&real.join("a.log"), 3..4);
        assert_eq!(reader.round(), Vec::<String>::new());
        assert_eq!((reader.files.len(), reader.notices.len()), (1, 1), "{:?}", reader.notices);
        fs::remove_file(&mount).unwrap();
        std::os::unix::fs::symlink(&real, &mount).unwrap();
        assert_eq!(reader.round(), records(3..4));
    }
}

/// Where a file was declared follows it to the name that it is rotated to, also over a restart. One that took the number
/// of another has a name of its own.
#[test]
fn a_renamed_file_is_declared_by_its_first_name() {
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("a.log"), dir.path().join("b.log"));
    let patterns = [dir.path().to_path_buf()];
    let mut reader = Reader::of(&patterns);
    append(&log, 0..3);
    fs::write(dir.path().join("c"), "{").unwrap();
    reader.round();
    let mut reader = reader.restarted(&patterns);
    fs::rename(&log, &old).unwrap();
    fs::rename(dir.path().join("c"), dir.path().join("d")).unwrap();
    append(&old, 3..4);
    assert_eq!(reader.round(), records(3..4));
    let first: BTreeMap<&Path, &Path> =
        reader.files.iter().map(|(_, f)| (f.path.as_path(), f.first_path.as_path())).collect();
    let (c, d) = (dir.path().join("c"), dir.path().join("d"));
    assert_eq!(first, BTreeMap::from([(old.as_path(), log.as_path()), (d.as_path(), d.as_path())]), "{c:?}");
}

/// Who removes many files does not make each of them cost a look into all others.
#[test]
fn many_files_that_vanish_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    let path = |n: u32| dir.path().join(format!("{n}.log"));
    let mut reader = Reader::of(&[dir.path().to_path_buf()]);
    (0..1_200).for_each(|n| append(&path(n), n..n + 1));
    assert_eq!(reader.round().len(), 1_200);
    reader.files.values_mut().for_each(|f| f.handle = None);
    (0..600).for_each(|n| fs::remove_file(path(n)).unwrap());
    let began = Instant::now();
    reader.round();
    assert_eq!(reader.files.len(), 600);
    assert_eq!(reader.notices, []);
    // 360,000 looks would take far longer, also on a busy machine.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
