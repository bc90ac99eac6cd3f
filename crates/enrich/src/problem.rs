//! What is wrong with a table.

use std::fmt;

/// Something that is wrong in a table's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Number of the row, from 1, without headings; none for the file itself.
    pub row: Option<u64>,
    /// Its line, where the format has lines.
    pub line: Option<u64>,
    /// The column; empty for the whole row or file.
    pub column: String,
    /// What was expected.
    pub message: String,
}

impl Problem {
    /// Of the file itself.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { row: None, line: None, column: String::new(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.row, self.line) {
            (Some(row), Some(line)) => write!(f, "row {row} (line {line})")?,
            (Some(row), None) => write!(f, "row {row}")?,
            (None, Some(line)) => write!(f, "line {line}")?,
            (None, None) => {}
        }
        let placed = self.row.is_some() || self.line.is_some();
        if !self.column.is_empty() {
            let comma = if placed { ", " } else { "" };
            write!(f, "{comma}column `{}`", self.column)?;
        }
        let colon = if placed || !self.column.is_empty() { ": " } else { "" };
        write!(f, "{colon}{}", self.message)
    }
}

/// Problems of one table that are told at most: a file of the wrong kind has one in every row.
pub(crate) const MAX_PROBLEMS: usize = 20;

/// Collects problems.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    more: u64,
}

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < MAX_PROBLEMS {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All that are told.
    pub fn take(mut self) -> Vec<Problem> {
        if self.more > 0 {
            self.list.push(Problem::of_file(format!("{} more problems", self.more)));
        }
        self.list
    }
}
