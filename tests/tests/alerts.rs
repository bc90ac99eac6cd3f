//! Alerts with real receivers: what the rules find in real logs, web hooks that are down and come back, a run
//! that is killed on the way. The times of groups are tested in `crates/pipeline/tests/alerts.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::tools;
use keytrail_tests::trail::{Ran, Trail, number, text};
use serde_json::Value;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn examples() -> PathBuf {
    tools::root().join("examples")
}

fn fixture(path: &str) -> PathBuf {
    tools::root().join("tests/fixtures").join(path)
}

/// (rule, severity, key, count) of alerts.
fn list(alerts: &[Value]) -> BTreeSet<(String, String, String, u64)> {
    let data = alerts.iter().map(|a| &a["data"]);
    data.map(|d| (text(&d["rule"]), text(&d["severity"]), text(&d["group"]["key"]), number(&d["count"])))
        .collect()
}

fn waited(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !there() {
        assert!(Instant::now() < end, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A web server of Python's that checks signatures with Python's HMAC and bodies by the schema.
struct WebHook {
    folder: PathBuf,
    server: Option<Child>,
}

impl WebHook {
    /// One that is not started yet.
    fn new(trail: &Trail) -> Self {
        let folder = trail.aside("hook");
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("secret"), format!("{SECRET}\n")).expect("written");
        fs::set_permissions(folder.join("secret"), fs::Permissions::from_mode(0o600)).expect("set");
        Self { folder, server: None }
    }

    /// Starts it where it was before, or on any port; the first answers are these.
    fn start(&mut self, statuses: &[&str]) {
        let port = self.port().unwrap_or_else(|| "0".into());
        // A port that is there is the new one's.
        fs::write(self.folder.join("port"), "").expect("written");
        let server = Command::new(tools::python())
            .arg(tools::root().join("tests/oracles/webhook.py"))
            .arg(&self.folder)
            .arg(port)
            .args(statuses)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .spawn()
            .expect("python starts");
        self.server = Some(server);
        waited("the receiver", || self.port().is_some());
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("it is our child");
            server.wait().expect("it ends");
        }
    }

    fn port(&self) -> Option<String> {
        fs::read_to_string(self.folder.join("port")).ok().filter(|p| !p.is_empty())
    }

    /// `--notify` and its secret.
    fn args(&self) -> Vec<std::ffi::OsString> {
        let url = format!("http://127.0.0.1:{}/t0ken/of/hook", self.port().expect("it was started"));
        let secret = self.folder.join("secret").into_os_string();
        vec!["--notify".into(), url.into(), "--notify-secret".into(), secret]
    }

    /// What it was sent, each checked.
    fn requests(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.folder.join("requests")).unwrap_or_default();
        let requests: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        for request in &requests {
            assert_eq!(request["signed"], true, "{request}");
            assert_eq!(request["invalid"], Value::Array(Vec::new()), "{request}");
            assert_eq!(request["id"], request["alert"]["data"]["id"]);
            assert_eq!(request["path"], "/t0ken/of/hook");
        }
        requests
    }

    /// Ids of alerts that it acknowledged, and how often.
    fn acknowledged(&self) -> BTreeMap<String, u32> {
        let mut ids = BTreeMap::new();
        for request in self.requests().iter().filter(|r| r["status"] == 204) {
            *ids.entry(text(&request["id"])).or_default() += 1;
        }
        ids
    }
}

