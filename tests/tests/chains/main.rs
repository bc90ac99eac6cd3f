//! Chains of sources from end to end: a real sidecar's records, shipped, archived, sealed, verified.

mod archive;
mod mutations;

use std::fs;
use std::path::{Path, PathBuf};

use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{self, Footer, Part, write_record};
use keytrail_tests::openbao::OpenBao;
use keytrail_tests::sidecar::{SOURCE, Sidecar};
use serde_json::{Value, json};

const INTENT: &str = r#"{"actor":{"id":"svc-payments","type":"service"},"operation":"sign",
    "policy":{"decision":"allow","ids":["p-1"]},"hsm":{"id":"hsm-1"},"key":{"id":"key-1"},"mechanism":"CKM_ECDSA"}"#;

/// A sidecar that served its API and an OpenBao, over two epochs, one of which ended by a crash.
fn used(folder: &Path) -> Sidecar {
    let mut sidecar = Sidecar::new(folder, "");
    sidecar.start();
    let bao = OpenBao::start_with(&|_| sidecar.http_device());
    let call = |path: &str, body: Value| assert!(bao.call(path, &body).status < 300, "{path}");
    call("sys/mounts/transit", json!({"type": "transit"}));
    call("transit/keys/payments", json!({}));
    for epoch in 0..2 {
        for n in 0..10 {
            let id = format!("op-{epoch}-{n}");
            assert_eq!(sidecar.post(&format!("/v1/intent/{id}"), INTENT).status, 201);
            call("transit/encrypt/payments", json!({"plaintext": "a2V5dHJhaWw="}));
            if n != 9 {
                let outcome = r#"{"result":{"rv":"CKR_OK"}}"#;
                assert_eq!(sidecar.post(&format!("/v1/outcome/{id}"), outcome).status, 200);
            }
        }
        if epoch == 0 {
            sidecar.kill();
            sidecar.start();
        }
    }
    assert_eq!(sidecar.post("/v1/outcome/op-1-9", r#"{"result":{"rv":"CKR_OK"}}"#).status, 200);
    drop(bao);
    assert!(sidecar.stop().success(), "{:#?}", sidecar.logged());
    sidecar
}

/// A segment with other records than it had: a footer of its own makes it whole.
fn rewritten(segment: &Path, change: impl FnOnce(&mut Vec<(u64, Vec<u8>)>)) -> Vec<u8> {
    let bytes = fs::read(segment).expect("a segment");
    let (header, mut at) = segment::read_header(&bytes).expect("a header");
    let mut records = Vec::new();
    while let (Part::Record { seq, bytes }, length) = segment::read_part(&bytes[at..]).expect("a part") {
        records.push((seq, bytes.to_vec()));
        at += length;
    }
    change(&mut records);
    let mut out = Vec::new();
    header.write(&mut out);
    records.iter().for_each(|(seq, record)| write_record(&mut out, *seq, record));
    let last = records.iter().map(|(seq, _)| *seq).max().expect("one");
    let last_hash = leaf_hash(&records.last().expect("one").1);
    Footer { last_seq: last, records: records.len() as u64, last_hash }.write(&mut out);
    out
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join(SOURCE.replace('/', "%2F")))
        .expect("the source's folder")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    files
}
