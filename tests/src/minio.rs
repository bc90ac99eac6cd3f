//! A live MinIO, the S3 of a second maker, for tests.
//!
//! What it is: one server for all tests of a run: the first test that needs it starts it, and it ends with the run; tests
//! keep apart by the names of their buckets; and a client that signs its calls, which is all that MinIO takes. What it is
//! not: what keytrail talks to S3 with. In: calls. Out: answers, and its address, in the environment of those who are to
//! use it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use keytrail_model::Hash;
use sha2::Sha256;
use ureq::Agent;
use ureq::http::Request;

use crate::localstack::name;
use crate::search_server::free_port;
use crate::tools;

/// How long the server may take to start: it takes a second on a quiet machine.
const START: Duration = Duration::from_secs(30);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Largest answer.
const MAX_BYTES: u64 = 1 << 30;

/// User and password.
const USER: &str = "minioadmin";

/// A running server.
#[derive(Clone)]
pub struct Minio {
    port: u16,
}

impl Minio {
    /// The run's server.
    #[must_use]
    pub fn shared() -> Self {
        // A test's own child uses the server of its parent.
        if let Some(port) = env::var("KEYTRAIL_MINIO_PORT").ok().and_then(|port| port.parse().ok()) {
            return Self { port };
        }
        // A run is nextest's, which has a process for each test, or else this process.
        let (run, owner) = match env::var("NEXTEST_RUN_ID") {
            Ok(run) => (run, parent_id()),
            Err(_) => (process::id().to_string(), process::id()),
        };
        let folder = env::temp_dir().join(format!("keytrail-minio-{run}"));
        fs::create_dir_all(&folder).expect("a folder");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let note = folder.join("port");
        if let Ok(port) = fs::read_to_string(&note) {
            return Self { port: port.parse().expect("a port") };
        }
        // Another process may take the port before the server does.
        let server = (0..5).find_map(|_| Self::start(free_port(), &folder, owner));
        let server = server.expect("MinIO starts on a free port");
        fs::write(note, server.port.to_string()).expect("written");
        server
    }

    fn start(port: u16, folder: &Path, owner: u32) -> Option<Self> {
        let path = folder.join("printed");
        let printed = File::create(&path).expect("a file");
        let mut serve = Command::new(tools::root().join("tests/minio/serve"))
            .arg(port.to_string())
            .arg(folder)
            .arg(owner.to_string())
            .env("KEYTRAIL_MINIO", tools::minio())
            .envs([("MINIO_ROOT_USER", USER), ("MINIO_ROOT_PASSWORD", USER)])
            // What ends a test with all its processes does not end a server that others use.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(printed.try_clone().expect("a handle"))
            .stderr(printed)
            .spawn()
            .expect("tests/minio/serve starts");
        let begin = Instant::now();
        loop {
            let printed = || fs::read_to_string(&path).unwrap_or_default();
            if serve.try_wait().expect("its state").is_some() {
                assert!(printed().contains("in use"), "MinIO ended:\n{}", printed());
                return None;
            }
            if is_ready(port) {
                return Some(Self { port });
            }
            assert!(begin.elapsed() < START, "MinIO did not start:\n{}", printed());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of a process that is to use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", USER),
            ("AWS_SECRET_ACCESS_KEY", USER),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_S3", &self.url()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("KEYTRAIL_MINIO_PORT", &self.port.to_string()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// Makes a bucket that keeps versions; its name.
    #[must_use]
    pub fn bucket(&self) -> String {
        let name = name();
        self.call("PUT", &name, &[], &[]);
        let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        self.call("PUT", &name, &[("versioning", "")], versions.as_bytes());
        name
    }

    /// Makes a bucket whose objects can be locked; its name.
    #[must_use]
    pub fn locking_bucket(&self) -> String {
        let name = name();
        self.call_with("PUT", &name, &[], &[], Some(("x-amz-bucket-object-lock-enabled", "true")));
        name
    }

    /// Puts an object.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: &[u8]) {
        self.call("PUT", &format!("{bucket}/{key}"), &[], bytes);
    }

    /// An object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Vec<u8> {
        self.call("GET", &format!("{bucket}/{key}"), &[], &[])
    }

