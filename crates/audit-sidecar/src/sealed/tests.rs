use std::collections::BTreeMap;

use ed25519_dalek::{Signer as _, SigningKey};
use keytrail_ledger::tree::Edge;
use keytrail_ledger::{VerifierKey, append};
use keytrail_model::manifest::ManifestKind;

use super::*;

const SOURCE: &str = "gateway/p0";
const ORIGIN: &str = "example.org/log";

/// A data folder whose log a key signs.
struct Data {
    files: BTreeMap<String, Vec<u8>>,
    size: u64,
    root: Hash,
    key: SigningKey,
}

impl Data {
    fn new() -> Self {
        let root = Edge::new().root();
        Self { files: BTreeMap::new(), size: 0, root, key: SigningKey::from_bytes(&[1; 32]) }
    }

    fn keys(&self) -> LogKeys {
        LogKeys::of(VerifierKey::new(ORIGIN, self.key.verifying_key().to_bytes()).unwrap())
    }

    /// Seals a manifest that lists these runs.
    fn seal(&mut self, runs: Vec<RunItem>) {
        let (bytes, detail) = Detail { runs, version: 1, ..Detail::default() }.to_object();
        self.files.insert(detail.key.clone(), bytes);
        let manifest = Manifest {
            archived: 1,
            detail,
            kind: ManifestKind::Inputs,
            object: None,
            replaces: Vec::new(),
            rows: None,
            version: 1,
        };
        let entry = manifest.to_bytes();
        let mut read = |path: &str| Ok(self.files.get(&format!("log/{path}")).cloned());
        let grown = append(self.size, &self.root, &mut read, [entry.as_slice()]).unwrap();
        for object in grown.objects {
            self.files.insert(format!("log/{}", object.path), object.bytes);
        }
        (self.size, self.root) = (grown.size, grown.root);
        self.sign(&self.key.clone());
    }

    fn sign(&mut self, key: &SigningKey) {
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: self.size, root: self.root };
        let verifier = VerifierKey::new(ORIGIN, key.verifying_key().to_bytes()).unwrap();
        let signature = key.sign(checkpoint.body().as_bytes()).to_bytes();
        let note = checkpoint.to_note(&[(&verifier, signature)]).to_bytes();
        self.files.insert("log/checkpoint".to_owned(), note);
    }

    fn advance(&self, from: &Covered, keys: &LogKeys) -> Result<Covered, String> {
        let read = |key: &str| Ok(self.files.get(key).cloned());
        from.advance(SOURCE, keys, &read, &own)
    }
}

/// The own chain: record `n` of epoch 3 has the hash of its number, and so the next one's `prev` is.
fn own(epoch: u64, seq: u64) -> Option<(Hash, Hash)> {
    let prev = seq.checked_sub(1).map_or(Hash([0; 32]), hash);
    (epoch == 3 && seq < 100).then(|| (prev, hash(seq)))
}

fn hash(seq: u64) -> Hash {
    Hash::of(&seq.to_le_bytes())
}

fn run(first: i64, last: i64) -> RunItem {
    let (prev, _) = own(3, first as u64).unwrap();
    RunItem {
        dataset: DATASET.to_owned(),
        epoch: 3,
        first_prev: prev.to_hex(),
        first_seq: first,
        last_hash: hash(last as u64),
        last_seq: last,
        source: SOURCE.to_owned(),
    }
}

#[test]
fn sealed_runs_cover_what_they_name_together() {
    let mut data = Data::new();
    let keys = data.keys();
    assert_eq!(data.advance(&Covered::default(), &keys), Ok(Covered::default()));
    data.seal(vec![run(0, 9), run(20, 29)]);
    let first = data.advance(&Covered::default(), &keys).unwrap();
    assert!(first.has(3, 0, 9) && first.has(3, 22, 29));
    assert!(!first.has(3, 0, 10) && !first.has(3, 9, 20) && !first.has(2, 0, 1));
    assert_eq!(first.newest(), Some((3, 9)));
    for _ in 0..300 {
        data.seal(Vec::new());
    }
    data.seal(vec![run(10, 19)]);
    let second = data.advance(&first, &keys).unwrap();
    assert!(second.has(3, 0, 29));
    assert_eq!((second.newest(), second.size, second.newest_epoch), (Some((3, 29)), 302, 3));
    // What is kept between two starts is the same.
    let kept: Covered = serde_json::from_slice(&serde_json::to_vec(&second).unwrap()).unwrap();
    assert_eq!(kept, second);
    assert_eq!(data.advance(&Covered::default(), &keys).unwrap(), second);
}

#[test]
fn a_run_that_is_not_of_the_own_chain_frees_nothing() {
    let mut data = Data::new();
    let keys = data.keys();
    let wrong: [fn(&mut RunItem); 6] = [
        |r| r.last_hash = Hash([7; 32]),
        |r| r.first_prev = "0".repeat(64),
        |r| r.source = "gateway/p1".to_owned(),
        |r| r.epoch = 4,
        |r| r.last_seq = 200,
        |r| r.dataset = "vault.audit".to_owned(),
    ];
    for change in wrong {
        let mut item = run(5, 9);
        change(&mut item);
        data.seal(vec![item]);
    }
    let covered = data.advance(&Covered::default(), &keys).unwrap();
    assert_eq!((covered.size, covered.runs.len()), (6, 0));
    // Somebody wrote under a higher epoch: the next own one is above it.
    assert_eq!(covered.newest_epoch, 4);
}

#[test]
fn a_log_that_is_forged_rolled_back_or_forked_frees_nothing() {
    let mut data = Data::new();
    let keys = data.keys();
    data.seal(vec![run(0, 9)]);
    let mut older = Data { files: data.files.clone(), ..data };
    data = Data { files: older.files.clone(), size: older.size, root: older.root, key: older.key.clone() };
    data.seal(vec![run(10, 19)]);
    let seen = data.advance(&Covered::default(), &keys).unwrap();

    let rolled_back = older.advance(&seen, &keys).unwrap_err();
    assert_eq!(rolled_back, "the log was rolled back from 2 entries to 1");
    older.seal(vec![run(20, 29)]);
    older.seal(vec![run(30, 39)]);
    let forked = older.advance(&seen, &keys).unwrap_err();
    assert!(forked.contains("it was forked"), "{forked}");

    let good = data.files.clone();
    data.sign(&SigningKey::from_bytes(&[2; 32]));
    assert!(data.advance(&Covered::default(), &keys).is_err());
    data.files = good.clone();

    // Each file of the log and each detail object, changed by a byte or gone: an error, or the same as before.
    for (name, bytes) in &good {
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            data.files.insert(name.clone(), changed);
            if let Ok(covered) = data.advance(&Covered::default(), &keys) {
                assert_eq!(covered.runs, seen.runs, "{name} at {at}");
            }
        }
        data.files.remove(name);
        if let Ok(covered) = data.advance(&Covered::default(), &keys) {
            assert!(name == "log/checkpoint" || covered.runs == seen.runs, "{name}");
        }
        data.files.insert(name.clone(), bytes.clone());
    }
    // A manifest's detail object under its name, with other runs in it.
    let (forged, _) = Detail { runs: vec![run(0, 99)], version: 1, ..Detail::default() }.to_object();
    let detail = good.keys().find(|k| k.starts_with("detail/")).unwrap();
    data.files.insert(detail.clone(), forged);
    let refused = data.advance(&Covered::default(), &keys).unwrap_err();
    assert!(refused.contains("is not the object that entry"), "{refused}");
}
