//! A sidecar that a test runs: its configuration, its process, and its socket.
//!
//! What it is: the released binary in a folder of its own. In: requests. Out: answers, the folder it ships to,
//! its log. It ends with the value that started it, also when a test panics.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{self, Part};
use serde_json::Value;

use crate::tools;

/// The bearer token of its HTTP device.
pub const TOKEN: &str = "keytrail-test-device-token-5a1d";

/// The source that its records are of.
pub const SOURCE: &str = "gateway-1/partition-0";

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// A sidecar's folder, and its process while it runs.
pub struct Sidecar {
    folder: PathBuf,
    http: u16,
    admin: u16,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    log: Arc<Mutex<Vec<Value>>>,
    disk_mib: Option<u32>,
    reads: Option<thread::JoinHandle<()>>,
}

/// What a request was answered.
#[derive(Debug)]
pub struct Answer {
    /// Status of HTTP.
    pub status: u16,
    /// The header `Keytrail-Receipt`.
    pub receipt: Option<String>,
    /// The body.
    pub body: Value,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Sidecar {
    /// A sidecar in `folder` with all that it can listen on; `more` is put before its tables. It does not run yet.
    #[must_use]
    pub fn new(folder: &Path, more: &str) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let this = Self {
            folder: folder.to_owned(),
            http: free_port(),
            admin: free_port(),
            environment: Vec::new(),
            child: None,
            log: Arc::default(),
            disk_mib: None,
            reads: None,
        };
        let token = folder.join("token");
        fs::write(&token, TOKEN).expect("a token");
        fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("its owner's alone");
        this.configure(more, "");
        this
    }

    /// Writes its configuration anew: `top` before its tables, `tables` behind them.
    pub fn configure(&self, top: &str, tables: &str) {
        let (http, admin) = (self.http, self.admin);
        let spool = if tables.contains("[spool]") { "" } else { "[spool]\nfolder = \"spool\"\n" };
        let ship = if tables.contains("[ship]") {
            ""
        } else {
            "[ship]\nfolder = \"shipped\"\ninterval = \"100ms\"\n"
        };
        let text = format!(
            "source = \"{SOURCE}\"\norganization = \"example.org\"\naudit_key = \"keys/audit.key\"\n{top}\n\
             [hsm]\nid = \"hsm-1\"\nserial = \"0123456789abcdef\"\nreboot_counter = 4\n{spool}\
             [api]\nsocket = \"api.sock\"\n[http_device]\nlisten = \"127.0.0.1:{http}\"\ntoken_file = \"token\"\n\
             [unix_device]\nsocket = \"device.sock\"\n{ship}\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n{tables}\n"
        );
        fs::write(self.folder.join("audit-sidecar.toml"), text).expect("a configuration");
    }

    /// Its processes get these variables, too.
    pub fn set_environment(&mut self, environment: Vec<(String, String)>) {
        self.environment = environment;
    }

    /// Its folder `disk` is a disk of that size while it runs.
    pub fn on_a_small_disk(&mut self, mib: u32) {
        self.disk_mib = Some(mib);
    }

    /// A path on its small disk, as others than the sidecar reach it.
    #[must_use]
    pub fn on_disk(&self, name: &str) -> PathBuf {
        let disk = self.folder.join("disk").join(name);
        Path::new("/proc")
            .join(self.pid().to_string())
            .join("root")
            .join(disk.strip_prefix("/").expect("absolute"))
    }

