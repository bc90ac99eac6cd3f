//! Live Elasticsearch and OpenSearch for tests, and a client for them.
//!
//! What it is: the released servers, which `tests/search/serve` runs. One of each kind serves all tests of a run
//! ([`SearchServer`]): the first test that needs it starts it, and it ends with the run; tests keep apart by
//! [`namespace`]. A test that kills or configures a server has one of its own ([`OwnServer`]). What it is not:
//! what keytrail talks to them with. In: HTTP calls. Out: answers. No server outlives the process that it was
//! started for, however that ends.

use std::fmt;
use std::fs::{self, File};
use std::net::TcpListener;
use std::ops::Deref;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::tools;

/// Who may do everything on a secured server.
pub const USER: &str = "keytrail";
/// The password of [`USER`].
pub const PASSWORD: &str = "keytrail-test-password";

/// How long a server may take to start: it takes 10 seconds on a quiet machine.
const START: Duration = Duration::from_secs(150);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The test group of `.config/nextest.toml` that bounds how many servers run at once.
const GROUP: &str = "own-search-server";

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Elasticsearch 9.1, open to all.
    Elasticsearch,
    /// Elasticsearch 9.1 with TLS by a CA of its own, basic authentication and API keys.
    Secured,
    /// OpenSearch 3.6, open to all.
    Opensearch,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Elasticsearch => "elasticsearch",
            Self::Secured => "secured",
            Self::Opensearch => "opensearch",
        }
    }
}

/// A running server, as a client sees it.
#[derive(Clone)]
pub struct SearchServer {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    authorization: Option<String>,
    agent: Agent,
}

/// What a call was answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body; a text if it is not JSON, null if there was none.
    pub body: Value,
}

impl Answer {
    /// The statuses of the items of a bulk call, in their order.
    #[must_use]
    pub fn items(&self) -> Vec<u64> {
        let items = self.body["items"].as_array().unwrap_or_else(|| panic!("not of a bulk call: {self:?}"));
        let status = |item: &Value| item.as_object()?.values().next()?["status"].as_u64();
        items.iter().map(|item| status(item).unwrap_or_else(|| panic!("no status: {item}"))).collect()
    }
}

/// A name that no other test uses, for `keytrail-<dataset>-<namespace>-...` on a server that tests share.
#[must_use]
pub fn namespace() -> String {
    format!("t{:08x}", random())
}

fn random() -> u32 {
    getrandom::u32().expect("random bytes")
}

impl SearchServer {
    /// The run's Elasticsearch.
    #[must_use]
    pub fn elasticsearch() -> Self {
        Self::shared(Kind::Elasticsearch)
    }

    /// The run's Elasticsearch with TLS and accounts; calls are [`USER`]'s.
    #[must_use]
    pub fn secured() -> Self {
        Self::shared(Kind::Secured)
    }

    /// The run's OpenSearch.
    #[must_use]
    pub fn opensearch() -> Self {
        Self::shared(Kind::Opensearch)
    }

    fn shared(kind: Kind) -> Self {
        // A run is nextest's, which has a process for each test, or else this process.
        let (run, owner) = match env::var("NEXTEST_RUN_ID") {
            Ok(run) => (run, parent_id()),
            Err(_) => (process::id().to_string(), process::id()),
        };
        let folder = env::temp_dir().join(format!("keytrail-{}-{run}", kind.name()));
        fs::create_dir_all(&folder).expect("a folder");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let note = folder.join("port");
        if let Ok(port) = fs::read_to_string(&note) {
            return Self::of(kind, port.parse().expect("a port"), &folder);
        }
        let (server, _) = Self::start(kind, &folder, owner, &[]);
        fs::write(note, server.port.to_string()).expect("written");
        server
    }

    /// Starts a server on a free port; `owner` is the process that it ends with.
    fn start(kind: Kind, folder: &Path, owner: u32, settings: &[&str]) -> (Self, Child) {
        // Another process may take the port before the server does.
        (0..5)
            .find_map(|_| Self::start_on(free_port(), kind, folder, owner, settings))
            .expect("a server starts on a free port")
    }

