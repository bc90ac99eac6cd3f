//! Which of the files that disagree is wrong.

use keytrail_model::Hash;

use super::{Auditor, Block, Blocks, Scanned, Tail, Truth, root};
use crate::finding::Code;
use crate::tile::{CHECKPOINT, Level, Tile, WIDTH};

impl Auditor<'_> {
    /// Decides what is right and names each bundle and level-0 tile that is not. `head` is its root and
    /// whether it can be trusted: one that cannot may still be right.
    pub(super) fn judge(&mut self, s: Scanned, head: Option<(Hash, bool)>) -> Result<Truth, String> {
        let truth = choose(&s, head.map(|(root, _)| root));
        let blocks = s.entries.len() as u64;
        let wrong = (0..blocks).filter(|i| {
            let i = *i as usize;
            s.entries[i] != truth.blocks[i] || s.tiles[i] != truth.blocks[i]
        });
        let mut bad = s.bad.clone();
        bad.extend(wrong);
        if s.entries_tail != truth.tail || s.tiles_tail != truth.tail {
            bad.insert(blocks);
        }
        for index in bad {
            self.blame(index, &s, &truth)?;
        }
        if !truth.proven
            && !s.cut
            && let Some((expected, true)) = head
            && let Some(found) = root(&truth.blocks, truth.tail.as_deref())
        {
            let message =
                format!("the entries give the root `{found}` at size {}, the head says `{expected}`", s.size);
            self.find(Code::LeafMismatch, CHECKPOINT, message);
        }
        Ok(truth)
    }

    fn blame(&mut self, index: u64, s: &Scanned, truth: &Truth) -> Result<(), String> {
        let block = self.block(index, s.size, false, &mut |_| {})?;
        let (Some(bundle), Some(tile)) =
            (Tile::at(Level::Entries, index, s.size), Tile::at(Level::Hashes(0), index, s.size))
        else {
            return Ok(());
        };
        let suspects = suspects(index, &block, s, truth);
        let hashes = block.tile.as_deref().unwrap_or_default();
        let differing: Vec<usize> =
            (0..block.entries.len().min(hashes.len())).filter(|i| block.entries[*i] != hashes[*i]).collect();
        if suspects.entries && !(suspects.tile && suspects.judged) {
            for i in &differing {
                let (leaf, found, expected) = (index * WIDTH + *i as u64, block.entries[*i], hashes[*i]);
                let message =
                    format!("leaf {leaf} has the hash `{found}`, the tile above it says `{expected}`");
                self.find(Code::LeafMismatch, &bundle.path(), message);
            }
        }
        if suspects.entries && block.entries_whole && suspects.judged && (suspects.tile || hashes.is_empty())
        {
            let (first, last) = (index * WIDTH, index * WIDTH + bundle.width - 1);
            let message =
                format!("one or more of the leaves {first} to {last} are not those of the signed tree");
            self.find(Code::LeafMismatch, &bundle.path(), message);
        }
        if suspects.tile {
            let message = if differing.is_empty() {
                "its hashes are not those that the level above was made of".to_owned()
            } else {
                let list: Vec<String> = differing.iter().map(usize::to_string).collect();
                format!("the entries give other values for the hashes {}", list.join(", "))
            };
            self.find(Code::TileMismatch, &tile.path(), message);
        }
        Ok(())
    }
}

/// Which of a block's two files may be wrong. One that is missing or does not parse is named already.
struct Suspects {
    entries: bool,
    tile: bool,
    /// A proven root or the level above tells; else each of two that disagree is suspect.
    judged: bool,
}

fn suspects(index: u64, block: &Block, s: &Scanned, truth: &Truth) -> Suspects {
    let i = index as usize;
    let (entries, tile) = if i < s.entries.len() {
        let wrong = |h: Option<Hash>| h.is_some_and(|h| Some(h) != truth.blocks[i]);
        (wrong(s.entries[i]), wrong(s.tiles[i]))
    } else {
        let wrong = |t: &Tail| t.is_some() && *t != truth.tail;
        (wrong(&s.entries_tail), wrong(&s.tiles_tail))
    };
    let parent = s.parents.get(i).copied().flatten();
    let judged = truth.proven || parent.is_some_and(|p| [s.entries[i], s.tiles[i]].contains(&Some(p)));
    if entries != tile && !judged && block.entries_whole && block.tile.is_some() {
        return Suspects { entries: true, tile: true, judged };
    }
    // Entries before the place where a bundle breaks are compared with a tile that is right.
    Suspects { entries: entries || (!block.entries_whole && !tile), tile, judged }
}

/// The combination of what the files say that gives the head's root; the most likely one if none does.
fn choose(s: &Scanned, expected: Option<Hash>) -> Truth {
    // Two of three that agree are right, unless all of a block was rewritten but what is above it.
    let agreed: Blocks = (0..s.entries.len())
        .map(|i| {
            let (e, t, p) = (s.entries[i], s.tiles[i], s.parents[i]);
            if e.is_some() && (e == t || e == p) { e } else { t.filter(|_| t == p) }
        })
        .collect();
    let kinds = [&s.tiles, &s.entries, &s.parents];
    let or = |a: &Blocks, b: &Blocks| -> Blocks { a.iter().zip(b).map(|(a, b)| a.or(*b)).collect() };
    // Where nothing agrees, each kind in turn is believed first.
    let believed = [0, 1, 2].map(|k| {
        let rest = or(&or(kinds[0], kinds[1]), kinds[2]);
        (or(&agreed, &or(kinds[k], &rest)), or(kinds[k], &or(&agreed, &rest)))
    });
    let tails = [
        s.tiles_tail.clone().or_else(|| s.entries_tail.clone()),
        s.entries_tail.clone().or_else(|| s.tiles_tail.clone()),
    ];
    if !s.cut && expected.is_some() {
        for blocks in believed.iter().map(|b| &b.0).chain(believed.iter().map(|b| &b.1)) {
            for tail in &tails {
                if root(blocks, tail.as_deref()) == expected {
                    return Truth { size: s.size, blocks: blocks.clone(), tail: tail.clone(), proven: true };
                }
            }
        }
    }
    let [tail, _] = tails;
    let [(blocks, _), ..] = believed;
    Truth { size: s.size, blocks, tail, proven: false }
}
