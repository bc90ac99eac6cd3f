//! Records that are blocks of lines: the audit log of an AWS CloudHSM.
//!
//! A block begins with the line `Time: MM/DD/YY HH:MM:SS...`, which an export of CloudWatch Logs puts a
//! time of its own before, and goes on to the next such line: what stands between is the block's. Where a
//! block broke off and the next one was glued on, the next begins with its whole first line and the
//! second one's name: a text such as a user's name, which holds no line feed, cannot look like that.
//! A line that opens a JSON object is a record of its own.

use keytrail_model::{Reject, Rejection};
use memchr::{memchr, memchr2, memrchr};
use serde::{Deserialize, Serialize};

use super::{Emit, Limits, Shape, is_space, too_large, trim_end, trim_start};
use crate::containers::{EXPORT_PREFIX, begins, export_prefix};

/// Bytes behind a byte that decide whether a block begins near it: more than a first line and the next
/// one's name have.
const LOOK_BYTES: usize = 128;
/// Length of the time that an export puts before a record, with its space.
const PREFIX_BYTES: usize = EXPORT_PREFIX.len();
/// Names of the lines that may stand second.
const SECOND: [&[u8]; 2] = [b"Sequence No", b"Version No"];

/// A file of blocks in the course of being cut.
#[derive(Debug)]
pub(super) struct Blocks {
    limits: Limits,
    kind: Kind,
    /// Bytes of the unfinished record in which no other begins.
    searched: usize,
    /// Inside of what is larger than a record may be.
    is_too_large: bool,
}

/// What the unfinished record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A block.
    Block,
    /// A JSON object on one line.
    Object,
    /// Lines that belong to no block.
    Stray,
}

/// Where the next record begins.
struct Next {
    at: usize,
    kind: Kind,
    /// It is glued on: where the record that broke off before it begins, which is the start of the line
    /// or of the unfinished record.
    torn: Option<usize>,
}

impl Blocks {
    /// For bytes that begin a line.
    pub(super) fn new(limits: Limits, data: &[u8]) -> Self {
        Self { limits, kind: kind_of_line(data), searched: 0, is_too_large: false }
    }

    /// As it stood at a place.
    pub(super) fn at(limits: Limits, kind: Kind, is_too_large: bool) -> Self {
        Self { limits, kind, searched: 0, is_too_large }
    }

    /// What [`Blocks::at`] wants.
    pub(super) fn place(&self) -> (Shape, bool) {
        (Shape::Blocks { kind: self.kind }, self.is_too_large)
    }

    /// As [`super::Lines::run`].
    pub(super) fn run(&mut self, data: &[u8], eof: bool, emit: &mut dyn Emit) -> usize {
        let max = self.limits.max_record_bytes;
        let mut start = 0;
        loop {
            let rest = &data[start..];
            let next = self.next(rest, eof);
            // A record that ends in time would have been seen to.
            let is_too_large = match &next {
                Some(next) => next.at > max,
                None => rest.len() > max && (eof || self.searched > max.saturating_add(PREFIX_BYTES)),
            };
            match next {
                _ if is_too_large => {
                    emit.frame(start..start + max, Err(too_large(self.limits)));
                    self.is_too_large = true;
                    self.searched = 0;
                    start += max;
                }
                Some(next) => {
                    match next.torn {
                        Some(torn_at) if !self.is_too_large => {
                            self.emit(&rest[..torn_at], start, emit);
                            let torn =
                                Rejection::new(Reject::RecordTorn, "the record breaks off before its end");
                            emit.frame(start + torn_at..start + next.at, Err(torn));
                        }
                        _ => self.emit(&rest[..next.at], start, emit),
                    }
                    start += next.at;
                    (self.kind, self.searched, self.is_too_large) = (next.kind, 0, false);
                }
                None if eof => {
                    self.emit(rest, start, emit);
                    return data.len();
                }
                None => return start,
            }
        }
    }

    /// How many of these bytes hold whole records, when nothing comes behind them: the last record may
    /// have gone on.
    pub(super) fn whole(&self, data: &[u8]) -> usize {
        let mut whole = 0;
        let mut ahead = Self { searched: 0, ..*self };
        while let Some(Next { at, kind, torn: None }) = ahead.next(&data[whole..], true) {
            whole += at;
            ahead = Self { kind, searched: 0, ..ahead };
        }
        whole
    }

    /// The start of the next record behind the first byte, among those that a record of the largest size
    /// would end at.
    fn next(&mut self, data: &[u8], eof: bool) -> Option<Next> {
        let end = data.len().min(self.limits.max_record_bytes.saturating_add(PREFIX_BYTES + 1));
        while let Some(n) = memchr2(b'\n', b'T', data.get(self.searched..end)?) {
            let hit = self.searched + n;
            if hit + LOOK_BYTES > data.len() && !eof {
                self.searched = hit;
                return None;
            }
            let found = if data[hit] == b'\n' { self.at_line(data, hit + 1) } else { self.glued(data, hit) };
            if found.is_some() {
                return found;
            }
            self.searched = hit + 1;
        }
        self.searched = end;
        None
    }

