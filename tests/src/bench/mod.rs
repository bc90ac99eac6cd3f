//! Benches with bars: each figure is a ratio within one run, or a bound on memory.
//!
//! Times are CPU times of one thread or one process; two noisy cores give no others that mean anything.

pub mod bulk;
pub mod child;
pub mod cloud;
pub mod compact;
pub mod dedup;
pub mod enrich;
pub mod follow;
pub mod follow_index;
pub mod index;
pub mod ingest;
pub mod memory;
pub mod peers;
pub mod query;
pub mod report;
pub mod sidecar;
pub mod spool;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a figure must hold: its ratio where it has a baseline, else its value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bar {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Less than this.
    Below(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
            Self::Below(bar) => value < bar,
        }
    }
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::Below(bar) => write!(f, "< {bar}"),
        }
    }
}

/// One measured figure.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// Bench and what was measured, e.g. `peers: DuckDB, lines`.
    pub name: String,
    /// The measured value.
    pub value: f64,
    /// Unit of value and baseline.
    pub unit: &'static str,
    /// What it is compared with, measured in the same run.
    pub baseline: Option<f64>,
    /// What the figure must hold; without one it is only reported.
    pub bar: Option<Bar>,
}

impl Figure {
    /// Value against baseline.
    pub fn ratio(&self) -> Option<f64> {
        self.baseline.map(|baseline| self.value / baseline)
    }

    /// Whether the bar holds.
    pub fn pass(&self) -> Option<bool> {
        self.bar.map(|bar| bar.holds(self.ratio().unwrap_or(self.value)))
    }

    /// The figure as one line of JSON.
    pub fn json(&self) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "null".to_owned(), |n| format!("{n:.3}"));
        let bar = self.bar.map_or_else(|| "null".to_owned(), |bar| format!("\"{bar}\""));
        let pass = self.pass().map_or_else(|| "null".to_owned(), |pass| pass.to_string());
        format!(
            r#"{{"name":"{}","value":{:.3},"unit":"{}","baseline":{},"ratio":{},"bar":{bar},"pass":{pass}}}"#,
            self.name,
            self.value,
            self.unit,
            number(self.baseline),
            number(self.ratio()),
        )
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), short);
        write!(
            f,
            "{:<44} {:>10} {:<15} {:>10} {:>7} {:>9}  {}",
            self.name,
            short(self.value),
            self.unit,
            number(self.baseline),
            number(self.ratio()),
            self.bar.map_or_else(|| "-".to_owned(), |bar| bar.to_string()),
            match self.pass() {
                Some(true) => "pass",
                Some(false) => "FAIL",
                None => "-",
            },
        )
    }
}

/// The heading of the lines that figures print.
pub fn heading() -> String {
    format!(
        "{:<44} {:>10} {:<15} {:>10} {:>7} {:>9}  {}",
        "name", "value", "unit", "baseline", "ratio", "bar", "pass"
    )
}

/// Three digits that matter, or all before the point.
fn short(n: f64) -> String {
    match n.abs() {
        0.0 => "0".to_owned(),
        a if a >= 100.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        a if a >= 1.0 => format!("{n:.2}"),
        _ => format!("{n:.3}"),
    }
}

/// Where benches find things, and how long they may take.
pub struct Setting {
    /// The binary under test.
    pub keytrail: PathBuf,
    /// The floor of ingest (`crates/archive/examples/floor.rs`).
    pub floor: PathBuf,
    /// Deduplication alone (`crates/archive/examples/uids.rs`).
    pub uids: PathBuf,
    /// Load on a spool (`crates/audit-sidecar/examples/spool_load.rs`).
    pub spool_load: PathBuf,
    /// A Python with DuckDB, pyarrow and orjson.
    pub python: PathBuf,
    /// Scripts of the peers.
    pub peers: PathBuf,
    /// Longer forms.
    pub full: bool,
}

/// Keeps a command away from the user's own keys.
pub fn isolate(command: &mut Command, scratch: &Path) {
    command.env("KEYTRAIL_KEY_DIR", scratch.join("keys"));
}

/// A command that runs on one core.
pub fn on_one_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(program);
    command
}

