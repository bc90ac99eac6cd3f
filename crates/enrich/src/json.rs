//! Rows of JSON: an array of objects, or one object a line.

use std::fmt;

use keytrail_model::table::{Cell, Record};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::MAX_COLUMNS;
use crate::problem::Problem;
use crate::table::Each;

/// Hands over the rows.
pub(crate) fn read(bytes: &[u8], each: &mut Each<'_>) -> Result<(), Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::of_file("expected UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Rows { number: 0, each, failed: None };
    let broken = |row, line, e: &serde_json::Error| Problem {
        row,
        line,
        ..Problem::of_file(format!("expected an array of objects, or one object a line: {e}"))
    };
    let read = if text.trim_start().starts_with('[') {
        let mut json = serde_json::Deserializer::from_str(text);
        let read = json.deserialize_seq(&mut rows).and_then(|()| json.end());
        read.map_err(|e| broken(Some(rows.number).filter(|n| *n > 0), Some(e.line() as u64), &e))
    } else {
        (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()).try_for_each(|(line, text)| {
            let mut json = serde_json::Deserializer::from_str(text);
            let cells = Object.deserialize(&mut json).and_then(|cells| json.end().map(|()| cells));
            rows.number += 1;
            let cells = cells.map_err(|e| broken(Some(rows.number), Some(line), &e))?;
            (rows.each)(&Record { number: rows.number, line: Some(line), cells })
        })
    };
    rows.failed.map_or(read, Err)
}

struct Rows<'r, 'e> {
    number: u64,
    each: &'r mut Each<'e>,
    /// Why `each` wanted no more.
    failed: Option<Problem>,
}

impl<'de> Visitor<'de> for &mut Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        loop {
            self.number += 1;
            let Some(cells) = rows.next_element_seed(Object)? else { return Ok(()) };
            if let Err(problem) = (self.each)(&Record { number: self.number, line: None, cells }) {
                self.failed = Some(problem);
                return Err(serde::de::Error::custom("stopped"));
            }
        }
    }
}

/// One row.
struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Vec<(String, Cell)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Vec<(String, Cell)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells: Vec<(String, Cell)> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if cells.len() >= MAX_COLUMNS {
                return Err(serde::de::Error::custom(format!(
                    "expected at most {MAX_COLUMNS} names in one object"
                )));
            }
            if cells.iter().any(|(known, _)| *known == name) {
                let name = crate::fields::clipped(&name);
                return Err(serde::de::Error::custom(format!("`{name}` stands twice in one object")));
            }
            cells.push((name, cell(map.next_value()?)));
        }
        Ok(cells)
    }
}

fn cell(value: serde_json::Value) -> Cell {
    use serde_json::Value;
    match value {
        Value::Null => Cell::Null,
        Value::Bool(flag) => Cell::Bool(flag),
        // As it stands: accounts and handles are often written as numbers.
        Value::Number(n) if n.is_f64() => Cell::Other("a fraction"),
        Value::Number(n) => Cell::Text(n.to_string()),
        Value::String(text) => Cell::Text(text),
        Value::Array(items) => {
            let texts = items.into_iter().map(|item| match cell(item) {
                Cell::Text(text) => Some(text),
                _ => None,
            });
            texts.collect::<Option<Vec<_>>>().map_or(Cell::Other("a list of other than texts"), Cell::List)
        }
        Value::Object(_) => Cell::Other("an object"),
    }
}
