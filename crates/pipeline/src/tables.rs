//! The files of declared tables, read and put together before anything else is done.
//!
//! In: what `[[tables]]` declares. Out: [`Tables`], or every problem of every file, as the start of a run,
//! `keytrail config check` and `keytrail enrich check` tell them.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use keytrail_archive::table::TableError;
use keytrail_enrich::{Format, MAX_TABLE_BYTES, Problem, Reading, Table, Tables};
use keytrail_model::Hash;

use crate::config::DeclaredTable;

/// A problem of a table, and the file that has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableProblem {
    /// The table's name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for TableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// Reads all tables.
///
/// # Errors
/// All problems, table after table. Rows are held against each other once each table is good alone.
pub fn load(declared: &[DeclaredTable]) -> Result<Tables, Vec<TableProblem>> {
    let told = |table: &DeclaredTable, problem| TableProblem {
        name: table.name.clone(),
        path: table.path.clone(),
        problem,
    };
    let (mut tables, mut problems) = (Vec::new(), Vec::new());
    for table in declared {
        match read(table) {
            Ok(read) => tables.push(read),
            Err(found) => problems.extend(found.into_iter().map(|problem| told(table, problem))),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Tables::new(tables).map_err(|found| {
        found.into_iter().filter_map(|(n, problem)| Some(told(declared.get(n)?, problem))).collect()
    })
}

/// Reads one table.
fn read(declared: &DeclaredTable) -> Result<Table, Vec<Problem>> {
    let bytes = file(&declared.path).map_err(|problem| vec![problem])?;
    let (kind, name, default) = (declared.kind, &declared.name, declared.default);
    if declared.format != Format::Parquet {
        return keytrail_enrich::read(kind, name, declared.format, &bytes, default);
    }
    let sha256 = Hash::of(&bytes);
    let mut reading = Reading::new(kind, name, default);
    match keytrail_archive::table::read(bytes, &mut |record| reading.row(record)) {
        Ok(()) => reading.finish(sha256),
        Err(TableError::Damaged(what)) => Err(vec![Problem::of_file(what)]),
        Err(TableError::Ended(problem)) => Err(vec![problem]),
    }
}

/// A file's bytes, up to the largest size of a table.
fn file(path: &Path) -> Result<Vec<u8>, Problem> {
    let cannot = |e: std::io::Error| Problem::of_file(format!("cannot be read: {e}"));
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_TABLE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_TABLE_BYTES {
        return Err(Problem::of_file(format!("expected at most {MAX_TABLE_BYTES} bytes")));
    }
    Ok(bytes)
}
