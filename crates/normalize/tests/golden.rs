//! Golden tests of all sources: `tests/fixtures/<source>/<case>/{input.*, expected.ecs.json, SOURCE.md}`.
//!
//! In: each record of a case's input, framed by simple means (see [`frames`]). Out: one flat ECS object
//! a record, names sorted, or `{"rejected": code, "reason": ...}`. `UPDATE_GOLDEN=1` writes what is
//! expected anew; read the difference before you commit it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod ecs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use keytrail_model::row::{Encoded, Provenance, Row, columns};
use keytrail_model::{Column, Kind, Reject, Rejection, RowBuffer, Timestamp};
use keytrail_normalize::containers::{self, Carried};
use keytrail_normalize::framing::{Frame, Limits, Splitter};
use keytrail_normalize::{Context, Format, Masker, Origin, normalize, normalize_of};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// When the records were received: later than all fixtures, so that none is of the future but those meant to be.
const NOW: &str = "2027-01-01T00:00:00Z";

/// A mask key of no archive: masked values in the expected files are stable.
const MASK_KEY: [u8; 32] = [7; 32];

#[test]
fn every_case_gives_what_is_expected() {
    let mut problems = Vec::new();
    let mut cases = 0;
    for format in Format::ALL {
        for case in folders(&fixtures().join(format.name())) {
            cases += 1;
            if let Err(problem) = check(format, &case) {
                problems.push(format!("{}/{}: {problem}", format.name(), name(&case)));
            }
        }
    }
    for case in folders(&fixtures().join("containers")) {
        cases += 1;
        if let Err(problem) = compare(&case, carried) {
            problems.push(format!("containers/{}: {problem}", name(&case)));
        }
    }
    assert!(problems.is_empty(), "{} of {cases} cases:\n{}", problems.len(), problems.join("\n"));
}

/// Runs one case and compares, or rewrites under `UPDATE_GOLDEN`.
fn check(format: Format, case: &Path) -> Result<(), String> {
    compare(case, |input, bytes| run(format, &frames(input, bytes)))
}

/// One flat ECS object a record.
type Records = Vec<BTreeMap<String, Value>>;

fn compare(case: &Path, read: impl Fn(&Path, &[u8]) -> Records) -> Result<(), String> {
    if !case.join("SOURCE.md").is_file() {
        return Err("`SOURCE.md` is missing: say where the input comes from and under which licence".into());
    }
    let input = input_of(case)?;
    let bytes = fs::read(&input).map_err(|e| e.to_string())?;
    let records = read(&input, &bytes);
    for record in &records {
        ecs::check_values(record)?;
    }
    let mut got = serde_json::to_string_pretty(&records).map_err(|e| e.to_string())?;
    got.push('\n');
    let expected = case.join("expected.ecs.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(&expected, got).map_err(|e| e.to_string());
    }
    let want = fs::read_to_string(&expected).map_err(|e| format!("`expected.ecs.json`: {e}"))?;
    if got == want {
        return Ok(());
    }
    let line = got.lines().zip(want.lines()).position(|(g, w)| g != w);
    let at = line.unwrap_or_else(|| got.lines().count().min(want.lines().count()));
    Err(format!(
        "line {} of `expected.ecs.json` differs\n  expected {}\n  got      {}",
        at + 1,
        want.lines().nth(at).unwrap_or("the end"),
        got.lines().nth(at).unwrap_or("the end"),
    ))
}

/// The events of the frames as flat ECS objects, rejections in their place.
fn run(format: Format, frames: &[Vec<u8>]) -> Records {
    let masker = Masker::new(&MASK_KEY);
    let ctx = Context { now: Timestamp::parse(NOW).unwrap(), masker: &masker, declared: None };
    let mut out = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        let mut rows = RowBuffer::new();
        let from = Provenance { input: 0, offset: i as u64 };
        out.push(match normalize(format, frame, from, &ctx, &mut rows) {
            Ok(()) => ecs_of(&rows.row(0)),
            Err(r) => refused(&r),
        });
    }
    out
}

fn refused(r: &Rejection) -> BTreeMap<String, Value> {
    BTreeMap::from([("rejected".to_owned(), json!(r.code.code())), ("reason".to_owned(), json!(r.reason))])
}

