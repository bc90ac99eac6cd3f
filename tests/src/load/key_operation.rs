//! Key-operation events v1 (INTEGRITY section 2): chains of several gateways in front of HSM partitions.
//!
//! Every chain is gapless and linked: `prev` is the RFC 6962 leaf hash of the record before. In ascending
//! load a gateway's epochs follow each other; in shuffled load each epoch is a gateway of its own whose
//! records spread over all days, so that any part of a file holds times of any day.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use super::random::{Random, mix, uuid};
use super::{DAY_MICROS, Load, Moment};

/// Records of an epoch.
const EPOCH: u64 = 4096;

/// Records that a replay can repeat.
const KEPT: usize = 512;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// All open chains of a load.
pub struct Chains {
    load: Load,
    open: Vec<Chain>,
    next_source: u64,
    random: Random,
    kept: VecDeque<String>,
}

#[derive(Clone)]
struct Chain {
    source: u64,
    epoch: u64,
    seq: u64,
    /// Leaf hash of the record before, of the last epoch's last record at an epoch's start.
    prev: [u8; 32],
    /// Last `seq` of the epoch before.
    last_seq: u64,
    /// The operation whose outcome comes next.
    pending: Option<Operation>,
    random: Random,
}

/// An operation that was announced.
#[derive(Clone)]
struct Operation {
    id: String,
    body: String,
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
        let random = Random::of(self.load.seed ^ 0xC4A1, source);
        Chain { source, epoch: 1, seq: 0, prev: [0; 32], last_seq: 0, pending: None, random }
    }

    /// Appends the next record of one of the chains.
    pub fn write(&mut self, out: &mut String, at: Moment) {
        let i = self.random.below(self.open.len() as u64) as usize;
        let at = if self.load.shuffle {
            let span = i64::from(self.load.days) * DAY_MICROS;
            let step = span / EPOCH as i64;
            let chain = &mut self.open[i];
            let jitter = chain.random.below(step.max(1) as u64) as i64;
            Moment(self.load.start_micros + step * chain.seq as i64 + jitter)
        } else {
            at
        };
        let start = out.len();
        let closed = self.open[i].write(out, at);
        if closed && self.load.shuffle {
            self.open[i] = self.start();
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

impl Chain {
    /// Appends the next record; true when it closed the epoch.
    fn write(&mut self, out: &mut String, at: Moment) -> bool {
        let start = out.len();
        let (phase, op_id, body) = self.next();
        let closed = phase == "epoch_close";
        let op_id = op_id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        let prev = if self.seq == 0 { "0".repeat(64) } else { hex(&self.prev) };
        out.push_str(&format!(
            r#"{{"v":1,"source":"hsm-gateway-{:04}/partition-{}","epoch":{},"seq":{},"prev":"{prev}","phase":"{phase}","op_id":{op_id},"time":"{}Z","mono_ns":{},"body":{body}}}"#,
            self.source,
            self.source % 4,
            self.epoch,
            self.seq,
            at.micros(),
            1_000_000_000 + self.seq * 7_000_000 + self.random.below(1_000_000),
        ));
        let mut leaf = Sha256::new();
        leaf.update([0]);
        leaf.update(&out.as_bytes()[start..]);
        self.prev = leaf.finalize().into();
        if closed {
            self.epoch += 1;
            self.last_seq = self.seq;
            self.seq = 0;
        } else {
            self.seq += 1;
        }
        closed
    }

    /// Phase, operation and body of the next record.
    fn next(&mut self) -> (&'static str, Option<String>, String) {
        if self.seq == 0 {
            return ("epoch_open", None, self.opening());
        }
        if let Some(Operation { id, body }) = self.pending.take() {
            let failed = self.random.percent(2);
            let result = if failed {
                r#"{"ok":false,"code":"CKR_KEY_HANDLE_INVALID"}"#
            } else {
                r#"{"ok":true,"code":"CKR_OK"}"#
            };
            let queue_us = 5 + self.random.below(60);
            let hsm_us = 90 + self.random.below(900);
            let body = format!(
                r#"{body},"timings":{{"queue_us":{queue_us},"hsm_us":{hsm_us}}},"result":{result}}}"#
            );
            return ("outcome", Some(id), body);
        }
        if self.seq + 1 >= EPOCH {
            return ("epoch_close", None, format!(r#"{{"reason":"shutdown","records":{}}}"#, self.seq));
        }
        if self.random.below(200) == 0 {
            return ("heartbeat", None, r#"{"in_flight":0}"#.to_owned());
        }
        let id = self.random.uuid();
        let denied = self.random.percent(2);
        let body = self.operation(denied);
        if denied {
            return ("deny", Some(id), format!("{body}}}"));
        }
        let intent = format!("{body}}}");
        self.pending = Some(Operation { id: id.clone(), body });
        ("intent", Some(id), intent)
    }

    /// Body of an epoch's first record: what the chain goes on from, and on what hardware.
    fn opening(&mut self) -> String {
        let last = if self.epoch == 1 {
            "null".to_owned()
        } else {
            format!(r#"{{"epoch":{},"seq":{},"hash":"{}"}}"#, self.epoch - 1, self.last_seq, hex(&self.prev))
        };
        format!(
            r#"{{"last_epoch":{last},"hsm":{},"reboot_counter":{},"policy_set":"{}","software":"hsm-service/0.4.2","durability":"outcome-strict","nonce":"{}"}}"#,
            self.hsm(),
            3 + self.epoch,
            self.random.hex(64),
            self.random.hex(32),
        )
    }

    fn hsm(&self) -> String {
        format!(
            r#"{{"id":"hsm-{:02}","serial":"{:016x}","firmware":"7.8.4","slot":{}}}"#,
            self.source % 8,
            mix(self.source % 8) >> 8,
            self.source % 4,
        )
    }

    /// Body of an operation as far as its intent, without the closing brace.
    fn operation(&mut self, denied: bool) -> String {
        const OPERATIONS: [(u32, (&str, &str, &str)); 8] = [
            (40, ("sign", "CKM_ECDSA_SHA256", "EC_P256")),
            (30, ("decrypt", "CKM_AES_GCM", "AES_256")),
            (20, ("encrypt", "CKM_AES_GCM", "AES_256")),
            (10, ("mac", "CKM_SHA256_HMAC", "HMAC_256")),
            (8, ("unwrap", "CKM_AES_KEY_WRAP_PAD", "AES_256")),
            (6, ("wrap", "CKM_AES_KEY_WRAP_PAD", "AES_256")),
            (3, ("derive", "CKM_ECDH1_DERIVE", "EC_P256")),
            (1, ("create", "CKM_AES_KEY_GEN", "AES_256")),
        ];
        let r = &mut self.random;
        let (operation, mechanism, algorithm) = *r.weighted(&OPERATIONS);
        let (key, client) = (r.zipf(300), r.zipf(80));
        let (input_sha256, input_bytes) = (r.hex(64), 16 + r.below(4000));
        let decision = if denied { "deny" } else { "allow" };
        format!(
            r#"{{"actor":{{"type":"workload","id":"spiffe://example.org/app/{client}","ip":"10.60.{}.{}"}},"key":{{"id":"{}","version":"{}","algorithm":"{algorithm}","label":"app-key-{key}"}},"operation":"{operation}","mechanism":"{mechanism}","input":{{"sha256":"{input_sha256}","bytes":{input_bytes}}},"policy":{{"decision":"{decision}","ids":["key-use-{}"]}},"hsm":{}"#,
            client % 8,
            1 + client,
            uuid(mix(key ^ 0x4853_4D4B), mix(key)),
            1 + key % 3,
            key % 12,
            self.hsm(),
        )
    }
}

fn hex(hash: &[u8; 32]) -> String {
    hash.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from(HEX[usize::from(d)])).collect()
}
