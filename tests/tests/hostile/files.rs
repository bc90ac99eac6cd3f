//! Inputs that misbehave as files, and folders that cannot be written to.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use keytrail_tests::trail::{Ran, Trail};

use crate::{counted, entries, holds, lines, name, raw, record, run, verifies};

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// What vanishes after it was listed, or fails when read, is refused by its name; the others are read. The
/// first input is a pipe: it holds the run until the other one is gone.
#[test]
fn vanished_and_unreadable_inputs() {
    let trail = Trail::new();
    let pipe = trail.aside("pipe");
    fifo(&pipe);
    let gone = trail.input("folder/gone", lines(10, 20));
    trail.input("folder/stays", lines(20, 30));
    let args =
        ["run", name(&pipe), name(gone.parent().unwrap()), "/proc/self/mem", "--threads", "1", "--json"];
    let child = trail.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opening blocks until the run reads the pipe: by then it has listed the folder.
    let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    fs::remove_file(&gone).unwrap();
    writer.write_all(lines(0, 10).as_bytes()).unwrap();
    drop(writer);
    let (_, counts, _) = counted(&Ran::from(child.wait_with_output().unwrap()));
    assert_eq!((counts.accepted, counts.rejected), (20, 2));
    let mut bad = entries(&trail);
    bad.sort_by(|a, b| a.input.cmp(&b.input));
    assert!(bad.iter().all(|e| e.code == "input_unreadable"), "{bad:?}");
    assert_eq!(raw(&trail, &bad[0]), b"/proc/self/mem");
    assert_eq!(raw(&trail, &bad[1]), name(&gone).as_bytes());
    verifies(&trail);

    symlink("loop", trail.aside("loop")).unwrap();
    let ran = trail.run([trail.aside("loop")]).exits(64);
    assert!(ran.stderr.contains("cannot be read"), "{}", ran.stderr);
}

/// A file that grows between two runs: the torn end is refused once, the whole record is read later.
#[test]
fn a_file_that_grows() {
    let trail = Trail::new();
    let whole = lines(0, 10);
    let input = trail.input("log", &whole[..whole.len() - 100]);
    let (_, counts, _) = run(&trail, &[name(&input)]);
    assert_eq!((counts.accepted, counts.rejected), (9, 1));
    assert_eq!(entries(&trail)[0].code, "record_torn");
    trail.input("log", &whole);
    let (_, counts, _) = run(&trail, &[name(&input)]);
    assert_eq!((counts.accepted, counts.duplicates, counts.rejected), (1, 9, 0));
    holds(&trail, &[name(&input)], counts);
}

/// Names with line feeds, escape sequences and bytes that are no text, by folder and by argument.
#[test]
fn hostile_names() {
    let trail = Trail::new();
    let names =
        [&b"line\nfeed"[..], b"\x1b[31mred", b"no\xfftext", "bidi\u{202e}gnp".as_bytes(), b"-", b"*?["];
    let folder = trail.aside("folder");
    fs::create_dir(&folder).unwrap();
    for (n, name) in names.iter().enumerate() {
        let path = folder.join(OsString::from_vec(name.to_vec()));
        fs::write(path, format!("{}\nbad {n}", lines(n, n + 1))).unwrap();
    }
    let paths: Vec<_> = names.iter().map(|n| folder.join(OsString::from_vec(n.to_vec()))).collect();
    let ran = trail.run(paths.iter().map(|p| p.as_os_str()).chain(["--json".as_ref()]));
    let (_, first, _) = counted(&ran);
    assert_eq!((first.accepted, first.rejected), (6, 6));
    assert!(!ran.stderr.contains(['\u{1b}', '\u{202e}']), "{}", ran.stderr);
    holds(&trail, &[name(&folder)], first);
    let listed = trail.keytrail(["quarantine", "list"]).success().stdout;
    assert_eq!(listed.lines().count(), 6, "{listed}");
    assert!(!listed.contains(['\u{1b}', '\u{202e}']) && listed.contains("no\\xfftext"), "{listed}");
}

