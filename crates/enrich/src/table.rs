//! A table: its rows under their types, and the hash of its file.

use keytrail_model::table::Record;
use keytrail_model::{Hash, TableKind, TableRef, Timestamp};

use crate::account::Account;
use crate::fields::{Fields, fields_of, meant};
use crate::geo::Places;
use crate::key::Key;
use crate::network::Network;
use crate::principal::Principal;
use crate::problem::{Problem, Problems};
use crate::validity::Validity;
use crate::{MAX_COLUMNS, MAX_ROWS, csv, json, yaml};

/// Takes a row; an error ends the reading.
pub(crate) type Each<'a> = dyn FnMut(&Record) -> Result<(), Problem> + 'a;

/// How a table's file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Comma-separated values with a line of headings.
    Csv,
    /// An array of objects, or one object a line.
    Json,
    /// A list of mappings.
    Yaml,
    /// Rows of it come from whoever reads Parquet.
    Parquet,
    /// MaxMind DB, of [`TableKind::Geoip`] alone.
    Mmdb,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 5] = [Self::Csv, Self::Json, Self::Yaml, Self::Parquet, Self::Mmdb];

    /// The name as configured.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Yaml => "yaml",
            Self::Parquet => "parquet",
            Self::Mmdb => "mmdb",
        }
    }

    /// The format that files with that extension have.
    pub fn of_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            other => Self::ALL.into_iter().find(|format| format.name() == other),
        }
    }
}

/// What a table holds.
#[derive(Debug)]
pub enum Content {
    /// Of [`TableKind::Accounts`].
    Accounts(Vec<Account>),
    /// Of [`TableKind::Geoip`].
    Geoip(Box<Places>),
    /// Of [`TableKind::Keys`].
    Keys(Vec<Key>),
    /// Of [`TableKind::Networks`].
    Networks(Vec<Network>),
    /// Of [`TableKind::Principals`].
    Principals(Vec<Principal>),
}

/// A table that was read.
#[derive(Debug)]
pub struct Table {
    /// What manifests record of it.
    pub reference: TableRef,
    /// Its rows.
    pub content: Content,
    /// Where each row stands: number and line.
    pub(crate) places: Vec<(u64, Option<u64>)>,
    /// Columns that are not read.
    pub ignored: Vec<String>,
}

impl Table {
    /// Rows; of a database the nodes of its search tree.
    pub fn rows(&self) -> u64 {
        match &self.content {
            Content::Geoip(places) => places.nodes(),
            _ => self.places.len() as u64,
        }
    }

    /// When each row holds.
    fn validities(&self) -> Vec<Validity> {
        match &self.content {
            Content::Accounts(rows) => rows.iter().map(|r| r.validity).collect(),
            Content::Geoip(places) => vec![places.validity],
            Content::Keys(rows) => rows.iter().map(|r| r.validity).collect(),
            Content::Networks(rows) => rows.iter().map(|r| r.validity).collect(),
            Content::Principals(rows) => rows.iter().map(|r| r.validity).collect(),
        }
    }

    /// The first and the last moment that some row says something of; none: without a bound.
    pub fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let all = self.validities();
        let from = all.iter().map(|v| v.from).min().flatten();
        let to = all.iter().map(|v| v.to.map_or(i64::MAX, |t| t.0)).max();
        (from, to.filter(|t| *t != i64::MAX).map(Timestamp))
    }
}

/// A table in the making, row by row.
pub struct Reading {
    kind: TableKind,
    name: String,
    default: Validity,
    content: Content,
    places: Vec<(u64, Option<u64>)>,
    columns: Vec<String>,
    problems: Problems,
}

impl Reading {
    /// Nothing was read yet. `default` holds for rows that do not say when they do.
    pub fn new(kind: TableKind, name: &str, default: Validity) -> Self {
        let content = match kind {
            TableKind::Accounts => Content::Accounts(Vec::new()),
            // Its file is read as a whole.
            TableKind::Geoip | TableKind::Keys => Content::Keys(Vec::new()),
            TableKind::Networks => Content::Networks(Vec::new()),
            TableKind::Principals => Content::Principals(Vec::new()),
        };
        Self {
            kind,
            name: name.to_owned(),
            default,
            content,
            places: Vec::new(),
            columns: Vec::new(),
            problems: Problems::default(),
        }
    }

