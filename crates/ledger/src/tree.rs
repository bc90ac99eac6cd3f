//! Appending to a tree that is kept as tiles.

use std::fmt;

use keytrail_model::Hash;
use keytrail_model::merkle::{leaf_hash, node_hash};

use crate::tile::{Level, Tile, WIDTH, decode_bundle, decode_hashes, encode_hashes, push_entry};

/// Reads a file of the log by its path in the log's folder; `None`: there is no such file.
pub type Read<'a> = dyn FnMut(&str) -> Result<Option<Vec<u8>>, String> + 'a;

/// Why stored tiles could not be used. Paths are relative to the log's folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// The reader failed.
    Read(String),
    /// A file that the tree must have is not there.
    Missing(String),
    /// A file's content is not what the tree has there.
    Damaged(String, String),
    /// An entry is longer than 65,535 bytes: its place in the given list, its length.
    EntryTooLong(usize, usize),
    /// A place outside of the tree was asked for, or the tree would grow beyond 2^64 leaves.
    OutOfRange(String),
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(m) | Self::OutOfRange(m) => f.write_str(m),
            Self::Missing(path) => write!(f, "`{path}` of the log is missing"),
            Self::Damaged(path, why) => write!(f, "`{path}` of the log is damaged: {why}"),
            Self::EntryTooLong(i, bytes) => {
                write!(f, "entry {i} has {bytes} bytes, a log entry has at most 65535")
            }
        }
    }
}

impl std::error::Error for TreeError {}

/// A file to write: its path in the log's folder and its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// Path in the log's folder.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// What an append makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Leaves of the new tree.
    pub size: u64,
    /// Root of the new tree.
    pub root: Hash,
    /// Every file that the new tree has and the old one has not (full tiles, and partial ones under
    /// their new width), in the order in which they were finished.
    pub objects: Vec<Object>,
}

/// The right edge of a tree: at each level the hashes of the last tile, if it is partial.
///
/// It is all that an append and the root need: O(256 log n) memory.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Edge {
    size: u64,
    /// `levels[l]` has `(size >> 8l) & 255` hashes, each over `256^l` leaves.
    levels: Vec<Vec<Hash>>,
}

impl Edge {
    /// The edge of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the edge of a stored tree of `size` leaves and checks that it gives `root`.
    pub fn load(size: u64, root: &Hash, read: &mut Read<'_>) -> Result<Self, TreeError> {
        let mut edge = Self { size, levels: Vec::new() };
        let mut level = 0u8;
        while size >> (8 * u32::from(level)) > 0 {
            let width = size >> (8 * u32::from(level)) & 255;
            let mut hashes = Vec::new();
            if width > 0
                && let Some(tile) = Tile::last(Level::Hashes(level), size)
            {
                hashes = read_hashes(tile, read)?;
            }
            edge.levels.push(hashes);
            level += 1;
            if level == crate::tile::LEVELS {
                break;
            }
        }
        let found = edge.root();
        if found != *root {
            let path = Tile::last(Level::Hashes(0), size).map_or_else(|| "tile/0".into(), |t| t.path());
            return Err(TreeError::Damaged(
                path,
                format!(
                    "the last tiles give the root `{found}` at size {size}, the checkpoint says `{root}`"
                ),
            ));
        }
        Ok(edge)
    }

    /// Leaves of the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root (RFC 6962 section 2.1).
    pub fn root(&self) -> Hash {
        let mut right: Option<Hash> = None;
        for level in &self.levels {
            right = fold(level, right);
        }
        right.unwrap_or_else(|| Hash::of(b""))
    }

    /// Appends a leaf by its hash; full tiles go to `full` with their level, lowest first.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(u8, &[Hash])) {
        self.size += 1;
        let mut node = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(node);
            if hashes.len() as u64 != WIDTH {
                return;
            }
            full(level as u8, hashes);
            node = perfect_root(hashes);
            hashes.clear();
        }
    }
}

/// The root over `left` hashes of equal weight followed by a tree of less weight, `right`.
pub(crate) fn fold(left: &[Hash], right: Option<Hash>) -> Option<Hash> {
    // The perfect subtrees of `left` are the one bits of its length, widest first.
    let mut right = right;
    let mut rest = left;
    while !rest.is_empty() {
        let width = 1 << rest.len().trailing_zeros();
        let (before, last) = rest.split_at(rest.len() - width);
        let root = perfect_root(last);
        right = Some(right.map_or(root, |r| node_hash(&root, &r)));
        rest = before;
    }
    right
}