/// The second writer refuses and says who holds the folder; the first is not disturbed.
#[test]
fn two_runs_on_one_folder() {
    let trail = Trail::new();
    let pipe = trail.aside("pipe");
    fifo(&pipe);
    let first = trail
        .command(["run", name(&pipe), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    let other = trail.input("other", record(5));
    let second = trail.run([name(&other)]);
    assert!(matches!(second.code, Some(70 | 75)), "{second:?}");
    assert!(second.stderr.contains(&format!("pid {}", first.id())), "{}", second.stderr);
    writer.write_all(lines(0, 3).as_bytes()).unwrap();
    drop(writer);
    assert_eq!(counted(&Ran::from(first.wait_with_output().unwrap())).1.accepted, 3);
    assert_eq!(run(&trail, &[name(&other)]).1.accepted, 1);
    verifies(&trail);
}

/// Writes that fail in the middle, at many sizes (a limit on the size of a file, as a full disk would cut
/// it): the run says so, nothing half-written is visible, and the next run completes.
#[test]
fn writes_that_fail_in_the_middle() {
    for blocks in [1, 4, 16, 24, 32, 64] {
        let trail = Trail::new();
        let input = trail.input("input", format!("{}bad\n", lines(0, 400)));
        let shell = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let ran: Ran = Command::new("bash")
            .args(["-c", &shell])
            .arg(keytrail_tests::tools::keytrail())
            .args(["run", name(&input), "--json"])
            .env("KEYTRAIL_DATA", trail.data())
            .env("KEYTRAIL_KEY_DIR", trail.keys())
            .output()
            .unwrap()
            .into();
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        if ran.code != Some(0) {
            assert!(matches!(ran.code, Some(70 | 75)), "{blocks}: {ran:?}");
            assert!(ran.stderr.contains("keytrail: ") && ran.stdout.is_empty(), "{ran:?}");
        }
        let (_, counts, _) = run(&trail, &[name(&input)]);
        assert_eq!((counts.accepted + counts.duplicates, counts.rejected), (400, 1), "{blocks}");
        holds(&trail, &[name(&input)], counts);
    }
}

/// Unmounts, also when the test fails.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(self.0).status();
    }
}

/// A real full disk, where this machine lets a test mount one.
#[test]
fn a_full_disk() {
    let trail = Trail::new();
    let disk = trail.aside("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|m| m.status.success()) {
        eprintln!(
            "no file system can be mounted here: `writes_that_fail_in_the_middle` stands for this case"
        );
        return;
    }
    let _mount = Mount(&disk);
    let ballast = disk.join("ballast");
    let data = disk.join("data");
    let input = trail.input("input", format!("{}bad\n", lines(0, 400)));
    let run_there = || -> Ran {
        let args = ["run", name(&input), "--data", name(&data), "--json"];
        trail.command(args).output().unwrap().into()
    };
    let mut codes = Vec::new();
    for free_kib in [8, 24, 48, 80, 140, 200, 240] {
        let _none = fs::remove_file(&ballast);
        fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
        let full = fs::metadata(&ballast).unwrap().len();
        let left = full.saturating_sub(free_kib << 10);
        OpenOptions::new().write(true).open(&ballast).unwrap().set_len(left).unwrap();
        let ran = run_there();
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        if ran.code != Some(0) {
            assert_eq!(ran.code, Some(75), "{free_kib}: {ran:?}");
            assert!(ran.stderr.contains("o space left"), "{ran:?}");
        }
        codes.push(ran.code);
    }
    fs::remove_file(&ballast).unwrap();
    let (_, counts, _) = counted(&run_there());
    let verified = trail.keytrail(["verify", "--data", name(&data)]);
    assert!(codes.contains(&Some(75)), "{codes:?}");
    assert_eq!((counts.accepted + counts.duplicates, counts.rejected), (400, 1));
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
