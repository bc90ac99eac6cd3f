//! Archives made to cost much. What a test needs of time is bounded by who runs it.

use std::collections::BTreeSet;

use super::*;

const MANY: u64 = if cfg!(debug_assertions) { 20_000 } else { 400_000 };

fn hash(n: u64) -> Hash {
    Hash::of(&n.to_be_bytes())
}

fn record(epoch: u64, seq: u64, leaf: Hash, phase: Phase, body: &'static str) -> Record<'static> {
    let (clocks, op_id) = (Some(Clocks { wall_ns: 0, mono_ns: 0 }), Some("a".into()));
    Record {
        source: SOURCE.into(),
        epoch,
        seq,
        prev: hash(seq),
        leaf,
        clocks,
        phase,
        op_id,
        body: Some(body),
    }
}

#[test]
fn every_other_record() {
    let mut chains = Chains::new(&[], Vec::new());
    for n in (0..MANY).rev().chain(0..MANY) {
        let phase = [Phase::Gap, Phase::Intent, Phase::Head][(n % 3) as usize];
        let body = r#"{"first_seq":0,"last_seq":0,"cause":"x"}"#;
        chains.add(&record(1, 2 * n, hash(n), phase, body));
        chains.add_run(SOURCE, 1, 2 * n, 2 * MANY, hash(1), hash(n));
    }
    let checked = chains.finish(End::default());
    assert_eq!(checked.counts.records, MANY);
}

#[test]
fn all_records_at_one_place() {
    let receipt = |n| Receipt { source: SOURCE.into(), epoch: 1, seq: 7, leaf_hash: hash(n) };
    let mut chains = Chains::new(&[], (0..2 * MANY).map(receipt).collect());
    for n in 0..MANY {
        chains.add(&record(1, 7, hash(n), Phase::Outcome, "{}"));
        chains.add(&record(1, 8, hash(n), Phase::Outcome, "{}"));
    }
    let codes: BTreeSet<_> = chains.finish(End::default()).findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["FORK", "RECEIPT_MISSING"]);
}

#[test]
fn an_epoch_for_each_record_and_one_operation_for_all() {
    let mut chains = Chains::new(&[audit_key(9).1], Vec::new());
    for n in 0..MANY {
        chains.add(&record(n, 0, hash(n), Phase::Intent, "{}"));
        chains.add(&record(MANY, n, hash(n), Phase::Intent, "{}"));
    }
    for n in MANY..3 * MANY {
        chains.add(&record(MANY, n, hash(n), Phase::Outcome, "{}"));
    }
    assert_eq!(chains.finish(End::default()).counts.epochs, MANY + 1);
}

#[test]
fn sources_do_not_touch_each_other() {
    let mut other = Sidecar::new("gateway/p1", 9);
    other.open(1, None);
    other.operation("a");
    other.close();
    let mut chains = Chains::new(&[audit_key(9).1], Vec::new());
    add(&mut chains, &without(1, &[5]));
    add(&mut chains, &other.records);
    let checked = chains.finish(End::default());
    assert_eq!(
        checked.findings.iter().map(ToString::to_string).collect::<Vec<_>>()[0],
        "GAP keytrail.key_operation gateway/p0: record 5 of epoch 1 is missing"
    );
    assert_eq!((checked.counts.sources, checked.counts.epochs), (2, 4));
    // The key is that of the other source.
    assert_eq!(checked.findings.len(), 2);
    assert!(checked.findings[1].to_string().starts_with("SIG_INVALID keytrail.key_operation gateway/p1:"));
}
