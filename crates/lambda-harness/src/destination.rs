//! Where records of discarded batches, failed and successful events go.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::HarnessError;

/// A receiver of invocation records, as AWS words them.
#[derive(Clone)]
pub struct Destination(Arc<dyn Fn(Value) + Send + Sync>);

impl Destination {
    /// Calls a function with each record.
    pub fn call(receiver: impl Fn(Value) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receiver))
    }

    /// Keeps the records for the test to look at.
    pub fn collect() -> (Self, Collected) {
        let collected = Collected::default();
        let kept = collected.clone();
        (Self::call(move |record| kept.push(record)), collected)
    }

    pub(crate) fn send(&self, record: Value) {
        (self.0)(record);
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination")
    }
}

/// What came to a [`Destination::collect`].
#[derive(Clone, Default, Debug)]
pub struct Collected(Arc<(Mutex<Vec<Value>>, Condvar)>);

impl Collected {
    fn records(&self) -> MutexGuard<'_, Vec<Value>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, record: Value) {
        self.records().push(record);
        self.0.1.notify_all();
    }

    /// What came so far.
    pub fn all(&self) -> Vec<Value> {
        self.records().clone()
    }

    /// Waits until so many records came.
    pub fn wait(&self, count: usize, limit: Duration) -> Result<Vec<Value>, HarnessError> {
        let end = Instant::now() + limit;
        let mut records = self.records();
        while records.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = format!("{count} records at a destination; {} came", records.len());
                return Err(HarnessError::Timeout { seconds: limit.as_secs(), what });
            }
            (records, _) = self.0.1.wait_timeout(records, left).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(records.clone())
    }
}