    /// Keys of all objects of a bucket that begin so.
    #[must_use]
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::<String>::new(), String::new());
        loop {
            let query = [("list-type", "2"), ("prefix", prefix), ("start-after", &after)];
            let list = String::from_utf8(self.call("GET", bucket, &query, &[])).expect("XML");
            let found = list.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap_or_default());
            keys.extend(found.map(str::to_owned));
            if !list.contains("<IsTruncated>true") {
                return keys;
            }
            after = keys.last().cloned().unwrap_or_default();
        }
    }

    fn call(&self, method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        self.call_with(method, path, query, body, None)
    }

    /// A call with a signature of version 4 ("Signature Calculations for the Authorization Header: Transferring Payload in
    /// a Single Chunk"); the query's names in their order, the header behind all others.
    fn call_with(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: &[u8],
        header: Option<(&str, &str)>,
    ) -> Vec<u8> {
        const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
        let host = format!("127.0.0.1:{}", self.port);
        // `x-amz-bucket-...` stands before the others.
        let amz = [header, Some(("x-amz-content-sha256", PAYLOAD)), Some(("x-amz-date", &time))];
        let headers: Vec<_> =
            [("host", host.as_str())].into_iter().chain(amz.into_iter().flatten()).collect();
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let path = format!("/{}", encoded(path, true));
        let pairs: Vec<String> = query.iter().map(|(n, v)| format!("{n}={}", encoded(v, false))).collect();
        let query = pairs.join("&");
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{PAYLOAD}");
        let canonical = Hash::of(canonical.as_bytes()).to_hex();
        let mut key = hmac(format!("AWS4{USER}").as_bytes(), &time[..8]);
        for part in ["us-east-1", "s3", "aws4_request"] {
            key = hmac(&key, part);
        }
        let signature = hmac(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{canonical}"));
        let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={USER}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}?{query}", self.url()))
            .header("authorization", authorization);
        for (name, value) in &headers[1..] {
            request = request.header(*name, *value);
        }
        let agent =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).proxy(None);
        let agent = agent.build().new_agent();
        let answer = match method {
            "PUT" => agent.run(request.body(body).expect("a request")),
            _ => agent.run(request.body(()).expect("a request")),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("MinIO: {method} {path}: {e}"));
        let bytes = answer.body_mut().with_config().limit(MAX_BYTES).read_to_vec().expect("a body");
        assert_eq!(answer.status().as_u16(), 200, "{method} {path}: {}", String::from_utf8_lossy(&bytes));
        bytes
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// As a URI has it; slashes stay in a path.
fn encoded(text: &str, is_path: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            b'/' if is_path => encoded.push('/'),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// `/minio/health/ready` is 200 before the server can answer anything else.
fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = String::new();
    stream
        .write_all(b"GET /minio/health/cluster HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.lines().next().is_some_and(|line| line.contains(" 200 "))
}

#[cfg(test)]
mod tests {
    use super::Minio;

    #[test]
    fn what_was_put_is_listed_and_read() {
        let minio = Minio::shared();
        let bucket = minio.locking_bucket();
        minio.put_object(&bucket, "archive/dataset=a/b c+d.parquet", b"bytes");
        minio.put_object(&bucket, "log/x", b"");
        assert_eq!(minio.keys(&bucket, "archive/dataset="), ["archive/dataset=a/b c+d.parquet"]);
        assert_eq!(minio.object(&bucket, "archive/dataset=a/b c+d.parquet"), b"bytes");
        assert_eq!(minio.keys(&bucket, "").len(), 2);
        assert!(minio.keys(&minio.bucket(), "").is_empty());
    }
}
