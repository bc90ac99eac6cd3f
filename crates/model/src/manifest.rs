//! Manifests: the entries of the Merkle log. One says what one archive object holds (INTEGRITY section 4).

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::merkle::{RootBuilder, leaf_hash};
use crate::table::{MAX_TABLES, TableRef};

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
    /// An archive object with the rows of others, which it replaces.
    Compact,
    /// As `Compact`, with columns that a newer normalizer derived.
    Renormalize,
    /// As `Compact`, without the original bytes of some rows.
    Withhold,
    /// Archive objects whose retention ended.
    Expire,
}

impl ManifestKind {
    /// As entries spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Inputs => "inputs",
            Self::Compact => "compact",
            Self::Renormalize => "renormalize",
            Self::Withhold => "withhold",
            Self::Expire => "expire",
        }
    }

    /// Whether it names an archive object.
    pub const fn has_object(self) -> bool {
        !matches!(self, Self::Inputs | Self::Expire)
    }

    /// Whether it retires archive objects.
    pub const fn retires(self) -> bool {
        !matches!(self, Self::Add | Self::Inputs)
    }
}

/// Objects that one manifest retires at most: their leaf indices have to fit into an entry.
pub const MAX_REPLACED: usize = 4_096;

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
    /// Tables that the rows were enriched with, ascending; of a rewrite those of all that it replaces. At most
    /// [`MAX_TABLES`].
    pub tables: Vec<TableRef>,
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
    /// The archive object; none for [`ManifestKind::Inputs`] and [`ManifestKind::Expire`].
    pub object: Option<ObjectRef>,
    /// Leaf indices of the manifests whose objects this one retires, ascending; at most [`MAX_REPLACED`].
    pub replaces: Vec<u64>,
    /// The object's rows.
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
        let kind = m.kind.name();
        if (m.object.is_some(), m.rows.is_some()) != (m.kind.has_object(), m.kind.has_object()) {
            let names = if m.kind.has_object() { "names an object and its rows" } else { "names no object" };
            return Err(format!("a manifest of the kind `{kind}` {names}"));
        }
        if m.replaces.is_empty() == m.kind.retires() {
            let what = if m.kind.retires() { "others" } else { "nothing" };
            return Err(format!("a manifest of the kind `{kind}` replaces {what}"));
        }
        if m.replaces.len() > MAX_REPLACED || !m.replaces.is_sorted_by(|a, b| a < b) {
            return Err(format!("expected at most {MAX_REPLACED} ascending leaf indices in `replaces`"));
        }
        let tables = m.rows.as_ref().map_or(&[][..], |rows| &rows.tables);
        if tables.len() > MAX_TABLES || !tables.is_sorted_by(|a, b| a < b) {
            return Err(format!("expected at most {MAX_TABLES} ascending tables in `rows`"));
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
    /// What somebody decided, and why; of rewrites that need a reason.
    pub decision: Option<Decision>,
    /// Rows of replaced objects that the new one leaves out, by ascending row of the new one.
    pub dropped: Vec<DroppedRow>,
    /// Input objects that are wholly taken in with this manifest's batch.
    pub inputs: Vec<InputItem>,
    /// Quarantine entries of the batch.
    pub quarantine: Vec<QuarantineItem>,
    /// Where the rows of a rewritten object come from, run after run in the order of its rows.
    pub rows: Vec<RowRun>,
    /// Runs of numbered records, contiguous in seq; refused ones count.
    pub runs: Vec<RunItem>,
    /// Format of the detail object: 1.
    pub version: u32,
}

/// Rows of a rewritten object that are rows of one replaced object, in the same order without a hole.
/// Stands as `[input, first, count]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "[u32; 3]", into = "[u32; 3]")]
pub struct RowRun {
    /// The replaced object: its place in the manifest's `replaces`.
    pub input: u32,
    /// The first row's place in it.
    pub first: u32,
    /// Number of rows.
    pub count: u32,
}

impl From<[u32; 3]> for RowRun {
    fn from([input, first, count]: [u32; 3]) -> Self {
        Self { input, first, count }
    }
}

impl From<RowRun> for [u32; 3] {
    fn from(run: RowRun) -> Self {
        [run.input, run.first, run.count]
    }
}

/// A row of a replaced object that equals a row of the new one in uid, event hash and columns. Stands as
/// `[of, input, row]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "[u32; 3]", into = "[u32; 3]")]
pub struct DroppedRow {
    /// The row of the new object that it equals.
    pub of: u32,
    /// The replaced object: its place in the manifest's `replaces`.
    pub input: u32,
    /// Its place in that object.
    pub row: u32,
}

