//! A live LocalStack for tests, and a client for its Kinesis, its S3, and what else they need of it.
//!
//! What it is: one server for all tests of a run, which `tests/localstack/serve` runs: the first test that needs it
//! starts it, and it ends with the run; tests keep apart by [`name`]. What it is not: what keytrail talks to AWS with.
//! In: HTTP calls, unsigned, which LocalStack takes. Out: answers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Request;

use crate::search_server::free_port;
use crate::tools;

/// How long the server may take to start: it takes 4 seconds on a quiet machine.
const START: Duration = Duration::from_secs(120);

/// How long an answer may take: the first call to Kinesis starts its process.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A running server.
#[derive(Clone)]
pub struct LocalStack {
    port: u16,
    agent: Agent,
}

/// A name that no other test uses, of a stream or a bucket.
#[must_use]
pub fn name() -> String {
    format!("keytrail-{:08x}", getrandom::u32().expect("random bytes"))
}

/// Where the run's server keeps its data, and the process that it ends with.
fn folder() -> (PathBuf, u32) {
    // A run is nextest's, which has a process for each test, or else this process.
    let (run, owner) = match env::var("NEXTEST_RUN_ID") {
        Ok(run) => (run, parent_id()),
        Err(_) => (process::id().to_string(), process::id()),
    };
    (env::temp_dir().join(format!("keytrail-localstack-{run}")), owner)
}

impl LocalStack {
    /// The run's server.
    #[must_use]
    pub fn shared() -> Self {
        // A test's own child uses the server of its parent.
        if let Some(port) = env::var("KEYTRAIL_LOCALSTACK_PORT").ok().and_then(|port| port.parse().ok()) {
            return Self::at(port);
        }
        let (folder, owner) = folder();
        fs::create_dir_all(&folder).expect("a folder");
        let lock = File::create(folder.join("lock")).expect("a lock file");
        lock.lock().expect("the lock");
        let note = folder.join("port");
        if let Ok(port) = fs::read_to_string(&note) {
            return Self::at(port.parse().expect("a port"));
        }
        let server = Self::start(&folder, owner);
        fs::write(note, server.port.to_string()).expect("written");
        server
    }

    fn start(folder: &Path, owner: u32) -> Self {
        // Another process may take the port before the server does.
        (0..5)
            .find_map(|_| Self::start_on(free_port(), folder, owner))
            .expect("LocalStack starts on a free port")
    }

    fn start_on(port: u16, folder: &Path, owner: u32) -> Option<Self> {
        let path = folder.join("printed");
        let printed = File::create(&path).expect("a file");
        let mut serve = Command::new(tools::root().join("tests/localstack/serve"))
            .arg(port.to_string())
            .arg(folder)
            .arg(owner.to_string())
            .env("KEYTRAIL_LOCALSTACK", tools::localstack())
            // What ends a test with all its processes does not end a server that others use.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(printed.try_clone().expect("a handle"))
            .stderr(printed)
            .spawn()
            .expect("tests/localstack/serve starts");
        let begin = Instant::now();
        let server = Self::at(port);
        loop {
            let printed = || fs::read_to_string(&path).unwrap_or_default();
            if serve.try_wait().expect("its state").is_some() {
                assert!(printed().contains("in use"), "LocalStack ended:\n{}", printed());
                return None;
            }
            if server.try_kinesis("ListStreams", &json!({})).is_ok_and(|(status, _)| status == 200) {
                return Some(server);
            }
            assert!(begin.elapsed() < START, "LocalStack did not start:\n{}", printed());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn at(port: u16) -> Self {
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).proxy(None);
        Self { port, agent: config.build().new_agent() }
    }

    /// What functions called, a line each, for `tests/aws/rights.py`.
    #[must_use]
    pub fn calls(&self) -> PathBuf {
        folder().0.join("calls.jsonl")
    }

    /// Where it is said how functions fail: `tests/localstack/lambda_host`.
    #[must_use]
    pub fn faults(&self) -> PathBuf {
        folder().0.join("faults")
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment of a child of this test that is to use it as [`shared`](Self::shared).
    #[must_use]
    pub fn childs_environment(&self) -> Vec<(String, String)> {
        let mut environment = Self::environment(&self.url(), &self.url());
        environment.push(("AWS_ENDPOINT_URL".to_owned(), self.url()));
        environment.push(("KEYTRAIL_LOCALSTACK_PORT".to_owned(), self.port.to_string()));
        environment
    }

    /// The environment of a process that is to use it; Kinesis and S3 at these addresses.
    #[must_use]
    pub fn environment(kinesis: &str, s3: &str) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_KINESIS", kinesis),
            ("AWS_ENDPOINT_URL_S3", s3),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// The environment of a process that uses all of its services: S3 at this address.
    #[must_use]
    pub fn whole_environment(&self, s3: &str) -> Vec<(String, String)> {
        let mut environment = Self::environment(&self.url(), s3);
        environment.push(("AWS_ENDPOINT_URL".to_owned(), self.url()));
        environment
    }

    /// Calls a service of the JSON protocol: `secretsmanager.CreateSecret`, `AmazonSQS.SendMessage`.
    ///
    /// # Panics
    /// When it does not answer with 200.
    pub fn call(&self, service: &str, target: &str, body: &Value) -> Value {
        let version = if matches!(service, "sqs" | "states") { "1.0" } else { "1.1" };
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}/", self.url()))
            .header("content-type", format!("application/x-amz-json-{version}"))
            .header("x-amz-target", target)
            .header("authorization", authorization(service));
        let request = request.body(body.to_string()).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|e| panic!("LocalStack: {target}: {e}"));
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().expect("a text");
        assert_eq!(answer.status().as_u16(), 200, "{target} {body}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Calls a service of the query protocol: `("sns", "Action=Subscribe&...")`; what it says, XML.
    ///
    /// # Panics
    /// When it does not answer with 200.
    pub fn query(&self, service: &str, query: &str) -> String {
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}/", self.url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization(service));
        let request = request.body(query.to_owned()).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|e| panic!("LocalStack: {query}: {e}"));
        let text = answer.body_mut().read_to_string().expect("a text");
        assert_eq!(answer.status().as_u16(), 200, "{query}: {text}");
        text
    }

