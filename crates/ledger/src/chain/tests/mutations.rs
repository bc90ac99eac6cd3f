//! Each change of an honest chain, and what is said of it.

use keytrail_model::merkle::leaf_hash;

use super::*;

/// Epoch, number and hash of the last record that an epoch names.
type Last = Option<(u64, u64, Hash)>;

/// Makes all records of an epoch from one number on again, linked to what is before them; heads stay as they
/// were signed.
fn relinked(records: &[Vec<u8>], epoch: u64, from: u64) -> Vec<Vec<u8>> {
    let mut records = records.to_vec();
    let mut prev = None;
    for record in &mut records {
        let (seq, old) = match Record::parse(record).unwrap() {
            r if r.epoch == epoch => (r.seq, r.prev),
            _ => continue,
        };
        if let Some(prev) = prev.filter(|prev| seq > from && *prev != old) {
            *record = replaced_bytes(record, &old.to_hex(), &Hash::to_hex(prev));
        }
        prev = Some(leaf_hash(record));
    }
    records
}

fn replaced_bytes(record: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = record.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    [&record[..at], to.as_bytes(), &record[at + from.len()..]].concat()
}

#[test]
fn missing_records_are_named() {
    assert_eq!(told(&check(&without(1, &[5]))), ["GAP record 5 of epoch 1 is missing"]);
    let two = without(1, &[10, 11]);
    assert_eq!(told(&check(&two)), ["GAP records 10 to 11 of epoch 1 are missing, 2"]);
    // Heads 6, 10 and 12 to 15 are over what is missing.
    let behind = without(1, &[5]);
    assert!(
        check(&behind).unchecked.contains(&"roots of 4 heads: not all records before them are here".into())
    );
    // An outcome is gone with its record.
    assert_eq!(
        told(&check(&without(1, &[7]))),
        [
            "ORPHAN_INTENT record 4 of epoch 1, operation `c`, has no outcome",
            "GAP record 7 of epoch 1 is missing"
        ]
    );
    // An intent is gone: its outcome may have had one.
    let checked = check(&without(1, &[13]));
    assert_eq!(told(&checked), ["GAP record 13 of epoch 1 is missing"]);
    assert!(checked.unchecked.iter().any(|n| n.starts_with("1 outcomes without intent")));
    assert_eq!(
        told(&check(&without(4, &[0, 3]))),
        ["GAP record 0 of epoch 4 is missing", "GAP record 3 of epoch 4 is missing"]
    );
}

#[test]
fn the_beginning_of_all_is_no_gap_and_its_end_none_if_nothing_follows() {
    let checked = check(&without(1, &[0, 1]));
    assert_eq!(told(&checked), Vec::<String>::new());
    assert!(checked.unchecked.contains(
        &"what lies before record 2 of epoch 1 of `gateway/p0`, the first one that is here".into()
    ));
    assert!(
        checked.unchecked.contains(&"signatures of 4 heads: the keys of their epochs are not here".into())
    );
    // The next epoch names the last record.
    assert_eq!(
        told(&check(&without(1, &[15, 16]))),
        ["EPOCH_UNLINKED epoch 2 continues record 16 of epoch 1: the last one here is 14"]
    );
    assert_eq!(told(&check(&without(4, &[16]))), Vec::<String>::new());
}

#[test]
fn a_source_that_fell_silent_is_named() {
    let records = Sidecar::three_epochs();
    let last = Record::parse(records.last().unwrap()).unwrap().clocks.unwrap().wall_ns;
    let until = |ns| End { archived_until_ns: Some(last + ns), ranged: false };
    assert_eq!(told(&check_to(&records, until(180_000_000_000))), Vec::<String>::new());
    assert_eq!(
        told(&check_to(&records, until(180_001_000_000))),
        [
            "TAIL_SILENT record 16 of epoch 4 is the last one, 180.001 s before the end of the archive, and does \
          not close the epoch: expected a heartbeat after 60 s"
        ]
    );
    let ranged = End { ranged: true, ..until(180_001_000_000) };
    assert_eq!(told(&check_to(&records, ranged)), Vec::<String>::new());
    let closed = &records[..=at(&records, 1, 16)];
    assert_eq!(told(&check_to(closed, until(9_000_000_000_000))), Vec::<String>::new());
}

