//! Rows as they come, written as a table, CSV or JSON.
//!
//! What it is: the three formats, in memory that does not grow with the number of rows. What it is not: it runs
//! nothing. In: batches. Out: bytes for standard output; what is hostile in them is escaped where people look.

use std::fmt::Write as _;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use keytrail_model::printable::{GAP, cut, escape, fit, is_hidden};
use unicode_width::UnicodeWidthStr;

use crate::value;

/// How rows are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Columns that stand below each other.
    Table,
    /// RFC 4180 with a head. A text that a spreadsheet would take for a formula begins with an apostrophe.
    Csv,
    /// A JSON object a line.
    Json,
}

/// Rows that a table's columns are as wide as, and their bytes.
const MEASURED_ROWS: usize = 1000;
const MEASURED_BYTES: usize = 4 << 20;

/// Bytes that are written at once, but for a row that has more.
const PART_BYTES: usize = 256 << 10;

/// Writes rows.
pub(crate) struct Rows {
    format: Format,
    /// Columns of the terminal that is written to.
    terminal: Option<usize>,
    schema: SchemaRef,
    names: Vec<String>,
    /// Of a table: the first rows, until it is known how wide they are.
    waiting: Option<Vec<Vec<Cell>>>,
    waiting_bytes: usize,
    layout: Layout,
    count: u64,
}

/// A cell of a table, escaped.
type Cell = String;

/// How the rows of a table stand.
enum Layout {
    /// Below each other, so wide each.
    Columns(Vec<usize>),
    /// One column of a row a line: the terminal is not wide enough for two.
    Records,
}

impl Rows {
    /// Of these columns, with these heads.
    pub fn new(format: Format, terminal: Option<usize>, heads: Vec<String>, schema: SchemaRef) -> Self {
        let names = once_each(heads);
        let waiting = (format == Format::Table).then(Vec::new);
        Self { format, terminal, schema, names, waiting, waiting_bytes: 0, layout: Layout::Records, count: 0 }
    }

    /// Rows so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What stands before the first row.
    pub fn head(&self) -> String {
        match self.format {
            Format::Csv => {
                let names: Vec<String> = self.names.iter().map(|name| self.csv_cell(name, true)).collect();
                names.join(",") + "\r\n"
            }
            Format::Table | Format::Json => String::new(),
        }
    }

    /// Some rows, handed over in parts; whether anybody reads on.
    pub fn add(&mut self, batch: &RecordBatch, write: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut out = String::new();
        for row in 0..batch.num_rows() {
            self.count += 1;
            match self.format {
                Format::Json => self.json(batch, row, &mut out),
                Format::Csv => self.csv(batch, row, &mut out),
                Format::Table => self.table(batch, row, &mut out),
            }
            // One value may have megabytes, and be in every row.
            if out.len() >= PART_BYTES {
                if !write(out.as_bytes()) {
                    return false;
                }
                out.clear();
            }
        }
        out.is_empty() || write(out.as_bytes())
    }

    /// What stands behind the last row.
    pub fn end(&mut self) -> String {
        let mut out = String::new();
        self.measured(&mut out);
        out
    }

    fn json(&self, batch: &RecordBatch, row: usize, out: &mut String) {
        out.push('{');
        for (i, (name, column)) in self.names.iter().zip(batch.columns()).enumerate() {
            if i > 0 {
                out.push(',');
            }
            value::json_text(name, out);
            out.push(':');
            value::json(column, row, out);
        }
        out.push_str("}\n");
    }

