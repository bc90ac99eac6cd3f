//! Ships to a bucket, an object a segment.
//!
//! An object's name follows from its first record and it is put only where there is none: `<prefix>/<source>/<epoch, 20
//! digits>-<first seq, 20 digits>.ktseg`. One that is there already has to be made of the same records.

use std::sync::Arc;

use keytrail_model::segment::Header;
use keytrail_ports::{BlobStore, Put};

use super::{Destination, Records, Shipped, file_name, made_of, segment, segment_name};

/// Objects of a bucket, of which segments are some.
pub struct Objects {
    store: Arc<dyn BlobStore>,
    bucket: String,
    prefix: String,
}

impl Objects {
    /// The objects below `prefix` of a bucket, all of which is `store`.
    pub fn new(store: Arc<dyn BlobStore>, bucket: &str, prefix: &str) -> Self {
        Self { store, bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    /// The bucket.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Key of the segment that begins so.
    pub fn key(&self, header: &Header) -> String {
        // Keys have no `%`.
        let (source, name) = (file_name(&header.source, '='), segment_name(header.epoch, header.first_seq));
        format!("{}/{source}/{name}", self.prefix)
    }

    /// Puts a segment; gives its last record, and its size. One that is there may end earlier.
    pub fn put(&self, header: &Header, records: &Records) -> Result<(u64, u64), String> {
        let (key, bytes) = (self.key(header), segment(header, records));
        let last_seq = records.last().map_or(header.first_seq, |r| r.0);
        match self.store.put_if_absent(&key, &bytes) {
            Ok(Put::Created) => return Ok((last_seq, bytes.len() as u64)),
            Ok(Put::Exists) => {}
            Err(e) => return Err(e.to_string()),
        }
        let there = self.store.get(&key).map_err(|e| e.to_string())?;
        let there = there.ok_or_else(|| format!("`{key}` was there, and is gone"))?;
        match made_of(&there, header, records) {
            Some(last_seq) => Ok((last_seq, there.len() as u64)),
            None => Err(format!("`{key}` is there, and is not made of the spool's records")),
        }
    }
}

impl Destination for Objects {
    fn ship(&mut self, header: &Header, records: &Records) -> Result<Shipped, String> {
        let (last_seq, bytes) = self.put(header, records)?;
        Ok(Shipped { last_seq, segments: 1, bytes, fallback: false })
    }
}

#[cfg(test)]
mod tests {
    use keytrail_adapters::memory::MemoryStore;

    use super::super::tests::{header, records};
    use super::*;

    #[test]
    fn an_object_is_put_once_and_is_the_same_or_an_error() {
        let store = MemoryStore::new();
        let key = "a/b/gateway-1=2Fp=400/00000000000000000001-00000000000000000000.ktseg";
        store.put_if_absent("a/b/other", b"").unwrap();
        let mut objects = Objects::new(Arc::new(store), "bucket", "a/b");
        let first = objects.ship(&header(0), &records(0, &[1, 1])).unwrap();
        assert_eq!((first.last_seq, first.segments, first.fallback), (1, 1, false));
        let bytes = objects.store.get(key).unwrap().unwrap();
        assert_eq!(bytes, segment(&header(0), &records(0, &[1, 1])));
        assert_eq!(objects.ship(&header(0), &records(0, &[1, 1, 1])), Ok(first), "as after a restart");
        let other = objects.ship(&header(0), &records(0, &[2, 1])).unwrap_err();
        assert_eq!(other, format!("`{key}` is there, and is not made of the spool's records"));
    }
}