#[test]
fn an_edited_record_breaks_the_chain_behind_it() {
    let old = Sidecar::three_epochs();
    let leaf = |r: &[Vec<u8>]| leaf_hash(&r[at(r, 1, 8)]).to_hex();
    let records = edited(1, 8, "\"reason\":\"no\"", "\"reason\":\"on\"");
    assert_eq!(
        told(&check(&records)),
        [format!(
            "CHAIN_BREAK record 9 of epoch 1 says that the hash of the record before it is `{}`: that record \
             has `{}`",
            leaf(&old),
            leaf(&records)
        )]
    );
    // The last one of an epoch: the next epoch knows its hash.
    assert_eq!(
        told(&check(&edited(1, 16, "told to stop", "told to step"))),
        ["EPOCH_UNLINKED epoch 2 continues record 16 of epoch 1, which has another hash here"]
    );
    let zeros = "0".repeat(64);
    let prev = format!("\"prev\":\"{zeros}\",\"phase\"");
    let broken = brief(&check(&edited(1, 0, &prev, &prev.replace("\"0", "\"1"))));
    assert_eq!(broken[0], "CHAIN_BREAK record 0 of epoch 1 says that there is a record before it");
    assert!(broken[1].starts_with("CHAIN_BREAK record 1 of epoch 1 says that the hash"), "{broken:?}");
}

#[test]
fn records_that_were_linked_again_are_not_those_that_were_signed() {
    let records = edited(1, 8, "\"reason\":\"no\"", "\"reason\":\"on\"");
    let records = relinked(&records, 1, 8);
    let two = "which link up: two histories";
    assert_eq!(
        told(&check(&records)),
        [10, 12, 15]
            .map(|seq| format!(
                "FORK record {seq} of epoch 1 is a head over other records than those before it, {two}"
            ))
            .into_iter()
            .chain([
                "EPOCH_UNLINKED epoch 2 continues record 16 of epoch 1, which has another hash here".into()
            ])
            .collect::<Vec<_>>()
    );
}

#[test]
fn two_records_at_one_place_are_a_fork() {
    let old = Sidecar::three_epochs();
    let place = at(&old, 1, 8);
    let other = replaced(&old[place], "\"reason\":\"no\"", "\"reason\":\"on\"");
    let fork = ["FORK record 8 of epoch 1 is here with 2 different hashes"];
    for to in [0, 1, place, place + 1, place + 2, old.len()] {
        let mut records = old.clone();
        records.insert(to, other.clone());
        records.insert(to, old[place].clone());
        assert_eq!(told(&check(&records)), fork, "at {to}");
        assert_eq!(check(&records).counts.records, old.len() as u64);
    }
    let mut records = old.clone();
    records.extend([other.clone(), replaced(&other, "\"on\"", "\"oh\"")]);
    assert_eq!(told(&check(&records)), ["FORK record 8 of epoch 1 is here with 3 different hashes"]);
    // Copies are none.
    let twice = [old.clone(), old.clone()].concat();
    assert_eq!(told(&check(&twice)), Vec::<String>::new());
}

#[test]
fn an_epoch_with_two_histories_is_named_record_by_record() {
    let mut one = Sidecar::new(SOURCE, 9);
    one.open(1, None);
    one.operation("a");
    one.head();
    let mut other = Sidecar::new(SOURCE, 9);
    other.open(1, None);
    other.operation("b");
    other.head();
    for records in [[one.records.clone(), other.records.clone()], [other.records, one.records]] {
        assert_eq!(
            told(&check(&records.concat())),
            [1, 2, 3].map(|seq| format!("FORK record {seq} of epoch 1 is here with 2 different hashes"))
        );
    }
}

