//! `keytrail run --follow`: what a service reads of files that grow, are rotated, appear and are cut short is what one
//! `run` reads of the final files, whatever kills it meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_tests::load::random::Random;
use keytrail_tests::load::{Format, Load, Records};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// A service that is being run.
struct Service {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Service {
    fn start(trail: &Trail, args: &[&str]) -> Self {
        let fast = ["--poll-interval", "40ms", "--seal-interval", "150ms"];
        let still: &[&str] = if args.contains(&"--still") { &[] } else { &["--still", "400ms"] };
        let mut child = trail
            .command(["run", "--follow", "--json"].iter().chain(&fast).chain(still).chain(args))
            .stdout(Stdio::piped())
            .spawn()
            .expect("keytrail starts");
        let (send, lines) = channel();
        let out = child.stdout.take().expect("piped");
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).expect("a line of the log is JSON");
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line of the log.
    fn line(&mut self, message: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| {
                panic!("no `{message}` in time, but {:#?}", self.seen);
            });
            self.seen.push(line.clone());
            if line["message"] == message {
                return line;
            }
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    }

    /// Asks it to end.
    fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("it ends")
    }

    fn kill(mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Of a test that failed; one that ended is gone already.
        let _ended = self.child.kill();
    }
}

/// Waits until something holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Rows that the log names.
fn sealed_rows(trail: &Trail) -> u64 {
    if !trail.data().join("log/checkpoint").exists() {
        return 0;
    }
    trail.manifests().iter().filter(|m| m["kind"] == "add").map(|m| number(&m["rows"]["count"])).sum()
}

/// The rows without what depends on when and under what name they were read. The offset in the file stays.
fn rows(trail: &Trail) -> Vec<Value> {
    trail.query(
        "select columns(* exclude (event_ingested, keytrail_input))::varchar, regexp_extract(keytrail_input, '@[0-9]+$') as at \
         from {archive} order by keytrail_uid",
    )
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(bytes).expect("written");
}