/// The root over a power of two of hashes (of none: the empty tree's).
pub(crate) fn perfect_root(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        for i in 0..row.len() / 2 {
            row[i] = node_hash(&row[2 * i], &row[2 * i + 1]);
        }
        row.truncate(row.len() / 2);
    }
    row.first().copied().unwrap_or_else(|| Hash::of(b""))
}

/// The hashes of a tile, from it or from a wider one of the same number.
pub(crate) fn read_hashes(tile: Tile, read: &mut Read<'_>) -> Result<Vec<Hash>, TreeError> {
    let (found, bytes) = read_widest(tile, read)?;
    let mut hashes =
        decode_hashes(&bytes, found.width).map_err(|why| TreeError::Damaged(found.path(), why))?;
    hashes.truncate(tile.width as usize);
    Ok(hashes)
}

/// A tile's bytes, or those of a wider one of the same number: readers of an older checkpoint find
/// its partial tiles superseded.
pub fn read_widest(tile: Tile, read: &mut Read<'_>) -> Result<(Tile, Vec<u8>), TreeError> {
    // Most often it is there; a full one comes next; other widths are rare.
    let widths = [tile.width, WIDTH].into_iter().chain(tile.width + 1..WIDTH);
    for width in widths {
        let candidate = tile.with_width(width);
        if let Some(bytes) = read(&candidate.path()).map_err(TreeError::Read)? {
            return Ok((candidate, bytes));
        }
    }
    Err(TreeError::Missing(tile.path()))
}

/// Appends entries to the tree of `size` leaves and `root` whose files `read` gives.
///
/// The old tree's last tiles are checked against `root` and its last bundle against them: nothing is
/// built on damage. Cost: O(entries + 256 log size).
pub fn append<'e>(
    size: u64,
    root: &Hash,
    read: &mut Read<'_>,
    entries: impl IntoIterator<Item = &'e [u8]>,
) -> Result<Appended, TreeError> {
    let mut edge = Edge::load(size, root, read)?;
    let mut bundle = load_bundle(&edge, read)?;
    let mut objects: Vec<Object> = Vec::new();
    for (i, entry) in entries.into_iter().enumerate() {
        if edge.size() == u64::MAX {
            return Err(TreeError::OutOfRange("a log has at most 2^64 - 1 entries".into()));
        }
        push_entry(&mut bundle, entry).map_err(|bytes| TreeError::EntryTooLong(i, bytes))?;
        let index = edge.size() / WIDTH;
        edge.push(leaf_hash(entry), |level, hashes| {
            if level == 0 {
                let path = Tile { level: Level::Entries, index, width: WIDTH }.path();
                objects.push(Object { path, bytes: std::mem::take(&mut bundle) });
            }
            let index = index >> (8 * u32::from(level));
            let path = Tile { level: Level::Hashes(level), index, width: WIDTH }.path();
            objects.push(Object { path, bytes: encode_hashes(hashes) });
        });
    }
    if edge.size() > size {
        partial_tiles(&edge, size, bundle, &mut objects);
    }
    Ok(Appended { size: edge.size(), root: edge.root(), objects })
}

/// The partial tiles of the new tree that the tree of `old_size` had not.
fn partial_tiles(edge: &Edge, old_size: u64, bundle: Vec<u8>, objects: &mut Vec<Object>) {
    let new = |level| {
        Tile::last(level, edge.size)
            .filter(|t| t.is_partial() && Tile::last(level, old_size).as_ref() != Some(t))
            .map(|t| t.path())
    };
    if let Some(path) = new(Level::Entries) {
        objects.push(Object { path, bytes: bundle });
    }
    for (level, hashes) in edge.levels.iter().enumerate() {
        if let Some(path) = new(Level::Hashes(level as u8)) {
            objects.push(Object { path, bytes: encode_hashes(hashes) });
        }
    }
}

