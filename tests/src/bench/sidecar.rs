//! The audit sidecar beside what it serves: an OpenBao that asks it before it answers, and a service that has each
//! operation recorded.
//!
//! All ways run in turns on the same disk. OpenBao's own file device syncs nothing; a sink that syncs each line is what
//! makes lines durable without the sidecar.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bar, Failure, Figure, Setting};
use crate::openbao::{OpenBao, ROOT};
use crate::sidecar::Sidecar;

/// Turns; each gives every way the same time.
const TURNS: usize = 3;

/// Requests that are on their way at once.
const CALLS: [usize; 2] = [4, 16];
const OPERATIONS: [usize; 3] = [1, 8, 64];

const INTENT: &str = r#"{"actor":{"id":"svc-payments","type":"service"},"operation":"sign","policy":{"decision":"allow","ids":["p-1"]},"hsm":{"id":"hsm-1"},"key":{"id":"key-1"},"mechanism":"CKM_ECDSA"}"#;
const OUTCOME: &str = r#"{"result":{"rv":"CKR_OK"},"timings":{"total_ns":410000}}"#;

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let seconds = Duration::from_secs(if setting.full { 10 } else { 2 });
    // Beside the build, which is on a disk where `/tmp` may be memory.
    let beside = setting.spool_load.parent().ok_or("the build has no folder")?;
    let scratch = tempfile::tempdir_in(beside)?;
    let mut figures = Vec::new();
    calls(scratch.path(), seconds, &mut figures)?;
    operations(scratch.path(), seconds, &mut figures)?;
    Ok(figures)
}

/// Encrypts that OpenBao answers in a second, by what it writes its audit log to.
fn calls(folder: &Path, seconds: Duration, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    let [synced, unsynced] =
        [sink(&folder.join("synced.log"), true)?, sink(&folder.join("unsynced.log"), false)?];
    let mut over_http = Sidecar::new(&folder.join("http"), "");
    let mut over_unix = Sidecar::new(&folder.join("unix"), "");
    over_http.start();
    over_unix.start();
    let (http, unix) = (over_http.http_device(), over_unix.unix_device());
    let file = format!(
        "audit \"file\" \"f\" {{\n  options {{\n    file_path = \"{}\"\n  }}\n}}\n",
        folder.join("audit.log").display()
    );
    let to_sink = |port: u16| {
        format!("audit \"http\" \"s\" {{\n  options {{\n    uri = \"http://127.0.0.1:{port}/\"\n  }}\n}}\n")
    };
    let ways = [
        ("its own file, nothing synced", file),
        ("an HTTP sink that syncs each line", to_sink(synced)),
        ("an HTTP sink that syncs nothing", to_sink(unsynced)),
        ("the sidecar over HTTP", http),
        ("the sidecar over a Unix socket", unix),
    ];
    let servers: Vec<OpenBao> =
        ways.iter().map(|(_, device)| OpenBao::start_with(&|_| device.clone())).collect();
    for bao in &servers {
        for (path, body) in
            [("sys/mounts/transit", json!({"type": "transit"})), ("transit/keys/payments", json!({}))]
        {
            if bao.call(path, &body).status >= 300 {
                return Err(format!("OpenBao refused `{path}`").into());
            }
        }
    }
    let body = r#"{"plaintext":"a2V5dHJhaWw="}"#;
    let request = format!(
        "POST /v1/transit/encrypt/payments HTTP/1.1\r\nHost: bao\r\nX-Vault-Token: {ROOT}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for in_flight in CALLS {
        let mut done = vec![(0_usize, 0.0_f64); servers.len()];
        for _ in 0..TURNS {
            for (bao, done) in servers.iter().zip(&mut done) {
                let port = bao.port();
                let connect = || TcpStream::connect(("127.0.0.1", port));
                let each = |c: &mut Connection<TcpStream>, _| c.call(request.as_bytes());
                let begin = Instant::now();
                done.0 += load(in_flight, seconds, &connect, &each)?.len();
                done.1 += begin.elapsed().as_secs_f64();
            }
        }
        let rates: Vec<f64> = done.iter().map(|(n, s)| *n as f64 / s).collect();
        for (way, ((name, _), rate)) in ways.iter().zip(&rates).enumerate() {
            let is_sidecar = way >= 3;
            figures.push(Figure {
                name: format!("sidecar: OpenBao, {in_flight} in flight, {name}"),
                value: *rate,
                unit: "encrypts/s",
                baseline: (way != 1).then_some(rates[1]),
                bar: (is_sidecar && in_flight == 16).then_some(Bar::AtLeast(2.0)),
            });
        }
    }
    for (name, sidecar) in [("over HTTP", &over_http), ("over a Unix socket", &over_unix)] {
        figures.push(Figure {
            name: format!("sidecar: peak memory, {name}"),
            value: peak_bytes(sidecar.pid())? / 1e6,
            unit: "MB",
            baseline: None,
            bar: None,
        });
    }
    Ok(())
}

