//! Names of fields, as whoever searches writes them.
//!
//! What it is: which fields documents have, what their values are found by, and what was meant by a name that none
//! has. A server takes any name and finds nothing under one that is not there, which reads like "it never happened".

use std::fmt;
use std::net::IpAddr;

use keytrail_model::{Column, Kind};

use crate::document::PARTIAL;
use crate::field;
use crate::mapping::MOST_KEYWORD_CHARS;
use crate::text::cut;

/// Objects with names of the producer's choice: any name below them is a field.
const OPEN: Column = Column::KeytrailEncryptionContext;

/// The words of a user agent, beside it as a whole.
const USER_AGENT_WORDS: &str = "user_agent.original.text";

/// A field of documents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FieldName(String);

impl FieldName {
    /// The field of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn new(name: &str) -> Result<Self, UnknownField> {
        let below = |object: &str| name.strip_prefix(object).and_then(|rest| rest.strip_prefix('.'));
        let open = below(field(OPEN)).is_some_and(|name| !name.is_empty());
        if open || fields().any(|known| known == name) {
            return Ok(Self(name.to_owned()));
        }
        Err(UnknownField { name: name.to_owned(), meant: meant(name) })
    }

    /// Of a column.
    pub fn of(column: Column) -> Self {
        Self(field(column).to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of objects that it lies in, and its own: those that a producer chose may have dots.
    pub fn path(&self) -> Vec<&str> {
        let object = field(OPEN);
        match self.0.strip_prefix(object).and_then(|rest| rest.strip_prefix('.')) {
            Some(name) => object.split('.').chain([name]).collect(),
            None => self.0.split('.').collect(),
        }
    }

    /// Whether its value is a time.
    pub fn is_time(&self) -> bool {
        Column::ALL.into_iter().any(|c| c.kind() == Kind::Time && field(c) == self.0)
    }

    /// Whether it is found by its words, not by its whole value.
    pub(super) fn is_words(&self) -> bool {
        self.0 == field(Column::ErrorMessage) || self.0 == USER_AGENT_WORDS
    }

    /// What is wrong with a value that nothing is found by.
    pub(super) fn mistake(&self, value: &str) -> Option<String> {
        let expected = match Column::ALL.into_iter().find(|c| field(*c) == self.0) {
            Some(Column::SourceIp | Column::RelatedIp) if !is_network(value) => {
                "an address, or a network as 10.0.0.0/8"
            }
            Some(Column::SourceIp | Column::RelatedIp) => return None,
            Some(c) => match c.kind() {
                Kind::Int if value.parse::<i64>().is_err() => "a whole number",
                Kind::Bool if !matches!(value, "true" | "false") => "`true` or `false`",
                Kind::Int | Kind::Bool | Kind::Time => return None,
                Kind::Text | Kind::List | Kind::Binary => return self.too_long(value),
            },
            None => return self.too_long(value),
        };
        Some(format!("`{self}`: expected {expected}, found `{}`", cut(value, 100)))
    }

    fn too_long(&self, value: &str) -> Option<String> {
        let (chars, most) = (value.chars().count(), MOST_KEYWORD_CHARS as usize);
        let is = chars > most && !self.is_words();
        is.then(|| {
            format!(
                "`{self}`: nothing is found by a value of more than {most} characters, this one has {chars}"
            )
        })
    }
}

/// Whether a value is an address, or a network.
fn is_network(value: &str) -> bool {
    let (address, bits) =
        value.split_once('/').map_or((value, None), |(address, bits)| (address, Some(bits)));
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no field has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownField {
    /// It.
    pub name: String,
    /// The field that may have been meant.
    pub meant: Option<&'static str>,
}

impl fmt::Display for UnknownField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.meant {
            Some(meant) => write!(f, "no field is named `{}`; did you mean `{meant}`?", self.name),
            None => write!(f, "no field is named `{}`: schemas/archive.md lists them.", self.name),
        }
    }
}

impl std::error::Error for UnknownField {}

fn fields() -> impl Iterator<Item = &'static str> + Clone {
    Column::ALL.into_iter().map(field).chain([PARTIAL, USER_AGENT_WORDS])
}

/// The field that was meant: a column's, else nearly the same letters, else one that has the name as a part.
fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let same = |column: &Column| column.name() == name || column.field() == name;
    if let Some(column) = Column::ALL.into_iter().find(same) {
        return Some(field(column));
    }
    // Names are short; what is not is no name that was mistyped.
    let chars = name.chars().count();
    if chars > 64 {
        return None;
    }
    let near = fields().map(|known| (strsim::damerau_levenshtein(&name, known), known)).min();
    if let Some((_, near)) = near.filter(|(distance, _)| *distance <= (chars / 4).clamp(1, 4)) {
        return Some(near);
    }
    let part =
        |known: &&str| known.split('.').any(|part| part == name) || known.ends_with(&format!(".{name}"));
    fields().filter(part).min_by_key(|known| known.len())
}

