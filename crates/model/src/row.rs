//! A row of the archive as it travels from a normalizer to Parquet: columns and original bytes in one
//! arena, heads beside it. Rows are encoded once; sorting moves heads, spilling copies slices.

use std::borrow::Borrow;

use crate::column::{Column, ColumnSet, Kind};
use crate::digest;
use crate::event::{AuditEvent, Value};
use crate::hash::{Hash, Uid, identify};
use crate::json;
use crate::place::Day;
use crate::time::Timestamp;

/// What of a row is needed to place, sort, deduplicate and prove it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The partition's dataset.
    pub dataset: &'static str,
    /// The partition's day.
    pub day: Day,
    /// The event's own time; events without one sort last.
    pub time: Option<Timestamp>,
    /// Identity.
    pub uid: Uid,
    /// Index of the producer's key, see [`identify`].
    pub group: u64,
    /// SHA-256 of the original bytes.
    pub hash: Hash,
    /// Number of the input object, as the batch counts them.
    pub input: u32,
    /// Offset of the record in the inflated input.
    pub offset: u64,
    /// No producer key, and no record around it: identity is content and ordinal.
    pub keyless: bool,
    columns: (usize, usize),
    original: (usize, usize),
}

impl Head {
    /// The head of a row that was archived before, for [`RowBuffer::push_encoded`].
    pub fn archived(
        dataset: &'static str,
        day: Day,
        time: Option<Timestamp>,
        identity: (Uid, u64, Hash),
    ) -> Self {
        let (uid, group, hash) = identity;
        Self {
            dataset,
            day,
            time,
            uid,
            group,
            hash,
            input: 0,
            offset: 0,
            keyless: false,
            columns: (0, 0),
            original: (0, 0),
        }
    }

    /// Order inside the archive: partition, time, uid. Equal uids are neighbours: the same content
    /// has the same time.
    pub fn sort_key(&self) -> (&'static str, Day, bool, Option<i64>, Uid) {
        (self.dataset, self.day, self.time.is_none(), self.time.map(|t| t.0), self.uid)
    }
}

/// A row: its head, its columns and its original bytes.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Place and proof.
    pub head: &'a Head,
    /// Encoded columns, see [`columns`].
    pub columns: &'a [u8],
    /// `event_original`.
    pub original: &'a [u8],
}

/// Where a record was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provenance {
    /// Number of the input object in its batch.
    pub input: u32,
    /// Byte offset in the inflated object.
    pub offset: u64,
}

/// How a record's bytes make its content digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// JSON without insignificant whitespace, or no JSON at all: the digest of the bytes.
    AsIs,
    /// JSON with insignificant whitespace, which does not count.
    Spaced,
    /// The bytes are a part of the record, whose digest this is: it tells the record from all others.
    PartOf(Hash),
}

impl Row<'_> {
    /// The row's [digest](digest::of_row).
    pub fn digest(&self) -> Hash {
        digest::of_row(&self.head.uid, &self.head.hash, self.columns)
    }
}

/// Rows in memory.
#[derive(Clone, Default, Debug)]
pub struct RowBuffer {
    heads: Vec<Head>,
    arena: Vec<u8>,
}

impl RowBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for that many rows and bytes of columns and originals.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { heads: Vec::with_capacity(rows), arena: Vec::with_capacity(bytes) }
    }

    /// Encodes an event: hashes its bytes, gives it its identity and place, and appends it.
    pub fn push(&mut self, event: &AuditEvent<'_>, original: &[u8], content: Content, from: Provenance) {
        let hash = Hash::of(original);
        let is_part = matches!(content, Content::PartOf(_));
        let content = match content {
            Content::AsIs => hash,
            Content::Spaced => json::content_digest(original),
            Content::PartOf(record) => record,
        };
        let key = &event.identity.key;
        let (uid, group) = identify(event.dataset, &event.identity.scope, key, &content, 0);
        let start = self.arena.len();
        encode(&mut self.arena, event.values());
        let end = self.arena.len();
        self.arena.extend_from_slice(original);
        self.heads.push(Head {
            dataset: event.dataset,
            day: Day::of(event.time),
            time: event.time,
            uid,
            group,
            hash,
            input: from.input,
            offset: from.offset,
            keyless: key.is_empty() && !is_part,
            columns: (start, end),
            original: (end, self.arena.len()),
        });
    }

    /// Appends a row that was encoded before (`columns` as [`columns`] reads them).
    pub fn push_encoded(&mut self, head: &Head, columns: &[u8], original: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(columns);
        let end = self.arena.len();
        self.arena.extend_from_slice(original);
        self.heads.push(Head { columns: (start, end), original: (end, self.arena.len()), ..*head });
    }

    /// Appends all rows of another buffer.
    pub fn append(&mut self, other: &Self) {
        let shift = self.arena.len();
        self.arena.extend_from_slice(&other.arena);
        self.heads.extend(other.heads.iter().map(|h| Head {
            columns: (h.columns.0 + shift, h.columns.1 + shift),
            original: (h.original.0 + shift, h.original.1 + shift),
            ..*h
        }));
    }

    /// Gives a keyless row its ordinal among byte-identical records of its input object (the first is
    /// 0, as [`push`](Self::push) leaves it).
    pub fn renumber(&mut self, row: usize, ordinal: u64) {
        let original = self.row(row).original;
        // A line with a prefix is no JSON text: its content is its bytes.
        let content =
            if original.first() == Some(&b'{') { json::content_digest(original) } else { Hash::of(original) };
        let scope = text(self.row(row).columns, Column::KeytrailScope).unwrap_or_default();
        let (uid, group) = identify::<&str>(self.heads[row].dataset, scope, &[], &content, ordinal);
        let head = &mut self.heads[row];
        head.uid = uid;
        head.group = group;
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.heads.len() * size_of::<Head>()
    }

    /// The rows' heads.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// A row by its number.
    pub fn row(&self, i: usize) -> Row<'_> {
        let head = &self.heads[i];
        Row {
            head,
            columns: &self.arena[head.columns.0..head.columns.1],
            original: &self.arena[head.original.0..head.original.1],
        }
    }

    /// All rows, in the order of [`sort`](Self::sort) once sorted.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.heads.len()).map(|i| self.row(i))
    }

    /// Sorts by partition, time, uid, and among copies by where they were read.
    pub fn sort(&mut self) {
        self.heads.sort_unstable_by(|a, b| {
            a.sort_key().cmp(&b.sort_key()).then((a.input, a.offset).cmp(&(b.input, b.offset)))
        });
    }

    /// Empties the buffer, keeping its memory.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.arena.clear();
    }
}

