//! Any bytes as blocks of a CloudHSM audit log: a row or a rejection with a reason, never a panic, and the same again,
//! also from what its row says of the container.
//! Seeds: the blocks of `tests/fixtures/cloudhsm/*/input.*`.

#![no_main]

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, Origin, normalize_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let masker = Masker::new(&[7; 32]);
    let ctx = Context { now: Timestamp(1_800_000_000_000_000), masker: &masker, declared: None };
    Format::recognise(bytes);
    let (stream, record) = bytes.split_at(bytes.iter().position(|b| *b == 0).unwrap_or(0));
    let origin = Origin {
        account: "111122223333".into(),
        log_group: "/aws/cloudhsm/cluster-likphkxygsn".into(),
        log_stream: String::from_utf8_lossy(stream),
        ..Origin::default()
    };
    let read = |origin: &Origin<'_>| {
        let mut rows = RowBuffer::new();
        let from = Provenance { input: 0, offset: 0 };
        let outcome = normalize_of(Format::CloudHsm, record, origin, from, &ctx, &mut rows);
        (outcome, rows)
    };
    let (outcome, rows) = read(&origin);
    assert_eq!(rows.len(), usize::from(outcome.is_ok()));
    assert!(outcome.as_ref().err().is_none_or(|r| !r.reason.is_empty()));
    for row in rows.rows() {
        let (_, again) = read(&Origin::of_row(Format::CloudHsm, row.columns));
        assert_eq!(again.row(0).columns, row.columns);
        assert_eq!(again.row(0).head.uid, row.head.uid);
    }
});
