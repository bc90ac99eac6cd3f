//! What one digest file says.

use keytrail_model::{Hash, Timestamp};
use serde::Deserialize;

use super::name::compact;

/// A digest file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DigestFile {
    /// Beginning of the window in which the files were delivered.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// The end as it is written: it is signed so.
    pub end_text: String,
    /// The bucket that it was delivered to.
    pub bucket: String,
    /// The S3 path that it was delivered to.
    pub object: String,
    /// Fingerprint of the key that signed it.
    pub fingerprint: String,
    /// Algorithm of the signature.
    pub algorithm: Option<String>,
    /// The digest before; `None`: the chain starts here.
    pub previous: Option<Previous>,
    /// Every log file that was delivered in the window.
    pub log_files: Vec<LogFile>,
}

/// The link to the digest before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Its bucket.
    pub bucket: String,
    /// Its S3 path.
    pub object: String,
    /// SHA-256 of its inflated bytes.
    pub sha256: Hash,
    /// Its signature, hex.
    pub signature: String,
}

/// A log file that AWS delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFile {
    /// Its bucket.
    pub bucket: String,
    /// Its S3 path.
    pub object: String,
    /// SHA-256 of its inflated bytes.
    pub sha256: Hash,
}

/// The one algorithm of signatures that AWS names.
const SIGNATURE: &str = "SHA256withRSA";
/// The one algorithm of hashes that AWS names.
const HASH: &str = "SHA-256";
/// S3 has no longer keys.
const MAX_KEY_BYTES: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDigest {
    digest_start_time: String,
    digest_end_time: String,
    digest_s3_bucket: String,
    digest_s3_object: String,
    digest_public_key_fingerprint: String,
    #[serde(default)]
    digest_signature_algorithm: Option<String>,
    #[serde(default)]
    previous_digest_s3_bucket: Option<String>,
    #[serde(default)]
    previous_digest_s3_object: Option<String>,
    #[serde(default)]
    previous_digest_hash_value: Option<String>,
    #[serde(default)]
    previous_digest_hash_algorithm: Option<String>,
    #[serde(default)]
    previous_digest_signature: Option<String>,
    log_files: Vec<RawLog>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLog {
    s3_bucket: String,
    s3_object: String,
    hash_value: String,
    #[serde(default)]
    hash_algorithm: Option<String>,
}

impl DigestFile {
    /// Reads the inflated bytes of a digest file. A field that stands twice is refused: two readers could
    /// read two things.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let raw: RawDigest = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let time = |name: &str, text: &str| {
            Timestamp::parse(text)
                .or_else(|| compact(text))
                .ok_or_else(|| format!("`{name}` is no time: `{}`", shortened(text)))
        };
        let start = time("digestStartTime", &raw.digest_start_time)?;
        let end = time("digestEndTime", &raw.digest_end_time)?;
        if end < start {
            return Err("`digestEndTime` is before `digestStartTime`".into());
        }
        if let Some(algorithm) = raw.digest_signature_algorithm.as_deref().filter(|a| *a != SIGNATURE) {
            return Err(format!(
                "`digestSignatureAlgorithm` is `{}`, expected {SIGNATURE}",
                shortened(algorithm)
            ));
        }
        let links = (
            raw.previous_digest_s3_bucket,
            raw.previous_digest_s3_object,
            raw.previous_digest_hash_value,
            raw.previous_digest_signature,
        );
        let previous = match links {
            (None, None, None, None) => None,
            (Some(bucket), Some(object), Some(hash), Some(signature)) => Some(Previous {
                bucket,
                object: key("previousDigestS3Object", object)?,
                sha256: hash_of("previousDigestHash", &hash, raw.previous_digest_hash_algorithm.as_deref())?,
                signature,
            }),
            _ => {
                return Err(
                    "it names the digest before in part: bucket, path, hash and signature belong together"
                        .into(),
                );
            }
        };
        let mut log_files = Vec::with_capacity(raw.log_files.len());
        for log in raw.log_files {
            log_files.push(LogFile {
                bucket: log.s3_bucket,
                object: key("s3Object", log.s3_object)?,
                sha256: hash_of("hash", &log.hash_value, log.hash_algorithm.as_deref())?,
            });
        }
        Ok(Self {
            start,
            end,
            end_text: raw.digest_end_time,
            bucket: raw.digest_s3_bucket,
            object: key("digestS3Object", raw.digest_s3_object)?,
            fingerprint: raw.digest_public_key_fingerprint,
            algorithm: raw.digest_signature_algorithm,
            previous,
            log_files,
        })
    }

    /// What AWS signed of it, if `sha256` is that of its inflated bytes.
    pub fn string_to_sign(&self, sha256: &Hash) -> String {
        let previous = self.previous.as_ref().map(|p| p.signature.as_str());
        string_to_sign(&self.end_text, &self.bucket, &self.object, sha256, previous)
    }
}

