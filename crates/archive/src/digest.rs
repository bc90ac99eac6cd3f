//! The values of rows in the row encoding, and their digests ([`keytrail_model::digest`]), from columns: what is
//! hashed is written once, into a buffer a row, column by column for some rows at a time.
//!
//! It is not a second definition: what the model's functions say is the promise, and tests hold this to it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;

use keytrail_model::digest::{FACETS, FACETS_BYTES, Names, RowText, facet_of, put_facets, row_text};
use keytrail_model::sha256::{hash, hash_two};
use keytrail_model::{Column, ColumnSet, Hash, Uid};

use crate::values::{Distinct, NONE, Texts, Values};

/// Rows that are written at once, column by column: their values lie next to each other, and a value that
/// is still on its way from memory holds up one row and not all that follow.
const ROWS: usize = 8;

/// Calls `each` with the first row and the values of some rows, until it had all of so many. `columns` come by
/// ascending name; before the values is so much room.
pub(crate) fn written(
    rows: usize,
    room: usize,
    columns: &[&(Column, Values)],
    mut each: impl FnMut(usize, &mut [RowValues]),
) {
    let mut some: [RowValues; ROWS] = Default::default();
    for first in (0..rows).step_by(ROWS) {
        let some = &mut some[..ROWS.min(rows - first)];
        some.iter_mut().for_each(|row| row.begin(room));
        for (column, values) in columns {
            values.write(first, *column, some);
        }
        each(first, some);
    }
}

/// The digests of the rows of batches: it remembers what rows have in common.
#[derive(Default)]
pub struct Digests {
    names: Names,
    facets: [Facets; FACETS.len()],
    /// The dictionaries by whose numbers the facets are known.
    dictionaries: Vec<(Column, Arc<Distinct>)>,
}

/// Which columns of a facet a row has, and what their values hash to.
type Facet = (ColumnSet, Hash);

/// Facets by the columns that a batch has of them, and what [`Values::name`] writes of a row.
struct Facets(HashMap<Vec<u8>, Facet, ahash::RandomState>);

impl Default for Facets {
    /// Values come from logs: where they are kept is not to be foreseen.
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        let hasher = ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 0);
        Self(HashMap::with_hasher(hasher))
    }
}

/// Facets that are remembered.
const REMEMBERED: usize = 1 << 14;

/// Bytes of the largest name of one that is.
const LARGE: usize = 4 << 10;

impl Digests {
    /// The digests of all rows of a batch; `hashes` are those of the events, zero where there are none.
    pub(crate) fn of_batch(
        &mut self,
        uids: &[Uid],
        hashes: Option<&[Hash]>,
        derived: &[(Column, Values)],
    ) -> Vec<Hash> {
        let mut of_facets: [Vec<&(Column, Values)>; FACETS.len()] = Default::default();
        let mut others = Vec::with_capacity(derived.len());
        for column in derived.iter().filter(|(column, _)| column.derived()) {
            match facet_of(column.0) {
                Some(facet) => of_facets[facet].push(column),
                None => others.push(column),
            }
        }
        let sets = of_facets.each_ref().map(|columns| {
            let mut set = ColumnSet::default();
            columns.iter().for_each(|(column, _)| set.insert(*column));
            set
        });
        self.keep_to(of_facets.iter().flatten());
        let mut names: [[Vec<u8>; ROWS]; FACETS.len()] = Default::default();
        let mut scratch = RowValues::default();
        let mut out = Vec::with_capacity(uids.len());
        written(uids.len(), FACETS_BYTES, &others, |first, rows| {
            for ((columns, names), set) in of_facets.iter().zip(&mut names).zip(&sets) {
                for name in names.iter_mut() {
                    name.clear();
                    name.extend_from_slice(&set.to_bytes());
                }
                columns.iter().for_each(|(_, values)| values.name(first, &mut names[..rows.len()]));
            }
            for (i, row) in rows.iter_mut().enumerate() {
                let mut found = [Facet::default(); FACETS.len()];
                for (facet, found) in found.iter_mut().enumerate() {
                    let (name, columns) = (&names[facet][i], &of_facets[facet]);
                    *found = self.facets[facet].find(name, columns, first + i, &mut scratch);
                }
                row.set = found.iter().fold(row.set, |set, (of_facet, _)| set.with(*of_facet));
                put_facets(&mut row.bytes, found.map(|(_, hash)| hash));
            }
            let mut text = |i: usize| -> RowText<'_> {
                let event = hashes.map_or(Hash::default(), |h| h[first + i]);
                row_text(self.names.hashed(rows[i].set), rows[i].values(), &uids[first + i], &event)
            };
            let pairs = rows.len() / 2;
            (0..pairs).for_each(|two| out.extend(hash_two(text(2 * two), text(2 * two + 1))));
            (2 * pairs..rows.len()).for_each(|i| out.push(hash(text(i))));
        });
        out
    }

    /// Forgets the facets where a number may mean another text than before.
    fn keep_to<'a>(&mut self, columns: impl Iterator<Item = &'a &'a (Column, Values)>) {
        for (column, values) in columns {
            let Some(distinct) = values.dictionary() else { continue };
            match self.dictionaries.iter_mut().find(|(of, _)| of == column) {
                None => self.dictionaries.push((*column, distinct.clone())),
                Some((_, known)) if Arc::ptr_eq(known, distinct) => {}
                Some((_, known)) => {
                    *known = distinct.clone();
                    self.facets.iter_mut().for_each(|facets| facets.0.clear());
                }
            }
        }
    }
}

