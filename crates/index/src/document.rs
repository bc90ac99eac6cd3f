//! An event as an ECS document.
//!
//! What it is: a direct writer. Rows of one kind have the same columns, so the text between their values (names and
//! braces) is made once for each set of columns and copied. What it is not: a judge of values; what is masked in the
//! archive is masked here. In: encoded columns. Out: one line of JSON.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use keytrail_model::row::{items, values};
use keytrail_model::{Column, ColumnSet, Hash, Kind, Timestamp, Uid};
use serde_json::value::RawValue;

use crate::field;
use crate::text::{cut, json};

/// A text is indexed up to so many bytes: what Lucene takes of one term.
pub const MOST_TEXT_BYTES: usize = 32_000;

/// A list is indexed up to so many items.
pub const MOST_ITEMS: usize = 1_000;

/// An open object is indexed up to so many keys, and so many bytes of a key or a value.
const MOST_KEYS: usize = 100;
const MOST_KEY_BYTES: usize = 256;
const MOST_VALUE_BYTES: usize = 1_024;

/// Which of its columns a document did not get whole.
pub const PARTIAL: &str = "keytrail.index.partial";

/// Sets of columns whose texts are kept: normalizers make some dozens.
const MOST_SHAPES: usize = 1_024;

/// What of an event is indexed.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// Its identity, and its document's id.
    pub uid: Uid,
    /// SHA-256 of the original bytes.
    pub hash: Hash,
    /// When it was read.
    pub ingested: Option<Timestamp>,
    /// Index of the producer's key.
    pub group: Option<u64>,
    /// Where it was read from.
    pub input: Option<&'a str>,
    /// Derived columns in the row encoding ([`keytrail_model::row::encode`]).
    pub columns: &'a [u8],
    /// Enrichment columns in the row encoding.
    pub enrichment: &'a [u8],
    /// The original bytes.
    pub original: Option<&'a [u8]>,
}

/// What documents have beside what all have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fields {
    /// `event.original`, which may hold secrets.
    pub original: bool,
}

/// Writes documents.
#[derive(Default, Debug)]
pub struct Writer {
    fields: Fields,
    shapes: HashMap<ColumnSet, Rc<Shape>>,
}

/// The text between the values of documents with the same columns.
#[derive(Debug)]
struct Shape {
    /// Columns by ascending name; what stands before each value.
    parts: Vec<(Column, String)>,
    /// Of `parts`: before which one an object `keytrail` was just opened.
    keytrail: usize,
    end: String,
}

impl Writer {
    /// Of documents with these fields.
    pub fn new(fields: Fields) -> Self {
        Self { fields, shapes: HashMap::new() }
    }

    /// Appends the document of an event: one line without its end.
    pub fn write(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let (uid, hash) = (event.uid.hex(), event.hash.hex());
        let (ingested, group);
        let mut row = Row { set: ColumnSet::default(), values: [&[]; Column::ALL.len()] };
        row.put(Column::KeytrailUid, &uid);
        row.put(Column::EventHash, &hash);
        if let Some(time) = event.ingested {
            ingested = time.0.to_be_bytes();
            row.put(Column::EventIngested, &ingested);
        }
        if let Some(number) = event.group {
            group = number.to_be_bytes();
            row.put(Column::KeytrailGroup, &group);
        }
        if let Some(input) = event.input {
            row.put(Column::KeytrailInput, input.as_bytes());
        }
        if let Some(original) = event.original.filter(|_| self.fields.original) {
            row.put(Column::EventOriginal, original);
        }
        values(event.columns)
            .chain(values(event.enrichment))
            .filter(|(column, _)| self.fields.original || *column != Column::KeytrailLedgerEnvelope)
            .for_each(|(column, value)| row.put(column, value));

        let shape = self.shape(row.set);
        let partial = row.partial();
        for (n, (column, before)) in shape.parts.iter().enumerate() {
            out.extend_from_slice(before.as_bytes());
            if n == shape.keytrail && !partial.is_empty() {
                // The name was written up to the brace that opens `keytrail`: this comes first in it.
                let open = out.len() - opened(before);
                let rest = out.split_off(open);
                out.extend_from_slice(b"\"index\":{\"partial\":[");
                separated(out, partial.iter(), |out, column| json(out, field(*column)));
                out.extend_from_slice(b"]},");
                out.extend_from_slice(&rest);
            }
            value(out, *column, row.values[column.index()]);
        }
        out.extend_from_slice(shape.end.as_bytes());
    }

