//! One file that is followed: what was seen of it, what was read of it, and what is due.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keytrail_model::Hash;
use keytrail_normalize::framing::{Splitter, WINDOW_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archiver::Copies;
use crate::config::DeclaredSource;
use crate::input::part::{Beginning, Part, PartRead, Position, Span, beginning};
use crate::input::{Input, Limits};

/// Bytes at the start of a file, and before the position in it, that tell it from others.
const PRINT_BYTES: u64 = 1_024;

/// Bytes that decide how a file is read, with room for whitespace before them.
const HEAD_BYTES: u64 = WINDOW_BYTES as u64 + 4_096;

/// Bytes of a file read at a time, so that others have their turn.
const PART_BYTES: u64 = 64 << 20;

/// What the file system says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stat {
    /// Its number on the file system, which on network mounts may change.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: i64,
}

impl From<&Metadata> for Stat {
    fn from(m: &Metadata) -> Self {
        let modified = m.mtime().saturating_mul(1_000_000_000).saturating_add(m.mtime_nsec());
        Self { inode: m.ino(), size: m.size(), modified }
    }
}

/// What tells a file from others, whatever its name and number: its first bytes, and those before the position.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Print {
    /// How many bytes were read of the file.
    at: u64,
    /// Over the first of them.
    head: Hash,
    /// Over the last of them.
    near: Hash,
}

impl Print {
    fn of(file: &File, at: u64) -> io::Result<Self> {
        let few = at.min(PRINT_BYTES);
        Ok(Self { at, head: hash(file, 0, few)?, near: hash(file, at - few, few)? })
    }

    /// Whether a file begins with what was read of this one. An error tells neither.
    fn fits(&self, file: &File) -> io::Result<bool> {
        match Self::of(file, self.at) {
            Ok(other) => Ok(other == *self),
            // It is shorter.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn hash(file: &File, at: u64, bytes: u64) -> io::Result<Hash> {
    let mut buffer = vec![0; bytes as usize];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Hash(Sha256::digest(&buffer).into()))
}

/// How far a file was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Progress {
    /// Nothing was read, and too little is there to tell how.
    Unread,
    /// Records are read as they come.
    Growing(Growing),
    /// It is read whole when it is complete, and again when it changed.
    Whole {
        /// What it was when it was read.
        taken: Option<Stat>,
    },
}

/// A file whose records are read as they come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Growing {
    pub position: Position,
    /// How records are cut was decided by fewer bytes than decide it for good.
    pub early: bool,
    /// What was read then held frames that were no records: they are cut again when it is decided.
    pub had_bad: bool,
    /// The file's size when the record without end was last taken as it is.
    pub rest_taken: u64,
    /// Its records had no producer's key: copies are counted, and the counts are not kept with the position.
    pub keyless: bool,
    /// What was read, to know the file again.
    pub print: Print,
}

/// What is to be read of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Look at how it begins, then see again.
    Look,
    /// Whole records from the position on.
    On,
    /// The record without end, as it is.
    Rest,
    /// Rest, if that is whole but for its line feed.
    RestIfWhole,
    /// All of it.
    Whole {
        /// ... if it is complete.
        only_if_complete: bool,
    },
}

/// A file that is followed.
#[derive(Debug)]
pub(crate) struct Followed {
    pub path: PathBuf,
    /// For provenance: the name it was first seen under.
    pub name: String,
    /// The path of that name: its declaration is that of where it came from, not of where it was rotated to.
    pub first_path: PathBuf,
    /// The source in whose locations that path is, once that was looked up.
    pub declared: Option<Option<Arc<DeclaredSource>>>,
    pub stat: Stat,
    pub progress: Progress,
    /// As of the last seal.
    pub sealed: Progress,
    pub copies: Copies,
    /// They were counted and are forgotten: should the file go on, it is read from its start.
    copies_gone: bool,
    /// Still found by what is followed; otherwise it was renamed or removed, and is read to its end.
    pub watched: bool,
    /// When it was last seen to change.
    pub changed: Instant,
    /// Polls that saw it as it is.
    pub polls_still: u32,
    /// When what is unread may have appeared at the earliest.
    pub unread_since: Option<Instant>,
    /// Open while it is being written: a rename or removal takes nothing from us.
    pub handle: Option<Arc<File>>,
    /// Size up to which whole records were read, and incomplete ones looked at.
    examined: Option<Stat>,
    incomplete: Option<Stat>,
    /// It was not known at the last writing of positions.
    pub is_new: bool,
    /// Why it cannot be read, once that was told.
    pub trouble: Option<String>,
    /// Its number with the archiver since a seal.
    pub number: Option<(u64, u32)>,
}

