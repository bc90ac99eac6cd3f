//! A part of a file that is being written, or the whole of a file that is open.
//!
//! What it is: reading on from a [`Position`], so that the frames are those of one reading from the start.
//! What it is not: it does not decide what is read when (`crate::follow` does).
//! In: an open file and a position. Out: frames, and the position behind the last whole record.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use keytrail_model::{Fatal, Hash};
use keytrail_normalize::framing::{self, Frame, Place, Splitter};
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

use crate::config::DeclaredSource;

use super::complete::is_complete;
use super::compression::Compression;
use super::{Buffers, Frames, INFLATE_BYTES, InputSummary, Limits, READ_BYTES, Sink, read_from};

/// Where reading of a growing file stands: all that has to be known to read on as if it had been read at once, but
/// for the copies of keyless records.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Where and how records are cut.
    pub place: Place,
    /// The format that its records were taken for.
    pub format: Option<String>,
    /// The last record was a container.
    pub in_containers: bool,
    /// SHA-256 over the bytes before: its state.
    pub sha256: HashState,
    /// Records so far.
    pub read: u64,
}

/// SHA-256 in the course of being computed, over the whole blocks of 64 bytes: it holds none of them as they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HashState(Box<SerializedState<Sha256>>);

impl HashState {
    /// Over no bytes.
    pub fn new() -> Self {
        Hashed::default().state()
    }
}

/// Bytes that are hashed, the last block of them apart while it is not whole.
#[derive(Default)]
struct Hashed {
    blocks: Sha256,
    open: Vec<u8>,
}

impl Hashed {
    /// A file's first `bytes`, of which `state` is.
    fn resume(state: &HashState, file: &File, bytes: u64) -> io::Result<Self> {
        // What was serialized by this library is read by it; anything else was refused when it was parsed.
        let blocks = Sha256::deserialize(&state.0).unwrap_or_default();
        let rest = bytes % BLOCK_BYTES as u64;
        let mut open = vec![0; rest as usize];
        file.read_exact_at(&mut open, bytes - rest)?;
        Ok(Self { blocks, open })
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if !self.open.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.open.len()));
            self.open.extend_from_slice(first);
            bytes = rest;
            if self.open.len() < BLOCK_BYTES {
                return;
            }
            self.blocks.update(&self.open);
            self.open.clear();
        }
        let (whole, rest) = bytes.split_at(bytes.len() / BLOCK_BYTES * BLOCK_BYTES);
        self.blocks.update(whole);
        self.open.extend_from_slice(rest);
    }

    fn state(&self) -> HashState {
        HashState(Box::new(self.blocks.serialize()))
    }

    fn finish(mut self) -> Hash {
        self.blocks.update(&self.open);
        Hash(self.blocks.finalize().into())
    }
}

/// Block of SHA-256 (FIPS 180-4 section 1).
const BLOCK_BYTES: usize = 64;

impl Default for HashState {
    fn default() -> Self {
        Self::new()
    }
}

impl From<HashState> for String {
    fn from(state: HashState) -> Self {
        state.0.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl TryFrom<String> for HashState {
    type Error = String;

    fn try_from(hex: String) -> Result<Self, String> {
        let wrong = || "expected the state of a SHA-256 in hexadecimal".to_owned();
        let digit = |b: &u8| char::from(*b).to_digit(16);
        let mut state = SerializedState::<Sha256>::default();
        if hex.len() != 2 * state.len() {
            return Err(wrong());
        }
        for (byte, pair) in state.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let [Some(high), Some(low)] = [&pair[0], &pair[1]].map(digit) else { return Err(wrong()) };
            *byte = (high << 4 | low) as u8;
        }
        Sha256::deserialize(&state).map_err(|_| wrong())?;
        Ok(Self(Box::new(state)))
    }
}

/// What is read of an open file.
#[derive(Debug)]
pub struct Part {
    /// The input's name, for provenance.
    pub name: String,
    /// What is declared of it.
    pub declared: Option<Arc<DeclaredSource>>,
    /// The file. It is read by position: others may read it, too.
    pub file: Arc<File>,
    /// What of it.
    pub span: Span,
    /// Bytes behind this one are not looked at.
    pub to: u64,
}

/// What of a file is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Span {
    /// Whole records from a position on: the last one is left alone until its end is there.
    On(Position),
    /// All from a position on, the last record as it is.
    Rest(Position),
    /// All of it, as any input is read; where asked, only if it is complete.
    Whole {
        /// Nothing is read of a file that breaks off.
        only_if_complete: bool,
    },
}