    /// `None`: the port is taken.
    fn start_on(
        port: u16,
        kind: Kind,
        folder: &Path,
        owner: u32,
        settings: &[&str],
    ) -> Option<(Self, Child)> {
        let path = folder.join("printed");
        let printed = File::create(&path).expect("a file");
        let mut serve = Command::new(tools::root().join("tests/search/serve"))
            .args([kind.name(), &port.to_string()])
            .arg(folder)
            .arg(owner.to_string())
            .args(settings)
            .env("KEYTRAIL_SEARCH", tools::search_servers())
            // What ends a test with all its processes does not end a server that others use.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(printed.try_clone().expect("a handle"))
            .stderr(printed)
            .spawn()
            .expect("tests/search/serve starts");
        let begin = Instant::now();
        let mut server = None;
        loop {
            let printed = || fs::read_to_string(&path).unwrap_or_default();
            if serve.try_wait().expect("its state").is_some() {
                assert!(printed().contains("Failed to bind"), "{kind:?} ended:\n{}", printed());
                return None;
            }
            // A secured server's CA is made first.
            if server.is_none() && (kind != Kind::Secured || folder.join("config/server.pem").exists()) {
                server = Some(Self::of(kind, port, folder));
            }
            if let Some(server) = server.take_if(|s| s.is_ready()) {
                return Some((server, serve));
            }
            assert!(begin.elapsed() < START, "{kind:?} did not start:\n{}", printed());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn of(kind: Kind, port: u16, folder: &Path) -> Self {
        let secured = kind == Kind::Secured;
        let ca = folder.join("ca.pem");
        let server = Self {
            kind,
            port,
            folder: folder.into(),
            authorization: None,
            agent: agent(secured.then_some(&*ca)),
        };
        if secured { server.with_password(USER, PASSWORD) } else { server }
    }

    /// Whether it answers, and every shard that it has is there.
    fn is_ready(&self) -> bool {
        let health = "_cluster/health?wait_for_status=yellow&wait_for_no_initializing_shards=true&timeout=1s";
        self.try_call("GET", health, "").is_ok_and(|answer| answer.status == 200)
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.kind == Kind::Secured { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The CA that a client of a secured server has to trust, in PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A CA that signed nothing, in PEM.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.folder.join("other-ca.pem")
    }

    /// The same server, to a client that trusts this CA alone.
    #[must_use]
    pub fn trusting(&self, ca: &Path) -> Self {
        Self { agent: agent(Some(ca)), ..self.clone() }
    }

    /// The same server, to a user.
    #[must_use]
    pub fn with_password(&self, user: &str, password: &str) -> Self {
        self.with_authorization(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
    }

    /// The same server, to who has this API key, as [`api_key`](Self::api_key) gives it.
    #[must_use]
    pub fn with_api_key(&self, key: &str) -> Self {
        self.with_authorization(&format!("ApiKey {key}"))
    }

    fn with_authorization(&self, value: &str) -> Self {
        Self { authorization: Some(value.to_owned()), ..self.clone() }
    }

    /// Makes an API key (`{"name": ..., "expiration": ..., "role_descriptors": ...}`): the `encoded` form.
    #[must_use]
    pub fn api_key(&self, wanted: &Value) -> String {
        let answer = self.post("_security/api_key", wanted);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["encoded"].as_str().expect("`encoded`").to_owned()
    }

    /// `GET`, as all calls with a path that begins without a slash.
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    /// `PUT`; null is no body.
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, &text(body))
    }

    /// `POST`; null is no body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &text(body))
    }

    /// `DELETE`.
    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, "")
    }

    /// `POST _bulk`: these lines.
    pub fn bulk(&self, lines: &[Value]) -> Answer {
        self.call("POST", "_bulk", &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
    }

    /// How many documents can be found now in the indices of a name or pattern.
    #[must_use]
    pub fn count(&self, indices: &str) -> u64 {
        let refreshed = self.post(&format!("{indices}/_refresh"), &Value::Null);
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        let answer = self.get(&format!("{indices}/_count"));
        answer.body["count"].as_u64().unwrap_or_else(|| panic!("no count: {answer:?}"))
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_call(method, path, body).unwrap_or_else(|e| panic!("{:?}: {method} {path}: {e}", self.kind))
    }

    /// Any call, with these bytes as body, or none.
    ///
    /// # Errors
    /// What keeps the client from an answer.
    pub fn try_call(&self, method: &str, path: &str, body: &str) -> Result<Answer, ureq::Error> {
        let content = if path.ends_with("_bulk") { "application/x-ndjson" } else { "application/json" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.url()))
            .header("content-type", content);
        if let Some(value) = &self.authorization {
            request = request.header("authorization", value);
        }
        let mut response = if body.is_empty() {
            self.agent.run(request.body(())?)?
        } else {
            self.agent.run(request.body(body)?)?
        };
        let body = response.body_mut().with_config().limit(256 << 20).read_to_string()?;
        let body = match serde_json::from_str(&body) {
            Ok(value) => value,
            Err(_) if body.is_empty() => Value::Null,
            Err(_) => Value::String(body),
        };
        Ok(Answer { status: response.status().as_u16(), body })
    }
}