/// The events in the containers of an input, with their place in it; control messages as `controls`.
fn carried(_: &Path, bytes: &[u8]) -> Records {
    let masker = Masker::new(&MASK_KEY);
    let ctx = Context { now: Timestamp::parse(NOW).unwrap(), masker: &masker, declared: None };
    let mut out = Vec::new();
    let mut one = |c: Carried<'_>, offset: u64| {
        let offset = offset + c.at as u64;
        let mut rows = RowBuffer::new();
        let unknown = || Rejection::new(Reject::FormatUnknown, "of no source");
        let outcome = c.verdict.and_then(|()| {
            let format = Format::recognise(c.record).ok_or_else(unknown)?;
            let from = Provenance { input: 0, offset };
            normalize_of(format, c.record, c.origin, from, &ctx, &mut rows)
        });
        let mut record = match outcome {
            Ok(()) => ecs_of(&rows.row(0)),
            Err(r) => {
                let mut record = refused(&r);
                let unit = String::from_utf8_lossy(c.unit);
                record.insert("unit".to_owned(), json!(unit.chars().take(60).collect::<String>()));
                record
            }
        };
        record.insert("offset".to_owned(), json!(offset));
        out.push(record);
    };
    let mut controls = 0;
    Splitter::new(Limits::default()).run(bytes, true, &mut |frame: Frame<'_>| {
        let (record, offset) = (frame.bytes, frame.offset);
        match frame.verdict.is_ok().then(|| containers::open(record, &mut |c| one(c, offset))).flatten() {
            Some(n) => controls += n,
            None => {
                let origin = &Origin::default();
                one(Carried { record, unit: record, origin, at: 0, verdict: frame.verdict }, offset);
            }
        }
    });
    if controls > 0 {
        let control = [("rejected".to_owned(), Value::Null), ("controls".to_owned(), json!(controls))];
        out.push(control.into());
    }
    out
}

/// A row as an ECS document with dotted names, without the original bytes and without provenance.
fn ecs_of(row: &Row<'_>) -> BTreeMap<String, Value> {
    let mut doc: BTreeMap<String, Value> = columns(row.columns)
        .map(|(column, value)| {
            let value = match value {
                Encoded::Text(t) => json!(t),
                Encoded::Int(n) if column.kind() == Kind::Time => json!(Timestamp(n).to_rfc3339()),
                Encoded::Int(n) => json!(n),
                Encoded::Bool(b) => json!(b),
                Encoded::List(items) => items.map(|i| json!(i)).collect(),
            };
            (column.field().to_owned(), value)
        })
        .collect();
    doc.insert(Column::EventHash.field().to_owned(), json!(row.head.hash.to_hex()));
    doc.insert(Column::KeytrailUid.field().to_owned(), json!(row.head.uid.to_string()));
    doc
}

/// Cuts an input into records. A `.json` file is one document: the items of its array, of its `Records`,
/// `records`, `Events` or `items`, else the document itself. In a `.txt` file empty lines stand between
/// records. Any other file has a record on each line that is not empty, its bytes as they are.
fn frames(path: &Path, bytes: &[u8]) -> Vec<Vec<u8>> {
    if path.extension().is_some_and(|e| e == "txt") {
        let text = String::from_utf8_lossy(bytes);
        return text.split("\n\n").map(|b| b.trim_end().into()).filter(|b: &Vec<u8>| !b.is_empty()).collect();
    }
    if path.extension().is_none_or(|e| e != "json") {
        let lines = bytes.split(|b| *b == b'\n');
        return lines.filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    }
    let own = |items: Vec<&RawValue>| items.into_iter().map(|i| i.get().as_bytes().to_vec()).collect();
    if let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(bytes) {
        return own(items);
    }
    if let Ok(document) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes) {
        for list in ["Records", "records", "Events", "items"] {
            if let Some(items) = document.get(list).and_then(|v| serde_json::from_str(v.get()).ok()) {
                return own(items);
            }
        }
    }
    vec![bytes.trim_ascii().to_vec()]
}

fn input_of(case: &Path) -> Result<PathBuf, String> {
    let mut files: Vec<_> = fs::read_dir(case)
        .map_err(|e| e.to_string())?
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.file_stem().is_some_and(|s| s == "input"))
        .collect();
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        _ => Err("expected one file `input.*`".into()),
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// The folders of a folder, by name; none when it is not there.
fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
