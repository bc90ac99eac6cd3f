//! Cuts inflated bytes into records.
//!
//! What it is: a streaming splitter. It is shown an object's inflated bytes, as many as are at hand, and
//! gives frames in order: the exact bytes of a record with their offset, or bytes that are no record
//! with the reason. It copies nothing: what it is not done with is shown to it again. What it is not: a JSON parser. It follows brackets and strings; whether a frame's
//! JSON is right is judged by [`crate::normalize`]. In: bytes. Out: [`Frame`]s.
//!
//! Shapes: lines of JSON objects (with a prefix before the object where the first lines have one),
//! JSON arrays, concatenated objects, the containers `{"Records":[...]}` (CloudTrail log file),
//! `{"Events":[...],"NextToken":...}` (CloudTrail LookupEvents answer), `{"records":[...]}` (Azure resource
//! logs), `{"entries":[...],"nextPageToken":...}` (answer of Cloud Logging) and `{"kind":"EventList","apiVersion":"audit.k8s.io/...","items":[...]}` (Kubernetes audit), and
//! blocks of lines that begin with `Time: ` and a date (CloudHSM audit log), and segments of a chain (the sidecar's,
//! `schemas/segment.md`). Which of lines, blocks and document a file is follows from its first [`WINDOW_BYTES`].
//!
//! Nothing is dropped: outside frames are only a byte order mark, whitespace, commas between records,
//! and brackets and known keys of containers. Where bytes are broken, the next record begins where an
//! object opens with the first key of an earlier record; what lies between is one bad frame. Frames do
//! not depend on how the bytes are cut into pieces, time is linear in the input whatever it holds, and
//! memory stays near twice [`Limits::max_record_bytes`].

mod blocks;
mod container;
mod document;
mod first_keys;
mod lines;
mod scanner;
mod segments;
#[cfg(test)]
mod tests;

use std::ops::Range;

use keytrail_model::segment::MAGIC;
use keytrail_model::{Reject, Rejection};
use serde::{Deserialize, Serialize};

use blocks::Blocks;
pub use blocks::Kind as BlockKind;
use document::Document;
use first_keys::FirstKeys;
use lines::Lines;
use segments::Segments;

/// Bytes, from the first that is not whitespace, that decide whether a file holds lines or a document.
pub const WINDOW_BYTES: usize = 64 * 1024;

/// Limits of a splitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A larger record leaves as [`Reject::RecordTooLarge`], in consecutive frames of this size (the
    /// last one smaller). No frame is larger.
    pub max_record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_record_bytes: 16 << 20 }
    }
}

/// A part of the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The bytes as they came.
    pub bytes: &'a [u8],
    /// Where they begin in the inflated object.
    pub offset: u64,
    /// Whether they look like one record, or why not.
    pub verdict: Result<(), Rejection>,
}

/// Takes what a splitter finds, in order.
pub trait Sink {
    /// A frame.
    fn frame(&mut self, frame: Frame<'_>);

    /// A record begins at the start of `text`, whose offset in the inflated object this is. A sink that
    /// reads it there and takes it in says how long it is, and gets no frame of it: then nobody else needs to
    /// look for its end. It takes an object that is JSON from its first byte to its last, or declines.
    fn record(&mut self, text: &str, offset: u64) -> Option<usize> {
        let _ = (text, offset);
        None
    }
}

impl<F: FnMut(Frame<'_>)> Sink for F {
    fn frame(&mut self, frame: Frame<'_>) {
        self(frame);
    }
}

/// Cuts one object's bytes into frames.
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    mode: Mode,
    /// Bytes of the object that it is done with.
    offset: u64,
}

/// How an object that is being written begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Beginning {
    /// Records that can be read as they come, from this place on.
    Records(Place),
    /// A document, which is whole when its end is there.
    Document,
    /// Too little is there to tell.
    Undecided,
}

/// Where the cutting of a growing object stands, between two records: all that a splitter has to know to go on
/// there as if it had read what comes before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Bytes that are done with.
    pub offset: u64,
    /// What the object holds.
    pub shape: Shape,
    /// The bytes before are of a record that is larger than a record may be, and goes on.
    pub is_too_large: bool,
}

/// What an object that can be read on holds. A document is no such one, nor is a segment: they have an end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// Lines of JSON objects.
    Lines {
        /// Lines have a text before their object.
        prefixed: bool,
        /// How records before began, the latest first.
        first_keys: Vec<String>,
    },
    /// Blocks of lines.
    Blocks {
        /// What the unfinished record is.
        kind: BlockKind,
    },
}

