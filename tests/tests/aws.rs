//! The adapters of Kinesis and S3 keep the contracts of their ports, against LocalStack.

use std::env;
use std::process::Command;

use keytrail_adapters::aws::Aws;
use keytrail_adapters::conformance::{blob_store, stream};
use keytrail_ports::{BlobStore as _, Put, StoreError, Stream as _};
use keytrail_tests::localstack::{LocalStack, name};

/// Clients read the environment, which a process does not change for itself: the test of that name is run again in one
/// that has it. Gives what is shared with that process, in it.
fn in_its_environment(test: &str) -> Option<LocalStack> {
    let aws = LocalStack::shared();
    if env::var_os("KEYTRAIL_LOCALSTACK_PORT").is_some() {
        return Some(aws);
    }
    let again = Command::new(env::current_exe().expect("the test"))
        .args([test, "--exact", "--nocapture"])
        .envs(aws.childs_environment())
        .status()
        .expect("it starts");
    assert!(again.success());
    None
}

#[test]
fn a_bucket_is_a_store() {
    let Some(aws) = in_its_environment("a_bucket_is_a_store") else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clients = Aws::from_environment().expect("a region");
    let bucket = aws.bucket();
    blob_store(&clients.store(&bucket, "a/b"), folder.path());
    blob_store(&clients.store(&aws.bucket(), ""), folder.path());
    assert!(aws.objects(&bucket).keys().all(|key| key.starts_with("a/b/")));
    let missing = clients.store(&name(), "");
    let put = missing.put_if_absent("a", b"x");
    assert!(matches!(&put, Err(StoreError::Fatal(m)) if m.contains("NoSuchBucket")), "{put:?}");
}

#[test]
fn an_object_is_put_once_whatever_its_bytes() {
    let Some(aws) = in_its_environment("an_object_is_put_once_whatever_its_bytes") else { return };
    let store = Aws::from_environment().expect("a region").store(&aws.bucket(), "");
    let large = vec![0xA5; 17 << 20];
    assert_eq!(store.put_if_absent("large", &large), Ok(Put::Created));
    assert_eq!(store.put_if_absent("large", b"other"), Ok(Put::Exists));
    assert!(store.get("large") == Ok(Some(large)));
}

#[test]
fn a_stream_is_a_stream() {
    let Some(aws) = in_its_environment("a_stream_is_a_stream") else { return };
    let clients = Aws::from_environment().expect("a region");
    let name = aws.stream(3);
    stream(&clients.stream(&name), &|| aws.records(&name));
    let unput = clients.stream("there-is-none").put("key", &[b"x"]).expect_err("there is none");
    assert!(unput.durable == 0 && matches!(unput.error, StoreError::Fatal(_)), "{unput:?}");
}