    fn at_line(&self, data: &[u8], at: usize) -> Option<Next> {
        let kind = kind_of_line(&data[at..]);
        let ends = kind != Kind::Stray || self.kind == Kind::Object;
        ends.then_some(Next { at, kind, torn: None })
    }

    fn glued(&self, data: &[u8], at: usize) -> Option<Next> {
        if self.kind == Kind::Object || !is_whole_first_line(&data[at..]) {
            return None;
        }
        let prefixed =
            at.checked_sub(PREFIX_BYTES).filter(|from| export_prefix(&data[*from..]) == PREFIX_BYTES);
        let at = prefixed.unwrap_or(at);
        let near = at.saturating_sub(LOOK_BYTES);
        let line = memrchr(b'\n', &data[near..at]).map_or(0, |n| near + n + 1);
        let before = &data[line..at];
        let torn = if before.iter().all(|b| is_space(*b)) {
            None
        } else {
            Some(if is_cut_first_line(before) { line } else { 0 })
        };
        (at > 0).then_some(Next { at, kind: Kind::Block, torn })
    }

    /// Emits a record with what stands around it, all of which begins at `start`.
    fn emit(&self, record: &[u8], start: usize, emit: &mut dyn Emit) {
        let record = trim_end(record);
        let trimmed = trim_start(record);
        if trimmed.is_empty() {
            return;
        }
        let from = start + record.len() - trimmed.len();
        let verdict = if self.is_too_large {
            Err(too_large(self.limits))
        } else if self.kind == Kind::Stray {
            Err(Rejection::new(
                Reject::FormatUnknown,
                "expected a line that begins with `Time: ` and a date; these lines belong to no record",
            ))
        } else {
            Ok(())
        };
        emit.frame(from..from + trimmed.len(), verdict);
    }
}

/// Whether the start of a file holds blocks: the first line that is the first of a block stands before
/// any bracket of JSON.
pub(super) fn vote(window: &[u8]) -> bool {
    let text = &window[..memchr(b'{', window).unwrap_or(window.len())];
    kind_of_line(text) == Kind::Block
        || memchr::memchr_iter(b'\n', text).any(|at| kind_of_line(&text[at + 1..]) == Kind::Block)
}

/// How a block begins.
const BEGIN: &[u8] = b"Time: ##/##/## ##:##:##";

/// What begins with a line.
fn kind_of_line(line: &[u8]) -> Kind {
    let record = &line[export_prefix(line)..];
    if begins(record, BEGIN) {
        Kind::Block
    } else if record.first() == Some(&b'{') {
        Kind::Object
    } else {
        Kind::Stray
    }
}

/// Whether a text begins with a block's first line and the name of its second.
fn is_whole_first_line(text: &[u8]) -> bool {
    const FIRST: &[u8] = b"Time: ##/##/## ##:##:##.######, usecs:";
    if !begins(text, FIRST) {
        return false;
    }
    let digits = text[FIRST.len()..].iter().take(20).take_while(|b| b.is_ascii_digit()).count();
    let rest = &text[FIRST.len() + digits..];
    let second = rest.strip_prefix(b"\r").unwrap_or(rest).strip_prefix(b"\n");
    digits > 0 && second.is_some_and(|line| SECOND.iter().any(|name| line.starts_with(name)))
}

/// Whether a line is the first of a block but broke off too early to be known for one.
fn is_cut_first_line(line: &[u8]) -> bool {
    let record = &line[export_prefix(line)..];
    let cut = |shape: &[u8]| record.len() < shape.len() && begins(record, &shape[..record.len()]);
    cut(BEGIN) || cut(EXPORT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_blocks_are_told_from_others() {
        assert!(vote(b"Time: 12/19/17 21:01:17.140812, usecs:1\nSequence No : 0x1\n"));
        assert!(vote(b"2017-12-19T21:01:17.140Z Time: 12/19/17 21:01:17.140812, usecs:1\n"));
        assert!(vote(b"Public Key Handle : 0\n\nTime: 12/19/17 21:01:17.140812, usecs:1\n"));
        assert!(!vote(b"Time: flies like an arrow\n"));
        assert!(!vote(b"{\"a\":\"\nTime: 12/19/17 21:01:17.140812, usecs:1\n\"}"));
        assert!(!vote(b"a Time: 12/19/17 21:01:17.140812, usecs:1\n"));
        assert!(!vote(b""));
    }

    #[test]
    fn what_decides_is_looked_at_whole() {
        let longest = b"Time: 12/19/17 21:01:17.140812, usecs:12345678901234567890\r\nSequence No";
        assert!(is_whole_first_line(longest) && PREFIX_BYTES + longest.len() < LOOK_BYTES);
        assert_eq!(export_prefix(b"2017-12-19T21:01:17.140Z x"), PREFIX_BYTES);
    }
}
