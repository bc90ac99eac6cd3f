//! Checks every byte of a log and names all that is wrong, not only the first thing.
//!
//! In: a reader of the log's files, their list, keys, a known head. Out: [`Finding`]s, the head, and
//! each entry as it is read. It knows nothing of what entries mean.
//!
//! Three things tell a block of 256 leaves: its entries (bundle), its level-0 tile, and its hash in
//! level 1. The checkpoint's root says which of them is right; what disagrees with it is named. A
//! block is read at a time; kept are 32 bytes a block and kind, and the findings.

mod blame;

use std::collections::BTreeSet;

use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;

use crate::checkpoint::Checkpoint;
use crate::finding::{Code, Finding};
use crate::keys::LogKeys;
use crate::note::Note;
use crate::tile::{CHECKPOINT, Level, Tile, WIDTH, decode_bundle_prefix, decode_hashes, nodes};
use crate::tree::{fold, perfect_root};

/// A head can claim any size. Beyond the last file that is there, this many blocks are named as missing
/// one by one, then no more.
const MAX_MISSING_BLOCKS: u64 = 1_000;

/// Reads a file of the log by its path in the log's folder; `None`: there is no such file.
pub type ReadFile<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, String> + 'a;

/// An entry as its bundle has it.
#[derive(Clone, Copy, Debug)]
pub struct AuditedEntry<'a> {
    /// Its place in the log.
    pub index: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The level-0 tile says the same hash. Where it does not, one of the two is wrong, and named.
    pub agrees: bool,
}

/// What an audit gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audit {
    /// All that is wrong with the log.
    pub findings: Vec<Finding>,
    /// The log's head: signed by the keys, or, where none were given, as it stands there. `None`: it is
    /// missing, or not what the keys signed.
    pub checkpoint: Option<Checkpoint>,
    /// Entries that the log should have: the head's size, or where it cannot be trusted, that of the files.
    pub size: u64,
    /// Whether given keys signed the head and its root is that of the entries and tiles. It proves
    /// authenticity only if the keys did not come from the archive itself.
    pub authentic: bool,
}

/// Audits a log.
///
/// `read` gives a file by its path in the log's folder, `files` lists all files of that folder
/// (relative, too). `keys`: `None` leaves signatures unchecked. `known`: an older head, checked by
/// whoever gives it. The error is the reader's: the log could not be verified.
///
/// A log that a writer extends meanwhile can show findings that are not there when it is read again:
/// callers hold the writer off or repeat while the checkpoint changes.
pub fn audit(
    read: &ReadFile<'_>,
    files: &[String],
    keys: Option<&LogKeys>,
    known: Option<&Checkpoint>,
    on_entry: &mut dyn FnMut(AuditedEntry<'_>),
) -> Result<Audit, String> {
    let mut a = Auditor { read, findings: Vec::new(), files: files.iter().map(String::as_str).collect() };
    let (claimed, trusted) = a.head(keys)?;
    let there = a.size_there();
    // A head that nobody signed may say anything: what is there decides where the log ends.
    let size = match &claimed {
        Some(c) if trusted => c.size,
        _ => there,
    };
    let expected = claimed.as_ref().filter(|c| c.size == size).map(|c| (c.root, trusted));
    let scanned = a.scan(size, there, on_entry)?;
    let truth = a.judge(scanned, expected)?;
    a.upper_levels(&truth)?;
    a.other_files(&truth)?;
    if let Some(known) = known {
        a.against_known(known, claimed.as_ref(), &truth)?;
    }
    Ok(Audit {
        findings: a.findings,
        size: truth.size,
        authentic: keys.is_some() && trusted && truth.proven,
        checkpoint: claimed.filter(|_| trusted),
    })
}

struct Auditor<'a> {
    read: &'a ReadFile<'a>,
    files: BTreeSet<&'a str>,
    findings: Vec<Finding>,
}

/// Hashes of a level-1 node for each block of 256 leaves, as one kind of file gives them.
type Blocks = Vec<Option<Hash>>;

/// Leaf hashes of the last, partial block.
type Tail = Option<Vec<Hash>>;

/// What the three kinds of files say.
struct Scanned {
    size: u64,
    /// Not all of the blocks that the size asks for were looked at.
    cut: bool,
    entries: Blocks,
    tiles: Blocks,
    parents: Blocks,
    entries_tail: Tail,
    tiles_tail: Tail,
    /// Blocks of which a file is unreadable or disagrees with another.
    bad: BTreeSet<u64>,
}

