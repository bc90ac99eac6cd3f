//! An open object.
//!
//! A read is a request, which takes far longer than its bytes: what is read in small steps is asked for in larger ones.

use std::sync::{Arc, Mutex, PoisonError};

use keytrail_ports::{BlobRead, StoreError};

use super::{Bucket, collect};
use crate::aws::{answered, failure};

/// What is read with opening: all of a small object, and the length of any.
const FIRST_BYTES: u64 = 256 << 10;

/// What is read ahead at first, and at most: it doubles while reads follow one another.
const AHEAD_BYTES: (u64, u64) = (1 << 20, 8 << 20);

pub(super) struct S3Read {
    bucket: Bucket,
    key: String,
    len: u64,
    version: Option<String>,
    tag: Option<String>,
    held: Mutex<Arc<Held>>,
}

/// A part of the object in memory.
struct Held {
    from: u64,
    bytes: Vec<u8>,
    /// What is read ahead, if the next read goes on where this ends.
    next: u64,
}

impl Held {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// The part from `offset` on, as far as it is held.
    fn part(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.from).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }
}

impl S3Read {
    /// Opens an object, or one version of it; `None`: it is not there.
    pub fn open(bucket: &Bucket, key: String, version: Option<&str>) -> Result<Option<Self>, StoreError> {
        let what = bucket.at("open", &key);
        let request = bucket.client.get_object().bucket(&bucket.name).key(&key);
        let request = request.set_version_id(version.map(str::to_owned));
        let request = request.range(format!("bytes=0-{}", FIRST_BYTES - 1));
        let opened = bucket.runtime.block_on(async {
            let object = match request.send().await {
                Ok(object) => object,
                Err(e) => {
                    return match answered(&e) {
                        Some((_, "NoSuchKey" | "NoSuchVersion")) => Ok(None),
                        // There is no first byte.
                        Some((416, _)) => Ok(Some((0, None, None, Vec::new()))),
                        _ => Err(failure(&what, &e)),
                    };
                }
            };
            // `bytes 0-9/10`; an answer without has all bytes.
            let range = object.content_range().and_then(|r| r.rsplit_once('/')?.1.parse().ok());
            let len = range.or_else(|| u64::try_from(object.content_length()?).ok());
            let len = len.ok_or_else(|| StoreError::Retryable(format!("`{key}` has no length")))?;
            let version = object.version_id().filter(|v| *v != "null").map(str::to_owned);
            let tag = object.e_tag().map(str::to_owned);
            Ok(Some((len, version, tag, collect(object.body, &what).await?)))
        })?;
        let Some((len, version, tag, bytes)) = opened else { return Ok(None) };
        let held = Mutex::new(Arc::new(Held { from: 0, bytes, next: AHEAD_BYTES.0 }));
        Ok(Some(Self { bucket: bucket.clone(), key, len, version, tag, held }))
    }

    /// Reads from `offset` up to `end`.
    fn fetch(&self, offset: u64, end: u64) -> Result<Vec<u8>, StoreError> {
        let Bucket { client, runtime, name } = &self.bucket;
        let request = client.get_object().bucket(name).key(&self.key);
        let request = request.range(format!("bytes={offset}-{}", end - 1));
        let request = match &self.version {
            Some(version) => request.version_id(version),
            None => request.set_if_match(self.tag.clone()),
        };
        let what = self.bucket.at("read", &self.key);
        let bytes = runtime.block_on(async {
            let object = request.send().await.map_err(|e| failure(&what, &e))?;
            collect(object.body, &what).await
        })?;
        if bytes.len() as u64 != end - offset {
            let message = format!("cannot {what}: {} of {} bytes came", bytes.len(), end - offset);
            return Err(StoreError::Retryable(message));
        }
        Ok(bytes)
    }
}

impl BlobRead for S3Read {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        let Some(end) = end else {
            let message = format!("`{}` ends before byte {offset} + {}", self.key, buf.len());
            return Err(StoreError::Fatal(message));
        };
        let held = Arc::clone(&self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let part = held.part(offset);
        let part = &part[..part.len().min(buf.len())];
        let (first, rest) = buf.split_at_mut(part.len());
        first.copy_from_slice(part);
        if rest.is_empty() {
            return Ok(());
        }
        let from = offset + part.len() as u64;
        let goes_on = from == held.end();
        let ahead = if goes_on { held.next } else { AHEAD_BYTES.0 };
        if rest.len() as u64 >= ahead {
            rest.copy_from_slice(&self.fetch(from, end)?);
            return Ok(());
        }
        // What stands before the end of an object is read backwards: the footer, then what it points to.
        let to = from.saturating_add(ahead).min(self.len);
        let start = if goes_on { from } else { from.min(to.saturating_sub(ahead)) };
        let bytes = self.fetch(start, to)?;
        let next = if goes_on { (ahead * 2).min(AHEAD_BYTES.1) } else { AHEAD_BYTES.0 };
        let held = Held { from: start, bytes, next };
        rest.copy_from_slice(&held.part(from)[..rest.len()]);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
        Ok(())
    }
}