impl Facets {
    /// The facet of the batch's row, whose columns have these values and that name.
    fn find(
        &mut self,
        name: &[u8],
        columns: &[&(Column, Values)],
        row: usize,
        scratch: &mut RowValues,
    ) -> Facet {
        if let Some(known) = self.0.get(name) {
            return *known;
        }
        scratch.begin(0);
        columns.iter().for_each(|(column, values)| values.write(row, *column, std::slice::from_mut(scratch)));
        let facet = (scratch.set, Hash::of(scratch.values()));
        // Large ones are rare, and worth less than their memory.
        if name.len() <= LARGE {
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
            self.0.insert(name.to_vec(), facet);
        }
        facet
    }
}

impl Values {
    /// Appends the column to `rows`, of which the first is the batch's row `first`.
    fn write(&self, first: usize, column: Column, rows: &mut [RowValues]) {
        let column = ColumnSet::of(&[column]);
        let rows = rows.iter_mut().enumerate().map(|(i, row)| (first + i, row));
        match self {
            Self::Text(Texts::Indexed(distinct, numbers)) => {
                for (i, row) in rows {
                    if let Some(number) = distinct.number(numbers, i) {
                        row.set = row.set.with(column);
                        let (page, place) = distinct.sized(number);
                        row.part(page, place);
                    }
                }
            }
            Self::Text(texts) => {
                for (i, row) in rows {
                    if let Some(text) = texts.get(i) {
                        row.set = row.set.with(column);
                        row.text(text);
                    }
                }
            }
            Self::Int(ints) => {
                for (i, row) in rows {
                    if let Some(int) = ints[i] {
                        row.set = row.set.with(column);
                        row.sized(int.to_be_bytes());
                    }
                }
            }
            Self::Bool(flags) => {
                for (i, row) in rows {
                    if let Some(flag) = flags[i] {
                        row.set = row.set.with(column);
                        row.sized([u8::from(flag)]);
                    }
                }
            }
            Self::List(lists) => {
                for (i, row) in rows {
                    if let Some(items) = lists.row(i) {
                        row.set = row.set.with(column);
                        row.list(&lists.items, items);
                    }
                }
            }
        }
    }
}

/// What a text of no dictionary stands behind.
const PLACED: u32 = NONE - 1;

impl Values {
    /// The dictionary that numbers are of.
    fn dictionary(&self) -> Option<&Arc<Distinct>> {
        match self {
            Self::Text(Texts::Indexed(distinct, _)) => Some(distinct),
            Self::List(lists) => match &lists.items {
                Texts::Indexed(distinct, _) => Some(distinct),
                Texts::Placed(..) => None,
            },
            _ => None,
        }
    }

