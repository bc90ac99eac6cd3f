//! Shipped records that somebody changed before they were archived: each change is named, with its code and place.
//!
//! Whoever changes them may write segments as the sidecar does, checksums and all. A sample of places by default;
//! `KEYTRAIL_MUTATIONS=all` tries every record.

use std::fs;
use std::path::PathBuf;

use ed25519_dalek::{Signer, SigningKey};
use keytrail_ledger::chain::epoch_key_message;
use keytrail_ledger::{Checkpoint, VerifierKey};
use keytrail_model::Hash;
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::segment::{Footer, Header, write_record};
use keytrail_tests::sidecar::{SOURCE, Shipped, shipped};
use keytrail_tests::tools;
use keytrail_tests::trail::{Trail, hex, text};
use serde_json::{Value, json};

use crate::used;

/// Of how many places one is tried.
const STEP: usize = 9;

/// The chain's records, who vouches for them, and what their callers hold.
struct Chain {
    records: Vec<Shipped>,
    keys: String,
    receipts: String,
}

impl Chain {
    fn of_a_sidecar() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sidecar = used(folder.path());
        let records = shipped(&sidecar.shipped());
        let keys = String::from_utf8(sidecar.command(&["key"]).stdout).expect("a key");
        let receipts = records.iter().map(|r| {
            let leaf = leaf_hash(&r.bytes).to_hex();
            json!({"source": SOURCE, "epoch": r.epoch, "seq": r.seq, "leaf_hash": leaf}).to_string() + "\n"
        });
        Self { receipts: receipts.collect(), keys, records }
    }

    /// Findings of an archive of these records, as "CODE message".
    fn findings(&self, records: &[Shipped], receipts: &str) -> Vec<String> {
        let trail = Trail::new();
        let input = trail.input("changed.ktseg", segments(records));
        trail.run([input]).success();
        let keys = trail.input("sidecar.keys", &self.keys);
        let receipts = trail.input("receipts.jsonl", receipts);
        let args: [PathBuf; 4] = ["--audit-keys".into(), keys, "--receipts".into(), receipts];
        let (code, report) = trail.verify_json(args);
        let findings = report["findings"].as_array().expect("a list");
        let found: Vec<String> = findings
            .iter()
            .filter(|f| f["code"] != "VARIANT")
            .map(|f| format!("{} {}", text(&f["code"]), text(&f["message"])))
            .collect();
        assert_eq!(code, Some(i32::from(!found.is_empty())), "{report:#}");
        found
    }

    /// The change is found: one of the findings begins so.
    fn names(&self, records: &[Shipped], expected: &str) {
        let found = self.findings(records, "");
        assert!(found.iter().any(|f| f.starts_with(expected)), "expected `{expected}`, found {found:#?}");
    }

    /// Places that are tried, but for the first and the last record of an epoch.
    fn places(&self) -> impl Iterator<Item = usize> {
        let all = std::env::var("KEYTRAIL_MUTATIONS").is_ok_and(|v| v == "all");
        let inner = |at: usize| {
            let epoch = |n: usize| self.records.get(n).map(|r| r.epoch);
            epoch(at.wrapping_sub(1)) == epoch(at) && epoch(at + 1) == epoch(at)
        };
        (1..self.records.len() - 2).step_by(if all { 1 } else { STEP }).filter(move |at| inner(*at))
    }
}

/// Segments of records in that order, one for each run of an epoch.
fn segments(records: &[Shipped]) -> Vec<u8> {
    let mut out = Vec::new();
    for run in records.chunk_by(|a, b| a.epoch == b.epoch) {
        let prev = Hash::from_hex(&text(&run[0].envelope()["prev"])).expect("a hash");
        let (source, epoch, first_seq) = (SOURCE.to_owned(), run[0].epoch, run[0].seq);
        Header { source, epoch, first_seq, prev, created_ns: 0 }.write(&mut out);
        run.iter().for_each(|r| write_record(&mut out, r.seq, &r.bytes));
        let last_seq = run.iter().map(|r| r.seq).max().expect("one");
        let last_hash = leaf_hash(&run[run.len() - 1].bytes);
        Footer { last_seq, records: run.len() as u64, last_hash }.write(&mut out);
    }
    out
}

