//! Objects that others put.

use aws_sdk_s3::types::{Tag, Tagging};
use keytrail_ports::{BlobRead, ListedObject, ObjectName, RawObjects, StoreError};

use super::read::S3Read;
use super::{Aws, Bucket};
use crate::aws::{answered, failure};

/// What an object that was taken in is tagged with.
const TAKEN: (&str, &str) = ("keytrail", "taken");

/// Tags of an object (S3 User Guide, "object tagging").
const TAGS: usize = 10;

/// Objects of any bucket. See [`RawObjects`] for the contract.
#[derive(Clone)]
pub struct S3Objects {
    aws: Aws,
}

impl S3Objects {
    pub(in crate::aws) fn new(aws: &Aws) -> Self {
        Self { aws: aws.clone() }
    }

    fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(&self.aws, name)
    }
}

impl Bucket {
    /// Hands out what is listed below a prefix.
    pub(super) fn list(
        &self,
        prefix: &str,
        each: &mut dyn FnMut(ListedObject) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let mut pages = request.into_paginator().send();
        while let Some(page) = self.runtime.block_on(pages.next()) {
            let page = page.map_err(|e| failure(&self.at("list", prefix), &e))?;
            for object in page.contents() {
                let size = object.size().and_then(|n| u64::try_from(n).ok());
                let (Some(key), Some(bytes)) = (object.key(), size) else {
                    let what = self.at("list", prefix);
                    return Err(StoreError::Retryable(format!(
                        "cannot {what}: an object has no key or size"
                    )));
                };
                each(ListedObject { key: key.to_owned(), bytes })?;
            }
        }
        Ok(())
    }
}

impl RawObjects for S3Objects {
    fn open(&self, name: &ObjectName) -> Result<Option<Box<dyn BlobRead>>, StoreError> {
        let bucket = self.bucket(&name.bucket);
        let opened = S3Read::open(&bucket, name.key.clone(), name.version.as_deref())?;
        Ok(opened.map(|read| Box::new(read) as Box<dyn BlobRead>))
    }

    fn list(
        &self,
        bucket: &str,
        prefix: &str,
        each: &mut dyn FnMut(ListedObject) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.bucket(bucket).list(prefix, each)
    }

    fn mark_taken(&self, name: &ObjectName) -> Result<(), StoreError> {
        let bucket = self.bucket(&name.bucket);
        let (client, runtime, key) = (&bucket.client, &bucket.runtime, &name.key);
        let version = name.version.clone();
        let request = client.get_object_tagging().bucket(&bucket.name).key(key);
        let tags = match runtime.block_on(request.set_version_id(version.clone()).send()) {
            Ok(answer) => answer.tag_set,
            // It expired, or somebody deleted it: there is nothing left to mark.
            Err(e) if matches!(answered(&e), Some((404, "NoSuchKey" | "NoSuchVersion"))) => return Ok(()),
            Err(e) => return Err(failure(&bucket.at("read the tags of", key), &e)),
        };
        if tags.iter().any(|tag| (tag.key(), tag.value()) == TAKEN) {
            return Ok(());
        }
        let mut tags: Vec<Tag> = tags.into_iter().filter(|tag| tag.key() != TAKEN.0).collect();
        if tags.len() >= TAGS {
            let what = bucket.at("tag", key);
            return Err(StoreError::Fatal(format!(
                "cannot {what}: it has {} tags, the most there can be",
                tags.len()
            )));
        }
        let tagging = |e| StoreError::Fatal(format!("cannot {}: {e}", bucket.at("tag", key)));
        tags.push(Tag::builder().key(TAKEN.0).value(TAKEN.1).build().map_err(|e| tagging(e.to_string()))?);
        let tags = Tagging::builder().set_tag_set(Some(tags)).build().map_err(|e| tagging(e.to_string()))?;
        let request = client.put_object_tagging().bucket(&bucket.name).key(key).tagging(tags);
        match runtime.block_on(request.set_version_id(version).send()) {
            Ok(_) => Ok(()),
            Err(e) if matches!(answered(&e), Some((404, "NoSuchKey" | "NoSuchVersion"))) => Ok(()),
            Err(e) => Err(failure(&bucket.at("tag", key), &e)),
        }
    }
}
