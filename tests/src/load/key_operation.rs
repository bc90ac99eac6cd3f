//! Key-operation events v1 (`schemas/key-operation.v1.schema.json`): chains of several gateways in front of
//! HSM partitions, with real hashes and signed heads.
//!
//! Every chain is gapless and linked: `prev` is the RFC 6962 leaf hash of the record before. In ascending
//! load a gateway's epochs follow each other; in shuffled load each epoch is a gateway of its own whose
//! records spread over all days, so that any part of a file holds times of any day.

use std::collections::VecDeque;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use super::random::{Random, mix, uuid};
use super::{DAY_MICROS, Load, Moment};

/// Records of an epoch.
const EPOCH_RECORDS: u64 = 4096;

/// A signed head comes at least after so many records.
const HEAD_RECORDS: u64 = 256;

/// Records that a replay can repeat.
const KEPT: usize = 512;

/// Operation, mechanism, algorithm, usage of the key, bytes of output.
type Operation = (&'static str, &'static str, &'static str, &'static str, u64);

/// Operations by weight.
const OPERATIONS: [(u32, Operation); 8] = [
    (40, ("sign", "CKM_ECDSA", "EC-P256", "sign", 64)),
    (30, ("decrypt", "CKM_AES_GCM", "AES-256", "encrypt", 128)),
    (20, ("encrypt", "CKM_AES_GCM", "AES-256", "encrypt", 156)),
    (10, ("mac", "CKM_SHA256_HMAC", "HMAC-SHA256", "mac", 32)),
    (8, ("unwrap", "CKM_AES_KEY_WRAP_PAD", "AES-256", "wrap", 0)),
    (6, ("wrap", "CKM_AES_KEY_WRAP_PAD", "AES-256", "wrap", 40)),
    (3, ("derive", "CKM_ECDH1_DERIVE", "EC-P256", "derive", 0)),
    (1, ("create", "CKM_AES_KEY_GEN", "AES-256", "encrypt", 0)),
];

type Hash = [u8; 32];

/// All open chains of a load.
pub struct Chains {
    load: Load,
    open: Vec<Chain>,
    next_source: u64,
    random: Random,
    kept: VecDeque<String>,
}

impl Chains {
    /// Chains that start at their first epoch.
    pub fn new(load: &Load) -> Self {
        let mut chains = Self {
            load: *load,
            open: Vec::new(),
            next_source: 0,
            random: Random::of(load.seed ^ 0x4B4F, 0),
            kept: VecDeque::with_capacity(KEPT),
        };
        for _ in 0..if load.shuffle { 64 } else { 4 } {
            let chain = chains.start();
            chains.open.push(chain);
        }
        chains
    }

    fn start(&mut self) -> Chain {
        let source = self.next_source;
        self.next_source += 1;
        Chain::new(self.load.seed, source)
    }

    /// Appends the next record of one of the chains, behind which so many are to come; `at` is ignored where times
    /// are shuffled. The last ones close what is open.
    pub fn write(&mut self, out: &mut String, at: Moment, to_come: u64) {
        let mut i = self.random.below(self.open.len() as u64) as usize;
        let to_close: u64 = self.open.iter().map(Chain::to_close).sum();
        let ends = to_come < to_close.saturating_add(1);
        if ends && let Some(open) = self.open.iter().position(|chain| chain.to_close() > 0) {
            i = open;
            // One more than is needed is a sign of life.
            self.open[i].end = Some(to_come == to_close);
        }
        let chain = &mut self.open[i];
        let start = out.len();
        if self.load.shuffle {
            let step = i64::from(self.load.days) * DAY_MICROS / EPOCH_RECORDS as i64;
            let jitter = chain.random.below(step.max(1) as u64) as i64;
            let closed = chain.write(out, Moment(self.load.start_micros + step * chain.seq as i64 + jitter));
            if closed && !ends {
                self.open[i] = self.start();
            }
        } else {
            chain.write(out, at);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(out[start..].to_owned());
    }

    /// Appends one of the last records again; false when there is none.
    pub fn replay(&self, out: &mut String, random: &mut Random) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        out.push_str(&self.kept[random.below(self.kept.len() as u64) as usize]);
        true
    }
}

