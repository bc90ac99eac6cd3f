//! Objects of an S3 bucket.
//!
//! S3 gives what [`BlobStore`] promises: a read sees every write that was answered before, an object is there whole or
//! not at all, and a put can be made to depend on the key being free (`If-None-Match: *`). A put whose answer was lost
//! is sent again by the client and finds its own object: `Exists` says that an object is there, not whose it is.
//!
//! Where the bucket keeps versions, an object that is open stays what it was; elsewhere reading it fails once it was
//! replaced.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use keytrail_ports::{BlobRead, BlobStore, Put, StoreError};
use tokio::runtime::Runtime;

use super::{Aws, failure};
use crate::key_fault;

/// How long an attempt may take: 17 MiB at 1 MB/s, and time to spare.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Attempts of a call.
const ATTEMPTS: u32 = 3;

/// How often a put is sent while another one of the same key goes on.
const CONFLICTS: u32 = 5;

/// Objects of a bucket below a prefix. See [`BlobStore`] for the contract.
#[derive(Clone)]
pub struct S3Store {
    client: Client,
    runtime: Arc<Runtime>,
    bucket: String,
    prefix: String,
}

impl S3Store {
    pub(super) fn new(aws: &Aws, bucket: &str, prefix: &str) -> Self {
        let (timeouts, retries) = aws.limits(ATTEMPT, ATTEMPTS);
        let has_endpoint = aws.config.endpoint_url().is_some()
            || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some_and(|url| !url.is_empty());
        let config = aws_sdk_s3::config::Builder::from(&aws.config)
            .timeout_config(timeouts)
            .retry_config(retries)
            // Who names an endpoint seldom has a host name for each bucket.
            .force_path_style(has_endpoint)
            .build();
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let client = Client::from_conf(config);
        Self { client, runtime: Arc::clone(&aws.runtime), bucket: bucket.to_owned(), prefix }
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// A key as the bucket has it.
    fn full(&self, key: &str) -> Result<String, StoreError> {
        let full = format!("{}{key}", self.prefix);
        match key_fault(key).or_else(|| key_fault(&full)) {
            Some(fault) => Err(fault),
            None => Ok(full),
        }
    }

    fn at(&self, verb: &str, full: &str) -> String {
        format!("{verb} `s3://{}/{full}`", self.bucket)
    }

    fn put(&self, key: &str, body: &dyn Fn() -> Result<ByteStream, StoreError>) -> Result<Put, StoreError> {
        let full = self.full(key)?;
        let mut conflicts = 0;
        loop {
            let request = self.client.put_object().bucket(&self.bucket).key(&full).if_none_match("*");
            let error = match self.runtime.block_on(request.body(body()?).send()) {
                Ok(_) => return Ok(Put::Created),
                Err(error) => error,
            };
            match error.as_service_error().and_then(|e| e.code()) {
                Some("PreconditionFailed") => return Ok(Put::Exists),
                // Another put of the same key goes on.
                Some("ConditionalRequestConflict") if conflicts < CONFLICTS => conflicts += 1,
                _ => return Err(failure(&self.at("put", &full), &error)),
            }
            std::thread::sleep(Duration::from_millis(100) * conflicts);
        }
    }
}

impl BlobStore for S3Store {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let full = self.full(key)?;
        let request = self.client.get_object().bucket(&self.bucket).key(&full);
        self.runtime.block_on(async {
            match request.send().await {
                Ok(object) => collect(object.body, &self.at("get", &full)).await.map(Some),
                Err(e) if e.as_service_error().is_some_and(|e| e.is_no_such_key()) => Ok(None),
                Err(e) => Err(failure(&self.at("get", &full), &e)),
            }
        })
    }

    fn open(&self, key: &str) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        let full = self.full(key)?;
        let request = self.client.head_object().bucket(&self.bucket).key(&full);
        let head = match self.runtime.block_on(request.send()) {
            Ok(head) => head,
            Err(e) if e.as_service_error().is_some_and(|e| e.is_not_found()) => return Ok(None),
            Err(e) => return Err(failure(&self.at("open", &full), &e)),
        };
        let len = head.content_length().and_then(|n| u64::try_from(n).ok());
        let len = len.ok_or_else(|| StoreError::Retryable(format!("`{full}` has no length")))?;
        let version = head.version_id().filter(|v| *v != "null").map(str::to_owned);
        let tag = head.e_tag().map(str::to_owned);
        Ok(Some(Box::new(S3Read { store: self.clone(), full, len, version, tag })))
    }

    fn put_if_absent(&self, key: &str, bytes: &[u8]) -> Result<Put, StoreError> {
        self.put(key, &|| Ok(ByteStream::from(bytes.to_vec())))
    }

    fn put_file_if_absent(&self, key: &str, file: &Path) -> Result<Put, StoreError> {
        let unreadable =
            |e: &dyn std::fmt::Display| StoreError::Fatal(format!("cannot read `{}`: {e}", file.display()));
        let body = || self.runtime.block_on(ByteStream::from_path(file)).map_err(|e| unreadable(&e));
        let put = self.put(key, &body)?;
        std::fs::remove_file(file)
            .map_err(|e| StoreError::Fatal(format!("cannot remove `{}`: {e}", file.display())))?;
        Ok(put)
    }

    fn replace(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let full = self.full(key)?;
        let request = self.client.put_object().bucket(&self.bucket).key(&full);
        let sent = self.runtime.block_on(request.body(ByteStream::from(bytes.to_vec())).send());
        sent.map(|_| ()).map_err(|e| failure(&self.at("put", &full), &e))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let full = self.full(key)?;
        let request = self.client.delete_object().bucket(&self.bucket).key(&full);
        let sent = self.runtime.block_on(request.send());
        sent.map(|_| ()).map_err(|e| failure(&self.at("delete", &full), &e))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let full = format!("{}{prefix}", self.prefix);
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&full);
        let mut pages = request.into_paginator().send();
        self.runtime.block_on(async {
            let mut keys = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|e| failure(&self.at("list", &full), &e))?;
                let found = page.contents().iter().filter_map(|object| object.key());
                keys.extend(found.filter_map(|key| key.strip_prefix(&self.prefix)).map(str::to_owned));
            }
            Ok(keys)
        })
    }
}

async fn collect(body: ByteStream, what: &str) -> Result<Vec<u8>, StoreError> {
    let all = body.collect().await;
    all.map(|bytes| bytes.to_vec())
        .map_err(|e| StoreError::Retryable(format!("cannot {what}: the answer ended early: {e}")))
}

struct S3Read {
    store: S3Store,
    full: String,
    len: u64,
    version: Option<String>,
    tag: Option<String>,
}

impl BlobRead for S3Read {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let Some(end) = end else {
            let message = format!("`{}` ends before byte {offset} + {}", self.full, buf.len());
            return Err(StoreError::Fatal(message));
        };
        if buf.is_empty() {
            return Ok(());
        }
        let request = self.store.client.get_object().bucket(&self.store.bucket).key(&self.full);
        let request = request.range(format!("bytes={offset}-{}", end - 1));
        let request = match &self.version {
            Some(version) => request.version_id(version),
            None => request.set_if_match(self.tag.clone()),
        };
        let what = self.store.at("read", &self.full);
        let bytes = self.store.runtime.block_on(async {
            let object = request.send().await.map_err(|e| failure(&what, &e))?;
            collect(object.body, &what).await
        })?;
        if bytes.len() != buf.len() {
            let message = format!("cannot {what}: {} of {} bytes came", bytes.len(), buf.len());
            return Err(StoreError::Retryable(message));
        }
        buf.copy_from_slice(&bytes);
        Ok(())
    }
}
