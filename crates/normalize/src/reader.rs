//! Reads the documented fields of a record that is in order: one pass over its text, each byte once.
//!
//! What it is: a strict reader of JSON that puts values where they belong as it passes them. What it is
//! not: it explains nothing. What it does not read (broken JSON, a wrong type, a field that stands twice,
//! an escape in a key) is serde's to judge, whose definition of the same fields stands beside: [`fields`]
//! writes both. So this reader may refuse what serde reads, and never the other way round.
//! In: a JSON text. Out: the fields and whether whitespace stands between values, or `None`.

use std::borrow::Cow;

use keytrail_model::json::{self, MAX_DEPTH};
use keytrail_model::row::Content;

/// What can be filled in from where a reader stands.
pub(crate) trait Read<'a> {
    /// Reads the value at the reader into `self`, which is its default before.
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()>;
}

/// Reads a text that is one JSON value and nothing behind it, but whitespace, into a default.
pub(crate) fn read<'a>(text: &'a str, into: &mut impl Read<'a>) -> Option<Content> {
    let (len, content) = read_first(text, into)?;
    text.get(len..)?.trim_ascii().is_empty().then_some(content)
}

/// Reads the JSON value that a text begins with into a default; gives its length too.
pub(crate) fn read_first<'a>(text: &'a str, into: &mut impl Read<'a>) -> Option<(usize, Content)> {
    let mut reader = Reader { text, at: 0, depth: 0, spaced: false };
    into.read(&mut reader)?;
    Some((reader.at, if reader.spaced { Content::Spaced } else { Content::AsIs }))
}

/// A position in a JSON text.
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    spaced: bool,
}

/// A string as it is written, without its quotes.
struct Literal<'a> {
    text: &'a str,
    escaped: bool,
}

impl<'a> Reader<'a> {
    /// The byte at the reader.
    pub fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Reads an object; `member` reads the value of each key. An escape in a key is not read.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.members(|reader, key| if key.escaped { None } else { member(reader, key.text) })
    }

    /// Reads an array; `item` reads each of its values.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.open(b'[')?;
        if self.peek() == Some(b']') {
            return self.close();
        }
        loop {
            item(self)?;
            if !self.goes_on(b']')? {
                return Some(());
            }
        }
    }

    /// Reads a string, which is copied if it holds escapes; `null` is the empty one.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.peek()? == b'n' {
            return self.word("null").map(|()| Cow::Borrowed(""));
        }
        let start = self.at;
        let literal = self.literal()?;
        if literal.escaped {
            return serde_json::from_str(self.text.get(start..self.at)?).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(literal.text))
    }

    /// Reads one of the words `true`, `false` and `null`.
    pub fn word(&mut self, word: &str) -> Option<()> {
        let end = self.at + word.len();
        if self.text.as_bytes().get(self.at..end)? != word.as_bytes() {
            return None;
        }
        self.at = end;
        Some(())
    }

    /// Passes over any value and gives its text.
    pub fn any(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.skip()?;
        self.text.get(start..self.at)
    }

    /// Passes over any value. It calls itself at most [`MAX_DEPTH`] times over.
    pub fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.literal().map(|_| ()),
            b'{' => self.members(|reader, _| reader.skip()),
            b'[' => self.array(Self::skip),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn members(&mut self, mut member: impl FnMut(&mut Self, Literal<'a>) -> Option<()>) -> Option<()> {
        self.open(b'{')?;
        if self.peek() == Some(b'}') {
            return self.close();
        }
        loop {
            let key = self.literal()?;
            self.space();
            self.byte(b':')?;
            self.space();
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Some(());
            }
        }
    }

    fn open(&mut self, bracket: u8) -> Option<()> {
        self.byte(bracket)?;
        self.depth += 1;
        self.space();
        (self.depth <= MAX_DEPTH).then_some(())
    }

    fn close(&mut self) -> Option<()> {
        self.at += 1;
        self.depth -= 1;
        Some(())
    }

    /// Passes what is behind a value in an object or array: whether another one follows.
    fn goes_on(&mut self, bracket: u8) -> Option<bool> {
        self.space();
        match self.peek()? {
            b',' => {
                self.at += 1;
                self.space();
                Some(true)
            }
            b if b == bracket => self.close().map(|()| false),
            _ => None,
        }
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
            self.spaced = true;
        }
    }

    /// RFC 8259 section 7; halves of surrogate pairs are not read.
    fn literal(&mut self) -> Option<Literal<'a>> {
        self.byte(b'"')?;
        let bytes = self.text.as_bytes();
        let (mut end, mut escaped) = (self.at, false);
        loop {
            end = json::plain_end(bytes, end);
            match bytes.get(end)? {
                b'"' => break,
                b'\\' => end = json::escape_end(bytes, end)?,
                _ => return None,
            }
            escaped = true;
        }
        let text = self.text.get(self.at..end)?;
        self.at = end + 1;
        Some(Literal { text, escaped })
    }

    /// RFC 8259 section 6.
    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// Defines the fields of an object, each with its name in the record, for this reader and for serde:
/// fields of other names are passed over, a name that stands twice is refused. At most 64 fields.
macro_rules! fields {
    ($(#[$doc:meta])* $seen:vis struct $name:ident $(<$life:lifetime>)? {
        $($(#[$attribute:meta])* $field:ident: $type:ty = $key:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(serde::Deserialize, Default, PartialEq, Debug)]
        #[serde(default)]
        $seen struct $name $(<$life>)? {
            $($(#[$attribute])* #[serde(rename = $key)] $seen $field: $type,)*
        }

        impl<'r> $crate::reader::Read<'r> for fields!(@type $name $($life 'r)?) {
            fn read(&mut self, from: &mut $crate::reader::Reader<'r>) -> Option<()> {
                #[allow(non_camel_case_types, reason = "variants are named as the fields they number")]
                enum Number { $($field,)* }
                let mut seen = 0u64;
                from.object(|from, key| match key {
                    $($key => {
                        let bit = 1 << Number::$field as u32;
                        if seen & bit != 0 {
                            return None;
                        }
                        seen |= bit;
                        self.$field.read(from)
                    })*
                    _ => from.skip(),
                })
            }
        }
    };
    (@type $name:ident) => { $name };
    (@type $name:ident $own:lifetime $life:lifetime) => { $name<$life> };
}
pub(crate) use fields;
