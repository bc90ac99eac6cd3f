//! Which events the archive has: an index of each object, by key group and uid, and the index of a
//! partition that ingest asks before it takes an event in.
//!
//! An event is a *duplicate* when its uid is there; it shares its producer's key with another event when
//! its group is there under another uid (ARCHITECTURE rule 4). Both are answered from here alone, without
//! the archive's ids in memory: a Bloom filter says no to nearly all new events, and a positive costs
//! one positioned read. Times do not narrow the search: a conflicting event may have any time.
//!
//! The file of an index is a cache: [`Entries::read`] makes it again from the object. All numbers are
//! big-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `ktuids`, 0, version 1 |
//! | 32 | SHA-256 of the object |
//! | 8 | entries |
//! | 4 | blocks of the filter |
//! | 4 | bits of the fanout |
//! | 64 a block | filter: blocked Bloom, 12 bits an entry, 8 of a block's bits for each group |
//! | 4 x (2^bits + 1) | fanout: number of the first entry whose group starts with these bits, or later ones |
//! | 32 | SHA-256 of all above |
//! | 28 an entry | group (8) and uid (20), ascending |

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use hashbrown::HashTable;
use keytrail_model::{Fatal, Hash, Uid};
use sha2::{Digest, Sha256};

use crate::dictionary::unforeseen;
use crate::error::from_io;
use crate::read::{ObjectReader, Projection, ReadError, Selection};
use crate::read_at::ReadAt;

/// Other uids of a group that an answer names at most: a hostile source can put a million events under
/// one producer key, and each must still cost the same.
pub const MAX_OTHERS: usize = 8;

const MAGIC: [u8; 8] = *b"ktuids\x00\x01";
const HEADER: usize = 56;
const BLOCK: usize = 64;
const BITS_PER_ENTRY: usize = 12;
const BUCKET_ENTRIES: u64 = 64;
const ENTRY: usize = 28;

/// Entries that are read at once, 7 kB; larger buckets, which chance does not make, are searched by halves.
const READ_ENTRIES: u64 = 256;

type Entry = [u8; ENTRY];

/// What is known of an event's group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The uid is there.
    pub same: bool,
    /// Other uids of the group, ascending, the first [`MAX_OTHERS`] of each object.
    pub others: Vec<Uid>,
}

impl Found {
    /// Adds what another index knows.
    pub fn merge(&mut self, other: Self) {
        self.same |= other.same;
        self.others.extend(other.others);
    }

    fn add(&mut self, entry: &Entry, uid: &Uid) {
        let (_, found) = split(entry);
        if found != *uid && self.others.len() < MAX_OTHERS {
            self.others.push(found);
        }
    }
}

/// Entries in memory: those of an object that is being written. About 48 bytes each.
#[derive(Clone, Debug)]
pub struct Entries {
    /// The first of each group. Nearly all groups have one.
    first: HashTable<Entry>,
    /// The others: a hostile source can put a million under one key.
    more: BTreeSet<Entry>,
    hasher: ahash::RandomState,
}

impl Default for Entries {
    fn default() -> Self {
        Self { first: HashTable::new(), more: BTreeSet::new(), hasher: unforeseen() }
    }
}

impl Entries {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of an object, from its columns: what rebuilds a lost index.
    pub fn read(object: &ObjectReader) -> Result<Self, ReadError> {
        let mut out = Self::new();
        for batch in object.batches(&Projection::index(), Selection::All) {
            for row in batch?.rows() {
                let group = row.group.ok_or_else(|| {
                    ReadError::Damaged(format!("row {}: `keytrail_group` is null", row.number))
                })?;
                out.insert(group, &row.uid);
            }
        }
        Ok(out)
    }

    /// Adds an event; false when it was there.
    pub fn insert(&mut self, group: u64, uid: &Uid) -> bool {
        let entry = join(group, uid);
        match self.first_of(group) {
            Some(first) if *first == entry => false,
            Some(_) => self.more.insert(entry),
            None => {
                let hasher = &self.hasher;
                self.first.insert_unique(hasher.hash_one(group), entry, |e| hasher.hash_one(split(e).0));
                true
            }
        }
    }