impl Drop for WebHook {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(trail: &Trail, input: &Path, hook: &WebHook) -> Ran {
    trail.run([input.as_os_str().to_owned()].into_iter().chain(hook.args()))
}

/// What `keytrail alerts` finds.
fn found(trail: &Trail) -> Vec<Value> {
    trail.keytrail(["alerts", "--json"]).success().json_lines()
}

fn ids(alerts: &[Value]) -> BTreeSet<String> {
    alerts.iter().map(|a| text(&a["data"]["id"])).collect()
}

#[test]
fn rules_hold_on_every_case_of_cloudtrail() {
    let trail = Trail::new();
    trail.run([fixture("alerts/input.jsonl")]).exits(0);
    let alerts = found(&trail);
    let (main, lake) = (
        "arn:aws:cloudtrail:eu-central-1:111122223333:trail/main",
        "arn:aws:cloudtrail:eu-central-1:111122223333:eventdatastore/lake",
    );
    let expected = [
        ("trail-stopped", "high", main, 1),
        ("trail-stopped", "critical", main, 1),
        ("trail-stopped", "critical", lake, 1),
        ("trail-deleted", "critical", main, 1),
        ("trail-weakened", "high", "main", 1),
        ("key-events-excluded", "critical", main, 1),
        ("key-events-excluded", "critical", "advanced", 1),
        ("key-events-excluded", "high", "writes", 1),
        ("key-events-excluded", "critical", lake, 1),
        ("audit-config-changed", "medium", "arn:aws:cloudtrail:eu-central-1:111122223333:channel/c", 1),
        ("key-disabled", "medium", "11112222-3333-4444-5555-666677778888", 1),
        ("key-deletion-scheduled", "high", "11112222-3333-4444-5555-666677778888", 1),
        ("key-destroyed", "high", "99998888-3333-4444-5555-666677778888", 1),
        ("root-used", "high", "111122223333", 1),
        ("key-disabled", "medium", "`$(id)` [click](http://192.0.2.1)\\n<script>", 1),
    ];
    let expected = expected.map(|(r, s, k, n)| (r.to_owned(), s.to_owned(), k.to_owned(), n));
    assert_eq!(list(&alerts), expected.into_iter().collect());

    // Each names its event, and the command that explains it.
    for alert in &alerts {
        let uid = text(&alert["data"]["uids"][0]);
        let command = text(&alert["data"]["command"]);
        assert_eq!(command, format!("keytrail explain {uid} --data {}", trail.data().display()));
        trail.keytrail(["explain", &uid]).success();
    }
    // What a log says is in no title, moves no cursor and begins no line.
    let hostile = alerts.iter().find(|a| text(&a["data"]["group"]["key"]).contains("click")).expect("there");
    assert_eq!(hostile["data"]["title"], "A key or secret was disabled");
    let arn = r"arn:aws:iam::111122223333:user/\u{1b}[31mroot\r\nSubject: all is well\u{202e}";
    assert_eq!(hostile["data"]["actor"], arn);
    let shown = trail.keytrail(["alerts"]).success().stdout;
    assert!(!shown.chars().any(|c| c != '\n' && c.is_control()) && shown.ends_with("15 alerts\n"), "{shown}");
    let later = trail.keytrail(["alerts", "--from", "2100-01-01", "--json"]).success();
    assert_eq!(later.json_lines(), [Value::Null; 0]);
}

/// What a person would be told of the real logs of `examples/`, and of the fixtures of all sources.
#[test]
fn rules_hold_on_real_logs() {
    let trail = Trail::new();
    trail.run([examples()]).exits(0);
    let alerts = found(&trail);
    let mut rules: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (rule, severity, _, _) in list(&alerts) {
        *rules.entry((rule, severity)).or_default() += 1;
    }
    let expected = [
        ("audit-device-disabled", "critical", 4),
        ("audit-device-disabled", "high", 1),
        ("conflict", "medium", 1),
        ("key-deletion-scheduled", "high", 3),
        ("key-destroyed", "high", 2),
        ("key-destroyed", "medium", 6),
        ("key-disabled", "low", 3),
        ("key-disabled", "medium", 2),
        ("root-used", "high", 1),
        ("root-used", "medium", 1),
        ("trail-deleted", "critical", 1),
        ("trail-stopped", "critical", 1),
        ("vault-sealed", "critical", 1),
    ];
    let expected = expected.map(|(rule, severity, n)| ((rule.to_owned(), severity.to_owned()), n));
    assert_eq!(rules, expected.into_iter().collect());

    let others = Trail::new();
    let sources = ["cloudhsm", "gcp", "key-operation", "keyvault", "kubernetes"];
    others.run(sources.map(fixture)).exits(0);
    let rules: BTreeSet<(String, String)> =
        found(&others).iter().map(|a| (a["data"]["dataset"].to_string(), text(&a["data"]["rule"]))).collect();
    for (dataset, rule) in [
        ("gcp.audit", "audit-config-changed"),
        ("gcp.audit", "key-deletion-scheduled"),
        ("kubernetes.audit", "key-destroyed"),
        ("azure.keyvault", "key-deletion-scheduled"),
        ("keytrail.key_operation", "audit-config-changed"),
    ] {
        assert!(rules.contains(&(format!("\"{dataset}\""), rule.to_owned())), "{dataset} {rule}: {rules:?}");
    }
}

#[test]
fn web_hooks_are_signed_and_tried_again() {
    let trail = Trail::new();
    let mut hook = WebHook::new(&trail);
    hook.start(&["500", "429", "204", "302"]);
    let ran = run(&trail, &fixture("alerts/input.jsonl"), &hook).exits(0);
    let requests = hook.requests();
    let statuses: Vec<u64> = requests.iter().map(|r| number(&r["status"])).collect();
    assert_eq!(statuses[..4], [500, 429, 204, 302]);
    assert!(statuses[4..].iter().all(|s| *s == 204));
    // The weightiest comes first, and the same one until it is taken.
    assert_eq!(requests[0]["alert"]["data"]["severity"], "critical");
    assert!(requests[1]["alert"] == requests[0]["alert"] && requests[2]["alert"] == requests[0]["alert"]);
    assert_eq!(hook.acknowledged().len(), 14, "one was refused, for redirects are not followed");
    assert!(
        ran.stderr.contains("1 alerts could not be delivered to web hook http://127.0.0.1:"),
        "{}",
        ran.stderr
    );
    // The next run tells the refused one, and nothing twice.
    run(&trail, &fixture("alerts/input.jsonl"), &hook).exits(0);
    let all = hook.acknowledged();
    assert_eq!((all.len(), all.values().max()), (15, Some(&1)));
    assert_eq!(all.into_keys().collect::<BTreeSet<_>>(), ids(&found(&trail)));
}

#[test]
fn what_nobody_takes_stays_due() {
    let trail = Trail::new();
    let mut hook = WebHook::new(&trail);
    hook.start(&[]);
    hook.stop();
    let ran = run(&trail, &fixture("alerts/input.jsonl"), &hook).exits(0);
    let warning = format!(
        "warning: 15 alerts could not be delivered to web hook http://127.0.0.1:{port}: http://127.0.0.1:{port}: \
         cannot reach it: connection refused; the next run tries again",
        port = hook.port().expect("a port")
    );
    assert!(ran.stderr.contains(&warning), "{}", ran.stderr);
    // An address is often a secret: nothing that is printed or stored has it.
    assert!(!ran.stderr.contains("t0ken") && !ran.stdout.contains("t0ken"), "{}", ran.stderr);
    for name in trail.names() {
        let file = fs::read(trail.data().join(&name)).expect("readable");
        assert!(!file.windows(6).any(|w| w == b"t0ken/"), "{name}");
    }
    hook.start(&[]);
    run(&trail, &fixture("alerts/input.jsonl"), &hook).exits(0);
    let taken = hook.acknowledged();
    assert_eq!(taken.into_keys().collect::<BTreeSet<_>>(), ids(&found(&trail)));
}

#[test]
fn secrets_are_asked_for_before_anything_is_done() {
    let trail = Trail::new();
    let input = fixture("alerts/input.jsonl");
    let args = |more: &[&str]| -> Vec<String> {
        let more = more.iter().map(|s| (*s).to_owned());
        [input.display().to_string()].into_iter().chain(more).collect()
    };
    let url = "https://hooks.example.com/t0ken";
    let ran = trail.run(args(&["--notify", url])).exits(78);
    assert!(
        ran.stderr.contains("web hooks are signed: give their secret by --notify-secret FILE"),
        "{}",
        ran.stderr
    );
    let open = trail.input("open.secret", SECRET);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("set");
    let open = open.display().to_string();
    let ran = trail.run(args(&["--notify", url, "--notify-secret", &open])).exits(70);
    assert!(ran.stderr.contains("is open to others (mode 0644)"), "{}", ran.stderr);
    let ran = Ran::from(
        trail
            .command(["run", &args(&[])[0], "--notify", url])
            .env("KEYTRAIL_NOTIFY_SECRET", "hunter2")
            .output()
            .expect("it starts"),
    )
    .exits(78);
    assert!(ran.stderr.contains("`KEYTRAIL_NOTIFY_SECRET`: expected `whsec_`"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("hunter2") && !ran.stderr.contains("t0ken"), "{}", ran.stderr);
    assert!(!trail.data().exists());
}

/// A command that is told, hangs while a file is there, and takes alerts otherwise.
fn hanging(trail: &Trail) -> String {
    let script = concat!(
        "cd \"$(dirname \"$0\")\"; cat > body.$$; echo $$ > pid.new; mv pid.new pid\n",
        "while [ -e hang ]; do sleep 0.01; done\n",
        "mv body.$$ told.$KEYTRAIL_ALERT_ID.$$\n",
    );
    format!("sh {}", trail.input("command/told.sh", script).display())
}

/// Ids that the command was told, and how often.
fn told(trail: &Trail) -> BTreeMap<String, u32> {
    let mut ids = BTreeMap::new();
    for entry in fs::read_dir(trail.aside("command")).expect("there") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if let Some(rest) = name.strip_prefix("told.alert_") {
            let id = rest.split('.').next().expect("an id");
            *ids.entry(format!("alert_{id}")).or_default() += 1;
        }
    }
    ids
}

#[test]
fn a_run_that_is_killed_while_it_tells_is_made_up_for() {
    let trail = Trail::new();
    let command = hanging(&trail);
    let hang = trail.input("command/hang", "");
    let args =
        ["run".into(), fixture("alerts/input.jsonl").into_os_string(), "--notify".into(), command.into()];
    let mut run =
        trail.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    waited("the command", || trail.aside("command/pid").exists());
    run.kill().expect("it is our child");
    run.wait().expect("it ends");
    // It goes on by itself: told, and nobody knows.
    fs::remove_file(hang).expect("removed");
    waited("the command's end", || told(&trail).len() == 1);
    trail.keytrail(&args).exits(0);
    let all = told(&trail);
    assert_eq!(all.keys().cloned().collect::<BTreeSet<_>>(), ids(&found(&trail)));
    assert_eq!(all.values().sum::<u32>(), 16, "the one that was told when it was killed is told again");
    trail.keytrail(&args).exits(0);
    assert_eq!(told(&trail), all);
}

#[test]
fn gaps_and_findings_are_told() {
    let trail = Trail::new();
    let command = hanging(&trail);
    let events =
        fs::read_to_string(examples().join("key-operation/hsm-gateway.ndjson")).expect("the example");
    let lines: Vec<&str> = events.lines().collect();
    let part = |name: &str, lines: &[&str]| trail.input(name, lines.join("\n"));
    let (first, last) = (part("first.ndjson", &lines[..10]), part("last.ndjson", &lines[13..20]));
    let notify = ["--notify".into(), command.into()];
    let run = |input: &Path| trail.run([input.as_os_str().to_owned()].into_iter().chain(notify.clone()));
    run(&first).exits(0);
    run(&last).exits(0);
    let gap = bodies(&trail).into_iter().find(|a| a["data"]["rule"] == "gap").expect("a gap is told");
    assert_eq!(gap["data"]["severity"], "high");
    assert!(text(&gap["data"]["detail"]).starts_with("GAP keytrail.key_operation "), "{gap}");
    assert!(text(&gap["data"]["command"]).starts_with("keytrail verify --data "), "{gap}");

    // What the log names is gone: the run ends, and somebody hears of it.
    let detail = trail.names().into_iter().find(|n| n.starts_with("detail/")).expect("there is one");
    fs::remove_file(trail.data().join(&detail)).expect("removed");
    run(&last).exits(70);
    let failed =
        bodies(&trail).into_iter().find(|a| a["data"]["rule"] == "verify-failed").expect("it is told");
    assert_eq!(failed["data"]["severity"], "critical");
    assert!(text(&failed["data"]["detail"]).contains(&detail), "{failed}");
}

/// Bodies that the command took.
fn bodies(trail: &Trail) -> Vec<Value> {
    let files = fs::read_dir(trail.aside("command")).expect("there").map(|e| e.expect("an entry").path());
    let told =
        files.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("told.alert_")));
    told.map(|p| serde_json::from_slice(&fs::read(p).expect("readable")).expect("JSON")).collect()
}

