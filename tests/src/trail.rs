//! A trail of its own for a test: a data folder and a key folder that go when the test ends, and the
//! `keytrail` commands on them.
//!
//! What it is: how a user's terminal looks to a test. What it is not: no code of the product; what is
//! asserted comes from exit codes, printed text and JSON, and the files.
//! In: arguments. Out: exit codes, text, JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::load::files::{self, Layout};
use crate::load::{Format, Load, Records};
use crate::tools;

/// 2024-01-01.
const LOAD_START_MICROS: i64 = 1_704_067_200_000_000;

const DAY_MICROS: i64 = 86_400_000_000;

/// A data folder (`data/`) and the folder of its keys (`keys/`), side by side in a temporary folder.
pub struct Trail {
    folder: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Default for Trail {
    fn default() -> Self {
        Self::new()
    }
}

impl Trail {
    /// A trail that does not exist yet: its data folder is not there, its key folder is empty.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("keys")).expect("a folder for keys");
        Self { folder }
    }

    /// A copy of this trail, data and keys, byte for byte: to damage, or to go back to.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::new();
        copy_folder(&self.keys(), &copy.keys());
        if self.data().exists() {
            copy_folder(&self.data(), &copy.data());
        }
        copy
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder of the signing and mask keys, outside the data folder.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    /// A path beside data and keys, for inputs and what a test keeps: it goes with the trail.
    #[must_use]
    pub fn aside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an input beside data and keys; its path.
    pub fn input(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.aside(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("its folder is made");
        fs::write(&path, bytes).expect("an input is written");
        path
    }

    /// An input file of two events without a place in time: no time at all, and one before 2006.
    #[must_use]
    pub fn undated(&self) -> PathBuf {
        let event = |id: &str, time: Option<&str>| {
            let mut event = json!({
                "eventVersion": "1.08", "eventSource": "kms.amazonaws.com", "eventName": "Decrypt",
                "awsRegion": "eu-west-1", "eventType": "AwsApiCall", "eventID": id,
                "recipientAccountId": "111122223333",
                "userIdentity": {"type": "IAMUser", "principalId": "P", "userName": "Alice"},
            });
            if let Some(time) = time {
                event["eventTime"] = time.into();
            }
            event.to_string()
        };
        self.input("undated.ndjson", [event("a", None), event("b", Some("1999-12-31T23:59:59Z"))].join("\n"))
    }

    /// An input file of CloudTrail-like events, evenly over some days that are counted from 2024-01-01.
    #[must_use]
    pub fn load(&self, seed: u64, first_day: i64, days: u32, events: u64) -> PathBuf {
        let load = Load {
            seed,
            format: Format::Cloudtrail,
            events,
            start_micros: LOAD_START_MICROS + first_day * DAY_MICROS,
            days,
            shuffle: false,
            replay_percent: 0,
            late_percent: 0,
        };
        let mut bytes = Vec::new();
        files::write(&mut Records::new(load), events, Layout::Records, &mut bytes)
            .expect("written to memory");
        self.input(&format!("load-{seed}-{first_day}.json"), bytes)
    }

    /// `keytrail ARGS...` with `KEYTRAIL_DATA` and `KEYTRAIL_KEY_DIR` set to this trail; not started.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(tools::keytrail());
        command
            .args(args)
            .env("KEYTRAIL_DATA", self.data())
            .env("KEYTRAIL_KEY_DIR", self.keys())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs `keytrail ARGS...` to its end.
    pub fn keytrail<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.command(args).output().expect("keytrail starts").into()
    }

