//! What is found does not depend on the order in which records come.

use proptest::prelude::*;

use super::*;

/// Chains with something wrong, and one without.
fn chains() -> Vec<Vec<Vec<u8>>> {
    let clean = Sidecar::three_epochs();
    let mut forked = clean.clone();
    let place = at(&clean, 1, 8);
    forked.push(replaced(&clean[place], "\"reason\":\"no\"", "\"reason\":\"on\""));
    let mut unclosed = Sidecar::new(SOURCE, 9);
    unclosed.open(1, None);
    for op in ["a", "b", "a", "a"] {
        unclosed.intent(op);
    }
    unclosed.wait_ms(130_000);
    unclosed.outcome("a");
    (0..300).for_each(|_| unclosed.heartbeat());
    unclosed.mono_ns -= 1_000;
    unclosed.next_epoch(2);
    ["a", "a", "c"].iter().for_each(|op| unclosed.outcome(op));
    vec![
        clean,
        forked,
        without(1, &[5]),
        without(1, &[0, 9, 10]),
        without(2, &[1, 3, 7]),
        edited(1, 8, "\"reason\":\"no\"", "\"reason\":\"on\""),
        edited(1, 16, "told to stop", "told to step"),
        Sidecar::three_epochs_by(8),
        unclosed.records,
    ]
}

#[test]
fn backwards_is_as_good_as_forwards() {
    for mut records in chains() {
        let forwards = check(&records);
        records.reverse();
        assert_eq!(check(&records), forwards);
    }
}

/// Records begin parts of their own where too many wait.
#[test]
fn a_chain_whose_beginning_comes_last_is_checked_as_well() {
    let mut records = sidecar::busy(80_000).records;
    let beginning = records.split_off(1_000);
    let (first, rest) = (records, beginning);
    let mut records = [rest, first].concat();
    assert_eq!(told(&check(&records)), Vec::<String>::new());
    records.reverse();
    let checked = check(&records);
    assert_eq!((told(&checked), checked.unchecked), (Vec::new(), Vec::new()));
    records.pop();
    assert_eq!(told(&check(&records)), ["GAP record 1000 of epoch 1 is missing"]);
}

#[test]
fn many_clean_records_have_no_finding() {
    let count = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let checked = check(&sidecar::busy(count).records);
    assert_eq!((told(&checked), checked.unchecked), (Vec::new(), Vec::new()));
    assert!(checked.counts.records >= count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_order_gives_the_same(
        (which, order) in (0..9usize).prop_flat_map(|which| {
            let places: Vec<usize> = (0..chains()[which].len()).collect();
            (Just(which), Just(places).prop_shuffle())
        }),
        twice in 0..20usize,
    ) {
        let records = &chains()[which];
        let mut shuffled: Vec<Vec<u8>> = order.iter().map(|i| records[*i].clone()).collect();
        shuffled.extend(records[..twice.min(records.len())].to_vec());
        prop_assert_eq!(check(&shuffled), check(records));
    }

    #[test]
    fn nothing_panics(
        records in prop::collection::vec((0..3u64, 0..12u64, any::<u8>(), any::<u8>(), 0..10u8, any::<u64>()), 0..60),
        runs in prop::collection::vec((0..3u64, 0..14u64, 0..14u64, any::<u8>()), 0..6),
        ranged: bool,
    ) {
        let mut chains = Chains::new(&[], Vec::new());
        for (epoch, seq, prev, leaf, phase, clock) in &records {
            let phases = [
                Phase::EpochOpen, Phase::Intent, Phase::Outcome, Phase::Deny, Phase::Heartbeat, Phase::Head,
                Phase::Gap, Phase::EpochClose, Phase::Foreign, Phase::Unknown,
            ];
            chains.add(&Record {
                source: SOURCE.into(),
                epoch: *epoch,
                seq: *seq,
                prev: Hash([*prev; 32]),
                leaf: Hash([*leaf; 32]),
                clocks: Some(Clocks { wall_ns: clock.cast_signed(), mono_ns: *clock }),
                phase: phases[usize::from(*phase)],
                op_id: Some("a".into()),
                body: Some(r#"{"records":3,"first_seq":9,"last_seq":0,"cause":""}"#),
            });
        }
        for (epoch, first, last, hash) in runs {
            chains.add_run(SOURCE, epoch, first, last, Hash([hash; 32]), Hash([hash; 32]));
        }
        chains.finish(End { ranged, archived_until_ns: Some(i64::MAX) });
    }
}
