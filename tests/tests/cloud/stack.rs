//! A deployed stack, and what tests ask of it.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_tests::localstack::LocalStack;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

/// How long the path may take.
pub const LIMIT: Duration = Duration::from_secs(400);

/// What is deployed.
pub struct Stack {
    pub aws: LocalStack,
    pub names: Value,
}

impl Stack {
    /// Deploys the template as an environment of that name.
    pub fn deploy(environment: &str, parameters: &[String]) -> Self {
        let aws = LocalStack::shared();
        let zips = tempfile::tempdir().expect("a temporary folder");
        // As the other tests have them: the profile that is deployed takes long to build.
        let mut build = Command::new(tools::root().join("infra/aws/build"));
        let built =
            build.args(["--no-build", "--profile", "release"]).arg(zips.path()).output().expect("it runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut deploy = Command::new(tools::root().join("tests/localstack/deploy"));
        deploy.args(["--endpoint", &aws.url(), "--zips"]).arg(zips.path());
        deploy.args(["--stack", &format!("keytrail-{environment}")]);
        deploy.args(["--parameter", &format!("Environment={environment}")]);
        for parameter in parameters {
            deploy.args(["--parameter", parameter]);
        }
        let deployed = deploy.env("KEYTRAIL_LOCALSTACK", tools::localstack()).output().expect("it runs");
        assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        let names = serde_json::from_slice(&deployed.stdout).expect("names");
        Self { aws, names }
    }

    pub fn name(&self, kind: &str, name: &str) -> String {
        text(&self.names[kind][name])
    }

    pub fn archive(&self) -> String {
        self.name("buckets", "archive")
    }

    pub fn raw(&self) -> String {
        self.name("buckets", "raw")
    }

    /// Runs a machine to its end; what it gave.
    #[track_caller]
    pub fn run(&self, machine: &str, input: &Value) -> Value {
        let is = self.execute(machine, input);
        assert_eq!(is["status"], "SUCCEEDED", "{machine}: {is}, parked: {}", self.parked());
        serde_json::from_str(is["output"].as_str().unwrap_or("null")).expect("JSON")
    }

    /// Runs a machine to its end; how it ended.
    #[track_caller]
    pub fn execute(&self, machine: &str, input: &Value) -> Value {
        let arn = self.name("machines", machine);
        let start = json!({"stateMachineArn": arn, "input": input.to_string()});
        if matches!(machine, "ingest" | "seal" | "sweep") {
            // Express ones have no history to ask for.
            return self.aws.call("states", "AWSStepFunctions.StartSyncExecution", &start);
        }
        let started = self.aws.call("states", "AWSStepFunctions.StartExecution", &start);
        let begin = Instant::now();
        loop {
            let ask = json!({"executionArn": started["executionArn"]});
            let is = self.aws.call("states", "AWSStepFunctions.DescribeExecution", &ask);
            if is["status"] != "RUNNING" {
                return is;
            }
            assert!(begin.elapsed() < LIMIT, "{machine} does not end: {is}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Calls a function; what it answered.
    #[track_caller]
    pub fn call(&self, function: &str, event: &Value) -> Value {
        self.aws.invoke(&self.name("functions", function), event)
    }

    /// Seals until nothing is open and nothing waits, and both of these have been read.
    #[track_caller]
    pub fn settle(&self, objects: usize) {
        let begin = Instant::now();
        loop {
            let sealed = self.call("seal-archive", &json!({}));
            let keys = self.aws.keys(&self.raw());
            let count = |prefix: &str| keys.iter().filter(|key| key.starts_with(prefix)).count();
            let tags = || {
                let raw = keys.iter().filter(|key| !key.starts_with("open/"));
                let taken = |key: &&String| self.aws.tags(&self.raw(), key).contains("taken");
                raw.filter(taken).count()
            };
            if count("open/") == 0 && number(&sealed["waiting"]) == 0 && tags() >= objects {
                return;
            }
            assert!(
                begin.elapsed() < LIMIT,
                "not all is sealed: {sealed}, {} open, {} taken of {objects}, parked: {}",
                count("open/"),
                tags(),
                self.parked()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// What is parked.
    pub fn parked(&self) -> Value {
        let url = self.name("queues", "parked");
        self.aws.call("sqs", "AmazonSQS.ReceiveMessage", &json!({"QueueUrl": url, "MaxNumberOfMessages": 10}))
    }

    /// `keytrail ARGS...` on the trail in the bucket.
    pub fn keytrail(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(tools::keytrail_sql());
        command.args(args).args(["--data", &format!("s3://{}", self.archive())]);
        let environment = self.aws.whole_environment(&self.aws.url());
        let ran = command.envs(environment).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout) + &text(&ran.stderr))
    }

    /// Holds what functions called against the rights that they have: the emulation enforces none.
    #[track_caller]
    pub fn calls_are_covered(&self) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = folder.path().join("names.json");
        std::fs::write(&names, self.names.to_string()).expect("written");
        let mut rights = Command::new(tools::aws().join("sam/bin/python"));
        rights.arg(tools::root().join("tests/aws/rights.py")).arg(self.aws.calls()).arg(&names);
        let ran = rights.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    }

    /// The trail, fetched into a folder.
    pub fn fetched(&self) -> Trail {
        let trail = Trail::new();
        for (key, bytes) in self.aws.objects(&self.archive()) {
            let path = trail.data().join(key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("written");
        }
        trail
    }
}

/// The ids of all events of a trail.
pub fn uids(trail: &Trail) -> BTreeSet<String> {
    trail.events().into_iter().map(|(uid, _)| uid).collect()
}
