//! A cell of a row as text and as JSON.
//!
//! In: a column of a batch and a row in it. Out: text for tables and CSV, a JSON value. Times are RFC 3339 in UTC,
//! bytes are hexadecimal, lists and structs are JSON. What JSON holds is escaped where a terminal would act on it.

use std::fmt::Write as _;

use datafusion::arrow::array::cast::AsArray;
use datafusion::arrow::array::types::{
    Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use keytrail_model::Timestamp;
use keytrail_model::printable::is_hidden;
use keytrail_model::time::day_name;

/// Whether values are numbers, which stand at the right.
pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// The name of a type, as SQL has it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytes".into()
        }
        t if t.is_integer() => "integer".into(),
        t if t.is_numeric() => "number".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Timestamp(..) => "time".into(),
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".into(),
        DataType::List(of) | DataType::LargeList(of) | DataType::FixedSizeList(of, _) => {
            let of = type_name(of.data_type());
            format!("list of {}s", of.trim_end_matches('s'))
        }
        DataType::Struct(_) => "struct".into(),
        DataType::Dictionary(_, of) => type_name(of),
        DataType::Null => "null".into(),
        other => other.to_string().to_lowercase(),
    }
}

/// A cell as text; `None`: it is null. Whether it is text to begin with tells the second.
pub(crate) fn text(array: &ArrayRef, row: usize) -> Option<(String, bool)> {
    if is_null(array, row) {
        return None;
    }
    if let Some(text) = string(array, row) {
        return Some((text.to_owned(), true));
    }
    let mut out = String::new();
    json(array, row, &mut out);
    let quoted = out.strip_prefix('"').and_then(|o| o.strip_suffix('"'));
    // What is quoted and no text (times, dates, bytes) has nothing that JSON escapes.
    Some((quoted.map_or_else(|| out.clone(), str::to_owned), false))
}

/// Writes a cell as JSON.
pub(crate) fn json(array: &ArrayRef, row: usize, out: &mut String) {
    if is_null(array, row) {
        out.push_str("null");
        return;
    }
    if let Some(text) = string(array, row) {
        json_text(text, out);
        return;
    }
    if let Some(bytes) = binary(array, row) {
        out.push('"');
        for byte in bytes {
            // Writing to a string does not fail.
            let _infallible = write!(out, "{byte:02x}");
        }
        out.push('"');
        return;
    }
    macro_rules! number {
        ($type:ty) => {{
            let _infallible = write!(out, "{}", array.as_primitive::<$type>().value(row));
        }};
    }
    match array.data_type() {
        DataType::Boolean => out.push_str(if array.as_boolean().value(row) { "true" } else { "false" }),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => float(array.as_primitive::<Float16Type>().value(row).to_f64(), out),
        DataType::Float32 => {
            // Its own shortest digits, not those of the nearest double.
            let value = array.as_primitive::<Float32Type>().value(row);
            float(value.to_string().parse().unwrap_or(f64::from(value)), out);
        }
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => {
            out.push_str(&formatted(array, row));
        }
        DataType::Timestamp(unit, _) => quote(&time(array, *unit, row), out),
        DataType::Date32 => {
            quote(&day_name(i64::from(array.as_primitive::<Date32Type>().value(row))), out);
        }
        DataType::Date64 => {
            let days = array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000);
            quote(&day_name(days), out);
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row), out),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row), out),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row), out),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            out.push('{');
            for (i, (field, column)) in fields.iter().zip(columns).enumerate() {
                if i > 0 {
                    out.push(',');
                }
                json_text(field.name(), out);
                out.push(':');
                json(column, row, out);
            }
            out.push('}');
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            json(dictionary.values(), dictionary.normalized_keys()[row], out);
        }
        _ => json_text(&formatted(array, row), out),
    }
}

/// Writes a text as JSON in which no character is raw that moves a cursor or hides.
pub(crate) fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _infallible = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Nulls of an array of nulls are in its type alone.
fn is_null(array: &ArrayRef, row: usize) -> bool {
    array.is_null(row) || array.data_type() == &DataType::Null
}

fn list(items: &ArrayRef, out: &mut String) {
    out.push('[');
    for i in 0..items.len() {
        if i > 0 {
            out.push(',');
        }
        json(items, i, out);
    }
    out.push(']');
}

/// JSON has no number for what is none.
fn float(value: f64, out: &mut String) {
    if value.is_finite() {
        let _infallible = write!(out, "{value}");
    } else {
        out.push_str("null");
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

fn string(array: &ArrayRef, row: usize) -> Option<&str> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row),
        DataType::Utf8View => array.as_string_view().value(row),
        _ => return None,
    })
}

fn binary(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    Some(match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(row),
        DataType::LargeBinary => array.as_binary::<i64>().value(row),
        DataType::BinaryView => array.as_binary_view().value(row),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(row),
        _ => return None,
    })
}

/// Microseconds are what the archive has.
fn time(array: &ArrayRef, unit: TimeUnit, row: usize) -> String {
    let micros = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => {
            array.as_primitive::<TimestampMillisecondType>().value(row).saturating_mul(1000)
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1000),
    };
    let text = Timestamp(micros).to_rfc3339();
    match text.strip_suffix(".000000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => text,
    }
}

fn formatted(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default();
    ArrayFormatter::try_new(array, &options).map(|f| f.value(row).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, StringViewArray,
        TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
    };
    use datafusion::arrow::datatypes::Int32Type as Of;

    use super::*;

    fn both(array: impl Array + 'static) -> (Option<String>, String) {
        let array: ArrayRef = Arc::new(array);
        let mut out = String::new();
        json(&array, 0, &mut out);
        (text(&array, 0).map(|(text, _)| text), out)
    }

    fn is(found: (Option<String>, String), text: &str, json: &str) {
        assert_eq!((found.0.as_deref(), found.1.as_str()), (Some(text), json));
    }

    #[test]
    fn cells_are_text_and_json() {
        is(both(StringViewArray::from(vec!["a\"\u{1b}[31m"])), "a\"\u{1b}[31m", r#""a\"\u001b[31m""#);
        is(both(Int64Array::from(vec![i64::MIN])), "-9223372036854775808", "-9223372036854775808");
        is(both(UInt64Array::from(vec![u64::MAX])), "18446744073709551615", "18446744073709551615");
        is(both(Float64Array::from(vec![0.1])), "0.1", "0.1");
        is(both(Float32Array::from(vec![0.1])), "0.1", "0.1");
        is(both(Float64Array::from(vec![f64::NAN])), "null", "null");
        is(both(BooleanArray::from(vec![true])), "true", "true");
        is(both(BinaryArray::from(vec![&[0u8, 255][..]])), "00ff", "\"00ff\"");
        let at = TimestampMicrosecondArray::from(vec![1_688_989_340_500_000]).with_timezone("UTC");
        is(both(at), "2023-07-10T11:42:20.500000Z", "\"2023-07-10T11:42:20.500000Z\"");
        is(
            both(TimestampNanosecondArray::from(vec![-1])),
            "1969-12-31T23:59:59.999999Z",
            "\"1969-12-31T23:59:59.999999Z\"",
        );
        let list = ListArray::from_iter_primitive::<Of, _, _>([Some([Some(1), None])]);
        is(both(list), "[1,null]", "[1,null]");
        assert_eq!(both(Int64Array::from(vec![None])), (None, "null".into()));
    }
}
