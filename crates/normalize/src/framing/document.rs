//! Records of a document: one after the other, in an array, or in a container object.

use keytrail_model::{Reject, Rejection};
use memchr::memchr;

use super::container::{Container, Key, is_array, is_container, key_of};
use super::first_keys::{FirstKeys, Look};
use super::scanner::{Scanner, Step};
use super::{Emit, Limits, is_space, too_large, trim_separators};

/// A document in the course of being cut. Indices are into the bytes of the next [`run`](Self::run).
#[derive(Debug)]
pub(super) struct Document {
    limits: Limits,
    keys: FirstKeys,
    inside: Vec<Container>,
    state: State,
    /// Something was seen that looks like a record.
    json_seen: bool,
}

#[derive(Debug)]
enum State {
    Between { at: usize },
    Value(Value),
    Resync { bad_from: usize, at: usize, torn_at: usize },
}

/// A value whose end is not seen yet, behind bad bytes that wait for it to be whole.
#[derive(Debug)]
struct Value {
    bad_from: usize,
    bad: Reject,
    start: usize,
    at: usize,
    scanner: Scanner,
    is_record: bool,
    is_too_large: bool,
}

impl Document {
    pub(super) fn new(limits: Limits, keys: FirstKeys) -> Self {
        Self { limits, keys, inside: Vec::new(), state: State::Between { at: 0 }, json_seen: false }
    }

    /// For one line of a file of lines, which is known to hold JSON.
    pub(super) fn of_line(limits: Limits, keys: FirstKeys) -> Self {
        Self { json_seen: true, ..Self::new(limits, keys) }
    }

    pub(super) fn into_keys(self) -> FirstKeys {
        self.keys
    }

    /// Whether no record and nothing around records is open.
    pub(super) fn is_closed(&self) -> bool {
        self.inside.is_empty() && matches!(self.state, State::Between { .. })
    }

    /// Emits the frames that end in `data`, which starts where the last run left off; gives how many
    /// bytes are done with.
    pub(super) fn run(&mut self, data: &[u8], eof: bool, emit: &mut dyn Emit) -> usize {
        let mut read = Utf8::default();
        loop {
            let state = std::mem::replace(&mut self.state, State::Between { at: 0 });
            let (next, wait) = match state {
                State::Between { at } => match self.between(data, at, eof) {
                    (State::Value(v), false) if v.is_record => {
                        (self.offered(data, v, &mut read, emit), false)
                    }
                    other => other,
                },
                State::Value(value) => self.value(data, value, eof, emit),
                State::Resync { bad_from, at, torn_at } => {
                    self.resync(data, bad_from, at, torn_at, eof, emit)
                }
            };
            self.state = next;
            if wait {
                break;
            }
        }
        let (State::Between { at: done }
        | State::Value(Value { bad_from: done, .. })
        | State::Resync { bad_from: done, .. }) = self.state;
        match &mut self.state {
            State::Between { at } => *at = 0,
            State::Value(v) => {
                v.bad_from = 0;
                v.start -= done;
                v.at -= done;
            }
            State::Resync { bad_from, at, torn_at } => {
                *bad_from = 0;
                *at -= done;
                *torn_at = torn_at.saturating_sub(done);
            }
        }
        done
    }

    /// Between two records.
    fn between(&mut self, data: &[u8], at: usize, eof: bool) -> (State, bool) {
        let at = at + data[at..].iter().take_while(|b| is_space(**b) || **b == b',').count();
        let Some(first) = data.get(at) else { return (State::Between { at }, true) };
        let rest = &data[at..];
        let goes_on = |n| (State::Between { at: at + n }, false);
        let record = || (State::Value(Value::new(at, Scanner::object(), true)), false);
        let other = || (State::Value(Value::new(at, Scanner::loose(), false)), false);
        let wait = (State::Between { at }, true);
        let junk = (State::Resync { bad_from: at, at, torn_at: usize::MAX }, false);
        match (self.inside.last(), first) {
            (None, b'{') => match is_container(rest, eof) {
                Look::More => wait,
                Look::No => record(),
                Look::Yes(container) => {
                    self.inside.push(container);
                    goes_on(1)
                }
            },
            (None, b'[') => match is_array(rest, eof) {
                Look::More => wait,
                Look::No => junk,
                Look::Yes(()) => {
                    self.inside.push(Container::Array);
                    goes_on(1)
                }
            },
            // Files put together into an array: the records of a file need no such look.
            (Some(Container::Array), b'{') if self.inside.len() == 1 => match is_container(rest, eof) {
                Look::More => wait,
                Look::No => record(),
                Look::Yes(container) => {
                    self.inside.push(container);
                    goes_on(1)
                }
            },
            (Some(Container::Array), b'{') => record(),
            (Some(Container::Array), b']') | (Some(Container::Object | Container::EventList), b'}') => {
                self.inside.pop();
                goes_on(1)
            }
            (Some(Container::Array), b'}' | b':') => junk,
            (Some(Container::Array), _) => other(),
            (Some(container), b'"') => match key_of(rest, eof) {
                Look::More => wait,
                Look::Yes((of, Key::Records(n))) if of == *container => {
                    self.inside.push(Container::Array);
                    goes_on(n)
                }
                Look::Yes((of, Key::Beside(n))) if of == *container => goes_on(n),
                Look::Yes(_) | Look::No => other(),
            },
            (None | Some(Container::Object | Container::EventList), _) => junk,
        }
    }

