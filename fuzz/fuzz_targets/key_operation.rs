//! Any bytes as key operation records: a row or a rejection with a reason, never a panic, and the same again.
//! Seeds: the lines of `tests/fixtures/key-operation/*/input.*`.

#![no_main]

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, normalize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let masker = Masker::new(&[7; 32]);
    let ctx = Context { now: Timestamp(1_800_000_000_000_000), masker: &masker };
    if let Ok(text) = std::str::from_utf8(bytes) {
        Format::detect(text);
    }
    let read = || {
        let mut rows = RowBuffer::new();
        let from = Provenance { input: 0, offset: 0 };
        let outcome = normalize(Format::KeyOperation, bytes, from, &ctx, &mut rows);
        (outcome, rows.rows().map(|r| (r.head.uid, r.digest())).collect::<Vec<_>>())
    };
    let (outcome, rows) = read();
    assert_eq!(rows.len(), usize::from(outcome.is_ok()));
    assert!(outcome.as_ref().err().is_none_or(|r| !r.reason.is_empty()));
    assert_eq!((outcome, rows), read());
});