    /// Runs one of its commands to its end.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let config = self.folder.join("audit-sidecar.toml");
        let mut command = Command::new(tools::audit_sidecar());
        command.envs(self.environment.iter().cloned());
        command.args(arguments).arg("--config").arg(config).output().expect("audit-sidecar starts")
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&mut self) {
        self.spawn();
        let begin = Instant::now();
        while !self.is_ready() {
            let child = self.child.as_mut().expect("it was started");
            let ended = child.try_wait().expect("its state");
            assert!(ended.is_none(), "the sidecar ended: {ended:?} {:#?}", self.logged());
            assert!(begin.elapsed() < START, "the sidecar is not ready: {:#?}", self.logged());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let mut command = match self.disk_mib {
            None => Command::new(tools::audit_sidecar()),
            Some(mib) => {
                // A disk of its own, in a name space of mounts that ends with it.
                let disk = self.folder.join("disk");
                fs::create_dir_all(&disk).expect("a folder");
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
                command.arg(format!("mount -t tmpfs -o size={mib}m none \"$0\" && exec \"$@\""));
                command.arg(disk).arg(tools::audit_sidecar());
                command
            }
        };
        let mut child = command
            .args(["run", "--config"])
            .arg(self.folder.join("audit-sidecar.toml"))
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("audit-sidecar starts");
        let printed = child.stderr.take().expect("piped");
        let log = Arc::clone(&self.log);
        self.reads = Some(thread::spawn(move || {
            for line in BufReader::new(printed).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                log.lock().expect("no panic").push(line);
            }
        }));
        self.child = Some(child);
    }

    fn is_ready(&self) -> bool {
        self.admin("/readyz").is_some_and(|(status, _)| status == 200)
            && UnixStream::connect(self.api_socket()).is_ok()
            && TcpStream::connect(("127.0.0.1", self.http)).is_ok()
            && UnixStream::connect(self.device_socket()).is_ok()
    }

    /// What its port of metrics and health answers.
    #[must_use]
    pub fn admin(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// A sample of its metrics.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, page) = self.admin("/metrics")?;
        let line = page.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// What it logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<Value> {
        self.log.lock().expect("no panic").clone()
    }

    /// Ends all of it at once, as a crash of the machine would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        // Stopped, it starts no other worker; killed first, it would let the worker end in order.
        signal(child.id(), "-STOP");
        let worker = worker_of(child.id());
        worker.iter().for_each(|pid| signal(*pid, "-KILL"));
        child.kill().expect("it is our child");
        child.wait().expect("it ends");
        while worker.is_some_and(is_alive) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the process that works at once, as a crash would, and waits until another one works.
    pub fn kill_worker(&mut self) {
        let pid = self.child.as_ref().expect("it runs").id();
        let before = worker_of(pid).expect("a worker");
        signal(before, "-KILL");
        let begin = Instant::now();
        while worker_of(pid).is_none_or(|now| now == before) || !self.is_ready() {
            assert!(begin.elapsed() < START, "no worker is ready: {:#?}", self.logged());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
        child.wait().expect("it ends")
    }

    /// Waits until it ends by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let ended = self.child.take().expect("it runs").wait().expect("it ends");
        // All that it logged is there then.
        self.reads.take().expect("its log is read").join().expect("no panic");
        ended
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().expect("its state").is_none())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder that it ships to.
    #[must_use]
    pub fn shipped(&self) -> PathBuf {
        self.folder.join("shipped")
    }

    /// The socket of the service.
    #[must_use]
    pub fn api_socket(&self) -> PathBuf {
        self.folder.join("api.sock")
    }

    /// The socket of the audit device.
    #[must_use]
    pub fn device_socket(&self) -> PathBuf {
        self.folder.join("device.sock")
    }

    /// The port of the audit device.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// OpenBao's configuration of an audit device that is this sidecar, over HTTP.
    #[must_use]
    pub fn http_device(&self) -> String {
        format!(
            "audit \"http\" \"sidecar\" {{\n  options {{\n    uri = \"http://127.0.0.1:{}/v1/lines\"\n    \
             headers = \"{{\\\"Authorization\\\":[\\\"Bearer {TOKEN}\\\"]}}\"\n  }}\n}}\n",
            self.http
        )
    }

    /// OpenBao's configuration of an audit device that is this sidecar, over a Unix socket.
    #[must_use]
    pub fn unix_device(&self) -> String {
        format!(
            "audit \"socket\" \"sidecar\" {{\n  options {{\n    address = \"{}\"\n    socket_type = \"unix\"\n  }}\n}}\n",
            self.device_socket().display()
        )
    }

    /// Posts to its API.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(self.api_socket()).expect("it listens");
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("asked");
        answer(stream)
    }

    /// Posts a line to its HTTP device.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn line(&self, token: &str, line: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).expect("it listens");
        let head = format!(
            "POST /v1/lines HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            line.len()
        );
        // A refusal may come before all of the line is read.
        let _refused = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(line));
        answer(stream)
    }
}

