//! A bucket as CloudTrail fills it: log files, and digest files that sign and link them.
//!
//! What it is: AWS's side of log file validation, by the user guide, with keys of the tests. What it is not:
//! no code of the product. In: accounts, regions, hours. Out: a folder as `aws s3 sync` makes it, and the key
//! file that `aws cloudtrail list-public-keys` prints.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::tools;
use crate::trail::hex;

/// The bucket's name.
pub const BUCKET: &str = "trail-bucket";
/// Fingerprints of the two keys.
pub const FINGERPRINTS: [&str; 2] = ["31e8b5433410dfb61a9dc45cc65b22ff", "d41d8cd98f00b204e9800998ecf8427e"];

/// A mirror of the bucket.
pub struct Bucket {
    /// Its folder.
    pub root: PathBuf,
    keys: [RsaPrivateKey; 2],
}

/// Whose digests.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Before `AWSLogs`, with its `/`; or nothing.
    pub prefix: &'a str,
    /// The organisation, with its `/`; or nothing.
    pub organisation: &'a str,
    /// The account.
    pub account: &'a str,
    /// The region.
    pub region: &'a str,
    /// The trail's name.
    pub trail: &'a str,
    /// The trail's home region.
    pub home: &'a str,
}

/// A trail of one account in its home region.
pub const MAIN: Scope<'_> = Scope {
    prefix: "",
    organisation: "",
    account: "111122223333",
    region: "us-east-1",
    trail: "main",
    home: "us-east-1",
};

/// A log file.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its S3 path.
    pub object: String,
    /// Its bytes inflated.
    pub text: String,
}

/// A digest file.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Its S3 path.
    pub object: String,
    /// What it says.
    pub json: Value,
    /// Its signature, hex.
    pub signature: String,
    /// The log files that it lists.
    pub logs: Vec<Log>,
}

impl Scope<'_> {
    fn folder(&self, kind: &str, at: i64) -> String {
        let Self { prefix, organisation, account, region, .. } = self;
        let day = format(at, "%Y/%m/%d");
        format!("{prefix}AWSLogs/{organisation}{account}/{kind}/{region}/{day}")
    }

    /// Path of the digest whose hour ends at `end`, seconds since 1970.
    #[must_use]
    pub fn digest(&self, end: i64) -> String {
        let Self { account, region, trail, home, .. } = self;
        let time = format(end, "%Y%m%dT%H%M%SZ");
        let folder = self.folder("CloudTrail-Digest", end);
        format!("{folder}/{account}_CloudTrail-Digest_{region}_{trail}_{home}_{time}.json.gz")
    }

    /// A log file of one event, delivered at `at`.
    #[must_use]
    pub fn log(&self, at: i64) -> Log {
        let Self { account, region, .. } = self;
        let time = format(at, "%Y%m%dT%H%MZ");
        let id = format!("{account}-{region}-{at}");
        let unique = &hex(&Sha256::digest(&id))[..16];
        let folder = self.folder("CloudTrail", at);
        let text = json!({"Records": [{
            "eventVersion": "1.08", "eventID": id, "eventTime": format(at - 60, "%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": "kms.amazonaws.com", "eventName": "Decrypt", "eventType": "AwsApiCall",
            "awsRegion": region, "recipientAccountId": account, "sourceIPAddress": "192.0.2.1",
            "userIdentity": {"type": "IAMUser", "accountId": account, "userName": "Alice"},
        }]});
        let object = format!("{folder}/{account}_CloudTrail_{region}_{time}_{unique}.json.gz");
        Log { object, text: text.to_string() }
    }
}

