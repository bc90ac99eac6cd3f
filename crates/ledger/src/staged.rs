//! The staged object of an append: all files that it makes, as one object, so that whoever finds it
//! can finish the append (INTEGRITY section 4, step 1).
//!
//! Format, integers big-endian: the line `keytrail/staged/1`, size of the tree before (u64), size
//! after (u64), root after (32 bytes), number of files (u32); for each file the length of its path
//! (u16), its path, the length of its bytes (u32), its bytes; SHA-256 of all that (32 bytes).

use keytrail_model::Hash;

use crate::tile::Tile;
use crate::tree::{Appended, Object};

const MAGIC: &[u8] = b"keytrail/staged/1\n";

/// Folder of staged objects and of the lock checkpoint, in the data folder.
pub const FOLDER: &str = "log-staging/";

/// A staged append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staged {
    /// Size of the tree that it was built on.
    pub base: u64,
    /// What it makes.
    pub appended: Appended,
}

/// The key of the staged object that makes a tree: `log-staging/<size>-<root hex>`.
pub fn key(size: u64, root: &Hash) -> String {
    format!("{FOLDER}{size}-{root}")
}

/// Size and root of a staged object's key; `None` for other keys.
pub fn parse_key(text: &str) -> Option<(u64, Hash)> {
    let (size, root) = text.strip_prefix(FOLDER)?.split_once('-')?;
    let parsed = (size.parse().ok()?, Hash::from_hex(root)?);
    (key(parsed.0, &parsed.1) == text).then_some(parsed)
}

impl Staged {
    /// The object's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let a = &self.appended;
        let content: usize = a.objects.iter().map(|o| o.path.len() + o.bytes.len() + 6).sum();
        let mut out = Vec::with_capacity(MAGIC.len() + content + 84);
        out.extend_from_slice(MAGIC);
        out.extend(self.base.to_be_bytes());
        out.extend(a.size.to_be_bytes());
        out.extend(a.root.0);
        out.extend((a.objects.len() as u32).to_be_bytes());
        for o in &a.objects {
            out.extend((o.path.len() as u16).to_be_bytes());
            out.extend_from_slice(o.path.as_bytes());
            out.extend((o.bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&o.bytes);
        }
        let sum = Hash::of(&out);
        out.extend(sum.0);
        out
    }

    /// Reads a staged object; its files can only be tiles of the tree that it makes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::read(bytes).ok_or_else(|| "not a whole staged object of format keytrail/staged/1".to_owned())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<32>()?;
        if Hash::of(content).0 != *sum {
            return None;
        }
        let mut rest = content.strip_prefix(MAGIC)?;
        let base = u64::from_be_bytes(take(&mut rest)?);
        let size = u64::from_be_bytes(take(&mut rest)?);
        let root = Hash(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut objects = Vec::new();
        for _ in 0..count {
            let len = u16::from_be_bytes(take(&mut rest)?);
            let path = String::from_utf8(take_slice(&mut rest, usize::from(len))?.to_vec()).ok()?;
            let tile = Tile::parse(&path)?;
            if Tile::at(tile.level, tile.index, size) != Some(tile) {
                return None;
            }
            let len = u32::from_be_bytes(take(&mut rest)?);
            objects.push(Object { path, bytes: take_slice(&mut rest, len as usize)?.to_vec() });
        }
        (rest.is_empty() && base < size).then_some(Self { base, appended: Appended { size, root, objects } })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Edge, append};

    #[test]
    fn it_reads_back_and_notices_changes() {
        let entries: Vec<Vec<u8>> = (0..300u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let appended =
            append(0, &Edge::new().root(), &mut |_| Ok(None), entries.iter().map(Vec::as_slice)).unwrap();
        let staged = Staged { base: 0, appended };
        let bytes = staged.to_bytes();
        assert_eq!(Staged::parse(&bytes).unwrap(), staged);
        for at in (0..bytes.len()).step_by(101) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Staged::parse(&bad).is_err());
            assert!(Staged::parse(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn it_writes_nothing_but_tiles_of_its_tree() {
        for path in ["checkpoint", "../x", "tile/0/001.p/1", "tile/0/000"] {
            let objects = vec![Object { path: path.into(), bytes: vec![1] }];
            let staged = Staged { base: 0, appended: Appended { size: 1, root: Hash::default(), objects } };
            assert!(Staged::parse(&staged.to_bytes()).is_err(), "{path}");
        }
    }

    #[test]
    fn a_key_says_size_and_root() {
        let root = Hash::of(b"r");
        assert_eq!(parse_key(&key(12, &root)), Some((12, root)));
        for other in ["log-staging/lock", "log-staging/012-00", "x/12-00"] {
            assert_eq!(parse_key(other), None);
        }
        assert_eq!(parse_key(&key(12, &root).replace("12-", "012-")), None);
    }
}
