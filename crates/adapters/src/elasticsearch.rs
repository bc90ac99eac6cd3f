//! A server of a search index: Elasticsearch or OpenSearch, over HTTP.
//!
//! What it is: each request sent once, with credentials, within a time; bodies as gzip of level 1. What it is not: a
//! reader of answers. The official client speaks to the server; its calls are asynchronous, so the adapter has a
//! thread that drives them.
//!
//! TLS trusts the CA that is given, or those that come with the client (Mozilla's list).

use std::error::Error as _;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use elasticsearch::auth::Credentials as Auth;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Method as Verb;
use elasticsearch::http::Url;
use elasticsearch::http::headers::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};
use flate2::Compression;
use flate2::write::GzEncoder;
use keytrail_ports::{EventIndex, IndexBody, IndexRequest, Method, Reply, Unreachable};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Bodies below this are not worth a compression.
const SMALL_BYTES: usize = 1_024;

/// Who asks. It has neither `Debug` nor `Display`.
pub enum Credentials {
    /// Nobody in particular.
    None,
    /// An API key as Kibana and the server's API give it: Base64 of id and key.
    ApiKey(String),
    /// A user.
    Basic {
        /// Its name.
        user: String,
        /// Its password.
        password: String,
    },
}

/// A server.
pub struct Elasticsearch {
    transport: Transport,
    runtime: Runtime,
    cancelled: Notify,
    shown: String,
}

impl fmt::Debug for Elasticsearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Elasticsearch {
    /// The server at an `http://` or `https://` URL, whose certificate the CAs of `ca` (PEM) signed; a request may take
    /// `timeout`.
    ///
    /// # Errors
    /// What is wrong with URL, CA or credentials, without what is secret in them.
    pub fn new(
        url: &str,
        credentials: &Credentials,
        ca: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|e| format!("expected an `http://` or `https://` URL: {e}"))?;
        let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return Err("expected an `http://` or `https://` URL with a host".into());
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected a URL without user and password".into());
        }
        let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
        let shown = format!("{}://{host}{port}", url.scheme());
        let auth = match credentials {
            Credentials::None => None,
            Credentials::ApiKey(key) if is_sendable(key) => Some(Auth::EncodedApiKey(key.clone())),
            Credentials::ApiKey(_) => return Err("the API key is none: expected Base64 in one line".into()),
            Credentials::Basic { user, password } => Some(Auth::Basic(user.clone(), password.clone())),
        };
        if auth.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err(format!("credentials are not sent in the clear: expected `https://`, not {shown}"));
        }
        let mut builder = TransportBuilder::new(SingleNodeConnectionPool::new(url))
            .timeout(timeout)
            .enable_meta_header(false);
        if let Some(auth) = auth {
            builder = builder.auth(auth);
        }
        if let Some(pem) = ca {
            let ca =
                Certificate::from_pem(pem).map_err(|e| format!("the CA is no certificate in PEM: {e}"))?;
            builder = builder.cert_validation(CertificateValidation::Full(ca));
        }
        let transport = builder.build().map_err(|e| format!("cannot make a client: {e}"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("index-client")
            .enable_all()
            .build()
            .map_err(|e| format!("cannot start a thread: {e}"))?;
        Ok(Self { transport, runtime, cancelled: Notify::new(), shown })
    }

    /// Where it is, without path and credentials.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Ends all requests that are under way: they fail as if no answer had come. Later ones are sent.
    pub fn cancel(&self) {
        self.cancelled.notify_waiters();
    }

    /// What kept a request from its answer.
    fn unreachable(&self, error: &elasticsearch::Error) -> Unreachable {
        // The innermost cause is what a person understands; those above it repeat the URL.
        let mut cause = error.source();
        let mut innermost = error.to_string();
        let mut certificate = false;
        while let Some(e) = cause {
            innermost = e.to_string();
            certificate |= innermost.contains("invalid peer certificate");
            cause = e.source();
        }
        let shown = &self.shown;
        if certificate {
            return Unreachable::Fatal(format!("{shown}: its certificate is not to be trusted: {innermost}"));
        }
        if error.is_timeout() {
            return Unreachable::Retryable(format!("{shown}: no answer in time"));
        }
        Unreachable::Retryable(format!("{shown}: {innermost}"))
    }
}