impl Bucket {
    /// An empty one.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        fs::create_dir_all(&root).expect("the folder is made");
        Self { root, keys: [1, 2].map(private_key) }
    }

    /// The file that `aws cloudtrail list-public-keys` prints: the first key is valid from `first` to
    /// `rotated`, the second one from then on; seconds since 1970.
    #[must_use]
    pub fn public_keys(&self, first: i64, rotated: i64) -> Value {
        let value = |n: usize| {
            let key = RsaPublicKey::from(&self.keys[n]);
            STANDARD.encode(key.to_pkcs1_der().expect("a key").as_bytes())
        };
        json!({"PublicKeyList": [
            {"Value": value(0), "Fingerprint": FINGERPRINTS[0], "ValidityStartTime": first, "ValidityEndTime": rotated},
            {"Value": value(1), "Fingerprint": FINGERPRINTS[1],
             "ValidityStartTime": format(rotated, "%Y-%m-%dT%H:%M:%S.000000+00:00"),
             "ValidityEndTime": format(rotated + 1_000_000_000, "%Y-%m-%dT%H:%M:%S.000000+00:00")},
        ]})
    }

    /// A digest for the hour that ends at `end`, signed with key 0 or 1.
    #[must_use]
    pub fn digest(
        &self,
        scope: &Scope<'_>,
        end: i64,
        logs: Vec<Log>,
        previous: Option<&Digest>,
        key: usize,
    ) -> Digest {
        let log_files: Vec<Value> = logs
            .iter()
            .map(|log| {
                json!({
                    "s3Bucket": BUCKET, "s3Object": log.object, "hashAlgorithm": "SHA-256",
                    "hashValue": hex(&Sha256::digest(&log.text)),
                    "newestEventTime": format(end - 60, "%Y-%m-%dT%H:%M:%SZ"),
                    "oldestEventTime": format(end - 3600, "%Y-%m-%dT%H:%M:%SZ"),
                })
            })
            .collect();
        let json = json!({
            "awsAccountId": scope.account,
            "digestStartTime": format(end - 3600, "%Y-%m-%dT%H:%M:%SZ"),
            "digestEndTime": format(end, "%Y-%m-%dT%H:%M:%SZ"),
            "digestS3Bucket": BUCKET,
            "digestS3Object": scope.digest(end),
            "digestPublicKeyFingerprint": FINGERPRINTS[key],
            "digestSignatureAlgorithm": "SHA256withRSA",
            "newestEventTime": null, "oldestEventTime": null,
            "previousDigestS3Bucket": previous.map(|_| BUCKET),
            "previousDigestS3Object": previous.map(|p| &p.object),
            "previousDigestHashValue": previous.map(|p| hex(&Sha256::digest(p.json.to_string()))),
            "previousDigestHashAlgorithm": "SHA-256",
            "previousDigestSignature": previous.map(|p| &p.signature),
            "logFiles": log_files,
        });
        let mut digest = Digest { object: scope.digest(end), json, signature: String::new(), logs };
        self.sign(&mut digest, key);
        digest
    }

    /// Signs a digest as it is now, with key 0 or 1.
    pub fn sign(&self, digest: &mut Digest, key: usize) {
        let text = |name: &str| digest.json[name].as_str().unwrap_or("null").to_owned();
        let message = [
            text("digestEndTime"),
            format!("{}/{}", text("digestS3Bucket"), text("digestS3Object")),
            hex(&Sha256::digest(digest.json.to_string())),
            text("previousDigestSignature"),
        ]
        .join("\n");
        // DigestInfo of SHA-256, RFC 8017 section 9.2.
        let prefix = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
            0x00, 0x04, 0x20,
        ];
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(prefix) };
        let signed = self.keys[key].sign(scheme, &Sha256::digest(message)).expect("it signs");
        digest.signature = hex(&signed);
    }

    /// Digests for the hours that end at `first`, `first` + 1 h ..., in a chain, with `logs` log files each.
    #[must_use]
    pub fn chain(&self, scope: &Scope<'_>, first: i64, hours: i64, logs: i64) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::new();
        for end in (0..hours).map(|n| first + n * 3600) {
            let logs = (0..logs).map(|n| scope.log(end - 3000 + n * 300)).collect();
            chain.push(self.digest(scope, end, logs, chain.last(), 0));
        }
        chain
    }

    /// Writes digests and their log files.
    pub fn write<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        for digest in digests {
            self.put(&digest.object, gzip(digest.json.to_string().as_bytes()));
            for log in &digest.logs {
                self.put(&log.object, gzip(log.text.as_bytes()));
            }
        }
    }

    /// Writes what `aws s3api head-object` prints for a digest beside it.
    pub fn write_head(&self, digest: &Digest) {
        let head = json!({
            "ContentType": "application/json", "ContentEncoding": "gzip",
            "Metadata": {"signature": digest.signature, "signature-algorithm": "SHA256withRSA",
                         "backfill-generation-timestamp": digest.json["digestEndTime"]},
        });
        self.put(&format!("{}.head.json", digest.object), head.to_string());
    }

    /// Writes an object.
    pub fn put(&self, object: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(object);
        fs::create_dir_all(path.parent().expect("has a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    /// Removes an object.
    pub fn remove(&self, object: &str) {
        fs::remove_file(self.path(object)).expect("removed");
    }

    /// Where an object lies.
    #[must_use]
    pub fn path(&self, object: &str) -> PathBuf {
        self.root.join(object)
    }
}

/// One gzip member.
#[must_use]
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// Where the fixtures of digests are.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(&tools::root()).join("tests/fixtures/cloudtrail-digest").join(name)
}

fn private_key(n: usize) -> RsaPrivateKey {
    let text = fs::read_to_string(fixture(&format!("test-key-{n}.pkcs1.base64"))).expect("a key");
    let der = STANDARD.decode(text.replace('\n', "")).expect("base64");
    RsaPrivateKey::from_pkcs1_der(&der).expect("PKCS#1")
}

fn format(seconds: i64, how: &str) -> String {
    let time = jiff::Timestamp::from_second(seconds).expect("a time");
    time.to_zoned(jiff::tz::TimeZone::UTC).strftime(how).to_string()
}
