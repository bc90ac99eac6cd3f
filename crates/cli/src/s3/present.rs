//! A build with S3.

use std::sync::Arc;

use keytrail_adapters::aws::{Aws, Lock, LockMode};
use keytrail_adapters::local::SystemClock;
use keytrail_model::Fatal;
use keytrail_pipeline::seal::LOCK;

use super::{LockArg, Opened};

/// Opens what is below the prefix; with a lock, what is put there and has to stay is locked for so many days.
pub fn open(bucket: &str, prefix: &str, lock: Option<(LockArg, u32)>) -> Result<Opened, Fatal> {
    let aws = Aws::from_environment().map_err(|e| Fatal::new("Config.Aws", e.to_string()))?;
    let key = if prefix.is_empty() { LOCK.to_owned() } else { format!("{prefix}/{LOCK}") };
    let mut store = aws.store(bucket, prefix);
    if let Some((mode, days)) = lock {
        let mode = match mode {
            LockArg::Governance => LockMode::Governance,
            LockArg::Compliance => LockMode::Compliance,
        };
        store = store.with_lock(Lock { mode, days }, Arc::new(SystemClock));
    }
    Ok(Opened { store: Arc::new(store), lock: Box::new(aws.checkpoint(bucket, &key)) })
}
