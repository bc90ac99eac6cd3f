//! Any bytes as containers: no panic, at least one record or control message of what is one, parts that stand in the
//! frame, and the same again.
//! Seeds: the lines of `tests/fixtures/containers/*/input.*`.

#![no_main]

use keytrail_normalize::containers::open;
use libfuzzer_sys::fuzz_target;

type Records = Vec<(Vec<u8>, Vec<u8>, usize, Option<&'static str>)>;

fn opened(frame: &[u8]) -> (Option<u64>, Records) {
    let mut records = Records::new();
    let controls = open(frame, &mut |c| {
        let code = c.verdict.err().map(|r| r.code.code());
        records.push((c.record.to_vec(), c.unit.to_vec(), c.at, code));
    });
    (controls, records)
}

fuzz_target!(|frame: &[u8]| {
    let (controls, records) = opened(frame);
    match controls {
        None => assert!(records.is_empty()),
        Some(n) => assert!(n > 0 || !records.is_empty()),
    }
    let bytes: usize = records.iter().map(|r| r.1.len()).sum();
    assert!(bytes <= 2 * frame.len());
    assert!(records.iter().all(|r| r.0.len() <= r.1.len() && r.1.len() <= frame.len() && r.2 <= frame.len()));
    assert_eq!(opened(frame), (controls, records));
});
