//! Why a record is refused. Codes are stable: they stand in quarantine, metrics, logs and documents.

use std::fmt;

macro_rules! rejects {
    ($($variant:ident, $code:literal, $doc:literal;)*) => {
        /// Code of a rejection.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Reject { $(#[doc = $doc] $variant,)* }

        impl Reject {
            /// All codes.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$variant),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// One line of documentation.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

rejects! {
    CompressionBroken, "compression_broken", "gzip or zstd data that cannot be read further; the bytes are what was inflated of the unfinished record";
    FieldMissing, "field_missing", "a field without which the event has no meaning";
    FieldType, "field_type", "a field of another type than its source defines";
    FormatUnknown, "format_unknown", "a record of no source that this version reads";
    InflatedTooLarge, "inflated_too_large", "compressed input beyond the configured inflated size";
    InputUnreadable, "input_unreadable", "an input that could not be opened or read; the bytes are its name";
    JsonBroken, "json_broken", "a record that is not JSON, or only part of one";
    JsonDuplicateKey, "json_duplicate_key", "a key that keytrail reads stands twice in one object";
    JsonLoneSurrogate, "json_lone_surrogate", "an escape that is half of a surrogate pair";
    JsonTooDeep, "json_too_deep", "nesting deeper than 128, or containers in more than 8 others";
    RecordTooLarge, "record_too_large", "a record larger than the configured limit";
    RecordTorn, "record_torn", "the head of a record whose end was never written";
    SegmentDamaged, "segment_damaged", "bytes of a segment that are no record, or a segment that breaks off";
    SegmentDuplicate, "segment_duplicate", "a record of a number that its segment had before";
    SegmentOrder, "segment_order", "a record behind a later one of its segment, or of another chain than its segment";
    SourceMismatch, "source_mismatch", "a record of another shape or account than its declared source";
    TimeFuture, "time_future", "an event time more than 24 hours after receipt";
    Utf8Invalid, "utf8_invalid", "a JSON record that is not UTF-8";
}

impl Reject {
    /// The rejection of that code.
    pub fn by_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A refused record: the code and a sentence that says what was expected and where. The sentence
/// holds no value of the record, which may be secret; the bytes themselves go to quarantine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The stable code.
    pub code: Reject,
    /// Lower case, no full stop, e.g. "`eventTime` is missing".
    pub reason: String,
}

impl Rejection {
    /// A rejection.
    pub fn new(code: Reject, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::Reject;

    #[test]
    fn codes_are_documented() {
        let document = include_str!("../../../schemas/manifest.md");
        for reject in Reject::ALL {
            let row = format!("| `{}` | {} |", reject.code(), reject.doc());
            assert!(document.contains(&row), "schemas/manifest.md lacks: {row}");
            assert_eq!(Reject::by_code(reject.code()), Some(reject));
        }
    }
}
