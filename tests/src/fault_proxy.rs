//! An HTTP proxy that fails as networks, gateways and busy servers do, in front of a real server.
//!
//! What it is: HTTP/1.1 on a port of 127.0.0.1; a request goes to the server as it came and the answer back, unless a
//! [`Rule`] says otherwise. What it is not: a server; what is not made to fail is the real one's doing. In: rules. Out:
//! faults, and how many there were.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request as HttpRequest;

use crate::load::random::Random;
use crate::search_server::free_port;

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A gateway answers with this status; the server sees nothing of it.
    Status(u16),
    /// The same with 429 and `Retry-After`, in seconds.
    Busy(u64),
    /// A gateway answers with this status, and the server does the work.
    DoneWith(u16),
    /// The connection ends before the server sees the request.
    Dropped,
    /// The server does the work, and the connection ends before the answer.
    Closed,
    /// The answer ends halfway, and the connection with it.
    Cut,
    /// The answer comes so much later.
    Late(Duration),
    /// Nobody listens for so long, and the connections that there are end.
    Down(Duration),
    /// The answer is compressed, which nobody asked for.
    Gzip,
    /// The same, and it does not say so.
    Garbled,
    /// A page for people stands in place of the answer, with status 200.
    Page,
    /// The status of one item of a bulk answer is missing.
    NoStatus,
    /// A bulk answer has an item more than was asked for.
    OneMore,
    /// And one less.
    OneLess,
    /// Items are in the opposite order.
    Reversed,
    /// Of records put to a stream, the server sees every second one; the others are too many.
    Throttled,
}

/// Which of the requests that a rule is about.
#[derive(Clone, Debug)]
pub enum When {
    /// All.
    Always,
    /// These, counted from 1.
    Nth(RangeInclusive<u64>),
    /// So many in a hundred, by a seed.
    Share(u64, Random),
}

/// A fault, and the requests that it happens to: of several rules the first that applies.
#[derive(Clone, Debug)]
pub struct Rule {
    /// How the path begins, without its slash; all do with nothing.
    path: &'static str,
    when: When,
    fault: Fault,
    /// Requests so far.
    seen: u64,
}

impl Fault {
    /// To requests whose path begins like this, without its slash.
    #[must_use]
    pub fn on(self, path: &'static str, when: When) -> Rule {
        Rule { path, when, fault: self, seen: 0 }
    }
}

impl Rule {
    fn applies(&mut self, path: &str) -> bool {
        if !path.trim_start_matches('/').starts_with(self.path) {
            return false;
        }
        self.seen += 1;
        match &mut self.when {
            When::Always => true,
            When::Nth(which) => which.contains(&self.seen),
            When::Share(percent, random) => random.percent(*percent),
        }
    }
}

/// A proxy; it ends with this value.
pub struct FaultProxy {
    shared: Arc<Shared>,
    port: u16,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    server: String,
    agent: Agent,
    rules: Mutex<Vec<Rule>>,
    requests: AtomicU64,
    faults: AtomicU64,
    /// Nobody listens until then.
    down: Mutex<Option<Instant>>,
    ended: AtomicBool,
}

impl FaultProxy {
    /// In front of the server at an `http://` URL without a path.
    #[must_use]
    pub fn before(server: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .proxy(None);
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            agent: config.build().new_agent(),
            rules: Mutex::default(),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            down: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let port = free_port();
        let listener = listen(port);
        let listening = Some(thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared, listener, port)
        }));
        Self { shared, port, listening }
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on these rules and no other; counts begin again.
    pub fn set(&self, rules: Vec<Rule>) {
        *self.shared.rules.lock().expect("no panic") = rules;
        self.shared.requests.store(0, Ordering::Relaxed);
        self.shared.faults.store(0, Ordering::Relaxed);
    }

    /// Listens again, and no rule is left.
    pub fn end_outage(&self) {
        self.set(Vec::new());
        *self.shared.down.lock().expect("no panic") = None;
    }

    /// Requests so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many of them something happened to.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Connections end with their clients.
        let _ended = self.listening.take().map(JoinHandle::join);
    }
}

fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    listener.set_nonblocking(true).expect("its mode");
    listener
}

