//! Kill -9 at any moment of `compact`, `renormalize`, `withhold` and `expire`: every event stays or goes as a
//! whole, readers see each one all the time, and the same command again ends where an undisturbed one does.
//! `KEYTRAIL_KILLS=2000` kills that often (default 40).

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::load::random::Random;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::Value;

use crate::archive::{age_archiving, age_rows, before, uids};

const SIGKILL: i32 = 9;

/// Kills of one command on one archive before it may end.
const KILLS_IN_A_ROW: u64 = 3;

/// DuckDB in a process that stays: for each line with a data folder, the number of different events that a reader
/// of the folder sees. A file that is replaced between the listing and the reading is an error, and it looks again.
struct Reader {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    fn new() -> Self {
        const SCRIPT: &str = "\
import sys, duckdb
for line in sys.stdin:
    while True:
        try:
            print(duckdb.sql(f\"select count(distinct keytrail_uid) from read_parquet('{line.strip()}/archive/**/*.parquet')\").fetchone()[0], flush=True)
            break
        except duckdb.IOException:
            pass
";
        let mut process = Command::new(tools::python())
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let questions = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, questions, answers }
    }

    fn ask(&mut self, trail: &Trail) {
        writeln!(self.questions, "{}", trail.data().display()).expect("it listens");
    }

    fn answer(&mut self) -> u64 {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        line.trim().parse().expect("a number")
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It has nothing to lose; if it ended by itself, so be it.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

/// All that a reader sees of each event.
fn rows(trail: &Trail) -> Vec<Value> {
    trail.query(
        "select keytrail_uid, event_hash, event_original is null as withheld, keytrail_normalizer, event_outcome \
         from {archive} order by all",
    )
}

/// What is wrong with an archive of which a command was killed, or is at work: files that the log does not name.
fn only_unfinished(code: Option<i32>, report: &Value) {
    assert!(matches!(code, Some(0 | 1)), "{report:#}");
    for finding in report["findings"].as_array().expect("a list") {
        let code = text(&finding["code"]);
        assert!(["FILE_UNLISTED", "WITHHELD", "EXPIRED"].contains(&code.as_str()), "{finding}");
    }
}

/// Where a kill hit, by what it left.
fn phase(trail: &Trail, before: usize) -> &'static str {
    let manifests = trail.manifests();
    let retired: BTreeSet<u64> =
        manifests.iter().flat_map(|m| m["replaces"].as_array().expect("a list")).map(number).collect();
    let mut there: BTreeSet<String> = trail.objects().into_iter().collect();
    let mut left_behind = false;
    for (leaf, manifest) in manifests.iter().enumerate().filter(|(_, m)| !m["object"].is_null()) {
        let is_there = there.remove(&text(&manifest["object"]["key"]));
        left_behind |= is_there && retired.contains(&(leaf as u64));
    }
    match (manifests.len() > before, there.is_empty(), left_behind) {
        (_, false, _) => "with objects that were not sealed",
        (true, _, true) => "with objects that were to be deleted",
        (true, ..) => "behind a seal",
        (false, ..) => "before anything was put",
    }
}

#[test]
fn a_rewrite_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let kills: u64 =
        env::var("KEYTRAIL_KILLS").map_or(40, |n| n.parse().expect("KEYTRAIL_KILLS is a number"));
    let base = before(3, 5, 60);
    for day in ["2024-01-01", "2024-01-02", "2024-01-03"] {
        age_rows(&base, day);
    }
    // One day stays.
    ["2024-01-01", "2024-01-02"].iter().for_each(|day| age_archiving(&base, day));
    base.verify().success();
    let all = rows(&base).len() as u64;
    let some: Vec<String> =
        ["2024-01-01", "2024-01-03"].iter().map(|day| uids(&base, day).remove(7)).collect();
    let commands: [&[&str]; 4] = [
        &["compact"],
        &["renormalize", "--dataset", "aws.cloudtrail"],
        &["withhold", &some[0], &some[1], "--reason", "request 17"],
        &["expire", "--older-than", "90d", "--apply"],
    ];
    let (mut reader, mut random) = (Reader::new(), Random::of(0x4B13, kills));
    let mut phases: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut killed = 0;
    let undisturbed = commands.map(|command| {
        let trail = base.copy();
        let start = Instant::now();
        trail.keytrail(command).success();
        (start.elapsed(), rows(&trail))
    });
    while killed < kills {
        for (command, (time, expected)) in commands.iter().zip(&undisturbed) {
            let trail = base.copy();
            let size = trail.manifests().len();
            for _ in 0..KILLS_IN_A_ROW.min(kills - killed) {
                let span = time.as_micros() as u64;
                let mut child = trail
                    .command(*command)
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("keytrail starts");
                reader.ask(&trail);
                thread::scope(|scope| {
                    // Meanwhile.
                    scope.spawn(|| {
                        let (code, report) = trail.verify_json::<&str>([]);
                        only_unfinished(code, &report);
                    });
                    thread::sleep(Duration::from_micros(random.below(span + span / 10)));
                    child.kill().expect("it is our child");
                });
                let ended = child.wait_with_output().expect("it ends");
                let said = String::from_utf8_lossy(&ended.stderr);
                let is_killed = ended.status.signal() == Some(SIGKILL);
                assert!(is_killed || ended.status.success(), "{command:?}: {}: {said}", ended.status);
                let seen = reader.answer();
                assert!(
                    seen == all || command[0] == "expire" && seen < all && seen >= expected.len() as u64,
                    "{command:?}: {seen} of {all} events"
                );
                if !is_killed {
                    break;
                }
                killed += 1;
                *phases.entry((command[0], phase(&trail, size))).or_default() += 1;
                let (code, report) = trail.verify_json::<&str>([]);
                only_unfinished(code, &report);
            }
            trail.keytrail(*command).success();
            trail.verify().success();
            assert!(rows(&trail) == *expected, "{command:?} ends elsewhere than an undisturbed one");
            let named: BTreeSet<String> =
                trail.manifests().iter().map(|m| text(&m["detail"]["key"])).collect();
            let details = trail.names().into_iter().filter(|name| name.starts_with("detail/"));
            assert_eq!(details.collect::<BTreeSet<_>>(), named);
        }
    }
    println!("{killed} kills of rewrites");
    for ((command, phase), n) in phases {
        println!("  {n:4} {command} {phase}");
    }
}
