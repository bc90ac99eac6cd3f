//! Kill -9 at any moment of `run`: what was acknowledged stays, nothing is doubled, and the same command
//! again makes the trail whole. `KEYTRAIL_KILLS=2000` kills that often (default 200).

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::load::files::{self, Layout};
use keytrail_tests::load::random::Random;
use keytrail_tests::load::{Format, Load};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, hex, number, text};
use serde_json::Value;
use sha2::{Digest, Sha256};

const SIGKILL: i32 = 9;

/// Kills at one stage before the run may end.
const KILLS_A_STAGE: u64 = 7;

/// Several objects in a partition.
const OBJECT_SIZE: &str = "150kB";

/// Inputs that come in one after the other, so that a trail is killed with and without rows before.
fn stages(folder: &Path) -> Vec<PathBuf> {
    let load = |format, seed| Load {
        seed,
        format,
        events: 1_500,
        start_micros: 20_458 * 86_400_000_000,
        days: 2,
        shuffle: true,
        replay_percent: 10,
        late_percent: 0,
    };
    let write = |name: &str, load, layout, gzip, files| {
        let folder = folder.join(name);
        files::write_folder(load, layout, gzip, files, &folder).expect("load is written");
        folder
    };
    let whole = fs::read(tools::root().join("examples/openbao/audit.jsonl")).expect("the example");
    let damaged = folder.join("damaged");
    fs::create_dir_all(&damaged).expect("made");
    let keyless = concat!(
        r#"{"time":"2026-01-05T10:00:00Z","type":"request","auth":{"token_type":"default"},"#,
        r#""request":{"operation":"update","namespace":{"id":"root"},"path":"sys/audit/test"}}"#,
    );
    let copies = format!("{keyless}\n").repeat(20);
    let torn = [copies.as_bytes(), b"{\"no\":\"source\"}\n\0\0\n", &whole[..9_000]].concat();
    fs::write(damaged.join("torn.jsonl"), &torn).expect("written");
    fs::write(damaged.join("twice.jsonl"), &torn).expect("written");
    // One id, two events.
    let event = |name: &str| {
        format!(
            r#"{{"eventVersion":"1.08","userIdentity":{{"type":"Root","accountId":"111122223333"}},"eventTime":"2024-02-04T00:00:00Z","eventSource":"kms.amazonaws.com","eventName":"{name}","awsRegion":"us-east-1","eventID":"twice","eventType":"AwsApiCall","recipientAccountId":"111122223333"}}"#
        )
    };
    let two = format!("{}\n{}\n", event("DisableKey"), event("EnableKey"));
    fs::write(damaged.join("conflict.ndjson"), two).expect("written");
    vec![
        write("cloudtrail", load(Format::Cloudtrail, 1), Layout::Records, Some(1), 2),
        damaged,
        write("mixed", load(Format::Mixed, 2), Layout::Lines, None, 3),
        // The first one's events again, and as many new ones, in the same partitions.
        write("late", Load { events: 3_000, ..load(Format::Cloudtrail, 1) }, Layout::Lines, Some(1), 2),
        write("key-operation", load(Format::KeyOperation, 4), Layout::Lines, None, 2),
    ]
}

fn args(inputs: &[PathBuf]) -> Vec<&std::ffi::OsStr> {
    let options = ["run", "--json", "--no-report", "--object-size", OBJECT_SIZE].map(std::ffi::OsStr::new);
    options.into_iter().chain(inputs.iter().map(|p| p.as_os_str())).collect()
}

/// Starts a run and kills it after `delay`; false if it ended before.
fn run_and_kill(trail: &Trail, inputs: &[PathBuf], delay: Duration) -> bool {
    let mut run = trail
        .command(args(inputs))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("keytrail starts");
    thread::sleep(delay);
    run.kill().expect("it is our child");
    let ended = run.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.signal() == Some(SIGKILL) || ended.status.success(), "{}: {said}", ended.status);
    ended.status.signal() == Some(SIGKILL)
}

/// What a reader of the folder has seen sealed: it has to stay.
#[derive(Default)]
struct Witness {
    checkpoints: BTreeSet<Vec<u8>>,
    /// Sealed manifests, in the order of the log.
    manifests: Vec<Value>,
}

