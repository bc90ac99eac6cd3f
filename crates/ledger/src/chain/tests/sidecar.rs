//! Makes records as the sidecar does.

use ed25519_dalek::{Signer as _, SigningKey};
use keytrail_model::merkle::{RootBuilder, leaf_hash};
use keytrail_model::{Hash, Timestamp};

use super::super::epoch_key_message;
use crate::{Checkpoint, VerifierKey};

pub(super) const SOURCE: &str = "gateway/p0";

const START_NS: i64 = 1_795_000_000_000_000_000;

const SECOND: u64 = 1_000_000_000;

const OPERATION: &str = r#""actor":{"id":"svc-7","type":"service"},"operation":"sign","policy":{"decision":"allow"},"hsm":{"id":"hsm-1"}"#;

pub(super) fn audit_key(seed: u8) -> (SigningKey, VerifierKey) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let name = format!("example.org/{SOURCE}");
    let verifier = VerifierKey::new(&name, key.verifying_key().to_bytes()).unwrap();
    (key, verifier)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A sidecar that keeps all records of all of its epochs.
pub(super) struct Sidecar {
    pub(super) source: String,
    pub(super) audit: SigningKey,
    /// Signs heads; another one than vouched for, if it is changed.
    pub(super) key: SigningKey,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) prev: Hash,
    pub(super) tree: RootBuilder,
    pub(super) wall_ns: i64,
    pub(super) mono_ns: u64,
    pub(super) records: Vec<Vec<u8>>,
}

impl Sidecar {
    pub(super) fn new(source: &str, audit: u8) -> Self {
        Self {
            source: source.into(),
            audit: SigningKey::from_bytes(&[audit; 32]),
            key: SigningKey::from_bytes(&[1; 32]),
            epoch: 0,
            seq: 0,
            prev: Hash::default(),
            tree: RootBuilder::new(),
            wall_ns: START_NS,
            mono_ns: 0,
            records: Vec::new(),
        }
    }

    /// Time passes.
    pub(super) fn wait_ms(&mut self, ms: u64) {
        self.wall_ns += i64::try_from(ms).unwrap() * 1_000_000;
        self.mono_ns += ms * 1_000_000;
    }

