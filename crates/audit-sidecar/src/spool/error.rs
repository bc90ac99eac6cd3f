//! Why the spool does not do what it is asked for.

use std::io;
use std::path::Path;

use keytrail_model::segment::MAX_RECORD_BYTES;
use rustix::io::Errno;

/// What stopped a call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another has the folder: it is free again once that one ends.
    #[error("`{0}` is in use by another process: a spool has one writer")]
    Busy(String),
    /// The disk is full. From [`begin`](super::Spool::begin) it may be tried again; from a commit it is final.
    #[error("{0}")]
    Full(String),
    /// The file system refused. What was being written may be durable or not.
    #[error("{0}")]
    Io(String),
    /// Settings with which it cannot be kept.
    #[error("{0}")]
    Settings(String),
    /// What is in the folder is not of this source.
    #[error("`{path}` holds records of `{found}`, expected `{expected}`")]
    Source {
        /// The file.
        path: String,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// A record that has no place in a segment.
    #[error("a record of {0} bytes: expected 1 to {MAX_RECORD_BYTES}")]
    Size(usize),
    /// A call out of order, by the caller's mistake: nothing was done.
    #[error("{0}")]
    Order(String),
}

impl SpoolError {
    /// Stable code, as in metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Busy(_) => "Retryable.SpoolBusy",
            Self::Full(_) => "Retryable.SpoolFull",
            Self::Io(_) => "Fatal.Spool",
            Self::Settings(_) => "Fatal.SpoolSettings",
            Self::Source { .. } => "Fatal.SpoolSource",
            Self::Size(_) => "Rejected.RecordSize",
            Self::Order(_) => "Fatal.SpoolOrder",
        }
    }

    /// The error of a call, with what was done to which path.
    pub(super) fn at(verb: &str, path: &Path, e: &io::Error) -> Self {
        // The system's own words, without its number: `No space left on device`.
        let text = e.to_string();
        let why = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        let message = format!("cannot {verb} `{}`: {why}", path.display());
        match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full(message),
            _ => Self::Io(message),
        }
    }
}
