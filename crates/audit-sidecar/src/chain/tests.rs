use keytrail_ledger::Checkpoint;
use keytrail_model::key_operation::{EpochOpen, Head};
use keytrail_model::merkle::leaf_hash;
use serde_json::Value;

use super::*;

struct Fixed(i64, u64);

impl Clocks for Fixed {
    fn wall_ns(&self) -> i64 {
        self.0
    }

    fn mono_ns(&self) -> u64 {
        self.1
    }
}

const INTENT: &str = r#"{"actor":{"id":"svc-7","type":"service"},"operation":"create","policy":{"decision":"allow"},"hsm":{"id":"hsm-1"},"mechanism":"CKM_AES_KEY_GEN"}"#;

fn chain() -> Chain {
    let key = SigningKey::from_bytes(&[7; 32]);
    let clocks = Box::new(Fixed(1_795_000_000_123_456_789, 42));
    Chain::new("example.org", "gateway/p0", 3, key, clocks)
}

#[test]
fn records_are_linked_and_their_heads_signed() {
    let mut chain = chain();
    let mut records: Vec<Vec<u8>> = Vec::new();
    let mut receipts = Vec::new();
    let mut record = |make: &mut dyn FnMut(&mut Vec<u8>) -> Receipt| {
        let mut bytes = Vec::new();
        receipts.push(make(&mut bytes));
        records.push(bytes);
    };
    record(&mut |out| chain.own(Phase::Intent, Some("op/1"), INTENT, out));
    record(&mut |out| chain.foreign(b"{\"any\":\n\xff}", out));
    assert!(chain.has_news() && !chain.head_is_due());
    record(&mut |out| chain.head(out).unwrap());
    assert!(!chain.has_news());

    assert_eq!(
        String::from_utf8(records[0].clone()).unwrap(),
        format!(
            r#"{{"v":1,"source":"gateway/p0","epoch":3,"seq":0,"prev":"{}","phase":"intent","op_id":"op/1","time":"2026-11-18T11:06:40.123456789Z","mono_ns":42,"body":{INTENT}}}"#,
            "0".repeat(64)
        )
    );
    let foreign = format!(
        r#"{{"v":1,"source":"gateway/p0","epoch":3,"seq":1,"prev":"{}","phase":"foreign","time":"2026-11-18T11:06:40.123456789Z","mono_ns":42}}"#,
        leaf_hash(&records[0]).to_hex()
    );
    assert_eq!(records[1], [foreign.as_bytes(), b"\n{\"any\":\n\xff}"].concat());
    for (seq, (receipt, record)) in receipts.iter().zip(&records).enumerate() {
        assert_eq!((receipt.seq, receipt.leaf_hash), (seq as u64, leaf_hash(record)));
    }
    let head: Value = serde_json::from_slice(&records[2]).unwrap();
    assert_eq!(head["prev"], leaf_hash(&records[1]).to_hex());
    assert!(serde_json::from_str::<Head<'_>>(&head["body"].to_string()).is_ok());
    let key = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
    let key = VerifierKey::new("example.org/gateway/p0/3", key).unwrap();
    let note = head["body"]["checkpoint"].as_str().unwrap();
    let checkpoint = Checkpoint::open(note.as_bytes(), &[&key]).unwrap();
    let mut tree = RootBuilder::new();
    records[..2].iter().for_each(|r| tree.push(leaf_hash(r)));
    assert_eq!((checkpoint.size, checkpoint.root), (2, tree.root()));
}

#[test]
fn an_outcome_says_what_its_intent_said() {
    let mut chain = chain();
    let mut record = Vec::new();
    let intent = chain.own(Phase::Intent, Some("op-1"), INTENT, &mut record);
    assert_eq!(chain.open()["op-1"].receipt, intent);
    assert!(chain.reserved_bytes() > INTENT.len() as u64);
    let given = r#"{"result":{"rv":"CKR_OK"},"key":{"id":"new"},"timings":{"total_ns":9}}"#;
    let whole = completed(INTENT, &Given::parse(given).unwrap()).unwrap();
    assert_eq!(
        whole,
        r#"{"actor":{"id":"svc-7","type":"service"},"operation":"create","policy":{"decision":"allow"},"hsm":{"id":"hsm-1"},"key":{"id":"new"},"mechanism":"CKM_AES_KEY_GEN","result":{"rv":"CKR_OK"},"timings":{"total_ns":9}}"#
    );
    chain.own(Phase::Outcome, Some("op-1"), &whole, &mut record);
    assert_eq!((chain.open().len(), chain.reserved_bytes()), (0, 0));
}

#[test]
fn what_the_schema_does_not_define_is_refused_and_not_repeated() {
    let refused = |phase, body: &str| validate(phase, body).unwrap_err().to_string();
    let with = INTENT.replace("\"mechanism\"", "\"4111111111111111\":1,\"mechanism\"");
    let column = with.find("4111").unwrap() + 17;
    assert_eq!(
        refused(Phase::Intent, &with),
        format!("a field that the schema does not define, at line 1 column {column}")
    );
    assert!(refused(Phase::Deny, INTENT).contains("reason"), "{}", refused(Phase::Deny, INTENT));
    for given in [
        r#"{"result":{}}"#,
        r#"{"result":{"rv":"CKR_OK","unknown":"why"}}"#,
        r#"{"result":{"rv":"secret"}}"#,
        r#"{"result":{"rv":"CKR_OK"},"plaintext":"c2VjcmV0"}"#,
        r#"{}"#,
    ] {
        let refusal = Given::parse(given).and_then(|g| completed(INTENT, &g)).unwrap_err().to_string();
        assert!(!refusal.contains("secret") && !refusal.contains("plaintext"), "{refusal}");
    }
}

#[test]
fn a_record_is_one_line() {
    let spread = "{\n  \"a\" : \"x \\\" {\\n\" ,\t\"b\":[ 1, 2 ]\r\n}";
    assert_eq!(compact(spread), r#"{"a":"x \" {\n","b":[1,2]}"#);
}

#[test]
fn the_first_record_of_an_epoch_vouches_for_its_key() {
    struct Audit(SigningKey);
    impl keytrail_ports::Signer for Audit {
        fn name(&self) -> &str {
            "example.org/gateway/p0"
        }
        fn public_key(&self) -> [u8; 32] {
            self.0.verifying_key().to_bytes()
        }
        fn sign(&self, message: &[u8]) -> Result<[u8; 64], keytrail_ports::StoreError> {
            Ok(self.0.sign(message).to_bytes())
        }
    }
    let audit = Audit(SigningKey::from_bytes(&[9; 32]));
    let last = Receipt { source: "gateway/p0".to_owned(), epoch: 2, seq: 8, leaf_hash: Hash([1; 32]) };
    let opening = Opening {
        boot_nonce: [3; 32],
        hsm: r#"{"id":"hsm-1"}"#,
        policy_set_sha256: &Hash::of(b"").to_hex(),
        version: "0.1.0",
        mode: "strict",
        epoch_key: [5; 32],
        last: Some(&last),
        checkpoint: Some("example.org/log\n1\nAAAA\n\n— a b\n"),
    };
    let body = opening.body("gateway/p0", 3, &audit).unwrap();
    assert!(serde_json::from_str::<EpochOpen<'_>>(&body).is_ok(), "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let id = body["epoch_key"]["audit_key_id"].as_str().unwrap();
    assert!(id.starts_with("example.org/gateway/p0+") && id.len() == 31, "{id}");
    let message = format!("keytrail/epoch-key/1\ngateway/p0\n3\n{}\n", "05".repeat(32));
    let signature = body["epoch_key"]["signature"].as_str().unwrap();
    let expected: String =
        audit.0.sign(message.as_bytes()).to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(signature, expected);
}
