//! The public keys that AWS publishes: `aws cloudtrail list-public-keys`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keytrail_model::{Hash, Timestamp};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use serde::Deserialize;

/// RSA keys by fingerprint. CloudTrail has other keys in each region, and new ones now and then.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublicKeys(BTreeMap<String, PublicKey>);

/// A key and when AWS signs with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    key: RsaPublicKey,
    /// First and last moment of each time of validity; `None`: no limit was given.
    validity: Vec<(Option<Timestamp>, Option<Timestamp>)>,
}

/// DER of `DigestInfo` with SHA-256 up to the hash (RFC 8017 section 9.2, note 1).
const DIGEST_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];
/// CloudTrail's keys have 2048 bits; shorter ones can be broken.
const MIN_KEY_BYTES: usize = 256;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawList {
    public_key_list: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawKey {
    value: String,
    fingerprint: String,
    #[serde(default)]
    validity_start_time: Option<RawTime>,
    #[serde(default)]
    validity_end_time: Option<RawTime>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTime {
    Seconds(f64),
    Text(String),
}

impl RawTime {
    fn read(&self) -> Result<Timestamp, String> {
        match self {
            // As casts go: what is beyond the range becomes its end.
            Self::Seconds(s) => Ok(Timestamp((s * 1e6) as i64)),
            Self::Text(text) => Timestamp::parse(text).ok_or_else(|| format!("`{text}` is no time")),
        }
    }
}

impl PublicKeys {
    /// Reads what `aws cloudtrail list-public-keys` prints; the answers of several regions may stand one
    /// after the other.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let mut keys = Self::default();
        for list in serde_json::Deserializer::from_slice(json).into_iter::<RawList>() {
            for raw in list.map_err(|e| e.to_string())?.public_key_list {
                let wrong = |what: String| format!("key `{}`: {what}", raw.fingerprint);
                let time = |t: &Option<RawTime>| t.as_ref().map(RawTime::read).transpose();
                let from = time(&raw.validity_start_time).map_err(&wrong)?;
                let to = time(&raw.validity_end_time).map_err(&wrong)?;
                let key = PublicKey::from_base64(&raw.value).map_err(&wrong)?;
                let known = keys.0.entry(raw.fingerprint.clone()).or_insert_with(|| key.clone());
                if known.key != key.key {
                    return Err(wrong("it stands twice, with different values".into()));
                }
                known.validity.push((from, to));
            }
        }
        if keys.0.is_empty() {
            return Err("it has no key, expected the output of `aws cloudtrail list-public-keys`".into());
        }
        Ok(keys)
    }

    /// The key with a fingerprint.
    pub fn get(&self, fingerprint: &str) -> Option<&PublicKey> {
        self.0.get(fingerprint)
    }
}

impl PublicKey {
    /// Reads the base64 of a PKCS#1 `RSAPublicKey` in DER (RFC 8017 appendix A.1.1).
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let der = STANDARD.decode(text.trim()).map_err(|e| format!("not base64: {e}"))?;
        let key = RsaPublicKey::from_pkcs1_der(&der)
            .map_err(|e| format!("expected an RSA public key in PKCS#1 DER: {e}"))?;
        if key.size() < MIN_KEY_BYTES {
            return Err(format!("expected an RSA key of at least 2048 bits, found {}", key.n().bits()));
        }
        Ok(Self { key, validity: Vec::new() })
    }

    /// Whether the key was in use at some moment of the time `from` to `to`.
    pub fn valid(&self, from: Timestamp, to: Timestamp) -> bool {
        self.validity.is_empty()
            || self.validity.iter().any(|(first, last)| {
                first.is_none_or(|first| first <= to) && last.is_none_or(|last| last >= from)
            })
    }

    /// Checks an RSASSA-PKCS1-v1_5 signature with SHA-256 (RFC 8017 section 8.2.2), given in hex.
    pub fn verify(&self, message: &str, signature: &str) -> Result<(), String> {
        let signature = decode_hex(signature).ok_or("the signature is no hex")?;
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(DIGEST_INFO) };
        self.key
            .verify(scheme, &Hash::of(message.as_bytes()).0, &signature)
            .map_err(|_| "the signature does not fit".to_owned())
    }
}

