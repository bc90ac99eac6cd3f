//! The programs of `tests/oracles/`: readers and judges that nobody here wrote, driven from Python.
//!
//! What it is: how a test runs one. What it is not: a judge itself. In: arguments. Out: figures; a finding
//! of an oracle fails the test with what it printed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::tools;
use crate::trail::Ran;

/// Runs `tests/oracles/<name>.py ARGS...` in a folder; what it printed.
///
/// # Panics
/// With what it printed, if it found something wrong.
#[track_caller]
pub fn oracle_in<A: AsRef<OsStr>>(folder: &Path, name: &str, args: impl IntoIterator<Item = A>) -> Ran {
    let script = tools::root().join(format!("tests/oracles/{name}.py"));
    let output = Command::new(tools::python())
        .arg(script)
        .args(args)
        .current_dir(folder)
        // Times are asked for in UTC, and nothing is written beside the scripts.
        .env("TZ", "UTC")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python starts");
    Ran::from(output).success()
}

/// As [`oracle_in`], in the checkout; the figures that it printed as JSON.
///
/// # Panics
/// With what it printed, if it found something wrong.
#[track_caller]
pub fn oracle<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Value {
    oracle_in(&tools::root(), name, args).json()
}