    /// Runs `keytrail ARGS...` with these bytes on standard input.
    pub fn keytrail_fed<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &[u8]) -> Ran {
        fed(&mut self.command(args), input)
    }

    /// `keytrail run ARGS...` (inputs and options).
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.keytrail(with("run", args))
    }

    /// `keytrail run --json ARGS...`, which must exit with 0; its summary.
    pub fn run_json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        self.keytrail(with("run", args).into_iter().chain(["--json".into()])).success().json()
    }

    /// `keytrail verify`.
    pub fn verify(&self) -> Ran {
        self.keytrail(["verify"])
    }

    /// `keytrail verify --json ARGS...`: its exit code and report.
    pub fn verify_json<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> (Option<i32>, Value) {
        let ran = self.keytrail(with("verify", args).into_iter().chain(["--json".into()]));
        (ran.code, ran.json())
    }

    /// The log's verifier keys, written to a file beside the data, as an auditor has them from elsewhere.
    pub fn trusted_keys(&self) -> PathBuf {
        let keys = self.keytrail(["log", "key"]).success();
        self.input("trusted.keys", keys.stdout)
    }

    /// Every file of the data folder and its SHA-256, by path in the data folder.
    #[must_use]
    pub fn files(&self) -> BTreeMap<String, String> {
        let hash = |name: &str| hex(&Sha256::digest(fs::read(self.data().join(name)).expect("readable")));
        self.names().into_iter().map(|name| (name.clone(), hash(&name))).collect()
    }

    /// Every file of the data folder, by path in it, sorted folder by folder.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let data = self.data();
        let mut names = Vec::new();
        walk(&data, &mut |path| {
            names.push(path.strip_prefix(&data).expect("below it").to_str().expect("UTF-8").to_owned());
        });
        names
    }

    /// The archive's objects, by path in the data folder.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| name.starts_with("archive/") && name.ends_with(".parquet"));
        names
    }

    /// Rows of an SQL query by DuckDB, which knows nothing of keytrail: `{archive}` in it stands for the
    /// archive's files as a table. One object a row, by the columns' names.
    pub fn query(&self, sql: &str) -> Vec<Value> {
        self.queries(&[sql.to_owned()]).pop().expect("one statement")
    }

    /// The rows of each of some statements, one after another in one session; none of those that make a table.
    pub fn queries(&self, statements: &[String]) -> Vec<Vec<Value>> {
        // DuckDB shows its progress on standard output.
        const SCRIPT: &str = "import sys, json, duckdb\n\
            duckdb.sql('SET enable_progress_bar = false')\n\
            for sql in json.load(sys.stdin):\n    \
              q = duckdb.sql(sql)\n    \
              rows = [dict(zip(q.columns, row)) for row in q.fetchall()] if q else []\n    \
              print(json.dumps(rows, default=str))\n";
        let table = format!(
            "read_parquet('{}/archive/**/*.parquet', hive_partitioning=true, union_by_name=true, \
             hive_types={{'day': VARCHAR}})",
            self.data().display()
        );
        let statements: Vec<String> = statements.iter().map(|sql| sql.replace("{archive}", &table)).collect();
        let mut python = Command::new(tools::python());
        let ran = fed(python.args(["-c", SCRIPT]), json!(statements).to_string().as_bytes()).success();
        ran.stdout.lines().map(|rows| serde_json::from_str(rows).expect("JSON")).collect()
    }

    /// The log's entries at its published checkpoint, read as any reader of `tlog-tiles` would.
    #[must_use]
    pub fn manifests(&self) -> Vec<Value> {
        let log = self.data().join("log");
        let note = fs::read_to_string(log.join("checkpoint")).expect("a checkpoint");
        let size: u64 = note.lines().nth(1).expect("a size").parse().expect("a number");
        let mut manifests = Vec::new();
        for tile in 0..size.div_ceil(256) {
            let width = (size - tile * 256).min(256);
            let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
            assert!(tile < 1000, "a log of more than 256,000 entries is not read here");
            let bundle = fs::read(log.join(format!("tile/entries/{tile:03}{partial}"))).expect("a bundle");
            let mut rest = bundle.as_slice();
            while let Some((length, after)) = rest.split_first_chunk::<2>() {
                let (entry, after) = after.split_at(u16::from_be_bytes(*length).into());
                manifests.push(serde_json::from_slice(entry).expect("a manifest is JSON"));
                rest = after;
            }
        }
        assert_eq!(manifests.len() as u64, size);
        manifests
    }

    /// (uid, event hash) of every row, sorted: what the archive holds, whatever way it came in.
    pub fn events(&self) -> Vec<(String, String)> {
        self.query("select keytrail_uid, event_hash from {archive} order by all")
            .iter()
            .map(|row| (text(&row["keytrail_uid"]), text(&row["event_hash"])))
            .collect()
    }
}

impl Ran {
    /// Itself, if it exited with 0.
    ///
    /// # Panics
    /// With all that it printed, if it did not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Itself, if it exited with this code.
    ///
    /// # Panics
    /// With all that it printed, if it did not.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "exit code\n-- out:\n{}\n-- err:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON value.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}\n-- out:\n{}\n-- err:\n{}", self.stdout, self.stderr))
    }

    /// Standard output as JSON, one object a line.
    #[must_use]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on standard output"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on standard error"),
        }
    }
}

/// The text of a JSON string.
#[must_use]
#[track_caller]
pub fn text(value: &Value) -> String {
    let Some(text) = value.as_str() else { panic!("`{value}` is no string") };
    text.to_owned()
}

/// The number of a JSON number.
#[must_use]
#[track_caller]
pub fn number(value: &Value) -> u64 {
    let Some(number) = value.as_u64() else { panic!("`{value}` is no count") };
    number
}

/// Codes of the findings of a verification that count, by the file that they are about.
#[must_use]
pub fn found(report: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for finding in report["findings"].as_array().expect("a list") {
        let (code, element) = (text(&finding["code"]), text(&finding["element"]));
        if !["CONFLICT", "VARIANT", "WITHHELD", "EXPIRED"].contains(&code.as_str()) {
            let file = element.split(' ').next().unwrap_or_default().to_owned();
            found.entry(file).or_default().insert(code);
        }
    }
    found
}

/// Runs a command to its end with these bytes on standard input.
fn fed(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("piped");
    thread::scope(|scope| {
        // It may end without reading all of its input.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("it ends").into()
    })
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the folder is made");
    for entry in fs::read_dir(from).expect("the folder is read") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a file is copied");
        }
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The files below a folder in the order of their names; nothing if it is not there.
fn walk(folder: &Path, file: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() { walk(&path, file) } else { file(&path) }
    }
}

fn with<A: AsRef<OsStr>>(command: &str, args: impl IntoIterator<Item = A>) -> Vec<std::ffi::OsString> {
    std::iter::once(command.into()).chain(args.into_iter().map(|a| a.as_ref().to_owned())).collect()
}
