//! Each task of each machine after each error that it tries again, and what becomes of those that it does not: the real
//! interpreter, the real functions, and errors in their place before or after they did their work.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use keytrail_model::time::{day_name, day_number};
use keytrail_tests::localstack::LocalStack;
use keytrail_tests::search_server::SearchServer;
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, number, text};
use serde_json::{Value, json};

use crate::stack::{LIMIT, Stack};

/// Weeks that events are of: one for each error, so that each task of the weekly report meets all of them in one execution.
const WEEKS: usize = 22;

/// A task that calls a function.
#[derive(Debug)]
struct Task {
    state: String,
    function: String,
    /// Errors after which it is tried again.
    retried: Vec<String>,
    /// Errors that are caught by name.
    caught: Vec<String>,
}

/// The tasks of a machine, in the order of its file.
fn tasks(machine: &str) -> Vec<Task> {
    let path = tools::root().join(format!("statemachines/{machine}.asl.json"));
    let definition: Value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
    let mut tasks = Vec::new();
    collect(&definition, &mut tasks);
    tasks
}

fn collect(definition: &Value, tasks: &mut Vec<Task>) {
    let errors = |state: &Value, of: &str| {
        let entries = state[of].as_array().cloned().unwrap_or_default();
        let named = entries.iter().filter_map(|entry| entry["ErrorEquals"].as_array().cloned()).flatten();
        // `States.Timeout` is the interpreter's own: no function can end so, and it comes after minutes.
        let is_functions = |error: &String| !error.starts_with("States.");
        named.map(|error| text(&error)).filter(is_functions).collect()
    };
    for (name, state) in definition["States"].as_object().expect("states") {
        if state["Resource"] == "arn:aws:states:::lambda:invoke" {
            let called = text(&state["Parameters"]["FunctionName"]);
            let called = called.trim_start_matches("${").trim_end_matches('}');
            let mut function = String::new();
            for c in called.chars() {
                if c.is_ascii_uppercase() && !function.is_empty() {
                    function.push('-');
                }
                function.push(c.to_ascii_lowercase());
            }
            let (retried, caught) = (errors(state, "Retry"), errors(state, "Catch"));
            tasks.push(Task { state: name.clone(), function, retried, caught });
        }
        collect_inner(state, tasks);
    }
}

fn collect_inner(state: &Value, tasks: &mut Vec<Task>) {
    for branch in state["Branches"].as_array().into_iter().flatten().chain(state.get("ItemProcessor")) {
        collect(branch, tasks);
    }
}

fn task<'t>(tasks: &'t [Task], state: &str) -> &'t Task {
    tasks.iter().find(|task| task.state == state).unwrap_or_else(|| panic!("no task {state} in {tasks:?}"))
}

/// The stack, and what was given to it.
struct Driven {
    stack: Stack,
    given: Cell<usize>,
    /// Errors that tasks met, by machine.
    met: Cell<usize>,
}

/// Two events of a week: one that no other object holds, and one that the object before holds, too.
fn events(n: usize) -> String {
    let event = |n: usize| {
        let first = day_number("2023-01-03").expect("a day");
        let date = day_name(first + 7 * (n % WEEKS) as i64);
        let event = json!({
            "eventVersion": "1.08", "userIdentity": {"type": "Root", "accountId": "111122223333"},
            "eventTime": format!("{date}T10:00:00Z"), "eventSource": "kms.amazonaws.com",
            "eventName": "Decrypt", "awsRegion": "us-east-1", "recipientAccountId": "111122223333",
            "eventID": format!("event-{n}"),
        });
        format!("{event}\n")
    };
    event(n) + &n.checked_sub(1).map(event).unwrap_or_default()
}

impl Driven {
    /// Puts an object that nobody is told of; its name.
    fn object(&self, prefix: &str) -> Value {
        let n = self.given.replace(self.given.get() + 1);
        let key = format!("staged/{prefix}{n}.ndjson");
        self.stack.aws.put_object(&self.stack.raw(), &key, events(n).as_bytes());
        json!({"bucket": self.stack.raw(), "key": key})
    }

    fn batch(&self) -> Value {
        let object = self.object("");
        json!({"batch": format!("batch-{}", self.given.get()), "objects": [object]})
    }

    /// The next invocations of a function end so: `None` as they do, else with an error before their work, or after it.
    fn fail(&self, function: &str, next: &[Option<(&str, bool)>]) {
        let folder = self.stack.aws.faults();
        let line = |next: &Option<(&str, bool)>| match next {
            None => "pass\n".to_owned(),
            Some((error, worked)) => format!("{error} {}\n", if *worked { "after" } else { "before" }),
        };
        let lines: String = next.iter().map(line).collect();
        fs::write(folder.join(self.stack.name("functions", function)), lines).expect("written");
        self.met.set(self.met.get() + next.iter().flatten().count());
    }

    /// The `n`th error of a task, every other one after its work; none where it has no more.
    fn fail_nth(&self, task: &Task, n: usize) {
        if let Some(error) = task.retried.get(n) {
            self.fail(&task.function, &[Some((error, n % 2 == 1))]);
        }
    }

    /// No function has an error before it.
    #[track_caller]
    fn all_met(&self) {
        let left: Vec<_> = fs::read_dir(self.stack.aws.faults()).expect("a folder").collect();
        assert!(left.is_empty(), "not called: {left:?}");
    }
}

