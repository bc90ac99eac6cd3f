//! How a sidecar starts, what it does not start with, and how it ends.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keytrail_tests::openbao::OpenBao;
use keytrail_tests::sidecar::{Sidecar, TOKEN, shipped};
use serde_json::json;

/// Everything that is wrong with a configuration is told at once.
#[test]
fn a_wrong_configuration_stops_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sidecar = Sidecar::new(folder.path(), "");
    assert_eq!(sidecar.command(&["check"]).status.code(), Some(0));
    sidecar.configure(
        "mode = \"lax\"\nanswer_timeout = \"2h\"\nspol = 1",
        "[unsealed]\nalarm_after = \"2h\"\ndeny_after = \"1h\"\n",
    );
    let out = sidecar.command(&["check"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(78), "{said}");
    for expected in [
        "line 4: `mode`: expected `strict`, `outcome-strict` or `relaxed`",
        "`answer_timeout`: expected a duration from 100ms to 1m",
        "`spol`: unknown key, did you mean `spool`?",
        "`unsealed.deny_after`: expected no less than `alarm_after`",
    ] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}

/// A token that others can read is none.
#[test]
fn a_token_that_others_can_read_stops_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    let token = folder.path().join("token");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o640)).expect("set");
    sidecar.spawn();
    assert_eq!(sidecar.ended().code(), Some(78));
    let said = format!("{:?}", sidecar.logged());
    assert!(said.contains("is open to others (mode 0640): expected 0600"), "{said}");
}

/// A spool has one writer.
#[test]
fn a_second_sidecar_on_one_spool_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let second = sidecar.command(&["drain"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(75), "{said}");
    assert!(said.contains("is in use by another process"), "{said}");
    assert_eq!(sidecar.line(TOKEN, b"a line").status, 200);
}

/// At high water nothing new begins, what has happened is still recorded, and nothing is dropped.
#[test]
fn a_full_spool_refuses_what_is_new_and_takes_what_has_happened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.configure("", "[spool]\nfolder = \"spool\"\nsegment_mib = 1\nmax_mib = 4\n");
    sidecar.start();
    let intent = super::socket::intent();
    assert_eq!(sidecar.post("/v1/intent/op-1", &intent).status, 201);
    let large = "x".repeat(60_000);
    let mut taken = 0;
    let refused = loop {
        let answer = sidecar.line(TOKEN, format!("{taken} {large}").as_bytes());
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 1_000, "it takes what comes for ever");
    };
    assert_eq!((refused.status, &refused.body["code"]), (503, &"Retryable.SpoolFull".into()));
    assert_eq!(sidecar.admin("/readyz").expect("it answers").0, 503);
    assert_eq!(sidecar.admin("/healthz").expect("it answers").0, 200);
    assert_eq!(sidecar.post("/v1/intent/op-2", &intent).status, 503);
    assert_eq!(sidecar.post("/v1/outcome/op-1", r#"{"result":{"rv":"CKR_OK"}}"#).status, 200);
    assert_eq!(sidecar.line(TOKEN, br#"{"time":"","type":"response"}"#).status, 200);
    // The writer of the Unix device has gone on: its lines wait, and are there at the end.
    let mut stream = UnixStream::connect(sidecar.device_socket()).expect("it listens");
    stream.write_all(b"written 1\nwritten 2\n").expect("written");
    assert_eq!(sidecar.line(TOKEN, b"something new").status, 503);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let records = shipped(&sidecar.shipped());
    let lines = |start: &str| {
        records.iter().filter(|r| r.line().is_some_and(|l| l.starts_with(start.as_bytes()))).count()
    };
    assert_eq!((lines("written "), lines("something new")), (2, 0));
    assert_eq!(records.iter().filter(|r| r.phase() == "foreign").count(), taken + 3);
}

/// Somebody else fills the disk: operations are refused until there is room, and what was taken stays.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.configure("", "[spool]\nfolder = \"disk/spool\"\nsegment_mib = 1\nmax_mib = 1024\n");
    sidecar.on_a_small_disk(16);
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.http_device());
    assert!(bao.call("sys/mounts/transit", &json!({"type": "transit"})).status < 300);
    assert!(bao.call("transit/keys/payments", &json!({})).status < 300);
    let filler = sidecar.on_disk("filler");
    let mut file = std::fs::File::create(&filler).expect("the disk is there");
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    drop(file);
    // Some room was taken ahead; then calls are refused.
    let call = || bao.call("transit/encrypt/payments", &json!({"plaintext": "a2V5dHJhaWw="}));
    let mut succeeded = Vec::new();
    let begin = Instant::now();
    loop {
        let answer = call();
        if answer.status == 500 {
            break;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        succeeded.push(answer.body["request_id"].as_str().expect("an id").to_owned());
        assert!(begin.elapsed() < Duration::from_secs(60), "it takes what comes for ever");
    }
    let refused = sidecar.line(TOKEN, b"something new");
    assert_eq!(refused.status, 503, "{refused:?} {:#?}", sidecar.logged());
    assert_eq!(sidecar.admin("/readyz").expect("it answers").0, 503);
    assert!(sidecar.runs(), "{:#?}", sidecar.logged());
    std::fs::remove_file(&filler).expect("it was there");
    let begin = Instant::now();
    while call().status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:#?}", sidecar.logged());
    }
    drop(bao);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let (requests, responses) = crate::devices::calls(&shipped(&sidecar.shipped()));
    assert!(succeeded.iter().all(|id| requests.contains(id) && responses.contains(id)));
}

/// Who sends half a request and waits keeps nobody from anything.
#[test]
fn a_client_that_stalls_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let stalled: Vec<UnixStream> = (0..20)
        .map(|n| {
            let socket = if n % 2 == 0 { sidecar.api_socket() } else { sidecar.device_socket() };
            let mut stream = UnixStream::connect(socket).expect("it listens");
            stream.write_all(b"POST /v1/intent/op-1 HTTP/1.1\r\nContent-Length: 100\r\n\r\n{").expect("sent");
            stream
        })
        .collect();
    for n in 0..50 {
        assert_eq!(sidecar.line(TOKEN, format!("line {n}").as_bytes()).status, 200);
    }
    let begin = Instant::now();
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?} to end", begin.elapsed());
    drop(stalled);
    let records = shipped(&sidecar.shipped());
    assert_eq!(records.iter().filter(|r| r.line().is_some_and(|l| l.starts_with(b"line "))).count(), 50);
}

