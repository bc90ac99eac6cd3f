//! What the tests of the harness share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not every test needs all of it; these are helpers of tests, which clippy does not know as such"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use keytrail_lambda_harness::{Function, Harness};
use serde_json::Value;

/// Nothing here takes longer, even on a machine that is busy.
pub const LONG: Duration = Duration::from_secs(30);

/// An example of this crate: cargo builds them with the tests.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let path = path.join("examples").join(name);
    assert!(path.is_file(), "{} is missing; `cargo build --examples` makes it", path.display());
    path
}

pub fn function(name: &str) -> Function {
    Function::new(name, example("function")).timeout(LONG)
}

/// A harness with one function, `f`.
pub fn harness(function: Function) -> Harness {
    let harness = Harness::new().unwrap();
    harness.deploy(Function { name: "f".to_owned(), ..function }).unwrap();
    harness
}

/// Waits for a condition.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::yield_now();
    }
}

pub fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Batches that the function got, each a list of `data`.
pub fn batches(path: &Path) -> Vec<Vec<String>> {
    let data = |record: &Value| record["data"].as_str().unwrap().to_owned();
    let batch = |line: &String| {
        let batch: Value = serde_json::from_str(line).unwrap();
        batch.as_array().unwrap().iter().map(data).collect()
    };
    lines(path).iter().map(batch).collect()
}