impl Followed {
    pub fn new(
        path: PathBuf,
        (first_path, name): (PathBuf, String),
        stat: Stat,
        progress: Progress,
        now: Instant,
    ) -> Self {
        Self {
            path,
            name,
            first_path,
            declared: None,
            stat,
            sealed: progress.clone(),
            copies: Copies::new(),
            copies_gone: progress.is_keyless(),
            progress,
            watched: true,
            changed: now,
            polls_still: 0,
            unread_since: Some(now),
            handle: None,
            examined: None,
            incomplete: None,
            is_new: false,
            trouble: None,
            number: None,
        }
    }

    /// What a poll saw. `before` is when the last one was.
    pub fn observe(&mut self, stat: Stat, now: Instant, before: Instant) {
        if stat == self.stat {
            self.polls_still = self.polls_still.saturating_add(1);
            return;
        }
        self.stat = stat;
        self.changed = now;
        self.polls_still = 0;
        self.unread_since.get_or_insert(before);
    }

    /// Back to what was sealed: it is read again from there.
    pub fn forget_unsealed(&mut self) {
        self.progress = self.sealed.clone();
        self.copies = Copies::new();
        self.copies_gone = self.progress.is_keyless();
        self.examined = None;
        self.incomplete = None;
        self.number = None;
    }

    /// Gives the memory of its copies back.
    pub fn forget_copies(&mut self) {
        self.copies_gone |= !self.copies.is_empty();
        self.copies = Copies::new();
    }

    /// What is to be read now, `still` being how long a torn end waits.
    pub fn due(&self, now: Instant, still: Duration) -> Option<Due> {
        let is_settled = now.duration_since(self.changed) >= still;
        let whole = || {
            if self.stat.size == 0 {
                None
            } else if is_settled {
                Some(Due::Whole { only_if_complete: false })
            } else if self.polls_still > 0 && self.incomplete != Some(self.stat) {
                Some(Due::Whole { only_if_complete: true })
            } else {
                None
            }
        };
        let seen = self.examined == Some(self.stat);
        match &self.progress {
            Progress::Whole { taken } if *taken == Some(self.stat) => None,
            Progress::Unread | Progress::Whole { .. } if !seen => Some(Due::Look),
            Progress::Unread | Progress::Whole { .. } => whole(),
            Progress::Growing(_) if !seen => Some(Due::On),
            Progress::Growing(g) if g.had_bad && g.early && is_settled => {
                Some(Due::Whole { only_if_complete: false })
            }
            Progress::Growing(g)
                if g.position.place.offset >= self.stat.size || g.rest_taken == self.stat.size =>
            {
                None
            }
            Progress::Growing(_) if is_settled => Some(Due::Rest),
            Progress::Growing(_) if self.polls_still > 0 && self.incomplete != Some(self.stat) => {
                Some(Due::RestIfWhole)
            }
            Progress::Growing(_) => None,
        }
    }

    /// Whether all was read that will be.
    pub fn is_done(&self, now: Instant, still: Duration) -> bool {
        now.duration_since(self.changed) >= still && self.due(now, still).is_none()
    }

    /// The file, open.
    pub fn open(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.handle {
            return Ok(Arc::clone(file));
        }
        let file = open(&self.path)?;
        if file.metadata()?.ino() != self.stat.inode {
            return Err(io::Error::other("it was replaced in this moment"));
        }
        Ok(Arc::new(file))
    }

