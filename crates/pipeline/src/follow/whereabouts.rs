//! Where a file is now that is no longer at its path: in its folder, under another name.
//!
//! What it is: one look into folders, for all the files that one poll misses. What it is not: it decides nothing
//! about them. In: a file that is missed. Out: the file, open; or that of a copy with its bytes.
//!
//! By number and bytes a file is found for certain, and for all that are missed. By bytes alone, which costs a look into
//! each candidate, the likeliest are tried, and of others as many as a poll has time for: somebody who removes thousands
//! of files must not hold up those that go on.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{self, Followed, Progress, Stat};

/// Files that are looked into for one that lost its number, too.
const LOOKS_A_FILE: usize = 1_000;
/// All such looks of a poll.
const LOOKS: usize = 10_000;

/// Folders that were looked into.
#[derive(Debug, Default)]
pub(super) struct Whereabouts {
    folders: HashMap<PathBuf, Folder>,
    looks: usize,
}

#[derive(Debug, Default)]
struct Folder {
    /// Paths by the number that the folder has for them.
    by_inode: HashMap<u64, Vec<PathBuf>>,
    /// Files, newest first, once they were asked for.
    newest: Option<Vec<(Stat, PathBuf)>>,
}

impl Whereabouts {
    /// The file itself, under another name.
    pub fn renamed(&mut self, missed: &Followed) -> Option<Arc<File>> {
        let paths = self.folder(missed)?.by_inode.get(&missed.stat.inode)?;
        let mut others = paths.iter().filter(|path| **path != missed.path);
        others.find_map(|path| opened(path, missed))
    }

    /// The file under another name, or a copy of it.
    pub fn find(&mut self, missed: &Followed) -> Option<Arc<File>> {
        if let Some(file) = self.renamed(missed) {
            return Some(file);
        }
        let left = LOOKS.saturating_sub(self.looks).min(LOOKS_A_FILE);
        let inode = missed.stat.inode;
        let name = missed.path.file_name().map(OsStr::as_bytes).unwrap_or_default();
        // Rotation adds to a name, before its ending or behind it.
        let stem = missed.path.file_stem().map_or(name, OsStr::as_bytes);
        let is_likely = |stat: &Stat, path: &Path| {
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            let added = name.strip_prefix(stem).is_some_and(|rest| matches!(rest, [b'.' | b'-' | b'_', ..]));
            stat.inode == inode || added
        };
        let files = self.folder(missed)?.newest_first();
        let may_be = |stat: &Stat, path: &Path| stat.size >= missed.read_bytes() && path != missed.path;
        let candidates = || files.iter().filter(|(stat, path)| may_be(stat, path));
        let likely = candidates().filter(|(stat, path)| is_likely(stat, path)).take(LOOKS_A_FILE);
        let others = candidates().filter(|(stat, path)| !is_likely(stat, path)).take(left);
        let mut looks = 0;
        let found = likely.chain(others).find_map(|(_, path)| {
            looks += 1;
            opened(path, missed)
        });
        self.looks += looks;
        found
    }

    /// The folder of a file that was read as it grew; others are not known by their bytes.
    fn folder(&mut self, missed: &Followed) -> Option<&mut Folder> {
        let Progress::Growing(_) = &missed.progress else { return None };
        let path = missed.path.parent()?;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        if !self.folders.contains_key(path) {
            self.folders.insert(path.to_path_buf(), Folder::of(path));
        }
        self.folders.get_mut(path)
    }
}

impl Folder {
    fn of(path: &Path) -> Self {
        let mut folder = Self::default();
        // One that cannot be read holds nothing that could be opened.
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            folder.by_inode.entry(entry.ino()).or_default().push(entry.path());
        }
        folder
    }

    fn newest_first(&mut self) -> &[(Stat, PathBuf)] {
        let paths = &self.by_inode;
        self.newest.get_or_insert_with(|| {
            let mut files: Vec<(Stat, PathBuf)> = paths
                .values()
                .flatten()
                .filter_map(|path| {
                    let m = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
                    Some((Stat::from(&m), path.clone()))
                })
                .collect();
            files.sort_by_key(|(stat, _)| std::cmp::Reverse(stat.modified));
            files
        })
    }
}

fn opened(path: &Path, missed: &Followed) -> Option<Arc<File>> {
    let file = file::open(path).ok()?;
    missed.is_known(&file).then(|| Arc::new(file))
}
