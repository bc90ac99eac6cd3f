//! Following: audit logs that are still being written, into an archive that is sealed at intervals.
//!
//! What it is: the loop of a service on one machine. Look at the files, read what is new, seal when it is time,
//! then write down how far the sealed log covers them. What it is not: another way into the archive. Rows are
//! those of one [`run()`](crate::run()) over the final files: a file that is read in pieces gives the frames, the
//! uids and the offsets of one reading. In: paths, folders and globs. Out: sealed manifests, and what an
//! [`Observer`] is told.
//!
//! Nothing is acknowledged before it is sealed: positions follow the seal that covers them, and a store that fails
//! (`Retryable.*`) sends everything back to the last seal, by the recovery that every start does.

mod file;
mod files;
mod lag;
mod observer;
mod position;
#[cfg(test)]
mod tests;
mod whereabouts;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use keytrail_model::Fatal;

use crate::archiver::Archiver;
use crate::config::{DeclaredSource, Following, claim};
use crate::ingest::{Reading, Step, ingest};
use crate::input::part::{Part, PartRead, Span};
use crate::input::{Input, STOPPED};
use crate::recover::recover;
use crate::run;
use crate::sources;
use crate::trail::{Trail, scratch_error};
use file::Due;
use files::Files;
use lag::Waiting;
pub use lag::{BUCKETS, Lag};
use observer::Told;
pub use observer::{Notice, Observer, Sealed, State};

/// How files are followed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How they are read and written.
    pub run: run::Options,
    /// Files, folders (all files below) and globs. They need not be there yet.
    pub patterns: Vec<OsString>,
    /// What is expected to be heard: files in their locations are of these sources.
    pub sources: Vec<Arc<DeclaredSource>>,
    /// Folders that are no input, wherever they lie.
    pub own: Vec<PathBuf>,
    /// When what is done. Verifying is the observer's.
    pub following: Following,
    /// The first pause before a store that failed is tried again; it doubles up to a minute.
    pub retry_pause: Duration,
}

/// The longest pause before a store that failed is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Bytes read between two polls: other files, seals and the end have their turn.
const ROUND_BYTES: u64 = 256 << 20;
/// Parts of files, likewise. Each has its file open, and a process may have 1,024.
const ROUND_PARTS: usize = 512;

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Follows files until `stop`, then seals what was read.
///
/// # Errors
/// `Fatal.*` at once; `Retryable.*` only where it was asked to stop meanwhile, and what was not sealed is read again
/// by the next process.
pub fn follow(
    trail: &Trail<'_>,
    options: &Options,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<(), Fatal> {
    let mut files = Files::new(&options.patterns, &options.own, options.following.still, Instant::now());
    let mut restored = false;
    let mut pause = options.retry_pause;
    loop {
        let began = Instant::now();
        let mut service = Service { trail, options, observer, files: &mut files, stop };
        let error = match service.run(&mut restored) {
            Err(error) if error.code.starts_with("Retryable.") => error,
            ended => return ended,
        };
        // One that worked for long begins with short pauses again.
        if began.elapsed() > 2 * MAX_PAUSE {
            pause = options.retry_pause;
        }
        observer.notice(&Notice::Retrying { error: error.clone(), pause });
        files.values_mut().for_each(file::Followed::forget_unsealed);
        clear_scratch(trail)?;
        if wait(pause, stop) {
            return Err(error);
        }
        pause = MAX_PAUSE.min(pause * 2);
    }
}

/// Waits; true as soon as it is to stop.
fn wait(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(LOOK.min(left));
    }
    true
}

/// What an archiver that failed left: it takes room, and its names are used again.
fn clear_scratch(trail: &Trail<'_>) -> Result<(), Fatal> {
    let fault = |e: std::io::Error| scratch_error("clear", trail.scratch, &e);
    for entry in std::fs::read_dir(trail.scratch).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
            .map_err(fault)?;
    }
    Ok(())
}

/// Between a start, or a failure, and the next.
struct Service<'a> {
    trail: &'a Trail<'a>,
    options: &'a Options,
    observer: &'a mut dyn Observer,
    files: &'a mut Files,
    stop: &'a AtomicBool,
}

/// A part under way.
struct Turn {
    file: u64,
    number: u32,
    part: Part,
    /// Bytes and records of the file that were read before.
    before: (u64, u64),
}