/// What AWS signs: end time, path, hash of the inflated digest and the signature before, a line each.
pub fn string_to_sign(
    end_time: &str,
    bucket: &str,
    object: &str,
    digest: &Hash,
    previous_signature: Option<&str>,
) -> String {
    format!("{end_time}\n{bucket}/{object}\n{digest}\n{}", previous_signature.unwrap_or("null"))
}

/// What `aws s3api head-object` tells of a digest file: its signature, which stands nowhere else until the
/// next digest repeats it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectHead {
    /// The signature, hex.
    pub signature: String,
    /// When a backfill digest was made, and so signed.
    pub generated: Option<Timestamp>,
}

#[derive(Deserialize)]
struct RawHead {
    #[serde(rename = "Metadata")]
    metadata: RawMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMetadata {
    signature: String,
    signature_algorithm: String,
    #[serde(default)]
    backfill_generation_timestamp: Option<String>,
}

impl ObjectHead {
    /// Reads the JSON that `aws s3api head-object` prints.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let RawHead { metadata } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if metadata.signature_algorithm != SIGNATURE {
            let algorithm = shortened(&metadata.signature_algorithm);
            return Err(format!("`signature-algorithm` is `{algorithm}`, expected {SIGNATURE}"));
        }
        let generated = match metadata.backfill_generation_timestamp {
            None => None,
            Some(text) => Some(Timestamp::parse(&text).or_else(|| compact(&text)).ok_or_else(|| {
                format!("`backfill-generation-timestamp` is no time: `{}`", shortened(&text))
            })?),
        };
        Ok(Self { signature: metadata.signature, generated })
    }
}

fn key(name: &str, object: String) -> Result<String, String> {
    if object.is_empty() || object.len() > MAX_KEY_BYTES {
        return Err(format!("`{name}` has {} bytes, expected 1 to {MAX_KEY_BYTES}", object.len()));
    }
    Ok(object)
}

fn hash_of(name: &str, value: &str, algorithm: Option<&str>) -> Result<Hash, String> {
    if let Some(other) = algorithm.filter(|a| *a != HASH) {
        return Err(format!("`{name}Algorithm` is `{}`, expected {HASH}", shortened(other)));
    }
    Hash::from_hex(&value.to_ascii_lowercase())
        .ok_or_else(|| format!("`{name}Value` is no SHA-256 in 64 hex digits: `{}`", shortened(value)))
}

