//! Follows brackets and strings of one JSON value, piece by piece.

use keytrail_model::json::{MAX_DEPTH, string_stop};

use super::is_space;

/// Whitespace between `{` and the first key of a record is looked through up to here.
pub(super) const MAX_GAP: usize = 64;

/// What a scan of the bytes at hand came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// The value goes on.
    More,
    /// The value ends before this index.
    End(usize),
    /// No JSON value goes on with the byte `at`. A record glued on may begin at `resume`, not before.
    Broken {
        /// The first byte that does not fit.
        at: usize,
        /// Where to look for the next record.
        resume: usize,
    },
}

/// State of a scan. Grammar is checked as far as it tells a torn value early: what may follow a
/// string, a bracket, a scalar.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    /// One bit a level: set where a `{` opened it. Deeper levels than 128 are not told apart: such a
    /// record is refused whatever closes it.
    kinds: u128,
    depth: u32,
    /// Last significant byte outside strings: a bracket, `,`, `:`, `"` for a string, `0` for a
    /// scalar; NUL before the value.
    last: u8,
    text: Text,
    loose: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Text {
    Outside,
    Inside,
    Escape,
}

impl Scanner {
    /// For an object: ends behind its closing bracket.
    pub(super) fn object() -> Self {
        Self { kinds: 0, depth: 0, last: 0, text: Text::Outside, loose: false }
    }

    /// For what stands where a record should (a scalar, an array, a pair of an object): ends before
    /// the comma or closing bracket that follows it.
    pub(super) fn loose() -> Self {
        Self { loose: true, ..Self::object() }
    }

    /// Goes on at `bytes[from]`; the value, or what is left of it, starts at `start <= from`.
    pub(super) fn advance(&mut self, bytes: &[u8], start: usize, from: usize) -> Step {
        let mut i = from;
        loop {
            if self.text != Text::Outside {
                if self.text == Text::Escape && i < bytes.len() {
                    self.text = Text::Inside;
                    i += 1;
                }
                i = string_stop(bytes, i);
                match bytes.get(i) {
                    None => return Step::More,
                    Some(b'"') => self.text = Text::Outside,
                    Some(b'\\') => self.text = Text::Escape,
                    // A raw line feed: the string was never closed.
                    Some(_) => return Step::Broken { at: i, resume: hidden(bytes, start, i).unwrap_or(i) },
                }
                i += 1;
                continue;
            }
            let Some(b) = bytes.get(i) else { return Step::More };
            match *b {
                b'"' => {
                    if !matches!(self.last, b',' | b':' | b'{' | b'[' | 0) {
                        return Step::Broken { at: i, resume: i };
                    }
                    self.last = b'"';
                    self.text = Text::Inside;
                }
                b @ (b',' | b':') => {
                    if self.depth == 0 && b == b',' {
                        return Step::End(i);
                    }
                    self.last = b;
                }
                b @ (b'{' | b'[') => {
                    if !matches!(self.last, b',' | b':' | b'[' | 0) {
                        return Step::Broken { at: i, resume: i };
                    }
                    if self.depth < MAX_DEPTH {
                        let bit = 1 << self.depth;
                        if b == b'{' { self.kinds |= bit } else { self.kinds &= !bit }
                    }
                    self.depth = self.depth.saturating_add(1);
                    self.last = b;
                }
                b @ (b'}' | b']') => {
                    if self.depth == 0 {
                        return Step::End(i);
                    }
                    self.depth -= 1;
                    if self.depth < MAX_DEPTH && (self.kinds >> self.depth & 1 == 1) != (b == b'}') {
                        return Step::Broken { at: i, resume: i };
                    }
                    if self.depth == 0 && !self.loose {
                        return Step::End(i + 1);
                    }
                    self.last = b;
                }
                b if is_space(b) => {}
                _ => {
                    if !matches!(self.last, b',' | b':' | b'[' | b'0' | 0) {
                        let glued = (self.last == b'"' && i > start && bytes[i - 1] == b'"')
                            .then(|| hidden(bytes, start, i - 1))
                            .flatten();
                        return Step::Broken { at: i, resume: glued.unwrap_or(i) };
                    }
                    self.last = b'0';
                }
            }
            i += 1;
        }
    }
}

/// A torn string runs on to the first quote of the record glued on: the `{` before that quote, which
/// the scan took for part of the string.
fn hidden(bytes: &[u8], start: usize, quote: usize) -> Option<usize> {
    let low = (start + 1).max(quote.saturating_sub(MAX_GAP));
    let gap = bytes.get(low..quote)?;
    let at = low + gap.iter().rposition(|b| !is_space(*b))?;
    (bytes[at] == b'{').then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str) -> Step {
        Scanner::object().advance(text.as_bytes(), 0, 0)
    }

    #[test]
    fn ends_where_the_object_ends() {
        assert_eq!(scan(r#"{"a":[1,{"b":"}]\"\\"}]} tail"#), Step::End(24));
        assert_eq!(scan(r#"{"a":"#), Step::More);
        assert_eq!(scan("{}{"), Step::End(2));
        assert_eq!(Scanner::loose().advance(br#""k": [1,{"a":2}] , "l""#, 0, 0), Step::End(17));
        assert_eq!(Scanner::loose().advance(b"12]", 0, 0), Step::End(2));
    }

    #[test]
    fn torn_values_break_where_the_next_begins() {
        for (text, resume) in [
            (r#"{"a":"x{"a":1}"#, 7),
            (r#"{"a":"x\{"a":1}"#, 8),
            (r#"{"a":1{"a":1}"#, 6),
            (r#"{"a":"x"{"a":1}"#, 8),
            (r#"{"a":[{"a":1} {"a":1}"#, 14),
            (r#"{{"a":1}"#, 1),
            (r#"{"{"a":1}"#, 2),
            ("{\"a\":\"x\ny\"", 7),
            (r#"{"a":[}"#, 6),
            (r#"{1"#, 1),
        ] {
            let Step::Broken { resume: found, .. } = scan(text) else { panic!("{text}: {:?}", scan(text)) };
            assert_eq!(found, resume, "{text}");
        }
    }
}
