//! The adapters of AWS keep the contracts of their ports, against LocalStack, and those of S3 against MinIO, too.

use std::sync::Arc;
use std::time::Instant;

use keytrail_adapters::aws::Aws;
use keytrail_adapters::conformance::{blob_store, checkpoint_store, object_lock, raw_objects, stream};
use keytrail_adapters::local::SystemClock;
use keytrail_model::Timestamp;
use keytrail_ports::{
    BlobStore as _, Clock, Notice, Notifier as _, Put, Queue as _, RawObjects as _, Started, StoreError,
    Stream as _, Workflow as _,
};
use keytrail_tests::localstack::{LocalStack, name};
use keytrail_tests::s3;
use serde_json::{Value, json};

/// The account of a test of an S3, once with each maker's, and a bucket of it.
fn with_each_s3(test: &str) -> Option<(Aws, String)> {
    s3::with_each(test)?;
    let aws = Aws::from_environment().expect("a region");
    let bucket = name();
    aws.make_bucket(&bucket).expect("a bucket");
    Some((aws, bucket))
}

#[test]
fn a_bucket_is_a_store() {
    let Some((aws, bucket)) = with_each_s3("a_bucket_is_a_store") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    blob_store(&aws.store(&bucket, "a/b"), folder.path());
    assert!(aws.store(&bucket, "").list("").expect("a list").iter().all(|key| key.starts_with("a/b/")));
    let other = name();
    aws.make_bucket(&other).expect("a bucket");
    blob_store(&aws.store(&other, ""), folder.path());
    let put = aws.store(&name(), "").put_if_absent("a", b"x");
    assert!(matches!(&put, Err(StoreError::Fatal(m)) if m.contains("NoSuchBucket")), "{put:?}");
}

#[test]
fn an_object_is_a_checkpoint() {
    let Some((aws, bucket)) = with_each_s3("an_object_is_a_checkpoint") else { return };
    checkpoint_store(&|| Box::new(aws.checkpoint(&bucket, "trail/log-staging/lock")));
}

#[test]
fn what_is_locked_stays() {
    let Some((aws, bucket)) = with_each_s3("what_is_locked_stays") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    object_lock(&aws.store(&bucket, "a/trail"), &clock, folder.path());
}

#[test]
fn objects_of_others_are_read_and_marked() {
    let Some((aws, bucket)) = with_each_s3("objects_of_others_are_read_and_marked") else { return };
    raw_objects(&aws.objects(), &bucket, &name(), &|key, bytes| {
        aws.put_any(&bucket, key, bytes, "owner=team").expect("put");
    });
    let key = "tagged/object";
    aws.put_any(&bucket, key, b"x", "owner=team&keytrail=new").expect("put");
    let object = keytrail_ports::ObjectName { bucket: bucket.clone(), key: key.into(), version: None };
    aws.objects().mark_taken(&object).expect("marked");
    let tags = aws.tags(&bucket, key).expect("tags");
    assert_eq!(tags, [("keytrail".into(), "taken".into()), ("owner".into(), "team".into())]);
}

#[test]
fn an_object_is_put_once_whatever_its_bytes() {
    let Some((aws, bucket)) = with_each_s3("an_object_is_put_once_whatever_its_bytes") else { return };
    let store = aws.store(&bucket, "");
    let large = vec![0xA5; 17 << 20];
    assert_eq!(store.put_if_absent("large", &large), Ok(Put::Created));
    assert_eq!(store.put_if_absent("large", b"other"), Ok(Put::Exists));
    assert!(store.get("large") == Ok(Some(large)));
}

#[test]
fn a_stream_is_a_stream() {
    let Some(aws) = s3::with_localstack("a_stream_is_a_stream") else { return };
    let clients = Aws::from_environment().expect("a region");
    let name = aws.stream(3);
    stream(&clients.stream(&name), &|| aws.records(&name));
    let unput = clients.stream("there-is-none").put("key", &[b"x"]).expect_err("there is none");
    assert!(unput.durable == 0 && matches!(unput.error, StoreError::Fatal(_)), "{unput:?}");
}

