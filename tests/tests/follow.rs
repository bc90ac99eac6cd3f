//! `keytrail run --follow`: what a service reads of files that grow, are rotated, appear and are cut short is what one
//! `run` reads of the final files, whatever kills it meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_tests::load::Format;
use keytrail_tests::load::random::Random;
use keytrail_tests::service::{Service, append, lines, sealed_rows, until};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::Value;

/// The rows without what depends on when and under what name they were read. The offset in the file stays.
fn rows(trail: &Trail) -> Vec<Value> {
    trail.query(
        "select columns(* exclude (event_ingested, keytrail_input))::varchar, regexp_extract(keytrail_input, '@[0-9]+$') as at \
         from {archive} order by keytrail_uid",
    )
}

/// A record without a producer's key, so that its copies are told apart by their number in the file.
const KEYLESS: &str = concat!(
    r#"{"time":"2026-01-05T10:00:00Z","type":"request","auth":{"token_type":"default"},"#,
    r#""request":{"operation":"update","namespace":{"id":"root"},"path":"sys/audit/test"}}"#,
    "\n"
);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

/// Bytes in pieces that end anywhere.
fn pieces(bytes: &[u8], seed: u64, count: u64) -> Vec<Vec<u8>> {
    let mut random = Random::of(seed, 7);
    let mut cuts: Vec<usize> = (1..count).map(|_| random.below(bytes.len() as u64) as usize).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect()
}

/// Growing, renamed inside of what is followed and out of it, copied and truncated, compressed, pretty-printed and
/// block files, written in pieces that end anywhere, by a service that is killed and restarted: the archive is that
/// of one run over the final files.
#[test]
fn a_followed_load_is_that_of_one_run() {
    let trail = Trail::new();
    let live = trail.aside("live");
    fs::create_dir_all(live.join("docs")).expect("made");
    let at = |name: &str| live.join(name);

    let keyless = KEYLESS.repeat(9).into_bytes();
    let renamed = [&keyless[..], &lines(Format::Mixed, 1, 900), &keyless].concat();
    let renamed_next = lines(Format::KeyOperation, 2, 300);
    let moved_away = lines(Format::Vault, 3, 600);
    let moved_next = lines(Format::Vault, 4, 200);
    // Others than those before: of one that is in two files, either place would do.
    let others = KEYLESS.replace("audit/test", "audit/other").repeat(9).into_bytes();
    let truncated = [lines(Format::Cloudtrail, 5, 300), others].concat();
    let truncated_next = lines(Format::Cloudtrail, 6, 100);
    let blocks = fs::read(tools::root().join("tests/fixtures/cloudhsm/audit-log-guide/input.txt"));
    let blocks = blocks.expect("the fixture");
    let records: Vec<Value> = lines(Format::Cloudtrail, 7, 50)
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    let pretty = serde_json::to_vec_pretty(&serde_json::json!({ "Records": records })).expect("JSON");
    let packed = gzip(&lines(Format::Vault, 8, 100));

    // What is there in the end.
    let last = trail.aside("last");
    fs::create_dir_all(&last).expect("made");
    for (name, bytes) in [
        ("renamed.log.1", &renamed),
        ("renamed.log", &renamed_next),
        ("moved", &moved_away),
        ("moved.log", &moved_next),
        ("copy", &truncated),
        ("truncated.log", &truncated_next),
        ("hsm.log", &blocks),
        ("pretty.json", &pretty),
        ("packed.gz", &packed),
    ] {
        fs::write(last.join(name), bytes).expect("written");
    }
    let whole = Trail::new();
    whole.run([&last]).success();
    let expected = sealed_rows(&whole);
    assert!(expected > 2_000);

    let glob = at("*.log*");
    let docs = at("docs");
    // Longer than a pause between pieces takes on a busy machine.
    let args = [glob.to_str().expect("UTF-8"), docs.to_str().expect("UTF-8"), "--still", "2s"];
    let service = Service::start(&trail, &args);
    let pause = || thread::sleep(Duration::from_millis(60));

    for (i, piece) in pieces(&renamed, 11, 6).iter().enumerate() {
        append(&at("renamed.log"), piece);
        append(&at("moved.log"), &pieces(&moved_away, 12, 6)[i]);
        append(&at("truncated.log"), &pieces(&truncated, 13, 6)[i]);
        append(&at("hsm.log"), &pieces(&blocks, 14, 6)[i]);
        append(&at("docs/pretty.json"), &pieces(&pretty, 15, 6)[i]);
        append(&at("docs/packed.gz"), &pieces(&packed, 16, 6)[i]);
        pause();
    }
    // Rotations with bytes that nobody had time to read.
    fs::rename(at("renamed.log"), at("renamed.log.1")).expect("renamed");
    let (first, rest) = renamed_next.split_at(renamed_next.len() / 2);
    append(&at("renamed.log"), first);
    // From its first record on a file is known, sealed or not.
    let positions = trail.data().join("state/follow");
    until("a position is kept", || fs::read_to_string(&positions).is_ok_and(|p| p.contains("/moved.log")));
    service.kill();
    append(&at("renamed.log"), rest);
    fs::rename(at("moved.log"), at("moved")).expect("renamed");
    append(&at("moved.log"), &moved_next);
    fs::copy(at("truncated.log"), at("copy")).expect("copied");
    File::options().write(true).truncate(true).open(at("truncated.log")).expect("truncated");
    append(&at("truncated.log"), &truncated_next);

    let service = Service::start(&trail, &args);
    until("all is sealed", || sealed_rows(&trail) >= expected);
    assert_eq!(service.stop().code(), Some(0));

    assert_eq!(trail.events(), whole.events());
    let (followed, at_once) = (rows(&trail), rows(&whole));
    for (a, b) in followed.iter().zip(&at_once) {
        assert_eq!(a, b);
    }
    assert_eq!(followed.len(), at_once.len());
    trail.verify().success();
}