impl fmt::Debug for SearchServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}", self.kind, self.url())
    }
}

fn text(body: &Value) -> String {
    if body.is_null() { String::new() } else { body.to_string() }
}

fn agent(ca: Option<&Path>) -> Agent {
    let mut config =
        Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).proxy(None);
    if let Some(ca) = ca {
        let pem = fs::read(ca).expect("a CA");
        let ca = Certificate::from_pem(&pem).expect("a certificate");
        config = config.tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).build());
    }
    config.build().new_agent()
}

/// A port that is free now, below those that Linux gives to clients: it is still free after a restart.
pub(crate) fn free_port() -> u16 {
    (0..1000)
        .map(|_| 20_000 + u16::try_from(random() % 10_000).expect("below 10,000"))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// A server that one test has for itself; it ends with this value.
///
/// Tests that have one are in a module `own_server`, which `.config/nextest.toml` runs one at a time.
pub struct OwnServer {
    server: SearchServer,
    serve: Option<Child>,
    settings: Vec<String>,
    folder: tempfile::TempDir,
}

impl OwnServer {
    /// Starts one with these settings (`thread_pool.write.size=1`) and options of the JVM (`-Xmx1g`).
    #[must_use]
    pub fn start(kind: Kind, settings: &[&str]) -> Self {
        if let Ok(group) = env::var("NEXTEST_TEST_GROUP") {
            assert_eq!(group, GROUP, "a test with a server of its own belongs into a module `own_server`");
        }
        let folder = tempfile::Builder::new().prefix("keytrail-own-").tempdir().expect("a temporary folder");
        let (server, serve) = SearchServer::start(kind, folder.path(), process::id(), settings);
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        Self { server, serve: Some(serve), settings, folder }
    }

    /// Kills it (SIGKILL), if it runs.
    pub fn kill(&mut self) {
        if let Some(mut serve) = self.serve.take() {
            let sent = Command::new("kill").arg(serve.id().to_string()).status();
            assert!(sent.expect("kill starts").success());
            serve.wait().expect("it ends");
        }
    }

    /// Kills it, if it runs, and starts it with the same port, data and settings.
    pub fn restart(&mut self) {
        self.kill();
        let settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        let (server, serve) = SearchServer::start_on(
            self.server.port,
            self.server.kind,
            self.folder.path(),
            process::id(),
            &settings,
        )
        .expect("its port is still free");
        self.server = server;
        self.serve = Some(serve);
    }
}

impl Deref for OwnServer {
    type Target = SearchServer;

    fn deref(&self) -> &SearchServer {
        &self.server
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}
