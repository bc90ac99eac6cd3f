//! Records that are lines.

use std::ops::Range;

use keytrail_model::Rejection;
use memchr::{memchr, memchr_iter};

use super::container::{is_array, is_container};
use super::document::Document;
use super::first_keys::{FirstKeys, Look, first_key};
use super::scanner::{Scanner, Step};
use super::{Emit, Limits, Shape, is_space, too_large, trim_end, trim_separators, trim_start};
use crate::containers::export_prefix;

/// A file of lines in the course of being cut.
#[derive(Debug)]
pub(super) struct Lines {
    limits: Limits,
    /// Lines have a text before their object.
    prefixed: bool,
    keys: FirstKeys,
    /// Bytes of the unfinished line that hold no line feed.
    searched: usize,
    /// Inside a line that is larger than a record may be.
    is_too_large: bool,
}

impl Lines {
    pub(super) fn new(limits: Limits, prefixed: bool, keys: FirstKeys) -> Self {
        Self { limits, prefixed, keys, searched: 0, is_too_large: false }
    }

    /// As it stood at a place.
    pub(super) fn at(limits: Limits, prefixed: bool, first_keys: &[String], is_too_large: bool) -> Self {
        Self { limits, prefixed, keys: FirstKeys::of(first_keys), searched: 0, is_too_large }
    }

    /// What [`Lines::at`] wants.
    pub(super) fn place(&self) -> (Shape, bool) {
        (Shape::Lines { prefixed: self.prefixed, first_keys: self.keys.list() }, self.is_too_large)
    }

    /// As [`Document::run`].
    pub(super) fn run(&mut self, data: &[u8], eof: bool, emit: &mut dyn Emit) -> usize {
        let max = self.limits.max_record_bytes;
        let mut start = 0;
        loop {
            let from = start + self.searched;
            let window = &data[from..data.len().min(start.saturating_add(max).saturating_add(1))];
            match memchr(b'\n', window) {
                Some(n) => {
                    self.line(data, start, from + n, emit);
                    self.is_too_large = false;
                    self.searched = 0;
                    start = from + n + 1;
                }
                None if from + window.len() - start > max => {
                    emit.frame(start..start + max, Err(too_large(self.limits)));
                    self.is_too_large = true;
                    self.searched = 1;
                    start += max;
                }
                None if eof => {
                    self.line(data, start, data.len(), emit);
                    return data.len();
                }
                None => {
                    self.searched = data.len() - start;
                    return start;
                }
            }
        }
    }

    /// Whether an unfinished line is a whole record but for its line feed.
    pub(super) fn is_whole(&self, line: &[u8]) -> bool {
        let line = trim_end(line);
        !self.is_too_large
            && memchr(b'{', line)
                .is_some_and(|at| Scanner::object().advance(&line[at..], 0, 0) == Step::End(line.len() - at))
    }

    /// One line, without its line feed.
    fn line(&mut self, data: &[u8], start: usize, end: usize, emit: &mut dyn Emit) {
        let line = trim_end(&data[start..end]);
        if self.is_too_large {
            if !line.is_empty() {
                emit.frame(start..start + line.len(), Err(too_large(self.limits)));
            }
            return;
        }
        let trimmed = trim_start(line);
        if trimmed.is_empty() {
            return;
        }
        let start = start + line.len() - trimmed.len();
        let end = start + trimmed.len();
        let object = if self.prefixed {
            memchr(b'{', trimmed)
        } else {
            // The time that an export puts before a record stands alone in a file of other lines, too.
            let at = export_prefix(trimmed);
            (trimmed.get(at) == Some(&b'{')).then_some(at)
        };
        if let Some(at) = object
            && self.is_one_record(&trimmed[at..])
        {
            self.keys.learn(&trimmed[at..]);
            emit.frame(start..end, Ok(()));
            return;
        }
        let prefix = &trimmed[..object.unwrap_or(0)];
        for (a, b, verdict) in self.cut(trimmed, prefix) {
            emit.frame(start + a..start + b, verdict);
        }
    }

    /// Whether a line that starts with `{` is one record and no more. Most lines need no scan for
    /// that: an object behind anything but `:`, `,` or `[`, or one that starts as records do, may be
    /// a record glued on. A line that passes may still be no JSON: the normalizer says so.
    fn is_one_record(&mut self, line: &[u8]) -> bool {
        if !line.ends_with(b"}") || matches!(is_container(line, true), Look::Yes(_)) {
            return false;
        }
        let own_key = plain_first_key(line);
        let suspicious = memchr_iter(b'{', line).skip(1).any(|at| {
            !matches!(trim_end(&line[..at]).last(), Some(b':' | b',' | b'['))
                || own_key.is_some_and(|key| trim_start(&line[at + 1..]).starts_with(key))
                || self.keys.begins(&line[at..], true) == Look::Yes(())
        });
        !suspicious || Scanner::object().advance(line, 0, 0) == Step::End(line.len())
    }