fn accept(shared: &Arc<Shared>, mut listener: TcpListener, port: u16) {
    while !shared.ended.load(Ordering::Relaxed) {
        if shared.is_down() {
            drop(listener);
            while shared.is_down() && !shared.ended.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(2));
            }
            listener = listen(port);
        }
        match listener.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                thread::spawn(move || {
                    // Whoever speaks to it sees that the connection ended.
                    let _ended = shared.serve(&stream);
                    let _ended = stream.shutdown(Shutdown::Both);
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Shared {
    fn is_down(&self) -> bool {
        self.down.lock().expect("no panic").is_some_and(|until| Instant::now() < until)
    }

    /// Requests of a connection, one after the other.
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read(&mut reader)? {
            if self.is_down() {
                return Ok(());
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            let fault = {
                let mut rules = self.rules.lock().expect("no panic");
                // Each counts what it is about, whichever applies.
                let applying: Vec<bool> = rules.iter_mut().map(|r| r.applies(&request.path)).collect();
                applying.iter().position(|applies| *applies).map(|n| rules[n].fault)
            };
            if !self.answer(stream, &request, fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn answer(&self, mut stream: &TcpStream, request: &Request, fault: Option<Fault>) -> io::Result<bool> {
        let hit = || self.faults.fetch_add(1, Ordering::Relaxed);
        match fault {
            Some(Fault::Status(status)) => {
                hit();
                gateway(status, None).write(stream, request)?;
                return Ok(true);
            }
            Some(Fault::Busy(seconds)) => {
                hit();
                gateway(429, Some(seconds)).write(stream, request)?;
                return Ok(true);
            }
            Some(Fault::Dropped) => {
                hit();
                return Ok(false);
            }
            Some(Fault::Throttled) => {
                if let Some(answer) = self.throttled(request)? {
                    hit();
                    answer.write(stream, request)?;
                    return Ok(true);
                }
            }
            Some(Fault::Down(time)) => {
                hit();
                *self.down.lock().expect("no panic") = Some(Instant::now() + time);
                return Ok(false);
            }
            _ => {}
        }
        let mut answer = self.ask(request)?;
        match fault {
            None => {}
            Some(Fault::DoneWith(status)) => {
                hit();
                answer = gateway(status, None);
            }
            Some(Fault::Closed) => {
                hit();
                return Ok(false);
            }
            Some(Fault::Cut) => {
                hit();
                let whole = answer.bytes(request);
                // With less than nothing of a body the head is what is cut.
                let half = whole.len() - answer.body.len().div_ceil(2).max(1);
                stream.write_all(&whole[..half])?;
                return Ok(false);
            }
            Some(Fault::Late(time)) => {
                hit();
                thread::sleep(time);
            }
            Some(fault @ (Fault::Gzip | Fault::Garbled)) => {
                hit();
                let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
                gzip.write_all(&answer.body)?;
                answer.body = gzip.finish()?;
                if matches!(fault, Fault::Gzip) {
                    answer.headers.push(("content-encoding".into(), "gzip".into()));
                }
            }
            Some(Fault::Page) => {
                hit();
                answer.status = 200;
                answer.headers = vec![("content-type".into(), "text/html".into())];
                answer.body = b"<html><body>Please sign in.</body></html>".into();
            }
            Some(fault) => {
                if let Some(body) = altered(&answer.body, fault) {
                    hit();
                    answer.body = body;
                }
            }
        }
        answer.write(stream, request)?;
        Ok(true)
    }

    /// What the server says of every second record that is put, and a refusal of each of the others; `None` of any
    /// other request.
    fn throttled(&self, request: &Request) -> io::Result<Option<Answer>> {
        let Ok(mut body) = serde_json::from_slice::<Value>(&request.body) else { return Ok(None) };
        let Some(records) = body["Records"].as_array().cloned() else { return Ok(None) };
        let first = usize::from(self.faults.load(Ordering::Relaxed).is_multiple_of(2));
        let seen: Vec<Value> = records.iter().skip(first).step_by(2).cloned().collect();
        let mut results = Vec::new();
        if !seen.is_empty() {
            body["Records"] = seen.into();
            let request = Request {
                method: request.method.clone(),
                path: request.path.clone(),
                headers: request.headers.clone(),
                body: body.to_string().into_bytes(),
            };
            let answer = self.ask(&request)?;
            let said: Value = serde_json::from_slice(&answer.body).map_err(io::Error::other)?;
            results = said["Records"].as_array().cloned().unwrap_or_default();
        }
        let mut results = results.into_iter();
        let refused = json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000000",
        });
        let all: Vec<Value> = (0..records.len())
            .map(|n| if n % 2 == first { results.next().unwrap_or_default() } else { refused.clone() })
            .collect();
        let failed = all.iter().filter(|r| r["ErrorCode"].is_string()).count();
        let body = json!({"FailedRecordCount": failed, "Records": all}).to_string().into_bytes();
        let kind = "application/x-amz-json-1.1".to_owned();
        Ok(Some(Answer { status: 200, headers: vec![("content-type".to_owned(), kind)], body }))
    }

    /// What the server says.
    fn ask(&self, request: &Request) -> io::Result<Answer> {
        let mut asked = HttpRequest::builder()
            .method(request.method.as_str())
            .uri(format!("{}{}", self.server, request.path));
        for (name, value) in &request.headers {
            let goes_on =
                ["content-type", "content-encoding", "authorization", "accept", "if-none-match", "range"];
            if goes_on.contains(&name.as_str()) || name.starts_with("x-amz-") {
                asked = asked.header(name, value);
            }
        }
        let answered = if request.body.is_empty() {
            self.agent.run(asked.body(()).map_err(io::Error::other)?)
        } else {
            self.agent.run(asked.body(&request.body[..]).map_err(io::Error::other)?)
        };
        let mut answered = answered.map_err(io::Error::other)?;
        let mut headers = Vec::new();
        for (name, value) in answered.headers() {
            let name = name.as_str();
            if ["content-type", "retry-after", "etag"].contains(&name) || name.starts_with("x-amz") {
                headers.extend(value.to_str().ok().map(|value| (name.to_owned(), value.to_owned())));
            }
        }
        let body = answered.body_mut().with_config().limit(256 << 20).read_to_vec();
        Ok(Answer { status: answered.status().as_u16(), headers, body: body.map_err(io::Error::other)? })
    }
}

/// The next request of a connection; `None` at its end.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    assert!(header("transfer-encoding").is_none(), "bodies have a length");
    let length = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}

/// What stands before a server says in its place.
fn gateway(status: u16, retry_after: Option<u64>) -> Answer {
    let retry_after = retry_after.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
    let (kind, body) = match status {
        429 => {
            let error = json!({"type": "es_rejected_execution_exception", "reason": "rejected execution"});
            ("application/json", json!({"error": error, "status": 429}).to_string())
        }
        _ => ("text/html", format!("<html><title>{status}</title></html>")),
    };
    let headers = [("content-type".to_owned(), kind.to_owned())].into_iter().chain(retry_after).collect();
    Answer { status, headers, body: body.into_bytes() }
}

/// An answer to a bulk call, made wrong; `None` of any other.
fn altered(body: &[u8], fault: Fault) -> Option<Vec<u8>> {
    let mut answer: Value = serde_json::from_slice(body).ok()?;
    // Those of `_mget` have another name, and those of a stream.
    let name = ["docs", "Records"].into_iter().find(|name| answer[name].is_array()).unwrap_or("items");
    let items = answer[name].as_array_mut()?;
    match fault {
        Fault::NoStatus => {
            let middle = items.len() / 2;
            items.get_mut(middle)?.as_object_mut()?.values_mut().next()?.as_object_mut()?.remove("status");
        }
        Fault::OneMore => items.push(items.last()?.clone()),
        Fault::OneLess => drop(items.pop()?),
        _ => items.reverse(),
    }
    Some(answer.to_string().into_bytes())
}

impl Answer {
    fn bytes(&self, request: &Request) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} Said\r\ncontent-length: {}\r\n", self.status, self.body.len());
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        let mut bytes = (bytes + "\r\n").into_bytes();
        if request.method != "HEAD" {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    fn write(&self, mut stream: &TcpStream, request: &Request) -> io::Result<()> {
        stream.write_all(&self.bytes(request))
    }
}
