//! SQL over the readable set: the stage `query` over a store.
//!
//! In: a [`Readable`] and a store. Out: an [`Archive`] that statements [`run()`] on.

use std::sync::Arc;

use keytrail_ports::BlobStore;
pub use keytrail_query::{Archive, Format, Object, Options, Ran, Read, run};

use crate::objects;
use crate::readable::Readable;

/// The readable objects, and how to open them in a store.
pub fn archive(readable: &Readable, store: Arc<dyn BlobStore>) -> Archive {
    let object = |o: &crate::readable::SealedObject| Object {
        key: o.object.key.clone(),
        bytes: o.object.bytes,
        sha256: o.object.sha256,
        rows: o.rows.count,
        dataset: o.rows.dataset.clone(),
        day: o.rows.day.clone(),
        time_min: o.rows.time_min,
        time_max: o.rows.time_max,
    };
    let open = move |key: &str| objects::ranged(&*store, key);
    Archive::new(readable.objects().map(object).collect(), Box::new(open))
}
