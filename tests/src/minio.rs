//! A live MinIO, the S3 of a second maker, for tests.
//!
//! What it is: one server for all tests of a run: the first test that needs it starts it, and it ends with the run; tests
//! keep apart by the names of their buckets. What it is not: a client; it takes signed requests alone. In: nothing. Out:
//! its address, in the environment of those who are to use it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::search_server::free_port;
use crate::tools;

/// How long the server may take to start: it takes a second on a quiet machine.
const START: Duration = Duration::from_secs(30);

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
}

fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut answer = String::new();
    stream
        .write_all(b"GET /minio/health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.lines().next().is_some_and(|line| line.contains(" 200 "))
}