#[test]
fn heads_are_signed_by_the_key_of_their_epoch() {
    let sign = |change: &dyn Fn(&mut Sidecar)| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.open(1, None);
        s.operation("a");
        change(&mut s);
        s.head();
        s.own("epoch_close", None, &format!(r#"{{"records":{},"reason":"x"}}"#, s.seq));
        brief(&check(&s.records))
    };
    assert_eq!(sign(&|_| ()), Vec::<String>::new());
    let unsigned = "SIG_INVALID record 3 of epoch 1 is a head that the epoch's key did not sign";
    assert_eq!(sign(&|s| s.key = ed25519_dalek::SigningKey::from_bytes(&[8; 32])), [unsigned]);
    assert_eq!(
        sign(&|s| {
            s.tree.push(Hash::default());
        }),
        ["SIG_INVALID record 3 of epoch 1 is a head over 4 records"]
    );
    assert_eq!(
        sign(&|s| {
            s.own("head", None, r#"{"checkpoint":"no note"}"#);
        }),
        ["SIG_INVALID record 3 of epoch 1 is a head that cannot be read"]
    );
    // A head of another epoch, signed by the right key.
    let mut s = Sidecar::new(SOURCE, 9);
    s.open(1, None);
    s.epoch = 2;
    s.head();
    s.epoch = 1;
    s.records[1] = replaced_bytes(&s.records[1], "\"epoch\":2", "\"epoch\":1");
    assert_eq!(
        told(&check(&s.records)),
        ["SIG_INVALID record 1 of epoch 1 is a head of `example.org/gateway/p0/2`, which is not this epoch"]
    );
}

#[test]
fn the_keys_of_epochs_are_vouched_for() {
    let nobody = |seed| {
        let id = u32::from_be_bytes(audit_key(seed).1.id());
        format!("the audit key `example.org/gateway/p0+{id:08x}` is none of those given for this source")
    };
    // Another key signs all of it.
    let records = Sidecar::three_epochs_by(8);
    assert_eq!(
        told(&check(&records)),
        [1, 2, 4].map(|epoch| format!(
            "SIG_INVALID record 0 of epoch {epoch}: nobody vouches for the key of the epoch: {}",
            nobody(8)
        ))
    );
    // After a rotation both are given.
    let mut chains = Chains::new(&[audit_key(9).1, audit_key(8).1], Vec::new());
    add(&mut chains, &records);
    assert_eq!(told(&chains.finish(End::default())), Vec::<String>::new());
    // Without any key that is said.
    let mut chains = Chains::new(&[], Vec::new());
    add(&mut chains, &records);
    let checked = chains.finish(End::default());
    assert_eq!(told(&checked), Vec::<String>::new());
    assert!(checked.unchecked.contains(&"keys of 3 epochs: give the sidecars' public keys".into()));
    // A key of another source vouches for nothing.
    let other = VerifierKey::new("example.org/gateway/p1", *audit_key(9).1.public()).unwrap();
    let mut chains = Chains::new(&[other], Vec::new());
    add(&mut chains, &Sidecar::three_epochs()[..5]);
    let message = format!("record 0 of epoch 1: nobody vouches for the key of the epoch: {}", nobody(9));
    assert_eq!(told(&chains.finish(End::default())), [format!("SIG_INVALID {message}")]);
    // The id is right, the signature another one's.
    let id = |seed| format!("+{:08x}", u32::from_be_bytes(audit_key(seed).1.id()));
    let mut forged = records[..1].to_vec();
    forged[0] = replaced(&forged[0], &id(8), &id(9));
    assert_eq!(
        told(&check(&forged)),
        [format!(
            "SIG_INVALID record 0 of epoch 1: nobody vouches for the key of the epoch: the signature of the \
             audit key `example.org/gateway/p0{}` is wrong",
            id(9)
        )]
    );
}

#[test]
fn epochs_continue_each_other() {
    let records = Sidecar::three_epochs();
    let dropped: Vec<Vec<u8>> =
        records.iter().filter(|r| Record::parse(r).unwrap().epoch != 2).cloned().collect();
    assert_eq!(
        told(&check(&dropped)),
        ["EPOCH_UNLINKED epoch 4 continues epoch 2, which is not here, although epoch 1 is"]
    );
    let first: Vec<Vec<u8>> =
        records.iter().filter(|r| Record::parse(r).unwrap().epoch != 1).cloned().collect();
    let checked = check(&first);
    assert_eq!(told(&checked), Vec::<String>::new());
    let before = "what lies before epoch 2 of `gateway/p0`, the first one that is here: it continues record 16 of epoch 1";
    assert!(checked.unchecked.contains(&before.into()));

    let chain = |last: &dyn Fn(&Sidecar) -> Vec<Last>| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.open(1, None);
        s.head();
        for (i, last) in last(&s).into_iter().enumerate() {
            s.open(5 + i as u64, last);
        }
        told(&check(&s.records))
    };
    let none = Vec::<String>::new();
    assert_eq!(chain(&|s| vec![Some((1, 1, s.prev))]), none);
    assert_eq!(
        chain(&|_| vec![None]),
        ["EPOCH_UNLINKED epoch 5 continues no other one, although epoch 1 is here"]
    );
    assert_eq!(
        chain(&|_| vec![Some((5, 0, Hash::default()))]),
        ["EPOCH_UNLINKED epoch 5 continues epoch 5, which is not before it"]
    );
    assert_eq!(
        chain(&|s| vec![Some((1, 0, s.prev))]),
        ["EPOCH_UNLINKED epoch 5 continues record 0 of epoch 1: the last one here is 1"]
    );
    assert_eq!(
        chain(&|_| vec![Some((1, 1, Hash::default()))]),
        ["EPOCH_UNLINKED epoch 5 continues record 1 of epoch 1, which has another hash here"]
    );
    assert_eq!(
        chain(&|s| vec![Some((1, 1, s.prev)), Some((1, 1, s.prev))]),
        ["EPOCH_UNLINKED epochs 5 and 6 both continue epoch 1"]
    );
}

#[test]
fn an_epoch_begins_and_ends_as_it_should() {
    let made = |make: &dyn Fn(&mut Sidecar)| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.epoch = 1;
        make(&mut s);
        brief(&check(&s.records))
    };
    assert_eq!(
        made(&|s| {
            s.heartbeat();
        }),
        ["EPOCH_UNLINKED record 0 of epoch 1 does not open it"]
    );
    assert_eq!(
        made(&|s| {
            s.open(1, None);
            s.own("epoch_open", None, "{}");
        }),
        ["EPOCH_UNLINKED record 1 of epoch 1 opens the epoch, and is not its first one"]
    );
    assert_eq!(
        made(&|s| {
            s.own("epoch_open", None, r#"{"epoch_key":{}}"#);
        }),
        ["SIG_INVALID record 0 of epoch 1 vouches for no key of the epoch"]
    );
    assert_eq!(
        made(&|s| {
            s.open(1, None);
            s.close();
            s.heartbeat();
        }),
        ["EPOCH_UNLINKED record 2 of epoch 1 closes the epoch"]
    );
    assert_eq!(
        made(&|s| {
            s.open(1, None);
            s.own("epoch_close", None, r#"{"records":2,"reason":"x"}"#);
        }),
        ["EPOCH_UNLINKED record 1 of epoch 1 closes the epoch and says that 2 records are before it"]
    );
}

#[test]
fn losses_that_are_told_are_missing_all_the_same() {
    let mut s = Sidecar::new(SOURCE, 9);
    s.open(1, None);
    s.heartbeat();
    s.heartbeat();
    s.own("gap", None, r#"{"first_seq":1,"last_seq":2,"cause":"the disk\u0007 was full"}"#);
    s.records.drain(1..3);
    assert_eq!(
        told(&check(&s.records)),
        [
            "GAP records 1 to 2 of epoch 1 are missing, 2: record 3 of epoch 1 tells the cause, `the disk\u{fffd} was full`"
        ]
    );
}

#[test]
fn receipts_demand_their_records() {
    let records = Sidecar::three_epochs();
    let receipt = |epoch, seq| {
        let record = &records[at(&records, epoch, seq)];
        Receipt { source: SOURCE.into(), epoch, seq, leaf_hash: leaf_hash(record) }
    };
    let check = |receipts: &[Receipt], records: &[Vec<u8>], ranged| {
        let mut chains = Chains::new(&[audit_key(9).1], receipts.to_vec());
        add(&mut chains, records);
        let checked = chains.finish(End { ranged, ..End::default() });
        let receipts = |n: &&String| n.contains("receipts");
        (
            checked.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            checked.unchecked.iter().find(receipts).cloned(),
        )
    };
    let none = Vec::<String>::new();
    let all = [receipt(1, 1), receipt(1, 1), receipt(2, 2), receipt(4, 16)];
    assert_eq!(check(&all, &records, false), (none.clone(), None));
    let wrong = Receipt { leaf_hash: Hash::default(), ..receipt(1, 1) };
    let of = "RECEIPT_MISSING keytrail.key_operation gateway/p0:";
    assert_eq!(
        check(&[wrong, receipt(1, 2)], &records, false),
        (vec![format!("{of} record 1 of epoch 1 has another hash than its receipt")], None)
    );
    let beyond = Receipt { seq: 17, ..receipt(4, 16) };
    let missing =
        [beyond, Receipt { epoch: 3, ..receipt(1, 1) }, Receipt { source: "x".into(), ..receipt(1, 1) }];
    let is_not_here = "for which there is a receipt, is not here";
    assert_eq!(
        check(&missing, &records, false).0,
        [
            format!("{of} record 1 of epoch 3, {is_not_here}"),
            format!("{of} record 17 of epoch 4, {is_not_here}"),
            format!("RECEIPT_MISSING keytrail.key_operation x: record 1 of epoch 1, {is_not_here}"),
        ]
    );
    let (findings, note) = check(&missing, &records, true);
    assert_eq!(findings, [format!("{of} record 1 of epoch 3, {is_not_here}")]);
    assert_eq!(note.unwrap(), "2 receipts for records outside of what was read");
}
