//! A trail's private keys outside a key folder: in memory, and as one secret.
//!
//! What it is: [`PrivateKey`], a key that signs, and [`TrailKeys`], all keys of a trail as a store of secrets has them.
//! What it is not: it reads no file and asks no service. In: the text of a secret. Out: signers and the mask key.
//! Neither can be printed by accident.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use keytrail_model::Hash;
use keytrail_ports::{Signer, StoreError};
use serde_json::{Map, Value, json};
use sha2::Sha256;

/// What the signing key is derived from a seed with.
const LOG_KEY: &[u8] = b"keytrail/log-key/1";

/// What the mask key is derived from a seed with.
const MASK_KEY: &[u8] = b"keytrail/mask-key/1";

/// The fewest characters of a seed.
const SEED_CHARACTERS: usize = 32;

/// An Ed25519 key, as one line: `PRIVATE+KEY+<name>+<key id>+<base64(0x01 || seed)>`, as
/// golang.org/x/mod/sumdb/note writes private keys. The seed has 32 bytes (RFC 8032), the key id is
/// `SHA-256(name || 0x0A || 0x01 || public key)[..4]` in hex.
pub struct PrivateKey {
    name: String,
    key: SigningKey,
}

impl PrivateKey {
    /// The key of a seed.
    pub fn new(name: &str, seed: [u8; 32]) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) }
    }

    /// Reads the line, which may end with a newline.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_suffix('\n').unwrap_or(text).strip_prefix("PRIVATE+KEY+")?;
        let (name, rest) = rest.split_once('+')?;
        let (_, key) = rest.split_once('+')?;
        let bytes = STANDARD.decode(key).ok()?;
        let seed: [u8; 32] = bytes.strip_prefix(&[1])?.try_into().ok()?;
        let found = Self::new(name, seed);
        // Also checks the key id.
        (found.line() == text.trim_end()).then_some(found)
    }

    /// The line, without a newline: whoever has it signs as the log.
    pub fn line(&self) -> String {
        let mut id = self.name.clone().into_bytes();
        id.extend([b'\n', 1]);
        id.extend(self.public_key());
        let id = Hash::of(&id).to_hex();
        let mut key = vec![1];
        key.extend(self.key.to_bytes());
        format!("PRIVATE+KEY+{}+{}+{}", self.name, &id[..8], STANDARD.encode(key))
    }
}

impl Signer for PrivateKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], StoreError> {
        Ok(self.key.sign(message).to_bytes())
    }
}

/// A trail's private keys: those that sign its log, and the one that masks.
pub struct TrailKeys {
    signers: Vec<PrivateKey>,
    mask: [u8; 32],
}

impl TrailKeys {
    /// The keys of a trail that has them. At least one signs, and all have the log's name.
    ///
    /// # Errors
    /// What was expected, without what was found.
    pub fn new(signers: Vec<PrivateKey>, mask: [u8; 32]) -> Result<Self, String> {
        let named = signers.first().is_some_and(|first| signers.iter().all(|key| key.name == first.name));
        match named {
            true => Ok(Self { signers, mask }),
            false => Err("expected one key that signs, or several of one name".to_owned()),
        }
    }

    /// Reads a secret: `{"seed":"<32 or more random characters>"}`, which all keys are derived from (HMAC-SHA-256), or
    /// `{"log":["PRIVATE+KEY+..."],"mask":"<64 hex digits>"}`, the keys themselves.
    ///
    /// # Errors
    /// What was expected, without what was found.
    pub fn parse(secret: &str) -> Result<Self, String> {
        const FORMS: &str = r#"expected {"seed":"..."}, or {"log":["PRIVATE+KEY+..."],"mask":"..."}"#;
        let fields: Map<String, Value> = serde_json::from_str(secret).map_err(|_| FORMS.to_owned())?;
        let of = |name: &str| fields.get(name);
        match (of("seed"), of("log"), of("mask")) {
            (Some(Value::String(seed)), None, None) => Self::of_seed(seed),
            (None, Some(Value::Array(lines)), Some(Value::String(mask))) => {
                let key = |line: &Value| line.as_str().and_then(PrivateKey::parse);
                let signers: Option<Vec<_>> = lines.iter().map(key).collect();
                let signers =
                    signers.ok_or("expected lines PRIVATE+KEY+NAME+KEYID+BASE64 of Ed25519 keys in `log`")?;
                let mask = Hash::from_hex(mask).ok_or("expected 64 hex digits in `mask`")?;
                Self::new(signers, mask.0)
            }
            _ => Err(FORMS.to_owned()),
        }
    }