/// One encoded value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoded<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Integer or microseconds.
    Int(i64),
    /// Flag.
    Bool(bool),
    /// Items, each behind its length.
    List(List<'a>),
}

/// An encoded list of texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct List<'a>(&'a [u8]);

impl<'a> Iterator for List<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (item, rest) = split_value(self.0)?;
        self.0 = rest;
        std::str::from_utf8(item).ok()
    }
}

/// Reads a row's encoded columns, by ascending name. Bytes that no encoder wrote end the iteration.
pub fn columns(bytes: &[u8]) -> impl Iterator<Item = (Column, Encoded<'_>)> {
    values(bytes).map_while(|(column, value)| {
        let value = match column.kind() {
            // The bytes of a derived column are UTF-8, whatever their type in Parquet.
            Kind::Text | Kind::Binary => Encoded::Text(std::str::from_utf8(value).ok()?),
            Kind::Int | Kind::Time => Encoded::Int(i64::from_be_bytes(value.try_into().ok()?)),
            Kind::Bool => Encoded::Bool(value == [1]),
            Kind::List => Encoded::List(List(value)),
        };
        Some((column, value))
    })
}

/// Reads a row's encoded columns as [`encode`] wrote their values: UTF-8, eight bytes big-endian of an
/// integer or a time, one byte of a flag, a list for [`items`].
pub fn values(bytes: &[u8]) -> impl Iterator<Item = (Column, &[u8])> {
    let (set, mut rest) = split_set(bytes);
    set.iter().map_while(move |column| {
        let (value, after) = split_value(rest)?;
        rest = after;
        Some((column, value))
    })
}

/// The items of an encoded list.
pub fn items(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (item, rest) = split_value(list)?;
        list = rest;
        Some(item)
    })
}

/// A text column of an encoded row, without a look into the values before it.
pub fn text(bytes: &[u8], wanted: Column) -> Option<&str> {
    let (set, mut rest) = split_set(bytes);
    if !set.contains(wanted) {
        return None;
    }
    for _ in 0..set.before(wanted).len() {
        (_, rest) = split_value(rest)?;
    }
    std::str::from_utf8(split_value(rest)?.0).ok()
}

/// The columns that a row has, and their values one behind the other.
pub(crate) fn split_set(encoded: &[u8]) -> (ColumnSet, &[u8]) {
    match encoded.split_first_chunk() {
        Some((set, values)) => (ColumnSet::from_bytes(*set), values),
        None => (ColumnSet::default(), &[]),
    }
}

/// What stands behind its length (u32, big-endian), and what comes after it.
fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

/// Appends an encoded row whose columns and values, each behind its length, are at hand.
pub fn join(out: &mut Vec<u8>, set: ColumnSet, values: &[u8]) {
    if !set.is_empty() {
        out.extend_from_slice(&set.to_bytes());
        out.extend_from_slice(values);
    }
}

