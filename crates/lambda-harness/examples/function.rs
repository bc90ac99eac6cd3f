//! A function that does what its event says, for the tests of the harness.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::{Value, json};

static COUNTER: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

fn main() -> Result<(), Error> {
    println!("init of the function");
    if let Ok(path) = std::env::var("INIT_LOG") {
        append(Path::new(&path), &format!("runtime {}", std::env::var("_HANDLER")?))?;
    }
    match std::env::var("INIT").unwrap_or_default().as_str() {
        "exit" => std::process::exit(3),
        "report" => {
            let body = r#"{"errorType":"Fatal.Config","errorMessage":"no key","stackTrace":[]}"#;
            misuse(&json!({"path": "/2018-06-01/runtime/init/error", "body": body}))?;
            std::process::exit(1);
        }
        "hang" => std::thread::sleep(Duration::from_secs(3600)),
        // The first environment that gets here fails, the second does not.
        "once" if fs::File::create_new(std::env::var("ONCE")?).is_ok() => std::process::exit(4),
        _ => {}
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        if let Ok(path) = std::env::var("GRACEFUL") {
            let goodbye = async move || drop(append(Path::new(&path), "goodbye"));
            lambda_runtime::spawn_graceful_shutdown_handler(goodbye).await;
        }
        run(service_fn(handle)).await
    })
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let LambdaEvent { payload, context } = event;
    let calls = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    if payload["Records"].is_array() && std::env::var("RECORDS").is_ok() {
        return records(&payload);
    }
    let number = |name: &str| payload[name].as_u64().unwrap_or(0);
    let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
    if let Some(path) = payload["mark"].as_str() {
        append(Path::new(path), &context.request_id)?;
    }
    match text("op").as_str() {
        "echo" => Ok(payload),
        "" => Ok(Value::Null),
        "calls" => Ok(json!(calls)),
        "log" => {
            println!("{}", text("text"));
            eprintln!("and on the other side");
            Ok(Value::Null)
        }
        "error" => Err(text("text").into()),
        "panic" => panic!("{}", text("text")),
        "exit" => std::process::exit(i32::try_from(number("code"))?),
        "abort" => std::process::abort(),
        "hang" => {
            println!("about to hang");
            std::thread::sleep(Duration::from_secs(3600));
            Ok(Value::Null)
        }
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            Ok(Value::Null)
        }
        // Tells that it is there, then waits for another file.
        "meet" => {
            append(Path::new(&text("here")), &context.request_id)?;
            while !Path::new(&text("there")).exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(json!(context.request_id))
        }
        "spin" => {
            let end = std::time::Instant::now() + Duration::from_millis(number("ms"));
            while std::time::Instant::now() < end {
                std::hint::spin_loop();
            }
            Ok(Value::Null)
        }
        "allocate" => {
            let bytes = vec![1u8; usize::try_from(number("mib"))? << 20];
            if payload["hold"] == true {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            Ok(json!(bytes.iter().map(|b| u64::from(*b)).sum::<u64>()))
        }
        "large" => Ok(Value::String("x".repeat(usize::try_from(number("bytes"))?))),
        // A thread that counts for ever; each call answers where it is.
        "count" => {
            if calls == 1 {
                std::thread::spawn(|| {
                    loop {
                        COUNTER.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_micros(100));
                    }
                });
            }
            Ok(json!(COUNTER.load(Ordering::SeqCst)))
        }
        "environment" => Ok(json!({
            "variables": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
            "folder": std::env::current_dir()?,
        })),
        "context" => Ok(json!({
            "id": context.request_id, "deadline": context.deadline, "arn": context.invoked_function_arn,
            "trace": context.xray_trace_id, "client": context.client_context,
        })),
        // What the Runtime API answers to one that does not keep to it.
        "misuse" => misuse(&payload),
        other => Err(format!("unknown op `{other}`").into()),
    }
}

/// An event of a stream or a queue: writes what it got to a file and fails where it is told to.
fn records(event: &Value) -> Result<Value, Error> {
    let log = std::env::var("RECORDS")?;
    let mut batch = Vec::new();
    let mut failures = Vec::new();
    let mut poisoned = false;
    for record in event["Records"].as_array().into_iter().flatten() {
        let (id, key, data) = if record["eventSource"] == "aws:kinesis" {
            let kinesis = &record["kinesis"];
            (&kinesis["sequenceNumber"], &kinesis["partitionKey"], &kinesis["data"])
        } else {
            (&record["messageId"], &record["attributes"]["ApproximateReceiveCount"], &record["body"])
        };
        batch.push(json!({"id": id, "key": key, "data": data}));
        // `poison`, as base64 has it and as it is.
        if data == "cG9pc29u" || data == "poison" {
            poisoned = true;
            failures.push(json!({"itemIdentifier": id}));
        }
    }
    append(Path::new(&log), &Value::Array(batch).to_string())?;
    match std::env::var("ANSWER").unwrap_or_default().as_str() {
        "report" => Ok(json!({"batchItemFailures": failures})),
        "fixed" => Ok(serde_json::from_str(&std::env::var("FIXED")?)?),
        "hang" => {
            std::thread::sleep(Duration::from_secs(3600));
            Ok(Value::Null)
        }
        _ if poisoned => Err("there is poison in it".into()),
        _ => Ok(Value::Null),
    }
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn misuse(payload: &Value) -> Result<Value, Error> {
    use std::io::Read as _;
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API")?;
    let (path, body) =
        (payload["path"].as_str().unwrap_or_default(), payload["body"].as_str().unwrap_or_default());
    let headers = payload["headers"].as_str().unwrap_or_default();
    let mut stream = std::net::TcpStream::connect(&address)?;
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default();
    Ok(json!({"status": status, "body": serde_json::from_str::<Value>(body)?}))
}
