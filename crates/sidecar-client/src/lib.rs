//! A client of the audit sidecar's socket: one connection, blocking calls, a receipt for each record.
//!
//! What it is: what a service needs to ask the HSM for nothing and to answer nobody before it is on record. What
//! it is not: it retries nothing, and opens no second connection. In: JSON objects of
//! `schemas/key-operation.v1.schema.json`. Out: [`Receipt`]s.
//!
//! ```no_run
//! # fn main() -> Result<(), keytrail_sidecar_client::Error> {
//! use keytrail_sidecar_client::Client;
//!
//! let mut sidecar = Client::connect("/run/keytrail/sidecar.sock")?;
//! let intent = r#"{"actor":{"id":"svc-7","type":"service"},"operation":"sign","policy":{"decision":"allow"},
//!     "hsm":{"id":"hsm-1"},"key":{"id":"key-1"},"mechanism":"CKM_ECDSA"}"#;
//! sidecar.intent("op-1", intent)?;
//! // The HSM signs here.
//! let done = sidecar.outcome("op-1", r#"{"result":{"rv":"CKR_OK"}}"#)?;
//! println!("on record as {}", done.receipt.to_header());
//! # Ok(())
//! # }
//! ```

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub use keytrail_model::Receipt;
use serde::Deserialize;

/// An answer is never larger.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Longer than the sidecar takes for its refusal.
const TIMEOUT: Duration = Duration::from_secs(65);

/// Why an entry is not on record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sidecar refused: the operation must not go on.
    #[error("the sidecar refused with {status}, `{code}`: {message}")]
    Refused {
        /// Status of HTTP; 503: it may take the entry later.
        status: u16,
        /// Stable code.
        code: String,
        /// Why.
        message: String,
    },
    /// It did not answer: the record may be durable or not, and the operation must not go on.
    #[error("the sidecar did not answer: {0}")]
    Connection(#[from] std::io::Error),
    /// It answered something else than the protocol says.
    #[error("the sidecar's answer is not of its protocol: {0}")]
    Protocol(String),
}

/// An entry that is on record.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Recorded {
    /// Where it stands.
    pub receipt: Receipt,
    /// Whether it would survive a power cut: of an intent only in the mode `strict`.
    pub durable: bool,
    /// Where the intent of an outcome stands.
    pub intent: Option<Receipt>,
}

/// A connection to the sidecar.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects to the socket.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Before the HSM is asked: `body` is an `intent` of the schema.
    pub fn intent(&mut self, op_id: &str, body: &str) -> Result<Recorded, Error> {
        self.post("intent", op_id, body)
    }

    /// Before the caller gets the result: `body` has `result`, and what else came of the operation.
    pub fn outcome(&mut self, op_id: &str, body: &str) -> Result<Recorded, Error> {
        self.post("outcome", op_id, body)
    }

    /// When policy refused: `body` is a `deny` of the schema.
    pub fn deny(&mut self, op_id: &str, body: &str) -> Result<Recorded, Error> {
        self.post("deny", op_id, body)
    }

    fn post(&mut self, phase: &str, op_id: &str, body: &str) -> Result<Recorded, Error> {
        let request = format!(
            "POST /v1/{phase}/{} HTTP/1.1\r\nHost: sidecar\r\nContent-Length: {}\r\n\r\n{body}",
            escaped(op_id),
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let (status, answer) = self.answer()?;
        let wrong = |e: serde_json::Error| Error::Protocol(e.to_string());
        if (200..300).contains(&status) {
            return serde_json::from_slice(&answer).map_err(wrong);
        }
        #[derive(Deserialize)]
        struct Refusal {
            code: String,
            message: String,
        }
        let Refusal { code, message } = serde_json::from_slice(&answer).map_err(wrong)?;
        Err(Error::Refused { status, code, message })
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>), Error> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let before = head.len();
            let room = (MAX_ANSWER_BYTES - before) as u64;
            (&mut self.0).take(room).read_until(b'\n', &mut head)?;
            if head.len() == before {
                return Err(Error::Connection(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let wrong = |what: &str| Error::Protocol(what.to_owned());
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(&head).map_err(|e| Error::Protocol(e.to_string()))?;
        let status = response.code.ok_or_else(|| wrong("no status"))?;
        let length = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|h| std::str::from_utf8(h.value).ok()).and_then(|v| v.parse().ok());
        let length: usize = length.ok_or_else(|| wrong("no content-length"))?;
        if length > MAX_ANSWER_BYTES {
            return Err(wrong("an answer that is too long"));
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, body))
    }
}

/// The id as part of a path: what may not stand there is percent-encoded.
fn escaped(op_id: &str) -> String {
    let mut text = String::with_capacity(op_id.len());
    for byte in op_id.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/' | b':' | b'@' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}
