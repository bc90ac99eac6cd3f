//! The cloud path in the harness: the real functions, over S3, Secrets Manager, SQS and Step Functions of LocalStack, or over
//! S3 of MinIO and the others of LocalStack.
//!
//! What it is: buckets, keys and queues of one test, the functions of `crates/lambdas` deployed to a harness with the
//! environment that the template gives them, and the state machines `ingest` and `backfill` cut short: an execution hands
//! its input to a queue, and the test says when, how often and whether the functions get it. In: raw objects, streams,
//! faults. Out: a trail in a bucket, which can be fetched into a folder and held against the one-machine path.

use std::fs;
use std::time::Duration;

use keytrail_lambda_harness::{Function, Harness, Invocation};
use serde_json::{Value, json};

use crate::localstack::{LocalStack, name};
use crate::minio::Minio;
use crate::s3::Maker;
use crate::tools;
use crate::trail::Trail;

/// Where the trail's private keys come from: a seed, as the template makes one.
const SEED: &str = "a seed of the tests, and of nothing else: 0123456789abcdef";

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A small cloud.
pub struct Cloud {
    /// What it stands on.
    pub aws: LocalStack,
    /// Whose buckets it has.
    pub s3: Maker,
    /// Where functions run.
    pub harness: Harness,
    /// The bucket of the trail.
    pub archive: String,
    /// The bucket of raw objects.
    pub raw: String,
    /// The queue of what executions of `ingest` were started with.
    started: String,
    /// And those of `backfill`.
    large: String,
    ingest: String,
    backfill: String,
    secret: String,
    environment: Vec<(String, String)>,
}

impl Cloud {
    /// One with the functions of ingest and seal.
    #[must_use]
    pub fn new() -> Self {
        let aws = LocalStack::shared();
        let s3 = aws.url();
        Self::with_s3_at(&s3)
    }

    /// The same, whose functions reach S3 at another address.
    #[must_use]
    pub fn with_s3_at(s3: &str) -> Self {
        let aws = LocalStack::shared();
        let environment = aws.whole_environment(s3);
        Self::with(Maker::LocalStack(aws), environment)
    }

    /// One whose S3 is MinIO, for benches: it takes little of what the functions are measured beside.
    #[must_use]
    pub fn on_minio() -> Self {
        let minio = Minio::shared();
        let mut environment = minio.environment();
        environment.push(("AWS_ENDPOINT_URL".to_owned(), LocalStack::shared().url()));
        // It asks who gave the token that functions have.
        environment.push(("AWS_SESSION_TOKEN".to_owned(), String::new()));
        Self::with(Maker::Minio(minio), environment)
    }