/// What a service waits for the sidecar in an operation: its intent and its outcome.
fn operations(folder: &Path, seconds: Duration, figures: &mut Vec<Figure>) -> Result<(), Failure> {
    let sync = sync_micros(&folder.join("sync"), seconds)?;
    figures.push(figure("a sync of the disk, p50", percentile(&sync, 50), None, None));
    let sync_p99 = percentile(&sync, 99);
    figures.push(figure("a sync of the disk, p99", sync_p99, None, None));
    for mode in ["strict", "outcome-strict", "relaxed"] {
        let mut sidecar = Sidecar::new(&folder.join(mode), "");
        sidecar.configure(&format!("mode = \"{mode}\""), "");
        sidecar.start();
        let socket = sidecar.api_socket();
        let connect = || UnixStream::connect(&socket);
        for in_flight in OPERATIONS {
            let mut all = Vec::new();
            for turn in 0..TURNS {
                let each = |c: &mut Connection<UnixStream>, n: u64| {
                    let id = format!("op-{in_flight}-{turn}-{n}");
                    // The HSM's part is left out: what remains is added.
                    c.post(&format!("/v1/intent/{id}"), INTENT)?;
                    c.post(&format!("/v1/outcome/{id}"), OUTCOME)
                };
                all.append(&mut load(in_flight, seconds, &connect, &each)?);
            }
            all.sort_unstable();
            let name = |p: u32| format!("{mode}, {in_flight} in flight, added to an operation, p{p}");
            figures.push(figure(&name(50), percentile(&all, 50), None, None));
            let bar = (mode == "outcome-strict" && in_flight == 64).then_some(Bar::AtMost(2.0));
            figures.push(figure(&name(99), percentile(&all, 99), Some(sync_p99), bar));
        }
        figures.push(Figure {
            name: format!("sidecar: {mode}, peak memory"),
            value: peak_bytes(sidecar.pid())? / 1e6,
            unit: "MB",
            baseline: None,
            bar: None,
        });
    }
    Ok(())
}

fn figure(name: &str, micros: f64, baseline: Option<f64>, bar: Option<Bar>) -> Figure {
    Figure { name: format!("sidecar: {name}"), value: micros, unit: "us", baseline, bar }
}

/// A connection that is kept for one request after the other.
struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: Read + Write> Connection<S> {
    fn post(&mut self, path: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        self.call(
            format!("POST {path} HTTP/1.1\r\nHost: sidecar\r\nContent-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        )
    }

    /// Sends a request and reads its answer, which has to be a good one.
    fn call(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)?;
        let head = read_message(&mut self.stream, &mut self.buffer)?;
        match head.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(()),
            _ => Err(io::Error::other(format!("answered {head:?}"))),
        }
    }
}

/// Reads a message of HTTP with its body, which is left behind its head in the buffer; gives the head.
fn read_message(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<String> {
    buffer.clear();
    let mut piece = [0; 16 << 10];
    loop {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.extend_from_slice(&piece[..n]);
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, n)| n.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while buffer.len() < end + 4 + length {
            let n = stream.read(&mut piece)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.extend_from_slice(&piece[..n]);
        }
        return Ok(head);
    }
}

/// Does something on so many connections for so long, each with numbers of its own; the microseconds that each took.
fn load<S: Read + Write + Send>(
    in_flight: usize,
    seconds: Duration,
    connect: &(dyn Fn() -> io::Result<S> + Sync),
    each: &(dyn Fn(&mut Connection<S>, u64) -> io::Result<()> + Sync),
) -> Result<Vec<u64>, Failure> {
    let begin = Instant::now();
    let took: Vec<io::Result<Vec<u64>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..in_flight as u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut connection = Connection { stream: connect()?, buffer: Vec::new() };
                    let mut took = Vec::new();
                    while begin.elapsed() < seconds {
                        let start = Instant::now();
                        each(&mut connection, thread << 32 | took.len() as u64)?;
                        took.push(start.elapsed().as_micros() as u64);
                    }
                    Ok(took)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    let mut all = Vec::new();
    for took in took {
        all.append(&mut took?);
    }
    Ok(all)
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(0) as f64
}

/// How long one append and its sync take, sorted.
fn sync_micros(path: &Path, seconds: Duration) -> Result<Vec<u64>, Failure> {
    let mut file = File::options().append(true).create(true).open(path)?;
    let mut took = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < seconds {
        let start = Instant::now();
        file.write_all(&[b'x'; 600])?;
        file.sync_data()?;
        took.push(start.elapsed().as_micros() as u64);
    }
    took.sort_unstable();
    Ok(took)
}

/// A server that writes the body of each request to a file, and may sync it, before it answers; its port. What it
/// reaches without a sync is what OpenBao's HTTP device allows.
fn sink(path: &Path, syncs: bool) -> Result<u16, Failure> {
    let file = Arc::new(Mutex::new(File::options().append(true).create(true).open(path)?));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let file = Arc::clone(&file);
            thread::spawn(move || {
                let mut buffer = Vec::new();
                while let Ok(head) = read_message(&mut stream, &mut buffer) {
                    let body = &buffer[head.len() + 4..];
                    let mut file = file.lock().expect("no panic");
                    let synced = |file: &File| if syncs { file.sync_data() } else { Ok(()) };
                    if file.write_all(body).and_then(|()| synced(&file)).is_err() {
                        return;
                    }
                    drop(file);
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

/// Peak resident memory of a process and its children.
fn peak_bytes(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut bytes = kib * 1024.0;
    for child in children.split_whitespace() {
        bytes += peak_bytes(child.parse()?)?;
    }
    Ok(bytes)
}