    /// Takes the next row. What is wrong with its values is told at the end, with that of all others.
    ///
    /// # Errors
    /// The table is too large: nothing more is to be read.
    pub fn row(&mut self, record: &Record) -> Result<(), Problem> {
        if record.number > MAX_ROWS {
            return Err(Problem::of_file(format!("expected at most {MAX_ROWS} rows")));
        }
        for (name, _) in &record.cells {
            if !self.columns.iter().any(|known| known == name) {
                if self.columns.len() >= MAX_COLUMNS {
                    return Err(Problem::of_file(format!("expected at most {MAX_COLUMNS} columns")));
                }
                self.columns.push(name.clone());
            }
        }
        let mut fields = Fields::new(record, &mut self.problems);
        fn push<T>(rows: &mut Vec<T>, row: Option<T>) -> bool {
            let is_row = row.is_some();
            rows.extend(row);
            is_row
        }
        let default = self.default;
        let taken = match &mut self.content {
            Content::Accounts(rows) => push(rows, Account::read(&mut fields, default)),
            Content::Keys(rows) => push(rows, Key::read(&mut fields, default)),
            Content::Networks(rows) => push(rows, Network::read(&mut fields, default)),
            Content::Principals(rows) => push(rows, Principal::read(&mut fields, default)),
            Content::Geoip(_) => false,
        };
        if taken {
            self.places.push((record.number, record.line));
        }
        Ok(())
    }

    /// The table, whose file has that hash.
    ///
    /// # Errors
    /// All problems of its rows.
    pub fn finish(mut self, sha256: Hash) -> Result<Table, Vec<Problem>> {
        let mut ignored = Vec::new();
        for column in &self.columns {
            if fields_of(self.kind).iter().any(|f| f.name == column) {
                continue;
            }
            match meant(column, self.kind, &self.columns) {
                Some(known) => self.problems.push(Problem {
                    column: crate::fields::clipped(column),
                    ..Problem::of_file(format!("unknown, did you mean `{known}`?"))
                }),
                None => ignored.push(column.clone()),
            }
        }
        if !self.problems.is_empty() {
            return Err(self.problems.take());
        }
        let reference = TableRef { kind: self.kind, name: self.name, sha256 };
        Ok(Table { reference, content: self.content, places: self.places, ignored })
    }
}

/// Reads a table of any format but Parquet.
///
/// # Errors
/// All problems.
pub fn read(
    kind: TableKind,
    name: &str,
    format: Format,
    bytes: &[u8],
    default: Validity,
) -> Result<Table, Vec<Problem>> {
    let one = |problem| vec![problem];
    let sha256 = Hash::of(bytes);
    match (kind, format) {
        (TableKind::Geoip, Format::Mmdb) => {
            let places = Places::read(bytes, default).map_err(one)?;
            let reference = TableRef { kind, name: name.to_owned(), sha256 };
            let content = Content::Geoip(Box::new(places));
            return Ok(Table { reference, content, places: Vec::new(), ignored: Vec::new() });
        }
        (TableKind::Geoip, _) | (_, Format::Mmdb) => {
            return Err(one(Problem::of_file("`geoip` is read of `mmdb` files, and nothing else is")));
        }
        _ => {}
    }
    let mut reading = Reading::new(kind, name, default);
    let each = &mut |record: &Record| reading.row(record);
    let done = match format {
        Format::Csv => csv::read(bytes, each),
        Format::Json => json::read(bytes, each),
        Format::Yaml => yaml::read(bytes, each),
        Format::Parquet | Format::Mmdb => Err(Problem::of_file("rows of Parquet come from elsewhere")),
    };
    match done {
        Ok(()) => reading.finish(sha256),
        Err(problem) => {
            let mut problems = reading.problems;
            problems.push(problem);
            Err(problems.take())
        }
    }
}