/// Half a line waits for its end and is no rejected record; when its file is still it is taken as it is, and read again
/// when its end comes after all.
#[test]
fn a_line_that_is_being_written_waits() {
    let trail = Trail::new();
    let text = lines(Format::Vault, 1, 3);
    let last = text[..text.len() - 1].iter().rposition(|b| *b == b'\n').expect("three lines") + 1;
    let half = last + (text.len() - last) / 2;
    let log = trail.input("vault.log", &text[..last]);
    let mut service = Service::start(&trail, &[log.to_str().expect("UTF-8"), "--still", "3s"]);
    assert_eq!(service.line("sealed")["accepted"], 2);
    append(&log, &text[last..half]);
    thread::sleep(Duration::from_millis(300));
    append(&log, &text[half..]);
    let sealed = service.line("sealed");
    assert_eq!((number(&sealed["accepted"]), number(&sealed["rejected"])), (1, 0), "{sealed}");

    let more = lines(Format::Vault, 2, 1);
    append(&log, &more[..100]);
    let sealed = service.line("sealed");
    assert_eq!((number(&sealed["accepted"]), number(&sealed["rejected"])), (0, 1), "{sealed}");
    append(&log, &more[100..]);
    let sealed = service.line("sealed");
    assert_eq!((number(&sealed["accepted"]), number(&sealed["rejected"])), (1, 0), "{sealed}");
    assert_eq!(service.stop().code(), Some(0));
    assert_eq!(trail.events().len(), 4);
}

/// A restart reads nothing again; without its positions, all, which adds nothing. Positions that somebody else wrote,
/// or of another log, are not gone by.
#[test]
fn positions_are_kept_and_may_be_deleted() {
    let trail = Trail::new();
    let log = trail.input("a.log", lines(Format::Mixed, 1, 600));
    let args = [log.to_str().expect("UTF-8")];
    let mut service = Service::start(&trail, &args);
    assert_eq!(service.line("sealed")["accepted"], 600);
    assert_eq!(service.stop().code(), Some(0));
    let positions = trail.data().join("state/follow");
    let kept = fs::read(&positions).expect("positions");

    let mut service = Service::start(&trail, &args);
    append(&log, &lines(Format::Vault, 2, 10));
    let sealed = service.line("sealed");
    assert_eq!((number(&sealed["read"]), number(&sealed["accepted"])), (10, 10));
    assert_eq!(service.stop().code(), Some(0));

    let forged = String::from_utf8(kept).expect("JSON").replace("\"size\":", "\"size\": ");
    for content in [None, Some(forged)] {
        match &content {
            None => fs::remove_file(&positions).expect("removed"),
            Some(forged) => fs::write(&positions, forged).expect("written"),
        }
        let mut service = Service::start(&trail, &args);
        if content.is_some() {
            assert_eq!(service.line("positions-not-used")["why"], "they are not tagged by this trail's key");
        }
        let sealed = service.line("sealed");
        assert_eq!((number(&sealed["duplicates"]), number(&sealed["accepted"])), (610, 0), "{sealed}");
        assert_eq!(service.stop().code(), Some(0));
    }
    assert_eq!(trail.events().len(), 610);
}

