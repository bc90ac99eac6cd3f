//! What became of a batch: nothing leaves without being counted (ARCHITECTURE section 6).

use std::fmt;

use serde::Serialize;

/// Outcomes of a batch of records; the parts add up to the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchOutcome<T> {
    accepted: Vec<T>,
    deferred: usize,
    rejected: usize,
}

impl<T> BatchOutcome<T> {
    /// Fails when the parts are not the whole.
    pub fn new(input: usize, accepted: Vec<T>, deferred: usize, rejected: usize) -> Result<Self, Fatal> {
        let sum = accepted.len() + deferred + rejected;
        if sum != input {
            return Err(Fatal::new(
                "Fatal.RecordLost",
                format!(
                    "{input} records came in, {sum} have an outcome ({} accepted, {deferred} deferred, {rejected} rejected)",
                    accepted.len()
                ),
            ));
        }
        Ok(Self { accepted, deferred, rejected })
    }

    /// What was accepted.
    pub fn accepted(&self) -> &[T] {
        &self.accepted
    }

    /// How many are to be tried again.
    pub fn deferred(&self) -> usize {
        self.deferred
    }

    /// How many were refused.
    pub fn rejected(&self) -> usize {
        self.rejected
    }

    /// Takes what was accepted.
    pub fn into_accepted(self) -> Vec<T> {
        self.accepted
    }
}

/// Counts of a run or a source: `read = accepted + duplicates + rejected`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// New rows.
    pub accepted: u64,
    /// Records whose event the archive already holds.
    pub duplicates: u64,
    /// Records in quarantine.
    pub rejected: u64,
    /// New rows that share their producer's key with an event of other content.
    pub conflicts: u64,
    /// New rows that share it with an event that differs in its text only.
    pub variants: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, o: Self) {
        self.read += o.read;
        self.accepted += o.accepted;
        self.duplicates += o.duplicates;
        self.rejected += o.rejected;
        self.conflicts += o.conflicts;
        self.variants += o.variants;
    }
}

impl Counts {
    /// Whether every record has an outcome.
    pub fn balanced(&self) -> bool {
        self.read == self.accepted + self.duplicates + self.rejected
    }
}

/// What ends a run: configuration, permission, key, integrity, or a store that does not answer.
/// Nothing is acknowledged after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fatal {
    /// Stable code, e.g. `Fatal.LogFork`; `Retryable.*` where a later run may succeed.
    pub code: &'static str,
    /// What happened and where.
    pub message: String,
}

impl Fatal {
    /// A fatal error.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fatal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_record_is_fatal() {
        assert!(BatchOutcome::new(3, vec![1, 2], 0, 1).is_ok());
        let lost = BatchOutcome::new(4, vec![1, 2], 0, 1).unwrap_err();
        assert_eq!(lost.code, "Fatal.RecordLost");
        assert_eq!(lost.message, "4 records came in, 3 have an outcome (2 accepted, 0 deferred, 1 rejected)");
    }
}
