//! Rows of CSV (RFC 4180): the first line has the columns' names, a row of empty values is none.

use keytrail_model::table::{Cell, Record};

use crate::MAX_COLUMNS;
use crate::problem::Problem;
use crate::table::Each;

/// Hands over the rows.
pub(crate) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let mut headings = csv::StringRecord::new();
    let broken = |e: csv::Error| {
        let line = e.position().map(csv::Position::line);
        let message = match e.kind() {
            csv::ErrorKind::Utf8 { .. } => "expected UTF-8".to_owned(),
            _ => format!("no CSV: {e}"),
        };
        Problem { line, ..Problem::of_file(message) }
    };
    headings.clone_from(reader.headers().map_err(broken)?);
    headings.trim();
    let columns: Vec<String> = headings.iter().map(str::to_owned).collect();
    if columns.iter().all(String::is_empty) {
        return Err(Problem::of_file("expected a first line with the columns' names"));
    }
    if columns.len() > MAX_COLUMNS {
        return Err(Problem::of_file(format!(
            "expected at most {MAX_COLUMNS} columns, found {}",
            columns.len()
        )));
    }
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].contains(column) && !column.is_empty() {
            let problem = Problem::of_file("stands twice in the first line, expected once");
            return Err(Problem { line: Some(1), column: column.clone(), ..problem });
        }
    }
    let mut row = csv::StringRecord::new();
    let mut number = 0;
    while reader.read_record(&mut row).map_err(broken)? {
        let line = row.position().map(csv::Position::line);
        if row.iter().all(|value| value.trim().is_empty()) {
            continue;
        }
        number += 1;
        if row.len() > columns.len() {
            let message =
                format!("expected {} values as in the first line, found {}", columns.len(), row.len());
            return Err(Problem { row: Some(number), line, ..Problem::of_file(message) });
        }
        let named = columns.iter().zip(row.iter()).filter(|(column, _)| !column.is_empty());
        let cells = named.map(|(column, value)| (column.clone(), Cell::Text(value.to_owned()))).collect();
        each(&Record { number, line, cells })?;
    }
    Ok(())
}