#[test]
fn work_is_started_once() {
    let Some(aws) = s3::with_localstack("work_is_started_once") else { return };
    let machine = aws.json(
        "states",
        "AWSStepFunctions.CreateStateMachine",
        &json!({
            "name": name(), "roleArn": "arn:aws:iam::000000000000:role/r",
            "definition": r#"{"StartAt":"A","States":{"A":{"Type":"Pass","End":true}}}"#,
        }),
    );
    let machine = machine["stateMachineArn"].as_str().expect("an ARN");
    let workflow = Aws::from_environment().expect("a region").workflow();
    assert_eq!(workflow.start(machine, "one", r#"{"n":1}"#), Ok(Started::New));
    assert_eq!(workflow.start(machine, "one", r#"{"n":2}"#), Ok(Started::Before));
    assert_eq!(workflow.start(machine, "two", r#"{"n":2}"#), Ok(Started::New));
    for (machine, name, input) in [
        (format!("{machine}x"), "one", "{}".to_owned()),
        (machine.to_owned(), "three", format!("\"{}\"", "x".repeat(256 << 10))),
    ] {
        let wrong = workflow.start(&machine, name, &input);
        assert!(matches!(wrong, Err(StoreError::Fatal(_))), "{wrong:?}");
    }
}

/// A queue; its URL.
fn queue(aws: &LocalStack) -> String {
    let made = aws.json("sqs", "AmazonSQS.CreateQueue", &json!({"QueueName": name()}));
    made["QueueUrl"].as_str().expect("a URL").to_owned()
}

#[test]
fn a_message_is_taken_until_it_is_done() {
    let Some(aws) = s3::with_localstack("a_message_is_taken_until_it_is_done") else { return };
    let url = queue(&aws);
    let queue = Aws::from_environment().expect("a region").queue(&url);
    assert_eq!(queue.receive(10), Ok(vec![]));
    for n in 0..12 {
        let body = json!({"QueueUrl": url, "MessageBody": format!("message {n}"), "DelaySeconds": 0});
        let _sent = aws.json("sqs", "AmazonSQS.SendMessage", &body);
    }
    let (mut bodies, mut calls) = (Vec::new(), 0);
    while bodies.len() < 12 {
        let messages = queue.receive(10).expect("messages");
        assert!(messages.len() <= 10 && calls < 20);
        for message in messages {
            queue.done(&message.receipt).expect("done");
            bodies.push(message.body);
        }
        calls += 1;
    }
    bodies.sort_by_key(|body| body.len());
    assert_eq!((bodies[0].as_str(), bodies[11].as_str().len()), ("message 0", 10));
    assert_eq!(queue.receive(1), Ok(vec![]));
}

#[test]
fn subscribers_are_told() {
    let Some(aws) = s3::with_localstack("subscribers_are_told") else { return };
    let url = queue(&aws);
    let queue_name = url.rsplit('/').next().expect("a name");
    let topic = aws.sns(&format!("Action=CreateTopic&Name={}", name()));
    let topic =
        topic.split("<TopicArn>").nth(1).and_then(|t| t.split('<').next()).expect("an ARN").to_owned();
    let endpoint = format!("arn:aws:sqs:us-east-1:000000000000:{queue_name}");
    let _subscribed = aws.sns(&format!("Action=Subscribe&TopicArn={topic}&Protocol=sqs&Endpoint={endpoint}"));
    let clients = Aws::from_environment().expect("a region");
    let (sender, queue) = (clients.topic(&topic), clients.queue(&url));
    let told = || {
        let message = (0..20).find_map(|_| queue.receive(1).expect("messages").pop()).expect("a message");
        queue.done(&message.receipt).expect("done");
        serde_json::from_str::<Value>(&message.body).expect("JSON")
    };

    let body = r#"{"type":"keytrail.alert.v1","data":{"severity":"high","title":"a key was destroyed"}}"#;
    let notice = Notice { id: "alert_1", at: Timestamp(0), body: body.as_bytes() };
    sender.notify(&notice).expect("taken");
    let message = told();
    assert_eq!(
        (&message["Message"], &message["Subject"]),
        (&json!(body), &json!("keytrail high: a key was destroyed"))
    );
    assert_eq!(message["MessageAttributes"]["id"]["Value"], "alert_1");
    let id = sender.publish("the week 2026-W01", "all is good").expect("an id");
    assert_eq!((&told()["MessageId"], id.len()), (&json!(id), 36));

    let large = "x".repeat((256 << 10) + 1);
    assert!(matches!(sender.publish("large", &large), Err(StoreError::Fatal(_))));
    let refused = sender.notify(&Notice { body: large.as_bytes(), ..notice });
    assert!(matches!(refused, Err(keytrail_ports::NotifyError::Refused(_))), "{refused:?}");
}

#[test]
fn a_secret_is_read() {
    let Some(aws) = s3::with_localstack("a_secret_is_read") else { return };
    let made = aws.json(
        "secretsmanager",
        "secretsmanager.CreateSecret",
        &json!({"Name": name(), "SecretString": "{\"seed\":\"x\"}", "ClientRequestToken": name() + &name()}),
    );
    let clients = Aws::from_environment().expect("a region");
    assert_eq!(clients.secret(made["ARN"].as_str().expect("an ARN")), Ok(Some("{\"seed\":\"x\"}".into())));
    assert_eq!(clients.secret(&name()), Ok(None));
}

/// What a function does before its first event is paid for by every cold start.
#[test]
fn clients_are_made_in_little_time() {
    let Some(_aws) = s3::with_localstack("clients_are_made_in_little_time") else { return };
    let make = || {
        let begin = Instant::now();
        let aws = Aws::from_environment().expect("a region");
        let _all = (
            aws.store("b", ""),
            aws.checkpoint("b", "k"),
            aws.objects(),
            aws.workflow(),
            aws.queue("q"),
            aws.topic("t"),
            aws.stream("s"),
        );
        begin.elapsed()
    };
    let times = [make(), make(), make()];
    println!("{times:?}");
    // The debug build of the clients takes some times what the release build takes.
    assert!(times.iter().min().is_some_and(|t| t.as_millis() < 50), "{times:?}");
}
