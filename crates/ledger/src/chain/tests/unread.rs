//! Records whose content or place is not read: withheld, of another version, in sealed runs, out of range.

use keytrail_model::merkle::leaf_hash;

use super::*;

fn note(checked: &Checked, start: &str) -> bool {
    checked.unchecked.iter().any(|n| n.starts_with(start))
}

/// Checks with these numbers of epoch 1 withheld.
fn withheld(records: &[Vec<u8>], seqs: &[u64]) -> Checked {
    let mut chains = Chains::new(&[audit_key(9).1], Vec::new());
    for record in records {
        let r = Record::parse(record).unwrap();
        if r.epoch == 1 && seqs.contains(&r.seq) {
            chains.add_withheld(&r.source, r.epoch, r.seq, r.prev, r.leaf);
        } else {
            chains.add(&r);
        }
    }
    chains.finish(End::default())
}

#[test]
fn withheld_records_are_linked() {
    let records = Sidecar::three_epochs();
    for seq in 0..=16 {
        let checked = withheld(&records, &[seq]);
        assert_eq!(told(&checked), Vec::<String>::new(), "{seq}");
        assert!(note(&checked, "content of 1 records that are withheld"));
        assert_eq!(checked.counts.records, records.len() as u64);
    }
    assert!(note(&withheld(&records, &[7]), "1 operations without outcome: it may be among"));
    assert!(note(&withheld(&records, &[4]), "1 outcomes without intent: not all records"));
    assert!(note(&withheld(&records, &[0]), "signatures of 4 heads: the keys"));
    // What is around it must fit.
    let broken = edited(1, 8, "\"reason\":\"no\"", "\"reason\":\"on\"");
    assert_eq!(brief(&withheld(&broken, &[8, 9])).len(), 1);
    assert_eq!(brief(&withheld(&broken, &[9])).len(), 1);
    // One withheld record explains one operation, and none that began after it.
    let open = without(1, &[7, 9]);
    let checked = withheld(&open, &[8]);
    let orphan = "ORPHAN_INTENT record 3 of epoch 1, operation `b`, has no outcome";
    assert!(told(&checked).contains(&orphan.to_owned()), "{:?}", told(&checked));
    assert!(!note(&withheld(&without(1, &[7]), &[1]), "1 operations without outcome: it may"));
}

#[test]
fn records_that_cannot_be_read_are_linked() {
    let mut s = Sidecar::new(SOURCE, 9);
    s.open(1, None);
    s.own("newer", None, "{}");
    s.own("head", None, "7");
    s.close();
    let checked = check(&s.records);
    assert_eq!(brief(&checked), ["SIG_INVALID record 2 of epoch 1 is a head that cannot be read"]);
    assert!(note(&checked, "content of 1 records that cannot be read or are of a kind that is not known"));
}

/// Checks with numbers of epoch 1 in sealed runs.
fn in_runs(records: &[Vec<u8>], runs: &[(u64, u64)], change: &dyn Fn(u64, Hash) -> Hash) -> Checked {
    let old = Sidecar::three_epochs();
    let record = |seq| Record::parse(&old[at(&old, 1, seq)]).unwrap();
    let mut chains = Chains::new(&[audit_key(9).1], Vec::new());
    for (first, last) in runs {
        let (prev, leaf) = (change(*first, record(*first).prev), change(*last, record(*last).leaf));
        chains.add_run(SOURCE, 1, *first, *last, prev, leaf);
    }
    add(&mut chains, records);
    chains.finish(End::default())
}

#[test]
fn sealed_runs_fill_holes() {
    let same = |_, hash| hash;
    let holed = without(1, &[5, 6, 10]);
    let checked = in_runs(&holed, &[(3, 12)], &same);
    assert_eq!(told(&checked), Vec::<String>::new());
    assert!(note(&checked, "3 records that are known as parts of sealed runs only"));
    assert!(note(&checked, "roots of 2 heads: not all records before them are here"));
    assert_eq!(told(&in_runs(&holed, &[(5, 6), (10, 10)], &same)), Vec::<String>::new());
    assert_eq!(
        told(&in_runs(&holed, &[(0, 5)], &same)),
        ["GAP record 6 of epoch 1 is missing", "GAP record 10 of epoch 1 is missing"]
    );
    // At the beginning and at the end.
    let middle: Vec<u64> = (0..=16).filter(|seq| !(4..=13).contains(seq)).collect();
    assert_eq!(
        told(&in_runs(&without(1, &middle), &[(0, 3), (14, 15), (16, 16)], &same)),
        Vec::<String>::new()
    );
    let all: Vec<u64> = (0..=16).collect();
    let checked = in_runs(&without(1, &all), &[(0, 16)], &same);
    assert_eq!((told(&checked), checked.counts.epochs), (Vec::new(), 3));
    assert_eq!(
        told(&in_runs(&without(1, &all), &[(0, 15)], &same)),
        ["EPOCH_UNLINKED epoch 2 continues record 16 of epoch 1: the last one here is 15"]
    );
}