/// What became of a part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartRead {
    /// What was read of the file from its start, and its hash.
    pub summary: InputSummary,
    /// Where reading goes on; for [`Span::On`] alone. Its format is that of the position that was given.
    pub next: Option<Position>,
    /// Frames that were no records.
    pub bad: u64,
    /// The file was incomplete, and nothing was read.
    pub incomplete: bool,
    /// The file could not be read to its end.
    pub failed: Option<String>,
}

impl PartRead {
    /// Nothing was read behind the first bytes.
    fn of_nothing(bytes: u64) -> Self {
        let summary = InputSummary { sha256: Hash::default(), bytes, inflated_bytes: bytes };
        Self { summary, next: None, bad: 0, incomplete: false, failed: None }
    }
}

/// Reads a part and hands on its frames.
pub fn read(
    part: &Part,
    limits: &Limits,
    buffers: &mut Buffers,
    sink: &mut dyn Sink,
) -> Result<PartRead, Fatal> {
    let mut sink = Counting { sink, bad: 0 };
    let mut done = match &part.span {
        Span::Whole { only_if_complete } => whole(part, *only_if_complete, limits, buffers, &mut sink)?,
        Span::On(position) => on(part, position, false, limits, buffers, &mut sink)?,
        Span::Rest(position) => on(part, position, true, limits, buffers, &mut sink)?,
    };
    done.bad = sink.bad;
    Ok(done)
}

/// Counts frames that are no records.
struct Counting<'a> {
    sink: &'a mut dyn Sink,
    bad: u64,
}

impl Sink for Counting<'_> {
    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Fatal> {
        self.bad += u64::from(frame.verdict.is_err());
        self.sink.frame(frame)
    }

    fn record(&mut self, text: &str, offset: u64) -> Result<Option<usize>, Fatal> {
        self.sink.record(text, offset)
    }
}

fn whole(
    part: &Part,
    only_if_complete: bool,
    limits: &Limits,
    buffers: &mut Buffers,
    sink: &mut dyn Sink,
) -> Result<PartRead, Fatal> {
    if only_if_complete && !is_complete(Bytes::of(part, 0), limits, buffers) {
        return Ok(PartRead { incomplete: true, ..PartRead::of_nothing(0) });
    }
    let (failed, stopped) = (RefCell::new(None), Cell::new(false));
    let mut frames = Frames { name: &part.name, sink, failed: None, stopped: Some(&stopped) };
    let source = Failing { source: Bytes::of(part, 0), failed: &failed, stopped: &stopped };
    let summary = read_from(Ok(Box::new(source)), limits, buffers, &mut frames);
    match (frames.failed, failed.take()) {
        (Some(fatal), _) => Err(fatal),
        (None, None) => Ok(PartRead { summary, next: None, bad: 0, incomplete: false, failed: None }),
        (None, failed) => Ok(PartRead { failed, ..PartRead::of_nothing(0) }),
    }
}

fn on(
    part: &Part,
    position: &Position,
    to_the_end: bool,
    limits: &Limits,
    buffers: &mut Buffers,
    sink: &mut dyn Sink,
) -> Result<PartRead, Fatal> {
    let mut frames = Frames { name: &part.name, sink, failed: None, stopped: None };
    let mut splitter = Splitter::at(limits.framing, &position.place);
    let mut at = position.place.offset;
    let mut hash = match Hashed::resume(&position.sha256, &part.file, at) {
        Ok(hash) => hash,
        Err(e) => return Ok(PartRead { failed: Some(e.to_string()), ..PartRead::of_nothing(at) }),
    };
    let mut source = Bytes::of(part, at);
    let buffer = &mut buffers.raw;
    let mut held = 0..0;
    let mut failed = None;
    while frames.failed.is_none() {
        if buffer.len() - held.end < READ_BYTES {
            buffer.copy_within(held.clone(), 0);
            held = 0..held.len();
            buffer.resize(buffer.len().max(2 * held.len() + INFLATE_BYTES), 0);
        }
        match source.read(&mut buffer[held.end..held.end + READ_BYTES]) {
            Ok(0) => break,
            Ok(n) => held.end += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                failed = Some(e.to_string());
                break;
            }
        }
        let used = splitter.run(&buffer[held.clone()], false, &mut frames);
        hash.update(&buffer[held.start..held.start + used]);
        held.start += used;
        at += used as u64;
    }
    let next = match splitter.place() {
        Some(place) if !to_the_end => Some(Position { place, sha256: hash.state(), ..position.clone() }),
        _ => None,
    };
    if to_the_end && failed.is_none() {
        let rest = &buffer[held];
        splitter.run(rest, true, &mut frames);
        hash.update(rest);
        at += rest.len() as u64;
    }
    if let Some(fatal) = frames.failed {
        return Err(fatal);
    }
    let summary = InputSummary { sha256: hash.finish(), bytes: at, inflated_bytes: at };
    Ok(PartRead { summary, next, bad: 0, incomplete: false, failed })
}