/// The archive objects of a data folder, by name.
pub fn objects(data: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for dataset in folder(&data.join("archive"))? {
        for day in folder(&dataset)? {
            paths.extend(folder(&day)?);
        }
    }
    paths.sort();
    Ok(paths)
}

fn folder(path: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
}

/// What stopped a bench.
pub type Failure = Box<dyn std::error::Error>;

/// A bench.
pub struct Bench {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// It takes a build of its own, and runs only where it is named.
    pub if_named: bool,
    /// Runs it.
    pub run: fn(&Setting) -> Result<Vec<Figure>, Failure>,
}

/// All benches, in the order in which they run.
pub const BENCHES: [Bench; 15] = [
    Bench {
        name: "ingest",
        about: "gz to Parquet on one core against its floor, and `keytrail verify`",
        if_named: false,
        run: ingest::run,
    },
    Bench {
        name: "bulk",
        about: "gz to bulk bodies of a search index on one core, against a path over serde_json::Value",
        if_named: false,
        run: bulk::run,
    },
    Bench {
        name: "index",
        about: "`keytrail index` into Elasticsearch, against plain POSTs and Python's parallel_bulk",
        if_named: false,
        run: index::run,
    },
    Bench {
        name: "dedup",
        about: "what deduplication takes of ingest, and its memory",
        if_named: false,
        run: dedup::run,
    },
    Bench {
        name: "compact",
        about: "compaction of one day, on one core, with the verify that ends it",
        if_named: false,
        run: compact::run,
    },
    Bench {
        name: "enrich",
        about: "what 100,000 keys, 50,000 principals and 20,000 networks take of ingest, one core",
        if_named: false,
        run: enrich::run,
    },
    Bench {
        name: "memory",
        about: "peak memory of `keytrail run` on one large object over 400 days and 3 datasets",
        if_named: false,
        run: memory::run,
    },
    Bench {
        name: "follow",
        about: "lag and memory of `keytrail run --follow` under a steady load, and 10,000 idle files",
        if_named: false,
        run: follow::run,
    },
    Bench {
        name: "follow-index",
        about: "time from a record's write to when a search of Elasticsearch finds it, under `run --follow`",
        if_named: false,
        run: follow_index::run,
    },
    Bench {
        name: "cloud",
        about: "the functions of AWS: size, start, cost, memory, and lag under a steady load",
        if_named: true,
        run: cloud::run,
    },
    Bench {
        name: "report",
        about: "a week's report, the one after it, and the first again, on one core (--full: 10 M events)",
        if_named: false,
        run: report::run,
    },
    Bench {
        name: "sidecar",
        about: "what the audit sidecar adds to calls of OpenBao and to key operations",
        run: sidecar::run,
        if_named: false,
    },
    Bench {
        name: "spool",
        about: "the sidecar's group commit against a sync for each record, in a file and in redb; recovery",
        if_named: false,
        run: spool::run,
    },
    Bench {
        name: "peers",
        about: "`keytrail run` against DuckDB and a Python loader, same columns, one core",
        if_named: false,
        run: peers::run,
    },
    Bench {
        name: "query",
        about: "the queries of tests/queries by keytrail and by DuckDB, one core (--full: a line for each)",
        if_named: true,
        run: query::run,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure {
            name: "ingest: gz to Parquet".to_owned(),
            value: 60.0,
            unit: "k events/s",
            baseline: Some(100.0),
            bar: Some(Bar::AtLeast(0.55)),
        }
    }

    #[test]
    fn a_bar_holds_the_ratio_where_there_is_a_baseline() {
        assert_eq!(figure().pass(), Some(true));
        assert_eq!(Figure { value: 54.0, ..figure() }.pass(), Some(false));
        let memory = Figure { value: 255.9, baseline: None, bar: Some(Bar::Below(256.0)), ..figure() };
        assert_eq!(memory.pass(), Some(true));
        assert_eq!(Figure { bar: None, ..figure() }.pass(), None);
    }

    #[test]
    fn json_has_exactly_the_agreed_keys() {
        let value: serde_json::Value = serde_json::from_str(&figure().json()).expect("JSON");
        let keys: Vec<_> = value.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["bar", "baseline", "name", "pass", "ratio", "unit", "value"]);
        assert_eq!(value["ratio"], 0.6);
        assert_eq!(value["bar"], ">= 0.55");
    }
}