impl Witness {
    /// Looks at the folder as it is, also right after a kill: the published log is readable, continues the
    /// one seen before, and every object that it names is there, byte for byte.
    fn look(&mut self, trail: &Trail) {
        let Ok(checkpoint) = fs::read(trail.data().join("log/checkpoint")) else {
            assert!(self.checkpoints.is_empty(), "the checkpoint is gone");
            return;
        };
        if !self.checkpoints.insert(checkpoint) {
            return;
        }
        let manifests = trail.manifests();
        let before = self.manifests.len();
        assert!(
            manifests.len() >= before && manifests[..before] == self.manifests[..],
            "the log was rewritten"
        );
        self.manifests = manifests;
        let retired = retired(&self.manifests);
        let there = |(leaf, m): (usize, &'_ Value)| {
            let object = if retired.contains(&(leaf as u64)) { Value::Null } else { m["object"].clone() };
            [object, m["detail"].clone()]
        };
        let new = self.manifests.iter().enumerate().skip(before).flat_map(there);
        for sealed in new.filter(|part| !part.is_null()) {
            assert_eq!(hash_of(trail, &text(&sealed["key"])), text(&sealed["sha256"]), "{sealed}");
        }
    }

    /// After a run that ended: what is sealed is all that is there.
    fn nothing_else(&mut self, trail: &Trail) {
        self.look(trail);
        let files = trail.names();
        let below =
            |folder: &str| files.iter().filter(|f| f.starts_with(folder)).cloned().collect::<BTreeSet<_>>();
        let retired = retired(&self.manifests);
        let named = |part: &str| {
            let all = self.manifests.iter().enumerate().filter(|(_, m)| !m[part].is_null());
            let there = all.filter(|(leaf, _)| part != "object" || !retired.contains(&(*leaf as u64)));
            there.map(|(_, m)| text(&m[part]["key"])).collect::<BTreeSet<_>>()
        };
        assert_eq!(below("archive/"), named("object"));
        assert_eq!(below("detail/"), named("detail"));
        assert_eq!(below("log-staging/"), ["log-staging/lock".to_owned()].into());
        assert_eq!(below("state/tmp/"), BTreeSet::new());
    }
}

/// Leaf indices of manifests whose objects others have replaced.
fn retired(manifests: &[Value]) -> BTreeSet<u64> {
    manifests.iter().flat_map(|m| m["replaces"].as_array().expect("a list")).map(number).collect()
}

fn hash_of(trail: &Trail, key: &str) -> String {
    hex(&Sha256::digest(fs::read(trail.data().join(key)).unwrap_or_else(|e| panic!("`{key}`: {e}"))))
}

/// Where a kill hit, by what it left.
fn phase(trail: &Trail) -> &'static str {
    let data = trail.data();
    let read = |name: &str| fs::read(data.join(name)).ok();
    let files = trail.names();
    let named: BTreeSet<String> = match read("log/checkpoint") {
        Some(_) => {
            trail.manifests().iter().filter_map(|m| m["object"]["key"].as_str().map(str::to_owned)).collect()
        }
        None => BTreeSet::new(),
    };
    if read("keys/log.keys").is_none() {
        "while the trail's keys were made"
    } else if read("log-staging/lock") != read("log/checkpoint") {
        "between the swap of the head and its publication"
    } else if files.iter().any(|f| f.starts_with("log-staging/") && f != "log-staging/lock") {
        "with an append to the log staged"
    } else if files.iter().any(|f| f.starts_with("archive/") && !named.contains(f)) {
        "with objects that were not sealed"
    } else if read("state/clean").is_some() {
        "before the run began, or after its end"
    } else {
        "while reading, or verifying"
    }
}

/// Quarantine entries by id: content decides it.
fn quarantined(trail: &Trail) -> Vec<String> {
    let list = trail.keytrail(["quarantine", "list", "--json"]).success().json_lines();
    let mut ids: Vec<String> = list.iter().map(|entry| text(&entry["id"])).collect();
    ids.sort();
    ids
}