impl EventIndex for Elasticsearch {
    fn send(&self, request: &IndexRequest<'_>) -> Result<Reply, Unreachable> {
        let mut headers = HeaderMap::new();
        let body = match request.body {
            IndexBody::Empty => None,
            IndexBody::Json(json) => Some((json, "application/json")),
            IndexBody::Lines(lines) => Some((lines, "application/x-ndjson")),
        };
        let body = body.map(|(bytes, kind)| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            match (bytes.len() > SMALL_BYTES).then(|| gzip(bytes)) {
                Some(Ok(gzip)) => {
                    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                    gzip
                }
                // Memory takes whatever is written to it.
                _ => bytes.to_vec(),
            }
        });
        let verb = match request.method {
            Method::Get => Verb::Get,
            Method::Head => Verb::Head,
            Method::Post => Verb::Post,
            Method::Put => Verb::Put,
            Method::Delete => Verb::Delete,
        };
        let answer = async {
            let answer = self.transport.send(verb, request.path, headers, None::<&()>, body, None).await?;
            let status = answer.status_code().as_u16();
            let seconds =
                answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
            let body = answer.bytes().await?.to_vec();
            Ok(Reply { status, retry_after: seconds.map(Duration::from_secs), body })
        };
        let answered = self.runtime.block_on(async {
            let (mut answer, mut cancelled) = (pin!(answer), pin!(self.cancelled.notified()));
            poll_fn(|context| match cancelled.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => answer.as_mut().poll(context).map(Some),
            })
            .await
        });
        match answered {
            Some(answered) => answered.map_err(|e: elasticsearch::Error| self.unreachable(&e)),
            None => {
                Err(Unreachable::Retryable(format!("{}: nobody waits for its answer any more", self.shown)))
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::new(1));
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// What a header takes.
fn is_sendable(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic())
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(url: &str, credentials: &Credentials) -> Result<Elasticsearch, String> {
        Elasticsearch::new(url, credentials, None, Duration::from_secs(5))
    }

    #[test]
    fn configuration_that_is_wrong_is_told_without_its_secrets() {
        let key = || Credentials::ApiKey("c2VjcmV0".into());
        for (url, credentials) in [
            ("ftp://h/s3cret", Credentials::None),
            ("s3cret", Credentials::None),
            ("http://u:s3cret@localhost/", Credentials::None),
            ("https://localhost/", Credentials::ApiKey("s3cret\nX: y".into())),
            ("http://search.example.com/s3cret", key()),
        ] {
            let e = made(url, &credentials).expect_err(url);
            assert!(!e.contains("s3cret") && !e.contains("c2VjcmV0"), "{e}");
        }
        for url in ["http://localhost:9200", "http://127.0.0.1:9200", "https://search.example.com/prefix"] {
            made(url, &key()).expect(url);
        }
    }

    #[test]
    fn a_server_that_hangs_keeps_nobody() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it").port();
        let server = made(&format!("http://127.0.0.1:{port}"), &Credentials::None).expect("a client");
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let request = IndexRequest { method: Method::Get, path: "", body: IndexBody::Empty };
                server.send(&request)
            });
            // It is asked, and says nothing.
            let _silent = listener.accept().expect("a connection");
            while !asked.is_finished() {
                server.cancel();
            }
            let Err(Unreachable::Retryable(e)) = asked.join().expect("an end") else { panic!("an answer") };
            assert!(e.ends_with("nobody waits for its answer any more"), "{e}");
        });
    }

    #[test]
    fn nobody_there_may_come_back() {
        // A port that was free a moment ago.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it").port();
        let server = made(&format!("http://127.0.0.1:{port}/path"), &Credentials::None).expect("a client");
        let request = IndexRequest { method: Method::Get, path: "", body: IndexBody::Empty };
        let Err(Unreachable::Retryable(e)) = server.send(&request) else { panic!("it may come back") };
        assert!(e.starts_with(&format!("http://127.0.0.1:{port}: ")) && e.contains("refused"), "{e}");
    }
}
