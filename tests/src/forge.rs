//! An attacker who writes to the data folder and may hold a signing key: makes a log of any entries.
//!
//! What it is: tiles, roots and signed notes from code of its own (RFC 6962, C2SP tlog-tiles and
//! signed-note), so that a mistake of the product does not hide itself. What it is not: it knows nothing of
//! what entries say, but for [`rows`].
//! In: a trail. Out: the same trail with another log.

pub mod rows;

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};

use crate::trail::{Trail, hex};

type Node = [u8; 32];

/// Who rewrites a trail's history.
pub struct Forger {
    /// The folder of its keys.
    keys: PathBuf,
    /// The data folder.
    pub data: PathBuf,
    name: String,
    key: SigningKey,
    /// The manifests that the next [`seal`](Self::seal) makes the log of.
    pub entries: Vec<Vec<u8>>,
}

impl Forger {
    /// Holds the trail's own signing key.
    #[must_use]
    pub fn with_its_key(trail: &Trail) -> Self {
        let folder =
            fs::read_dir(trail.keys()).expect("a key folder").next().expect("a trail's").expect("read");
        let line = fs::read_to_string(folder.path().join("log-0.key")).expect("the signing key");
        // PRIVATE+KEY+<name>+<key id>+<base64(0x01 || seed)>; base64 may have a `+`.
        let mut parts = line.trim().splitn(5, '+').skip(2);
        let name = parts.next().expect("a name").to_owned();
        let seed = STANDARD.decode(parts.nth(1).expect("a key")).expect("base64");
        Self::new(trail, name, SigningKey::from_bytes(&seed[1..].try_into().expect("32 bytes")))
    }

    /// Has no key of the trail, and signs with one of the same name.
    #[must_use]
    pub fn with_another_key(trail: &Trail) -> Self {
        Self { key: SigningKey::from_bytes(&[7; 32]), ..Self::with_its_key(trail) }
    }

    fn new(trail: &Trail, name: String, key: SigningKey) -> Self {
        let entries = entries(&trail.data().join("log"));
        Self { keys: trail.keys(), data: trail.data(), name, key, entries }
    }

    /// The verifier key, as a key file.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        let mut public = vec![1];
        public.extend(self.key.verifying_key().to_bytes());
        format!("{}+{}+{}\n", self.name, hex(&self.key_id()), STANDARD.encode(public))
    }

    /// Makes the log of [`entries`](Self::entries), signs its head, and puts the key into the folder.
    pub fn seal(&self) {
        let log = self.data.join("log");
        fs::remove_dir_all(&log).expect("removed");
        let write = |path: &str, bytes: &[u8]| {
            let path = log.join(path);
            fs::create_dir_all(path.parent().expect("has a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        };
        let leaves: Vec<Node> = self.entries.iter().map(|e| hash(&[&[0], e])).collect();
        for (index, entries) in self.entries.chunks(256).enumerate() {
            let bundle = entries.iter().flat_map(|e| {
                let len = u16::try_from(e.len()).expect("an entry has at most 65,535 bytes");
                len.to_be_bytes().into_iter().chain(e.iter().copied())
            });
            write(&tile("entries", index, entries.len()), &bundle.collect::<Vec<u8>>());
        }
        let (mut level, mut row) = (0, leaves.clone());
        while !row.is_empty() {
            for (index, nodes) in row.chunks(256).enumerate() {
                write(&tile(&level.to_string(), index, nodes.len()), &nodes.concat());
            }
            (level, row) = (level + 1, row.chunks_exact(256).map(root).collect());
        }
        write("checkpoint", self.sign(leaves.len(), &root(&leaves)).as_bytes());
        fs::write(self.data.join("keys/log.keys"), self.verifier_key()).expect("written");
    }

    /// As [`seal`](Self::seal), with all that a writer remembers of the log: the next one goes on with it.
    pub fn seal_for_good(&self) {
        self.seal();
        let head = fs::read(self.data.join("log/checkpoint")).expect("a checkpoint");
        fs::write(self.data.join("log-staging/lock"), &head).expect("written");
        for trail in fs::read_dir(&self.keys).expect("a key folder") {
            fs::write(trail.expect("a trail's").path().join("head"), &head).expect("written");
        }
    }

    /// A signed checkpoint.
    fn sign(&self, size: usize, root: &Node) -> String {
        let text = format!("{}\n{size}\n{}\n", self.name, STANDARD.encode(root));
        let mut signature = self.key_id().to_vec();
        signature.extend(self.key.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
    }

    fn key_id(&self) -> [u8; 4] {
        let public = self.key.verifying_key().to_bytes();
        let [a, b, c, d, ..] = hash(&[self.name.as_bytes(), b"\n\x01", &public]);
        [a, b, c, d]
    }
}

/// The entries of a log whose files are whole, by its checkpoint's size.
#[must_use]
pub fn entries(log: &Path) -> Vec<Vec<u8>> {
    let checkpoint = fs::read_to_string(log.join("checkpoint")).expect("a checkpoint");
    let size: usize = checkpoint.lines().nth(1).and_then(|l| l.parse().ok()).expect("a size");
    let mut entries = Vec::new();
    while entries.len() < size {
        let path = log.join(tile("entries", entries.len() / 256, (size - entries.len()).min(256)));
        let bundle = fs::read(path).expect("a bundle");
        let mut rest = &bundle[..];
        while let Some((len, after)) = rest.split_first_chunk::<2>() {
            let (entry, after) = after.split_at(u16::from_be_bytes(*len).into());
            entries.push(entry.to_vec());
            rest = after;
        }
    }
    entries
}

/// Path of a tile; logs of tests have less than 1,000 of them.
fn tile(level: &str, index: usize, width: usize) -> String {
    let partial = if width < 256 { format!(".p/{width}") } else { String::new() };
    format!("tile/{level}/{index:03}{partial}")
}

fn hash(parts: &[&[u8]]) -> Node {
    let mut h = Sha256::new();
    for part in parts {
        h.update(part);
    }
    h.finalize().into()
}

/// RFC 6962 section 2.1, over leaf hashes.
fn root(leaves: &[Node]) -> Node {
    match leaves {
        [] => hash(&[]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            hash(&[&[1], &root(left), &root(right)])
        }
    }
}
