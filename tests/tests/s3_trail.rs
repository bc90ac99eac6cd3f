//! A trail in a bucket is the trail that it was in a folder: moved, read by every command, restored from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use keytrail_adapters::aws::{Aws, LockMode, Removal, S3Store};
use keytrail_adapters::keys::TrailKeys;
use keytrail_ports::BlobStore as _;
use keytrail_tests::indexed::Indexed;
use keytrail_tests::localstack::name;
use keytrail_tests::s3;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, found, number, text};
use serde_json::json;

/// A week that the examples have events of.
const WEEK: &str = "2023-W28";

/// A bucket with Object Lock, and a prefix in it.
struct Target {
    store: S3Store,
    url: String,
}

impl Target {
    fn new() -> Self {
        let aws = Aws::from_environment().expect("a region");
        let bucket = name();
        aws.make_bucket(&bucket).expect("a bucket");
        Self { store: aws.store(&bucket, "a/trail"), url: format!("s3://{bucket}/a/trail") }
    }

    fn lock(&self) -> Option<Vec<u8>> {
        self.store.get("log-staging/lock").expect("read")
    }
}

/// A build that knows S3, on this trail's keys.
fn keytrail(trail: &Trail, args: &[&str]) -> Command {
    let mut command = Command::new(tools::keytrail_sql());
    command.args(args).env("KEYTRAIL_KEY_DIR", trail.keys()).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Ran {
    command.output().expect("keytrail starts").into()
}

/// What a command says of the data at a place.
fn at(trail: &Trail, place: &str, args: &[&str]) -> Ran {
    run(keytrail(trail, args).env("KEYTRAIL_DATA", place))
}

fn folder(trail: &Trail) -> String {
    trail.data().to_str().expect("UTF-8").to_owned()
}

/// A trail of two runs, with conflicts, quarantine and a report.
fn grown() -> Trail {
    let trail = Trail::new();
    let examples = tools::root().join("examples");
    trail.run([examples.as_os_str()]).success();
    trail.run([trail.load(7, 0, 3, 2_000).as_os_str()]).success();
    trail
}

/// The newest head, in a file beside the data.
fn head(trail: &Trail) -> PathBuf {
    let head = at(trail, &folder(trail), &["log", "checkpoint"]).success().stdout;
    trail.input("head", head)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_trail_goes_on_in_a_bucket() {
    let Some(_maker) = s3::with_each("a_trail_goes_on_in_a_bucket") else { return };
    let trail = grown();
    let (before, here) = (trail.copy(), folder(&trail));
    let (keys, head) = (trail.trusted_keys(), head(&trail));
    let target = Target::new();
    let there = target.url.as_str();
    let secret = trail.aside("keys.json");

    // A dry run changes nothing on either side.
    let files = trail.files();
    let args = ["move", "--to", there, "--dry-run", "--json"];
    let planned = at(&trail, &here, &args).success().json();
    assert!(number(&planned["copied"]["objects"]) > 50 && planned["there"] == 0, "{planned}");
    assert_eq!(target.store.list("").expect("a list"), Vec::<String>::new());
    assert_eq!(trail.files(), files);

    let args =
        ["move", "--to", there, "--lock", "governance", "--lock-days", "1", "--keys-out", path(&secret)];
    let moved = at(&trail, &here, &args).success();
    assert!(moved.stdout.contains("objects, ") && moved.stdout.contains("verified"), "{}", moved.stdout);
    assert_eq!(target.lock(), Some(fs::read(trail.data().join("log-staging/lock")).expect("a lock")));

    // All commands that read say the same of both.
    let uid = text(&trail.query("select keytrail_uid from {archive} order by 1 limit 1")[0]["keytrail_uid"]);
    let trusted = ["verify", "--keys", path(&keys), "--known", path(&head), "--rederive", "--json"];
    let sql = "SELECT dataset, count(*) AS n FROM events GROUP BY dataset ORDER BY dataset";
    for args in [
        &trusted[..],
        &["verify"],
        &["explain", &uid],
        &["explain", &uid, "--raw"],
        &["conflicts", "--json"],
        &["quarantine", "list", "--json"],
        &["alerts", "--json"],
        &["log", "key", "--all"],
        &["log", "checkpoint"],
        &["query", sql, "--format", "json"],
        &["expire", "--older-than", "1d"],
        &["compact", "--dry-run"],
    ] {
        let (ours, theirs) =
            (at(&before, &folder(&before), args).success(), at(&before, there, args).success());
        assert_eq!(theirs.stdout.replace(there, &folder(&before)), ours.stdout, "{args:?}");
        assert!(!ours.stdout.is_empty(), "{args:?}");
    }
    let verified = at(&trail, there, &trusted).success().json();
    assert_eq!(verified["log"]["tree_size"], json!(trail.manifests().len()), "{verified}");
    let sources =
        |place: &str| at(&before, place, &["sources", "--json"]).success().json()["sources"].clone();
    assert_eq!(sources(there).as_array().map(Vec::len), sources(&folder(&before)).as_array().map(Vec::len));
    // A report is the same bytes.
    let report = |place: &str| at(&before, place, &["report", "--week", WEEK, "--json"]).success().json();
    let (ours, theirs) = (report(&folder(&before)), report(there));
    let of = |report: &serde_json::Value| text(&report["reports"][0]["sha256"]);
    assert_eq!(of(&theirs), of(&ours));
    let json = text(&theirs["reports"][0]["json"]);
    assert_eq!(target.store.get(&json), Ok(Some(fs::read(before.data().join(&json)).expect("a report"))));
    assert_eq!(of(&report(there)), of(&ours), "made again");

    // The folder is a copy from now on, and says so to whoever would write to it.
    for args in [
        &["run", "-"][..],
        &["compact"],
        &["withhold", &uid, "--reason", "x"],
        &["log", "rotate-key"],
        &["report", "--week", WEEK],
        &["index", "--elasticsearch", "http://127.0.0.1:1"],
    ] {
        let ran = at(&trail, &here, args).exits(64);
        assert!(
            ran.stderr.contains(&format!("was moved to `{there}`, where the log goes on")),
            "{}",
            ran.stderr
        );
    }
    fs::remove_dir_all(trail.data().join("state")).expect("removed");
    at(&trail, &here, &["run", "-"]).exits(64);
    at(&trail, &here, &["verify"]).success();
    let other = at(&trail, &here, &["move", "--to", "s3://another-bucket"]).exits(64);
    assert!(other.stderr.contains("its log goes on there, and cannot go on in"), "{}", other.stderr);
    // What writes as one machine does is for folders.
    for args in [
        &["run", "-"][..],
        &["compact"],
        &["renormalize", "--dataset", "vault.audit"],
        &["log", "rotate-key"],
    ] {
        let ran = at(&trail, there, args).exits(64);
        assert!(ran.stderr.contains("is written to by the functions"), "{}", ran.stderr);
    }
    let again = at(&trail, &here, &["move", "--to", there]).success();
    assert!(again.stdout.contains("was moved to") && again.stdout.contains("before"), "{}", again.stdout);

    // The keys are the trail's, in a file of its owner alone.
    assert_eq!(secret.metadata().expect("written").permissions().mode() & 0o777, 0o600);
    let keys = TrailKeys::parse(&fs::read_to_string(&secret).expect("text")).expect("keys");
    let log = fs::read_to_string(trail.data().join("keys/log.keys")).expect("keys");
    assert!(log.contains(keys.origin()) && keys.signers().len() == 1, "{log}");

    // What is locked stays, whoever deletes it.
    let object = trail.objects().swap_remove(0);
    for key in
        [object.as_str(), &trail.names().into_iter().find(|n| n.starts_with("quarantine/")).expect("one")]
    {
        assert_eq!(
            target.store.retention(key).expect("there").map(|r| r.mode),
            Some(LockMode::Governance),
            "{key}"
        );
    }
    assert_eq!(target.store.retention("log/checkpoint"), Ok(None));
    target.store.delete(&object).expect("hidden");
    let verified = at(&trail, there, &["verify", "--json"]).exits(1).json();
    assert!(found(&verified)[&object].contains("FILE_MISSING"), "{verified}");
    let versions = target.store.versions(&object).expect("versions");
    assert!(versions[0].is_marker && !versions[1].is_marker, "{versions:?}");
    assert_eq!(target.store.delete_version(&object, &versions[1].id), Ok(Removal::Kept));
    assert_eq!(target.store.delete_version(&object, &versions[0].id), Ok(Removal::Done));
    at(&trail, there, &["verify"]).success();

    // What no entry names is found, unless it is in the making.
    let unnamed = "archive/dataset=x/day=2024-01-01/x.parquet";
    target.store.replace(unnamed, b"x").expect("put");
    let verified = at(&trail, there, &["verify", "--json"]).exits(1).json();
    assert!(found(&verified)[unnamed].contains("FILE_UNLISTED"), "{verified}");
    target.store.replace("state/pending/batch", b"{}").expect("put");
    let verified = at(&trail, there, &["verify", "--json"]).success().json();
    assert!(verified["not_checked"].to_string().contains("a run is writing"), "{verified}");
    target.store.delete("state/pending/batch").expect("deleted");
    target.store.delete(unnamed).expect("deleted");

    // What is changed is named.
    let bytes = target.store.get(&object).expect("read").expect("there");
    let mut changed = bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    target.store.replace(&object, &changed).expect("put");
    let verified = at(&trail, there, &["verify", "--json"]).exits(1).json();
    assert_eq!(found(&verified).keys().collect::<Vec<_>>(), [&object], "{verified}");
    assert!(found(&verified)[&object].contains("OBJECT_MISMATCH"), "{verified}");
}

#[test]
fn a_move_that_is_killed_is_done_again() {
    let Some(_aws) = s3::with_localstack("a_move_that_is_killed_is_done_again") else { return };
    let trail = grown();
    let (target, here) = (Target::new(), folder(&trail));
    let args = ["move", "--to", &target.url];
    let mut killed = 0;
    for step in 0..12 {
        let mut moving = keytrail(&trail, &args)
            .env("KEYTRAIL_DATA", &here)
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        thread::sleep(Duration::from_millis(60 + 90 * step));
        moving.kill().expect("killed");
        if moving.wait().expect("it ended").success() {
            break;
        }
        killed += 1;
        // Either the log is whole there, or nobody can go on with it there.
        if target.lock().is_some() {
            at(&trail, &target.url, &["verify"]).success();
        } else if step == 1 {
            // Meanwhile the folder is the trail.
            trail.run([trail.load(8, 5, 1, 200).as_os_str()]).success();
        }
    }
    assert!(killed >= 2, "{killed}");
    at(&trail, &here, &args).success();
    let head = head(&trail);
    at(&trail, &target.url, &["verify", "--keys", path(&trail.trusted_keys()), "--known", path(&head)])
        .success();
    // Everything, and nothing that an earlier attempt left.
    let theirs = target.store.list("").expect("a list");
    let mut ours = trail.names();
    ours.sort();
    let is_state = |key: &String| key.starts_with("state/");
    let without = |keys: &[String]| keys.iter().filter(|key| !is_state(key)).cloned().collect::<Vec<_>>();
    assert_eq!(without(&theirs), without(&ours));
}

#[test]
fn what_is_in_the_target_is_not_overwritten() {
    let Some(_aws) = s3::with_localstack("what_is_in_the_target_is_not_overwritten") else { return };
    let trail = grown();
    let (target, here) = (Target::new(), folder(&trail));
    let args = ["move", "--to", &target.url];
    target.store.replace("archive/x", b"of others").expect("put");
    let refused = at(&trail, &here, &args).exits(64);
    assert!(refused.stderr.contains("holds `archive/x`, which no move put there"), "{}", refused.stderr);
    assert_eq!(target.store.list("").expect("a list"), ["archive/x"]);
    target.store.delete("archive/x").expect("deleted");
    let object = trail.objects().swap_remove(0);
    let keys = fs::read(trail.data().join("keys/log.keys")).expect("keys");
    target.store.replace("keys/log.keys", &keys).expect("put");
    target.store.replace(&object, b"of others").expect("put");
    let refused = at(&trail, &here, &args).exits(70);
    assert!(
        refused.stderr.contains(&format!("the target has `{object}` with other bytes")),
        "{}",
        refused.stderr
    );
    assert_eq!(target.lock(), None);
    // The folder is still the trail.
    trail.run([trail.load(8, 5, 1, 200).as_os_str()]).success();
    target.store.delete(&object).expect("deleted");
    // A damaged trail is not moved.
    let damaged = trail.copy();
    let bytes = fs::read(damaged.data().join(&object)).expect("read");
    fs::write(damaged.data().join(&object), &bytes[1..]).expect("written");
    let refused = at(&damaged, &folder(&damaged), &args).exits(70);
    assert!(refused.stderr.contains("OBJECT_MISMATCH") && target.lock().is_none(), "{}", refused.stderr);
}

/// Another machine, which has the binary and may read the bucket, makes everything again.
#[test]
fn a_trail_is_restored_from_a_bucket() {
    let Some(_aws) = s3::with_localstack("a_trail_is_restored_from_a_bucket") else { return };
    let trail = grown();
    let rows = number(&trail.query("select count(*) as n from {archive}")[0]["n"]);
    let (target, keys) = (Target::new(), trail.trusted_keys());
    at(&trail, &folder(&trail), &["move", "--to", &target.url]).success();

    let server = SearchServer::elasticsearch();
    let elsewhere = Indexed::on(&server);
    let on = |args: &[&str]| {
        let args = [args, &["--json", "--config", &elsewhere.config]].concat();
        at(&elsewhere.trail, &target.url, &args).success().json()
    };
    let indexed = on(&["reindex"]);
    assert_eq!(
        (number(&indexed["created"]), &indexed["parked"]),
        (rows, &serde_json::Value::Null),
        "{indexed}"
    );
    let same = on(&["reconcile"]);
    assert_eq!(
        (number(&same["documents"]), &same["differences"], &same["pending"]),
        (rows, &json!([]), &json!(0)),
        "{same}"
    );
    let caught_up = on(&["index"]);
    assert_eq!((number(&caught_up["created"]), number(&caught_up["pending"])), (0, 0), "{caught_up}");

    let bundle = elsewhere.trail.aside("bundle");
    at(&elsewhere.trail, &target.url, &["export", "--out", path(&bundle)]).success();
    let offline =
        elsewhere.trail.keytrail(["verify", "--bundle", path(&bundle), "--keys", path(&keys), "--json"]);
    let report = offline.success().json();
    assert_eq!((number(&report["rows"]), &report["verdict"]), (rows, &json!("good")));
    let first = elsewhere.trail.keys().read_dir().expect("a folder").next();
    assert!(first.is_none(), "no private key was needed or made: {first:?}");
}
