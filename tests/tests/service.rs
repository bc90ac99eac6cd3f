//! `keytrail run --follow` as a service: its metrics, its unit, its configuration, and what ends it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use keytrail_tests::load::Format;
use keytrail_tests::service::{PATIENCE, Service, append, get, lines, metric, until};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, text};
use serde_json::Value;

/// The parser of Prometheus' own client for Python reads the page, and finds what happened in it.
#[test]
fn metrics_are_those_of_prometheus() {
    let trail = Trail::new();
    let bad = b"{\"no\":\"source\"}\n";
    let log = trail.input("a.log", [&lines(Format::Vault, 1, 40)[..], bad].concat());
    let mut service = Service::start(&trail, &[log.to_str().expect("UTF-8"), "--metrics", "127.0.0.1:0"]);
    let address = text(&service.line("metrics")["address"]);
    service.line("sealed");
    until("the seal is counted", || metric(&address, "keytrail_seals_total").as_deref() == Some("1"));
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

/// The configuration says how a service goes about it, an option beats it, and what is wrong in it stops the start.
#[test]
fn a_service_goes_by_its_configuration() {
    let trail = Trail::new();
    let log = trail.input("a.log", lines(Format::Vault, 1, 5));
    let (log, toml) = (log.to_str().expect("UTF-8"), trail.aside("keytrail.toml"));
    let toml = toml.to_str().expect("UTF-8");
    let follow = "[follow]\npoll_interval = '20ms'\nseal_interval = '1h'\nverify_interval = '10ms'\n";
    fs::write(toml, format!("{follow}[metrics]\nlisten = '127.0.0.1:0'\n")).expect("written");
    let args = ["--config", toml, log, "--seal-interval", "100ms"];
    let mut service = Service::of(&trail, args.iter());
    let address = text(&service.line("metrics")["address"]);
    service.line("sealed");
    assert!(get(&address, "/metrics").contains("\nkeytrail_seals_total "));
    append(log.as_ref(), &lines(Format::Vault, 2, 5));
    // What was sealed since the first seal is verified with the next one.
    assert_eq!(service.line("verified")["rows"], 10);
    assert!(service.stop().success());

    fs::write(toml, "[follow]\nseal_interval = 'soon'\n[metrics]\nlisten = '0.0.0.0:1'\n").expect("written");
    let refused = trail.keytrail(["run", "--follow", "--config", toml, log]).exits(78);
    for line in ["line 2: `follow.seal_interval`: ", "line 4: `metrics.listen`: `0.0.0.0:1` can be reached"] {
        assert!(refused.stderr.contains(line), "{}", refused.stderr);
    }
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
