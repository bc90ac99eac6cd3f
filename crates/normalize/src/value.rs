//! Values of records as their sources write them, and refusals that name the field.
//!
//! What it is: the types that [`fields`](crate::reader::fields) are defined with. What it is not: it
//! knows no source. In: JSON text. Out: values that borrow from it, or a [`Rejection`] with the path of
//! the field that is not as its source defines it.

use std::borrow::Cow;
use std::fmt;

use keytrail_model::{Reject, Rejection};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use crate::object::Object;
use crate::reader::{self, Read, Reader};
use crate::{json_rejection, walk};

/// A string of the record, borrowed unless it holds escapes. Absent, `null` and `""` are the same:
/// producers write all three for "none".
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This text, or the other one where this is empty.
    pub fn or<'b>(&'b self, other: &'b Self) -> &'b Self {
        if self.is_empty() { other } else { self }
    }

    /// The text as long as the record, if there is one.
    pub fn get(&self) -> Option<Cow<'a, str>> {
        (!self.is_empty()).then(|| self.0.clone())
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(v.to_owned())))
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A flag, written as a boolean or as its text; absent and `null` are `None`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Flag(pub Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true` or `false`")
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(Some(v)))
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Flag, E> {
                match v {
                    "true" => Ok(Flag(Some(true))),
                    "false" => Ok(Flag(Some(false))),
                    "" => Ok(Flag(None)),
                    _ => Err(E::custom("a field has the wrong type, expected `true` or `false`")),
                }
            }

            fn visit_unit<E: Error>(self) -> Result<Flag, E> {
                Ok(Flag(None))
            }
        }
        d.deserialize_any(Reader)
    }
}

/// A value whose form is the service's own, as its JSON text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The JSON text.
    pub fn get(self) -> &'a str {
        self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(d).map(|raw| Self(raw.get()))
    }
}

/// A [`Raw`] value; absent and `null` are `None`.
pub(crate) type Open<'a> = Option<Raw<'a>>;

impl<'a> Read<'a> for Text<'a> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        self.0 = from.string()?;
        Some(())
    }
}

impl Read<'_> for Flag {
    fn read(&mut self, from: &mut Reader<'_>) -> Option<()> {
        self.0 = match from.any()? {
            "true" | "\"true\"" => Some(true),
            "false" | "\"false\"" => Some(false),
            "null" | "\"\"" => None,
            _ => return None,
        };
        Some(())
    }
}

impl<'a> Read<'a> for Open<'a> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        *self = Some(Raw(from.any()?)).filter(|raw| raw.get() != "null");
        Some(())
    }
}

impl<'a, T: Read<'a> + Default> Read<'a> for Object<T> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        match from.peek()? {
            b'n' => from.word("null"),
            _ => self.0.insert(T::default()).read(from),
        }
    }
}

impl<'a, T: Read<'a> + Default> Read<'a> for Option<Vec<T>> {
    fn read(&mut self, from: &mut Reader<'a>) -> Option<()> {
        if from.peek()? == b'n' {
            return from.word("null");
        }
        let items = self.insert(Vec::new());
        from.array(|from| {
            let mut item = T::default();
            item.read(from)?;
            items.push(item);
            Some(())
        })
    }
}

/// Reads a whole JSON text; a refusal names the field.
pub(crate) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Rejection> {
    serde_json::from_str(json).map_err(|e| refuse(json, "", &e))
}

/// Reads a sub-tree that is an object into a default; any other value has nothing that is read.
pub(crate) fn open<'a, T: Deserialize<'a> + Read<'a>>(
    field: &str,
    raw: Open<'a>,
    into: &mut T,
) -> Result<(), Rejection> {
    let Some(json) = raw.map(Raw::get).filter(|json| json.starts_with('{')) else { return Ok(()) };
    if reader::read(json, into).is_none() {
        *into = serde_json::from_str(json).map_err(|e| refuse(json, field, &e))?;
    }
    Ok(())
}

/// [`open`] into a default of its own.
pub(crate) fn opened<'a, T: Deserialize<'a> + Read<'a> + Default>(
    field: &str,
    raw: Open<'a>,
) -> Result<T, Rejection> {
    let mut value = T::default();
    open(field, raw, &mut value)?;
    Ok(value)
}

/// The rejection of a parser's error, with the path of the field where the parser stopped.
fn refuse(json: &str, parent: &str, error: &serde_json::Error) -> Rejection {
    let mut rejection = json_rejection(error);
    if matches!(rejection.code, Reject::FieldType | Reject::JsonDuplicateKey) {
        let path = walk::path_at(json, offset(json, error));
        let whole = match (parent, path.as_str()) {
            ("", "") => return rejection,
            ("", path) => path.to_owned(),
            (parent, "") => parent.to_owned(),
            (parent, path) => format!("{parent}.{path}"),
        };
        rejection.reason = match rejection.code {
            Reject::FieldType => {
                let expected = rejection.reason.rsplit(", expected ").next().unwrap_or("another type");
                let expected = expected.split(" at line ").next().unwrap_or(expected);
                let expected = if expected == "a sequence" { "an array" } else { expected };
                format!("`{whole}` has the wrong type, expected {expected}")
            }
            _ => format!("`{whole}` stands twice"),
        };
    }
    rejection
}

/// The byte offset of a parser's line and column; the column counts bytes from 1.
fn offset(json: &str, error: &serde_json::Error) -> usize {
    let mut start = 0;
    for _ in 1..error.line() {
        match memchr::memchr(b'\n', &json.as_bytes()[start..]) {
            Some(n) => start += n + 1,
            None => break,
        }
    }
    (start + error.column()).min(json.len())
}

/// A raw value's text, when it is a string that is not empty.
pub(crate) fn text<'a>(raw: Open<'a>) -> Option<Cow<'a, str>> {
    let literal = raw?.get();
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if inner.is_empty() {
        return None;
    }
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(literal).ok().map(Cow::Owned)
}

/// The strings of a raw array; a lone string is one item.
pub(crate) fn texts(json: &str) -> Vec<Cow<'_, str>> {
    let items: Vec<Open<'_>> = serde_json::from_str(json).unwrap_or_default();
    items.into_iter().filter_map(text).collect()
}

/// A slice of a text that lives as long as the text does; `None` when it is empty.
pub(crate) fn slice<'a>(text: &Cow<'a, str>, cut: impl Fn(&str) -> Option<&str>) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(t) => cut(t).filter(|s| !s.is_empty()).map(Cow::Borrowed),
        Cow::Owned(t) => cut(t).filter(|s| !s.is_empty()).map(|s| Cow::Owned(s.to_owned())),
    }
}

/// The items of a raw array; what is none has none.
pub(crate) fn items(raw: Open<'_>) -> Vec<Open<'_>> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The whole number that a raw value is, as a number or as the digits of a string.
pub(crate) fn number(raw: Open<'_>) -> Option<i64> {
    raw?.get().trim_matches('"').parse().ok()
}

/// The flag that a raw value is, as a boolean or as its text.
pub(crate) fn flag(raw: Open<'_>) -> Option<bool> {
    raw?.get().trim_matches('"').to_ascii_lowercase().parse().ok()
}
