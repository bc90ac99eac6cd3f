//! Every implementation of a port passes the same suite.

use std::sync::Arc;

use keytrail_adapters::conformance::{blob_store, checkpoint_store};
use keytrail_adapters::local::{LocalCheckpoint, LocalStore};
use keytrail_adapters::memory::{Fault, Faults, Faulty, MemoryCheckpoint, MemoryStore};
use keytrail_ports::{BlobStore, CheckpointStore, StoreError, Swap};

#[test]
fn memory_store() {
    let dir = tempfile::tempdir().unwrap();
    blob_store(&MemoryStore::new(), dir.path());
}

#[test]
fn local_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    blob_store(&store, &store.temporary().unwrap());
    assert_eq!(store.list("state/").unwrap(), [""; 0], "nothing unfinished is left");
}

#[test]
fn faulty_store_without_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let inner = MemoryStore::new();
    blob_store(&Faulty::new(&inner as &dyn BlobStore, &Faults::new(0, Fault::NotApplied)), dir.path());
}

#[test]
fn memory_checkpoint() {
    struct Shared(Arc<MemoryCheckpoint>);
    impl CheckpointStore for Shared {
        fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
            self.0.read()
        }
        fn compare_and_swap(&self, expected: Option<&[u8]>, new: &[u8]) -> Result<Swap, StoreError> {
            self.0.compare_and_swap(expected, new)
        }
    }
    let one = Arc::new(MemoryCheckpoint::new());
    checkpoint_store(&|| Box::new(Shared(Arc::clone(&one))));
}

#[test]
fn local_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(dir.path()).unwrap();
    checkpoint_store(&|| Box::new(LocalCheckpoint::new(&store, "log-staging/lock").unwrap()));
    assert_eq!(store.list("").unwrap(), ["log-staging/lock"]);
}

#[test]
fn faults_come_at_the_write_that_was_asked_for() {
    for (fault, applied, later) in [
        (Fault::NotApplied, false, true),
        (Fault::Applied, true, true),
        (Fault::KilledBefore, false, false),
        (Fault::KilledAfter, true, false),
    ] {
        let inner = MemoryStore::new();
        let store = Faulty::new(&inner as &dyn BlobStore, &Faults::new(2, fault));
        store.put_if_absent("a", b"x").unwrap();
        assert!(store.put_if_absent("b", b"x").is_err());
        assert_eq!(inner.get("b").unwrap().is_some(), applied);
        assert_eq!(store.put_if_absent("c", b"x").is_ok(), later);
        assert_eq!(store.get("a").is_ok(), later);
        assert_eq!(inner.get("c").unwrap().is_some(), later);
    }
}