    /// Before a record: a sink that reads it where it stands spares the scan for its end.
    fn offered<'d>(
        &mut self,
        data: &'d [u8],
        record: Value,
        read: &mut Utf8<'d>,
        emit: &mut dyn Emit,
    ) -> State {
        let text = prefix(read.at(data, record.start), self.limits.max_record_bytes);
        let Some(len) = emit.record(text, record.start) else { return State::Value(record) };
        let end = record.start + len.min(text.len());
        self.keys.learn(&data[record.start..end]);
        self.json_seen = true;
        State::Between { at: end }
    }

    /// Inside a value.
    fn value(&mut self, data: &[u8], mut v: Value, eof: bool, emit: &mut dyn Emit) -> (State, bool) {
        let limit = v.start.saturating_add(self.limits.max_record_bytes);
        let to = data.len().min(limit);
        match v.scanner.advance(&data[..to], v.start, v.at) {
            Step::End(end) => {
                if v.is_too_large {
                    if v.start < end {
                        emit.frame(v.start..end, Err(too_large(self.limits)));
                    }
                } else {
                    self.emit_bad(data, v.bad_from, v.start, v.bad, emit);
                    let verdict = if v.is_record { Ok(()) } else { Err(self.not_a_record()) };
                    if v.is_record {
                        self.keys.learn(&data[v.start..end]);
                        self.json_seen = true;
                    }
                    let end = v.start + trim_separators(&data[v.start..end]).len();
                    emit.frame(v.start..end, verdict);
                }
                (State::Between { at: end }, false)
            }
            Step::Broken { at, resume } if v.is_too_large => {
                // The bytes up to here are the too large record's, whatever else they are.
                let resume = resume.max(v.start);
                if resume > v.start {
                    emit.frame(v.start..resume, Err(too_large(self.limits)));
                }
                (State::Resync { bad_from: resume, at: resume, torn_at: at.min(resume) }, false)
            }
            Step::Broken { at, resume } if v.is_record => {
                self.json_seen |= self.keys.learn(&data[v.start..=at]);
                let bad_from = if self.emit_torn(data, &v, resume, emit) { resume } else { v.bad_from };
                (State::Resync { bad_from, at: resume, torn_at: resume }, false)
            }
            Step::Broken { resume, .. } => {
                (State::Resync { bad_from: v.bad_from, at: resume, torn_at: usize::MAX }, false)
            }
            Step::More if to == limit => {
                if !v.is_too_large {
                    self.emit_bad(data, v.bad_from, v.start, v.bad, emit);
                }
                emit.frame(v.start..limit, Err(too_large(self.limits)));
                v = Value { bad_from: limit, start: limit, at: limit, is_too_large: true, ..v };
                (State::Value(v), false)
            }
            Step::More if eof => {
                if v.is_too_large {
                    if v.start < to {
                        emit.frame(v.start..to, Err(too_large(self.limits)));
                    }
                } else {
                    if v.is_record {
                        self.keys.learn(&data[v.start..]);
                    }
                    if !v.is_record || !self.emit_torn(data, &v, to, emit) {
                        self.emit_bad(data, v.bad_from, to, Reject::RecordTorn, emit);
                    }
                }
                (State::Between { at: to }, true)
            }
            Step::More => {
                v.at = to;
                (State::Value(v), true)
            }
        }
    }

    /// Looks for the next record behind bad bytes.
    fn resync(
        &mut self,
        data: &[u8],
        mut bad_from: usize,
        mut at: usize,
        torn_at: usize,
        eof: bool,
        emit: &mut dyn Emit,
    ) -> (State, bool) {
        let (found, to) = loop {
            match memchr(b'{', &data[at..]) {
                None => break (None, data.len()),
                Some(n) => at += n,
            }
            match self.keys.begins(&data[at..], eof) {
                Look::Yes(()) => break (Some(at), at),
                Look::More => break (None, at),
                Look::No => at += 1,
            }
        };
        // Whole pieces leave at once; the rest waits, since its code depends on what follows it.
        let max = self.limits.max_record_bytes;
        while to - bad_from >= max {
            emit.frame(bad_from..bad_from + max, Err(self.bad(self.no_record())));
            bad_from += max;
        }
        if let Some(start) = found {
            let bad = if start == torn_at { Reject::RecordTorn } else { Reject::JsonBroken };
            let value = Value { bad_from, bad, ..Value::new(start, Scanner::object(), true) };
            return (State::Value(value), false);
        }
        if eof {
            self.emit_bad(data, bad_from, to, self.no_record(), emit);
            return (State::Between { at: to }, true);
        }
        (State::Resync { bad_from, at: to, torn_at }, true)
    }

    /// Emits a record that broke off, if whole records end where it does, and them.
    fn emit_torn(&mut self, data: &[u8], v: &Value, end: usize, emit: &mut dyn Emit) -> bool {
        let tail = self.keys.tail(&data[v.start..end]);
        let Some((first, _)) = tail.first() else { return false };
        self.emit_bad(data, v.bad_from, v.start + first, Reject::RecordTorn, emit);
        for (start, end) in tail {
            emit.frame(v.start + start..v.start + end, Ok(()));
        }
        true
    }

    /// Emits bytes that are no record, in pieces of at most the largest record. The head of a torn
    /// record keeps all its bytes; otherwise separators at the end are not part of it.
    fn emit_bad(&self, data: &[u8], mut from: usize, to: usize, code: Reject, emit: &mut dyn Emit) {
        let max = self.limits.max_record_bytes;
        while to - from >= max {
            emit.frame(from..from + max, Err(self.bad(code)));
            from += max;
        }
        let rest = &data[from..to];
        let rest = if code == Reject::RecordTorn { rest } else { trim_separators(rest) };
        if !rest.is_empty() {
            emit.frame(from..from + rest.len(), Err(self.bad(code)));
        }
    }

    fn no_record(&self) -> Reject {
        if self.json_seen { Reject::JsonBroken } else { Reject::FormatUnknown }
    }

    fn bad(&self, code: Reject) -> Rejection {
        let reason = match code {
            Reject::RecordTorn => "the record breaks off before its end",
            Reject::FormatUnknown => "expected JSON objects, found none",
            _ => "expected a JSON object; the next record that could be made out begins behind these bytes",
        };
        Rejection::new(code, reason)
    }

    fn not_a_record(&self) -> Rejection {
        let reason = match self.inside.last() {
            Some(Container::Object) => {
                "expected `Records`, `records`, `Events`, `entries`, `NextToken` or `nextPageToken` in the object around the records"
            }
            Some(Container::EventList) => {
                "expected `kind`, `apiVersion`, an empty `metadata` or `items` in the list of events"
            }
            _ => "expected an object in the array of records",
        };
        Rejection::new(Reject::JsonBroken, reason)
    }
}