    fn shape(&mut self, set: ColumnSet) -> Rc<Shape> {
        if let Some(shape) = self.shapes.get(&set) {
            return Rc::clone(shape);
        }
        if self.shapes.len() >= MOST_SHAPES {
            self.shapes.clear();
        }
        let shape = Rc::new(Shape::of(set));
        self.shapes.insert(set, Rc::clone(&shape));
        shape
    }
}

/// Bytes behind the brace that opens `keytrail` in what stands before its first value.
fn opened(before: &str) -> usize {
    const NAME: &str = "\"keytrail\":{";
    before.find(NAME).map_or(0, |at| before.len() - at - NAME.len())
}

/// An event's values by their columns.
struct Row<'a> {
    set: ColumnSet,
    values: [&'a [u8]; Column::ALL.len()],
}

impl<'a> Row<'a> {
    fn put(&mut self, column: Column, value: &'a [u8]) {
        self.set.insert(column);
        self.values[column.index()] = value;
    }

    /// Columns whose value is too large to be indexed whole.
    fn partial(&self) -> Vec<Column> {
        let large = |column: &Column| {
            let value = self.values[column.index()];
            match column.kind() {
                Kind::Text if *column == Column::KeytrailEncryptionContext => {
                    Open::of(value).is_none_or(|o| o.partial)
                }
                Kind::Text | Kind::Binary => value.len() > MOST_TEXT_BYTES,
                Kind::List => {
                    items(value).enumerate().any(|(n, item)| n >= MOST_ITEMS || item.len() > MOST_TEXT_BYTES)
                }
                Kind::Int | Kind::Bool | Kind::Time => false,
            }
        };
        self.set.iter().filter(large).collect()
    }
}

impl Shape {
    fn of(set: ColumnSet) -> Self {
        let mut parts = Vec::new();
        let mut before = String::from("{");
        let mut path: Vec<&str> = Vec::new();
        let mut keytrail = 0;
        for (n, column) in set.iter().enumerate() {
            let mut segments: Vec<&str> = field(column).split('.').collect();
            let name = segments.pop().unwrap_or_default();
            let same = path.iter().zip(&segments).take_while(|(a, b)| a == b).count();
            path.drain(same..).for_each(|_| before.push('}'));
            if n > 0 {
                before.push(',');
            }
            for segment in &segments[same..] {
                if *segment == "keytrail" {
                    keytrail = n;
                }
                before.push_str(&format!("\"{segment}\":{{"));
                path.push(segment);
            }
            before.push_str(&format!("\"{name}\":"));
            parts.push((column, std::mem::take(&mut before)));
        }
        path.iter().for_each(|_| before.push('}'));
        before.push('}');
        Self { parts, keytrail, end: before }
    }
}

/// Appends a value that is encoded as rows have it.
fn value(out: &mut Vec<u8>, column: Column, value: &[u8]) {
    // Encoders write what the column's type says; anything else is none.
    let number = || value.try_into().map(i64::from_be_bytes).unwrap_or_default();
    match column.kind() {
        Kind::Text if column == Column::KeytrailEncryptionContext => open_object(out, value),
        Kind::Text | Kind::Binary => json(out, cut(&String::from_utf8_lossy(value), MOST_TEXT_BYTES)),
        Kind::Int => json(out, &number()),
        Kind::Time => time(out, Timestamp(number())),
        Kind::Bool => out.extend_from_slice(if value == [1] { b"true" } else { b"false" }),
        Kind::List => {
            out.push(b'[');
            separated(out, items(value).take(MOST_ITEMS), |out, item| {
                json(out, cut(&String::from_utf8_lossy(item), MOST_TEXT_BYTES));
            });
            out.push(b']');
        }
    }
}

