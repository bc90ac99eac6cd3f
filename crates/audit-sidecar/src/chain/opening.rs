//! The first record of an epoch, and the key that signs the epoch's heads.

use std::fmt::Write as _;

use keytrail_ledger::chain::epoch_key_message;
use keytrail_model::Receipt;
use keytrail_ports::{Signer, StoreError};

use super::quoted;

/// What an epoch's first record says.
pub struct Opening<'a> {
    /// Random bytes of this start.
    pub boot_nonce: [u8; 32],
    /// The HSM, as a JSON object of the schema's `hsm`.
    pub hsm: &'a str,
    /// SHA-256 of the policies in force, 64 hex digits.
    pub policy_set_sha256: &'a str,
    /// Version of the sidecar.
    pub version: &'a str,
    /// `strict`, `outcome-strict` or `relaxed`.
    pub mode: &'a str,
    /// Public key of the epoch.
    pub epoch_key: [u8; 32],
    /// The last record of the epoch before.
    pub last: Option<&'a Receipt>,
    /// The newest sealed checkpoint that is known, as a signed note.
    pub checkpoint: Option<&'a str>,
}

impl Opening<'_> {
    /// The record's body; the audit key vouches for the epoch's.
    pub fn body(&self, source: &str, epoch: u64, audit: &dyn Signer) -> Result<String, StoreError> {
        let key = hex(&self.epoch_key);
        let signature = audit.sign(epoch_key_message(source, epoch, &key).as_bytes())?;
        let verifier =
            keytrail_ledger::VerifierKey::new(audit.name(), audit.public_key()).map_err(StoreError::Fatal)?;
        let id = format!("{}+{}", audit.name(), hex(&verifier.id()));
        let mut body = format!(
            r#"{{"boot_nonce":"{}","hsm":{},"policy_set_sha256":"{}","software":{{"name":"audit-sidecar","version":{}}},"epoch_key":{{"public_key":"{key}","signature":"{}","audit_key_id":{}}},"mode":"{}""#,
            hex(&self.boot_nonce),
            self.hsm,
            self.policy_set_sha256,
            quoted(self.version),
            hex(&signature),
            quoted(&id),
            self.mode,
        );
        if let Some(last) = self.last {
            let _fits_into_memory = write!(
                body,
                r#","last":{{"epoch":{},"seq":{},"hash":"{}"}}"#,
                last.epoch,
                last.seq,
                last.leaf_hash.to_hex()
            );
        }
        if let Some(checkpoint) = self.checkpoint {
            let _fits_into_memory = write!(body, r#","checkpoint":{}"#, quoted(checkpoint));
        }
        body.push('}');
        Ok(body)
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _fits_into_memory = write!(text, "{byte:02x}");
    }
    text
}