/// What is taken to be right.
struct Truth {
    size: u64,
    blocks: Blocks,
    tail: Tail,
    /// The root is the head's.
    proven: bool,
}

impl Truth {
    /// Node hashes of a level from 1 up, in the tree's order.
    fn level(&self, level: u8) -> Blocks {
        let mut row = self.blocks.clone();
        for _ in 1..level {
            row = row
                .chunks_exact(WIDTH as usize)
                .map(|c| c.iter().copied().collect::<Option<Vec<_>>>().map(|h| perfect_root(&h)))
                .collect();
        }
        row
    }
}

/// Root over whole blocks and a tail; `None` where a part is unknown.
fn root(blocks: &[Option<Hash>], tail: Option<&[Hash]>) -> Option<Hash> {
    let blocks: Vec<Hash> = blocks.iter().copied().collect::<Option<_>>()?;
    Some(fold(&blocks, fold(tail?, None)).unwrap_or_else(|| Hash::of(b"")))
}

/// A block's leaf hashes as its bundle and its tile give them.
struct Block {
    /// Of the entries that could be read, in order.
    entries: Vec<Hash>,
    /// They are all there.
    entries_whole: bool,
    tile: Option<Vec<Hash>>,
}

impl Auditor<'_> {
    fn find(&mut self, code: Code, path: &str, message: impl Into<String>) {
        self.findings.push(Finding::new(code, format!("log/{path}"), message));
    }

    fn missing(&mut self, path: &str) {
        self.find(Code::FileMissing, path, "it is not there, and a log of this size has it");
    }

    /// The head as it stands there, and whether its words can be trusted.
    fn head(&mut self, keys: Option<&LogKeys>) -> Result<(Option<Checkpoint>, bool), String> {
        let Some(bytes) = (self.read)(CHECKPOINT)? else {
            self.find(Code::FileMissing, CHECKPOINT, "it is not there: the log has no signed head");
            return Ok((None, false));
        };
        let stands = Note::parse(&bytes).and_then(|n| Checkpoint::parse_body(&n.text));
        let opened = match keys {
            Some(keys) => keys.open(&bytes),
            None => stands.clone(),
        };
        Ok(match opened {
            Ok(checkpoint) => (Some(checkpoint), true),
            Err(why) => {
                self.find(Code::SigInvalid, CHECKPOINT, why);
                (stands.ok(), false)
            }
        })
    }

    /// The size that the files there give the log.
    fn size_there(&self) -> u64 {
        let leaves = |t: Tile| t.index.saturating_mul(WIDTH).saturating_add(t.width);
        self.files
            .iter()
            .filter_map(|f| Tile::parse(f))
            .filter(|t| matches!(t.level, Level::Entries | Level::Hashes(0)))
            .map(leaves)
            .max()
            .unwrap_or(0)
    }

    /// Reads all bundles, level-0 and level-1 tiles once.
    fn scan(
        &mut self,
        size: u64,
        there: u64,
        on_entry: &mut dyn FnMut(AuditedEntry<'_>),
    ) -> Result<Scanned, String> {
        let blocks = size.div_ceil(WIDTH);
        let limit = self.blocks_there(there).saturating_add(MAX_MISSING_BLOCKS);
        let mut s = Scanned {
            size,
            cut: blocks > limit,
            entries: Vec::new(),
            tiles: Vec::new(),
            parents: Vec::new(),
            // The empty tail is known.
            entries_tail: size.is_multiple_of(WIDTH).then(Vec::new),
            tiles_tail: size.is_multiple_of(WIDTH).then(Vec::new),
            bad: BTreeSet::new(),
        };
        for index in 0..blocks.min(limit) {
            let block = self.block(index, size, true, on_entry)?;
            let entries = block.entries_whole.then_some(block.entries);
            if entries.is_none() || entries != block.tile {
                s.bad.insert(index);
            }
            if (index + 1).saturating_mul(WIDTH) <= size {
                s.entries.push(entries.map(|h| perfect_root(&h)));
                s.tiles.push(block.tile.map(|h| perfect_root(&h)));
            } else {
                s.entries_tail = entries;
                s.tiles_tail = block.tile;
            }
        }
        if s.cut {
            let from = limit * WIDTH;
            self.find(
                Code::FileMissing,
                "tile",
                format!("so are all files of the leaves {from} to {}, not named one by one", size - 1),
            );
        }
        let parents = Level::Hashes(1);
        for index in 0..(s.tiles.len() as u64).div_ceil(WIDTH) {
            let Some(tile) = Tile::at(parents, index, size) else { break };
            let hashes = match (self.read)(&tile.path())? {
                None => {
                    self.missing(&tile.path());
                    None
                }
                // What is wrong with it is said when it is compared.
                Some(bytes) => decode_hashes(&bytes, tile.width).ok(),
            };
            match hashes {
                Some(h) => s.parents.extend(h.into_iter().map(Some)),
                None => s.parents.resize(s.parents.len() + tile.width as usize, None),
            }
        }
        s.parents.resize(s.tiles.len(), None);
        Ok(s)
    }

    /// How many blocks are worth to be looked at: one after another as far as files go.
    ///
    /// A single file with a huge number does not make the log as long as it says.
    fn blocks_there(&self, there: u64) -> u64 {
        there.div_ceil(WIDTH).min(self.files.len() as u64)
    }

    /// Reads a block; says what is missing or unreadable if `first`.
    fn block(
        &mut self,
        index: u64,
        size: u64,
        first: bool,
        on_entry: &mut dyn FnMut(AuditedEntry<'_>),
    ) -> Result<Block, String> {
        let mut block = Block { entries: Vec::new(), entries_whole: false, tile: None };
        let (Some(bundle), Some(tile)) =
            (Tile::at(Level::Entries, index, size), Tile::at(Level::Hashes(0), index, size))
        else {
            return Ok(block);
        };
        match (self.read)(&tile.path())? {
            None if first => self.missing(&tile.path()),
            None => {}
            Some(bytes) => match decode_hashes(&bytes, tile.width) {
                Ok(hashes) => block.tile = Some(hashes),
                Err(why) if first => self.find(Code::TileMismatch, &tile.path(), why),
                Err(_) => {}
            },
        }
        match (self.read)(&bundle.path())? {
            None if first => self.missing(&bundle.path()),
            None => {}
            Some(bytes) => {
                let (entries, problem) = decode_bundle_prefix(&bytes, bundle.width);
                block.entries = entries.iter().map(|e| leaf_hash(e)).collect();
                block.entries_whole = entries.len() as u64 == bundle.width;
                if let Some(why) = problem.filter(|_| first) {
                    self.find(Code::LeafMismatch, &bundle.path(), why);
                }
                for (i, (bytes, hash)) in entries.iter().zip(&block.entries).enumerate() {
                    let agrees = block.tile.as_ref().is_some_and(|t| t.get(i) == Some(hash));
                    on_entry(AuditedEntry { index: index * WIDTH + i as u64, bytes, agrees });
                }
            }
        }
        Ok(block)
    }

    /// Compares the stored tiles of levels 1 and up with what the level below gives.
    fn upper_levels(&mut self, truth: &Truth) -> Result<(), String> {
        for level in 1..crate::tile::LEVELS {
            let row = truth.level(level);
            if row.is_empty() {
                break;
            }
            for (index, hashes) in row.chunks(WIDTH as usize).enumerate() {
                let Some(tile) = Tile::at(Level::Hashes(level), index as u64, truth.size) else { break };
                let path = tile.path();
                match (self.read)(&path)? {
                    // Level 1 was read before.
                    None if level > 1 => self.missing(&path),
                    None => {}
                    Some(bytes) => match decode_hashes(&bytes, tile.width) {
                        Err(why) => self.find(Code::TileMismatch, &path, why),
                        Ok(stored) => {
                            let wrong: Vec<String> = (0u64..)
                                .zip(stored.iter().zip(hashes))
                                .filter(|(_, (s, h))| h.is_some_and(|h| h != **s))
                                .map(|(i, _)| i.to_string())
                                .collect();
                            if !wrong.is_empty() {
                                let message = format!(
                                    "the level below gives other values for the hashes {}",
                                    wrong.join(", ")
                                );
                                self.find(Code::TileMismatch, &path, message);
                            }
                        }
                    },
                }
            }
        }
        Ok(())
    }

    /// Files that the head does not ask for: superseded partial tiles must be right, others not be there.
    fn other_files(&mut self, truth: &Truth) -> Result<(), String> {
        let files = std::mem::take(&mut self.files);
        for file in &files {
            let tile = Tile::parse(file);
            let expected = tile.and_then(|t| Tile::at(t.level, t.index, truth.size));
            match (tile, expected) {
                _ if *file == CHECKPOINT => {}
                (Some(tile), Some(expected)) if tile.width < expected.width => {
                    self.superseded(tile, truth)?;
                }
                (Some(tile), Some(expected)) if tile == expected => {}
                _ => self.find(Code::FileUnlisted, file, "the log's head does not ask for this file"),
            }
        }
        self.files = files;
        Ok(())
    }

    fn superseded(&mut self, tile: Tile, truth: &Truth) -> Result<(), String> {
        let path = tile.path();
        let Some(bytes) = (self.read)(&path)? else { return Ok(()) };
        let right: Blocks = match tile.level {
            Level::Entries | Level::Hashes(0) => self
                .leaves(tile.index, truth)?
                .map_or_else(Vec::new, |leaves| leaves.into_iter().map(Some).collect()),
            Level::Hashes(level) => {
                let row = truth.level(level);
                row.chunks(WIDTH as usize)
                    .nth(tile.index as usize)
                    .map_or_else(Vec::new, <[Option<Hash>]>::to_vec)
            }
        };
        let (code, found) = match tile.level {
            Level::Entries => {
                let (entries, problem) = decode_bundle_prefix(&bytes, tile.width);
                let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
                (Code::LeafMismatch, problem.map_or(Ok(hashes), Err))
            }
            Level::Hashes(_) => (Code::TileMismatch, decode_hashes(&bytes, tile.width)),
        };
        match found {
            Err(why) => self.find(code, &path, why),
            Ok(hashes) => {
                if hashes.iter().zip(&right).any(|(f, r)| r.is_some_and(|r| r != *f)) {
                    self.find(code, &path, "it is not the start of the wider one that superseded it");
                }
            }
        }
        Ok(())
    }

    /// The leaf hashes of a block that give its true root, if a file has them.
    fn leaves(&mut self, index: u64, truth: &Truth) -> Result<Option<Vec<Hash>>, String> {
        let Some(root) = usize::try_from(index).ok().and_then(|i| truth.blocks.get(i)) else {
            return Ok((index == truth.size / WIDTH).then(|| truth.tail.clone()).flatten());
        };
        let block = self.block(index, truth.size, false, &mut |_| {})?;
        let entries = block.entries_whole.then_some(block.entries);
        Ok([block.tile, entries].into_iter().flatten().find(|h| Some(perfect_root(h)) == *root))
    }

    /// Whether the log starts with the tree that is known.
    fn against_known(
        &mut self,
        known: &Checkpoint,
        claimed: Option<&Checkpoint>,
        truth: &Truth,
    ) -> Result<(), String> {
        if let Some(c) = claimed
            && c.origin != known.origin
        {
            let message = format!("its origin is `{}`, the known one's `{}`", c.origin, known.origin);
            self.find(Code::Fork, CHECKPOINT, message);
            return Ok(());
        }
        if truth.size < known.size {
            let message = format!("the log has {} entries, {} were known before", truth.size, known.size);
            self.find(Code::Rollback, CHECKPOINT, message);
            return Ok(());
        }
        let found = match claimed {
            Some(c) if c.size == known.size => Some(c.root),
            // Where the entries are not the head's, that is named already and says nothing of the head.
            Some(c) if c.size == truth.size && !truth.proven => None,
            _ => {
                let whole = nodes(Level::Hashes(1), known.size);
                let tail = match known.size % WIDTH {
                    0 => Some(Vec::new()),
                    n => self.leaves(whole, truth)?.and_then(|l| l.get(..n as usize).map(<[Hash]>::to_vec)),
                };
                truth.blocks.get(..whole as usize).and_then(|b| root(b, tail.as_deref()))
            }
        };
        if let Some(found) = found.filter(|f| *f != known.root) {
            let message = format!(
                "at size {} its root is `{found}`, the known one is `{}`: two histories",
                known.size, known.root
            );
            self.find(Code::Fork, CHECKPOINT, message);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
