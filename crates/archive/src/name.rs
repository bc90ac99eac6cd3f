//! Names of archive objects: they follow from what the rows are, not from the bytes of the file.

use keytrail_model::{Day, Hash, Partition, Timestamp};
use sha2::{Digest, Sha256};

/// What an object's name is made of (INTEGRITY section 4).
#[derive(Clone, Debug)]
pub struct NameParts<'a> {
    /// The manifest's kind, e.g. `add`.
    pub kind: &'a str,
    /// RFC 6962 root over the rows' event hashes.
    pub events_root: Hash,
    /// RFC 6962 root over the rows' digests: copies of a record without a producer's key have one event
    /// hash and differ in their uid alone.
    pub rows_root: Hash,
    /// Names and versions of the normalizers, sorted.
    pub normalizers: &'a [String],
    /// Version of the column set.
    pub schema: i64,
    /// Names and versions of the enrichment tables, sorted.
    pub tables: &'a [String],
    /// Leaf indices of the manifests whose objects this one replaces, ascending.
    pub replaces: &'a [u64],
}

/// `archive/dataset=<dataset>/day=<day>/<first time or undated>-<16 hex digits>.parquet`: the first
/// time as `20230710T114220Z`, the digits from SHA-256 over the parts, each behind its length (u64,
/// big-endian), lists behind their number of items.
pub fn object_key(partition: &Partition, first: Option<Timestamp>, parts: &NameParts<'_>) -> String {
    let mut h = Sha256::new();
    let put = |h: &mut Sha256, part: &[u8]| {
        h.update((part.len() as u64).to_be_bytes());
        h.update(part);
    };
    put(&mut h, b"keytrail/object/1");
    put(&mut h, parts.kind.as_bytes());
    put(&mut h, &parts.events_root.0);
    put(&mut h, &parts.rows_root.0);
    for list in [parts.normalizers, parts.tables] {
        h.update((list.len() as u64).to_be_bytes());
        for item in list {
            put(&mut h, item.as_bytes());
        }
    }
    put(&mut h, &parts.schema.to_be_bytes());
    h.update((parts.replaces.len() as u64).to_be_bytes());
    for leaf in parts.replaces {
        put(&mut h, &leaf.to_be_bytes());
    }
    let digest = Hash(h.finalize().into()).to_hex();
    format!("{}{}-{}.parquet", partition.prefix(), first_time(partition.day, first), &digest[..16])
}

/// A time before 2006 says nothing that can be trusted: its partition is `undated`, and so is its name.
fn first_time(day: Day, first: Option<Timestamp>) -> String {
    match (day, first) {
        (Day::Dated(_), Some(t)) => {
            let text = t.to_rfc3339();
            let second = text.split('.').next().unwrap_or_default();
            format!("{}Z", second.replace(['-', ':'], ""))
        }
        _ => "undated".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(normalizers: &[String]) -> NameParts<'_> {
        NameParts {
            kind: "add",
            events_root: Hash::of(b"root"),
            rows_root: Hash::of(b"rows"),
            normalizers,
            schema: 1,
            tables: &[],
            replaces: &[],
        }
    }

    /// Names are a promise: a replay must find the object that it made before.
    #[test]
    fn names_are_frozen() {
        let time = Timestamp::parse("2023-07-10T11:42:20.5Z");
        let partition = Partition { dataset: "aws.cloudtrail".into(), day: Day::of(time) };
        let n = ["cloudtrail/1".to_owned()];
        assert_eq!(
            object_key(&partition, time, &parts(&n)),
            "archive/dataset=aws.cloudtrail/day=2023-07-10/20230710T114220Z-4b4b5ab82e5625e9.parquet"
        );
        let undated = Partition { dataset: "vault.audit".into(), day: Day::Undated };
        let key = object_key(&undated, Timestamp::parse("0000-01-01T00:00:00Z"), &parts(&n));
        assert!(key.starts_with("archive/dataset=vault.audit/day=undated/undated-"), "{key}");
    }

    #[test]
    fn every_part_counts() {
        let partition = Partition { dataset: "d".into(), day: Day::Undated };
        let (a, b) = (["n/1".to_owned()], ["n/2".to_owned()]);
        let key = |p: &NameParts<'_>| object_key(&partition, None, p);
        let base = key(&parts(&a));
        assert_ne!(base, key(&parts(&b)));
        assert_ne!(base, key(&NameParts { kind: "compact", ..parts(&a) }));
        assert_ne!(base, key(&NameParts { schema: 2, ..parts(&a) }));
        assert_ne!(base, key(&NameParts { tables: &b, ..parts(&a) }));
        assert_ne!(base, key(&NameParts { replaces: &[0], ..parts(&a) }));
        assert_ne!(base, key(&NameParts { events_root: Hash::of(b"x"), ..parts(&a) }));
        assert_ne!(base, key(&NameParts { rows_root: Hash::of(b"x"), ..parts(&a) }));
        assert_ne!(
            key(&NameParts { normalizers: &[], tables: &a, ..parts(&a) }),
            key(&NameParts { normalizers: &a, tables: &[], ..parts(&a) })
        );
    }
}