/// Appends values with commas between them.
fn separated<T>(out: &mut Vec<u8>, values: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    for (n, value) in values.enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write(out, value);
    }
}

/// Appends a time as RFC 3339 in UTC, with microseconds.
fn time(out: &mut Vec<u8>, time: Timestamp) {
    out.push(b'"');
    time.write_rfc3339(out);
    out.push(b'"');
}

/// What of an object with names of the producer's choice is indexed: flat, each name once.
struct Open<'a> {
    entries: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Something was left out.
    partial: bool,
}

impl<'a> Open<'a> {
    /// Of JSON text; `None` where it is no object.
    fn of(json: &'a [u8]) -> Option<Self> {
        let all: BTreeMap<Name<'a>, &'a RawValue> = serde_json::from_slice(json).ok()?;
        let mut open = Self { entries: Vec::new(), partial: false };
        for (Name(name), value) in all {
            // What is not a text is shown as its JSON.
            let text = match value.get().starts_with('"') {
                true => serde_json::from_str::<Name<'a>>(value.get()).ok()?.0,
                false => value.get().into(),
            };
            let fits = !name.is_empty() && name.len() <= MOST_KEY_BYTES && !name.contains('\0');
            if !fits
                || open.entries.len() >= MOST_KEYS
                || text.len() > MOST_VALUE_BYTES
                || text.contains('\0')
            {
                open.partial = true;
                continue;
            }
            open.entries.push((name, text));
        }
        Some(open)
    }
}