fn lines(format: Format, seed: u64, events: u64) -> Vec<u8> {
    let load = Load {
        seed,
        format,
        events,
        start_micros: 20_458 * 86_400_000_000,
        days: 1,
        shuffle: false,
        replay_percent: 0,
        late_percent: 0,
    };
    let mut records = Records::new(load);
    let mut text = String::new();
    while records.next(&mut text) {
        text.push('\n');
    }
    text.into_bytes()
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

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// The parser of Prometheus' own client for Python reads the page, and finds what happened in it.
#[test]
fn metrics_are_those_of_prometheus() {
    let trail = Trail::new();
    let bad = b"{\"no\":\"source\"}\n";
    let log = trail.input("a.log", [&lines(Format::Vault, 1, 40)[..], bad].concat());
    let mut service = Service::start(&trail, &[log.to_str().expect("UTF-8"), "--metrics", "127.0.0.1:0"]);
    let address = text(&service.line("metrics")["address"]);
    service.line("sealed");
    let metric = |page: &str, sample: &str| {
        page.lines().find_map(|l| Some(l.strip_prefix(sample)?.strip_prefix(' ')?.to_owned()))
    };
    until("the seal is counted", || {
        metric(&get(&address, "/metrics"), "keytrail_seals_total").as_deref() == Some("1")
    });
    let page = get(&address, "/metrics");
    assert_eq!(get(&address, "/healthz"), "ok\n");
    const SCRIPT: &str = "import sys, json\n\
        from prometheus_client.parser import text_string_to_metric_families\n\
        families = list(text_string_to_metric_families(sys.argv[1]))\n\
        assert all(f.documentation and f.type != 'unknown' for f in families), families\n\
        print(json.dumps({s.name + ''.join(f',{k}={v}' for k, v in sorted(s.labels.items())): s.value\n\
            for f in families for s in f.samples}))\n";
    let parsed = Command::new(tools::python()).args(["-c", SCRIPT, &page]).output().expect("python starts");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
    let samples: Value = serde_json::from_slice(&parsed.stdout).expect("JSON");
    for (name, value) in [
        ("keytrail_events_total,outcome=accepted,source=vault", 40.0),
        ("keytrail_events_total,outcome=duplicate,source=vault", 0.0),
        ("keytrail_quarantine_entries_total,code=field_missing", 1.0),
        ("keytrail_lag_seconds_count", 41.0),
        ("keytrail_lag_seconds_bucket,le=+Inf", 41.0),
        ("keytrail_read_bytes_total", fs::metadata(&log).expect("there").len() as f64),
        ("keytrail_followed_files", 1.0),
        ("keytrail_unsealed_records", 0.0),
        ("keytrail_unread_bytes", 0.0),
    ] {
        assert_eq!(samples[name].as_f64(), Some(value), "{name} of {samples:#}");
    }
    for name in ["keytrail_silence_seconds,source=vault", "keytrail_last_seal_timestamp_seconds"] {
        assert!(samples[name].as_f64().is_some_and(|v| v > 0.0), "{name} of {samples:#}");
    }
    assert_eq!(service.stop().code(), Some(0));
}

/// A pipe that nobody writes to holds no run up: what came is sealed.
#[test]
fn a_signal_ends_a_run_that_waits_for_standard_input() {
    let trail = Trail::new();
    let mut run =
        trail.command(["run", "-"]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
    let mut pipe = run.stdin.take().expect("piped");
    // More than a detection of its shape waits for.
    let load = lines(Format::Vault, 1, 200);
    let half = load.len() - 50;
    pipe.write_all(&load[..half]).expect("it reads");
    until("it reads", || trail.data().join("log-staging/lock").exists());
    thread::sleep(Duration::from_millis(200));
    let sent = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().expect("kill starts");
    assert!(sent.success());
    assert_eq!(run.wait().expect("it ends").code(), Some(75));
    drop(pipe);
    assert_eq!(trail.events().len(), 199);
    assert_eq!(trail.verify().success().code, Some(0));
    assert!(!trail.data().join("quarantine").exists(), "half a record is no rejected one");
}

/// The unit says what it should to systemd itself, where that is installed, and holds the keys that harden it.
#[test]
fn the_unit_is_sound() {
    let unit = fs::read_to_string(tools::root().join("infra/systemd/keytrail.service")).expect("the unit");
    let value = |key: &str| unit.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    for (key, expected) in [
        ("Type", "notify"),
        ("Restart", "on-failure"),
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("StateDirectory", "keytrail keytrail-keys"),
    ] {
        assert_eq!(value(key), Some(expected), "{key}");
    }
    let command = value("ExecStart").expect("a command").split(' ').collect::<Vec<_>>();
    assert_eq!(command[0], "/usr/local/bin/keytrail");
    let trail = Trail::new();
    // Its options are the command's: this ends at the address, after they were read.
    let options = command[1..].iter().map(|a| if a.starts_with('$') { "nothing.log" } else { a });
    let mut service = trail.command(options.chain(["--metrics-remote", "--help"])).spawn().expect("starts");
    assert_eq!(service.wait().expect("it ends").code(), Some(0));
    if Command::new("systemd-analyze").arg("--version").output().is_ok_and(|o| o.status.success()) {
        let here = unit.replace("/usr/local/bin/keytrail", tools::keytrail().to_str().expect("UTF-8"));
        let env = trail.input("keytrail.env", "KEYTRAIL_INPUTS=/var/log\n");
        let here = here.replace("/etc/keytrail/keytrail.env", env.to_str().expect("UTF-8"));
        let file = trail.input("keytrail.service", here);
        let checked =
            Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(file).output().expect("starts");
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success() && !said.contains("keytrail.service"), "{said}");
    }
}

/// It tells the service manager when it is ready, and that it stops.
#[test]
fn the_service_manager_is_told() {
    let trail = Trail::new();
    let path = trail.aside("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut service = trail
        .command(["run", "--follow", "none.log"])
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let told = || {
        let mut bytes = [0; 100];
        let n = socket.recv(&mut bytes).expect("told in time");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    assert_eq!(told(), "READY=1");
    let sent = Command::new("kill").args(["-TERM", &service.id().to_string()]).status().expect("kill starts");
    assert!(sent.success());
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(service.wait().expect("it ends").code(), Some(0));
}
