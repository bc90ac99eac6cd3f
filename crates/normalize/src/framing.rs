//! Cuts inflated bytes into records.
//!
//! What it is: a streaming splitter. It is fed an object's inflated bytes in pieces of any size and
//! gives frames in order: the exact bytes of a record with their offset, or bytes that are no record
//! with the reason. What it is not: a JSON parser. It follows brackets and strings; whether a frame's
//! JSON is right is judged by [`crate::normalize`]. In: bytes. Out: [`Frame`]s.
//!
//! Shapes: lines of JSON objects (with a prefix before the object where the first lines have one),
//! JSON arrays, concatenated objects, and the containers `{"Records":[...]}` (CloudTrail log file) and
//! `{"Events":[...],"NextToken":...}` (CloudTrail LookupEvents answer). Which of lines and document a
//! file is follows from its first [`WINDOW_BYTES`].
//!
//! Nothing is dropped: outside frames are only a byte order mark, whitespace, commas between records,
//! and brackets and known keys of containers. Where bytes are broken, the next record begins where an
//! object opens with the first key of an earlier record; what lies between is one bad frame. Frames do
//! not depend on how the bytes are cut into pieces, time is linear in the input whatever it holds, and
//! memory stays near twice [`Limits::max_record_bytes`].

mod document;
mod first_keys;
mod lines;
mod scanner;
#[cfg(test)]
mod tests;

use keytrail_model::{Reject, Rejection};

use document::Document;
use first_keys::FirstKeys;
use lines::Lines;

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

/// Cuts one object's bytes into frames.
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    mode: Mode,
    /// Bytes that are in no frame yet.
    carry: Vec<u8>,
    /// Offset of `carry` in the object.
    offset: u64,
}

#[derive(Debug)]
enum Mode {
    Undecided { bom_checked: bool },
    Lines(Lines),
    Document(Document),
}

/// A frame as ranges of the bytes at hand.
type Emit<'a> = dyn FnMut(std::ops::Range<usize>, Result<(), Rejection>) + 'a;

impl Splitter {
    /// A splitter at the start of an object.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits { max_record_bytes: limits.max_record_bytes.max(1) };
        Self { limits, mode: Mode::Undecided { bom_checked: false }, carry: Vec::new(), offset: 0 }
    }

    /// Takes the next bytes and gives the frames that end in them.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Frame<'_>)) {
        if self.carry.is_empty() && !matches!(self.mode, Mode::Undecided { .. }) {
            let used = run(&mut self.mode, bytes, false, self.offset, sink);
            self.offset += used as u64;
            self.carry.extend_from_slice(&bytes[used..]);
        } else {
            self.carry.extend_from_slice(bytes);
            self.advance(false, sink);
        }
    }

    /// The object ends here: gives the rest.
    pub fn finish(mut self, sink: &mut dyn FnMut(Frame<'_>)) {
        self.advance(true, sink);
    }

    /// The object could not be read further: whole records are given, and what is left of an
    /// unfinished one leaves with `why`. Says whether anything was left.
    pub fn abort(mut self, why: &Rejection, sink: &mut dyn FnMut(Frame<'_>)) -> bool {
        self.decide(true);
        self.advance(false, sink);
        if let Mode::Lines(lines) = &self.mode
            && lines.is_whole(&self.carry)
        {
            self.advance(true, sink);
        }
        let rest = self.carry.trim_ascii_start();
        let offset = self.offset + (self.carry.len() - rest.len()) as u64;
        for (i, bytes) in rest.chunks(self.limits.max_record_bytes).enumerate() {
            let offset = offset + (i * self.limits.max_record_bytes) as u64;
            sink(Frame { bytes, offset, verdict: Err(why.clone()) });
        }
        !rest.is_empty()
    }

    fn advance(&mut self, eof: bool, sink: &mut dyn FnMut(Frame<'_>)) {
        self.decide(eof);
        let used = run(&mut self.mode, &self.carry, eof, self.offset, sink);
        self.consume(used);
    }

    fn consume(&mut self, n: usize) {
        self.carry.drain(..n);
        self.offset += n as u64;
    }

    /// Chooses the mode once there is enough to choose by.
    fn decide(&mut self, eof: bool) {
        let Mode::Undecided { bom_checked } = &mut self.mode else { return };
        if !*bom_checked {
            if self.carry.len() < BOM.len() && !eof {
                return;
            }
            *bom_checked = true;
            if self.carry.starts_with(BOM) {
                self.consume(BOM.len());
            }
        }
        self.consume(self.carry.len() - trim_start(&self.carry).len());
        if self.carry.len() < WINDOW_BYTES && !eof {
            return;
        }
        let window = &self.carry[..self.carry.len().min(WINDOW_BYTES)];
        let whole = eof && window.len() == self.carry.len();
        self.mode = match lines::vote(window, whole) {
            Some((prefixed, keys)) => Mode::Lines(Lines::new(self.limits, prefixed, keys)),
            None => Mode::Document(Document::new(self.limits, FirstKeys::default())),
        };
    }
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Runs the mode over `data`; gives how many bytes are in frames or insignificant.
fn run(mode: &mut Mode, data: &[u8], eof: bool, offset: u64, sink: &mut dyn FnMut(Frame<'_>)) -> usize {
    let mut emit = |range: std::ops::Range<usize>, verdict| {
        let offset = offset + range.start as u64;
        sink(Frame { bytes: &data[range], offset, verdict });
    };
    match mode {
        Mode::Undecided { .. } => 0,
        Mode::Lines(lines) => lines.run(data, eof, &mut emit),
        Mode::Document(document) => document.run(data, eof, &mut emit),
    }
}

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