/// A JSON string, borrowed where it has no escapes.
#[derive(PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Appends an open object.
fn open_object(out: &mut Vec<u8>, object: &[u8]) {
    out.push(b'{');
    let entries = Open::of(object).map(|open| open.entries).unwrap_or_default();
    separated(out, entries.iter(), |out, (name, value)| {
        json(out, name);
        out.push(b':');
        json(out, value);
    });
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use keytrail_model::Value;
    use keytrail_model::row::encode;
    use serde_json::{Value as Json, json};

    use super::*;

    fn document(columns: &[(Column, Value<'_>)], fields: Fields) -> Json {
        let mut sorted: Vec<_> = columns.iter().map(|(c, v)| (*c, v)).collect();
        sorted.sort_by_key(|(column, _)| *column);
        let (mut bound, mut enriched) = (Vec::new(), Vec::new());
        encode(&mut bound, sorted.iter().filter(|(c, _)| !c.enriched()).map(|(c, v)| (*c, *v)));
        encode(&mut enriched, sorted.iter().filter(|(c, _)| c.enriched()).map(|(c, v)| (*c, *v)));
        let event = Event {
            uid: Uid([7; 20]),
            hash: Hash([9; 32]),
            ingested: Timestamp::parse("2026-01-02T03:04:05.6Z"),
            group: Some(u64::MAX),
            input: Some("in/\"x\".json@17"),
            columns: &bound,
            enrichment: &enriched,
            original: Some(b"{\"a\":1}"),
        };
        let (mut writer, mut out) = (Writer::new(fields), Vec::new());
        writer.write(&event, &mut out);
        let first = out.clone();
        out.clear();
        writer.write(&event, &mut out);
        assert_eq!(first, out);
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
    }

    fn text(t: &str) -> Value<'_> {
        Value::Text(t.into())
    }

    /// Names in the row's order nest without an object that is opened twice, and none is both text and object.
    #[test]
    fn all_columns_at_once_make_one_object() {
        let value = |column: Column| match column.kind() {
            Kind::Text if column == Column::KeytrailEncryptionContext => {
                text(r#"{"app":"pay","n":{"x":[1]}}"#)
            }
            Kind::Text | Kind::Binary => text(column.name()),
            Kind::Int => Value::Int(-column.name().len().cast_signed() as i64),
            Kind::Bool => Value::Bool(true),
            Kind::Time => Value::Time(Timestamp(0)),
            Kind::List => Value::List(vec![column.name().into(), "b".into()]),
        };
        let of_rows: Vec<_> =
            Column::ALL.into_iter().filter(|c| c.derived() || c.enriched()).map(|c| (c, value(c))).collect();
        let document = document(&of_rows, Fields { original: true });
        for column in Column::ALL {
            let found = field(column).split('.').fold(&document, |at, segment| &at[segment]);
            let expected = match column {
                Column::KeytrailUid => json!("07".repeat(20)),
                Column::EventHash => json!("09".repeat(32)),
                Column::EventIngested => json!("2026-01-02T03:04:05.600000Z"),
                Column::KeytrailGroup => json!(-1),
                Column::KeytrailInput => json!("in/\"x\".json@17"),
                Column::EventOriginal => json!("{\"a\":1}"),
                Column::KeytrailEncryptionContext => json!({"app": "pay", "n": "{\"x\":[1]}"}),
                other => match value(other) {
                    Value::Text(t) => json!(t),
                    Value::Int(n) => json!(n),
                    Value::Bool(b) => json!(b),
                    Value::Time(_) => json!("1970-01-01T00:00:00.000000Z"),
                    Value::List(items) => json!(items),
                    Value::Null => Json::Null,
                },
            };
            assert_eq!(*found, expected, "{}", field(column));
        }
        assert_eq!(document["keytrail"]["index"], Json::Null);
    }

    #[test]
    fn original_bytes_are_there_on_request() {
        let document = document(&[(Column::EventAction, text("Decrypt"))], Fields::default());
        assert_eq!(document["event"]["original"], Json::Null);
        assert_eq!(document["event"]["action"], "Decrypt");
    }

    #[test]
    fn what_is_too_large_is_indexed_in_part_and_says_so() {
        let (long, many) = ("é".repeat(40_000), vec!["x".into(); 10_000]);
        let keys: BTreeMap<String, String> = (0..10_000).map(|n| (format!("k{n}"), "v".into())).collect();
        let keys = serde_json::to_string(&keys).expect("JSON");
        let document = document(
            &[
                (Column::ErrorMessage, text(&long)),
                (Column::CloudRegion, text("eu-west-1")),
                (Column::RelatedUser, Value::List(many)),
                (Column::KeytrailEncryptionContext, text(&keys)),
            ],
            Fields::default(),
        );
        let partial = ["error.message", "keytrail.encryption_context", "related.user"];
        assert_eq!(document["keytrail"]["index"]["partial"], json!(partial));
        assert_eq!(document["error"]["message"].as_str().map(str::len), Some(MOST_TEXT_BYTES));
        assert_eq!(document["related"]["user"].as_array().map(Vec::len), Some(MOST_ITEMS));
        assert_eq!(
            document["keytrail"]["encryption_context"].as_object().map(serde_json::Map::len),
            Some(MOST_KEYS)
        );
        assert_eq!(document["cloud"]["region"], "eu-west-1");
    }

    #[test]
    fn names_that_a_client_chose_break_no_document() {
        for (context, expected) in [
            (r#"{"a":"1","a":"2"}"#, json!({"a": "2"})),
            (r#"{"":"empty","b.c":"d","nul\u0000":"x"}"#, json!({"b.c": "d"})),
            (
                r#"{"e":"\u001b[31m\"","f":null,"g":true}"#,
                json!({"e": "\u{1b}[31m\"", "f": "null", "g": "true"}),
            ),
            ("[1,2]", json!({})),
            ("{\"a\":", json!({})),
        ] {
            let found = document(&[(Column::KeytrailEncryptionContext, text(context))], Fields::default());
            assert_eq!(found["keytrail"]["encryption_context"], expected, "{context}");
        }
    }
}
