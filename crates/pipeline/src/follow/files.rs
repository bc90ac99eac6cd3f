//! The files that are followed: what a poll finds, and which of them is which.
//!
//! What it is: scanning by polling alone (folders on network mounts tell nothing), and identity: a file is its
//! inode number and its first bytes, and where the number changed, its bytes. What it is not: it reads no
//! record. In: paths, folders and globs. Out: [`Followed`] files.
//!
//! A file that is renamed keeps its position. One that is no longer found is read to its end, by the handle that
//! is held while it is being written, or under the name that it has now in its folder. One that was cut short is
//! new; what was not read of it before is looked for in a copy beside it (rotation by copy and truncate). What
//! cannot be looked at, because its folder or mount fails, is not gone: it stays as it was until it can be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Notice;
use super::file::{self, Followed, Progress, Stat};
use super::position::Stored;
use super::whereabouts::Whereabouts;
use crate::input::{self, Source};

/// Files that are held open at once.
const MAX_HANDLES: usize = 256;

/// Copies of keyless records that are counted at once, before those of still files are forgotten; each takes some 60
/// bytes.
const MAX_COPIES: usize = 1_000_000;

/// Files that are looked into for one that is at a path with another number.
const MAX_LOOKED_INTO: usize = 1_000;

/// How long a file that is not being written stays open, in spans of stillness.
const HANDLE_SPANS: u32 = 4;

/// Files that are followed, by a number of ours.
#[derive(Debug)]
pub(crate) struct Files {
    patterns: Vec<OsString>,
    /// Device and inode of folders that are not looked into: keytrail's own.
    own: HashSet<(u64, u64)>,
    still: Duration,
    files: BTreeMap<u64, Followed>,
    by_path: HashMap<PathBuf, u64>,
    next: u64,
    /// When the last poll was.
    pub polled: Instant,
    /// Files that are held open.
    held: usize,
    /// Where copies of files are that were cut short since the last poll.
    whereabouts: Whereabouts,
    /// A seal covers positions that are not kept yet.
    pub unwritten: bool,
    told: HashSet<String>,
}

impl Files {
    /// Nothing is followed yet. `own` are folders that are no input.
    pub fn new(patterns: &[OsString], own: &[PathBuf], still: Duration, now: Instant) -> Self {
        let id = |p: &PathBuf| fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
        Self {
            patterns: patterns.to_vec(),
            own: own.iter().filter_map(id).collect(),
            still,
            files: BTreeMap::new(),
            by_path: HashMap::new(),
            next: 0,
            polled: now,
            held: 0,
            whereabouts: Whereabouts::default(),
            unwritten: false,
            told: HashSet::new(),
        }
    }