    fn with(s3: Maker, environment: Vec<(String, String)>) -> Self {
        let aws = LocalStack::shared();
        let (archive, raw) = match &s3 {
            Maker::LocalStack(aws) => (aws.locking_bucket(), aws.bucket()),
            Maker::Minio(minio) => (minio.locking_bucket(), minio.bucket()),
        };
        let queue = |aws: &LocalStack| {
            let made = aws.call("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": name()}));
            made["QueueUrl"].as_str().expect("a URL").to_owned()
        };
        let machine = |aws: &LocalStack, queue: &str| {
            let hand = json!({"StartAt": "Hand", "States": {"Hand": {
                "Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage", "End": true,
                "Parameters": {"QueueUrl": queue, "MessageBody.$": "$"},
            }}});
            let machine = json!({
                "name": name(), "definition": hand.to_string(), "roleArn": "arn:aws:iam::000000000000:role/states",
            });
            let machine = aws.call("states", "AWSStepFunctions.CreateStateMachine", &machine);
            machine["stateMachineArn"].as_str().expect("an ARN").to_owned()
        };
        let (started, large) = (queue(&aws), queue(&aws));
        let (ingest, backfill) = (machine(&aws, &started), machine(&aws, &large));
        let token = format!("{:0>36}", name());
        let secret = json!({
            "Name": name(), "SecretString": json!({"seed": SEED}).to_string(), "ClientRequestToken": token,
        });
        let secret = aws.call("secretsmanager", "secretsmanager.CreateSecret", &secret);
        let secret = secret["ARN"].as_str().expect("an ARN").to_owned();
        let harness = Harness::new().expect("a harness");
        let cloud =
            Self { aws, s3, harness, archive, raw, started, large, ingest, backfill, secret, environment };
        for name in [
            "stage-records",
            "stage-objects",
            "archive-events",
            "seal-archive",
            "compact-archive",
            "sweep-raw",
        ] {
            cloud.deploy(cloud.function(name));
        }
        cloud
    }

    /// A function with the environment that the template gives it.
    #[must_use]
    pub fn function(&self, name: &str) -> Function {
        let mut function = Function::new(name, tools::lambda(name)).timeout(TIMEOUT).memory_mib(1024);
        for (variable, value) in &self.environment {
            function = function.variable(variable, value);
        }
        let (data, raw) = (format!("s3://{}", self.archive), format!("s3://{}", self.raw));
        function
            .variable("KEYTRAIL_DATA", data)
            .variable("KEYTRAIL_RAW", raw)
            .variable("KEYTRAIL_KEYS", &self.secret)
            .variable("KEYTRAIL_INGEST", &self.ingest)
            .variable("KEYTRAIL_BACKFILL", &self.backfill)
            .variable("KEYTRAIL_LOCK", "GOVERNANCE")
            .variable("KEYTRAIL_LOCK_DAYS", "1")
            .variable("KEYTRAIL_OPEN_MINUTES", "0")
    }

    /// Puts a function in place of the one of its name.
    pub fn deploy(&self, function: Function) {
        self.harness.redeploy(function);
    }

    /// Calls a function, which must not fail; its answer.
    #[track_caller]
    pub fn call(&self, name: &str, event: &Value) -> Value {
        let done = self.try_call(name, event);
        assert!(done.function_error.is_none(), "{name}: {}\n{}", done.json(), done.log);
        done.json()
    }

    /// Calls a function.
    #[track_caller]
    pub fn try_call(&self, name: &str, event: &Value) -> Invocation {
        let done = self.harness.invoke(name, event.to_string());
        done.unwrap_or_else(|e| panic!("{name}: {e:?}"))
    }

    /// Puts a raw object as somebody else's service does; its reference.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Value {
        match &self.s3 {
            Maker::LocalStack(aws) => aws.put_object(&self.raw, key, bytes),
            Maker::Minio(minio) => minio.put_object(&self.raw, key, bytes),
        }
        json!({"bucket": self.raw, "key": key, "bytes": bytes.len()})
    }

    /// The message of S3 about raw objects, in a queue's event.
    #[must_use]
    pub fn notification(&self, id: &str, objects: &[(&str, usize)]) -> Value {
        let record = |(key, size): &(&str, usize)| {
            json!({
                "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1",
                "eventTime": "2026-01-01T00:00:00.000Z", "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:1"}, "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "1", "x-amz-id-2": "1"},
                "s3": {"s3SchemaVersion": "1.0", "configurationId": "c",
                    "bucket": {"name": self.raw, "ownerIdentity": {"principalId": "1"}, "arn": format!("arn:aws:s3:::{}", self.raw)},
                    "object": {"key": key, "size": size, "eTag": "e", "sequencer": "1"}},
            })
        };
        let body = json!({"Records": objects.iter().map(record).collect::<Vec<_>>()});
        json!({"Records": [{
            "messageId": id, "receiptHandle": "r", "body": body.to_string(), "attributes": {}, "messageAttributes": {},
            "md5OfBody": "0", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:q", "awsRegion": "us-east-1",
        }]})
    }

    /// What executions were started with since the last call; at least so many.
    #[must_use]
    pub fn started(&self, at_least: usize) -> Vec<Value> {
        self.inputs(&self.started, at_least)
    }

    /// What executions of `backfill` were started with.
    #[track_caller]
    pub fn back_filled(&self, at_least: usize) -> Vec<Value> {
        self.inputs(&self.large, at_least)
    }

    #[track_caller]
    fn inputs(&self, queue: &str, at_least: usize) -> Vec<Value> {
        let mut inputs = Vec::new();
        loop {
            let wait = if inputs.len() < at_least { 10 } else { 0 };
            let ask = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": wait});
            let answer = self.aws.call("sqs", "AmazonSQS.ReceiveMessage", &ask);
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                assert!(
                    inputs.len() >= at_least,
                    "{} executions were started, expected {at_least}",
                    inputs.len()
                );
                return inputs;
            }
            for message in messages {
                let done = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
                self.aws.call("sqs", "AmazonSQS.DeleteMessage", &done);
                inputs.push(serde_json::from_str(message["Body"].as_str().expect("a body")).expect("JSON"));
            }
        }
    }

    /// Archives a batch, and what it leaves, as the state machine does.
    #[track_caller]
    pub fn archive(&self, input: &Value) -> Vec<Value> {
        let mut answers = vec![self.call("archive-events", input)];
        while answers.last().is_some_and(|answer| answer["more"] == true) {
            let next = answers.last().map(|answer| answer["next"].clone()).unwrap_or_default();
            answers.push(self.call("archive-events", &next));
        }
        answers
    }

    /// Seals what is pending.
    #[track_caller]
    pub fn seal(&self) -> Value {
        self.call("seal-archive", &json!({}))
    }

    /// Raw objects that no sealed manifest names.
    #[must_use]
    pub fn open(&self) -> usize {
        match &self.s3 {
            Maker::LocalStack(aws) => {
                aws.keys(&self.raw).iter().filter(|key| key.starts_with("open/")).count()
            }
            Maker::Minio(minio) => minio.keys(&self.raw, "open/").len(),
        }
    }

    /// The trail, fetched into a folder.
    #[must_use]
    pub fn fetched(&self) -> Trail {
        let trail = Trail::new();
        let objects = match &self.s3 {
            Maker::LocalStack(aws) => aws.objects(&self.archive).into_iter().collect(),
            Maker::Minio(minio) => {
                let object = |key: String| (key.clone(), minio.object(&self.archive, &key));
                minio.keys(&self.archive, "").into_iter().map(object).collect::<Vec<_>>()
            }
        };
        for (key, bytes) in objects {
            let path = trail.data().join(key);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("written");
        }
        trail
    }
}

impl Default for Cloud {
    fn default() -> Self {
        Self::new()
    }
}