impl Value {
    fn new(start: usize, scanner: Scanner, is_record: bool) -> Self {
        Self {
            bad_from: start,
            bad: Reject::JsonBroken,
            start,
            at: start,
            scanner,
            is_record,
            is_too_large: false,
        }
    }
}

/// So many bytes are looked through for UTF-8 at once.
const STRIDE: usize = 256 << 10;

/// Bytes at hand that are UTF-8: looked through once, and not again for each record.
#[derive(Default)]
struct Utf8<'d> {
    /// Where the text begins in the bytes.
    start: usize,
    text: &'d str,
    /// What follows it was not looked through.
    is_cut: bool,
}

impl<'d> Utf8<'d> {
    /// The text from an index on: up to what is no UTF-8, or half a stride at least.
    fn at(&mut self, data: &'d [u8], at: usize) -> &'d str {
        let end = self.start + self.text.len();
        if at >= end || self.is_cut && end - at < STRIDE / 2 {
            let stride = &data[at..data.len().min(at + STRIDE)];
            self.start = at;
            (self.text, self.is_cut) = match std::str::from_utf8(stride) {
                Ok(text) => (text, at + stride.len() < data.len()),
                Err(e) => {
                    // A character may be cut where the stride ends.
                    let text = std::str::from_utf8(&stride[..e.valid_up_to()]).unwrap_or_default();
                    (text, e.error_len().is_none() && at + stride.len() < data.len())
                }
            };
        }
        self.text.get(at - self.start..).unwrap_or_default()
    }
}

/// The first characters of a text, in so many bytes at most.
fn prefix(text: &str, max_bytes: usize) -> &str {
    (0..4).find_map(|cut| text.get(..text.len().min(max_bytes).saturating_sub(cut))).unwrap_or_default()
}
