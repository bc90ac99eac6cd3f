//! Opening a spool: what is in the folder, what of it is whole, and the end of the newest segment.

use std::path::Path;
use std::sync::Arc;

use keytrail_model::Hash;
use keytrail_model::merkle::leaf_hash;
use keytrail_model::segment::{FOOTER_BYTES, Footer, Header};

use super::error::SpoolError;
use super::files::{FileAccess, Files, write_all};
use super::shared::{Shared, TEMPORARY_SUFFIX, parse_name};
use super::walk::{Step, Walk};
use super::{Damage, Recovered, Segment, Settings, Truncated, Wrong};

/// Takes the folder, reads it, and closes the segment that was written last.
pub(super) fn open(
    folder: &Path,
    source: &str,
    settings: Settings,
    files: Arc<dyn Files>,
) -> Result<(Shared, Recovered), SpoolError> {
    settings.check()?;
    files.make_folder(folder).map_err(|e| SpoolError::at("make the folder", folder, &e))?;
    let lock = files.lock(folder).map_err(|e| SpoolError::at("lock", folder, &e))?;
    let lock = lock.ok_or_else(|| SpoolError::Busy(folder.display().to_string()))?;
    let shared = Shared::new(folder, source, settings, files, lock);
    let names = shared.files.list(folder).map_err(|e| SpoolError::at("list", folder, &e))?;
    for name in names.iter().filter(|n| n.ends_with(TEMPORARY_SUFFIX)) {
        shared.discard(&folder.join(name))?;
    }
    let mut segments: Vec<_> = names.iter().filter_map(|n| Some((parse_name(n)?, n))).collect();
    segments.sort_unstable();

    let mut recovered = Recovered::default();
    let mut before: Option<Ending> = None;
    let newest = segments.len().saturating_sub(1);
    for (i, ((epoch, first_seq), name)) in segments.iter().enumerate() {
        let path = folder.join(name);
        let mut found = Found::read(&shared, &path, *epoch, *first_seq)?;
        if i == newest {
            recovered.truncated = found.end(&shared)?;
        } else {
            found.judge_end();
        }
        found.check_link(before.as_ref());
        recovered.damaged.append(&mut found.damaged);
        before = found.ending().or(before);
        recovered.segments.extend(found.segment());
    }
    let closed =
        recovered.segments.iter().map(|s| ((s.epoch, s.first_seq), Segment { closed: true, ..s.clone() }));
    shared.publish(|s| s.closed = closed.collect());
    Ok((shared, recovered))
}

/// The last record of a segment.
struct Ending {
    epoch: u64,
    seq: u64,
    hash: Hash,
}

/// A segment as it lies on the disk.
struct Found<'a> {
    path: &'a Path,
    file: Arc<dyn FileAccess>,
    length: u64,
    epoch: u64,
    first_seq: u64,
    header: Option<Header>,
    records: u64,
    last: Option<(u64, Hash)>,
    /// Number that the next record would have.
    expected: u64,
    /// Where the last whole part ends, the footer not counted.
    at: u64,
    /// Bytes behind it, or behind the footer, that are not blank.
    torn: u64,
    footer: Option<Footer>,
    damaged: Vec<Damage>,
}

impl<'a> Found<'a> {
    fn read(shared: &Shared, path: &'a Path, epoch: u64, first_seq: u64) -> Result<Self, SpoolError> {
        let at = |e| SpoolError::at("read", path, &e);
        let file = shared.files.open(path).map_err(at)?;
        let length = file.length().map_err(at)?;
        let mut walk = Walk::new(Arc::clone(&file), length, first_seq).map_err(at)?;
        let header = walk.header().cloned();
        let mut found = Self {
            path,
            file,
            length,
            epoch,
            first_seq,
            header,
            records: 0,
            last: None,
            expected: first_seq,
            at: 0,
            torn: 0,
            footer: None,
            damaged: Vec::new(),
        };
        if let Some(header) = &found.header {
            if header.source != shared.source {
                return Err(SpoolError::Source {
                    path: path.display().to_string(),
                    found: header.source.escape_debug().to_string(),
                    expected: shared.source.clone(),
                });
            }
            if (header.epoch, header.first_seq) != (epoch, first_seq) {
                found.damage(0, 0, first_seq, Wrong::Header);
            }
        }
        found.walk(&mut walk).map_err(at)?;
        Ok(found)
    }