/// Hostile text for a message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's example (CloudTrail user guide, "CloudTrail digest file structure"), its signature shortened.
    const EXAMPLE: &str = r#"{
        "awsAccountId": "111122223333",
        "digestStartTime": "2015-08-17T14:01:31Z", "digestEndTime": "2015-08-17T15:01:31Z",
        "digestS3Bucket": "S3-bucket-name",
        "digestS3Object": "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2015/08/17/x_20150817T150131Z.json.gz",
        "digestPublicKeyFingerprint": "31e8b5433410dfb61a9dc45cc65b22ff",
        "digestSignatureAlgorithm": "SHA256withRSA",
        "newestEventTime": "2015-08-17T14:52:27Z", "oldestEventTime": "2015-08-17T14:42:27Z",
        "previousDigestS3Bucket": "S3-bucket-name",
        "previousDigestS3Object": "AWSLogs/111122223333/CloudTrail-Digest/us-east-2/2015/08/17/x_20150817T140131Z.json.gz",
        "previousDigestHashValue": "97fb791cf91ffc440d274f8190dbdd9aa09c34432aba82739df18b6d3c13df2d",
        "previousDigestHashAlgorithm": "SHA-256",
        "previousDigestSignature": "50887ccffad4c002",
        "logFiles": [{
            "s3Bucket": "S3-bucket-name",
            "s3Object": "AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/17/111122223333_CloudTrail_us-east-2_20150817T1445Z_9nYN7gp2eWAJHIfT.json.gz",
            "hashValue": "9bb6196fc6b84d6f075a56548feca262bd99ba3c2de41b618e5b6e22c1fc71f6",
            "hashAlgorithm": "SHA-256",
            "newestEventTime": "2015-08-17T14:52:27Z", "oldestEventTime": "2015-08-17T14:42:27Z"
        }]
    }"#;

    #[test]
    fn the_example_of_the_user_guide_is_read() {
        let digest = DigestFile::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(digest.end.0 - digest.start.0, 3_600_000_000);
        assert_eq!(digest.log_files.len(), 1);
        let previous = digest.previous.as_ref().unwrap();
        assert!(previous.object.ends_with("x_20150817T140131Z.json.gz"));
        assert_eq!(
            digest.string_to_sign(&Hash::default()),
            format!(
                "2015-08-17T15:01:31Z\nS3-bucket-name/{}\n{}\n50887ccffad4c002",
                digest.object,
                "0".repeat(64)
            )
        );
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let with = |from: &str, to: &str| {
            let text = EXAMPLE.replace(from, to);
            assert_ne!(text, EXAMPLE);
            DigestFile::parse(text.as_bytes()).unwrap_err()
        };
        for (from, to, message) in [
            ("\"digestStartTime\": \"2015-08-17T14:01:31Z\", ", "", "missing field `digestStartTime`"),
            ("\"digestEndTime\": \"2015", "\"digestEndTime\": \"tomorrow", "`digestEndTime` is no time"),
            ("\"digestEndTime\": \"2015", "\"digestEndTime\": \"2014", "is before `digestStartTime`"),
            ("SHA256withRSA", "MD5withRSA", "`digestSignatureAlgorithm` is `MD5withRSA`"),
            ("\"50887ccffad4c002\"", "null", "names the digest before in part"),
            ("\"9bb6", "\"zbb6", "`hashValue` is no SHA-256"),
            (
                "\"SHA-256\",\n            \"newest",
                "\"MD5\",\n            \"newest",
                "`hashAlgorithm` is `MD5`",
            ),
            ("\"awsAccountId\"", "\"logFiles\": [], \"awsAccountId\"", "duplicate field `logFiles`"),
            ("AWSLogs/111122223333/CloudTrail/", &"a/".repeat(600), "expected 1 to 1024"),
        ] {
            let e = with(from, to);
            assert!(e.contains(message), "{e}");
        }
        let deep = EXAMPLE.replace("\"111122223333\"", &"[".repeat(100_000));
        assert!(DigestFile::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn the_signature_of_the_newest_digest_comes_from_its_metadata() {
        let head = |m: &str| ObjectHead::parse(format!("{{\"ETag\":\"x\",\"Metadata\":{m}}}").as_bytes());
        let good = head(
            r#"{"signature":"ab","signature-algorithm":"SHA256withRSA","backfill-generation-timestamp":"2026-02-05T10:00:00Z"}"#,
        );
        assert_eq!(good.unwrap().generated, Timestamp::parse("2026-02-05T10:00:00Z"));
        assert!(head(r#"{"signature":"ab"}"#).unwrap_err().contains("missing field `signature-algorithm`"));
        let other = head(r#"{"signature":"ab","signature-algorithm":"none"}"#).unwrap_err();
        assert!(other.contains("expected SHA256withRSA"), "{other}");
    }
}
