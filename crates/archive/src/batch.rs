//! A batch of an object's rows: what binds them, and their row encoding.
//!
//! Texts and bytes stay in the pages that they were read from: nothing is copied until a row is hashed or
//! encoded, and rows are encoded only for those who ask for [`Batch::rows`].

use std::sync::OnceLock;

use keytrail_model::row::join;
use keytrail_model::{Column, Hash, Timestamp, Uid};

use crate::digest::{Digests, written};
use crate::read::ReadError;
use crate::values::{Texts, Values};

/// A row as the archive has it. What was not projected is `None` or missing from `columns`.
#[derive(Clone, Copy, Debug)]
pub struct StoredRow<'a> {
    /// Place in the object, from 0.
    pub number: u64,
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`.
    pub hash: Option<Hash>,
    /// `timestamp`.
    pub time: Option<Timestamp>,
    /// `keytrail_group`.
    pub group: Option<u64>,
    /// `event_ingested`.
    pub ingested: Option<Timestamp>,
    /// `keytrail_input`.
    pub input: Option<&'a str>,
    /// The derived columns in the row encoding: what [`keytrail_model::digest::of_row`] takes.
    pub columns: &'a [u8],
    /// What tables said of it: the enrichment columns in the row encoding.
    pub enrichment: &'a [u8],
    /// `event_original`; `None` also where it is withheld.
    pub original: Option<&'a [u8]>,
}

/// What an object's roots and its partition bind of a row: enough to check it, and cheaper than the row.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// Place in the object, from 0.
    pub number: u64,
    /// `keytrail_uid`.
    pub uid: Uid,
    /// `event_hash`; zero bytes where it was not projected.
    pub hash: Hash,
    /// [`keytrail_model::digest::of_row`] of the row, over the derived columns that were projected.
    pub digest: Hash,
    /// `timestamp`.
    pub time: Option<Timestamp>,
    /// `event_dataset`.
    pub dataset: Option<&'a str>,
    /// `event_original`; `None` also where it is withheld.
    pub original: Option<&'a [u8]>,
}

/// Some rows of an object, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    first: u64,
    uids: Vec<Uid>,
    hashes: Option<Vec<Hash>>,
    groups: Option<Vec<Option<i64>>>,
    ingested: Option<Vec<Option<i64>>>,
    inputs: Option<Texts>,
    originals: Option<Texts>,
    /// The derived columns that have values, by ascending name.
    derived: Vec<(Column, Values)>,
    /// Likewise, the enrichment columns.
    enriched: Vec<(Column, Values)>,
    /// The derived columns, and the enrichment.
    encoded: OnceLock<[Encoded; 2]>,
}

/// Columns of a batch in the row encoding.
#[derive(Clone, Debug)]
struct Encoded {
    bytes: Vec<u8>,
    /// End of each row in `bytes`.
    ends: Vec<usize>,
}

impl Batch {
    /// A batch of the columns that were read and have values, by ascending name.
    pub(crate) fn new(first: u64, columns: Vec<(Column, Option<Values>)>) -> Result<Self, ReadError> {
        let mut out = Self {
            first,
            uids: Vec::new(),
            hashes: None,
            groups: None,
            ingested: None,
            inputs: None,
            originals: None,
            derived: Vec::with_capacity(columns.len()),
            enriched: Vec::new(),
            encoded: OnceLock::new(),
        };
        for (column, values) in columns {
            match (column, values) {
                (Column::KeytrailUid, Some(Values::Text(texts))) => {
                    out.uids = parsed(first, column, &texts, Uid::from_digits)?;
                }
                (Column::EventHash, Some(Values::Text(texts))) => {
                    out.hashes = Some(parsed(first, column, &texts, Hash::from_digits)?);
                }
                (Column::KeytrailUid | Column::EventHash, _) => return Err(no_digits(first, column)),
                (Column::EventOriginal, Some(Values::Text(texts))) => out.originals = Some(texts),
                (Column::EventIngested, Some(Values::Int(times))) => out.ingested = Some(times),
                (Column::KeytrailInput, Some(Values::Text(texts))) => out.inputs = Some(texts),
                (Column::KeytrailGroup, Some(Values::Int(groups))) => out.groups = Some(groups),
                (enriched, Some(values)) if enriched.enriched() => out.enriched.push((enriched, values)),
                (derived, Some(values)) => out.derived.push((derived, values)),
                (_, None) => {}
            }
        }
        Ok(out)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.uids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }

    /// Whether a row of it has a value in that derived column.
    pub fn has(&self, column: Column) -> bool {
        self.derived(column).is_some()
    }

    /// The rows. The first call encodes them.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = StoredRow<'_>> {
        let [derived, enriched] =
            self.encoded.get_or_init(|| [self.encode(&self.derived), self.encode(&self.enriched)]);
        let times = self.times();
        (0..self.len()).map(move |i| StoredRow {
            number: self.number(i),
            uid: self.uids[i],
            hash: self.hash(i),
            time: times.and_then(|times| times[i]).map(Timestamp),
            group: self.groups.as_ref().and_then(|groups| groups[i]).map(i64::cast_unsigned),
            ingested: self.ingested.as_ref().and_then(|times| times[i]).map(Timestamp),
            input: self.inputs.as_ref().and_then(|texts| texts.text(i)),
            columns: derived.row(i),
            enrichment: enriched.row(i),
            original: self.original(i),
        })
    }

    /// What binds the rows. Each call hashes them; `digests` may be of batches before.
    pub fn leaves(&self, digests: &mut Digests) -> impl ExactSizeIterator<Item = Leaf<'_>> + use<'_> {
        let digests = digests.of_batch(&self.uids, self.hashes.as_deref(), &self.derived);
        let times = self.times();
        let datasets = match self.derived(Column::EventDataset) {
            Some(Values::Text(texts)) => Some(texts),
            _ => None,
        };
        digests.into_iter().enumerate().map(move |(i, digest)| Leaf {
            number: self.number(i),
            uid: self.uids[i],
            hash: self.hash(i).unwrap_or_default(),
            digest,
            time: times.and_then(|times| times[i]).map(Timestamp),
            dataset: datasets.and_then(|texts| texts.text(i)),
            original: self.original(i),
        })
    }

    fn number(&self, i: usize) -> u64 {
        self.first.saturating_add(i as u64)
    }

    fn hash(&self, i: usize) -> Option<Hash> {
        self.hashes.as_ref().map(|h| h[i])
    }

    fn original(&self, i: usize) -> Option<&[u8]> {
        self.originals.as_ref()?.get(i)
    }

    fn derived(&self, column: Column) -> Option<&Values> {
        let at = self.derived.binary_search_by_key(&column, |(column, _)| *column).ok()?;
        Some(&self.derived[at].1)
    }

    fn times(&self) -> Option<&[Option<i64>]> {
        match self.derived(Column::Timestamp)? {
            Values::Int(times) => Some(times),
            _ => None,
        }
    }

    fn encode(&self, columns: &[(Column, Values)]) -> Encoded {
        let mut out = Encoded { bytes: Vec::new(), ends: Vec::new() };
        if columns.is_empty() {
            return out;
        }
        out.ends.reserve_exact(self.len());
        let columns: Vec<_> = columns.iter().collect();
        written(self.len(), 0, &columns, |_, rows| {
            for row in rows {
                join(&mut out.bytes, row.set(), row.values());
                out.ends.push(out.bytes.len());
            }
        });
        out
    }
}

impl Encoded {
    fn row(&self, i: usize) -> &[u8] {
        let Some(end) = self.ends.get(i) else { return &[] };
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..*end]
    }
}

fn parsed<T>(
    first: u64,
    column: Column,
    texts: &Texts,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, ReadError> {
    let mut out = Vec::with_capacity(texts.len());
    for i in 0..texts.len() {
        let value = texts.get(i).and_then(&parse);
        out.push(value.ok_or_else(|| no_digits(first.saturating_add(i as u64), column))?);
    }
    Ok(out)
}

fn no_digits(row: u64, column: Column) -> ReadError {
    ReadError::Damaged(format!(
        "row {row}: `{}` is not in lower-case hex digits of its length",
        column.name()
    ))
}
