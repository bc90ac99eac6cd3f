//! Manifests: the entries of the Merkle log. One says what one archive object holds (INTEGRITY section 4).

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::merkle::root_of;

/// An entry of the log takes at most this many bytes (C2SP tlog-tiles).
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// What a manifest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestKind {
    /// An archive object with new rows.
    Add,
    /// Inputs and quarantine entries that gave no new row.
    Inputs,
}

/// An archive object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Size in bytes.
    pub bytes: u64,
    /// Path in the data folder.
    pub key: String,
    /// SHA-256 of the object.
    pub sha256: Hash,
}

/// The rows of an archive object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsRef {
    /// Number of rows.
    pub count: u64,
    /// `event.dataset` of all rows.
    pub dataset: String,
    /// `YYYY-MM-DD` or `undated`.
    pub day: String,
    /// RFC 6962 root over the rows' event hashes (32 bytes each) in row order.
    pub events_root: Hash,
    /// Names and versions of the normalizers that made the rows, sorted.
    pub normalizers: Vec<String>,
    /// RFC 6962 root over the rows' digests (32 bytes each, [`crate::digest`]) in row order.
    pub rows_root: Hash,
    /// Version of the column set.
    pub schema: i64,
    /// Newest event time, microseconds since 1970 (null: no row has a time).
    pub time_max: Option<i64>,
    /// Oldest event time.
    pub time_min: Option<i64>,
}

/// Where a manifest's lists are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetailRef {
    /// Items in all lists.
    pub count: u64,
    /// `detail/<sha256>`.
    pub key: String,
    /// RFC 6962 root over the items as canonical JSON, list after list.
    pub root: Hash,
    /// SHA-256 of the detail object.
    pub sha256: Hash,
}

/// An entry of the log. Fields stand in ascending order of their names: its JSON is canonical as it
/// is written, and an entry that does not read back to the same bytes is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// When it was archived, microseconds since 1970 (the Clock's).
    pub archived: i64,
    /// The lists.
    pub detail: DetailRef,
    /// What it says.
    pub kind: ManifestKind,
    /// The archive object; none for [`ManifestKind::Inputs`].
    pub object: Option<ObjectRef>,
    /// Its rows; none for [`ManifestKind::Inputs`].
    pub rows: Option<RowsRef>,
    /// Format of the manifest: 1.
    pub version: u32,
}

impl Manifest {
    /// The log entry's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings, numbers and hashes always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a log entry; refuses any other spelling of the same value.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let m: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if m.version != 1 {
            return Err(format!("manifest version `{}` is not known, expected 1", m.version));
        }
        if m.to_bytes() != bytes {
            return Err("not in canonical form".into());
        }
        if (m.kind == ManifestKind::Add) != (m.object.is_some() && m.rows.is_some()) {
            return Err("an `add` manifest names an object and its rows, an `inputs` manifest neither".into());
        }
        Ok(m)
    }
}

/// The lists that a manifest stands for, kept beside the archive under their own hash.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// Copies of events that another object holds already; readers leave them out.
    pub copies: Vec<String>,
    /// Input objects that are wholly taken in with this manifest's batch.
    pub inputs: Vec<InputItem>,
    /// Quarantine entries of the batch.
    pub quarantine: Vec<QuarantineItem>,
    /// Leaf indices of the manifests whose objects this one replaces.
    pub replaces: Vec<u64>,
    /// Runs of numbered records, contiguous in seq; refused ones count.
    pub runs: Vec<RunItem>,
    /// Format of the detail object: 1.
    pub version: u32,
}

/// An input object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputItem {
    /// Size as it came, compressed or not.
    pub bytes: u64,
    /// Its name: a path or `-`.
    pub object: String,
    /// Records read.
    pub read: u64,
    /// SHA-256 of the bytes as they came.
    pub sha256: Hash,
}

/// A quarantine entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineItem {
    /// `quarantine/<sha256 of code and bytes>`.
    pub key: String,
    /// SHA-256 of the entry as stored.
    pub sha256: Hash,
}

/// Records of one source and epoch without a hole: chained ones of key operations, and those that an HSM of
/// CloudHSM numbered between two reboots.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunItem {
    /// `event.dataset`.
    pub dataset: String,
    /// Epoch, or the HSM's reboot counter.
    pub epoch: i64,
    /// `prev` of the first record; empty where records are not chained.
    pub first_prev: String,
    /// First seq.
    pub first_seq: i64,
    /// Leaf hash of the last record.
    pub last_hash: Hash,
    /// Last seq.
    pub last_seq: i64,
    /// Source of the chain, or the HSM's id.
    pub source: String,
}