impl Shape {
    /// Whether records are cut in the same way.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lines { prefixed: a, .. }, Self::Lines { prefixed: b, .. }) => a == b,
            (Self::Blocks { .. }, Self::Blocks { .. }) => true,
            _ => false,
        }
    }
}

#[derive(Debug)]
enum Mode {
    Undecided { bom_checked: bool },
    Lines(Lines),
    Blocks(Blocks),
    Document(Document),
    Segments(Segments),
}

/// A [`Sink`] of ranges of the bytes at hand.
trait Emit {
    fn frame(&mut self, range: Range<usize>, verdict: Result<(), Rejection>);

    /// A record begins with `text`, which stands at that index.
    fn record(&mut self, text: &str, at: usize) -> Option<usize> {
        let _ = (text, at);
        None
    }
}

impl<F: FnMut(Range<usize>, Result<(), Rejection>)> Emit for F {
    fn frame(&mut self, range: Range<usize>, verdict: Result<(), Rejection>) {
        self(range, verdict);
    }
}

/// The bytes at hand, and where they stand in the object.
struct Placed<'a> {
    data: &'a [u8],
    offset: u64,
    sink: &'a mut dyn Sink,
}

impl Emit for Placed<'_> {
    fn frame(&mut self, range: Range<usize>, verdict: Result<(), Rejection>) {
        let offset = self.offset + range.start as u64;
        self.sink.frame(Frame { bytes: &self.data[range], offset, verdict });
    }

    fn record(&mut self, text: &str, at: usize) -> Option<usize> {
        self.sink.record(text, self.offset + at as u64)
    }
}

