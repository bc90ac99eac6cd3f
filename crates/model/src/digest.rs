//! The digest of a row: its leaf under `rows_root` (INTEGRITY section 4).
//!
//! What it is: SHA-256 over which columns a row has, what they hold, its uid and its event's hash.
//! What rows have in common is hashed once for all of them: the names come first and fill whole blocks, and the
//! values of columns that repeat together, a facet, are taken by their hash. What it is not: a check of
//! anything. In: rows in the row encoding, or the parts of a row. Out: digests, which sealed manifests bind:
//! their definition is frozen.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::column::{COUNT, Column, ColumnSet};
use crate::hash::{Hash, Uid};
use crate::row::{Row, split_set, values};
use crate::sha256::{self, BLOCK, Midstate, Text};

/// What the digests of one definition begin with.
const DOMAIN: &str = "keytrail/row/1";

/// The facets: what was done and how it ended, and with what. Their hashes fill a block.
pub const FACETS: [ColumnSet; 2] = [
    ColumnSet::of(&[
        Column::CloudAccountId,
        Column::CloudProjectId,
        Column::CloudProvider,
        Column::CloudRegion,
        Column::CloudServiceName,
        Column::ErrorCode,
        Column::EventAction,
        Column::EventCategory,
        Column::EventCode,
        Column::EventDataset,
        Column::EventKind,
        Column::EventModule,
        Column::EventOutcome,
        Column::EventProvider,
        Column::EventType,
        Column::KeytrailActionClass,
        Column::KeytrailKeyAlgorithm,
        Column::KeytrailMechanism,
        Column::KeytrailNormalizer,
        Column::KeytrailPhase,
        Column::KeytrailPolicyDecision,
        Column::KeytrailReadOnly,
        Column::KeytrailSchema,
        Column::KeytrailScope,
        Column::KeytrailSource,
        Column::KeytrailUndeclared,
        Column::KeytrailVaultMountPoint,
        Column::KeytrailVaultMountType,
        Column::KeytrailVaultNamespace,
        Column::OrchestratorClusterName,
        Column::OrchestratorResourceType,
    ]),
    ColumnSet::of(&[
        Column::KeytrailActorAccountId,
        Column::KeytrailActorInvokedBy,
        Column::KeytrailActorMfa,
        Column::KeytrailActorPolicies,
        Column::KeytrailActorType,
        Column::KeytrailHsmFirmware,
        Column::KeytrailHsmId,
        Column::KeytrailHsmRebootCounter,
        Column::KeytrailHsmSerial,
        Column::KeytrailHsmSlot,
        Column::KeytrailLedgerEpoch,
        Column::KeytrailLedgerSource,
        Column::ServiceName,
        Column::TlsCipher,
        Column::TlsClientServerName,
        Column::TlsVersion,
        Column::UserAgentOriginal,
    ]),
];

/// The columns that digests are over.
const DERIVED: ColumnSet = {
    let (mut set, mut i) = (ColumnSet::of(&[]), 0);
    while i < COUNT {
        if Column::ALL[i].derived() {
            set.insert(Column::ALL[i]);
        }
        i += 1;
    }
    set
};

/// Bytes of the hashes of the facets.
pub const FACETS_BYTES: usize = FACETS.len() * 32;

/// The facet of each column, by [`Column::index`]; those of none have one beyond the last.
const FACET_OF: [usize; COUNT] = {
    let (mut facets, mut i) = ([FACETS.len(); COUNT], 0);
    while i < COUNT {
        let column = Column::ALL[i];
        if FACETS[0].contains(column) {
            facets[i] = 0;
        } else if FACETS[1].contains(column) {
            facets[i] = 1;
        }
        i += 1;
    }
    facets
};

/// The place of a column's facet in [`FACETS`].
pub const fn facet_of(column: Column) -> Option<usize> {
    let facet = FACET_OF[column.index()];
    if facet < FACETS.len() { Some(facet) } else { None }
}

/// A row's digest: SHA-256 of
///
/// 1. `keytrail/row/1`, the number of columns that are not null (u32) and their names by ascending name,
/// 2. zero bytes up to the next multiple of 64,
/// 3. the SHA-256 of each of the [`FACETS`], over the values of its columns by ascending name,
/// 4. the values of the other columns in the same order,
/// 5. the uid (20 bytes) and the event's hash (32 bytes).
///
/// Domain, names and values each stand behind their length (u32). Values are texts as UTF-8, integers and
/// times as i64, flags as one byte, lists as their items, each behind its length. All numbers are
/// big-endian. `encoded` holds the derived columns as [`crate::row::encode`] writes them.
pub fn of_row(uid: &Uid, hash: &Hash, encoded: &[u8]) -> Hash {
    let mut row = Gathered::default();
    row.gather(encoded);
    let facets = row.facets.each_ref().map(|values| Hash::of(values));
    row.put_facets(facets);
    sha256::hash(row_text(Names::default().hashed(row.set), &row.values, uid, hash))
}

