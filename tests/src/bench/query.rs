//! The queries of `tests/queries` by keytrail's SQL and by DuckDB, on one generated archive: one process each for
//! all queries, one thread, files in the system's cache, the mean CPU time of half a second of runs, and of these
//! the geometric mean.
//!
//! Keytrail's time is that of the command without its start: it reads footers anew for each statement. So does
//! DuckDB by default, which is compared with; DuckDB with footers kept between queries is told, too.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::{Bar, Failure, Figure, Setting, child};
use crate::load::files::{self, Layout};
use crate::load::{DAY_MICROS, Format, Load};
use crate::{tools, trail};

/// What the queries name of the real logs, and what the load has in its place.
const NAMED: [(&str, &str); 3] = [
    ("2023-07", "2026-01"),
    ("1234abcd-12ab-34cd-56ef-1234567890ab", "8bffbd6a-439a-4000-8000-000000004c82"),
    ("3c4226b0-1e81-48a8-a333-7fa5f3cbd118", "de23c994-10b2-4499-a87a-212d23d7f4d6"),
];

/// What one engine says of a query.
#[derive(Clone, Copy, Debug)]
struct Timed {
    rows: u64,
    seconds: f64,
}

/// Runs the bench.
pub fn run(setting: &Setting) -> Result<Vec<Figure>, Failure> {
    let scratch = tempfile::tempdir()?;
    let load = Load {
        seed: 31,
        format: Format::Mixed,
        events: 1_000_000,
        start_micros: 20_458 * DAY_MICROS,
        days: 28,
        shuffle: false,
        replay_percent: 0,
        late_percent: 1,
    };
    let (input, data) = (scratch.path().join("in"), scratch.path().join("trail"));
    files::write_folder(load, Layout::Lines, Some(1), 20, &input)?;
    let mut ingest = Command::new(&setting.keytrail);
    super::isolate(&mut ingest, scratch.path());
    ingest.args(["run", "--no-report", "--json", "--data"]).arg(&data).arg(&input);
    child::measure(ingest)?;

    let statements = scratch.path().join("queries");
    trail::copy_folder(&tools::root().join("tests/queries"), &statements);
    for topic in fs::read_dir(&statements)? {
        for path in fs::read_dir(topic?.path())? {
            let path = path?.path();
            let sql = fs::read_to_string(&path)?;
            fs::write(path, NAMED.iter().fold(sql, |sql, (real, of_load)| sql.replace(real, of_load)))?;
        }
    }
    let mut ours = super::on_one_core(&tools::example("query_times"));
    ours.arg(&data).arg(&statements);
    let ours = timed(&child::measure(ours)?.0)?;
    let mut figures = Vec::new();
    for (footers, bar) in [("anew", Some(Bar::AtMost(2.0))), ("kept", None)] {
        let mut theirs = super::on_one_core(&setting.python);
        theirs.arg(setting.peers.join("duckdb_query.py")).arg(&data).arg(&statements).arg(footers);
        let theirs = timed(&child::measure(theirs)?.0)?;
        if !ours.iter().map(|(name, t)| (name, t.rows)).eq(theirs.iter().map(|(name, t)| (name, t.rows))) {
            return Err(format!("keytrail and DuckDB find other rows:\n{ours:?}\n{theirs:?}").into());
        }
        figures.extend(compared(setting, footers, bar, &ours, &theirs));
    }
    Ok(figures)
}

/// The mean of all queries, and the slowest against DuckDB; with `--full` all of them.
fn compared(
    setting: &Setting,
    footers: &str,
    bar: Option<Bar>,
    ours: &BTreeMap<String, Timed>,
    theirs: &BTreeMap<String, Timed>,
) -> Vec<Figure> {
    let mut each: Vec<Figure> = ours
        .iter()
        .map(|(name, ours)| Figure {
            name: format!("query: {name}"),
            value: ours.seconds * 1e3,
            unit: "ms",
            baseline: Some(theirs[name].seconds * 1e3),
            bar: None,
        })
        .collect();
    each.sort_by(|a, b| b.ratio().partial_cmp(&a.ratio()).unwrap_or(std::cmp::Ordering::Equal));
    let all = Figure {
        name: format!("query: mean of {}, DuckDB, footers {footers}", each.len()),
        value: mean(each.iter().map(|f| f.value)),
        unit: "ms",
        baseline: Some(mean(each.iter().filter_map(|f| f.baseline))),
        bar,
    };
    each.truncate(match (bar, setting.full) {
        (None, _) => 0,
        (Some(_), true) => each.len(),
        (Some(_), false) => 5,
    });
    std::iter::once(all).chain(each).collect()
}

/// Lines of name, rows and seconds, with tabs between.
fn timed(lines: &str) -> Result<BTreeMap<String, Timed>, Failure> {
    let line = |line: &str| -> Result<_, Failure> {
        let [name, rows, seconds] = line.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("expected name, rows and seconds, found `{line}`").into());
        };
        Ok((name.to_owned(), Timed { rows: rows.parse()?, seconds: seconds.parse()? }))
    };
    lines.lines().map(line).collect()
}

/// The geometric mean.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let logs: Vec<f64> = values.map(f64::ln).collect();
    (logs.iter().sum::<f64>() / logs.len() as f64).exp()
}