impl From<[u32; 3]> for DroppedRow {
    fn from([of, input, row]: [u32; 3]) -> Self {
        Self { of, input, row }
    }
}

impl From<DroppedRow> for [u32; 3] {
    fn from(dropped: DroppedRow) -> Self {
        [dropped.of, dropped.input, dropped.row]
    }
}

/// What somebody decided about archived events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Events and their archiving are of days before this one, `YYYY-MM-DD`; of [`ManifestKind::Expire`].
    pub before: Option<String>,
    /// Events of this dataset alone; of [`ManifestKind::Expire`]. Null is every dataset.
    pub dataset: Option<String>,
    /// Why, in words: of a withholding as it was given, of an expiry the rule, of a renormalization the
    /// normalizers before and after.
    pub reason: String,
    /// The events whose originals are withheld, ascending; of [`ManifestKind::Withhold`].
    pub uids: Vec<String>,
    /// Events without a usable time expire by the day of their archiving alone.
    pub undated: bool,
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
        let (count, root) = (items.size(), items.root());
        (bytes, DetailRef { count, key: format!("detail/{sha256}"), root, sha256 })
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

    /// The tree over every item of every list as canonical JSON, in the order of the lists' names.
    fn items(&self) -> RootBuilder {
        fn all<T: Serialize>(list: &[T], out: &mut RootBuilder) {
            list.iter().for_each(|i| out.push(leaf_hash(&serde_json::to_vec(i).unwrap_or_default())));
        }
        let mut out = RootBuilder::new();
        all(&self.copies, &mut out);
        all(self.decision.as_slice(), &mut out);
        all(&self.dropped, &mut out);
        all(&self.inputs, &mut out);
        all(&self.quarantine, &mut out);
        all(&self.rows, &mut out);
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
            replaces: Vec::new(),
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
            tables: vec![TableRef {
                kind: crate::TableKind::Keys,
                name: "n".into(),
                sha256: Hash::default(),
            }],
            time_max: None,
            time_min: None,
        });
        let d = Detail {
            copies: vec!["u".into()],
            decision: Some(Decision {
                before: Some("2024-01-01".into()),
                dataset: Some("d".into()),
                reason: "r".into(),
                uids: vec!["u".into()],
                undated: false,
            }),
            dropped: vec![DroppedRow { of: 3, input: 1, row: 2 }],
            inputs: vec![InputItem { bytes: 1, object: "o".into(), read: 1, sha256: Hash::default() }],
            quarantine: vec![QuarantineItem { key: "q".into(), sha256: Hash::default() }],
            rows: vec![RowRun { input: 0, first: 5, count: 7 }],
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
        assert_eq!(d.to_object().1.count, 7);
        let text = String::from_utf8(d.to_object().0).unwrap();
        assert!(text.contains(r#""dropped":[[3,1,2]]"#) && text.contains(r#""rows":[[0,5,7]]"#), "{text}");
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

    #[test]
    fn a_manifest_names_what_its_kind_says() {
        let refused = |m: &Manifest| Manifest::parse(&m.to_bytes()).unwrap_err();
        let expire = |replaces| Manifest { kind: ManifestKind::Expire, replaces, ..manifest() };
        assert_eq!(Manifest::parse(&expire(vec![0, 3]).to_bytes()), Ok(expire(vec![0, 3])));
        assert_eq!(refused(&expire(vec![])), "a manifest of the kind `expire` replaces others");
        let of_inputs = Manifest { replaces: vec![1], ..manifest() };
        assert_eq!(refused(&of_inputs), "a manifest of the kind `inputs` replaces nothing");
        for wrong in [vec![1, 1], vec![2, 1], (0..=MAX_REPLACED as u64).collect()] {
            assert!(refused(&expire(wrong)).contains("ascending leaf indices"));
        }
        let compact = Manifest { kind: ManifestKind::Compact, ..expire(vec![1]) };
        assert_eq!(refused(&compact), "a manifest of the kind `compact` names an object and its rows");
    }

    /// The largest manifest is an entry of the log.
    #[test]
    fn what_is_replaced_fits_into_an_entry() {
        let mut m = manifest();
        m.kind = ManifestKind::Expire;
        m.replaces = (0..MAX_REPLACED as u64).map(|n| 9_999_999_999 - n).rev().collect();
        assert!(m.to_bytes().len() + 4_096 < MAX_ENTRY_BYTES, "{}", m.to_bytes().len());
    }
}