#[test]
fn each_task_is_tried_again_after_each_error() {
    let engine = SearchServer::elasticsearch();
    // Silence is looked for, too.
    let aws = LocalStack::shared();
    let bucket = aws.bucket();
    let config = "[index]\nnamespace = \"retries\"\n[[sources]]\nname = \"staged\"\ndataset = \"aws.cloudtrail\"\n\
                  location = \"s3://elsewhere/other/\"\nlongest_silence = \"1h\"\n";
    aws.put_object(&bucket, "keytrail.toml", config.as_bytes());
    let stack = Stack::deploy(
        "retries",
        &[
            format!("ElasticsearchUrl={}", engine.url()),
            format!("ConfigObjectArn=arn:aws:s3:::{bucket}/keytrail.toml"),
            "LockMode=GOVERNANCE".to_owned(),
        ],
    );
    let driven = Driven { stack, given: Cell::new(0), met: Cell::new(0) };
    let stack = &driven.stack;
    let [ingest, seal, sweep, backfill, weekly, redrive] =
        ["ingest", "seal", "sweep", "backfill", "weekly-report", "redrive"].map(tasks);

    // Each round archives an object and seals it.
    for n in 0..task(&ingest, "ArchiveEvents").retried.len() {
        ingest.iter().for_each(|task| driven.fail_nth(task, n));
        let done = stack.run("ingest", &driven.batch());
        assert!(done.get("failure").is_none(), "{done}");
        driven.all_met();
        seal.iter().for_each(|task| driven.fail_nth(task, n));
        stack.run("seal", &json!({}));
        driven.all_met();
    }
    for n in 0..sweep[0].retried.len() {
        driven.fail_nth(&sweep[0], n);
        stack.run("sweep", &json!({}));
        driven.all_met();
    }
    for n in 0..backfill.iter().map(|task| task.retried.len()).max().unwrap_or_default() {
        driven.fail_nth(task(&backfill, "ArchiveEvents"), n);
        stack.run("backfill", &driven.batch());
        driven.all_met();
        let prefix = format!("back-{n}-");
        driven.object(&prefix);
        driven.fail_nth(task(&backfill, "StageObjects"), n);
        driven.fail_nth(task(&backfill, "ArchiveEventsOfBatch"), n);
        let prefix = format!("staged/{prefix}");
        stack.run(
            "backfill",
            &json!({"backfill": {"bucket": stack.raw(), "prefix": prefix}, "dry_run": false}),
        );
        driven.all_met();
    }

    // What is not tried again is parked, or ends the execution under its name; some of it: a name is like the other.
    let archive = task(&ingest, "ArchiveEvents");
    for error in archive.caught.iter().filter(|error| !archive.retried.contains(error)).step_by(3) {
        driven.fail("archive-events", &[Some((error, false))]);
        stack.run("ingest", &driven.batch());
        driven.all_met();
    }
    for (machine, task) in [
        ("seal", task(&seal, "SealArchive")),
        ("sweep", &sweep[0]),
        ("weekly-report", task(&weekly, "FreezeWeek")),
        ("redrive", &redrive[0]),
    ] {
        for error in task.caught.iter().filter(|error| !task.retried.contains(error)).step_by(7) {
            driven.fail(&task.function, &[Some((error, false))]);
            let is = stack.execute(machine, &json!({}));
            assert_eq!((&is["status"], &is["error"]), (&json!("FAILED"), &json!(error)), "{machine}: {is}");
            driven.all_met();
        }
    }
    for n in 0..redrive[0].retried.len() {
        driven.fail_nth(&redrive[0], n);
        stack.run("redrive", &json!({}));
        driven.all_met();
    }
    // What was parked is in the path again: nothing is left out.
    stack.run("redrive", &json!({}));
    let expected = driven.given.get() as u64;
    let rows = || {
        number(
            &serde_json::from_str::<Value>(&stack.keytrail(&["verify", "--json"]).1).expect("JSON")["rows"],
        )
    };
    let begin = Instant::now();
    while rows() < expected {
        assert!(begin.elapsed() < LIMIT, "{} of {expected}, parked: {}", rows(), stack.parked());
        stack.run("seal", &json!({}));
    }

    // All weeks are due: each task meets one error in each.
    for task in &weekly {
        let errors = task.retried.iter().enumerate();
        let next: Vec<_> = errors.flat_map(|(n, error)| [Some((error.as_str(), n % 2 == 1)), None]).collect();
        assert_eq!(next.len(), 2 * WEEKS, "{task:?}");
        driven.fail(&task.function, &next);
    }
    stack.run("weekly-report", &json!({}));
    driven.all_met();

    // Nothing is lost, nothing is there twice, and all of it is proven, indexed and reported.
    let (trail, one) = (stack.fetched(), Trail::new());
    let inputs: Vec<_> =
        (0..driven.given.get()).map(|n| one.input(&format!("{n}.ndjson"), events(n))).collect();
    one.run_json(&inputs);
    assert_eq!(trail.events(), one.events());
    let (code, verified) = stack.keytrail(&["verify", "--json"]);
    assert_eq!(code, Some(0), "{verified}");
    stack.call("index-events", &json!({}));
    let config = trail.data().join("keytrail.toml");
    fs::write(&config, "[index]\nnamespace = \"retries\"\n").expect("written");
    let config = config.display().to_string();
    let (code, said) = stack.keytrail(&["reconcile", "--elasticsearch", &engine.url(), "--config", &config]);
    assert_eq!(code, Some(0), "{said}");
    let index = stack.aws.object(&stack.archive(), "reports/index.json");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let mut reports: BTreeMap<String, usize> = BTreeMap::new();
    for report in index["reports"].as_array().expect("a list") {
        *reports.entry(text(&report["week"])).or_default() += 1;
    }
    assert_eq!((reports.len(), reports.values().max()), (WEEKS, Some(&1)), "{index}");
    assert!(driven.met.get() >= 290, "{} errors", driven.met.get());
    stack.calls_are_covered();
}
