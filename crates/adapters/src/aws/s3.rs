//! Objects of an S3 bucket.
//!
//! S3 gives what [`BlobStore`] promises: a read sees every write that was answered before, an object is there whole or
//! not at all, and a put can be made to depend on the key being free (`If-None-Match: *`). A put whose answer was lost
//! is sent again by the client and finds its own object: `Exists` says that an object is there, not whose it is.
//!
//! Where the bucket keeps versions, an object that is open stays what it was; elsewhere reading it fails once it was
//! replaced.

mod checkpoint;
mod lock;
mod objects;
mod parts;
mod read;

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use keytrail_ports::{BlobRead, BlobStore, CheckpointStore as _, Put, StoreError, Swap};

use super::{ATTEMPTS, Aws, Driver, answered, failure};
use crate::key_fault;
use lock::Until;
use read::S3Read;

pub use checkpoint::S3Checkpoint;
pub use lock::{Lock, LockMode, Removal, Retention, Version};
pub use objects::S3Objects;

/// How long an attempt may take: 17 MiB at 1 MB/s, and time to spare.
const ATTEMPT: Duration = Duration::from_secs(20);

/// How often a put is sent while another one of the same key goes on.
const CONFLICTS: u32 = 5;

/// What one put takes (S3 User Guide, "Uploading objects").
const PUT_BYTES: u64 = 5 << 30;

/// Room that is made for a body before it comes, at most; a larger one makes its own as it does.
const ROOM_BYTES: usize = 8 << 20;

/// A client for all buckets.
pub(super) fn client(aws: &Aws) -> Client {
    let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
    let has_endpoint = aws.config.endpoint_url().is_some()
        || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
    let config = aws_sdk_s3::config::Builder::from(&aws.config)
        .timeout_config(timeouts)
        .retry_config(retries)
        // Who names an endpoint seldom has a host name for each bucket.
        .force_path_style(has_endpoint)
        .build();
    Client::from_conf(config)
}

/// A bucket, and what is asked about it.
#[derive(Clone)]
struct Bucket {
    client: Client,
    runtime: Driver,
    name: String,
}

impl Bucket {
    fn new(aws: &Aws, name: &str) -> Self {
        Self { client: aws.s3(), runtime: aws.runtime.clone(), name: name.to_owned() }
    }

    fn at(&self, verb: &str, key: &str) -> String {
        format!("{verb} `s3://{}/{key}`", self.name)
    }

    fn get(&self, key: &str) -> Result<Option<Got>, StoreError> {
        let request = self.client.get_object().bucket(&self.name).key(key);
        self.runtime.block_on(async {
            match request.send().await {
                Ok(object) => {
                    let tag = object.e_tag().map(str::to_owned);
                    let bytes = collect(object.body, &self.at("get", key)).await?;
                    Ok(Some(Got { bytes, tag }))
                }
                Err(e) if e.as_service_error().is_some_and(|e| e.is_no_such_key()) => Ok(None),
                Err(e) => Err(failure(&self.at("get", key), &e)),
            }
        })
    }
}

/// An object's bytes, and the tag that stands for them.
struct Got {
    bytes: Vec<u8>,
    tag: Option<String>,
}

/// A body's bytes, chunk by chunk: `ByteStream::collect` makes a vector of them byte by byte.
async fn collect(mut body: ByteStream, what: &str) -> Result<Vec<u8>, StoreError> {
    let told = usize::try_from(body.size_hint().0).unwrap_or(usize::MAX);
    let mut all = Vec::with_capacity(told.min(ROOM_BYTES));
    loop {
        match body.try_next().await {
            Ok(Some(chunk)) => all.extend_from_slice(&chunk),
            Ok(None) => return Ok(all),
            Err(e) => {
                let message = format!("cannot {what}: the answer ended early: {e}");
                return Err(StoreError::Retryable(message));
            }
        }
    }
}

/// Objects of a bucket below a prefix. See [`BlobStore`] for the contract.
#[derive(Clone)]
pub struct S3Store {
    bucket: Bucket,
    prefix: String,
    locked: Option<lock::Locked>,
}