/// Appends an encoded row: the set of its columns in 16 bytes, then their values, each behind its length
/// (u32, big-endian). Columns come by ascending name; those without a value are left out, and a row of no
/// column is no bytes.
pub fn encode<'a, V: Borrow<Value<'a>>>(out: &mut Vec<u8>, values: impl Iterator<Item = (Column, V)>) {
    let start = out.len();
    let mut set = ColumnSet::default();
    out.extend_from_slice(&set.to_bytes());
    let sized = |out: &mut Vec<u8>, value: &[u8]| {
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(value);
    };
    for (column, value) in values {
        match value.borrow() {
            Value::Null => continue,
            Value::Text(t) => sized(out, t.as_bytes()),
            Value::Int(n) => sized(out, &n.to_be_bytes()),
            Value::Bool(b) => sized(out, &[u8::from(*b)]),
            Value::Time(t) => sized(out, &t.0.to_be_bytes()),
            Value::List(items) => {
                let len: usize = items.iter().map(|item| 4 + item.len()).sum();
                out.extend_from_slice(&(len as u32).to_be_bytes());
                items.iter().for_each(|item| sized(out, item.as_bytes()));
            }
        }
        set.insert(column);
    }
    if set.is_empty() {
        out.truncate(start);
    } else {
        out[start..start + 16].copy_from_slice(&set.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> AuditEvent<'static> {
        let mut e = AuditEvent::new("aws.cloudtrail", "aws");
        e.at(Timestamp::parse("2023-07-10T11:42:20Z"));
        e.text(Column::EventAction, "Decrypt");
        e.int(Column::SourcePort, 443);
        e.flag(Column::KeytrailReadOnly, true);
        e.add(Column::RelatedIp, "10.0.0.1");
        e.add(Column::RelatedIp, "10.0.0.2");
        e.add(Column::RelatedIp, "10.0.0.1");
        e.text(Column::UserName, "");
        e
    }

    #[test]
    fn rows_read_back_as_they_were_encoded() {
        let mut b = RowBuffer::new();
        b.push(&event(), b"{}", Content::AsIs, Provenance { input: 3, offset: 9 });
        let row = b.row(0);
        assert_eq!(row.original, b"{}");
        assert_eq!(row.head.day.to_string(), "2023-07-10");
        let got: Vec<_> = columns(row.columns).collect();
        assert!(got.contains(&(Column::EventAction, Encoded::Text("Decrypt"))));
        assert!(got.contains(&(Column::SourcePort, Encoded::Int(443))));
        assert!(got.contains(&(Column::KeytrailReadOnly, Encoded::Bool(true))));
        assert!(!got.iter().any(|(c, _)| *c == Column::UserName));
        assert_eq!(text(row.columns, Column::EventAction), Some("Decrypt"));
        assert_eq!(text(row.columns, Column::UserName), None);
        let ips = got.iter().find_map(|(c, v)| match v {
            Encoded::List(l) if *c == Column::RelatedIp => Some(l.collect::<Vec<_>>()),
            _ => None,
        });
        assert_eq!(ips, Some(vec!["10.0.0.1", "10.0.0.2"]));
    }

    /// The row digest is a promise: sealed manifests hold it.
    #[test]
    fn digest_is_frozen() {
        let mut b = RowBuffer::new();
        b.push(&event(), b"{}", Content::AsIs, Provenance { input: 0, offset: 0 });
        assert_eq!(
            b.row(0).digest().to_hex(),
            "c42db227dce6e8287b696236ecfdb80dbe8bcb30c18fe687337a878bc89fc0d0"
        );
        assert_ne!(digest::of_row(&b.row(0).head.uid, &Hash::of(b"x"), b.row(0).columns), b.row(0).digest());
    }

    #[test]
    fn whitespace_is_no_part_of_identity() {
        let mut b = RowBuffer::new();
        let p = Provenance { input: 0, offset: 0 };
        b.push(&event(), b"{\"a\":1}", Content::AsIs, p);
        b.push(&event(), b"{ \"a\": 1 }", Content::Spaced, p);
        assert_eq!(b.row(0).head.uid, b.row(1).head.uid);
        assert_ne!(b.row(0).head.hash, b.row(1).head.hash);
    }

    #[test]
    fn copies_without_a_key_differ_by_their_ordinal() {
        let mut b = RowBuffer::new();
        let mut e = event();
        e.text(Column::KeytrailScope, "111122223333");
        e.identity.scope = "111122223333".into();
        for _ in 0..3 {
            b.push(&e, b"{ \"a\": 1 }", Content::Spaced, Provenance { input: 0, offset: 0 });
        }
        let first = b.row(0).head.uid;
        b.renumber(1, 1);
        b.renumber(2, 0);
        assert_ne!(b.row(1).head.uid, first);
        assert_eq!((b.row(2).head.uid, b.row(2).digest()), (first, b.row(0).digest()));
    }

    #[test]
    fn sorting_keeps_rows_whole() {
        let mut b = RowBuffer::new();
        for (i, time) in ["2023-07-11T00:00:00Z", "nonsense", "2023-07-10T00:00:00Z"].iter().enumerate() {
            let mut e = event();
            e.at(Timestamp::parse(time));
            b.push(&e, time.as_bytes(), Content::AsIs, Provenance { input: 0, offset: i as u64 });
        }
        b.sort();
        let order: Vec<_> = b.rows().map(|r| r.original.to_vec()).collect();
        assert_eq!(order, [&b"2023-07-10T00:00:00Z"[..], b"2023-07-11T00:00:00Z", b"nonsense"]);
    }
}