/// Replaces what stands once in a record.
fn edit(record: &mut Shipped, from: &str, to: &str) {
    let at = memchr::memmem::find(&record.bytes, from.as_bytes()).expect("it stands there");
    record.bytes.splice(at..at + from.len(), to.bytes());
}

/// Links the records of an epoch behind one of them anew.
fn relink(records: &mut [Shipped], changed: usize) {
    for at in changed + 1..records.len() {
        if records[at].epoch != records[changed].epoch {
            break;
        }
        let old = text(&records[at].envelope()["prev"]);
        let new = leaf_hash(&records[at - 1].bytes).to_hex();
        edit(&mut records[at], &old, &new);
    }
}

#[test]
fn an_honest_chain_has_no_finding() {
    let chain = Chain::of_a_sidecar();
    let found = chain.findings(&chain.records, &chain.receipts);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_is_left_out_is_named() {
    let chain = Chain::of_a_sidecar();
    for at in chain.places() {
        let Shipped { epoch, seq, .. } = chain.records[at];
        let mut records = chain.records.clone();
        records.remove(at);
        chain.names(&records, &format!("GAP record {seq} of epoch {epoch} is missing"));
    }
    let at = chain.places().nth(2).expect("a place");
    let Shipped { epoch, seq, .. } = chain.records[at];
    let mut records = chain.records.clone();
    records.drain(at..at + 2);
    chain.names(&records, &format!("GAP records {seq} to {} of epoch {epoch} are missing, 2", seq + 1));
    // The end of an epoch that another one continues.
    let end = chain.records.iter().position(|r| r.epoch == 2).expect("a second epoch");
    let mut records = chain.records.clone();
    records.drain(end - 3..end);
    chain.names(&records, "EPOCH_UNLINKED epoch 2 continues record ");
    // A caller holds what was cut off at the end of all.
    let mut records = chain.records.clone();
    let cut = records.pop().expect("one");
    let found = chain.findings(&records, &chain.receipts);
    let expected = format!("RECEIPT_MISSING record {} of epoch {}", cut.seq, cut.epoch);
    assert!(found.iter().any(|f| f.starts_with(&expected)), "{expected}: {found:#?}");
    // An epoch.
    let mut records = chain.records.clone();
    records.retain(|r| r.epoch != 1);
    let found = chain.findings(&records, &chain.receipts);
    assert!(found.iter().filter(|f| f.starts_with("RECEIPT_MISSING")).count() == end, "{found:#?}");
}

#[test]
fn what_stands_twice_or_elsewhere_is_named() {
    let chain = Chain::of_a_sidecar();
    for at in chain.places() {
        let Shipped { epoch, seq, .. } = chain.records[at];
        let mut records = chain.records.clone();
        records.insert(at, records[at].clone());
        chain.names(&records, &format!("DUP record {seq} of epoch {epoch} "));
        let mut records = chain.records.clone();
        records.swap(at, at + 1);
        chain.names(&records, &format!("REORDER record {seq} of epoch {epoch} "));
    }
}

#[test]
fn what_is_edited_is_named() {
    let chain = Chain::of_a_sidecar();
    for at in chain.places() {
        let Shipped { epoch, seq, .. } = chain.records[at];
        let mut records = chain.records.clone();
        let edits = [
            ("\"id\":\"svc-payments\"", "\"id\":\"svc-paymentz\""),
            ("\"operation\":\"update\"", "\"operation\":\"delete\""),
        ];
        let can = |from: &str| memchr::memmem::find(&chain.records[at].bytes, from.as_bytes()).is_some();
        let Some((from, to)) = edits.into_iter().find(|(from, _)| can(from)) else { continue };
        edit(&mut records[at], from, to);
        chain.names(&records, &format!("CHAIN_BREAK record {} of epoch {epoch}", seq + 1));
        // Linked anew, the signed heads disagree; both versions at once are two histories.
        relink(&mut records, at);
        let head = records[at..].iter().find(|r| r.epoch == epoch && r.phase() == "head");
        let expected = match head {
            Some(head) => format!("FORK record {} of epoch {epoch} is a head", head.seq),
            // Of an epoch that crashed the next one tells how it ended.
            None => format!("EPOCH_UNLINKED epoch {} continues record ", epoch + 1),
        };
        chain.names(&records, &expected);
        let both: Vec<Shipped> = chain.records.iter().chain(&records).cloned().collect();
        chain.names(&both, &format!("FORK record {seq} of epoch {epoch} is here with 2"));
        // A clock that is put back.
        let mut records = chain.records.clone();
        let time = text(&records[at].envelope()["time"]);
        edit(&mut records[at], &time, &format!("2026-11-01{}", &time[10..]));
        relink(&mut records, at);
        chain.names(
            &records,
            &format!("TIME_REGRESSION the wall clock of record {seq} of epoch {epoch} runs back"),
        );
    }
}

/// Signs the heads of the records anew, over what stands there.
fn resign(records: &mut [Shipped], key: &SigningKey, from: usize) {
    let epoch = records[from].epoch;
    let origin = format!("example.org/{SOURCE}/{epoch}");
    let verifier = VerifierKey::new(&origin, key.verifying_key().to_bytes()).expect("a key");
    let mut tree = RootBuilder::new();
    for at in 0..records.len() {
        if records[at].epoch != epoch {
            continue;
        }
        if at > from {
            let (old, new) =
                (text(&records[at].envelope()["prev"]), leaf_hash(&records[at - 1].bytes).to_hex());
            edit(&mut records[at], &old, &new);
        }
        if at >= from && records[at].phase() == "head" {
            let head = Checkpoint { origin: origin.clone(), size: tree.size(), root: tree.root() };
            let signature = key.sign(head.body().as_bytes()).to_bytes();
            let note = String::from_utf8(head.to_note(&[(&verifier, signature)]).to_bytes()).expect("text");
            let old = records[at].envelope()["body"]["checkpoint"].to_string();
            edit(&mut records[at], &old, &Value::from(note).to_string());
        }
        tree.push(leaf_hash(&records[at].bytes));
    }
}

#[test]
fn another_key_is_named() {
    let chain = Chain::of_a_sidecar();
    let forger = SigningKey::from_bytes(&[7; 32]);
    let first = chain.records.iter().position(|r| r.epoch == 2).expect("a second epoch");
    // Heads that another key signed, over a history that fits.
    let mut records = chain.records.clone();
    resign(&mut records, &forger, first + 1);
    let head = records[first..].iter().find(|r| r.phase() == "head").expect("a head");
    chain.names(&records, &format!("SIG_INVALID record {} of epoch 2 is a head", head.seq));
    // An epoch of a key that the forger vouches for.
    let mut records = chain.records.clone();
    let public = hex(&forger.verifying_key().to_bytes());
    let signature = hex(&forger.sign(epoch_key_message(SOURCE, 2, &public).as_bytes()).to_bytes());
    let was = records[first].envelope()["body"]["epoch_key"].clone();
    edit(&mut records[first], &text(&was["public_key"]), &public);
    edit(&mut records[first], &text(&was["signature"]), &signature);
    resign(&mut records, &forger, first);
    chain.names(&records, "SIG_INVALID record 0 of epoch 2");
}

/// A source that went silent without a word.
#[test]
fn a_tail_that_is_cut_off_is_silence() {
    let chain = tools::root().join("examples/key-operation/hsm-gateway.ndjson");
    let whole = fs::read_to_string(chain).expect("the example");
    let cut: Vec<&str> = whole
        .lines()
        .filter(|line| !line.contains("\"epoch_close\"") || !line.contains("hsm-gateway-0001"))
        .collect();
    let trail = Trail::new();
    trail.run([trail.input("cut.ndjson", cut.join("\n"))]).success();
    let (code, report) = trail.verify_json::<&str>([]);
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!((code, findings.len()), (Some(1), 1), "{report:#}");
    assert_eq!(findings[0]["code"], "TAIL_SILENT");
    assert_eq!(findings[0]["element"], "keytrail.key_operation hsm-gateway-0001/partition-1");
}
