//! Any bytes as a CloudTrail record: it is read or refused, the same each time, and what is shown of it
//! does not change when it is masked again. Seeds: `tests/fixtures/cloudtrail/*/input.jsonl`.
#![no_main]

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, normalize};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    let masker = Masker::new(&[7; 32]);
    // 2027-01-01T00:00:00Z.
    let ctx = Context { now: Timestamp(1_798_761_600_000_000), masker: &masker };
    let read = || {
        let mut rows = RowBuffer::new();
        let from = Provenance { input: 0, offset: 0 };
        normalize(Format::CloudTrail, record, from, &ctx, &mut rows).map(|()| rows.row(0).digest())
    };
    assert_eq!(read(), read());
    let shown = masker.mask_document(Format::CloudTrail, record);
    assert_eq!(masker.mask_document(Format::CloudTrail, shown.as_bytes()), shown);
    let scrubbed = masker.scrub(String::from_utf8_lossy(record));
    assert_eq!(masker.scrub(scrubbed.as_ref()), scrubbed);
});