/// Names of fields in a query string (`name:value`, `_exists_:name`), in its order. Names with wildcards or escapes
/// are none: whoever writes them knows what they are for.
pub(super) fn names_in(query: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut chars = query.char_indices();
    // Where a word began that may be a name; none inside of a word that is not.
    let mut word = Some(0);
    let mut value = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
                word = None;
            }
            '"' => {
                skip(&mut chars, '"');
                word = None;
            }
            // A regular expression where a value begins; elsewhere part of a word.
            '/' if word == Some(at) || value => {
                skip(&mut chars, '/');
                word = None;
            }
            '[' | '{' if word == Some(at) || value => {
                // Ranges end with either.
                for (_, c) in chars.by_ref() {
                    if matches!(c, ']' | '}') {
                        break;
                    }
                }
                word = None;
            }
            ':' => {
                if let Some(start) = word.take() {
                    let name = &query[start..at];
                    if name == "_exists_" {
                        // What follows is a name, though it has no colon behind it.
                        let rest = query[at + 1..].trim_start();
                        let end = rest
                            .find(|c: char| c.is_whitespace() || matches!(c, ')' | '('))
                            .unwrap_or(rest.len());
                        names.push(rest[..end].trim_matches('"'));
                    } else {
                        names.push(name);
                    }
                }
                value = true;
                continue;
            }
            c if c.is_whitespace() || matches!(c, '(' | ')' | '+' | '-' | '!' | '&' | '|') => {
                // Within a word the last ones are part of it.
                let inside = matches!(c, '+' | '-') && word != Some(at) && !value;
                if !inside {
                    word = Some(at + c.len_utf8());
                    // Blanks may stand between a colon and its value.
                    value = value && c.is_whitespace();
                }
                continue;
            }
            _ if value => word = None,
            _ => {}
        }
        value = false;
    }
    names.retain(|name| !name.is_empty() && !name.contains(['*', '?', '\\', '"']));
    names
}

/// Goes behind the next such character that is not escaped.
fn skip(chars: &mut impl Iterator<Item = (usize, char)>, end: char) {
    while let Some((_, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            c if c == end => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_named() {
        for (name, expected) in [
            ("event.acton", Some("event.action")),
            ("event_action", Some("event.action")),
            ("timestamp", Some("@timestamp")),
            ("timstamp", Some("@timestamp")),
            ("Event.Outcome", Some("event.outcome")),
            ("keytrail.source.site", Some("keytrail.network.site")),
            ("mfa", Some("keytrail.actor.mfa")),
            ("arn", Some("keytrail.key.arn")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(FieldName::new(name).expect_err(name).meant, expected, "{name}");
        }
        for name in ["@timestamp", "user.name", "keytrail.index.partial", "keytrail.encryption_context.a.b=c"]
        {
            assert_eq!(FieldName::new(name).expect(name).as_str(), name);
        }
        let open = FieldName::new("keytrail.encryption_context.a.b").expect("a field");
        assert_eq!(open.path(), ["keytrail", "encryption_context", "a.b"]);
        FieldName::new("keytrail.encryption_context.").expect_err("no name");
    }

    #[test]
    fn values_that_find_nothing_are_told() {
        let long = "ü".repeat(1_025);
        for (name, value, expected) in [
            ("event.sequence", "1.5", Some("`event.sequence`: expected a whole number, found `1.5`")),
            ("event.sequence", "-1", None),
            (
                "keytrail.actor.mfa",
                "yes",
                Some("`keytrail.actor.mfa`: expected `true` or `false`, found `yes`"),
            ),
            (
                "source.ip",
                "foo",
                Some("`source.ip`: expected an address, or a network as 10.0.0.0/8, found `foo`"),
            ),
            (
                "source.ip",
                "10.0.0.0/33",
                Some("`source.ip`: expected an address, or a network as 10.0.0.0/8, found `10.0.0.0/33`"),
            ),
            ("related.ip", "2001:db8::/32", None),
            ("source.ip", "192.0.2.7", None),
            ("error.message", &long, None),
            (
                "user.name",
                &long,
                Some(
                    "`user.name`: nothing is found by a value of more than 1024 characters, this one has 1025",
                ),
            ),
            ("user.name", "", None),
        ] {
            assert_eq!(FieldName::new(name).expect(name).mistake(value).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn names_are_found_where_a_query_has_them() {
        for (query, expected) in [
            ("Decrypt", &[][..]),
            ("user.name:Alice", &["user.name"]),
            ("a.b:1 AND (c:2 OR -d:3) +e:4 !f:5", &["a.b", "c", "d", "e", "f"]),
            ("a:\"x:y\" \"p:q\"", &["a"]),
            ("@timestamp:[2021-01-01T00:00:00Z TO 2021-02-01T10:00:00Z} b:{1 TO 2]", &["@timestamp", "b"]),
            ("a:/x:[y]\\/z:/ b:1", &["a", "b"]),
            ("a\\:b user\\.name:x", &[]),
            ("a:b:c", &["a"]),
            ("a: b c:d", &["a", "c"]),
            ("a: (b:c)", &["a", "b"]),
            ("_exists_:error.cod AND x:1", &["error.cod", "x"]),
            ("NOT _exists_:a)", &["a"]),
            ("user.*:x us?r:x", &[]),
            ("key-id:1 a:b-c:d", &["key-id", "a"]),
            ("path/to:x", &["path/to"]),
            ("a:\"open b:c", &["a"]),
            ("ü:x :y", &["ü"]),
            ("a:>=5 b:<3", &["a", "b"]),
        ] {
            assert_eq!(names_in(query), expected, "{query}");
        }
    }
}