/// One source's chain.
struct Chain {
    source: String,
    hsm: String,
    number: u64,
    epoch: u64,
    seq: u64,
    /// Leaf hash of the record before, at an epoch's start that of the epoch before.
    prev: Hash,
    /// Records of the epoch before.
    last_records: u64,
    /// Full subtrees of the epoch's log, the largest first, with their heights.
    tree: Vec<(u32, Hash)>,
    key: SigningKey,
    /// The operation whose outcome comes next: its id and body as far as both records share it.
    pending: Option<(String, String, u64)>,
    /// The load ends: the next record closes the epoch, or is a heartbeat if so it says.
    end: Option<bool>,
    random: Random,
}

impl Chain {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::of(seed ^ 0xC4A1, number);
        let hsm = format!(
            r#"{{"id":"hsm-{:02}","serial":"{:016x}","slot":{},"firmware":"7.8.4","reboot_counter":{}}}"#,
            number % 8,
            mix(number % 8 + 1),
            number % 4,
            40 + number % 3,
        );
        let key = signing_key(&mut random);
        // Two loads have no chain in common.
        let of_seed = if seed == 1 { String::new() } else { format!("{seed}-") };
        Self {
            source: format!("hsm-gateway-{of_seed}{number:04}/partition-{}", number % 4),
            hsm,
            number,
            epoch: 1,
            seq: 0,
            prev: [0; 32],
            last_records: 0,
            tree: Vec::new(),
            key,
            pending: None,
            end: None,
            random,
        }
    }

    /// Records that are needed to close what is open.
    fn to_close(&self) -> u64 {
        if self.seq == 0 { 0 } else { 1 + u64::from(self.pending.is_some()) }
    }

    /// Appends the next record; true when it closed the epoch.
    fn write(&mut self, out: &mut String, at: Moment) -> bool {
        let start = out.len();
        let (phase, op_id, body) = self.next();
        let op_id = op_id.map_or_else(String::new, |id| format!(r#""op_id":"{id}","#));
        let nanos = self.random.below(1000);
        out.push_str(&format!(
            r#"{{"v":1,"source":"{}","epoch":{},"seq":{},"prev":"{}","phase":"{phase}",{op_id}"time":"{}{nanos:03}Z","mono_ns":{},"body":{body}}}"#,
            self.source,
            self.epoch,
            self.seq,
            if self.seq == 0 { "0".repeat(64) } else { hex(&self.prev) },
            at.micros(),
            // The host sleeps between records: its monotonic clock does not count that.
            self.seq * 1_000_000 + nanos,
        ));
        self.prev = hash(&[&[0], &out.as_bytes()[start..]]);
        self.seq += 1;
        grow(&mut self.tree, self.prev);
        let closed = phase == "epoch_close";
        if closed {
            self.epoch += 1;
            self.last_records = self.seq;
            self.seq = 0;
            self.tree.clear();
            self.key = signing_key(&mut self.random);
        }
        closed
    }

    /// Phase, operation and body of the next record.
    fn next(&mut self) -> (&'static str, Option<String>, String) {
        if self.seq == 0 {
            return ("epoch_open", None, self.opening());
        }
        if let Some((id, body, output_bytes)) = self.pending.take() {
            return ("outcome", Some(id), self.outcome(&body, output_bytes));
        }
        let sleeps = self.end.take();
        if sleeps == Some(true) {
            return ("heartbeat", None, self.heartbeat());
        }
        if sleeps.is_some() || self.seq + 1 >= EPOCH_RECORDS {
            return ("epoch_close", None, format!(r#"{{"records":{},"reason":"shutdown"}}"#, self.seq));
        }
        // An operation takes two records, so every second number may be passed over.
        if self.seq % HEAD_RECORDS >= HEAD_RECORDS - 2 {
            return ("head", None, self.head());
        }
        if self.random.below(200) == 0 {
            return ("heartbeat", None, self.heartbeat());
        }
        let id = format!("op-{}", self.random.hex(24));
        let operation = *self.random.weighted(&OPERATIONS);
        let body = self.operation(operation);
        if self.random.percent(2) {
            let body = format!(
                r#"{body},"policy":{{"decision":"deny","ids":["key-use@12"]}},"reason":"caller may not {} with this key"}}"#,
                operation.0
            );
            return ("deny", Some(id), body);
        }
        let intent = format!(r#"{body},"policy":{{"decision":"allow","ids":["key-use@12"]}}}}"#);
        self.pending = Some((id.clone(), body, operation.4));
        ("intent", Some(id), intent)
    }

    fn heartbeat(&mut self) -> String {
        let unshipped = self.random.below(HEAD_RECORDS);
        format!(
            r#"{{"in_flight":0,"unshipped_records":{unshipped},"unshipped_bytes":{},"spool_free_bytes":4294967296}}"#,
            unshipped * 900
        )
    }

    /// What the records of one operation share, without the closing brace.
    fn operation(&mut self, (operation, mechanism, algorithm, usage, _): Operation) -> String {
        let r = &mut self.random;
        let (key, client) = (r.zipf(300), r.zipf(80));
        let (input, input_bytes) = (r.hex(64), 16 + r.below(4000));
        format!(
            r#"{{"actor":{{"id":"spiffe://example.org/app/{client}","type":"service","service":"app-{client}","ip":"10.60.{}.{}"}},"operation":"{operation}","hsm":{},"key":{{"id":"{}","label":"app-key-{key}","version":"{}","algorithm":"{algorithm}","state":"active","usage":"{usage}","origin":"hsm","store":"partition-{}"}},"mechanism":"{mechanism}","input":{{"sha256":"{input}","len":{input_bytes}}}"#,
            client % 8,
            1 + client,
            self.hsm,
            uuid(mix(key ^ 0x4853_4D4B), mix(key)),
            1 + key % 3,
            self.number % 4,
        )
    }

    fn outcome(&mut self, body: &str, output_bytes: u64) -> String {
        let r = &mut self.random;
        let hsm_ns = 90_000 + r.below(900_000);
        let queue_ns = 5_000 + r.below(60_000);
        let policy_ns = 900 + r.below(9_000);
        let failed = r.percent(2);
        let output = if failed || output_bytes == 0 {
            String::new()
        } else {
            format!(r#","output":{{"sha256":"{}","len":{output_bytes}}}"#, r.hex(64))
        };
        format!(
            r#"{body}{output},"timings":{{"total_ns":{},"queue_ns":{queue_ns},"policy_ns":{policy_ns},"hsm_ns":{hsm_ns}}},"result":{{"rv":"{}"}}}}"#,
            queue_ns + policy_ns + hsm_ns + 2_000,
            if failed { "CKR_KEY_HANDLE_INVALID" } else { "CKR_OK" },
        )
    }

    /// Body of an epoch's first record.
    fn opening(&mut self) -> String {
        // The audit key of all sources of a load.
        let audit = signing_key(&mut Random::of(0xA0D17, 0));
        let public = self.key.verifying_key().to_bytes();
        let last = if self.epoch == 1 {
            String::new()
        } else {
            format!(
                r#","last":{{"epoch":{},"seq":{},"hash":"{}"}}"#,
                self.epoch - 1,
                self.last_records - 1,
                hex(&self.prev)
            )
        };
        format!(
            r#"{{"boot_nonce":"{}","hsm":{},"policy_set_sha256":"{}","software":{{"name":"keytrail-audit-sidecar","version":"0.1.0+3f2a"}},"epoch_key":{{"public_key":"{}","signature":"{}","audit_key_id":"audit-2026"}},"mode":"outcome-strict"{last}}}"#,
            self.random.hex(64),
            self.hsm,
            hex(&hash(&[b"policy set 12"])),
            hex(&public),
            hex(&audit.sign(&public).to_bytes()),
        )
    }

    /// A C2SP checkpoint of the records so far, signed by the epoch key.
    fn head(&self) -> String {
        let origin = format!("example.org/{}/{}", self.source, self.epoch);
        let public = self.key.verifying_key().to_bytes();
        let note = format!("{origin}\n{}\n{}\n", self.seq, BASE64.encode(root(&self.tree)));
        let id = &hash(&[origin.as_bytes(), b"\n\x01", &public])[..4];
        let signature = BASE64.encode([id, &self.key.sign(note.as_bytes()).to_bytes()].concat());
        let text = format!("{note}\n\u{2014} {origin} {signature}\n").replace('\n', "\\n");
        format!(r#"{{"checkpoint":"{text}"}}"#)
    }
}

fn signing_key(random: &mut Random) -> SigningKey {
    let mut secret = [0; 32];
    for part in secret.chunks_mut(8) {
        part.copy_from_slice(&random.bits().to_be_bytes());
    }
    SigningKey::from_bytes(&secret)
}

/// Adds a leaf to a log that is kept as its full subtrees.
fn grow(tree: &mut Vec<(u32, Hash)>, leaf: Hash) {
    let (mut height, mut node) = (0, leaf);
    while let Some((left_height, left)) = tree.last()
        && *left_height == height
    {
        node = hash(&[&[1], left, &node]);
        height += 1;
        tree.pop();
    }
    tree.push((height, node));
}

/// RFC 6962 root over the full subtrees.
fn root(tree: &[(u32, Hash)]) -> Hash {
    let mut nodes = tree.iter().rev().map(|(_, node)| *node);
    let last = nodes.next().unwrap_or_else(|| hash(&[]));
    nodes.fold(last, |right, left| hash(&[&[1], &left, &right]))
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut sha256 = Sha256::new();
    for part in parts {
        sha256.update(part);
    }
    sha256.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ed25519_dalek::{Signature, Verifier, VerifyingKey};
    use serde_json::Value;

    use super::*;

    /// RFC 6962 section 2.1, as it is written there.
    fn merkle_tree_hash(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash(&[]),
            [leaf] => *leaf,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                hash(&[&[1], &merkle_tree_hash(left), &merkle_tree_hash(right)])
            }
        }
    }

    fn bytes(hex: &Value) -> Vec<u8> {
        let text = hex.as_str().expect("hex");
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
    }

    #[test]
    fn chains_are_gapless_linked_and_signed() {
        for shuffle in [false, true] {
            let load = Load {
                seed: 3,
                format: super::super::Format::KeyOperation,
                events: 40_000,
                start_micros: 0,
                days: 3,
                shuffle,
                replay_percent: 0,
                late_percent: 0,
            };
            let mut chains = Chains::new(&load);
            let mut open: HashMap<String, (Vec<Hash>, Vec<u8>)> = HashMap::new();
            let (mut heads, mut closed) = (0, 0);
            for n in 0..load.events {
                let mut line = String::new();
                chains.write(&mut line, Moment(n as i64 * 5_000_000), u64::MAX);
                let record: Value = serde_json::from_str(&line).expect("JSON");
                let source = record["source"].as_str().expect("source").to_owned();
                let (leaves, key) = open.entry(source.clone()).or_default();
                let seq = record["seq"].as_u64().expect("seq");
                if seq == 0 {
                    if let Some(last) = record["body"].get("last") {
                        assert_eq!(bytes(&last["hash"]), leaves[leaves.len() - 1]);
                        assert_eq!(last["seq"], leaves.len() as u64 - 1);
                    }
                    leaves.clear();
                    *key = bytes(&record["body"]["epoch_key"]["public_key"]);
                } else {
                    assert_eq!(bytes(&record["prev"]), leaves[leaves.len() - 1]);
                }
                assert_eq!(seq, leaves.len() as u64);
                if record["phase"] == "head" {
                    heads += 1;
                    let note = record["body"]["checkpoint"].as_str().expect("note");
                    let (text, signature) = note.split_once("\n\n").expect("two parts");
                    let lines: Vec<&str> = text.lines().collect();
                    assert_eq!(lines[1], seq.to_string());
                    assert_eq!(lines[2], BASE64.encode(merkle_tree_hash(leaves)));
                    let signed =
                        BASE64.decode(signature.trim().rsplit(' ').next().expect("name")).expect("base64");
                    let key =
                        VerifyingKey::from_bytes(key.as_slice().try_into().expect("32 bytes")).expect("key");
                    let signature = Signature::from_slice(&signed[4..]).expect("64 bytes");
                    key.verify(format!("{text}\n").as_bytes(), &signature).expect("signature");
                }
                closed += u64::from(record["phase"] == "epoch_close");
                leaves.push(hash(&[&[0], line.as_bytes()]));
            }
            assert!(heads > 100, "{heads} heads");
            assert!(shuffle || closed > 4, "{closed} epochs closed");
        }
    }
}