    fn walk(&mut self, walk: &mut Walk) -> std::io::Result<()> {
        // Where the last record is: only its hash is asked for.
        let mut last = None;
        loop {
            match walk.step()? {
                Step::Record { seq, bytes } => {
                    let length = bytes.len();
                    self.records += 1;
                    last = Some((seq, walk.at() - length as u64, length));
                }
                Step::Damaged { at, bytes, expected, wrong } => self.damage(at, bytes, expected, wrong),
                Step::Footer(footer) => {
                    self.at = walk.at() - FOOTER_BYTES as u64;
                    self.torn = walk.behind()?;
                    self.footer = Some(footer);
                    break;
                }
                Step::End { at, torn } => {
                    (self.at, self.torn) = (at, torn);
                    break;
                }
            }
        }
        self.expected = walk.expected();
        if let Some((seq, at, length)) = last {
            self.last = Some((seq, leaf_hash(walk.bytes(at, length)?)));
        }
        if let Some(footer) = self.footer
            && self.damaged.is_empty()
            && (self.last != Some((footer.last_seq, footer.last_hash)) || self.records != footer.records)
        {
            self.damage(self.at, FOOTER_BYTES as u64, self.expected, Wrong::Footer);
        }
        Ok(())
    }

    fn damage(&mut self, at_bytes: u64, bytes: u64, expected_seq: u64, wrong: Wrong) {
        let (path, epoch) = (self.path.to_owned(), self.epoch);
        self.damaged.push(Damage { path, epoch, expected_seq, at_bytes, bytes, wrong });
    }

    /// The first record follows the last of the segment before, which may have been shipped and removed.
    fn check_link(&mut self, before: Option<&Ending>) {
        match before.filter(|b| b.epoch == self.epoch) {
            Some(b) if b.seq + 1 != self.first_seq => {
                self.damage(0, 0, b.seq + 1, Wrong::Missing(self.first_seq));
            }
            Some(b) if self.header.as_ref().is_some_and(|h| h.prev != b.hash) => {
                self.damage(0, 0, self.first_seq, Wrong::Link);
            }
            // The oldest are removed first: with one of an epoch before, this epoch has all of its own.
            None if before.is_some() && self.first_seq != 0 => {
                self.damage(0, 0, 0, Wrong::Missing(self.first_seq));
            }
            Some(_) | None => {}
        }
    }

    /// How it ended, as far as it is known.
    fn ending(&self) -> Option<Ending> {
        let last = self.footer.map(|f| (f.last_seq, f.last_hash)).or(self.last);
        last.map(|(seq, hash)| Ending { epoch: self.epoch, seq, hash })
    }

    /// A segment that is not the newest was closed.
    fn judge_end(&mut self) {
        if self.footer.is_some() {
            if self.torn > 0 {
                self.damage(self.at + FOOTER_BYTES as u64, self.torn, self.expected, Wrong::Behind);
            }
        } else {
            let wrong = if self.torn > 0 { Wrong::Bytes } else { Wrong::Footer };
            self.damage(self.at, self.torn, self.expected, wrong);
        }
    }

    /// Cuts what was not written whole from the newest segment, and closes it. A closed one stays as it is.
    fn end(&mut self, shared: &Shared) -> Result<Option<Truncated>, SpoolError> {
        let end = self.at + FOOTER_BYTES as u64;
        if self.footer.is_some() {
            if self.torn > 0 {
                self.damage(end, self.torn, self.expected, Wrong::Behind);
            } else if self.length > end {
                // Closed, and then there was no time to give the room back.
                shared.or_poison("cut", self.path, self.file.truncate(end))?;
                self.length = end;
            }
            return Ok(None);
        }
        let Some((last_seq, last_hash)) = self.last else {
            if self.header.is_none() && self.damaged.is_empty() {
                // A segment gets its name with a durable header: this one was damaged later.
                self.damage(0, self.torn, self.first_seq, Wrong::Header);
            }
            if self.damaged.is_empty() {
                // Begun, and nothing came of it.
                shared.discard(self.path)?;
                shared.sync_folder()?;
                return Ok(self.truncated());
            }
            return Ok(None);
        };
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        Footer { last_seq, records: self.records, last_hash }.write(&mut footer);
        shared.or_poison("cut", self.path, self.file.truncate(self.at))?;
        shared.or_poison("write", self.path, write_all(&*self.file, self.at, &footer))?;
        shared.or_poison("sync", self.path, self.file.sync_data())?;
        self.length = end;
        Ok(self.truncated())
    }

    fn truncated(&self) -> Option<Truncated> {
        (self.torn > 0).then_some(Truncated {
            epoch: self.epoch,
            expected_seq: self.expected,
            at_bytes: self.at,
            dropped_bytes: self.torn,
        })
    }

    fn segment(&self) -> Option<Segment> {
        let last = self.last?;
        Some(Segment {
            epoch: self.epoch,
            first_seq: self.first_seq,
            last_seq: last.0,
            last_hash: last.1,
            records: self.records,
            created_ns: self.header.as_ref().map_or(0, |h| h.created_ns),
            bytes: self.length,
            path: self.path.to_owned(),
            closed: self.footer.is_some(),
        })
    }
}