/// Hex in either case; AWS writes the lower one.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    // Two digits below 16 each fit a byte.
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPublicKey};
    use rsa::{RsaPrivateKey, RsaPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::cloudtrail_digest::string_to_sign;

    fn fixture(name: &str) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cloudtrail-digest/");
        std::fs::read_to_string(format!("{path}{name}")).unwrap()
    }

    fn private(n: u32) -> RsaPrivateKey {
        let der = STANDARD.decode(fixture(&format!("test-key-{n}.pkcs1.base64")).replace('\n', "")).unwrap();
        RsaPrivateKey::from_pkcs1_der(&der).unwrap()
    }

    fn public(n: u32) -> String {
        let key = RsaPublicKey::from(&private(n));
        STANDARD.encode(key.to_pkcs1_der().unwrap().as_bytes())
    }

    fn signature(n: u32, message: &str) -> String {
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(DIGEST_INFO) };
        let bytes = private(n).sign(scheme, &Hash::of(message.as_bytes()).0).unwrap();
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// What aws-cli's own tests expect.
    #[test]
    fn published_vectors() {
        let vectors: Value = serde_json::from_str(&fixture("aws-cli-vectors.json")).unwrap();
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let v = &vectors["string_to_sign"];
        let [end, bucket, object] =
            ["digestEndTime", "digestS3Bucket", "digestS3Object"].map(|n| text(&v[n]));
        let digest = Hash::of(text(&v["inflated_digest"]).as_bytes());
        let previous = v["previousDigestSignature"].as_str();
        assert_eq!(string_to_sign(&end, &bucket, &object, &digest, previous), text(&v["want"]));
        for log in vectors["log_hashes"].as_array().unwrap() {
            assert_eq!(Hash::of(text(&log["inflated"]).as_bytes()).to_hex(), text(&log["hashValue"]));
        }
        let key = PublicKey::from_base64(&text(&vectors["public_key_pkcs1_base64"])).unwrap();
        assert_eq!(key.verify("x", &"00".repeat(256)).unwrap_err(), "the signature does not fit");
        let e = PublicKey::from_base64(&text(&vectors["key_that_must_not_load"])).unwrap_err();
        assert!(e.contains("expected an RSA public key in PKCS#1 DER"), "{e}");
    }

    #[test]
    fn signatures_are_of_one_message_and_one_key() {
        let key = PublicKey::from_base64(&public(1)).unwrap();
        let good = signature(1, "message");
        assert_eq!(key.verify("message", &good), Ok(()));
        assert_eq!(key.verify("message", &good.to_uppercase()), Ok(()));
        for wrong in
            [good.replacen(&good[..2], "00", 1), signature(2, "message"), good[2..].into(), String::new()]
        {
            assert_eq!(key.verify("message", &wrong).unwrap_err(), "the signature does not fit");
        }
        assert!(key.verify("other", &good).is_err());
        assert_eq!(key.verify("message", "zz").unwrap_err(), "the signature is no hex");
    }

    #[test]
    fn a_list_of_keys_is_read_in_both_notations_of_time() {
        let time = |t: &str| Timestamp::parse(t).unwrap();
        let number = json!({"PublicKeyList": [
            {"Value": public(1), "Fingerprint": "a", "ValidityStartTime": 1_700_000_000.5, "ValidityEndTime": 1_710_000_000},
        ]});
        let text = json!({"PublicKeyList": [
            {"Value": public(2), "Fingerprint": "b", "ValidityStartTime": "2023-11-14T23:13:20+01:00", "ValidityEndTime": "2024-03-09T16:00:00.000000+00:00"},
            {"Value": public(1), "Fingerprint": "a", "ValidityStartTime": "2025-01-01T00:00:00Z", "ValidityEndTime": "2025-02-01T00:00:00Z"},
        ]});
        let keys = PublicKeys::parse(format!("{number}\n{text}").as_bytes()).unwrap();
        for fingerprint in ["a", "b"] {
            let key = keys.get(fingerprint).unwrap();
            let valid = |t: &str| key.valid(time(t), time(t));
            assert!(!valid("2023-11-14T22:13:19Z") && valid("2023-11-14T22:13:21Z"));
            assert!(valid("2024-03-09T16:00:00Z") && !valid("2024-03-09T16:00:01Z"));
            assert_eq!(valid("2025-01-15T00:00:00Z"), fingerprint == "a");
            assert!(
                key.valid(time("2020-01-01T00:00:00Z"), time("2023-12-01T00:00:00Z")),
                "a time that meets it"
            );
        }
        assert_eq!(keys.get("c"), None);
    }

    #[test]
    fn a_key_file_is_checked() {
        let list = |value: &str, start: Value| {
            let json =
                json!({"PublicKeyList": [{"Value": value, "Fingerprint": "f", "ValidityStartTime": start}]});
            format!("{json}{}", json!({"PublicKeyList": [{"Value": public(1), "Fingerprint": "f"}]}))
        };
        for (json, message) in [
            ("{}".to_owned(), "missing field `PublicKeyList`"),
            (r#"{"PublicKeyList":[]}"#.to_owned(), "it has no key"),
            (list("YQo=", json!(0)), "key `f`: expected an RSA public key"),
            (list(&public(1), json!("soon")), "key `f`: `soon` is no time"),
            (list(&public(2), json!(0)), "key `f`: it stands twice, with different values"),
            // A 512-bit key.
            (
                list(
                    "MEgCQQC8kGa1pSjbSYZVebtTRBLxBz5H4i2p/llLCrEeQhta5kaQu/RnvuER4W8oDH3+3iuIYW4VQAzyqFpwuzjkDI+17t5tAgMBAAE=",
                    json!(0),
                ),
                "key `f`: expected an RSA",
            ),
        ] {
            let e = PublicKeys::parse(json.as_bytes()).unwrap_err();
            assert!(e.contains(message), "{e}");
        }
    }
}