/// How a file that is being written begins, as far as reading goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Records that can be read on from here.
    Growing(Position),
    /// It is read whole: compressed, or a document.
    Whole,
    /// Too little is there to tell.
    Undecided,
}

/// Looks at the first bytes of a file, as [`Splitter::beginning`] wants them.
pub fn beginning(head: &[u8], limits: &Limits) -> Beginning {
    if Compression::of(head).is_some() {
        return Beginning::Whole;
    }
    match Splitter::beginning(limits.framing, head) {
        framing::Beginning::Records(place) => {
            let before = usize::try_from(place.offset).unwrap_or(usize::MAX).min(head.len());
            let mut hash = Hashed::default();
            hash.update(&head[..before]);
            let sha256 = hash.state();
            Beginning::Growing(Position { place, format: None, in_containers: false, sha256, read: 0 })
        }
        framing::Beginning::Document => Beginning::Whole,
        framing::Beginning::Undecided => Beginning::Undecided,
    }
}

/// A file from a position to the end of the part.
struct Bytes<'a> {
    part: &'a Part,
    at: u64,
}

impl<'a> Bytes<'a> {
    fn of(part: &'a Part, at: u64) -> Self {
        Self { part, at }
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.part.to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let room = out.len().min(left);
        let n = self.part.file.read_at(&mut out[..room], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A file whose failures pass: it ends there without an end, so that nothing is refused that is good tomorrow.
struct Failing<'a> {
    source: Bytes<'a>,
    failed: &'a RefCell<Option<String>>,
    stopped: &'a Cell<bool>,
}

impl Read for Failing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.source.read(out) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => {
                *self.failed.borrow_mut() = Some(e.to_string());
                self.stopped.set(true);
                Ok(0)
            }
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_goes_on_where_it_was_put_down_and_holds_no_bytes() {
        let bytes: Vec<u8> = (0..1_000u32).map(|n| (n % 251) as u8).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        for cut in [0, 1, 63, 64, 65, 500, 1_000] {
            let mut hash = Hashed::default();
            bytes[..cut].chunks(7).for_each(|piece| hash.update(piece));
            let text = String::from(hash.state());
            assert!(text.ends_with(&"0".repeat(2 * BLOCK_BYTES)), "{text}");
            let state = HashState::try_from(text).unwrap();
            let mut again = Hashed::resume(&state, &file, cut as u64).unwrap();
            again.update(&bytes[cut..]);
            assert_eq!(again.finish(), Hash::of(&bytes), "{cut}");
        }
        assert!(HashState::try_from("00".to_owned()).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_no_refused_input() {
        let folder = tempfile::tempdir().unwrap();
        // A folder opens, and does not read.
        let file = Arc::new(File::open(folder.path()).unwrap());
        let limits = Limits::default();
        let Beginning::Growing(start) = beginning(b"{\"a\":1}\n{\"a\":2}\n", &limits) else {
            panic!("lines")
        };
        for span in [Span::Whole { only_if_complete: false }, Span::On(start.clone()), Span::Rest(start)] {
            let part = Part { name: "a".into(), declared: None, file: Arc::clone(&file), span, to: 100 };
            let mut frames = 0;
            let mut sink = |_: Frame<'_>| {
                frames += 1;
                Ok(())
            };
            let done = read(&part, &limits, &mut Buffers::default(), &mut sink).unwrap();
            assert!(done.failed.is_some() && done.summary.bytes == 0, "{done:?}");
            assert_eq!(frames, 0);
        }
    }
}