#[test]
fn the_configuration_says_who_is_told_of_what() {
    let trail = Trail::new();
    let folder = trail.input("command/told.sh", "").parent().expect("it has one").to_owned();
    hanging(&trail);
    let config = format!(
        "[alerts]\noff = [\"trail-deleted\"]\n[[notify]]\ncommand = \"sh {}/told.sh\"\nseverity = \"critical\"\n",
        folder.display()
    );
    let config = trail.input("keytrail.toml", config).into_os_string();
    let input = fixture("alerts/input.jsonl").into_os_string();
    trail.run([input, "--config".into(), config.clone()]).exits(0);
    let told: BTreeSet<String> = bodies(&trail).iter().map(|a| text(&a["data"]["rule"])).collect();
    assert_eq!(told.into_iter().collect::<Vec<_>>(), ["key-events-excluded", "trail-stopped"]);
    let shown = trail.keytrail(["alerts".into(), "--config".into(), config]).success().stdout;
    assert!(shown.ends_with("14 alerts\n") && !shown.contains("trail-deleted"), "{shown}");
}

/// Killed at any moment, before or after the seal, before or after the alerts are remembered.
#[test]
fn no_alert_is_lost_by_a_kill() {
    let first = Trail::new();
    first.run([fixture("kubernetes/event-list")]).exits(0);
    let whole = {
        let began = Instant::now();
        let copy = first.copy();
        copy.run([fixture("alerts/input.jsonl")]).exits(0);
        began.elapsed()
    };
    for step in 0..12u32 {
        let trail = first.copy();
        let command = hanging(&trail);
        let args =
            ["run".into(), fixture("alerts/input.jsonl").into_os_string(), "--notify".into(), command.into()];
        let mut run =
            trail.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        thread::sleep(whole * (step + 4) / 12);
        run.kill().expect("it is our child");
        run.wait().expect("it ends");
        trail.keytrail(&args).exits(0);
        let all: BTreeSet<String> = told(&trail).into_keys().collect();
        let found = ids(&found(&trail));
        assert!(found.is_subset(&all), "step {step}: {:?} were not told", found.difference(&all));
    }
}