#[test]
fn a_run_that_is_killed_at_any_moment_loses_and_doubles_nothing() {
    let kills: u64 =
        env::var("KEYTRAIL_KILLS").map_or(200, |n| n.parse().expect("KEYTRAIL_KILLS is a number"));
    let undisturbed = Trail::new();
    let inputs = stages(&undisturbed.aside("in"));
    // How long each stage takes.
    let mut times = Vec::new();
    for stage in 1..=inputs.len() {
        let start = Instant::now();
        undisturbed.keytrail(args(&inputs[..stage])).success();
        times.push(start.elapsed());
    }
    let (events, kept) = (undisturbed.events(), quarantined(&undisturbed));
    let conflicts = conflicts(&undisturbed.verify_json::<&str>([]).1);
    assert!(!conflicts.is_empty(), "the loads use no id twice");
    assert!(kept.len() > 2 && undisturbed.objects().len() > 8, "the load is too small");

    let mut random = Random::of(0x4B11, kills);
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut killed, mut verified, mut trails, mut checkpoints) = (0, 0, 0, 0);
    while killed < kills {
        let (trail, mut witness) = (Trail::new(), Witness::default());
        for (stage, time) in (1..).zip(&times) {
            let inputs = &inputs[..stage];
            for _ in 0..KILLS_A_STAGE.min(kills - killed) {
                let sealed = witness.checkpoints.len();
                let span = time.as_micros() as u64;
                if !run_and_kill(&trail, inputs, Duration::from_micros(random.below(span + span / 10))) {
                    break;
                }
                killed += 1;
                *phases.entry(phase(&trail)).or_default() += 1;
                witness.look(&trail);
                if killed % 10 == 5 {
                    verify_unfinished(&trail, &witness, &conflicts);
                }
                if stage > 1 && witness.checkpoints.len() > sealed {
                    // Killed behind its seal: the next stage has more to lose.
                    break;
                }
            }
            // Its own verify of what is new passes, too, else it exits with 70.
            trail.keytrail(args(inputs)).success();
            witness.nothing_else(&trail);
            if killed / 10 > verified {
                verified = killed / 10;
                trail.verify().success();
            }
        }
        assert_eq!(trail.events(), events);
        assert_eq!(quarantined(&trail), kept);
        let keys = trail.trusted_keys();
        // The witness saw each continue the one before; `verify` says so of any of them.
        let any = random.below(witness.checkpoints.len() as u64) as usize;
        let known = trail.input("known", witness.checkpoints.iter().nth(any).expect("one of them"));
        let args =
            ["verify".as_ref(), "--keys".as_ref(), keys.as_os_str(), "--known".as_ref(), known.as_os_str()];
        let said = trail.keytrail(args).success().stdout;
        assert!(said.contains("authentic") && said.contains("continues the known head"), "{said}");
        trails += 1;
        checkpoints += witness.checkpoints.len();
    }
    println!("{killed} kills of runs on {trails} trails, {checkpoints} published checkpoints, all continued");
    for (phase, n) in phases {
        println!("  {n:4} {phase}");
    }
}

/// The ids that the loads use twice with different content, as `verify` names them.
fn conflicts(report: &Value) -> BTreeSet<String> {
    let findings = report["findings"].as_array().expect("a list").iter();
    findings.filter(|f| f["code"] == "CONFLICT").map(|f| text(&f["element"])).collect()
}

/// Right after a kill: what is sealed verifies; what is not yet sealed is said, and nothing else but the
/// conflicts that the loads have.
fn verify_unfinished(trail: &Trail, witness: &Witness, expected: &BTreeSet<String>) {
    if witness.checkpoints.is_empty() {
        trail.verify().exits(2);
        return;
    }
    let (code, report) = trail.verify_json::<&str>([]);
    assert!(matches!(code, Some(0 | 1)), "{report}");
    assert!(conflicts(&report).is_subset(expected), "{report}");
    for finding in report["findings"].as_array().expect("a list") {
        let code = text(&finding["code"]);
        // What is archived of a chain may be a part of it.
        let of_chain = text(&finding["element"]).starts_with("keytrail.key_operation ");
        assert!(of_chain || ["UNSEALED", "FILE_UNLISTED", "CONFLICT"].contains(&code.as_str()), "{finding}");
    }
}

/// The keys of a new trail are made in a few milliseconds, which kills at random seldom hit.
#[test]
fn a_first_run_that_is_killed_leaves_a_folder_that_the_next_one_can_use() {
    let shared = Trail::new();
    let input = [shared.input("in.json", FIRST)];
    let start = Instant::now();
    shared.keytrail(args(&input)).success();
    let span = start.elapsed().as_micros() as u64;
    let events = shared.events();
    let mut random = Random::of(0x4B12, 0);
    let mut without_keys = 0;
    for _ in 0..25 {
        let trail = Trail::new();
        while run_and_kill(&trail, &input, Duration::from_micros(random.below(span))) {
            without_keys += u64::from(!trail.data().join("keys/log.keys").exists());
            if random.percent(50) {
                break;
            }
        }
        trail.keytrail(args(&input)).success();
        let mut witness = Witness::default();
        witness.nothing_else(&trail);
        assert_eq!(witness.manifests.iter().filter(|m| !m["object"].is_null()).count(), 1);
        trail.verify().success();
    }
    // The last one's rows stand for all: one event, one object.
    assert_eq!(events.len(), 1);
    println!("{without_keys} first runs were killed before the trail had its keys");
}

const FIRST: &str = concat!(
    r#"{"eventVersion":"1.08","userIdentity":{"type":"Root","accountId":"111122223333"},"#,
    r#""eventTime":"2026-01-05T10:00:00Z","eventSource":"kms.amazonaws.com","eventName":"DisableKey","#,
    r#""awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","eventID":"e1","eventType":"AwsApiCall","#,
    r#""recipientAccountId":"111122223333"}"#,
);