impl Splitter {
    /// A splitter at the start of an object.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { max_record_bytes: limits.max_record_bytes.max(1) };
        Self { limits, mode: Mode::Undecided { bom_checked: false }, offset: 0 }
    }

    /// What the first bytes of an object say that is being written: `head` is all that is there, or more than
    /// [`WINDOW_BYTES`] behind leading whitespace. Lines and blocks are taken for what they are as soon as one is
    /// whole, so more bytes may change the answer until the window is full.
    pub fn beginning(limits: Limits, head: &[u8]) -> Beginning {
        let mut splitter = Self::new(limits);
        let rest = &head[splitter.decide(head, false)..];
        if let Mode::Undecided { bom_checked: true } = splitter.mode {
            if blocks::vote(rest) {
                splitter.mode = Mode::Blocks(Blocks::new(splitter.limits, rest));
            } else if let Some((prefixed, keys)) = lines::vote(rest, false) {
                splitter.mode = Mode::Lines(Lines::new(splitter.limits, prefixed, keys));
            }
        }
        match (splitter.place(), splitter.mode) {
            (Some(place), _) => Beginning::Records(place),
            (None, Mode::Document(_) | Mode::Segments(_)) => Beginning::Document,
            (None, _) => Beginning::Undecided,
        }
    }

    /// A splitter that goes on at a place.
    pub fn at(limits: Limits, place: &Place) -> Self {
        let new = Self::new(limits);
        let mode = match &place.shape {
            Shape::Lines { prefixed, first_keys } => {
                Mode::Lines(Lines::at(new.limits, *prefixed, first_keys, place.is_too_large))
            }
            Shape::Blocks { kind } => Mode::Blocks(Blocks::at(new.limits, *kind, place.is_too_large)),
        };
        Self { mode, offset: place.offset, ..new }
    }

    /// Where it stands; `None` while it is undecided, and for a document.
    pub fn place(&self) -> Option<Place> {
        let (shape, is_too_large) = match &self.mode {
            Mode::Lines(lines) => lines.place(),
            Mode::Blocks(blocks) => blocks.place(),
            Mode::Undecided { .. } | Mode::Document(_) | Mode::Segments(_) => return None,
        };
        Some(Place { offset: self.offset, shape, is_too_large })
    }

    /// Whether what was shown, with `rest` that it is not done with, is whole if nothing comes behind it: no line,
    /// record or container is left open. Blocks never are: the last one may go on.
    pub fn is_whole(mut self, rest: &[u8]) -> bool {
        let skipped = self.decide(rest, true);
        let rest = &rest[skipped..];
        let used = self.run(rest, false, &mut |_: Frame<'_>| {});
        let rest = &rest[used..];
        match &self.mode {
            Mode::Lines(lines) => trim_start(rest).is_empty() || lines.is_whole(rest),
            Mode::Blocks(_) => trim_start(rest).is_empty(),
            Mode::Document(document) => trim_start(rest).is_empty() && document.is_closed(),
            Mode::Segments(segments) => rest.is_empty() && segments.is_closed(),
            Mode::Undecided { .. } => rest.is_empty(),
        }
    }

    /// Gives the frames that end in `data`, and how many of its bytes it is done with: the next call's
    /// `data` begins behind them. At `eof` nothing comes behind `data`, and it is done with all of it.
    pub fn run(&mut self, data: &[u8], eof: bool, sink: &mut dyn Sink) -> usize {
        let skipped = self.decide(data, eof);
        let data = &data[skipped..];
        let offset = self.offset;
        let mut emit = Placed { data, offset, sink };
        let used = match &mut self.mode {
            Mode::Undecided { .. } => 0,
            Mode::Lines(lines) => lines.run(data, eof, &mut emit),
            Mode::Blocks(blocks) => blocks.run(data, eof, &mut emit),
            Mode::Document(document) => document.run(data, eof, &mut emit),
            Mode::Segments(segments) => segments.run(data, eof, &mut emit),
        };
        self.offset += used as u64;
        skipped + used
    }

    /// The object could not be read behind `data`: whole records are given, and what is left of an
    /// unfinished one leaves with `why`. Says whether anything was left.
    pub fn abort(mut self, data: &[u8], why: &Rejection, sink: &mut dyn Sink) -> bool {
        let skipped = self.decide(data, true);
        let mut at = skipped + self.run(&data[skipped..], false, sink);
        let whole = match &self.mode {
            Mode::Lines(lines) if lines.is_whole(&data[at..]) => data.len(),
            Mode::Blocks(blocks) => at + blocks.whole(&data[at..]),
            _ => at,
        };
        if whole > at {
            at += self.run(&data[at..whole], true, sink);
        }
        let rest = data[at..].trim_ascii_start();
        let offset = self.offset + (data.len() - at - rest.len()) as u64;
        for (i, bytes) in rest.chunks(self.limits.max_record_bytes).enumerate() {
            let offset = offset + (i * self.limits.max_record_bytes) as u64;
            sink.frame(Frame { bytes, offset, verdict: Err(why.clone()) });
        }
        !rest.is_empty()
    }

    /// Chooses the mode once there is enough to choose by. Gives how many bytes mean nothing before it.
    fn decide(&mut self, data: &[u8], eof: bool) -> usize {
        let Mode::Undecided { bom_checked } = &mut self.mode else { return 0 };
        let mut rest = data;
        if !*bom_checked {
            if data.len() < BOM.len() && !eof {
                return 0;
            }
            *bom_checked = true;
            rest = data.strip_prefix(BOM).unwrap_or(data);
        }
        rest = trim_start(rest);
        let skipped = data.len() - rest.len();
        self.offset += skipped as u64;
        if rest.starts_with(&MAGIC) {
            self.mode = Mode::Segments(Segments::new(self.limits));
        } else if rest.len() >= WINDOW_BYTES || eof {
            let window = &rest[..rest.len().min(WINDOW_BYTES)];
            let whole = eof && window.len() == rest.len();
            self.mode = if blocks::vote(window) {
                Mode::Blocks(Blocks::new(self.limits, rest))
            } else {
                match lines::vote(window, whole) {
                    Some((prefixed, keys)) => Mode::Lines(Lines::new(self.limits, prefixed, keys)),
                    None => Mode::Document(Document::new(self.limits, FirstKeys::default())),
                }
            };
        }
        skipped
    }
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// JSON whitespace (RFC 8259 section 2).
const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r')
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().take_while(|b| is_space(**b)).count();
    &bytes[n..]
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().rev().take_while(|b| is_space(**b)).count();
    &bytes[..bytes.len() - n]
}

/// Without the whitespace and commas at the end, which stand between records.
fn trim_separators(bytes: &[u8]) -> &[u8] {
    let n = bytes.iter().rev().take_while(|b| is_space(**b) || **b == b',').count();
    &bytes[..bytes.len() - n]
}

fn too_large(limits: Limits) -> Rejection {
    Rejection::new(
        Reject::RecordTooLarge,
        format!(
            "the record is larger than {} bytes; its bytes stand in consecutive entries",
            limits.max_record_bytes
        ),
    )
}