/// Records that come one after the other are shipped together: a segment an interval, not one a record.
#[test]
fn records_wait_for_each_other_before_they_are_shipped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    let begin = Instant::now();
    let mut lines = 0;
    while begin.elapsed() < Duration::from_secs(1) {
        lines += 1;
        assert_eq!(sidecar.line(TOKEN, format!("line {lines}").as_bytes()).status, 200);
    }
    // Every 100 ms, and at the start and the end.
    let most = begin.elapsed().as_millis() as usize / 100 + 3;
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let source = sidecar.shipped().join(keytrail_tests::sidecar::SOURCE.replace('/', "%2F"));
    let segments = std::fs::read_dir(source).expect("its folder").count();
    assert!(lines > 2 * most && segments <= most, "{segments} segments of {lines} lines");
}

/// A record that went bad on the disk is told as lost by the next epoch; what is behind it is there.
#[test]
fn what_the_disk_lost_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    sidecar.start();
    for n in 0..40 {
        assert_eq!(sidecar.line(TOKEN, format!("line {n}").as_bytes()).status, 200);
    }
    // The folder that it ships to has them whole.
    let begin = Instant::now();
    while sidecar.metric("keytrail_sidecar_unshipped_records").is_none_or(|n| n > 0.0) {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", sidecar.admin("/metrics"));
    }
    sidecar.kill();
    let segment = std::fs::read_dir(folder.path().join("spool"))
        .expect("the spool")
        .map(|e| e.expect("an entry").path())
        .find(|p| p.extension().is_some_and(|e| e == "ktseg"))
        .expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("read");
    let at = memchr::memmem::find(&bytes, b"line 20").expect("it is there");
    bytes[at] = b'L';
    std::fs::write(&segment, bytes).expect("written");
    sidecar.start();
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    let records = shipped(&sidecar.shipped());
    let lost = records.iter().find(|r| r.line() == Some(b"line 20")).expect("shipped before");
    let gaps: Vec<_> = records.iter().filter(|r| r.phase() == "gap").map(|r| r.envelope()).collect();
    let expected = json!({"first_seq": lost.seq, "last_seq": lost.seq, "cause": "damaged in the spool"});
    assert_eq!((gaps.len(), &gaps[0]["body"], &gaps[0]["epoch"]), (1, &expected, &json!(2)));
}

/// What a killed sidecar did not ship, the next one does: nothing twice, nothing missing.
#[test]
fn what_was_not_shipped_is_shipped_later() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    for round in 0..5 {
        sidecar.start();
        let intent = super::socket::intent();
        assert_eq!(sidecar.post(&format!("/v1/intent/op-{round}"), &intent).status, 201);
        for n in 0..40 {
            assert_eq!(sidecar.line(TOKEN, format!("line {round} {n}").as_bytes()).status, 200);
        }
        sidecar.kill();
    }
    sidecar.start();
    assert!(sidecar.metric("keytrail_sidecar_epoch").is_some_and(|e| e >= 5.0));
    assert!(sidecar.stop().success());
    let records = shipped(&sidecar.shipped());
    assert_eq!(records.iter().filter(|r| r.phase() == "foreign").count(), 200);
    let unknown = records.iter().map(|r| r.envelope()).filter(|e| {
        e["body"]["result"]["unknown"] == "the sidecar ended before the service said the outcome"
    });
    assert_eq!(unknown.count(), 5);
    assert_eq!(records.last().expect("one").epoch, 6);
}