    fn envelope(&self, phase: &str, op_id: Option<&str>) -> String {
        let op_id = op_id.map_or(String::new(), |id| format!(r#","op_id":"{id}""#));
        let time = Timestamp(self.wall_ns / 1_000).to_rfc3339();
        format!(
            r#"{{"v":1,"source":{},"epoch":{},"seq":{},"prev":"{}","phase":"{phase}"{op_id},"time":"{time}","mono_ns":{}"#,
            quoted(&self.source),
            self.epoch,
            self.seq,
            self.prev.to_hex(),
            self.mono_ns
        )
    }

    fn link(&mut self, record: Vec<u8>) -> u64 {
        self.prev = leaf_hash(&record);
        self.tree.push(self.prev);
        self.records.push(record);
        self.seq += 1;
        self.seq - 1
    }

    pub(super) fn own(&mut self, phase: &str, op_id: Option<&str>, body: &str) -> u64 {
        let record = format!(r#"{},"body":{body}}}"#, self.envelope(phase, op_id));
        self.link(record.into_bytes())
    }

    pub(super) fn foreign(&mut self, line: &[u8]) {
        let record = [self.envelope("foreign", None).as_bytes(), b"}\n", line].concat();
        self.link(record);
    }

    pub(super) fn open(&mut self, epoch: u64, last: Option<(u64, u64, Hash)>) {
        (self.epoch, self.seq, self.prev, self.mono_ns) = (epoch, 0, Hash::default(), 0);
        self.tree = RootBuilder::new();
        self.key = SigningKey::from_bytes(&Hash::of(&epoch.to_be_bytes()).0);
        let public = hex(self.key.verifying_key().as_bytes());
        let message = epoch_key_message(&self.source, epoch, &public);
        let signature = hex(&self.audit.sign(message.as_bytes()).to_bytes());
        let name = format!("example.org/{}", self.source);
        let verifier = VerifierKey::new(&name, self.audit.verifying_key().to_bytes()).unwrap();
        let mut body = format!(
            r#"{{"boot_nonce":"{}","hsm":{{"id":"hsm-1"}},"policy_set_sha256":"{}","software":{{"name":"audit-sidecar","version":"0.1.0"}},"epoch_key":{{"public_key":"{public}","signature":"{signature}","audit_key_id":"{name}+{}"}},"mode":"strict""#,
            "00".repeat(32),
            Hash::of(b"").to_hex(),
            hex(&verifier.id())
        );
        if let Some((epoch, seq, hash)) = last {
            body.push_str(&format!(r#","last":{{"epoch":{epoch},"seq":{seq},"hash":"{}"}}"#, hash.to_hex()));
        }
        if epoch > 1 {
            let note = format!("example.org/log\n{epoch}\nAAAA\n\n\u{2014} a b\n");
            body.push_str(&format!(r#","checkpoint":{}"#, quoted(&note)));
        }
        body.push('}');
        self.own("epoch_open", None, &body);
    }

    /// Opens an epoch that continues this one.
    pub(super) fn next_epoch(&mut self, epoch: u64) {
        let last = (self.epoch, self.seq - 1, self.prev);
        self.open(epoch, Some(last));
    }

    pub(super) fn intent(&mut self, op_id: &str) {
        self.own("intent", Some(op_id), &format!("{{{OPERATION}}}"));
    }

    pub(super) fn outcome(&mut self, op_id: &str) {
        self.own("outcome", Some(op_id), &format!(r#"{{{OPERATION},"result":{{"rv":"CKR_OK"}}}}"#));
    }

    pub(super) fn heartbeat(&mut self) {
        let body = r#"{"in_flight":0,"unshipped_records":0,"unshipped_bytes":0,"spool_free_bytes":9}"#;
        self.own("heartbeat", None, body);
    }

    pub(super) fn head(&mut self) -> u64 {
        let origin = format!("example.org/{}/{}", self.source, self.epoch);
        let c = Checkpoint { origin: origin.clone(), size: self.tree.size(), root: self.tree.root() };
        let verifier = VerifierKey::new(&origin, self.key.verifying_key().to_bytes()).unwrap();
        let note = c.to_note(&[(&verifier, self.key.sign(c.body().as_bytes()).to_bytes())]).to_bytes();
        let note = String::from_utf8(note).unwrap();
        self.own("head", None, &format!(r#"{{"checkpoint":{}}}"#, quoted(&note)))
    }

    pub(super) fn close(&mut self) {
        self.head();
        let body = format!(r#"{{"records":{},"reason":"the sidecar was told to stop"}}"#, self.seq);
        self.own("epoch_close", None, &body);
    }

    /// An operation of some milliseconds.
    pub(super) fn operation(&mut self, op_id: &str) {
        self.intent(op_id);
        self.wait_ms(3);
        self.outcome(op_id);
        self.wait_ms(20);
    }

    /// Epoch 1 (17 records) ends well, epoch 2 (8 records) with the machine, the start of epoch 3 fails,
    /// epoch 4 (16 records) goes on, with one operation in flight.
    pub(super) fn three_epochs() -> Vec<Vec<u8>> {
        Self::three_epochs_by(9)
    }

    pub(super) fn three_epochs_by(audit: u8) -> Vec<Vec<u8>> {
        let mut s = Self::new(SOURCE, audit);
        s.open(1, None);
        s.operation("a"); // 1, 2
        s.intent("b");
        s.intent("c");
        s.foreign(b"{\"any\":\n\xff}"); // 5
        s.wait_ms(700);
        s.head(); // 6
        s.outcome("c");
        s.own("deny", Some("d"), &format!(r#"{{{OPERATION},"reason":"no"}}"#).replace("allow", "deny"));
        s.outcome("b");
        s.wait_ms(1_000);
        s.head(); // 10
        s.wait_ms(58_000);
        s.heartbeat(); // 11
        s.wait_ms(200);
        s.head();
        s.operation("a"); // 13, 14: an id may come again
        s.close(); // 15, 16
        s.wait_ms(30_000);
        s.next_epoch(2);
        s.operation("e"); // 1, 2
        s.head(); // 3
        s.intent("f");
        s.operation("g"); // 5, 6
        s.intent("h"); // 7
        s.wait_ms(400_000);
        s.next_epoch(4);
        s.outcome("f");
        s.outcome("h"); // 2
        s.operation("i");
        s.wait_ms(900);
        s.head(); // 5
        for op in ["j", "k"] {
            s.operation(op); // 6 to 9
        }
        s.wait_ms(900);
        s.head(); // 10
        s.wait_ms(60_000);
        s.heartbeat();
        s.head(); // 12
        s.operation("l");
        s.head(); // 15
        s.intent("m"); // 16
        s.records
    }
}

/// Records as a busy sidecar makes them, two for an operation and heads when they are due.
pub(super) fn busy(records: u64) -> Sidecar {
    let mut s = Sidecar::new(SOURCE, 9);
    s.open(1, None);
    let (mut last_head, mut head_ns) = (0, 0);
    for op in 0.. {
        s.intent(&format!("op-{op}"));
        s.wait_ms(op % 7);
        s.outcome(&format!("op-{op}"));
        if s.seq >= last_head + 256 || s.mono_ns > head_ns + 5 * SECOND / 4 {
            (last_head, head_ns) = (s.head(), s.mono_ns);
        }
        if s.seq >= records {
            break;
        }
    }
    s.close();
    s
}
