//! A service that a test runs: `keytrail run --follow`, its log lines, and what is written for it to read.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{Format, Load, Records};
use crate::trail::{Trail, number};

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A service that is being run.
pub struct Service {
    child: Child,
    lines: Receiver<Value>,
    seen: Vec<Value>,
}

impl Service {
    /// Starts it with short intervals.
    pub fn start(trail: &Trail, args: &[&str]) -> Self {
        let fast = ["--poll-interval", "40ms", "--seal-interval", "150ms"];
        let still: &[&str] = if args.contains(&"--still") { &[] } else { &["--still", "400ms"] };
        Self::of(trail, fast.iter().chain(still).chain(args))
    }

    /// Starts it with these options alone.
    pub fn of<'a>(trail: &Trail, args: impl Iterator<Item = &'a &'a str>) -> Self {
        let mut child = trail
            .command(["run", "--follow", "--json"].iter().chain(args))
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
    pub fn line(&mut self, message: &str) -> Value {
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

    /// Waits until something holds; what the service said stands beside what did not come in time.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            self.seen.extend(self.lines.try_iter());
            assert!(Instant::now() < end, "not in time: {what}; the service said {:#?}", self.seen);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
    }

    /// Asks it to end.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().expect("it ends")
    }

    /// Ends it at once.
    pub fn kill(mut self) {
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

/// What a service's metrics server has at a path.
///
/// # Panics
/// If it does not answer.
#[must_use]
pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// A sample of its metrics, with its labels as they stand there.
#[must_use]
pub fn metric(address: &str, sample: &str) -> Option<String> {
    let page = get(address, "/metrics");
    page.lines().find_map(|line| Some(line.strip_prefix(sample)?.strip_prefix(' ')?.to_owned()))
}

/// Waits until something holds.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Rows that the log names.
pub fn sealed_rows(trail: &Trail) -> u64 {
    if !trail.data().join("log/checkpoint").exists() {
        return 0;
    }
    trail.manifests().iter().filter(|m| m["kind"] == "add").map(|m| number(&m["rows"]["count"])).sum()
}

/// Writes a file on.
pub fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
    file.write_all(bytes).expect("written");
}

/// Records of a format, one a line.
pub fn lines(format: Format, seed: u64, events: u64) -> Vec<u8> {
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
