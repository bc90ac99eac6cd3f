//! The template as it is deployed, to LocalStack, with the real zips, a real search engine and a live OpenBao behind the
//! sidecar: from what producers put to the report that is published.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keytrail_model::Hash;
use keytrail_tests::localstack::LocalStack;
use keytrail_tests::openbao::OpenBao;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::sidecar::Sidecar;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

/// How long the path may take.
const LIMIT: Duration = Duration::from_secs(100);

/// What is deployed.
struct Stack {
    aws: LocalStack,
    names: Value,
}

impl Stack {
    fn deploy(parameters: &[String]) -> Self {
        let aws = LocalStack::shared();
        let zips = tempfile::tempdir().expect("a temporary folder");
        // As the other tests have them: the profile that is deployed takes long to build.
        let mut build = Command::new(tools::root().join("infra/aws/build"));
        let built =
            build.args(["--no-build", "--profile", "release"]).arg(zips.path()).output().expect("it runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let mut deploy = Command::new(tools::root().join("tests/localstack/deploy"));
        deploy.args(["--endpoint", &aws.url(), "--zips"]).arg(zips.path());
        for parameter in parameters {
            deploy.args(["--parameter", parameter]);
        }
        let deployed = deploy.env("KEYTRAIL_LOCALSTACK", tools::localstack()).output().expect("it runs");
        assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        let names = serde_json::from_slice(&deployed.stdout).expect("names");
        Self { aws, names }
    }

    fn name(&self, kind: &str, name: &str) -> String {
        text(&self.names[kind][name])
    }

    fn archive(&self) -> String {
        self.name("buckets", "archive")
    }

    fn raw(&self) -> String {
        self.name("buckets", "raw")
    }

    /// Runs a machine to its end; what it gave.
    #[track_caller]
    fn run(&self, machine: &str, input: &Value) -> Value {
        let arn = self.name("machines", machine);
        let start = json!({"stateMachineArn": arn, "input": input.to_string()});
        let output =
            |is: &Value| serde_json::from_str(is["output"].as_str().unwrap_or("null")).expect("JSON");
        if matches!(machine, "ingest" | "seal") {
            // Express ones have no history to ask for.
            let is = self.aws.call("states", "AWSStepFunctions.StartSyncExecution", &start);
            assert_eq!(is["status"], "SUCCEEDED", "{machine}: {is}");
            return output(&is);
        }
        let started = self.aws.call("states", "AWSStepFunctions.StartExecution", &start);
        let begin = Instant::now();
        loop {
            let ask = json!({"executionArn": started["executionArn"]});
            let is = self.aws.call("states", "AWSStepFunctions.DescribeExecution", &ask);
            match is["status"].as_str() {
                Some("RUNNING") => {}
                Some("SUCCEEDED") => return output(&is),
                _ => panic!("{machine}: {is}, parked: {}", self.parked()),
            }
            assert!(begin.elapsed() < LIMIT, "{machine} does not end: {is}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Calls a function; what it answered.
    #[track_caller]
    fn call(&self, function: &str, event: &Value) -> Value {
        self.aws.invoke(&self.name("functions", function), event)
    }

    /// Seals until nothing is open and nothing waits, and both of these have been read.
    #[track_caller]
    fn settle(&self, objects: usize) {
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
    fn parked(&self) -> Value {
        let url = self.name("queues", "parked");
        self.aws.call("sqs", "AmazonSQS.ReceiveMessage", &json!({"QueueUrl": url, "MaxNumberOfMessages": 10}))
    }

    /// `keytrail ARGS...` on the trail in the bucket.
    fn keytrail(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(tools::keytrail_sql());
        command.args(args).args(["--data", &format!("s3://{}", self.archive())]);
        let environment = self.aws.whole_environment(&self.aws.url());
        let ran = command.envs(environment).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ran.status.code(), text(&ran.stdout) + &text(&ran.stderr))
    }

    /// Holds what functions called against the rights that they have: the emulation enforces none.
    #[track_caller]
    fn calls_are_covered(&self) {
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
    fn fetched(&self) -> Trail {
        let trail = Trail::new();
        for (key, bytes) in self.aws.objects(&self.archive()) {
            let path = trail.data().join(key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("written");
        }
        trail
    }
}

fn uids(trail: &Trail) -> BTreeSet<String> {
    trail.events().into_iter().map(|(uid, _)| uid).collect()
}

#[test]
fn the_template_archives_indexes_proves_and_reports_what_producers_put() {
    let engine = SearchServer::elasticsearch();
    let stack = Stack::deploy(&[
        format!("ElasticsearchUrl={}", engine.url()),
        "LockMode=GOVERNANCE".to_owned(),
        "RecordsWindowSeconds=0".to_owned(),
        "ObjectsWindowSeconds=1".to_owned(),
    ]);
    let aws = &stack.aws;
    // Who reads reports.
    let queue = aws.call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": "reports-of-the-test"}));
    let queue = text(&queue["QueueUrl"]);
    let topic = stack.name("topics", "reports");
    aws.query(
        "sns",
        &format!(
            "Action=Subscribe&Version=2010-03-31&Protocol=sqs&TopicArn={topic}&Endpoint=arn:aws:sqs:us-east-1:000000000000:reports-of-the-test"
        ),
    );

    // Files of other services, put where the bucket tells of them.
    let examples = tools::root().join("examples");
    let mut inputs = Vec::new();
    let mut open: Vec<_> =
        ["vault/audit.ndjson", "kubernetes", "cloudhsm", "gcp"].map(|name| examples.join(name)).into();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()),
            );
            continue;
        }
        let key = format!("incoming/{}", path.strip_prefix(&examples).expect("below it").display());
        aws.put_object(&stack.raw(), &key, &std::fs::read(&path).expect("a file"));
        inputs.push(path);
    }
    // Calls of a live OpenBao, whose only audit device is the sidecar.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut sidecar = Sidecar::new(folder.path(), "");
    let stream = text(&stack.names["stream"]);
    let to =
        format!("kinesis = {{ stream = \"{stream}\", bucket = \"{}\", prefix = \"sidecars\" }}", stack.raw());
    sidecar.configure("", &format!("[ship]\ninterval = \"100ms\"\n{to}\n"));
    sidecar.set_environment(aws.whole_environment(&aws.url()));
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.http_device());
    assert!(bao.call("sys/mounts/transit", &json!({"type": "transit"})).status < 300);
    assert!(bao.call("transit/keys/k", &json!({})).status < 300);
    for n in 0..20 {
        assert!(
            bao.call("transit/encrypt/k", &json!({"plaintext": STANDARD.encode(n.to_string())})).status < 500
        );
    }
    let begin = Instant::now();
    while sidecar.metric("keytrail_sidecar_unshipped_records") != Some(0.0) {
        assert!(begin.elapsed() < LIMIT, "{:#?}", sidecar.logged());
        thread::sleep(Duration::from_millis(50));
    }
    let shipped = inputs.len() + 1;
    stack.settle(shipped);

    // Each event is archived exactly once, and it is what one machine makes of the same files.
    let trail = stack.fetched();
    let one = Trail::new();
    one.run_json(&inputs);
    let (cloud, local) = (uids(&trail), uids(&one));
    assert_eq!(local.difference(&cloud).count(), 0, "all of the files is in the archive");
    let chained = trail.query("select count(*) n from {archive} where keytrail_ledger_source is not null and event_dataset = 'vault.audit'");
    assert!(number(&chained[0]["n"]) >= 40, "a request and a response of each call: {chained:?}");
    assert_eq!(trail.events().len(), cloud.len(), "no event is there twice");
    let (code, verified) = stack.keytrail(&["verify", "--json"]);
    assert_eq!(code, one.verify_json([""; 0]).0, "{verified}");

    // Indexed exactly once.
    let (code, said) = stack.keytrail(&["reconcile", "--elasticsearch", &engine.url()]);
    if code != Some(0) {
        // What was not indexed ahead of sealing is by the cursor.
        stack.call("index-events", &json!({}));
        let (code, said) = stack.keytrail(&["reconcile", "--elasticsearch", &engine.url()]);
        assert_eq!(code, Some(0), "{said}");
    } else {
        assert_eq!(code, Some(0), "{said}");
    }

    // Retention was set, and is read back; a locked version cannot be deleted.
    let object =
        aws.keys(&stack.archive()).into_iter().find(|key| key.starts_with("archive/")).expect("an object");
    let (status, headers) = aws.s3_headers("HEAD", &format!("{}/{object}", stack.archive()));
    assert_eq!((status, headers["x-amz-object-lock-mode"].as_str()), (200, "GOVERNANCE"));
    let version = &headers["x-amz-version-id"];
    let (status, _) = aws.s3_headers("DELETE", &format!("{}/{object}?versionId={version}", stack.archive()));
    assert_eq!(status, 403);

    // Compaction, and everything is still there.
    stack.run("seal", &json!({}));
    assert_eq!(uids(&stack.fetched()), cloud);

    // The weekly reports, signed and published with their digests.
    stack.run("weekly-report", &json!({}));
    let mut digests = Vec::new();
    loop {
        let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1});
        let answer = aws.call("sqs", "AmazonSQS.ReceiveMessage", &ask);
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            break;
        }
        for message in messages {
            let done = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
            aws.call("sqs", "AmazonSQS.DeleteMessage", &done);
            let notice: Value = serde_json::from_str(&text(&message["Body"])).expect("JSON");
            digests.push(serde_json::from_str::<Value>(&text(&notice["Message"])).expect("a digest"));
        }
    }
    let reports = stack.name("buckets", "reports");
    let published: BTreeSet<String> = digests.iter().map(|digest| text(&digest["week"])).collect();
    assert!(!published.is_empty() && published.len() == digests.len(), "one message a week: {digests:?}");
    for digest in &digests {
        let key = text(&digest["json"]).replace(&format!("s3://{reports}/"), "");
        let report = aws.object(&reports, &key);
        assert_eq!(Hash::of(&report).to_string(), text(&digest["sha256"]));
        let signature = text(&digest["signature"]).replace(&format!("s3://{reports}/"), "");
        let signed = String::from_utf8(aws.object(&reports, &signature)).expect("a note");
        assert!(
            signed.contains(&text(&digest["sha256"])) && signed.contains("\n\u{2014} keytrail.aws/"),
            "{signed}"
        );
    }
    // Nothing is due now.
    let again = stack.call("freeze-week", &json!({}));
    assert_eq!(again["week"], Value::Null);

    // A back-fill says what it costs before it begins; done twice, it adds nothing.
    let input = json!({"backfill": {"bucket": stack.raw(), "prefix": "incoming/"}, "dry_run": true});
    let planned = stack.run("backfill", &input);
    assert!(planned.to_string().contains("USD"), "{planned}");
    let input = json!({"backfill": {"bucket": stack.raw(), "prefix": "incoming/"}, "dry_run": false});
    stack.run("backfill", &input);
    stack.settle(shipped);
    assert_eq!(uids(&stack.fetched()), cloud);
    assert_eq!(stack.fetched().events().len(), cloud.len());

    // A batch that was parked goes on where somebody drives it again.
    let event = json!({
        "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
        "eventTime": "2023-07-01T11:42:20Z", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
        "awsRegion": "us-east-1", "recipientAccountId": "111122223333", "eventID": "parked",
    });
    aws.put_object(&stack.raw(), "staged/parked.ndjson", event.to_string().as_bytes());
    let input =
        json!({"batch": "parked", "objects": [{"bucket": stack.raw(), "key": "staged/parked.ndjson"}]});
    let parked = json!({"machine": "ingest", "input": input, "error": "Retryable.Store", "cause": "", "execution": ""});
    let send = json!({"QueueUrl": stack.name("queues", "parked"), "MessageBody": parked.to_string()});
    aws.call("sqs", "AmazonSQS.SendMessage", &send);
    stack.run("redrive", &json!({}));
    stack.settle(shipped + 1);
    assert_eq!(uids(&stack.fetched()).len(), cloud.len() + 1);
    // What fails for good is parked, with enough to be driven again.
    let start = json!({"stateMachineArn": stack.name("machines", "ingest"), "input": json!({"batch": 1}).to_string()});
    aws.call("states", "AWSStepFunctions.StartSyncExecution", &start);
    let parked = stack.parked();
    let body: Value = serde_json::from_str(&text(&parked["Messages"][0]["Body"])).expect("JSON");
    assert_eq!(
        (&body["machine"], &body["input"]["batch"], &body["error"]),
        (&json!("ingest"), &json!(1), &json!("Fatal.Input"))
    );

    // No function did what its role may not.
    stack.calls_are_covered();
}