    /// Takes up positions of an earlier process. Files that are not there any more are dealt with by the next poll.
    pub fn restore(&mut self, stored: Vec<Stored>, now: Instant) {
        for s in stored {
            // A file whose path is not UTF-8 is not kept, so that the name is the path.
            let first = (PathBuf::from(&s.name), s.name);
            let mut file = Followed::new(s.path, first, s.stat, s.progress, now);
            if file.unread_bytes() == 0 {
                file.unread_since = None;
            }
            self.insert(file);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Followed)> {
        self.files.iter().map(|(id, f)| (*id, f))
    }

    /// One of them.
    pub fn get_mut(&mut self, id: u64) -> Option<&mut Followed> {
        self.files.get_mut(&id)
    }

    /// All of them, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Followed> {
        self.files.values_mut()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Looks at all files again.
    pub fn poll(&mut self, now: Instant, notices: &mut Vec<Notice>) {
        let before = std::mem::replace(&mut self.polled, now);
        let (found, blind) = self.scan(notices);
        // Not those of `by_path`: one that was rotated and the one that took its name are kept under one path.
        let mut unseen: HashSet<u64> =
            self.files.iter().filter(|(_, f)| f.watched).map(|(id, _)| *id).collect();
        let mut strange = Vec::new();
        for (path, stat) in found {
            let known = self.by_path.get(&path).and_then(|id| Some((*id, self.files.get_mut(id)?)));
            match known {
                Some((id, file)) if file.stat.inode == stat.inode => {
                    file.observe(stat, now, before);
                    unseen.remove(&id);
                }
                _ => strange.push((path, stat)),
            }
        }
        if !blind.is_empty() {
            let is_below = |f: &Followed| f.path.ancestors().any(|above| blind.contains(above));
            unseen.retain(|id| !self.files.get(id).is_some_and(is_below));
        }
        for id in &unseen {
            if let Some(file) = self.files.get(id)
                && self.by_path.get(&file.path) == Some(id)
            {
                self.by_path.remove(&file.path);
            }
        }
        let mut whereabouts = Whereabouts::default();
        self.recognise(strange, &mut unseen, &mut whereabouts, now, before);
        for id in unseen {
            self.depart(id, &mut whereabouts, now, notices);
        }
        self.whereabouts = Whereabouts::default();
        self.see_off(now, before, notices);
    }

    /// Gives paths that are new, or lead to another file now, to files that lost theirs; others are new files.
    fn recognise(
        &mut self,
        strange: Vec<(PathBuf, Stat)>,
        lost: &mut HashSet<u64>,
        whereabouts: &mut Whereabouts,
        now: Instant,
        before: Instant,
    ) {
        // Departed ones may come back, too.
        lost.extend(self.files.iter().filter(|(_, f)| !f.watched).map(|(id, _)| *id));
        let by_inode: HashMap<u64, u64> =
            lost.iter().filter_map(|id| Some((self.files.get(id)?.stat.inode, *id))).collect();
        for (path, stat) in strange {
            let found = if lost.is_empty() {
                None
            } else {
                self.lost_one(&path, &stat, lost, &by_inode, whereabouts)
            };
            match found {
                Some(id) => {
                    lost.remove(&id);
                    let Some(mut file) = self.files.remove(&id) else { continue };
                    file.moved(path.clone(), stat);
                    file.observe(stat, now, before);
                    self.files.insert(id, file);
                    self.by_path.insert(path, id);
                }
                None => {
                    let first = (path.clone(), input::Input::path(&path).name);
                    let mut file = Followed::new(path, first, stat, Progress::Unread, now);
                    file.unread_since = Some(before);
                    self.insert(file);
                }
            }
        }
    }

    /// The lost file that is at this path now.
    fn lost_one(
        &self,
        path: &Path,
        stat: &Stat,
        lost: &HashSet<u64>,
        by_inode: &HashMap<u64, u64>,
        whereabouts: &mut Whereabouts,
    ) -> Option<u64> {
        let is_it = |id: &u64| {
            let known = self.files.get(id)?;
            let same = match &known.progress {
                Progress::Growing(_) => file::open(path).is_ok_and(|f| known.is_known(&f)),
                // It is read whole if it is not what it was.
                Progress::Whole { .. } | Progress::Unread => known.stat.inode == stat.inode,
            };
            same.then_some(*id)
        };
        // A mount that gives new numbers gives those of other files, too.
        if let Some(id) = by_inode.get(&stat.inode).filter(|id| lost.contains(id)).and_then(is_it) {
            return Some(id);
        }
        // Another number: the file was put in place of itself, or the mount gives new ones. Where it goes on elsewhere,
        // this is another one that begins in the same way.
        let likely = |f: &Followed| f.path == path || (stat.size >= f.stat.size && !f.watched);
        let mut others = lost.iter().filter(|id| {
            self.files.get(id).is_some_and(|f| matches!(f.progress, Progress::Growing(_)) && likely(f))
        });
        let found = others.by_ref().take(MAX_LOOKED_INTO).find_map(is_it)?;
        let goes_on = self.files.get(&found).is_some_and(|known| match &known.handle {
            Some(file) => file.metadata().is_ok_and(|m| m.nlink() > 0 || m.size() > known.read_bytes()),
            None => whereabouts.renamed(known).is_some(),
        });
        (!goes_on).then_some(found)
    }

    fn insert(&mut self, file: Followed) -> u64 {
        let id = self.next;
        self.next += 1;
        if file.watched {
            self.by_path.insert(file.path.clone(), id);
        }
        self.files.insert(id, file);
        id
    }

    /// A file is at none of the paths that are followed. What was not read of it is, if it can be found.
    fn depart(&mut self, id: u64, whereabouts: &mut Whereabouts, now: Instant, notices: &mut Vec<Notice>) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if !file.watched {
            return;
        }
        file.watched = false;
        file.changed = now;
        if file.handle.is_none() {
            file.handle = whereabouts.find(file);
        }
        if file.handle.is_none() {
            if file.unread_bytes() > 0 {
                notices.push(Notice::Vanished { file: file.name.clone(), unread_bytes: file.unread_bytes() });
            }
            self.files.remove(&id);
        }
    }