    /// It has another path now.
    pub fn moved(&mut self, path: PathBuf, stat: Stat) {
        if self.stat.inode != stat.inode {
            self.handle = None;
        }
        // Of one that is yet to be read whole nothing is known that would have to go on.
        let is_new = match &self.progress {
            Progress::Unread => true,
            Progress::Growing(_) => false,
            Progress::Whole { taken } => *taken != Some(stat),
        };
        if is_new && self.path != path {
            self.name = Input::path(&path).name;
            self.first_path.clone_from(&path);
            self.declared = None;
        }
        self.path = path;
        self.watched = true;
    }

    /// What to hand to a reader for what is due; `None`: nothing, for now. `Err` says that the file is not the one
    /// that was read before: it was truncated or written anew.
    pub fn part(&mut self, due: Due, file: &Arc<File>, limits: &Limits) -> io::Result<Option<Part>> {
        let size = self.stat.size;
        let whole = |only_if_complete| Some((Span::Whole { only_if_complete }, size));
        let span = match due {
            Due::Look => {
                self.examined = Some(self.stat);
                if size == 0 {
                    self.unread_since = None;
                }
                self.look(file, limits)?;
                match self.progress {
                    Progress::Growing(_) => return self.part(Due::On, file, limits),
                    _ => None,
                }
            }
            Due::Whole { only_if_complete } => whole(only_if_complete),
            Due::On => {
                if self.decided_anew(file, limits)? {
                    return match self.progress {
                        Progress::Growing(_) => self.part(Due::On, file, limits),
                        _ => Ok(None),
                    };
                }
                let Progress::Growing(g) = &self.progress else { return Ok(None) };
                let from = g.position.place.offset;
                let most = PART_BYTES.max(4 * limits.framing.max_record_bytes as u64);
                let to = size.min(from.saturating_add(most));
                if to == size {
                    self.examined = Some(self.stat);
                }
                let span = (to > from).then(|| (Span::On(g.position.clone()), to));
                if span.is_none() {
                    self.unread_since = None;
                }
                span
            }
            Due::Rest | Due::RestIfWhole => {
                let Progress::Growing(g) = &self.progress else { return Ok(None) };
                if due == Due::RestIfWhole && !rest_is_whole(file, g, size, limits)? {
                    self.incomplete = Some(self.stat);
                    return Ok(None);
                }
                Some((Span::Rest(g.position.clone()), size))
            }
        };
        let part = |(span, to)| Part {
            name: self.name.clone(),
            declared: self.declared.clone().flatten(),
            file: Arc::clone(file),
            span,
            to,
        };
        Ok(span.map(part))
    }

    /// Whether a growing file still is the one that was read. An error tells neither: it is asked again.
    pub fn is_same(&self, file: &File) -> io::Result<bool> {
        match &self.progress {
            Progress::Growing(g) => g.print.fits(file),
            _ => Ok(true),
        }
    }

    /// Whether another file is the one that was read, of which something was.
    pub fn is_known(&self, file: &File) -> bool {
        matches!(&self.progress, Progress::Growing(g) if g.print.at > 0 && g.print.fits(file).unwrap_or(false))
    }

    fn look(&mut self, file: &File, limits: &Limits) -> io::Result<()> {
        let head = head_of(file, self.stat.size)?;
        let early = (head.len() as u64) < HEAD_BYTES;
        self.progress = match beginning(&head, limits) {
            Beginning::Growing(position) => Progress::Growing(Growing {
                position,
                early,
                had_bad: false,
                rest_taken: 0,
                keyless: false,
                print: Print::default(),
            }),
            Beginning::Undecided if early => Progress::Unread,
            Beginning::Undecided | Beginning::Whole => match &self.progress {
                Progress::Whole { taken } => Progress::Whole { taken: *taken },
                _ => Progress::Whole { taken: None },
            },
        };
        Ok(())
    }

    /// How a file's records are cut may change while it is short: then it is read again from its start, which
    /// deduplication makes a matter of the records that differ.
    fn decided_anew(&mut self, file: &File, limits: &Limits) -> io::Result<bool> {
        let Progress::Growing(g) = &mut self.progress else { return Ok(false) };
        if self.copies_gone {
            if g.position.place.offset >= self.stat.size {
                return Ok(false);
            }
            self.copies_gone = false;
            self.look(file, limits)?;
            return Ok(true);
        }
        if !g.early {
            return Ok(false);
        }
        let head = head_of(file, self.stat.size)?;
        let is_final = head.len() as u64 == HEAD_BYTES;
        if let Beginning::Growing(start) = beginning(&head, limits)
            && start.place.shape.is_like(&g.position.place.shape)
            && !(is_final && g.had_bad)
        {
            g.early = !is_final;
            return Ok(false);
        }
        self.copies.clear();
        self.look(file, limits)?;
        Ok(true)
    }

