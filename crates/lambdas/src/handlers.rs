//! A handler for each function: its event to one call of the pipeline.

pub mod archive_events;
pub mod assess_day;
pub mod compact_archive;
pub mod freeze_week;
pub mod index_events;
pub mod publish_alerts;
pub mod publish_report;
pub mod redrive_batches;
pub mod render_report;
pub mod seal_archive;
pub mod sign_report;
pub mod stage_objects;
pub mod stage_records;
pub mod sweep_raw;
pub mod verify_archive;
mod weekly;

use keytrail_adapters::aws::{Aws, S3Store};
use keytrail_model::Fatal;
use keytrail_pipeline::staging::Staging;
use keytrail_ports::BlobStore;
use serde::{Deserialize, Serialize};

use crate::Environment;
use crate::environment::S3Url;

/// An event without anything in it, or with what the caller did not need to say.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Nothing {}

/// The store of raw objects, of `KEYTRAIL_RAW`.
pub struct RawStore {
    store: Box<dyn BlobStore>,
    bucket: String,
    prefix: String,
}

impl RawStore {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>, aws: &Aws) -> Self {
        let url: S3Url = environment.s3("KEYTRAIL_RAW");
        let store: S3Store = aws.store(&url.bucket, &url.key);
        let prefix = url.below("");
        Self { store: Box::new(store), bucket: url.bucket, prefix }
    }

    /// Of any store.
    pub fn new(store: Box<dyn BlobStore>, bucket: &str) -> Self {
        Self { store, bucket: bucket.to_owned(), prefix: String::new() }
    }

    /// As the pipeline takes it.
    pub fn staging(&self) -> Staging<'_> {
        Staging { store: &*self.store, bucket: &self.bucket, prefix: &self.prefix }
    }

    /// Its objects.
    pub fn store(&self) -> &dyn BlobStore {
        &*self.store
    }

    /// Where an object of the store is: bucket and key.
    pub fn place(&self, key: &str) -> (String, String) {
        (self.bucket.clone(), format!("{}{key}", self.prefix))
    }
}

/// JSON that carries references: it always serialises.
fn to_json(value: &impl Serialize) -> Result<String, Fatal> {
    serde_json::to_string(value).map_err(|e| Fatal::new("Fatal.Internal", format!("an answer: {e}")))
}
