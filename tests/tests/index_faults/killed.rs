//! keytrail is killed.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::fault_proxy::{Fault, FaultProxy, When};
use keytrail_tests::load::random::Random;
use keytrail_tests::projection::archive;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::trail::Trail;

use crate::target::{Sum, Target};

const SIGKILL: i32 = 9;

/// How long each answer takes, as over a network: most of the time something is on its way.
const LATE: Duration = Duration::from_millis(15);

/// A command asks about as often.
const MOST_REQUESTS: u64 = 24;

/// Kill -9 at any moment of `keytrail run` with an index, and of `keytrail index`.
#[test]
fn keytrail_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let kills: u64 =
        env::var("KEYTRAIL_KILLS").map_or(10, |n| n.parse().expect("KEYTRAIL_KILLS is a number"));
    let server = SearchServer::elasticsearch();
    let proxy = FaultProxy::before(&server.url());
    proxy.set(vec![Fault::Late(LATE).on("", When::Always)]);
    let (mut random, mut killed, mut rounds) = (Random::of(0x1D_4B11, kills), 0, 0);
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut documents, mut sum) = (0, Sum::default());
    // How long a command takes that nobody kills, of either kind.
    let mut spans = [Duration::from_secs(2); 2];
    while killed < kills {
        let trail = Trail::new();
        let target = Target::at(&proxy.url(), &trail, &server, "connections = 2\n");
        for stage in 0..2 {
            let load = trail.load(stage, i64::try_from(stage).expect("small"), 2, 600);
            let load = load.to_str().expect("UTF-8");
            let run = ["run", load, "--no-report", "--json", "--config", &target.config];
            // Every other stage is archived without the index, which follows alone.
            let alone = (rounds + stage) % 2 == 1;
            if alone {
                trail.run([load, "--no-report"]).success();
            }
            let command: &[&str] = if alone { &target.indexing() } else { &run };
            let span = &mut spans[usize::from(alone)];
            for _ in 0..4.min(kills - killed) {
                let before = (cursor(&trail), target.documents(), proxy.requests());
                let mut child = trail
                    .command(command)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("keytrail starts");
                // Every other kill is at some time of all, the others with so many requests behind them.
                let after = before.2 + random.below(MOST_REQUESTS);
                if killed % 2 == 0 {
                    thread::sleep(Duration::from_micros(random.below(span.as_micros() as u64)));
                } else {
                    while proxy.requests() < after && child.try_wait().expect("its state").is_none() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    thread::sleep(Duration::from_micros(random.below(LATE.as_micros() as u64)));
                }
                child.kill().expect("it is our child");
                let ended = child.wait().expect("it ends");
                if ended.signal() != Some(SIGKILL) {
                    assert!(ended.success(), "{ended}");
                    break;
                }
                killed += 1;
                let after = (cursor(&trail), target.documents());
                let phase = match (after.0 == before.0, after.1 > before.1) {
                    (true, false) => "before the first new document",
                    (true, true) => "with documents before the cursor knew",
                    (false, _) => "with the cursor moved on",
                };
                *phases.entry(phase).or_default() += 1;
            }
            let begin = Instant::now();
            let said = trail.keytrail(command).success().json();
            *span = begin.elapsed();
            sum.add(if alone { &said } else { &said["index"] });
            let archive = archive(&trail);
            let is = target.projection(&archive);
            assert_eq!(is.documents, archive.len() as u64);
            documents += is.documents;
        }
        trail.verify().success();
        rounds += 1;
    }
    println!("{killed} kills, {rounds} trails, {documents} documents compared, after which {sum:?}");
    for (phase, n) in phases {
        println!("  {n:4} {phase}");
    }
}

/// How far the index is known to follow, as it is kept.
fn cursor(trail: &Trail) -> Vec<u8> {
    let Ok(mut kept) = fs::read_dir(trail.data().join("state/index")) else { return Vec::new() };
    kept.next().map_or_else(Vec::new, |entry| fs::read(entry.expect("an entry").path()).expect("readable"))
}