    fn csv(&self, batch: &RecordBatch, row: usize, out: &mut String) {
        for (i, column) in batch.columns().iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            if let Some((text, is_text)) = value::text(column, row) {
                out.push_str(&self.csv_cell(&text, is_text));
            }
        }
        out.push_str("\r\n");
    }

    fn csv_cell(&self, text: &str, is_text: bool) -> String {
        let formula = is_text && text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let mut text = if formula { format!("'{text}") } else { text.to_owned() };
        if self.terminal.is_some() && text.contains(is_hidden) {
            text = escape(&text);
        }
        // An empty text is not null.
        if (is_text && text.is_empty()) || text.contains([',', '"', '\r', '\n']) {
            text = format!("\"{}\"", text.replace('"', "\"\""));
        }
        text
    }

    fn table(&mut self, batch: &RecordBatch, row: usize, out: &mut String) {
        let cell = |column| value::text(column, row).map_or_else(String::new, |(text, _)| escape(&text));
        let cells: Vec<Cell> = batch.columns().iter().map(cell).collect();
        match &mut self.waiting {
            Some(rows) => {
                self.waiting_bytes += cells.iter().map(String::len).sum::<usize>();
                rows.push(cells);
                if rows.len() == MEASURED_ROWS || self.waiting_bytes >= MEASURED_BYTES {
                    self.measured(out);
                }
            }
            None => self.row(&cells, out),
        }
    }

    /// Writes the rows that waited, if there were any to wait for.
    fn measured(&mut self, out: &mut String) {
        let Some(rows) = self.waiting.take() else { return };
        let heads: Vec<Cell> = self.names.iter().map(|name| escape(name)).collect();
        let widths = (0..heads.len())
            .map(|i| rows.iter().chain([&heads]).map(|row| row[i].width()).max().unwrap_or_default());
        self.layout = match fit(widths.collect(), self.terminal) {
            Some(widths) => Layout::Columns(widths),
            None => Layout::Records,
        };
        if matches!(self.layout, Layout::Columns(_)) {
            self.row(&heads, out);
        }
        rows.iter().for_each(|row| self.row(row, out));
    }

    fn row(&self, cells: &[Cell], out: &mut String) {
        match &self.layout {
            Layout::Columns(widths) => {
                let mut line = String::new();
                for (i, (cell, width)) in cells.iter().zip(widths).enumerate() {
                    if i > 0 {
                        line.push_str(&" ".repeat(GAP));
                    }
                    let cell = if self.terminal.is_some() { cut(cell, *width) } else { cell.into() };
                    let pad = " ".repeat(width.saturating_sub(cell.width()));
                    let number = value::is_number(self.schema.field(i).data_type());
                    let (left, right) = if number { (pad.as_str(), "") } else { ("", pad.as_str()) };
                    line.push_str(left);
                    line.push_str(&cell);
                    line.push_str(right);
                }
                out.push_str(line.trim_end());
            }
            Layout::Records => {
                let widest = self.names.iter().map(|n| escape(n).width()).max().unwrap_or_default();
                for (name, cell) in self.names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
                    let name = escape(name);
                    let pad = " ".repeat(widest - name.width());
                    // Writing to a string does not fail.
                    let _infallible = writeln!(out, "{name}{pad}  {cell}");
                }
            }
        }
        out.push('\n');
    }
}

/// Names of columns, each once.
fn once_each(heads: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(heads.len());
    for head in heads {
        let mut name = head.clone();
        let mut n = 1;
        while names.contains(&name) {
            n += 1;
            name = format!("{head}_{n}");
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn written(format: Format, terminal: Option<usize>) -> String {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("=1+1"),
            Some("a,\"b\"\n\u{1b}[31m"),
            Some(""),
            None,
            Some("\u{202e}evil"),
        ]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(-1), Some(20), None, Some(4), Some(5)]));
        let batch =
            RecordBatch::try_from_iter([("t", texts), ("n", Arc::clone(&numbers)), ("n", numbers)]).unwrap();
        let heads = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        let mut rows = Rows::new(format, terminal, heads, batch.schema());
        let mut out = rows.head().into_bytes();
        rows.add(&batch, &mut |part| {
            out.extend_from_slice(part);
            true
        });
        let out = String::from_utf8(out).unwrap() + &rows.end();
        assert_eq!(rows.count(), 5);
        out
    }

    #[test]
    fn csv_is_rfc_4180_and_no_formula() {
        let csv = "t,n,n_2\r\n'=1+1,-1,-1\r\n\"a,\"\"b\"\"\n\u{1b}[31m\",20,20\r\n\"\",,\r\n,4,4\r\n\u{202e}evil,5,5\r\n";
        assert_eq!(written(Format::Csv, None), csv);
        let shown = written(Format::Csv, Some(80));
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown}");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let json = "{\"t\":\"=1+1\",\"n\":-1,\"n_2\":-1}\n\
                    {\"t\":\"a,\\\"b\\\"\\n\\u001b[31m\",\"n\":20,\"n_2\":20}\n\
                    {\"t\":\"\",\"n\":null,\"n_2\":null}\n\
                    {\"t\":null,\"n\":4,\"n_2\":4}\n\
                    {\"t\":\"\\u202eevil\",\"n\":5,\"n_2\":5}\n";
        assert_eq!(written(Format::Json, Some(80)), json);
    }

    #[test]
    fn tables_are_aligned_and_escaped() {
        let table = "t                   n  n_2\n\
                     =1+1               -1   -1\n\
                     a,\"b\"\\n\\u{1b}[31m  20   20\n\
                     \n\
                     \u{20}                   4    4\n\
                     \\u{202e}evil        5    5\n";
        assert_eq!(written(Format::Table, None), table);
    }

    #[test]
    fn tables_fit_the_terminal() {
        let table = written(Format::Table, Some(20));
        assert!(table.lines().all(|l| l.width() <= 20), "{table}");
        assert!(table.contains("a,\"b\"\\n\\u{\u{2026}"), "{table}");
        let records = written(Format::Table, Some(10));
        assert!(records.starts_with("t    =1+1\nn    -1\nn_2  -1\n\n"), "{records}");
    }
}
