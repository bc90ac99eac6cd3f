//! What holds of any bytes that a source reads as a record.

pub mod sidecar;

use keytrail_model::row::Provenance;
use keytrail_model::{RowBuffer, Timestamp};
use keytrail_normalize::{Context, Format, Masker, normalize};

/// A row or a rejection with a reason, never a panic, and the same again; what is shown of the bytes does
/// not change when it is masked again.
pub fn record(format: Format, bytes: &[u8]) {
    let masker = Masker::new(&[7; 32]);
    // 2027-01-15T08:00:00Z.
    let ctx = Context { now: Timestamp(1_800_000_000_000_000), masker: &masker, declared: None };
    if let Ok(text) = std::str::from_utf8(bytes) {
        Format::detect(text);
    }
    let read = || {
        let mut rows = RowBuffer::new();
        let from = Provenance { input: 0, offset: 0 };
        let outcome = normalize(format, bytes, from, &ctx, &mut rows);
        (outcome, rows.rows().map(|r| (r.head.uid, r.digest())).collect::<Vec<_>>())
    };
    let (outcome, rows) = read();
    assert_eq!(rows.len(), usize::from(outcome.is_ok()));
    assert!(outcome.as_ref().err().is_none_or(|r| !r.reason.is_empty()));
    assert_eq!((outcome, rows), read());
    let shown = masker.mask_document(Some(format), bytes);
    assert_eq!(masker.mask_document(Some(format), shown.as_bytes()), shown);
    let scrubbed = masker.scrub(String::from_utf8_lossy(bytes));
    assert_eq!(masker.scrub(scrubbed.as_ref()), scrubbed);
}
