//! Clocks, heads, heartbeats and operations of a sidecar that does not do as it should, or just so.

use super::*;

#[test]
fn clocks_do_not_run_back() {
    let made = |make: &dyn Fn(&mut Sidecar)| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.open(1, None);
        s.wait_ms(5_000);
        s.head();
        make(&mut s);
        s.heartbeat();
        s.heartbeat();
        told(&check(&s.records))
    };
    assert_eq!(made(&|s| s.wall_ns -= 1_000_000_000), Vec::<String>::new());
    assert_eq!(
        made(&|s| s.wall_ns -= 1_000_001_000),
        ["TIME_REGRESSION the wall clock of record 2 of epoch 1 runs back by 1.000 s"]
    );
    assert_eq!(
        made(&|s| s.mono_ns -= 1_000_000),
        ["TIME_REGRESSION the monotonic clock of record 2 of epoch 1 runs back by 0.001 s"]
    );
    assert_eq!(
        made(&|s| {
            s.next_epoch(2);
            s.wall_ns -= 2_000_000_000;
            s.next_epoch(3);
        }),
        ["TIME_REGRESSION record 0 of epoch 3 is 2.000 s earlier than record 0 of epoch 2"]
    );
}

#[test]
fn a_source_that_makes_no_records_or_heads_is_silent() {
    let made = |make: &dyn Fn(&mut Sidecar)| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.open(1, None);
        make(&mut s);
        s.close();
        told(&check(&s.records))
    };
    let none = Vec::<String>::new();
    assert_eq!(made(&|s| s.wait_ms(120_000)), none);
    assert_eq!(
        made(&|s| s.wait_ms(120_001)),
        [
            "TAIL_SILENT record 1 of epoch 1 comes 120.001 s after the one before: expected a heartbeat after 60 s"
        ]
    );
    let many = |n: u64, ms: u64| {
        made(&|s| {
            for _ in 0..n {
                s.wait_ms(ms);
                s.heartbeat();
            }
        })
    };
    assert_eq!(many(263, 1), none);
    assert_eq!(
        many(264, 1),
        [
            "TAIL_SILENT up to record 265 of epoch 1, 265 records in 0.264 s have no head: expected one after 256 \
          records or 1 s"
        ]
    );
    assert_eq!(many(20, 500), none);
    assert_eq!(many(21, 500).len(), 1);
    // A disk that stands still for long is no missing head; that all outcomes come at once is none either.
    assert_eq!(
        made(&|s| {
            (0..200).for_each(|op| s.intent(&format!("{op}")));
            s.wait_ms(100_000);
            s.heartbeat();
            s.wait_ms(20_000);
            s.heartbeat();
            s.head();
            (200..400).for_each(|op| s.intent(&format!("{op}")));
            s.head();
            (0..400).for_each(|op| s.outcome(&format!("{op}")));
        }),
        none
    );
}

#[test]
fn operations_have_one_intent_and_one_outcome() {
    let made = |make: &dyn Fn(&mut Sidecar)| {
        let mut s = Sidecar::new(SOURCE, 9);
        s.open(1, None);
        s.operation("a");
        make(&mut s);
        let checked = check(&s.records);
        (told(&checked), checked.unchecked.iter().any(|n| n.starts_with("1 operations without outcome")))
    };
    let (orphan, none) = ("ORPHAN_INTENT record 3 of epoch 1", Vec::<String>::new());
    let twice = format!("{orphan} is an outcome of the operation `a`, which has no intent without outcome");
    assert_eq!(made(&|s| s.outcome("a")), (vec![twice], false));
    let never = format!("{orphan}, operation `b`, has no outcome");
    let closed = |s: &mut Sidecar| {
        s.intent("b");
        s.close();
    };
    assert_eq!(made(&closed), (vec![never.clone()], false));
    let long = |s: &mut Sidecar, ms| {
        s.intent("b");
        s.head();
        for _ in 0..10 {
            s.wait_ms(ms);
            s.heartbeat();
            s.head();
        }
    };
    assert_eq!(made(&|s| long(s, 59_999)), (none.clone(), true));
    assert_eq!(made(&|s| long(s, 60_000)), (vec![never.clone()], false));
    let crashed = |s: &mut Sidecar| {
        s.intent("b");
        s.next_epoch(2);
        s.wait_ms(59_999);
        s.heartbeat();
        s.head();
    };
    assert_eq!(made(&crashed), (none, true));
    let lasting = |s: &mut Sidecar| {
        crashed(s);
        s.wait_ms(1);
        s.heartbeat();
    };
    assert_eq!(made(&lasting), (vec![never], false));
}