    /// A line that is not one record: glued or torn records, or no record at all.
    fn cut(&mut self, line: &[u8], prefix: &[u8]) -> Vec<(usize, usize, Result<(), Rejection>)> {
        let mut frames: Vec<(usize, usize, Result<(), Rejection>)> = Vec::new();
        let mut document = Document::of_line(self.limits, std::mem::take(&mut self.keys));
        document.run(line, true, &mut |range: Range<usize>, verdict: Result<(), Rejection>| {
            let (mut start, end) = (range.start, range.end);
            // A record of a prefixed line keeps its prefix.
            if !prefix.is_empty()
                && verdict.is_ok()
                && line[..start].ends_with(prefix)
                && let Some((a, b, Err(_))) = frames.last_mut()
                && *a <= start - prefix.len()
            {
                start -= prefix.len();
                *b = start.min(*b);
                if *a == *b {
                    frames.pop();
                }
            }
            frames.push((start, end, verdict));
        });
        self.keys = document.into_keys();
        frames
    }
}

fn plain_first_key(line: &[u8]) -> Option<&[u8]> {
    match first_key(line, true) {
        Look::Yes(key) => Some(key),
        Look::No | Look::More => None,
    }
}

/// Whether the start of a file holds lines of objects: `Some` of whether they have a prefix and of
/// the first keys seen. `whole` says that `window` is the whole file. A line that opens an object and
/// breaks does not vote; one that is no object votes against.
pub(super) fn vote(window: &[u8], whole: bool) -> Option<(bool, FirstKeys)> {
    let document = match window.first()? {
        b'{' => matches!(is_container(window, true), Look::Yes(_)),
        b'[' if trim_start(&window[1..]).starts_with(b"{") => is_array(window, true) == Look::Yes(()),
        _ => false,
    };
    if document {
        return None;
    }
    let lines = if whole { window } else { &window[..memchr::memrchr(b'\n', window)?] };
    let (mut plain, mut prefixed, mut against) = (0, 0, 0);
    let mut keys = FirstKeys::default();
    for line in lines.split(|b| *b == b'\n') {
        let line = trim_separators(trim_start(line));
        let Some(at) = memchr(b'{', line) else {
            against += usize::from(!line.is_empty());
            continue;
        };
        let object = &line[at..];
        let may_be_prefix = at == 0 || is_prefix(&line[..at]);
        if !may_be_prefix || plain_first_key(object).is_none() {
            against += 1;
            continue;
        }
        if let Step::End(end) = Scanner::object().advance(object, 0, 0)
            && (end == object.len() || trim_start(&object[end..]).starts_with(b"{"))
        {
            keys.learn(object);
            *(if at == 0 { &mut plain } else { &mut prefixed }) += 1;
        }
    }
    (plain + prefixed > against).then_some((prefixed > plain, keys))
}

/// Whether the bytes before an object on a line are some text, not JSON.
fn is_prefix(bytes: &[u8]) -> bool {
    let inner = bytes.iter().skip_while(|b| is_space(**b) || **b == b'[').any(|b| !is_space(*b));
    inner && !matches!(bytes[0], b'"' | b'}' | b']' | b',' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(text: &str) -> Option<bool> {
        vote(text.as_bytes(), true).map(|(prefixed, _)| prefixed)
    }

    #[test]
    fn lines_and_documents_are_told_apart() {
        assert_eq!(mode("{\"a\":1}\n{\"a\":2}\n"), Some(false));
        assert_eq!(mode("{\"a\":1}"), Some(false));
        assert_eq!(mode("{\"a\":\n{\"a\":2}\n{\"a\":3}\n"), Some(false));
        assert_eq!(mode("garbage\n{\"a\":2}\n{\"a\":3}\n"), Some(false));
        assert_eq!(mode("audit: {\"a\":2}\naudit: {\"a\":3}\n"), Some(true));
        assert_eq!(mode("[audit] {\"a\":2}\n"), Some(true));
        assert_eq!(mode("{\"Records\":[{\"a\":1}]}\n"), None);
        assert_eq!(mode("{\"records\":[{\"a\":1}]}\n"), None);
        assert_eq!(mode("{\"kind\":\"EventList\",\"items\":[{\"a\":1}]}\n"), None);
        assert_eq!(mode("{\"NextToken\":\"x\",\"Events\":[{\"a\":1}]}\n"), None);
        assert_eq!(mode("{\n  \"a\": {\"b\": 1}\n}\n"), None);
        assert_eq!(mode("[\n{\"a\":1},\n{\"a\":2}\n]\n"), None);
        assert_eq!(mode("[{\"a\":1},{\"a\":2}]"), None);
        assert_eq!(mode("text\nof a licence { }\n"), None);
    }
}