    /// What is known of the group.
    pub fn find(&self, group: u64, uid: &Uid) -> Found {
        let mut found = Found::default();
        let Some(first) = self.first_of(group) else { return found };
        let own = join(group, uid);
        found.same = *first == own || self.more.contains(&own);
        let bound = |byte| join(group, &Uid([byte; 20]));
        let mut some: Vec<&Entry> = self.more.range(bound(0)..=bound(0xff)).take(MAX_OTHERS + 1).collect();
        some.push(first);
        some.sort_unstable();
        some.into_iter().for_each(|entry| found.add(entry, uid));
        found
    }

    fn first_of(&self, group: u64) -> Option<&Entry> {
        self.first.find(self.hasher.hash_one(group), |e| split(e).0 == group)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Memory in use, about.
    pub fn memory_bytes(&self) -> usize {
        self.len() * 48
    }

    /// Writes the index of an object with these entries.
    ///
    /// # Errors
    /// Those of `out`; more than 2^32 - 1 entries, which no object has.
    pub fn write(&self, object: &Hash, out: &mut dyn Write) -> Result<(), Fatal> {
        let mut entries: Vec<&Entry> = self.first.iter().chain(&self.more).collect();
        entries.sort_unstable();
        let count = u32::try_from(entries.len()).map_err(|_| {
            Fatal::new("Fatal.Archive", format!("{} entries are too many for an index", entries.len()))
        })?;
        let blocks = (entries.len() * BITS_PER_ENTRY).div_ceil(BLOCK * 8) as u32;
        let bits = u64::from(count).div_ceil(BUCKET_ENTRIES).next_power_of_two().ilog2();
        let mut head = Vec::with_capacity(HEADER + blocks as usize * BLOCK + (4 << bits) + 36);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&object.0);
        head.extend_from_slice(&u64::from(count).to_be_bytes());
        head.extend_from_slice(&blocks.to_be_bytes());
        head.extend_from_slice(&bits.to_be_bytes());
        let mut filter = vec![0; blocks as usize * BLOCK];
        let mut starts = vec![0u32; (1 << bits) + 1];
        for entry in &entries {
            let (group, _) = split(entry);
            add_to_filter(&mut filter, group);
            starts[bucket(group, bits) + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        head.extend_from_slice(&filter);
        head.extend(starts.iter().flat_map(|n| n.to_be_bytes()));
        let digest = Hash::of(&head);
        head.extend_from_slice(&digest.0);
        let mut out = io::BufWriter::new(out);
        let mut write = || {
            out.write_all(&head)?;
            entries.iter().try_for_each(|entry| out.write_all(*entry))?;
            out.flush()
        };
        write().map_err(|e| from_io("index of uids", &e))
    }
}

/// The index of a finished object.
pub struct UidIndex {
    source: Arc<dyn ReadAt>,
    object: Hash,
    filter: Filter,
    starts: Vec<u32>,
    bits: u32,
    /// Where the entries begin.
    entries_at: u64,
}

enum Filter {
    Loaded(Vec<u8>),
    /// Number of blocks; each is read when it is asked for.
    OnDisk(u32),
}

impl UidIndex {
    /// Opens an index. With `load_filter` its filter, 1.5 bytes an entry, is kept in memory; without,
    /// each [`find`](Self::find) reads 64 bytes of it. The fanout, 4 bytes for about 64 entries, always is.
    ///
    /// # Errors
    /// `Damaged` for anything but a whole index of this version: make it again.
    pub fn open(source: Arc<dyn ReadAt>, load_filter: bool) -> Result<Self, ReadError> {
        let read = |at: u64, buf: &mut [u8]| source.read_at(at, buf).map_err(failed);
        let size = source.size().map_err(failed)?;
        let mut header = [0; HEADER];
        read(0, &mut header)?;
        if header[..8] != MAGIC {
            return Err(damaged("no index of uids, or one of another version"));
        }
        let mut object = Hash::default();
        object.0.copy_from_slice(&header[8..40]);
        let word = |at: usize| header[at..at + 4].iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let (high, count, blocks, bits) = (word(40), word(44), word(48), word(52));
        let filter_bytes = u64::from(blocks) * BLOCK as u64;
        let entries_at = (HEADER as u64 + 32 + 4)
            .saturating_add(filter_bytes)
            .saturating_add(4u64.checked_shl(bits).unwrap_or(u64::MAX));
        // Checked before anything is allocated; the sizes of filter and fanout are bounded by the file's.
        if high != 0 || bits > 26 || entries_at.saturating_add(u64::from(count) * ENTRY as u64) != size {
            return Err(damaged("the index of uids is not as long as its header says"));
        }
        let mut hash = Sha256::new();
        hash.update(header);
        let mut at = HEADER as u64;
        let filter = if load_filter {
            let mut filter = vec![0; filter_bytes as usize];
            read(at, &mut filter)?;
            hash.update(&filter);
            at += filter_bytes;
            Filter::Loaded(filter)
        } else {
            let mut part = vec![0; 256 << 10];
            let end = at + filter_bytes;
            while at < end {
                let n = part.len().min((end - at) as usize);
                read(at, &mut part[..n])?;
                hash.update(&part[..n]);
                at += n as u64;
            }
            Filter::OnDisk(blocks)
        };
        let mut fanout = vec![0; ((1usize << bits) + 1) * 4];
        read(at, &mut fanout)?;
        hash.update(&fanout);
        let mut digest = [0; 32];
        read(entries_at - 32, &mut digest)?;
        if <[u8; 32]>::from(hash.finalize()) != digest {
            return Err(damaged("the index of uids does not have its own checksum"));
        }
        let starts: Vec<u32> = fanout.as_chunks::<4>().0.iter().map(|n| u32::from_be_bytes(*n)).collect();
        if starts.last() != Some(&count) || !starts.is_sorted() || (blocks == 0 && count > 0) {
            return Err(damaged("the fanout of the index of uids is not ascending"));
        }
        Ok(Self { source, object, filter, starts, bits, entries_at })
    }

    /// SHA-256 of the object that it is the index of.
    pub fn object(&self) -> &Hash {
        &self.object
    }

    /// Number of entries.
    pub fn count(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0).into()
    }

    /// Memory in use.
    pub fn memory_bytes(&self) -> usize {
        let filter = match &self.filter {
            Filter::Loaded(f) => f.len(),
            Filter::OnDisk(_) => 0,
        };
        filter + self.starts.len() * 4
    }

    /// What is known of the group.
    pub fn find(&self, group: u64, uid: &Uid) -> Result<Found, ReadError> {
        let mut found = Found::default();
        if !self.may_hold(group)? {
            return Ok(found);
        }
        let bucket = bucket(group, self.bits);
        let (low, high) = (u64::from(self.starts[bucket]), u64::from(self.starts[bucket + 1]));
        let first = join(group, &Uid([0; 20]));
        if high - low <= READ_ENTRIES {
            let entries = self.entries(low, high)?;
            let entries = entries.as_chunks::<ENTRY>().0;
            found.same = entries.binary_search(&join(group, uid)).is_ok();
            let start = entries.partition_point(|e| *e < first);
            for entry in entries[start..].iter().take_while(|e| split(e).0 == group).take(MAX_OTHERS + 1) {
                found.add(entry, uid);
            }
            return Ok(found);
        }
        let start = self.lower_bound(low, high, &first)?;
        let some = self.entries(start, high.min(start + MAX_OTHERS as u64 + 1))?;
        for entry in some.as_chunks::<ENTRY>().0.iter().take_while(|e| split(e).0 == group) {
            found.add(entry, uid);
        }
        let at = self.lower_bound(start, high, &join(group, uid))?;
        found.same = self.entries(at, high.min(at + 1))? == join(group, uid);
        Ok(found)
    }

    fn may_hold(&self, group: u64) -> Result<bool, ReadError> {
        Ok(match &self.filter {
            Filter::Loaded(filter) if filter.is_empty() => false,
            Filter::Loaded(filter) => {
                let at = block(group, (filter.len() / BLOCK) as u32) * BLOCK;
                in_block(&filter[at..at + BLOCK], group)
            }
            Filter::OnDisk(0) => false,
            Filter::OnDisk(blocks) => {
                let mut bytes = [0; BLOCK];
                let at = HEADER + block(group, *blocks) * BLOCK;
                self.source.read_at(at as u64, &mut bytes).map_err(failed)?;
                in_block(&bytes, group)
            }
        })
    }

    /// Number of the first entry of `low..high` that is not below `key`.
    fn lower_bound(&self, mut low: u64, mut high: u64, key: &Entry) -> Result<u64, ReadError> {
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entries(middle, middle + 1)?[..] < key[..] {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn entries(&self, low: u64, high: u64) -> Result<Vec<u8>, ReadError> {
        // At most a few thousand entries.
        let mut bytes = vec![0; high.saturating_sub(low) as usize * ENTRY];
        self.source.read_at(self.entries_at + low * ENTRY as u64, &mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

/// What the archive knows of one partition: the indexes of its sealed objects and the entries of the
/// object that is being written.
#[derive(Default)]
pub struct PartitionIndex {
    sealed: Vec<UidIndex>,
    open: Entries,
}

impl PartitionIndex {
    /// Of a partition without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object of the partition.
    pub fn add(&mut self, index: UidIndex) {
        self.sealed.push(index);
    }

    /// What is known of an event's group, in all objects.
    pub fn find(&self, group: u64, uid: &Uid) -> Result<Found, ReadError> {
        let mut found = self.open.find(group, uid);
        for index in &self.sealed {
            found.merge(index.find(group, uid)?);
        }
        Ok(found)
    }

    /// Notes an event that goes into the object being written.
    pub fn insert(&mut self, group: u64, uid: &Uid) {
        self.open.insert(group, uid);
    }

    /// Writes the index of the object that was being written, which is finished now. Open what was
    /// written and [`add`](Self::add) it before anything else is asked.
    pub fn seal(&mut self, object: &Hash, out: &mut dyn Write) -> Result<(), Fatal> {
        self.open.write(object, out)?;
        self.open = Entries::new();
        Ok(())
    }

    /// The entries of the object being written.
    pub fn open_entries(&self) -> &Entries {
        &self.open
    }

    /// Memory in use, about.
    pub fn memory_bytes(&self) -> usize {
        self.open.memory_bytes() + self.sealed.iter().map(UidIndex::memory_bytes).sum::<usize>()
    }
}

fn join(group: u64, uid: &Uid) -> Entry {
    let mut entry = [0; ENTRY];
    entry[..8].copy_from_slice(&group.to_be_bytes());
    entry[8..].copy_from_slice(&uid.0);
    entry
}

fn split(entry: &Entry) -> (u64, Uid) {
    let (mut group, mut uid) = ([0; 8], Uid([0; 20]));
    group.copy_from_slice(&entry[..8]);
    uid.0.copy_from_slice(&entry[8..]);
    (u64::from_be_bytes(group), uid)
}

/// Groups are bits of a SHA-256: their first ones spread them evenly.
fn bucket(group: u64, bits: u32) -> usize {
    group.checked_shr(64 - bits).unwrap_or(0) as usize
}

/// The last 32 bits choose the block, the first 32 the bits in it.
fn block(group: u64, blocks: u32) -> usize {
    (((group & 0xffff_ffff) * u64::from(blocks)) >> 32) as usize
}

/// Odd multipliers that give each word of a block its own bit (those of Parquet's split block Bloom filter).
const SALT: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

/// The bit of each 8-byte word that a group sets.
fn mask(group: u64, salt: u32) -> u64 {
    1 << (((group >> 32) as u32).wrapping_mul(salt) >> 26)
}

fn add_to_filter(filter: &mut [u8], group: u64) {
    let at = block(group, (filter.len() / BLOCK) as u32) * BLOCK;
    for (word, salt) in filter[at..at + BLOCK].as_chunks_mut::<8>().0.iter_mut().zip(SALT) {
        *word = (u64::from_be_bytes(*word) | mask(group, salt)).to_be_bytes();
    }
}

fn in_block(block: &[u8], group: u64) -> bool {
    let words = block.as_chunks::<8>().0.iter().zip(SALT);
    words.fold(true, |all, (word, salt)| all & (u64::from_be_bytes(*word) & mask(group, salt) != 0))
}

fn failed(e: io::Error) -> ReadError {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged("the index of uids ends too early"),
        _ => ReadError::Io(from_io("index of uids", &e)),
    }
}

fn damaged(what: &str) -> ReadError {
    ReadError::Damaged(what.into())
}
