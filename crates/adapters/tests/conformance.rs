//! Every implementation of a port passes the same suite.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use keytrail_adapters::command::CommandNotifier;
use keytrail_adapters::conformance::{blob_store, checkpoint_store, notifier, stream};
use keytrail_adapters::local::{LocalCheckpoint, LocalStore};
use keytrail_adapters::memory::{
    Fault, Faults, Faulty, MemoryCheckpoint, MemoryNotifier, MemoryStore, MemoryStream,
};
use keytrail_adapters::webhook::{Secret, WebhookNotifier};
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
fn memory_stream() {
    let memory = MemoryStream::new();
    stream(&memory, &|| memory.taken());
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

#[test]
fn memory_notifier() {
    let memory = MemoryNotifier::new();
    notifier(&memory, &|| memory.taken());
}

/// The program puts each body into a file of its own.
#[test]
fn command_notifier() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("cat > \"$(mktemp {}/$KEYTRAIL_ALERT_ID.XXXXXX)\"", dir.path().display());
    notifier(&CommandNotifier::new(line), &|| {
        let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
    });
}

#[test]
fn webhook_notifier() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    let taken = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut id, mut length, mut first) = (String::new(), 0, true);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if first {
                    assert_eq!(line, "POST /hook?a=b HTTP/1.1\r\n");
                    first = false;
                }
                match line.trim_end().split_once(": ") {
                    Some(("webhook-id", value)) => id = value.to_owned(),
                    Some(("content-length", value)) => length = value.parse().unwrap(),
                    Some(_) => {}
                    None if line == "\r\n" => break,
                    None => {}
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            list.lock().unwrap().push((id, body));
            stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        }
    });
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").ok().unwrap();
    let hook = WebhookNotifier::new(&url, secret).unwrap();
    notifier(&hook, &|| taken.lock().unwrap().clone());
}
