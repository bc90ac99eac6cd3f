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
    /// Reads one as JSON or as the header's value; anything else is told.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|e| format!("no receipt: {e}"));
        }
        let wrong = || {
            "expected `source=\"...\";epoch=N;seq=N;leaf_hash=...`, or the same as a JSON object".to_owned()
        };
        let value = |part: Option<&str>, name: &str| {
            part.and_then(|p| p.strip_prefix(name)).map(str::to_owned).ok_or_else(wrong)
        };
        let mut parts = text.split(';');
        let source = value(parts.next(), "source=")?;
        let (epoch, seq) = (value(parts.next(), "epoch=")?, value(parts.next(), "seq=")?);
        let leaf_hash = value(parts.next(), "leaf_hash=")?;
        let receipt = Self {
            source: source.trim_matches('"').to_owned(),
            epoch: epoch.parse().map_err(|_| wrong())?,
            seq: seq.parse().map_err(|_| wrong())?,
            leaf_hash: Hash::from_hex(&leaf_hash).ok_or_else(wrong)?,
        };
        // There is one spelling.
        if receipt.to_header() == text { Ok(receipt) } else { Err(wrong()) }
    }

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
        assert_eq!(Receipt::parse(&json), Ok(receipt.clone()));
        assert_eq!(Receipt::parse(&receipt.to_header()), Ok(receipt.clone()));
        for wrong in ["", "{}", &receipt.to_header().replace("epoch=2", "epoch=+2"), &json[1..]] {
            assert!(Receipt::parse(wrong).is_err(), "{wrong}");
        }
    }
}
