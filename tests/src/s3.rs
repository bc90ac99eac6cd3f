//! Tests of S3, once with each maker's.
//!
//! What it is: Amazon's clients read the environment, which a process does not change for itself, so a test is run again
//! in processes that have it. What it is not: a client. In: the test's name. Out: whether this is such a process.

use std::env;
use std::process::Command;

use crate::localstack::LocalStack;
use crate::minio::Minio;

/// Whose S3 this process has.
#[derive(Clone)]
pub enum Maker {
    /// An emulation of AWS.
    LocalStack(LocalStack),
    /// Another maker's.
    Minio(Minio),
}

/// In a process that has an S3: which. Elsewhere runs the test of that name again, with one S3 and the other, and gives
/// nothing.
#[must_use]
pub fn with_each(test: &str) -> Option<Maker> {
    if let Some(maker) = here() {
        return Some(maker);
    }
    run_again(test, LocalStack::shared().childs_environment());
    run_again(test, Minio::shared().environment());
    None
}

/// As [`with_each`], with LocalStack alone.
#[must_use]
pub fn with_localstack(test: &str) -> Option<LocalStack> {
    match here() {
        Some(Maker::LocalStack(aws)) => Some(aws),
        _ => {
            run_again(test, LocalStack::shared().childs_environment());
            None
        }
    }
}

fn here() -> Option<Maker> {
    let has = |variable: &str| env::var_os(variable).is_some();
    if has("KEYTRAIL_LOCALSTACK_PORT") {
        Some(Maker::LocalStack(LocalStack::shared()))
    } else if has("KEYTRAIL_MINIO_PORT") {
        Some(Maker::Minio(Minio::shared()))
    } else {
        None
    }
}

fn run_again(test: &str, environment: Vec<(String, String)>) {
    let again = Command::new(env::current_exe().expect("the test"))
        .args([test, "--exact", "--nocapture"])
        .envs(environment)
        .status()
        .expect("it starts");
    assert!(again.success());
}
