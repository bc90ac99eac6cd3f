//! From the start of a function's process to its first question for an event, all clients built: CPU time against a
//! function in Python that builds one client, and instructions.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keytrail_lambda_harness::{Function, Harness};

use super::{PARQUET, REPORTS, SMALL, figure, largest};
use crate::bench::{Bar, Failure, Figure, Setting};
use crate::tools;

/// Starts of each function; the best counts.
const ROUNDS: usize = 7;

/// A function in Python.
const PYTHON: &str = "lambda_boto3.py";

/// What the template gives all functions together, and where they would find AWS: nobody asks it yet.
const ENVIRONMENT: [(&str, &str); 22] = [
    ("AWS_ACCESS_KEY_ID", "key"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_DEFAULT_REGION", "us-east-1"),
    ("AWS_LAMBDA_FUNCTION_NAME", "keytrail"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ("AWS_LAMBDA_LOG_GROUP_NAME", "group"),
    ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
    ("KEYTRAIL_DATA", "s3://archive"),
    ("KEYTRAIL_RAW", "s3://raw"),
    ("KEYTRAIL_KEYS", "arn:aws:secretsmanager:us-east-1:123456789012:secret:keys"),
    ("KEYTRAIL_INGEST", "arn:aws:states:us-east-1:123456789012:stateMachine:ingest"),
    ("KEYTRAIL_BACKFILL", "arn:aws:states:us-east-1:123456789012:stateMachine:backfill"),
    ("KEYTRAIL_PARKED", "https://sqs.us-east-1.amazonaws.com/123456789012/parked"),
    ("KEYTRAIL_TOPIC", "arn:aws:sns:us-east-1:123456789012:alerts"),
    ("KEYTRAIL_REPORT_TOPIC", "arn:aws:sns:us-east-1:123456789012:reports"),
    ("KEYTRAIL_REPORTS", "s3://reports"),
    ("KEYTRAIL_ELASTICSEARCH", "https://search.example.com"),
    ("KEYTRAIL_LOCK", "GOVERNANCE"),
    ("KEYTRAIL_LOCK_DAYS", "7"),
    ("KEYTRAIL_OPEN_MINUTES", "15"),
];

/// Prints the CPU seconds of a process, of threads that ended, too, by its clock (clock_getcpuclockid(3)).
const CPU_CLOCK: &str = "import sys, time; print(time.clock_gettime(~int(sys.argv[1]) << 3 | 2))";

/// Runs this part.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let harness = Harness::new()?;
    let (mut times, mut counts) = (Vec::new(), Vec::new());
    for name in SMALL.into_iter().chain(PARQUET).chain(REPORTS) {
        let program = tools::lambda(name);
        times.push((name, 1e3 * seconds(&harness, Function::new(name, &program))?));
        counts.push((name, instructions(&program)? / 1e6));
    }
    let slowest = times.iter().map(|(_, milliseconds)| *milliseconds).fold(0.0, f64::max);
    let mut python = Function::new("python", tools::localstack().join("venv/bin/python"));
    python.arguments.push(setting.peers.join(PYTHON).to_string_lossy().into_owned());
    let python = 1e3 * seconds(&harness, python)?;
    let mut figures = largest(setting, "init, CPU", "ms", Bar::AtMost(3.0), times);
    figures.extend(largest(setting, "init", "M instructions", Bar::AtMost(8.0), counts));
    let against = figure("init, Python with S3 alone", python, "ms", Some(slowest), Some(Bar::AtLeast(20.0)));
    figures.push(against);
    Ok(figures)
}

/// CPU time of a process that waits for its first event.
fn seconds(harness: &Harness, mut function: Function) -> Result<f64, Failure> {
    for (name, value) in ENVIRONMENT {
        function = function.variable(name, value);
    }
    let function = function.timeout(Duration::from_secs(10));
    let name = function.name.clone();
    harness.deploy(function)?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        harness.warm(&name, 1)?;
        best = best.min(spent(harness, &name)?);
        harness.retire(&name)?;
    }
    Ok(best)
}

/// CPU seconds that the one idle environment of a function has taken.
pub fn spent(harness: &Harness, name: &str) -> Result<f64, Failure> {
    let idle = harness.idle(name)?;
    let [(processes, _)] = &idle[..] else {
        return Err(format!("{name}: expected one environment").into());
    };
    let read = Command::new("python3").args(["-c", CPU_CLOCK]).arg(processes[0].to_string()).output()?;
    Ok(String::from_utf8_lossy(&read.stdout).trim().parse()?)
}

/// Instructions of a process up to there, as callgrind counts them.
fn instructions(program: &Path) -> Result<f64, Failure> {
    let scratch = tempfile::tempdir()?;
    let out = scratch.path().join("callgrind");
    let api = TcpListener::bind("127.0.0.1:0")?;
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", out.display())).arg(program);
    command.env_clear().envs(ENVIRONMENT).env("AWS_LAMBDA_RUNTIME_API", api.local_addr()?.to_string());
    command.env("PATH", "/usr/bin:/bin").env("TMPDIR", scratch.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let asked = next(&api);
    Command::new("kill").arg(child.id().to_string()).status()?;
    child.wait()?;
    asked?;
    let text = fs::read_to_string(out)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals:").or(line.strip_prefix("summary:")));
    Ok(total.ok_or("callgrind gave no count")?.trim().parse()?)
}

/// Waits for the question.
fn next(api: &TcpListener) -> Result<(), Failure> {
    let (mut stream, _) = api.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Err("the function asked for nothing".into()),
            n => asked.extend_from_slice(&bytes[..n]),
        }
    }
    let asked = String::from_utf8_lossy(&asked).into_owned();
    if asked.contains("/2018-06-01/runtime/invocation/next") { Ok(()) } else { Err(asked.into()) }
}