    /// A watched file was cut short or written anew. What was not read of what it was may be in a copy.
    pub fn written_anew(&mut self, id: u64, now: Instant, notices: &mut Vec<Notice>) {
        let Some(file) = self.files.get_mut(&id) else { return };
        if !file.watched {
            self.files.remove(&id);
            return;
        }
        notices.push(Notice::WrittenAnew { file: file.name.clone() });
        let first = (file.first_path.clone(), file.name.clone());
        let mut fresh = Followed::new(file.path.clone(), first, file.stat, Progress::Unread, now);
        fresh.declared.clone_from(&file.declared);
        let mut old = std::mem::replace(file, fresh);
        old.handle = None;
        old.watched = false;
        old.changed = now;
        if let Some(copy) = self.whereabouts.find(&old)
            && let Ok(m) = copy.metadata()
        {
            old.stat = Stat::from(&m);
            old.handle = Some(copy);
            self.insert(old);
        }
    }

    /// Follows departed files until they are still and read, and closes what is not written any more.
    fn see_off(&mut self, now: Instant, before: Instant, notices: &mut Vec<Notice>) {
        let mut open = 0;
        let mut copies: usize = self.files.values().map(|f| f.copies.len()).sum();
        let still = self.still;
        self.files.retain(|_, file| {
            if !file.watched {
                let stat = file.handle.as_ref().and_then(|h| h.metadata().ok()).map(|m| Stat::from(&m));
                match stat {
                    Some(stat) => file.observe(stat, now, before),
                    None => {
                        if file.unread_bytes() > 0 {
                            let (file, unread_bytes) = (file.name.clone(), file.unread_bytes());
                            notices.push(Notice::Vanished { file, unread_bytes });
                        }
                        return false;
                    }
                }
                return !file.is_done(now, still) || file.progress != file.sealed;
            }
            let old = now.duration_since(file.changed) > still * HANDLE_SPANS;
            if old && copies > MAX_COPIES && !file.copies.is_empty() {
                copies -= file.copies.len();
                file.forget_copies();
            }
            if file.handle.is_some() {
                open += usize::from(!old);
                if old || open > MAX_HANDLES {
                    file.handle = None;
                }
            }
            true
        });
        self.held = self.files.values().filter(|f| f.handle.is_some()).count();
    }

    /// What of the patterns is there now, and the paths of which nobody can tell what is there.
    fn scan(&mut self, notices: &mut Vec<Notice>) -> (Vec<(PathBuf, Stat)>, HashSet<PathBuf>) {
        let mut found = Vec::new();
        let mut blind = HashSet::new();
        let mut troubles = HashSet::new();
        for pattern in &self.patterns {
            match input::expand_but(std::slice::from_ref(pattern), &|folder| self.own.contains(&folder)) {
                // Nothing is there yet, or the folder fails.
                Err(_) => {
                    if fs::metadata(pattern).is_err_and(|e| !is_absence(&e)) {
                        blind.insert(PathBuf::from(pattern));
                    }
                    troubles.insert(pattern.to_string_lossy().into_owned());
                }
                Ok(inputs) => {
                    for input in inputs {
                        let Source::Path(path) = input.source else { continue };
                        match fs::metadata(&path) {
                            Ok(m) if m.is_file() => found.push((path, Stat::from(&m))),
                            // It vanished in this moment.
                            Err(e) if is_absence(&e) => {}
                            Ok(_) | Err(_) => {
                                troubles.insert(input.name);
                                blind.insert(path);
                            }
                        }
                    }
                }
            }
        }
        for new in troubles.difference(&self.told) {
            notices.push(Notice::Unreadable {
                file: new.clone(),
                why: "no such file or folder, or no right to look at it; it is looked for at every poll"
                    .into(),
            });
        }
        self.told = troubles;
        if self.patterns.len() > 1 {
            found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            found.dedup_by(|(a, _), (b, _)| a == b);
        }
        (found, blind)
    }

    /// Opened files stay open while they are written.
    pub fn hold(&mut self, id: u64, file: &Arc<fs::File>) {
        if self.held < MAX_HANDLES
            && let Some(followed) = self.files.get_mut(&id)
            && matches!(followed.progress, Progress::Growing(_))
        {
            self.held += usize::from(followed.handle.is_none());
            followed.handle = Some(Arc::clone(file));
        }
    }
}

/// Whether an error says that nothing is there, and not that nobody can look.
fn is_absence(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