/// The child of a sidecar's process that does its work.
fn worker_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Whether a process has not ended: one that nobody waited for yet has, once all of its threads have.
fn is_alive(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let ended = |stat: String| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    threads.flatten().any(|t| !fs::read_to_string(t.path().join("stat")).map_or(true, ended))
}

fn signal(pid: u32, signal: &str) {
    // It may be gone already.
    let _ended = Command::new("kill").args([signal, &pid.to_string()]).status();
}

fn answer(mut stream: impl Read) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let receipt = head.lines().find_map(|l| l.strip_prefix("keytrail-receipt: ")).map(str::to_owned);
    Answer { status, receipt, body: serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())) }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Of a test that failed.
            self.kill();
        }
    }
}

/// A record as it was shipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shipped {
    /// Its epoch.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Shipped {
    /// Its envelope, with the body of the sidecar's own ones.
    #[must_use]
    pub fn envelope(&self) -> Value {
        let end = self.bytes.iter().position(|b| *b == b'\n').unwrap_or(self.bytes.len());
        serde_json::from_slice(&self.bytes[..end]).expect("an envelope is JSON")
    }

    /// What kind of record it is.
    #[must_use]
    pub fn phase(&self) -> String {
        self.envelope()["phase"].as_str().expect("a phase").to_owned()
    }

    /// The foreign line in it.
    #[must_use]
    pub fn line(&self) -> Option<&[u8]> {
        let end = self.bytes.iter().position(|b| *b == b'\n')?;
        Some(&self.bytes[end + 1..])
    }
}

/// All records in a folder that a sidecar ships to, in their order.
///
/// # Panics
/// If a segment is not what the format says, or a record is missing, doubled, or not linked to the one before.
#[must_use]
pub fn shipped(folder: &Path) -> Vec<Shipped> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join(SOURCE.replace('/', "%2F")))
        .expect("the source's folder")
        .map(|e| e.expect("an entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "ktseg"))
        .collect();
    files.sort();
    let segments = files.iter().map(|file| (file.display().to_string(), fs::read(file).expect("a segment")));
    in_order(segments)
}

/// The records of segments, which have a name each, in their order.
///
/// # Panics
/// As [`shipped`].
#[must_use]
pub fn in_order(segments: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<Shipped> {
    let mut all: Vec<Shipped> = Vec::new();
    for (name, bytes) in segments {
        let (header, mut at) = segment::read_header(&bytes).expect("a header");
        assert_eq!(header.source, SOURCE);
        let (epoch, mut next, mut prev) = (header.epoch, header.first_seq, header.prev);
        loop {
            let (part, length) = segment::read_part(&bytes[at..]).expect("a part");
            at += length;
            match part {
                Part::Record { seq, bytes } => {
                    let record = Shipped { epoch, seq, bytes: bytes.to_vec() };
                    let envelope = record.envelope();
                    assert_eq!(
                        (seq, &envelope["seq"], &envelope["epoch"]),
                        (next, &seq.into(), &epoch.into())
                    );
                    assert_eq!(envelope["prev"], prev.to_hex(), "{name}: {seq}");
                    (next, prev) = (seq + 1, leaf_hash(bytes));
                    let follows =
                        all.last().is_none_or(|b| (b.epoch == epoch && b.seq + 1 == seq) || seq == 0);
                    assert!(follows, "{name}: {seq} follows {:?}", all.last().map(|b| (b.epoch, b.seq)));
                    all.push(record);
                }
                Part::Footer(footer) => {
                    assert_eq!((footer.last_seq + 1, footer.last_hash), (next, prev));
                    break;
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(at, bytes.len());
    }
    all
}
