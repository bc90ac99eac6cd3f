//! An attacker who writes to the data folder and may hold a signing key: changes archived rows, then
//! makes manifest, log and signature fit again.
//!
//! What it is: the worst that an operator of a trail can do. What it is not: tiles, roots and signed notes
//! come from code of its own (RFC 6962, C2SP tlog-tiles and signed-note), so that a mistake of the
//! product does not hide itself; only Parquet objects are written by the product's writer.
//! In: a trail. Out: the same trail with another history.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer, SigningKey};
use keytrail_archive::{ObjectReader, ObjectWriter, Projection, Selection};
use keytrail_model::event::{AuditEvent, Value};
use keytrail_model::row::{Content, Encoded, Head, Provenance, columns, digest, encode};
use keytrail_model::{Column, Day, Hash, Kind, Manifest, Partition, RowBuffer, Timestamp, Uid};
use sha2::{Digest, Sha256};

use crate::trail::{Trail, hex};

type Node = [u8; 32];

/// A row that can be changed at will.
pub struct ForgedRow {
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`; unless the original changes with it, a lie.
    pub hash: Hash,
    /// `event_original`.
    pub original: Vec<u8>,
    encoded: Vec<u8>,
}

impl ForgedRow {
    /// A derived column's value.
    #[must_use]
    pub fn get(&self, wanted: Column) -> Value<'_> {
        columns(&self.encoded).find(|(column, _)| *column == wanted).map_or(Value::Null, |(_, v)| decoded(v))
    }

    /// Gives a derived column another value; null takes it away.
    pub fn set(&mut self, wanted: Column, value: &Value<'_>) {
        let mut encoded = Vec::new();
        for column in Column::ALL {
            let old = columns(&self.encoded).find(|(c, _)| *c == column).map(|(_, v)| v);
            match (column == wanted, value, old) {
                (true, Value::Null, _) | (false, _, None) => {}
                (true, value, _) => encode(&mut encoded, column, value),
                (false, _, Some(old)) => encode(&mut encoded, column, &decoded(old)),
            }
        }
        self.encoded = encoded;
    }

    /// Other original bytes, with the hash that they have.
    pub fn replace_original(&mut self, original: Vec<u8>) {
        self.hash = Hash::of(&original);
        self.original = original;
    }
}

fn decoded(value: Encoded<'_>) -> Value<'_> {
    match value {
        Encoded::Text(t) => Value::Text(t.into()),
        Encoded::Int(n) => Value::Int(n),
        Encoded::Bool(b) => Value::Bool(b),
        Encoded::List(items) => Value::List(items.map(Into::into).collect()),
    }
}

/// Who rewrites a trail's history.
pub struct Forger {
    data: PathBuf,
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
        Self { data: trail.data(), name, key, entries }
    }

    /// The verifier key, as a key file.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        let mut public = vec![1];
        public.extend(self.key.verifying_key().to_bytes());
        format!("{}+{}+{}\n", self.name, hex(&self.key_id()), STANDARD.encode(public))
    }

    /// Manifest number `leaf`.
    #[must_use]
    pub fn manifest(&self, leaf: usize) -> Manifest {
        Manifest::parse(&self.entries[leaf]).expect("a manifest")
    }

    /// The first manifest that names an object of a dataset.
    #[must_use]
    pub fn leaf_of(&self, dataset: &str) -> usize {
        let is = |leaf: &usize| self.manifest(*leaf).rows.is_some_and(|r| r.dataset == dataset);
        (0..self.entries.len()).find(is).expect("an object of the dataset")
    }

    /// Writes the object of a manifest again, each row as `change` leaves it (`false` drops it), and the
    /// manifest that fits: roots, size, hash, name.
    pub fn rewrite(&mut self, leaf: usize, change: &mut dyn FnMut(usize, &mut ForgedRow) -> bool) {
        let mut manifest = self.manifest(leaf);
        let (object, rows) = (manifest.object.expect("an object"), manifest.rows.expect("rows"));
        let path = self.data.join(&object.key);
        let reader = ObjectReader::open(Arc::new(fs::read(&path).expect("the object"))).expect("opens");
        let dataset: &'static str = rows.dataset.leak();
        let mut buffer = RowBuffer::new();
        for batch in reader.batches(&Projection::All, Selection::All) {
            for row in batch.expect("reads").rows() {
                let mut forged = ForgedRow {
                    uid: row.uid,
                    hash: row.hash.expect("a hash"),
                    original: row.original.expect("an original").to_vec(),
                    encoded: row.columns.to_vec(),
                };
                if change(row.number as usize, &mut forged) {
                    let mut head = head(dataset, &forged);
                    (head.uid, head.hash) = (forged.uid, forged.hash);
                    head.group = row.group.unwrap_or_default();
                    head.digest = digest(&forged.uid, &forged.hash, &forged.encoded);
                    buffer.push_encoded(&head, &forged.encoded, &forged.original);
                }
            }
        }
        buffer.sort();
        let partition = Partition { dataset: dataset.into(), day: Day::parse(&rows.day).expect("a day") };
        let mut writer = ObjectWriter::new(partition, Vec::new(), 1).expect("starts");
        let all: Vec<_> = buffer.rows().collect();
        writer.append(&all, Timestamp(manifest.archived), &["forged".into()]).expect("writes");
        let done = writer.finish().expect("ends");
        fs::remove_file(&path).expect("removed");
        fs::write(self.data.join(&done.object.key), &done.out).expect("written");
        (manifest.object, manifest.rows) = (Some(done.object), Some(done.rows));
        self.entries[leaf] = manifest.to_bytes();
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

/// A head with the place that the row's columns say; the caller sets what follows from content.
fn head(dataset: &'static str, row: &ForgedRow) -> Head {
    let time = columns(&row.encoded).find_map(|(column, value)| match value {
        Encoded::Int(n) if column == Column::Timestamp && column.kind() == Kind::Time => Some(Timestamp(n)),
        _ => None,
    });
    let mut event = AuditEvent::new(dataset, "forged");
    event.at(time);
    let mut buffer = RowBuffer::new();
    buffer.push(&event, b"", Content::AsIs, Provenance { input: 0, offset: 0 });
    *buffer.row(0).head
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