impl Detail {
    /// The object's bytes and what a manifest says of it.
    pub fn to_object(&self) -> (Vec<u8>, DetailRef) {
        // Structs of strings and numbers always serialise.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let sha256 = Hash::of(&bytes);
        let items = self.items();
        let root = root_of(items.iter().map(Vec::as_slice));
        (bytes, DetailRef { count: items.len() as u64, key: format!("detail/{sha256}"), root, sha256 })
    }

    /// Reads a detail object; refuses any other spelling of the same value.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let d: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if d.version != 1 {
            return Err(format!("detail version `{}` is not known, expected 1", d.version));
        }
        if serde_json::to_vec(&d).unwrap_or_default() != bytes {
            return Err("not in canonical form".into());
        }
        Ok(d)
    }

    /// Every item of every list as canonical JSON, in the order of the lists' names.
    fn items(&self) -> Vec<Vec<u8>> {
        fn all<T: Serialize>(list: &[T], out: &mut Vec<Vec<u8>>) {
            out.extend(list.iter().map(|i| serde_json::to_vec(i).unwrap_or_default()));
        }
        let mut out = Vec::new();
        all(&self.copies, &mut out);
        all(&self.inputs, &mut out);
        all(&self.quarantine, &mut out);
        all(&self.replaces, &mut out);
        all(&self.runs, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            archived: 1,
            detail: Detail { version: 1, ..Detail::default() }.to_object().1,
            kind: ManifestKind::Inputs,
            object: None,
            rows: None,
            version: 1,
        }
    }

    /// Canonical JSON has its keys in ascending order; the structs are written so.
    #[test]
    fn fields_are_in_order() {
        let mut m = manifest();
        m.kind = ManifestKind::Add;
        m.object = Some(ObjectRef { bytes: 1, key: "k".into(), sha256: Hash::default() });
        m.rows = Some(RowsRef {
            count: 1,
            dataset: "d".into(),
            day: "undated".into(),
            events_root: Hash::default(),
            normalizers: vec!["n/1".into()],
            rows_root: Hash::default(),
            schema: 1,
            time_max: None,
            time_min: None,
        });
        let d = Detail {
            copies: vec!["u".into()],
            inputs: vec![InputItem { bytes: 1, object: "o".into(), read: 1, sha256: Hash::default() }],
            quarantine: vec![QuarantineItem { key: "q".into(), sha256: Hash::default() }],
            replaces: vec![1],
            runs: vec![RunItem {
                dataset: "d".into(),
                epoch: 1,
                first_prev: "p".into(),
                first_seq: 0,
                last_hash: Hash::default(),
                last_seq: 1,
                source: "s".into(),
            }],
            version: 1,
        };
        for bytes in [m.to_bytes(), d.to_object().0] {
            let sorted: std::collections::BTreeMap<String, serde_json::Value> =
                serde_json::from_slice(&bytes).unwrap();
            assert_eq!(
                String::from_utf8(serde_json::to_vec(&sorted).unwrap()).unwrap(),
                String::from_utf8(bytes).unwrap()
            );
        }
        assert_eq!(Manifest::parse(&m.to_bytes()).unwrap(), m);
        assert_eq!(Detail::parse(&d.to_object().0).unwrap(), d);
        assert_eq!(d.to_object().1.count, 5);
    }

    #[test]
    fn another_spelling_is_refused() {
        let m = manifest();
        let spaced = String::from_utf8(m.to_bytes()).unwrap().replace(",\"kind\"", ", \"kind\"");
        assert_eq!(Manifest::parse(spaced.as_bytes()).unwrap_err(), "not in canonical form");
        let extra =
            String::from_utf8(m.to_bytes()).unwrap().replace("{\"archived\"", "{\"aaa\":1,\"archived\"");
        assert!(Manifest::parse(extra.as_bytes()).unwrap_err().contains("unknown field `aaa`"));
        let add = String::from_utf8(m.to_bytes()).unwrap().replace("inputs\"", "add\"");
        assert!(Manifest::parse(add.as_bytes()).is_err());
    }
}
