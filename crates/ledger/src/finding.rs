//! What verification finds: a closed list of codes, each of them stable for ever.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal,)*) => {
        /// Kind of a finding.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code, as in JSON and text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// A sequence number is missing.
    Gap "GAP",
    /// A record stands twice.
    Dup "DUP",
    /// Records stand in another order than they were numbered.
    Reorder "REORDER",
    /// A record's `prev` is not the hash of the one before.
    ChainBreak "CHAIN_BREAK",
    /// A leaf of the log, or a row below it, is not what was hashed.
    LeafMismatch "LEAF_MISMATCH",
    /// Two heads of one log that cannot both be true.
    Fork "FORK",
    /// A signature is wrong, missing or by a key that is not valid there.
    SigInvalid "SIG_INVALID",
    /// Too few witnesses.
    QuorumShort "QUORUM_SHORT",
    /// A source's times run backwards.
    TimeRegression "TIME_REGRESSION",
    /// A record claims to be older than evidence allows.
    Backdated "BACKDATED",
    /// An epoch does not continue the one before.
    EpochUnlinked "EPOCH_UNLINKED",
    /// A source fell silent.
    TailSilent "TAIL_SILENT",
    /// An intent without outcome.
    OrphanIntent "ORPHAN_INTENT",
    /// A caller's receipt has no record.
    ReceiptMissing "RECEIPT_MISSING",
    /// HSM counters and records disagree.
    HsmMismatch "HSM_MISMATCH",
    /// A file that should be there is not.
    FileMissing "FILE_MISSING",
    /// A file is there that nothing sealed names.
    FileUnlisted "FILE_UNLISTED",
    /// Events of one producer key that differ.
    Conflict "CONFLICT",
    /// Events of one producer key that differ in their text only.
    Variant "VARIANT",
    /// A derived column is not what the original gives.
    ColumnMismatch "COLUMN_MISMATCH",
    /// An original was withheld by decision.
    Withheld "WITHHELD",
    /// An object's retention ended.
    Expired "EXPIRED",
    /// Something archived that no manifest names.
    Unsealed "UNSEALED",
    /// An archive, detail or quarantine object is not the one that was sealed.
    ObjectMismatch "OBJECT_MISMATCH",
    /// A tile of the log is not what its entries give.
    TileMismatch "TILE_MISMATCH",
    /// The log is shorter than one that is known.
    Rollback "ROLLBACK",
}

impl Code {
    /// Whether it tells what sources sent or what was decided: shown and counted, but no failure.
    pub const fn informational(self) -> bool {
        matches!(self, Self::Conflict | Self::Variant | Self::Withheld | Self::Expired)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that verification found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Finding {
    /// Its kind.
    pub code: Code,
    /// What it is about: a path in the data folder, a uid, a source.
    pub element: String,
    /// What was found and what was expected.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(code: Code, element: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, element: element.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.element, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes are a promise to whoever parses them.
    #[test]
    fn codes_are_stable() {
        let all: Vec<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(
            all.join(" "),
            "GAP DUP REORDER CHAIN_BREAK LEAF_MISMATCH FORK SIG_INVALID QUORUM_SHORT TIME_REGRESSION \
             BACKDATED EPOCH_UNLINKED TAIL_SILENT ORPHAN_INTENT RECEIPT_MISSING HSM_MISMATCH FILE_MISSING \
             FILE_UNLISTED CONFLICT VARIANT COLUMN_MISMATCH WITHHELD EXPIRED UNSEALED OBJECT_MISMATCH \
             TILE_MISMATCH ROLLBACK"
        );
        let info: Vec<&str> = Code::ALL.iter().filter(|c| c.informational()).map(|c| c.as_str()).collect();
        assert_eq!(info, ["CONFLICT", "VARIANT", "WITHHELD", "EXPIRED"]);
    }
}
