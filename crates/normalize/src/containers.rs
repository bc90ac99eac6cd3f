//! Records that other services carry: placeholder.

use std::borrow::Cow;

use crate::{Format, cloudhsm};

/// What a container says of the records in it; empty where it says nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origin<'a> {
    /// Account that owns the log group.
    pub account: Cow<'a, str>,
    /// Log group of CloudWatch Logs.
    pub log_group: Cow<'a, str>,
    /// Log stream of CloudWatch Logs.
    pub log_stream: Cow<'a, str>,
}

impl<'a> Origin<'a> {
    /// What the container of a row's record said of it, as far as the row's columns depend on it.
    pub fn of_row(format: Format, columns: &'a [u8]) -> Self {
        match format {
            Format::CloudHsm => cloudhsm::origin(columns),
            _ => Self::default(),
        }
    }
}

/// The time and the space that an export of CloudWatch Logs puts before each message; `#` is a digit.
pub(crate) const EXPORT_PREFIX: &[u8] = b"####-##-##T##:##:##.###Z ";

/// The length of that prefix; 0 where there is none.
pub(crate) fn export_prefix(line: &[u8]) -> usize {
    if begins(line, EXPORT_PREFIX) { EXPORT_PREFIX.len() } else { 0 }
}

/// Whether a text begins with a shape, in which `#` is a digit.
pub(crate) fn begins(text: &[u8], shape: &[u8]) -> bool {
    text.len() >= shape.len()
        && shape.iter().zip(text).all(|(s, b)| if *s == b'#' { b.is_ascii_digit() } else { s == b })
}
