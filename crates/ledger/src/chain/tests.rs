mod conduct;
mod hostile;
mod mutations;
mod orders;
mod sidecar;
mod unread;

use super::*;
use sidecar::{SOURCE, Sidecar, audit_key};

/// Checks records in the order given, with the audit key pinned.
fn check(records: &[Vec<u8>]) -> Checked {
    check_to(records, End::default())
}

fn check_to(records: &[Vec<u8>], end: End) -> Checked {
    let mut chains = Chains::new(&[audit_key(9).1], Vec::new());
    add(&mut chains, records);
    chains.finish(end)
}

fn add(chains: &mut Chains, records: &[Vec<u8>]) {
    records.iter().for_each(|r| chains.add(&Record::parse(r).unwrap()));
}

fn told(checked: &Checked) -> Vec<String> {
    let element = format!("keytrail.key_operation {SOURCE}");
    assert!(checked.findings.iter().all(|f| f.element == element));
    checked.findings.iter().map(|f| format!("{} {}", f.code, f.message)).collect()
}

/// Findings without what follows a colon.
fn brief(checked: &Checked) -> Vec<String> {
    told(checked).iter().map(|t| t.split(':').next().unwrap().to_owned()).collect()
}

/// Where a record stands.
fn at(records: &[Vec<u8>], epoch: u64, seq: u64) -> usize {
    let place = |r: &Vec<u8>| Record::parse(r).map(|r| (r.epoch, r.seq));
    records.iter().position(|r| place(r) == Some((epoch, seq))).unwrap()
}

/// Takes the record out.
fn without(epoch: u64, seqs: &[u64]) -> Vec<Vec<u8>> {
    let mut records = Sidecar::three_epochs();
    for seq in seqs {
        records.remove(at(&records, epoch, *seq));
    }
    records
}

/// Replaces a text that stands once in a record.
fn replaced(record: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(record.to_vec()).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to).into_bytes()
}

/// The record, edited; its neighbours stay.
fn edited(epoch: u64, seq: u64, from: &str, to: &str) -> Vec<Vec<u8>> {
    let mut records = Sidecar::three_epochs();
    let place = at(&records, epoch, seq);
    records[place] = replaced(&records[place], from, to);
    records
}

#[test]
fn a_clean_chain_has_no_finding() {
    let records = Sidecar::three_epochs();
    let checked = check(&records);
    assert_eq!(told(&checked), Vec::<String>::new());
    assert_eq!(
        checked.unchecked,
        [
            "1 operations without outcome that began less than 10 minutes before the last record, or before an \
             epoch that began less than a minute before it",
            "the last 1 records of epoch 4 of `gateway/p0`: no head signs them yet",
        ]
    );
    let heads = records.iter().filter(|r| Record::parse(r).unwrap().phase == Phase::Head).count() as u64;
    let counts = Counts { sources: 1, epochs: 3, records: records.len() as u64, heads };
    assert_eq!(checked.counts, counts);
    let anchors: Vec<(u64, &str)> = checked.anchors.iter().map(|a| (a.epoch, a.note.as_str())).collect();
    assert_eq!(
        anchors,
        [
            (2, "example.org/log\n2\nAAAA\n\n\u{2014} a b\n"),
            (4, "example.org/log\n4\nAAAA\n\n\u{2014} a b\n")
        ]
    );
}