/// What is hashed of a row.
pub type RowText<'a> = Text<'a, 52>;

/// What is hashed of a row: `values` are the hashes of its facets and the other values, each of them behind its
/// length.
pub fn row_text<'a>(names: Midstate, values: &'a [u8], uid: &Uid, hash: &Hash) -> RowText<'a> {
    let mut tail = [0; 52];
    tail[..20].copy_from_slice(&uid.0);
    tail[20..].copy_from_slice(&hash.0);
    Text { after: names, bytes: values, tail }
}

/// The digests of rows, faster than one by one: it remembers what rows have in common.
#[derive(Default)]
pub struct Digests {
    names: Names,
    facets: [Facets; FACETS.len()],
    two: [Gathered; 2],
}

impl Digests {
    /// The digests of these rows.
    pub fn of_rows(&mut self, rows: &[Row<'_>]) -> Vec<Hash> {
        let Self { names, facets, two: [first, second] } = self;
        let mut midstate = |gathered: &mut Gathered, row: &Row<'_>| {
            gathered.gather(row.columns);
            let [one, other] = facets;
            let hashes = [one.hash(&gathered.facets[0]), other.hash(&gathered.facets[1])];
            gathered.put_facets(hashes);
            names.hashed(gathered.set)
        };
        let mut digests = Vec::with_capacity(rows.len());
        for some in rows.chunks(2) {
            let after = midstate(first, &some[0]);
            let text = row_text(after, &first.values, &some[0].head.uid, &some[0].head.hash);
            match some {
                [_, other] => {
                    let after = midstate(second, other);
                    let beside = row_text(after, &second.values, &other.head.uid, &other.head.hash);
                    digests.extend(sha256::hash_two(text, beside));
                }
                _ => digests.push(sha256::hash(text)),
            }
        }
        digests
    }
}

/// A row's values where the digest wants them.
#[derive(Default)]
struct Gathered {
    set: ColumnSet,
    facets: [Vec<u8>; FACETS.len()],
    /// Room for the hashes of the facets, then the other values.
    values: Vec<u8>,
}

impl Gathered {
    fn gather(&mut self, encoded: &[u8]) {
        self.set = split_set(encoded).0.within(DERIVED);
        self.facets.iter_mut().for_each(Vec::clear);
        self.values.clear();
        self.values.resize(FACETS_BYTES, 0);
        for (column, value) in values(encoded).filter(|(column, _)| DERIVED.contains(*column)) {
            let out = self.facets.get_mut(FACET_OF[column.index()]).unwrap_or(&mut self.values);
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
    }

    fn put_facets(&mut self, hashes: [Hash; FACETS.len()]) {
        put_facets(&mut self.values, hashes);
    }
}

/// Puts the hashes of the facets before the other values, where there is room for them.
pub fn put_facets(values: &mut [u8], hashes: [Hash; FACETS.len()]) {
    for (room, hash) in values.as_chunks_mut().0.iter_mut().zip(hashes) {
        *room = hash.0;
    }
}

/// Values of a facet that are remembered.
const REMEMBERED: usize = 1 << 14;

/// Bytes of the largest that are.
const LARGE: usize = 4 << 10;

/// What the values of a facet hash to.
struct Facets(HashMap<Vec<u8>, Hash, ahash::RandomState>);

impl Default for Facets {
    /// Values come from logs: where they are kept is not to be foreseen.
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        let hasher = ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0);
        Self(HashMap::with_hasher(hasher))
    }
}

impl Facets {
    fn hash(&mut self, values: &[u8]) -> Hash {
        if let Some(known) = self.0.get(values) {
            return *known;
        }
        let hash = Hash::of(values);
        // Large ones are rare, and worth less than their memory.
        if values.len() <= LARGE {
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
            self.0.insert(values.to_vec(), hash);
        }
        hash
    }
}

/// What the names of sets of columns hash to. It grows with the sets that it was asked for: one a row at
/// most, so it lives as long as some rows are at hand.
#[derive(Default, Debug)]
pub struct Names {
    known: HashMap<ColumnSet, Midstate>,
    last: Option<(ColumnSet, Midstate)>,
}

impl Names {
    /// After what stands before the values of a row with these columns.
    pub fn hashed(&mut self, set: ColumnSet) -> Midstate {
        if let Some((last, names)) = self.last
            && last == set
        {
            return names;
        }
        let names = *self.known.entry(set).or_insert_with(|| {
            let mut text = Vec::with_capacity(16 * BLOCK);
            let mut put = |part: &[u8]| text.extend_from_slice(part);
            put(&(DOMAIN.len() as u32).to_be_bytes());
            put(DOMAIN.as_bytes());
            put(&set.len().to_be_bytes());
            for column in set.iter() {
                put(&(column.name().len() as u32).to_be_bytes());
                put(column.name().as_bytes());
            }
            text.resize(text.len().next_multiple_of(BLOCK), 0);
            Midstate::START.then(text.as_chunks().0)
        });
        self.last = Some((set, names));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Content, Provenance, RowBuffer};
    use crate::{AuditEvent, Kind};

