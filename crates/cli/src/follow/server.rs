//! Serves metrics over HTTP/1.1: `GET /metrics` and `GET /healthz`, nothing else.
//!
//! Every connection has a thread, a deadline and a bound on its request, and there are few of them: a slow or hostile
//! client holds up neither the service nor another client. It listens on loopback, unless told otherwise.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keytrail_model::Fatal;
use keytrail_pipeline::config::Listen;

use super::metrics::SharedMetrics;

/// Time that a request and its answer may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of a request, with its headers.
const REQUEST_BYTES: usize = 8 << 10;

/// Connections at once; further ones are closed.
const CONNECTIONS: usize = 16;

/// Listens, and serves until the process ends. Gives the address, whose port may have been 0; nothing where there is
/// nowhere to listen.
pub fn serve(listen: &Listen, metrics: SharedMetrics) -> Result<Option<SocketAddr>, Fatal> {
    let Some(address) = listen.address else { return Ok(None) };
    listen.check().map_err(|why| Fatal::new("Usage.Metrics", format!("{why}, or --metrics-remote")))?;
    let fault = |e: io::Error| Fatal::new("Config.Metrics", format!("cannot listen on `{address}`: {e}"));
    let listener = TcpListener::bind(address).map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, say: that passes, and must not take a core until then.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (counted, metrics) = (Arc::clone(&open), metrics.clone());
            let spawned = thread::Builder::new().name("metrics".to_owned()).spawn(move || {
                // A client that goes away has no answer coming.
                let _gone = answer(stream, &metrics);
                counted.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    thread::Builder::new().name("metrics-accept".to_owned()).spawn(accept).map_err(fault)?;
    Ok(Some(bound))
}

fn answer(mut stream: TcpStream, metrics: &SharedMetrics) -> io::Result<()> {
    let end = Instant::now() + DEADLINE;
    let request = request(&mut stream, end)?;
    let line = request.as_deref().and_then(parse);
    let (status, kind, body) = match line {
        Some(("GET" | "HEAD", "/metrics")) => {
            let text = metrics.with(|metrics| metrics.render());
            ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text)
        }
        Some(("GET" | "HEAD", "/healthz")) => ("200 OK", "text/plain; charset=utf-8", "ok\n".to_owned()),
        Some(("GET" | "HEAD", _)) => ("404 Not Found", "text/plain; charset=utf-8", "not found\n".to_owned()),
        Some(_) => ("405 Method Not Allowed", "text/plain; charset=utf-8", "GET only\n".to_owned()),
        None => ("400 Bad Request", "text/plain; charset=utf-8", "bad request\n".to_owned()),
    };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    if !matches!(line, Some(("HEAD", _))) {
        response.push_str(&body);
    }
    let mut rest = response.as_bytes();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = &rest[n..],
        }
    }
    Ok(())
}

/// The request line of a request whose headers are all there.
fn request(stream: &mut TcpStream, end: Instant) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while bytes.len() < REQUEST_BYTES {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            n => bytes.extend_from_slice(&buffer[..n]),
        }
        if bytes.windows(4).any(|w| w == b"\r\n\r\n") {
            let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
            return Ok(String::from_utf8(line.to_vec()).ok());
        }
    }
    Ok(None)
}

/// Method and path of a request line (RFC 9112 section 3), without a query.
fn parse(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_http = version.starts_with("HTTP/1.") && words.next().is_none();
    let path = target.split('?').next()?;
    (is_http && path.starts_with('/')).then_some((method, path))
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn listen(address: &str) -> Listen {
        Listen { address: Some(address.parse().unwrap()), remote: false }
    }

    #[test]
    fn it_serves_two_paths_whoever_else_is_slow() {
        let metrics = SharedMetrics::of(Metrics::of([].into_iter()));
        let address = serve(&listen("127.0.0.1:0"), metrics).unwrap().unwrap();
        // Clients that never say anything, fewer than there may be.
        let _slow: Vec<_> = (0..CONNECTIONS - 4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\nkeytrail_seals_total 0\n"));
        assert!(ask(address, b"GET /healthz HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nok\n"));
        assert!(ask(address, b"GET /../etc HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(ask(address, b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
        assert!(ask(address, &[b'a'; REQUEST_BYTES]).starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn other_machines_are_let_in_only_when_told_so() {
        let metrics = SharedMetrics::of(Metrics::of([].into_iter()));
        let refused = serve(&listen("0.0.0.0:0"), metrics).unwrap_err();
        assert_eq!(
            refused.message,
            "`0.0.0.0:0` can be reached from other machines, expected a loopback address, or --metrics-remote"
        );
    }
}