    /// A part was read: `records` of it, and `copies` are counted now.
    pub fn taken(&mut self, part: &Part, done: &PartRead, records: u64, copies: Copies, before: Instant) {
        if done.incomplete {
            self.incomplete = Some(self.stat);
            return;
        }
        if done.failed.is_some() {
            // What could not be read is due again; what is read whole, after a while.
            self.examined = None;
            self.handle = None;
            self.changed = Instant::now();
            self.polls_still = 0;
            if !matches!(part.span, Span::On(_)) {
                return;
            }
        } else {
            self.trouble = None;
        }
        let all_read = |this: &mut Self| this.unread_since = None;
        match (&mut self.progress, &part.span) {
            (Progress::Growing(g), Span::On(from)) => {
                g.keyless |= !copies.is_empty();
                // Those that the part was given, also where it could not be read.
                self.copies = copies;
                let Some(next) = &done.next else { return };
                g.position = Position { read: g.position.read + records, ..next.clone() };
                g.had_bad |= g.early && done.bad > 0;
                match Print::of(&part.file, g.position.place.offset) {
                    Ok(print) => g.print = print,
                    // It was cut short in this moment: the next look will not know it, and read it anew.
                    Err(_) => g.print.at = u64::MAX,
                }
                // Nothing of it is sealed, but what it is may be kept: it can lose its name before the first seal.
                if self.sealed == Progress::Unread && g.position.place.offset > 0 {
                    let start = Growing { position: from.clone(), early: true, had_bad: false, ..g.clone() };
                    self.sealed = Progress::Growing(start);
                    self.is_new = true;
                }
                let rest = g.position.place.offset < self.stat.size;
                self.unread_since = rest.then_some(before);
            }
            // Should it go on after all, its last record is read again from its start, and so are its copies.
            (Progress::Growing(g), Span::Rest(_)) => {
                g.rest_taken = part.to;
                all_read(self);
            }
            (Progress::Growing(g), Span::Whole { .. }) => {
                g.had_bad = false;
                g.rest_taken = part.to;
                all_read(self);
            }
            (Progress::Unread | Progress::Whole { .. }, _) => {
                self.progress = Progress::Whole { taken: Some(self.stat) };
                all_read(self);
            }
        }
    }

    /// Bytes that were read as they came.
    pub fn read_bytes(&self) -> u64 {
        match &self.progress {
            Progress::Growing(g) => g.position.place.offset,
            _ => 0,
        }
    }

    /// Bytes that were seen and not read.
    pub fn unread_bytes(&self) -> u64 {
        match &self.progress {
            Progress::Unread => self.stat.size,
            Progress::Growing(g) => self.stat.size.saturating_sub(g.position.place.offset.max(g.rest_taken)),
            Progress::Whole { taken } if *taken == Some(self.stat) => 0,
            Progress::Whole { .. } => self.stat.size,
        }
    }
}

impl Progress {
    /// Whether copies of its records were counted.
    fn is_keyless(&self) -> bool {
        matches!(self, Self::Growing(g) if g.keyless)
    }
}

/// Opens a regular file. One that became a pipe since it was seen does not hold us up.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("expected a file")) }
}

fn head_of(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; size.min(HEAD_BYTES) as usize];
    let mut n = 0;
    while n < head.len() {
        match file.read_at(&mut head[n..], n as u64) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(n);
    Ok(head)
}

fn rest_is_whole(file: &File, g: &Growing, size: u64, limits: &Limits) -> io::Result<bool> {
    let from = g.position.place.offset;
    let most = limits.framing.max_record_bytes as u64;
    if size - from > most {
        return Ok(false);
    }
    let mut rest = vec![0; (size - from) as usize];
    file.read_exact_at(&mut rest, from)?;
    Ok(Splitter::at(limits.framing, &g.position.place).is_whole(&rest))
}
