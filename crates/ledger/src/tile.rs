//! Names and contents of a log's files: hash tiles and entry bundles (C2SP tlog-tiles).
//!
//! `tile/<L>/<N>[.p/<W>]` holds up to 256 hashes of level `L`; `tile/entries/<N>[.p/<W>]` the entries
//! below the level-0 tile of the same number. `N` is written in groups of three digits, all but the
//! last with an `x` before them.

use std::fmt;

use keytrail_model::Hash;
use keytrail_model::manifest::MAX_ENTRY_BYTES;

/// Hashes of a full tile, entries of a full bundle.
pub const WIDTH: u64 = 256;

/// A 64-bit tree has hash tiles at levels 0 to 7.
pub const LEVELS: u8 = 8;

/// Name of the file with the log's newest head.
pub const CHECKPOINT: &str = "checkpoint";

/// What a file below `tile/` holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// An entry bundle.
    Entries,
    /// Hashes of nodes that each cover `256^level` leaves.
    Hashes(u8),
}

/// A hash tile or entry bundle: its level, number and width (1 to 256 hashes or entries).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tile {
    /// What it holds.
    pub level: Level,
    /// Its number within the level.
    pub index: u64,
    /// How many hashes or entries it holds.
    pub width: u64,
}

impl Tile {
    /// The tile as a tree of `size` leaves has it; `None` where that tree has none.
    pub fn at(level: Level, index: u64, size: u64) -> Option<Self> {
        let all = nodes(level, size);
        let width = all.saturating_sub(index.checked_mul(WIDTH)?).min(WIDTH);
        (width > 0).then_some(Self { level, index, width })
    }

    /// The last tile of a level in a tree of `size` leaves.
    pub fn last(level: Level, size: u64) -> Option<Self> {
        Self::at(level, nodes(level, size).checked_sub(1)? / WIDTH, size)
    }

    /// Whether it holds fewer than 256.
    pub fn is_partial(&self) -> bool {
        self.width < WIDTH
    }

    /// The same tile at another width.
    pub fn with_width(self, width: u64) -> Self {
        Self { width, ..self }
    }

    /// Path in the log's folder.
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// Reads a path; any other spelling of it is `None`.
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = match level {
            "entries" => Level::Entries,
            digits => Level::Hashes(digits.parse().ok().filter(|l| *l < LEVELS)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..WIDTH).contains(w))?),
            None => (rest, WIDTH),
        };
        let mut index = 0u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value: u64 = digits.parse().ok().filter(|v| *v < 1000)?;
            index = index.checked_mul(1000)?.checked_add(value)?;
        }
        let tile = Self { level, index, width };
        (tile.path() == path).then_some(tile)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => f.write_str("tile/entries/")?,
            Level::Hashes(l) => write!(f, "tile/{l}/")?,
        }
        let mut scale = 1u64;
        while self.index / scale >= 1000 {
            scale *= 1000;
        }
        while scale > 1 {
            write!(f, "x{:03}/", self.index / scale % 1000)?;
            scale /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_partial() {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// How many hashes or entries a tree of `size` leaves has at a level.
pub fn nodes(level: Level, size: u64) -> u64 {
    match level {
        Level::Entries => size,
        Level::Hashes(l) => size >> (8 * u32::from(l.min(LEVELS - 1))),
    }
}

/// The levels of a tree's files, bundles first.
pub fn levels() -> impl Iterator<Item = Level> {
    std::iter::once(Level::Entries).chain((0..LEVELS).map(Level::Hashes))
}

/// Appends an entry to a bundle's bytes; the entry is at most 65,535 bytes.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), usize> {
    let len = u16::try_from(entry.len()).map_err(|_| entry.len())?;
    debug_assert!(entry.len() <= MAX_ENTRY_BYTES);
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// The entries of a bundle, which must be exactly `width` and nothing after them.
///
/// The error says how many entries could be read and what was wrong after them.
pub fn decode_bundle(bytes: &[u8], width: u64) -> Result<Vec<&[u8]>, String> {
    let (entries, problem) = decode_bundle_prefix(bytes, width);
    match problem {
        None => Ok(entries),
        Some(p) => Err(p),
    }
}

/// As [`decode_bundle`], giving also the entries before what is wrong.
pub(crate) fn decode_bundle_prefix(bytes: &[u8], width: u64) -> (Vec<&[u8]>, Option<String>) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    for i in 0..width {
        let next = rest
            .split_first_chunk::<2>()
            .and_then(|(len, tail)| tail.split_at_checked(usize::from(u16::from_be_bytes(*len))));
        match next {
            Some((entry, tail)) => {
                entries.push(entry);
                rest = tail;
            }
            None => return (entries, Some(format!("the bundle ends inside entry {i} of {width}"))),
        }
    }
    let problem =
        (!rest.is_empty()).then(|| format!("{} bytes follow the last of {width} entries", rest.len()));
    (entries, problem)
}

/// The hashes of a tile, which must be exactly `width`.
pub fn decode_hashes(bytes: &[u8], width: u64) -> Result<Vec<Hash>, String> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() as u64 != width || !rest.is_empty() {
        return Err(format!("expected {width} hashes ({} bytes), found {} bytes", width * 32, bytes.len()));
    }
    Ok(hashes.iter().map(|h| Hash(*h)).collect())
}

/// The bytes of a hash tile.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|h| h.0).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let cases = [
            (Level::Hashes(0), 0, 256, "tile/0/000"),
            (Level::Entries, 999, 1, "tile/entries/999.p/1"),
            (Level::Hashes(0), 1_171, 256, "tile/0/x001/171"),
            (Level::Hashes(1), 1_234_067, 8, "tile/1/x001/x234/067.p/8"),
            (Level::Hashes(7), u64::MAX, 255, "tile/7/x018/x446/x744/x073/x709/x551/615.p/255"),
        ];
        for (level, index, width, path) in cases {
            let tile = Tile { level, index, width };
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse(path), Some(tile));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for path in [
            "checkpoint",
            "tile/0/0",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/00/000",
            "tile/8/000",
            "tile/+1/000",
            "tile/0/001.p/0",
            "tile/0/001.p/256",
            "tile/0/001.p/01",
            "tile/0/001.p/1/2",
            "tile/0/x001",
            "tile/0/001/002",
            "tile/0/+01",
            "/tile/0/000",
            "tile/0/../000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_bundle_is_read_strictly() {
        let mut b = Vec::new();
        push_entry(&mut b, b"ab").unwrap();
        push_entry(&mut b, b"").unwrap();
        assert_eq!(decode_bundle(&b, 2).unwrap(), [&b"ab"[..], b""]);
        assert_eq!(decode_bundle(&b, 1).unwrap_err(), "2 bytes follow the last of 1 entries");
        assert_eq!(decode_bundle(&b, 3).unwrap_err(), "the bundle ends inside entry 2 of 3");
        assert_eq!(decode_bundle(&b[..3], 2).unwrap_err(), "the bundle ends inside entry 0 of 2");
        assert_eq!(push_entry(&mut b, &[0; 65_536]), Err(65_536));
    }

    proptest! {
        #[test]
        fn a_path_reads_back(level in 0u8..9, index: u64, width in 1u64..=256) {
            let level = if level == 8 { Level::Entries } else { Level::Hashes(level) };
            let tile = Tile { level, index, width };
            prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
        }

        #[test]
        fn no_path_panics(path in "(tile/)?[0-9x/.p]{0,40}") {
            if let Some(tile) = Tile::parse(&path) {
                prop_assert_eq!(tile.path(), path);
            }
        }
    }
}
