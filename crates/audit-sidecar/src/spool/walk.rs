//! Reading a segment from part to part, over damage.

use std::fmt;
use std::io;
use std::sync::Arc;

use keytrail_model::segment::{
    FOOTER_BYTES, Fault, Footer, Header, MAX_RECORD_BYTES, MAX_SOURCE_BYTES, Part, RECORD_HEADER_BYTES,
    read_header, read_part,
};

use super::files::FileAccess;
use super::window::Window;

/// Bytes whose checksum is computed at most in search of the next record behind a bad one: bytes that look
/// like the beginning of a long record a million times over would cost terabytes.
const SEARCH_BYTES: u64 = 1 << 30;

/// Bytes of the smallest record.
const LEAST_BYTES: u64 = RECORD_HEADER_BYTES as u64 + 1;

/// What is wrong with a place in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It does not begin as a segment of its name does.
    Header,
    /// Bytes that are no record, before others that are.
    Bytes,
    /// Room that was not written, before records.
    Blank,
    /// Records are missing: the next one has this number.
    Missing(u64),
    /// A whole record whose number, this one, is not higher than that of the record before.
    Repeated(u64),
    /// The footer does not fit the records, or the segment has none and is not the newest.
    Footer,
    /// Bytes behind the footer.
    Behind,
    /// The record before the first is not the last of the segment before.
    Link,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the header is damaged"),
            Self::Bytes => f.write_str("the bytes are no record"),
            Self::Blank => f.write_str("nothing is written there"),
            Self::Missing(next) => write!(f, "records are missing, the next one is {next}"),
            Self::Repeated(seq) => write!(f, "record {seq} follows one that is not before it"),
            Self::Footer => f.write_str("the footer is not that of the records"),
            Self::Behind => f.write_str("bytes follow the footer"),
            Self::Link => f.write_str("the header names another record before the first"),
        }
    }
}

/// What a step came upon.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Step<'a> {
    Record {
        seq: u64,
        bytes: &'a [u8],
    },
    /// Bytes that were stepped over, and the number that was expected there.
    Damaged {
        at: u64,
        bytes: u64,
        expected: u64,
        wrong: Wrong,
    },
    Footer(Footer),
    /// Nothing more: where the last part ends, and how many bytes behind it are no part and not blank.
    End {
        at: u64,
        torn: u64,
    },
}

/// A place in a segment.
pub(super) struct Walk {
    window: Window,
    header: Option<Header>,
    at: u64,
    expected: u64,
    /// Nothing was read yet, and the header is bad.
    headless: bool,
}

impl Walk {
    /// Begins with the first `end` bytes of a segment whose first record has that number.
    pub(super) fn new(file: Arc<dyn FileAccess>, end: u64, first_seq: u64) -> io::Result<Self> {
        let mut window = Window::new(file, end);
        let (header, at) = match read_header(window.at(0, 2 * MAX_SOURCE_BYTES)?) {
            Ok((header, length)) => (Some(header), length as u64),
            Err(_) => (None, 0),
        };
        let headless = header.is_none();
        Ok(Self { window, header, at, expected: first_seq, headless })
    }

    pub(super) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Where the next part is.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The number that the next record should have.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// Goes on at the beginning of a part that was come upon before.
    pub(super) fn resume_at(&mut self, at: u64, expected: u64) {
        (self.at, self.expected, self.headless) = (at, expected, false);
    }

