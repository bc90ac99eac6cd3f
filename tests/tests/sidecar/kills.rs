//! Calls that OpenBao's client saw succeed are on record, whenever the sidecar was killed.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use keytrail_tests::openbao::OpenBao;
use keytrail_tests::sidecar::{Sidecar, shipped};
use keytrail_tests::trail::{Trail, text};
use serde_json::{Value, json};

use crate::devices::calls;

/// Kills the sidecar so often while calls go on; gives how many of them succeeded.
fn killed(times: u64, device: fn(&Sidecar) -> String, kill: fn(&mut Sidecar)) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let bao = OpenBao::start_with(&|_| device(&sidecar));
    assert!(bao.call("sys/mounts/transit", &json!({"type": "transit"})).status < 300);
    assert!(bao.call("transit/keys/payments", &json!({})).status < 300);
    let (stop, succeeded) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = bao.call("transit/encrypt/payments", &json!({"plaintext": "a2V5dHJhaWw="}));
                    if answer.status == 200 {
                        let id = answer.body["request_id"].as_str().expect("an id").to_owned();
                        succeeded.lock().expect("no panic").push(id);
                    } else {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
        // Points that look random and are the same in every run.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..times {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            thread::sleep(Duration::from_micros(5_000 + (state >> 33) % 60_000));
            kill(&mut sidecar);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());

    let records = shipped(&sidecar.shipped());
    let (requests, responses) = calls(&records);
    let succeeded: BTreeSet<String> = succeeded.into_inner().expect("no panic").into_iter().collect();
    let lost: Vec<&String> =
        succeeded.iter().filter(|id| !requests.contains(*id) || !responses.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} calls are not on record: {lost:?}", lost.len(), succeeded.len());
    // Each epoch says where the one before ended, and none is missing.
    for pair in records.windows(2).filter(|pair| pair[0].epoch != pair[1].epoch) {
        let open = pair[1].envelope();
        assert_eq!((pair[1].epoch, pair[1].phase().as_str()), (pair[0].epoch + 1, "epoch_open"));
        let last = &open["body"]["last"];
        let hash = keytrail_model::merkle::leaf_hash(&pair[0].bytes).to_hex();
        assert_eq!((&last["seq"], &last["hash"]), (&pair[0].seq.into(), &hash.into()));
    }
    assert_eq!(records.last().map(|r| r.epoch), Some(times + 1));
    is_archived(&sidecar, &succeeded);
    succeeded.len()
}

/// The archive has both lines of each of these calls, and follows the chain through all epochs: nothing is found but
/// calls that were refused in between.
fn is_archived(sidecar: &Sidecar, succeeded: &BTreeSet<String>) {
    let trail = Trail::new();
    trail.run([sidecar.shipped()]).success();
    let whole = trail.query(
        "select keytrail_operation_id as id from {archive} where event_dataset = 'vault.audit' \
         and keytrail_operation_id is not null \
         group by 1 having count(distinct keytrail_phase) = 2",
    );
    let whole: BTreeSet<String> = whole.iter().map(|row| text(&row["id"])).collect();
    let lost: Vec<&String> = succeeded.difference(&whole).collect();
    assert!(lost.is_empty(), "{} of {} calls are not archived: {lost:?}", lost.len(), succeeded.len());
    let keys = trail.input("sidecar.keys", sidecar.command(&["key"]).stdout);
    let (_, report) = trail.verify_json(["--audit-keys".as_ref(), keys.as_os_str()]);
    let found: Vec<&Value> = report["findings"].as_array().expect("a list").iter().collect();
    // Where its request line was refused, OpenBao still writes that the call failed.
    let orphan =
        |m: &str| m.contains(", the request of call") || m.contains(", which failed, has no request");
    let refused = |f: &&Value| f["code"] == "ORPHAN_INTENT" && orphan(&text(&f["message"]));
    assert!(found.iter().all(refused), "{:#?}", found.iter().find(|f| !refused(f)));
}

fn all_of_it(sidecar: &mut Sidecar) {
    sidecar.kill();
    sidecar.start();
}

#[test]
fn nothing_that_succeeded_over_http_is_lost() {
    let succeeded = killed(200, Sidecar::http_device, all_of_it);
    assert!(succeeded > 1_000, "only {succeeded} calls succeeded between the kills");
}

/// The process that works is killed; the one that keeps the connections is not.
#[test]
fn nothing_that_succeeded_over_a_unix_socket_is_lost() {
    let succeeded = killed(200, Sidecar::unix_device, Sidecar::kill_worker);
    assert!(succeeded > 1_000, "only {succeeded} calls succeeded between the kills");
}

#[test]
#[ignore = "takes minutes"]
fn two_thousand_kills_over_a_unix_socket() {
    println!("{} calls succeeded", killed(2_000, Sidecar::unix_device, Sidecar::kill_worker));
}

/// The long form: `cargo nextest run -p keytrail-tests --run-ignored only -E 'test(two_thousand_kills)'`.
#[test]
#[ignore = "takes minutes"]
fn two_thousand_kills_over_http() {
    println!("{} calls succeeded", killed(2_000, Sidecar::http_device, all_of_it));
}
