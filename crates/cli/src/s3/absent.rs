//! A build without S3.

use keytrail_model::Fatal;

use super::{LockArg, Opened};

/// Says how to get a build that can.
pub fn open(_bucket: &str, _prefix: &str, _lock: Option<(LockArg, u32)>) -> Result<Opened, Fatal> {
    Err(Fatal::new(
        "Usage.Build",
        "this build has no client of S3, which takes long to compile; one that has it: cargo build --release \
         --features aws",
    ))
}
