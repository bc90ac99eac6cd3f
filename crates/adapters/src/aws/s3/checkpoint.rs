//! A small value that processes race for, as an object.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use keytrail_ports::{CheckpointStore, StoreError, Swap};

use super::{Aws, Bucket, CONFLICTS};
use crate::aws::{answered, failure};
use crate::key_fault;

/// A value in an object. Swaps depend on the object's ETag, which S3 compares. See [`CheckpointStore`] for the contract.
pub struct S3Checkpoint {
    pub(super) bucket: Bucket,
    pub(super) key: String,
}

impl S3Checkpoint {
    pub(in crate::aws) fn new(aws: &Aws, bucket: &str, key: &str) -> Self {
        Self { bucket: Bucket::new(aws, bucket), key: key.to_owned() }
    }

    fn key(&self) -> Result<&str, StoreError> {
        key_fault(&self.key).map_or(Ok(&self.key), Err)
    }
}

impl CheckpointStore for S3Checkpoint {
    fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.bucket.get(self.key()?)?.map(|got| got.bytes))
    }

    fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
        let key = self.key()?;
        let Bucket { client, runtime, name } = &self.bucket;
        let mut conflicts = 0;
        loop {
            let request = client.put_object().bucket(name).key(key);
            let request = match expected {
                None => request.if_none_match("*"),
                Some(expected) => {
                    let there = self.bucket.get(key)?.filter(|got| got.bytes == expected);
                    let Some(there) = there else { return Ok(Swap::Lost) };
                    let tag = there.tag.ok_or_else(|| {
                        StoreError::Fatal(format!("cannot {}: it has no ETag", self.bucket.at("swap", key)))
                    })?;
                    request.if_match(tag)
                }
            };
            let error = match runtime.block_on(request.body(ByteStream::from(new.to_vec())).send()) {
                Ok(_) => return Ok(Swap::Done),
                Err(error) => error,
            };
            match answered(&error) {
                // Nobody deletes it, but if so, it is not what was expected.
                Some((412, _) | (404, "NoSuchKey")) => return Ok(Swap::Lost),
                // Another swap goes on, which may come to nothing.
                Some((_, "ConditionalRequestConflict")) if conflicts < CONFLICTS => conflicts += 1,
                Some((_, "ConditionalRequestConflict")) => return Ok(Swap::Lost),
                _ => return Err(failure(&self.bucket.at("swap", key), &error)),
            }
            std::thread::sleep(Duration::from_millis(20) * conflicts);
        }
    }
}