#[test]
fn the_ends_of_runs_are_linked() {
    let wrong = |at: u64| move |seq, hash| if seq == at { Hash([7; 32]) } else { hash };
    let holed = without(1, &[5, 6, 7, 8]);
    let runs = [(5, 6), (7, 8)];
    let begins = |seq| {
        vec![format!(
            "CHAIN_BREAK record {seq} of epoch 1 begins a sealed run that does not continue the record before"
        )]
    };
    let found = |at| {
        let mut found = told(&in_runs(&holed, &runs, &wrong(at)));
        found.retain(|t| t.starts_with("CHAIN"));
        found
    };
    assert_eq!(found(5), begins(5));
    assert_eq!(found(6), begins(7));
    assert_eq!(found(7), begins(7));
    assert_eq!(found(8), ["CHAIN_BREAK record 9 of epoch 1 does not continue the sealed run before it"]);
    let all: Vec<u64> = (0..=16).collect();
    assert_eq!(told(&in_runs(&without(1, &all), &[(0, 16)], &wrong(0))), begins(0));
    assert_eq!(
        told(&in_runs(&without(1, &all), &[(0, 16)], &wrong(16))),
        ["EPOCH_UNLINKED epoch 2 continues record 16 of epoch 1, which has another hash here"]
    );
    // An expired receipt is not missing.
    let receipt = Receipt { source: SOURCE.into(), epoch: 1, seq: 6, leaf_hash: leaf_hash(b"") };
    let mut chains = Chains::new(&[audit_key(9).1], vec![receipt]);
    add(&mut chains, &holed);
    chains.add_run(SOURCE, 1, 4, 9, Hash::default(), Hash::default());
    let checked = chains.finish(End::default());
    assert_eq!(told(&checked), Vec::<String>::new());
    assert!(note(&checked, "1 receipts for records that are known as parts of sealed runs only"));
}

#[test]
fn a_range_answers_for_itself_alone() {
    let records = Sidecar::three_epochs();
    let ranged = End { ranged: true, archived_until_ns: Some(i64::MAX) };
    for first in 0..records.len() {
        for last in first..records.len() {
            let seen = &records[first..=last];
            let checked = check_to(seen, ranged);
            assert_eq!(told(&checked), Vec::<String>::new(), "{first} to {last}");
        }
    }
    let (from, to) = (at(&records, 1, 8), at(&records, 4, 3));
    let mut seen = records[from..=to].to_vec();
    assert_eq!(told(&check_to(&seen, ranged)), Vec::<String>::new());
    seen.remove(4);
    assert_eq!(told(&check_to(&seen, ranged)), ["GAP record 12 of epoch 1 is missing"]);
}

#[test]
fn hostile_numbers_are_told() {
    let mut chains = Chains::new(
        &[],
        vec![Receipt { source: SOURCE.into(), epoch: u64::MAX, seq: u64::MAX, leaf_hash: Hash::default() }],
    );
    let hash = Hash::default();
    let last = i64::MAX.cast_unsigned();
    for (epoch, seq) in [(u64::MAX, 0), (0, u64::MAX), (0, last + 1), (last, last), (last, 0), (0, 0)] {
        chains.add_withheld(SOURCE, epoch, seq, hash, hash);
        chains.add_run(SOURCE, epoch, 0, seq, hash, hash);
        chains.add_run(SOURCE, epoch, seq, seq, hash, hash);
    }
    chains.add_run(SOURCE, 0, 2, 1, hash, hash);
    let checked = chains.finish(End { archived_until_ns: Some(i64::MIN), ranged: false });
    assert_eq!(checked.findings.len(), 1);
    assert!(
        note(&checked, "10 records or runs with numbers that no source gives"),
        "{:?}",
        checked.unchecked
    );
}