    fn of_seed(seed: &str) -> Result<Self, String> {
        if seed.chars().count() < SEED_CHARACTERS {
            return Err(format!("expected {SEED_CHARACTERS} or more characters in `seed`"));
        }
        let log = derived(seed, LOG_KEY)?;
        let public = PrivateKey::new("", log).public_key();
        let origin = format!("keytrail.aws/{}", &Hash::of(&public).to_hex()[..16]);
        Self::new(vec![PrivateKey::new(&origin, log)], derived(seed, MASK_KEY)?)
    }

    /// The keys as [`parse`](Self::parse) reads them, in the second form: whoever has it signs as the log.
    pub fn to_secret(&self) -> String {
        let lines: Vec<String> = self.signers.iter().map(PrivateKey::line).collect();
        json!({"log": lines, "mask": Hash(self.mask).to_hex()}).to_string()
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.signers.first().map_or("", |key| &key.name)
    }

    /// The keys that sign, the oldest first: two while one is replaced by the other.
    pub fn signers(&self) -> &[PrivateKey] {
        &self.signers
    }

    /// The key that masks.
    pub fn mask(&self) -> &[u8; 32] {
        &self.mask
    }
}

fn derived(seed: &str, of: &[u8]) -> Result<[u8; 32], String> {
    // No length is wrong for HMAC.
    let mut mac = Hmac::<Sha256>::new_from_slice(seed.as_bytes()).map_err(|e| e.to_string())?;
    mac.update(of);
    Ok(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "0123456789abcdefghijklmnopqrstuv";

    #[test]
    fn a_seed_gives_the_same_keys_for_ever() {
        let keys = TrailKeys::parse(&format!(r#"{{"seed":"{SEED}"}}"#)).unwrap();
        // python3: hmac.new(seed, b"keytrail/mask-key/1", "sha256").hexdigest()
        assert_eq!(
            Hash(*keys.mask()).to_hex(),
            "7e4138ce9b1087e3ef9d585cf00b35945adeb5483d6054ae8ec2cfd41712361e"
        );
        assert_eq!(
            Hash(keys.signers()[0].key.to_bytes()).to_hex(),
            "4aafa3b4f415bcdcaa639f220d423791e8b3193863a88e6480dd091e96593d61"
        );
        assert_eq!(keys.origin(), "keytrail.aws/106235ef4161e876");
        assert_eq!((keys.signers().len(), keys.signers()[0].name()), (1, keys.origin()));
    }

    #[test]
    fn a_trails_own_keys_are_read_as_they_are_written() {
        let signers = || vec![PrivateKey::new("log", [1; 32]), PrivateKey::new("log", [2; 32])];
        let secret = TrailKeys::new(signers(), [3; 32]).unwrap().to_secret();
        let keys = TrailKeys::parse(&secret).unwrap();
        let public: Vec<_> = keys.signers().iter().map(Signer::public_key).collect();
        assert_eq!(public, signers().iter().map(Signer::public_key).collect::<Vec<_>>());
        assert_eq!((keys.origin(), keys.mask()), ("log", &[3; 32]));
    }

    #[test]
    fn what_is_no_secret_is_not_shown() {
        let line = PrivateKey::new("log", [1; 32]).line();
        for wrong in [
            String::new(),
            "[]".into(),
            "{}".into(),
            r#"{"seed":"short"}"#.into(),
            format!(r#"{{"seed":"{SEED}","mask":"00"}}"#),
            format!(r#"{{"log":["{line}"]}}"#),
            format!(r#"{{"log":["{line}"],"mask":"00"}}"#),
            format!(r#"{{"log":[],"mask":"{}"}}"#, "00".repeat(32)),
            format!(r#"{{"log":["{}"],"mask":"{}"}}"#, line.replace("log", "lag"), "00".repeat(32)),
        ] {
            let Err(message) = TrailKeys::parse(&wrong) else { panic!("{wrong}") };
            assert!(message.starts_with("expected ") && !message.contains(SEED), "{message}");
        }
    }
}
