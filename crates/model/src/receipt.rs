//! What a caller holds as evidence that its operation is on record.

use serde::{Deserialize, Serialize};

use crate::Hash;

/// Where a record of a chain stands, and its hash: `keytrail verify --receipts` demands that the archive has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Whose chain.
    pub source: String,
    /// Its epoch.
    pub epoch: u64,
    /// The record's number.
    pub seq: u64,
    /// RFC 6962 leaf hash of its bytes.
    pub leaf_hash: Hash,
}

impl Receipt {
    /// As a JSON object, one line.
    pub fn to_json(&self) -> String {
        // A struct of strings and numbers always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As the value of the header `Keytrail-Receipt`.
    pub fn to_header(&self) -> String {
        format!(
            r#"source="{}";epoch={};seq={};leaf_hash={}"#,
            self.source,
            self.epoch,
            self.seq,
            self.leaf_hash.to_hex()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_archive_is_asked_for() {
        let receipt =
            Receipt { source: "gateway/p0".to_owned(), epoch: 2, seq: 7, leaf_hash: Hash([0xab; 32]) };
        let hash = "ab".repeat(32);
        let json = format!(r#"{{"source":"gateway/p0","epoch":2,"seq":7,"leaf_hash":"{hash}"}}"#);
        assert_eq!(receipt.to_json(), json);
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
        assert_eq!(receipt.to_header(), format!(r#"source="gateway/p0";epoch=2;seq=7;leaf_hash={hash}"#));
    }
}