impl S3Store {
    pub(super) fn new(aws: &Aws, bucket: &str, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { bucket: Bucket::new(aws, bucket), prefix, locked: None }
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket.name
    }

    /// A key as the bucket has it.
    fn full(&self, key: &str) -> Result<String, StoreError> {
        let full = format!("{}{key}", self.prefix);
        match key_fault(key).or_else(|| key_fault(&full)) {
            Some(fault) => Err(fault),
            None => Ok(full),
        }
    }

    /// Puts an object; where `is_new`, unless one is there.
    fn put(&self, key: &str, is_new: bool, bytes: &[u8]) -> Result<Put, StoreError> {
        if bytes.len() as u64 > PUT_BYTES {
            return Err(StoreError::Fatal(format!("`{key}` is larger than the 5 GiB that one put takes")));
        }
        let body = || Ok(ByteStream::from(bytes.to_vec()));
        self.put_body(key, is_new, &body)
    }

    fn put_body(
        &self,
        key: &str,
        is_new: bool,
        body: &dyn Fn() -> Result<ByteStream, StoreError>,
    ) -> Result<Put, StoreError> {
        let full = self.full(key)?;
        let until = self.until(key);
        let Bucket { client, runtime, name } = &self.bucket;
        let mut conflicts = 0;
        loop {
            let request = client
                .put_object()
                .bucket(name)
                .key(&full)
                .set_if_none_match(is_new.then(|| "*".to_owned()))
                .set_object_lock_mode(until.map(|u| u.mode.as_s3()))
                .set_object_lock_retain_until_date(until.map(Until::date));
            let error = match runtime.block_on(request.body(body()?).send()) {
                Ok(put) => return self.is_locked(&full, put.version_id(), until).map(|()| Put::Created),
                Err(error) => error,
            };
            match answered(&error) {
                Some((_, "PreconditionFailed")) => return self.lock_found(key, until).map(|()| Put::Exists),
                // Another put of the same key goes on.
                Some((_, "ConditionalRequestConflict")) if conflicts < CONFLICTS => conflicts += 1,
                _ => return Err(failure(&self.bucket.at("put", &full), &error)),
            }
            std::thread::sleep(Duration::from_millis(100) * conflicts);
        }
    }
}

impl BlobStore for S3Store {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bucket.get(&self.full(key)?)?.map(|got| got.bytes))
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        let opened = S3Read::open(&self.bucket, self.full(key)?, None)?;
        Ok(opened.map(|read| Box::new(read) as Box<dyn BlobRead>))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.put(key, true, bytes)
    }

    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError> {
        let at = |verb: &str, e: &dyn std::fmt::Display| {
            StoreError::Fatal(format!("cannot {verb} `{}`: {e}", file.display()))
        };
        let len = file.metadata().map_err(|e| at("read", &e))?.len();
        let put = if len > parts::WHOLE_BYTES {
            self.put_in_parts(key, file, len)?
        } else {
            let runtime = &self.bucket.runtime;
            let body = || runtime.block_on(ByteStream::from_path(file)).map_err(|e| at("read", &e));
            self.put_body(key, true, &body)?
        };
        std::fs::remove_file(file).map_err(|e| at("remove", &e))?;
        Ok(put)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.put(key, false, bytes).map(|_| ())
    }

    fn swap(&self, key: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<Swap, StoreError> {
        S3Checkpoint { bucket: self.bucket.clone(), key: self.full(key)? }.compare_and_swap(expected, bytes)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full(key)?;
        // Without a version: where the bucket keeps them, all stay.
        let request = self.bucket.client.delete_object().bucket(&self.bucket.name).key(&full);
        let sent = self.bucket.runtime.block_on(request.send());
        sent.map(|_| ()).map_err(|e| failure(&self.bucket.at("delete", &full), &e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let full = format!("{}{prefix}", self.prefix);
        let mut keys = Vec::new();
        self.bucket.list(&full, &mut |object| {
            keys.extend(object.key.strip_prefix(&self.prefix).map(str::to_owned));
            Ok(())
        })?;
        Ok(keys)
    }
}