/// A file that was rotated while the service was down is read on, once, under its declaration: into a name that is
/// followed, too, and out of what is followed.
#[test]
fn a_rotation_while_the_service_was_down_keeps_rows_and_declaration() {
    for followed in [true, false] {
        let trail = Trail::new();
        let log = trail.input("live/vault.log", lines(Format::Vault, 1, 20));
        let config = trail.input(
            "keytrail.toml",
            format!("[[sources]]\nname = 'eu'\ndataset = 'vault.audit'\nlocation = '{}'\n", log.display()),
        );
        let (folder, file) = (trail.aside("live"), log.to_str().expect("UTF-8"));
        let input = if followed { folder.to_str().expect("UTF-8") } else { file };
        let args = ["--config", config.to_str().expect("UTF-8"), input];
        let mut service = Service::start(&trail, &args);
        assert_eq!(service.line("sealed")["accepted"], 20);
        assert!(service.stop().success());
        append(&log, &lines(Format::Vault, 2, 5));
        fs::rename(&log, trail.aside("live/vault.log.1")).expect("renamed");
        append(&log, &lines(Format::Vault, 3, 7));
        let mut service = Service::start(&trail, &args);
        let sealed = service.line("sealed");
        assert_eq!((number(&sealed["accepted"]), number(&sealed["duplicates"])), (12, 0), "{followed}");
        assert!(service.stop().success());
        let rows = trail.query(
            "select keytrail_source as source, keytrail_undeclared as undeclared, count(*) as n from {archive} \
             group by all",
        );
        let expected = serde_json::json!([{"source": "eu", "undeclared": false, "n": 32}]);
        assert_eq!(Value::from(rows), expected, "{followed}");
    }
}

/// What cannot be read is told and stops nothing else; what is not there yet is waited for.
#[test]
fn an_unreadable_file_does_not_stop_the_others() {
    let trail = Trail::new();
    let endless = trail.aside("loop.log");
    std::os::unix::fs::symlink(&endless, &endless).expect("a link to itself");
    let good = trail.aside("later/good.log");
    let args = [endless.to_str().expect("UTF-8"), good.to_str().expect("UTF-8")];
    let mut service = Service::start(&trail, &args);
    service.line("unreadable");
    trail.input("later/good.log", lines(Format::Vault, 1, 5));
    assert_eq!(service.line("sealed")["accepted"], 5);
    assert_eq!(service.stop().code(), Some(0));
}

/// A declared source that grows and falls silent: its events are told of, each once, whatever kills the service,
/// and the objects of many seals become one.
#[test]
fn alerts_are_told_while_following() {
    let trail = Trail::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/alerts/input.jsonl");
    let events = fs::read_to_string(fixture).expect("the fixture");
    let log = trail.input("logs/a.jsonl", "");
    let config = format!(
        "[[sources]]\nname = 'prod'\ndataset = 'aws.cloudtrail'\nlocation = '{}'\nlongest_silence = '1s'\n",
        log.display()
    );
    let config = trail.input("keytrail.toml", config);
    let told = trail.aside("told.jsonl");
    let notify = format!("cat >> '{}'; echo >> '{}'", told.display(), told.display());
    let args = ["--config", config.to_str().expect("UTF-8"), "--notify", &notify];
    let alerts = || -> Vec<Value> {
        let lines = fs::read_to_string(&told).unwrap_or_default();
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let of_rule = |rule: &str| alerts().iter().filter(|a| a["data"]["rule"] == rule).count();
    let mut service = Service::start(&trail, &args);
    let lines: Vec<&str> = events.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        append(&log, format!("{line}\n").as_bytes());
        service.line("sealed");
        if i == lines.len() / 2 {
            service.kill();
            service = Service::start(&trail, &args);
        }
    }
    until("all alerts", || of_rule("trail-stopped") > 0 && of_rule("key-destroyed") > 0);
    let all = alerts();
    assert!(all.iter().all(|a| a["data"]["source"] == "prod" || a["data"]["source"].is_null()), "{all:#?}");
    assert!(service.stop().success());
    assert!(trail.manifests().iter().any(|m| m["kind"] == "compact"), "nothing was compacted");
    trail.verify().success();
    // The same log in one run gives the same rules.
    let preview = trail.keytrail(["alerts", "--json"]).success().stdout;
    for alert in preview.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let rule = text(&alert["data"]["rule"]);
        assert!(of_rule(&rule) > 0, "{rule} was not told");
    }
}
