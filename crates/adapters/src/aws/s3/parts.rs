//! Files that go to S3 in parts.

use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use keytrail_ports::{BlobStore as _, Put, StoreError};

use super::lock::Until;
use super::{Bucket, CONFLICTS, S3Store};
use crate::aws::{answered, failure};

/// Larger files go in parts.
pub(super) const WHOLE_BYTES: u64 = 64 << 20;

/// The smallest part: an attempt has the time for it on a slow line.
const PART_BYTES: u64 = 16 << 20;

/// Parts of an object (S3 User Guide, "multipart upload limits").
const PARTS: u64 = 10_000;

/// The largest part.
const LARGEST_PART_BYTES: u64 = super::PUT_BYTES;

impl S3Store {
    /// Puts a file of that length unless the key is taken: it is there, whole, when the last request is answered.
    pub(super) fn put_in_parts(&self, key: &str, file: &Path, len: u64) -> Result<Put, StoreError> {
        let full = self.full(key)?;
        let part = PART_BYTES.max(len.div_ceil(PARTS));
        if part > LARGEST_PART_BYTES {
            return Err(StoreError::Fatal(format!("`{key}` is larger than an object can be")));
        }
        let until = self.until(key);
        // A look first spares sending what is there; the end decides.
        if self.open(key)?.is_some() {
            return self.lock_found(key, until).map(|()| Put::Exists);
        }
        let id = self.begin(&full, until)?;
        let put = self.send(&full, &id, file, len, part).and_then(|parts| self.end(&full, &id, parts));
        let version = match put {
            Ok(Some(version)) => version,
            other => {
                self.abort(&full, &id);
                return match other {
                    Err(e) => Err(e),
                    Ok(_) => self.lock_found(key, until).map(|()| Put::Exists),
                };
            }
        };
        self.is_locked(&full, version.as_deref(), until).map(|()| Put::Created)
    }

    fn begin(&self, full: &str, until: Option<Until>) -> Result<String, StoreError> {
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client
            .create_multipart_upload()
            .bucket(name)
            .key(full)
            .set_object_lock_mode(until.map(|u| u.mode.as_s3()))
            .set_object_lock_retain_until_date(until.map(Until::date));
        let begun =
            runtime.block_on(request.send()).map_err(|e| failure(&self.bucket.at("put", full), &e))?;
        let id = begun.upload_id().map(str::to_owned);
        id.ok_or_else(|| StoreError::Retryable(format!("cannot {}: no id came", self.bucket.at("put", full))))
    }

    fn send(
        &self,
        full: &str,
        id: &str,
        file: &Path,
        len: u64,
        part: u64,
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let Bucket { client, runtime, name } = &self.bucket;
        let mut sent = Vec::new();
        let mut at = 0;
        while at < len {
            let bytes = part.min(len - at);
            let number = i32::try_from(sent.len() + 1).unwrap_or(i32::MAX);
            let tag = runtime.block_on(async {
                let read = ByteStream::read_from().path(file).offset(at).length(Length::Exact(bytes)).build();
                let body = read
                    .await
                    .map_err(|e| StoreError::Fatal(format!("cannot read `{}`: {e}", file.display())))?;
                let request = client.upload_part().bucket(name).key(full).upload_id(id).part_number(number);
                let answer = request.body(body).send().await;
                let answer = answer.map_err(|e| failure(&self.bucket.at("put", full), &e))?;
                Ok::<_, StoreError>(answer.e_tag().map(str::to_owned))
            })?;
            sent.push(CompletedPart::builder().part_number(number).set_e_tag(tag).build());
            at += bytes;
        }
        Ok(sent)
    }

    /// Makes an object of the parts, and gives its version; `None`: one is there.
    fn end(
        &self,
        full: &str,
        id: &str,
        parts: Vec<CompletedPart>,
    ) -> Result<Option<Option<String>>, StoreError> {
        let Bucket { client, runtime, name } = &self.bucket;
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let mut conflicts = 0;
        loop {
            let request = client.complete_multipart_upload().bucket(name).key(full).upload_id(id);
            let request = request.multipart_upload(parts.clone()).if_none_match("*");
            let error = match runtime.block_on(request.send()) {
                Ok(put) => return Ok(Some(put.version_id().map(str::to_owned))),
                Err(error) => error,
            };
            match answered(&error) {
                Some((_, "PreconditionFailed")) => return Ok(None),
                // Another put of the same key goes on, or the answer to ours was lost.
                Some((_, "ConditionalRequestConflict" | "NoSuchUpload")) if conflicts < CONFLICTS => {
                    if self.bucket.get_head(full, None)?.is_some() {
                        return Ok(None);
                    }
                    conflicts += 1;
                }
                _ => return Err(failure(&self.bucket.at("put", full), &error)),
            }
            std::thread::sleep(Duration::from_millis(100) * conflicts);
        }
    }

    /// Gives back the room that parts take.
    fn abort(&self, full: &str, id: &str) {
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client.abort_multipart_upload().bucket(name).key(full).upload_id(id);
        // What stays is no object; a rule of the bucket's lifecycle ends it.
        match runtime.block_on(request.send()) {
            Ok(_) | Err(_) => {}
        }
    }
}