/// The bytes of the last, partial bundle, whose entries must be those of the level-0 tile.
fn load_bundle(edge: &Edge, read: &mut Read<'_>) -> Result<Vec<u8>, TreeError> {
    let Some(tile) = Tile::last(Level::Entries, edge.size).filter(Tile::is_partial) else {
        return Ok(Vec::new());
    };
    let (found, bytes) = read_widest(tile, read)?;
    let entries = decode_bundle(&bytes, found.width).map_err(|why| TreeError::Damaged(found.path(), why))?;
    let mut bundle = Vec::new();
    for (i, (entry, leaf)) in entries.iter().zip(&edge.levels[0]).enumerate() {
        if leaf_hash(entry) != *leaf {
            return Err(TreeError::Damaged(
                found.path(),
                format!("its entry {i} does not have the hash that the tile above it says"),
            ));
        }
        // An entry that was read has a length of two bytes.
        push_entry(&mut bundle, entry).map_err(|bytes| TreeError::EntryTooLong(i, bytes))?;
    }
    Ok(bundle)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use keytrail_model::merkle::root_of;
    use proptest::prelude::*;

    use super::*;

    /// A log's files by path.
    pub(crate) type Files = BTreeMap<String, Vec<u8>>;

    pub(crate) fn entry(i: u64) -> Vec<u8> {
        format!("entry {i}").into_bytes()
    }

    /// The files of a log to which the sizes were appended one after the other.
    pub(crate) fn log(sizes: &[u64]) -> (Files, u64, Hash) {
        let (mut files, mut size, mut root) = (Files::new(), 0, Edge::new().root());
        for n in sizes {
            let entries: Vec<Vec<u8>> = (size..*n).map(entry).collect();
            let done =
                append(size, &root, &mut |p| Ok(files.get(p).cloned()), entries.iter().map(Vec::as_slice))
                    .unwrap();
            for level in crate::tile::levels() {
                if let Some(old) = Tile::last(level, size)
                    && Tile::at(level, old.index, *n) != Some(old)
                {
                    files.remove(&old.path());
                }
            }
            files.extend(done.objects.into_iter().map(|o| (o.path, o.bytes)));
            (size, root) = (done.size, done.root);
        }
        (files, size, root)
    }

    fn expected_root(n: u64) -> Hash {
        let entries: Vec<Vec<u8>> = (0..n).map(entry).collect();
        root_of(entries.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_layout_is_the_same_however_it_grew() {
        for n in [1, 2, 255, 256, 257, 511, 512, 1000] {
            let (files, size, root) = log(&[n]);
            assert_eq!((size, root), (n, expected_root(n)), "{n}");
            let mut steps: Vec<u64> = (1..n).step_by(97).collect();
            steps.push(n);
            assert_eq!(log(&steps), (files, size, root), "{n}");
        }
    }

    #[test]
    fn files_of_65793_entries() {
        let (files, _, root) = log(&[100, 65_793]);
        assert_eq!(root, expected_root(65_793));
        assert!(files.contains_key("tile/2/000.p/1"));
        assert!(files.contains_key("tile/1/000"));
        assert!(files.contains_key("tile/1/001.p/1"));
        assert!(files.contains_key("tile/entries/257.p/1"));
        assert_eq!(files.len(), 257 * 2 + 2 + 3);
    }

    #[test]
    fn nothing_is_built_on_damage() {
        let (files, size, root) = log(&[300]);
        let try_with = |change: &dyn Fn(&mut Files)| {
            let mut files = files.clone();
            change(&mut files);
            append(size, &root, &mut |p| Ok(files.get(p).cloned()), [&b"x"[..]]).unwrap_err().to_string()
        };
        let flip = |path: &'static str| move |f: &mut Files| f.get_mut(path).unwrap()[9] ^= 1;
        assert!(try_with(&flip("tile/0/001.p/44")).contains("the last tiles give the root"));
        assert!(try_with(&flip("tile/1/000.p/1")).contains("the last tiles give the root"));
        assert!(
            try_with(&flip("tile/entries/001.p/44"))
                .contains("`tile/entries/001.p/44` of the log is damaged")
        );
        let drop = |f: &mut Files| drop(f.remove("tile/0/001.p/44"));
        assert_eq!(try_with(&drop), "`tile/0/001.p/44` of the log is missing");
    }

    #[test]
    fn an_entry_too_long_is_refused() {
        let long = vec![0; 65_536];
        let e = append(0, &Edge::new().root(), &mut |_| Ok(None), [&b"a"[..], &long]).unwrap_err();
        assert_eq!(e.to_string(), "entry 1 has 65536 bytes, a log entry has at most 65535");
    }

    #[test]
    fn a_wider_tile_serves_an_older_tree() {
        let (files, ..) = log(&[300]);
        for old in [1, 44, 255, 256, 257, 299] {
            let edge = Edge::load(old, &expected_root(old), &mut |p| Ok(files.get(p).cloned())).unwrap();
            assert_eq!(edge.size(), old);
        }
    }

    proptest! {
        #[test]
        fn an_append_is_an_append(a in 0u64..600, b in 0u64..600) {
            let (_, size, root) = log(&[a, a + b]);
            prop_assert_eq!((size, root), (a + b, expected_root(a + b)));
        }
    }
}
