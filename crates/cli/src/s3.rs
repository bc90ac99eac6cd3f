//! A trail in an S3 bucket, in builds that have it. The others say how to get one.

#[cfg(not(feature = "aws"))]
mod absent;
#[cfg(feature = "aws")]
mod present;

use std::sync::Arc;

use clap::ValueEnum;
use keytrail_ports::{BlobStore, CheckpointStore};

#[cfg(not(feature = "aws"))]
pub use absent::open;
#[cfg(feature = "aws")]
pub use present::open;

/// What a trail consists of.
pub struct Opened {
    /// Its objects.
    pub store: Arc<dyn BlobStore>,
    /// The log's lock checkpoint.
    pub lock: Box<dyn CheckpointStore>,
}

/// Who can end a lock early.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockArg {
    /// Whoever has the right s3:BypassGovernanceRetention
    Governance,
    /// Nobody, not even the account's owner
    Compliance,
}