    /// Tags of an object, XML.
    #[must_use]
    pub fn tags(&self, bucket: &str, key: &str) -> String {
        let (_, tags) = self.s3("GET", &format!("{bucket}/{key}?tagging"), "");
        String::from_utf8_lossy(&tags).into_owned()
    }

    /// Calls a Lambda function; what it answered.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn invoke(&self, function: &str, event: &Value) -> Value {
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}/2015-03-31/functions/{function}/invocations", self.url()))
            .header("authorization", authorization("lambda"));
        let request = request.body(event.to_string()).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|e| panic!("LocalStack: {function}: {e}"));
        let failed = answer.headers().get("x-amz-function-error").is_some();
        let text = answer.body_mut().read_to_string().expect("a text");
        assert!(answer.status().as_u16() == 200 && !failed, "{function}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Status and headers of an answer of S3 without a body.
    pub fn s3_headers(&self, method: &str, path: &str) -> (u16, BTreeMap<String, String>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.url()))
            .header("authorization", authorization("s3"));
        let answer = self.agent.run(request.body(()).expect("a request")).expect("an answer");
        let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
        (answer.status().as_u16(), headers.collect())
    }

    /// Makes a stream of so many shards; its name.
    #[must_use]
    pub fn stream(&self, shards: u32) -> String {
        let name = name();
        self.kinesis("CreateStream", &json!({"StreamName": name, "ShardCount": shards}));
        let begin = Instant::now();
        loop {
            let summary = self.kinesis("DescribeStreamSummary", &json!({"StreamName": name}));
            if summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
                return name;
            }
            assert!(begin.elapsed() < TIMEOUT, "{summary}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Key and bytes of all records of a stream; those of a shard in their order.
    #[must_use]
    pub fn records(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        let shards = self.kinesis("ListShards", &json!({"StreamName": stream}));
        let mut all = Vec::new();
        for shard in shards["Shards"].as_array().expect("shards") {
            let asked = json!({"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"});
            let mut iterator = self.kinesis("GetShardIterator", &asked)["ShardIterator"].clone();
            loop {
                let page = self.kinesis("GetRecords", &json!({"ShardIterator": iterator, "Limit": 1000}));
                let records = page["Records"].as_array().expect("records");
                for record in records {
                    let bytes = STANDARD.decode(record["Data"].as_str().expect("data")).expect("Base64");
                    all.push((record["PartitionKey"].as_str().expect("a key").to_owned(), bytes));
                }
                if records.is_empty() {
                    break;
                }
                iterator = page["NextShardIterator"].clone();
            }
        }
        all
    }

    fn kinesis(&self, action: &str, body: &Value) -> Value {
        let (status, answer) =
            self.try_kinesis(action, body).unwrap_or_else(|e| panic!("LocalStack: {action}: {e}"));
        assert_eq!(status, 200, "{action} {body}: {answer}");
        answer
    }

    fn try_kinesis(&self, action: &str, body: &Value) -> Result<(u16, Value), ureq::Error> {
        let target = format!("Kinesis_20131202.{action}");
        self.try_json("kinesis", "application/x-amz-json-1.1", &target, body)
    }

    fn try_json(
        &self,
        service: &str,
        content: &str,
        target: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}/", self.url()))
            .header("content-type", content)
            .header("x-amz-target", target)
            .header("authorization", authorization(service));
        let mut answer = self.agent.run(request.body(body.to_string())?)?;
        let text = answer.body_mut().with_config().limit(256 << 20).read_to_string()?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// An answer of a service whose protocol is JSON: `AWSStepFunctions.ListExecutions`, `AmazonSQS.CreateQueue`,
    /// `secretsmanager.CreateSecret`.
    #[must_use]
    pub fn json(&self, service: &str, target: &str, body: &Value) -> Value {
        let version = if service == "secretsmanager" { "1.1" } else { "1.0" };
        let (status, answer) = self
            .try_json(service, &format!("application/x-amz-json-{version}"), target, body)
            .unwrap_or_else(|e| panic!("LocalStack: {target}: {e}"));
        assert_eq!(status, 200, "{target} {body}: {answer}");
        answer
    }

    /// An answer of SNS, as XML.
    #[must_use]
    pub fn sns(&self, form: &str) -> String {
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}/", self.url()))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization("sns"));
        let request = request.body(form.to_owned()).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|e| panic!("LocalStack: {form}: {e}"));
        let text = answer.body_mut().read_to_string().expect("text");
        assert_eq!(answer.status().as_u16(), 200, "{form}: {text}");
        text
    }

    /// Makes a bucket that keeps versions; its name.
    #[must_use]
    pub fn bucket(&self) -> String {
        let name = name();
        assert_eq!(self.s3("PUT", &name, "").0, 200);
        let versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        assert_eq!(self.s3("PUT", &format!("{name}?versioning"), versions).0, 200);
        name
    }

    /// Makes a bucket whose objects can be locked; its name.
    #[must_use]
    pub fn locking_bucket(&self) -> String {
        let name = name();
        let request = Request::builder()
            .method("PUT")
            .uri(format!("{}/{name}", self.url()))
            .header("x-amz-bucket-object-lock-enabled", "true")
            .header("authorization", authorization("s3"));
        let answer = self.agent.run(request.body(()).expect("a request")).expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
        name
    }

    /// Puts an object.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let request = Request::builder()
            .method("PUT")
            .uri(format!("{}/{bucket}/{key}", self.url()))
            .header("authorization", authorization("s3"));
        let answer = self.agent.run(request.body(bytes).expect("a request")).expect("an answer");
        assert_eq!(answer.status().as_u16(), 200, "{key}");
    }

    /// Keys of all objects of a bucket.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), String::new());
        loop {
            let (status, list) = self.s3("GET", &format!("{bucket}?list-type=2&start-after={after}"), "");
            let list = String::from_utf8(list).expect("XML");
            assert_eq!(status, 200, "{list}");
            let found = list.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap_or_default());
            keys.extend(found.map(str::to_owned));
            if !list.contains("<IsTruncated>true") {
                return keys;
            }
            after = keys.last().cloned().unwrap_or_default();
        }
    }

    /// Key and bytes of all objects of a bucket.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let keys = self.keys(bucket);
        keys.into_iter().map(|key| (key.clone(), self.object(bucket, &key))).collect()
    }

    /// An object.
    #[must_use]
    pub fn object(&self, bucket: &str, key: &str) -> Vec<u8> {
        let (status, bytes) = self.s3("GET", &format!("{bucket}/{key}"), "");
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&bytes));
        bytes
    }

    fn s3(&self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.url()))
            .header("authorization", authorization("s3"));
        let answer = match body {
            "" => self.agent.run(request.body(()).expect("a request")),
            _ => self.agent.run(request.body(body).expect("a request")),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("LocalStack: {method} {path}: {e}"));
        let bytes = answer.body_mut().with_config().limit(256 << 20).read_to_vec().expect("a body");
        (answer.status().as_u16(), bytes)
    }
}

/// Says which service is asked, and is no signature.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20230101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0"
    )
}