    /// Appends what tells the values of rows apart, as long as dictionaries stay the same: numbers of texts.
    fn name(&self, first: usize, names: &mut [Vec<u8>]) {
        let names = names.iter_mut().enumerate().map(|(i, name)| (first + i, name));
        match self {
            Self::Text(texts) => names.for_each(|(i, name)| texts.name(i, name)),
            Self::Int(ints) => {
                for (i, name) in names {
                    name.extend_from_slice(&if ints[i].is_some() { PLACED } else { NONE }.to_le_bytes());
                    name.extend_from_slice(&ints[i].unwrap_or_default().to_le_bytes());
                }
            }
            Self::Bool(flags) => {
                for (i, name) in names {
                    name.extend_from_slice(&flags[i].map_or(NONE, u32::from).to_le_bytes());
                }
            }
            Self::List(lists) => {
                for (i, name) in names {
                    let items = lists.row(i);
                    let count = items.as_ref().map_or(NONE, |items| items.len() as u32);
                    name.extend_from_slice(&count.to_le_bytes());
                    items.into_iter().flatten().for_each(|item| lists.items.name(item, name));
                }
            }
        }
    }
}

impl Texts {
    #[inline]
    fn name(&self, i: usize, name: &mut Vec<u8>) {
        match self {
            // A dictionary has fewer texts than bytes of a page, so none has one of the numbers above.
            Self::Indexed(_, numbers) => name.extend_from_slice(&numbers[i].to_le_bytes()),
            Self::Placed(..) => match self.get(i) {
                None => name.extend_from_slice(&NONE.to_le_bytes()),
                Some(text) => {
                    name.extend_from_slice(&PLACED.to_le_bytes());
                    name.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    name.extend_from_slice(text);
                }
            },
        }
    }
}

/// What a row has, and its values, each behind its length: the first `len` of the bytes.
#[derive(Default)]
pub(crate) struct RowValues {
    set: ColumnSet,
    bytes: Vec<u8>,
    len: usize,
}

/// A part of so many bytes is copied with what follows it: that takes no loop.
const SHORT: usize = 32;
const MEDIUM: usize = 96;

impl RowValues {
    /// Empties it but for so much room.
    fn begin(&mut self, room: usize) {
        self.set = ColumnSet::default();
        self.len = 0;
        self.room(room);
        self.len = room;
    }

    /// Which columns have a value.
    pub fn set(&self) -> ColumnSet {
        self.set
    }

    /// Their values.
    pub fn values(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The next bytes, so many.
    #[inline]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < bytes {
            self.grow(bytes);
        }
        &mut self.bytes[self.len..self.len + bytes]
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        self.bytes.resize((self.len + bytes).max(2048) * 2, 0);
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// A part of a page.
    #[inline]
    fn part(&mut self, page: &[u8], place: Range<usize>) {
        let (len, rest) = (place.len(), &page[place.start..]);
        if let Some(more) = rest.first_chunk::<SHORT>().filter(|_| len <= SHORT) {
            self.room(SHORT).copy_from_slice(more);
            self.len += len;
        } else if let Some(more) = rest.first_chunk::<MEDIUM>().filter(|_| len <= MEDIUM) {
            self.room(MEDIUM).copy_from_slice(more);
            self.len += len;
        } else {
            self.put(&page[place]);
        }
    }

    /// A value behind its length.
    #[inline]
    fn sized<const N: usize>(&mut self, value: [u8; N]) {
        self.put(&(N as u32).to_be_bytes());
        self.put(&value);
    }

    /// A text behind its length.
    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.put(&(text.len() as u32).to_be_bytes());
        self.put(text);
    }

    /// Items, each behind its length, behind theirs.
    fn list(&mut self, texts: &Texts, items: Range<usize>) {
        let at = self.len;
        self.put(&[0; 4]);
        for i in items {
            match texts {
                Texts::Indexed(distinct, numbers) => {
                    if let Some(number) = distinct.number(numbers, i) {
                        let (page, place) = distinct.sized(number);
                        self.part(page, place);
                    }
                }
                Texts::Placed(..) => self.text(texts.get(i).unwrap_or_default()),
            }
        }
        let len = (self.len - at - 4) as u32;
        self.bytes[at..at + 4].copy_from_slice(&len.to_be_bytes());
    }
}
