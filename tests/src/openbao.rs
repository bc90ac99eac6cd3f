//! A live OpenBao in development mode, with file audit devices, for tests.
//!
//! What it is: the released server on a port of its own, and just enough HTTP to call it. What it is not: a
//! client for anything else: no TLS, no keep-alive. In: API calls. Out: answers, and the audit files that
//! the server writes. It ends with the value that started it, also when a test panics.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tools;

/// The root token.
pub const ROOT: &str = "keytrail-test-root-token-3c51e07a";

/// How long the server may take to start: it takes a quarter of a second on a quiet machine.
const START: Duration = Duration::from_secs(30);

/// A running server.
pub struct OpenBao {
    server: Child,
    port: u16,
    folder: tempfile::TempDir,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body; null if there was none.
    pub body: Value,
}

impl Answer {
    /// A text below `data`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn data(&self, name: &str) -> String {
        self.body["data"][name]
            .as_str()
            .unwrap_or_else(|| panic!("`data.{name}` is missing: {self:?}"))
            .to_owned()
    }
}

impl OpenBao {
    /// Starts a server whose audit devices are files of these names, with these options (`log_raw = "true"`).
    #[must_use]
    pub fn start(devices: &[(&str, &str)]) -> Self {
        let file = |folder: &Path, (name, options): &(&str, &str)| {
            let path = folder.join(name);
            format!(
                "audit \"file\" \"{name}\" {{\n  options {{\n    file_path = \"{}\"\n    {options}\n  }}\n}}\n",
                path.display()
            )
        };
        Self::start_with(&|folder| devices.iter().map(|device| file(folder, device)).collect())
    }

    /// Starts a server with this configuration, which may name files in its folder.
    #[must_use]
    pub fn start_with(config: &dyn Fn(&Path) -> String) -> Self {
        // Another process may take the free port before the server does.
        (0..5).find_map(|_| Self::try_start(config)).expect("OpenBao starts on a free port")
    }

    fn try_start(config: &dyn Fn(&Path) -> String) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = config(folder.path());
        fs::write(folder.path().join("audit.hcl"), config).expect("a configuration");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let printed = File::create(folder.path().join("printed")).expect("a file");
        let server = Command::new(tools::openbao())
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-config={}", folder.path().join("audit.hcl").display()))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(printed.try_clone().expect("a handle"))
            .stderr(printed)
            .spawn()
            .expect("OpenBao starts");
        let mut bao = Self { server, port, folder };
        let begin = Instant::now();
        loop {
            if bao.try_call("GET", "sys/health", &[], &Value::Null).is_ok_and(|a| a.status == 200) {
                return Some(bao);
            }
            let printed = || fs::read_to_string(bao.folder.path().join("printed")).unwrap_or_default();
            if bao.server.try_wait().expect("its state").is_some() {
                assert!(printed().contains("address already in use"), "OpenBao ended:\n{}", printed());
                return None;
            }
            assert!(begin.elapsed() < START, "OpenBao did not start:\n{}", printed());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The port of its API.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file of an audit device.
    #[must_use]
    pub fn audit_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls the API as root: `POST`, or `GET` without a body.
    pub fn call(&self, path: &str, body: &Value) -> Answer {
        self.call_as(ROOT, path, body)
    }

    /// As [`call`](Self::call), with a token.
    pub fn call_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.call_with(&[("X-Vault-Token", token)], path, body)
    }

    /// As [`call`](Self::call), with these headers alone.
    pub fn call_with(&self, headers: &[(&str, &str)], path: &str, body: &Value) -> Answer {
        let method = if body.is_null() { "GET" } else { "POST" };
        self.try_call(method, path, headers, body).expect("OpenBao answers")
    }

    /// HTTP 1.0, so that the body ends with the connection.
    fn try_call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> std::io::Result<Answer> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = format!("{method} /v1/{path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null) })
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