impl Service<'_> {
    fn run(&mut self, restored: &mut bool) -> Result<(), Fatal> {
        let recovered = recover(self.trail)?;
        let mut archiver = Archiver::new(self.trail, recovered, &[], &self.options.run)?;
        archiver.catch_up()?;
        if !*restored {
            self.restore(&archiver)?;
            *restored = true;
        }
        let mut waiting = Waiting::default();
        let size = archiver.head().map_or(0, |h| h.size);
        let mut told = Told::from(size);
        let mut last = Instant::now();
        let mut seals = 0;
        loop {
            let more = self.round(&mut archiver, &mut waiting, seals)?;
            let stopping = self.stop.load(Ordering::Relaxed);
            let is_time = last.elapsed() >= self.options.following.seal_interval || archiver.due();
            if (archiver.has_unsealed() || self.files.unwritten) && (stopping || is_time) {
                self.seal(&mut archiver, &mut waiting, &mut told)?;
                seals += 1;
                last = Instant::now();
            }
            if stopping {
                return archiver.mark_clean();
            }
            if !more {
                wait(self.options.following.poll_interval, self.stop);
            }
        }
    }

    fn restore(&mut self, archiver: &Archiver<'_>) -> Result<(), Fatal> {
        let Some(head) = archiver.head() else { return Ok(()) };
        match position::load(self.trail, head)? {
            Ok(stored) => self.files.restore(stored, Instant::now()),
            Err(why) => self.observer.notice(&Notice::NoPositions { why }),
        }
        Ok(())
    }

    /// Looks at the files and reads what is due. Says whether there is more to read at once.
    fn round(
        &mut self,
        archiver: &mut Archiver<'_>,
        waiting: &mut Waiting,
        seals: u64,
    ) -> Result<bool, Fatal> {
        let before = self.files.polled;
        let now = Instant::now();
        let mut notices = Vec::new();
        if !self.stop.load(Ordering::Relaxed) {
            self.files.poll(now, &mut notices);
        }
        let (turns, more) = self.turns(archiver, now, seals, &mut notices)?;
        let heard_before = archiver.counts();
        let read = self.read(archiver, turns, waiting, before, &mut notices);
        for notice in &notices {
            self.observer.notice(notice);
        }
        let read_bytes = read?;
        let counts = archiver.counts();
        let heard = |s: &&String| counts.get(*s).map(|c| c.read) != heard_before.get(*s).map(|c| c.read);
        let state = State {
            files: self.files.len() as u64,
            unread_bytes: self.files.iter().map(|(_, f)| f.unread_bytes()).sum(),
            unsealed_records: waiting.records(),
            unsealed_bytes: archiver.unsealed_bytes(),
            read_bytes,
            heard: counts.keys().filter(heard).cloned().collect(),
        };
        self.observer.polled(self.trail, archiver.readable(), &state)?;
        Ok(more)
    }

    /// What is due of the files, up to a round's fill.
    fn turns(
        &mut self,
        archiver: &mut Archiver<'_>,
        now: Instant,
        seals: u64,
        notices: &mut Vec<Notice>,
    ) -> Result<(Vec<Turn>, bool), Fatal> {
        let (still, limits) = (self.options.following.still, &self.options.run.ingest.limits);
        let due: Vec<(u64, Due)> =
            self.files.iter().filter_map(|(id, f)| Some((id, f.due(now, still)?))).collect();
        let (mut turns, mut bytes) = (Vec::new(), 0);
        for (id, due) in due {
            if self.stop.load(Ordering::Relaxed) {
                return Ok((Vec::new(), false));
            }
            if bytes >= ROUND_BYTES || turns.len() >= ROUND_PARTS {
                return Ok((turns, true));
            }
            let Some(followed) = self.files.get_mut(id) else { continue };
            if followed.declared.is_none() {
                let mut input = [Input::path(&followed.first_path)];
                match claim(&mut input, &self.options.sources) {
                    Ok(()) => {}
                    // A link that somebody put there must not end the service for all others.
                    Err(e) if e.code == "Config.Location" => {
                        tell_trouble(followed, &e.message, notices);
                        continue;
                    }
                    Err(e) => return Err(e),
                }
                let [input] = input;
                followed.declared = Some(input.declared);
            }
            let opened = followed.open().and_then(|file| Ok((followed.is_same(&file)?, file)));
            let part = match &opened {
                Ok((false, _)) => {
                    self.files.written_anew(id, now, notices);
                    continue;
                }
                Ok((true, file)) => followed.part(due, file, limits),
                Err(e) => Err(std::io::Error::new(e.kind(), e.to_string())),
            };
            match part {
                Ok(part) => {
                    if part.is_none() {
                        followed.trouble = None;
                    }
                    if let Some(part) = part {
                        let number = match followed.number {
                            Some((of, number)) if of == seals => number,
                            _ => archiver.number_of(&followed.name, part.declared.as_deref()),
                        };
                        followed.number = Some((seals, number));
                        let before = match &part.span {
                            Span::On(p) => {
                                archiver.resume(number, std::mem::take(&mut followed.copies));
                                bytes += part.to - p.place.offset;
                                (p.place.offset, p.read)
                            }
                            Span::Rest(p) => {
                                archiver.resume(number, followed.copies.clone());
                                (p.place.offset, p.read)
                            }
                            Span::Whole { .. } => {
                                bytes += part.to;
                                (0, 0)
                            }
                        };
                        turns.push(Turn { file: id, number, part, before });
                    }
                    if let Ok((_, file)) = opened {
                        self.files.hold(id, &file);
                    }
                }
                Err(e) => {
                    followed.handle = None;
                    tell_trouble(followed, &e.to_string(), notices);
                }
            }
        }
        Ok((turns, false))
    }

    /// Reads parts into the archiver and notes what became of them. Gives the bytes.
    fn read(
        &mut self,
        archiver: &mut Archiver<'_>,
        turns: Vec<Turn>,
        waiting: &mut Waiting,
        before: Instant,
        notices: &mut Vec<Notice>,
    ) -> Result<u64, Fatal> {
        let by_number: BTreeMap<u32, &Turn> = turns.iter().map(|t| (t.number, t)).collect();
        let readings: Vec<_> = turns.iter().map(|t| (t.number, Reading::Part(&t.part))).collect();
        let mut ended: Vec<(&Turn, PartRead, u64, crate::archiver::Copies)> = Vec::new();
        let stop = self.stop;
        let read = ingest(self.trail, &readings, &self.options.run.ingest, stop, &mut |step| {
            match step {
                Step::Records(records) => archiver.add(records)?,
                Step::EndOfPart(number, done) => {
                    if let Some(turn) = by_number.get(&number) {
                        let (records, copies) = archiver.end_of_part(number, &done.summary, turn.before);
                        ended.push((turn, done, records, copies));
                    }
                }
                // Files are followed in parts.
                Step::EndOfInput(..) => {}
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Fatal::new(STOPPED, "asked to stop"));
            }
            if archiver.due() {
                archiver.seal()?;
            }
            Ok(archiver.take_emptied())
        });
        match read {
            Err(e) if e.code == STOPPED => {}
            other => other?,
        }
        let mut bytes = 0;
        for (turn, done, records, copies) in ended {
            let Some(followed) = self.files.get_mut(turn.file) else { continue };
            waiting.add(followed.unread_since.unwrap_or(before), records);
            bytes += match &turn.part.span {
                Span::On(p) | Span::Rest(p) => done.summary.bytes.saturating_sub(p.place.offset),
                Span::Whole { .. } => done.summary.bytes,
            };
            if let Some(why) = &done.failed {
                tell_trouble(followed, why, notices);
            }
            followed.taken(&turn.part, &done, records, copies, before);
        }
        let new =
            self.files.values_mut().map(|f| std::mem::take(&mut f.is_new)).filter(|is_new| *is_new).count();
        if new > 0
            && let Some(head) = archiver.head()
        {
            position::store(self.trail, head, self.files.iter().map(|(_, f)| f))?;
        }
        Ok(bytes)
    }

    /// Seals, writes positions down, and does what is done after a seal.
    fn seal(
        &mut self,
        archiver: &mut Archiver<'_>,
        waiting: &mut Waiting,
        told: &mut Told,
    ) -> Result<(), Fatal> {
        archiver.seal()?;
        archiver.forget_inputs();
        let Some(head) = archiver.head().cloned() else { return Ok(()) };
        for file in self.files.values_mut() {
            if file.sealed != file.progress {
                file.sealed = file.progress.clone();
            }
        }
        // Should the store fail now, they are written by the next attempt, whether anything is to be sealed then or not.
        self.files.unwritten = true;
        position::store(self.trail, &head, self.files.iter().map(|(_, f)| f))?;
        self.files.unwritten = false;
        let lag = waiting.sealed(Instant::now());
        let sealed = told.since(archiver, head, lag);
        // Alerts look at what is new before compaction puts it elsewhere.
        self.observer.sealed(self.trail, &sealed)?;
        sources::remember(self.trail, &sealed.sources)?;
        if self.options.following.compact {
            let compacted = archiver.compact(self.stop)?;
            if !compacted.is_nothing() {
                self.observer.compacted(&compacted);
            }
        }
        archiver.catch_up()?;
        archiver.remember()?;
        told.size = archiver.head().map_or(0, |h| h.size);
        Ok(())
    }
}

fn tell_trouble(followed: &mut file::Followed, why: &str, notices: &mut Vec<Notice>) {
    if followed.trouble.as_deref() != Some(why) {
        followed.trouble = Some(why.to_owned());
        notices.push(Notice::Unreadable { file: followed.name.clone(), why: why.to_owned() });
    }
}
