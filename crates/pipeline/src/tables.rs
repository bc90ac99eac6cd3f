//! The files of declared tables, read and put together before anything else is done.
//!
//! In: what `[[tables]]` declares. Out: [`Tables`], or every problem of every file, as the start of a run,
//! `keytrail config check` and `keytrail enrich check` tell them.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use keytrail_archive::table::TableError;
use keytrail_archive::{Projection, Selection};
use keytrail_enrich::{
    Enricher, Format, LOOKED_UP, MAX_TABLE_BYTES, Problem, Reading, Table, Tables, table_kind,
};
use keytrail_model::row::values;
use keytrail_model::{Column, Fatal, Hash, TableKind, Timestamp};
use keytrail_ports::BlobStore;

use crate::config::DeclaredTable;
use crate::objects::{self, StoredEvent};
use crate::readable::Readable;

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

/// What tables say of an archived event today, in the row encoding; the archive keeps what they said when it
/// came.
pub fn enriched(event: &StoredEvent, tables: &Tables) -> Vec<u8> {
    let mut out = Vec::new();
    let dataset = event.text(Column::EventDataset).unwrap_or_default();
    Enricher::new(tables).enrich(dataset, event.time.map(Timestamp), &event.columns, &mut out);
    out
}

/// How much of an archive a kind of table knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coverage {
    /// The kind.
    pub kind: TableKind,
    /// Events that name what such tables are about.
    pub named: u64,
    /// Those of which a table says something.
    pub known: u64,
}

/// By which columns events name what a kind of table is about.
const fn naming(kind: TableKind) -> &'static [Column] {
    match kind {
        TableKind::Accounts => &[Column::CloudAccountId, Column::CloudProjectId],
        TableKind::Geoip | TableKind::Networks => &[Column::SourceIp],
        TableKind::Keys => &[Column::KeytrailKeyAlias, Column::KeytrailKeyArn, Column::KeytrailKeyId],
        TableKind::Principals => &[Column::KeytrailActorArn, Column::UserId, Column::UserName],
    }
}

/// Reads the archive and counts, for the kinds that there are tables of, which events they know.
pub fn coverage(store: &dyn BlobStore, readable: &Readable, tables: &Tables) -> Result<Vec<Coverage>, Fatal> {
    let there = |kind: &TableKind| tables.iter().any(|t| t.reference.kind == *kind);
    let kinds = TableKind::ALL.into_iter().filter(there);
    let mut found: Vec<Coverage> = kinds.map(|kind| Coverage { kind, named: 0, known: 0 }).collect();
    let mut enricher = Enricher::new(tables);
    let mut out = Vec::new();
    let wanted = Projection::Columns([&LOOKED_UP[..], &[Column::Timestamp, Column::EventDataset]].concat());
    for object in readable.objects() {
        let key = &object.object.key;
        let reader = objects::open(store, key)?;
        for batch in reader.batches(&wanted, Selection::All) {
            for row in batch.map_err(|e| objects::at(key, e))?.rows() {
                out.clear();
                enricher.enrich(&object.rows.dataset, row.time, row.columns, &mut out);
                for one in &mut found {
                    let names = |c: Column| naming(one.kind).contains(&c);
                    one.named += u64::from(values(row.columns).any(|(c, _)| names(c)));
                    one.known += u64::from(values(&out).any(|(c, _)| table_kind(c) == Some(one.kind)));
                }
            }
        }
    }
    Ok(found)
}