    /// Bytes of the segment that were read before.
    pub(super) fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        Ok(&self.window.at(at, length)?[..length])
    }

    /// Bytes behind the part that was read last, up to the last that is not zero.
    pub(super) fn behind(&mut self) -> io::Result<u64> {
        Ok(self.window.last_written(self.at)?.map_or(0, |last| last - self.at))
    }

    /// The next part.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        if std::mem::take(&mut self.headless) {
            return self.resume(Wrong::Header);
        }
        if self.at >= self.window.end() {
            return Ok(Step::End { at: self.at, torn: 0 });
        }
        let at = self.at;
        match self.part(at)? {
            Ok(Found::Record { seq, bytes }) if seq == self.expected => {
                self.at += bytes as u64;
                self.expected += 1;
                let record = &self.window.at(at, bytes)?[RECORD_HEADER_BYTES..bytes];
                Ok(Step::Record { seq, bytes: record })
            }
            Ok(Found::Record { seq, .. }) if seq > self.expected => {
                let expected = std::mem::replace(&mut self.expected, seq);
                Ok(Step::Damaged { at, bytes: 0, expected, wrong: Wrong::Missing(seq) })
            }
            Ok(Found::Record { seq, bytes }) => {
                self.at += bytes as u64;
                let (expected, bytes) = (self.expected, bytes as u64);
                Ok(Step::Damaged { at, bytes, expected, wrong: Wrong::Repeated(seq) })
            }
            Ok(Found::Footer(footer)) => {
                self.at += FOOTER_BYTES as u64;
                Ok(Step::Footer(footer))
            }
            Ok(Found::Blank) => match self.window.last_written(at)? {
                None => Ok(Step::End { at, torn: 0 }),
                Some(_) => self.resume(Wrong::Blank),
            },
            Err(()) => self.resume(Wrong::Bytes),
        }
    }

    /// Steps over the bytes up to the next part that is whole; without one the segment ends here.
    fn resume(&mut self, wrong: Wrong) -> io::Result<Step<'_>> {
        let (at, expected) = (self.at, self.expected);
        let next = match self.search()? {
            Search::Found(next, seq) => {
                self.expected = self.expected.max(seq);
                next
            }
            Search::Nothing => {
                let torn = self.window.last_written(at)?.map_or(0, |last| last - at);
                return Ok(Step::End { at, torn });
            }
            // Who knows what follows: it stays.
            Search::TooMuch => self.window.last_written(at)?.unwrap_or(at),
        };
        self.at = next;
        Ok(Step::Damaged { at, bytes: next - at, expected, wrong })
    }

    /// Finds the next whole record behind `at` that may be one of the next, or a footer.
    fn search(&mut self) -> io::Result<Search> {
        let mut left = SEARCH_BYTES;
        let Some(last) = self.window.last_written(self.at)? else { return Ok(Search::Nothing) };
        let mut at = self.at + 1;
        while at + LEAST_BYTES <= self.window.end() && at < last {
            let piece = self.window.at(at, RECORD_HEADER_BYTES)?;
            let starts = piece.len().saturating_sub(RECORD_HEADER_BYTES - 1);
            // As many records as have room in the bytes that were stepped over.
            let first = (at - self.at) / LEAST_BYTES + 1;
            let numbers = self.expected..=self.expected.saturating_add(first + starts as u64);
            let candidate = (0..starts).find(|i| may_begin(&piece[*i..*i + RECORD_HEADER_BYTES], &numbers));
            let Some(i) = candidate else {
                at += starts.max(1) as u64;
                continue;
            };
            at += i as u64;
            let length = length_at(&piece[i..]);
            if at + length <= self.window.end() {
                let Some(rest) = left.checked_sub(length) else { return Ok(Search::TooMuch) };
                left = rest;
                match self.part(at)? {
                    Ok(Found::Record { seq, .. }) => return Ok(Search::Found(at, seq)),
                    Ok(Found::Footer(footer)) => {
                        return Ok(Search::Found(at, footer.last_seq.saturating_add(1)));
                    }
                    Ok(Found::Blank) | Err(()) => {}
                }
            }
            at += 1;
        }
        Ok(Search::Nothing)
    }

    /// The part at `at`; an error where it is none.
    fn part(&mut self, at: u64) -> io::Result<Result<Found, ()>> {
        let mut needed = RECORD_HEADER_BYTES;
        loop {
            let end = self.window.end();
            match read_part(self.window.at(at, needed)?) {
                Ok((Part::Record { seq, .. }, bytes)) => return Ok(Ok(Found::Record { seq, bytes })),
                Ok((Part::Footer(footer), _)) => return Ok(Ok(Found::Footer(footer))),
                Ok((Part::Blank, _)) => return Ok(Ok(Found::Blank)),
                Err(Fault::Short { needed: more }) if more > needed && at + more as u64 <= end => {
                    needed = more
                }
                // Fewer bytes than a length has, at the end: blank if they are.
                Err(Fault::Short { .. }) if at + 4 > end => return Ok(Ok(Found::Blank)),
                Ok((Part::Header(_), _)) | Err(_) => return Ok(Err(())),
            }
        }
    }
}

enum Found {
    Record { seq: u64, bytes: usize },
    Footer(Footer),
    Blank,
}

enum Search {
    /// Where it is, and the number that a record would have there.
    Found(u64, u64),
    Nothing,
    TooMuch,
}

/// Bytes of the part that begins so.
fn length_at(bytes: &[u8]) -> u64 {
    match u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) {
        u32::MAX => FOOTER_BYTES as u64,
        n => RECORD_HEADER_BYTES as u64 + u64::from(n),
    }
}

/// Whether a record with one of these numbers, or a footer, may begin so.
fn may_begin(bytes: &[u8], numbers: &std::ops::RangeInclusive<u64>) -> bool {
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if length == 0 || (length as usize > MAX_RECORD_BYTES && length != u32::MAX) {
        return false;
    }
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[8..16]);
    let number = u64::from_le_bytes(number);
    // A footer names the last record, which may be the one before.
    numbers.contains(&number) || (length == u32::MAX && number.wrapping_add(1) == *numbers.start())
}