    /// The definition, put together in one piece.
    fn by_the_book(row: &Row<'_>) -> Hash {
        let sized = |part: &[u8]| [&(part.len() as u32).to_be_bytes()[..], part].concat();
        let held: Vec<_> = values(row.columns).collect();
        let mut text = sized(b"keytrail/row/1");
        text.extend((held.len() as u32).to_be_bytes());
        held.iter().for_each(|(column, _)| text.extend(sized(column.name().as_bytes())));
        while text.len() % 64 != 0 {
            text.push(0);
        }
        let facets = FACETS.map(|facet| {
            let values = held.iter().filter(|(column, _)| facet.contains(*column));
            Hash::of(&values.flat_map(|(_, value)| sized(value)).collect::<Vec<_>>())
        });
        facets.iter().for_each(|facet| text.extend(facet.0));
        let others = held.iter().filter(|(column, _)| FACETS.iter().all(|facet| !facet.contains(*column)));
        others.for_each(|(_, value)| text.extend(sized(value)));
        text.extend(row.head.uid.0);
        text.extend(row.head.hash.0);
        Hash::of(&text)
    }

    /// Rows that have all sorts of columns.
    fn rows(n: usize) -> RowBuffer {
        let mut rows = RowBuffer::new();
        for i in 0..n {
            let mut e = AuditEvent::new("d", "m");
            for column in Column::ALL.into_iter().filter(|c| c.derived()) {
                match (i / 2 * 31 + column.index() * 7) % 5 {
                    0 => {}
                    1 | 2 if column.kind() == Kind::Text => e.text(column, "t".repeat(i % 90)),
                    _ if column.kind() == Kind::Int => e.int(column, i as i64),
                    _ if column.kind() == Kind::Bool => e.flag(column, i % 2 == 0),
                    _ if column.kind() == Kind::List => e.add(column, format!("item {i}")),
                    _ => {}
                }
            }
            let from = Provenance { input: 0, offset: 0 };
            rows.push(&e, i.to_string().as_bytes(), Content::AsIs, from);
        }
        rows
    }

    #[test]
    fn rows_together_have_the_digests_of_each_alone() {
        for n in [0, 1, 2, 41] {
            let rows = rows(n);
            let rows: Vec<_> = rows.rows().collect();
            let alone: Vec<_> = rows.iter().map(Row::digest).collect();
            let mut digests = Digests::default();
            assert_eq!(digests.of_rows(&rows), alone);
            assert_eq!(digests.of_rows(&rows), alone);
            assert_eq!(alone, rows.iter().map(by_the_book).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_column_is_of_one_facet_and_bound() {
        for column in Column::ALL {
            let facets: Vec<_> = (0..FACETS.len()).filter(|i| FACETS[*i].contains(column)).collect();
            assert_eq!(facets.first().copied(), facet_of(column), "{}", column.name());
            assert!(facets.len() <= usize::from(column.derived()), "{}", column.name());
        }
    }

    /// What a value says cannot be moved to another column, nor from one value to the next.
    #[test]
    fn digests_tell_columns_and_values_apart() {
        use Column::{ErrorMessage, EventAction, EventCode, RelatedIp, RelatedUser, TlsCipher, UserName};
        let texts = |values: &[(Column, &'static str)]| {
            let mut e = AuditEvent::new("d", "m");
            values.iter().for_each(|(column, value)| match column.kind() {
                Kind::List => e.add(*column, *value),
                _ => e.text(*column, *value),
            });
            let mut rows = RowBuffer::new();
            rows.push(&e, b"{}", Content::AsIs, Provenance { input: 0, offset: 0 });
            rows.row(0).digest()
        };
        let digests = [
            texts(&[]),
            texts(&[(EventAction, "ab")]),
            texts(&[(EventCode, "ab")]),
            texts(&[(EventAction, "a"), (EventCode, "b")]),
            texts(&[(EventAction, "b"), (EventCode, "a")]),
            texts(&[(TlsCipher, "ab")]),
            texts(&[(EventAction, "a"), (TlsCipher, "b")]),
            texts(&[(ErrorMessage, "ab")]),
            texts(&[(UserName, "ab")]),
            texts(&[(EventAction, "a"), (ErrorMessage, "b")]),
            texts(&[(RelatedIp, "ab")]),
            texts(&[(RelatedIp, "a"), (RelatedIp, "b")]),
            texts(&[(RelatedIp, "a"), (RelatedUser, "b")]),
            texts(&[(RelatedUser, "ab")]),
        ];
        for (i, a) in digests.iter().enumerate() {
            assert!(!digests[..i].contains(a), "{i}");
        }
    }
}
