//! Rows of a Parquet file that somebody else wrote: an enrichment table.
//!
//! What it is: columns of texts, whole numbers, flags, times and lists of texts, as rows without types. What
//! it is not: an archive object, or a judge of what columns mean. In: the file's bytes. Out: [`Record`]s. The
//! file is not believed: rows and bytes are bounded, and a panic of the decoder is told as damage.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use keytrail_model::Timestamp;
use keytrail_model::table::{Cell, Record};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

/// Rows decoded at once.
const BATCH_ROWS: usize = 1024;

/// Inflated bytes of a file at most.
const MAX_BYTES: i64 = 1 << 30;

/// Why rows were not read to the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TableError<E> {
    /// The file is no Parquet, damaged, or too large.
    Damaged(String),
    /// Whoever takes the rows wanted no more.
    Ended(E),
}

/// Hands over the rows of a file.
///
/// # Errors
/// What is wrong with the file, or what `each` gave.
pub fn read<E>(file: Vec<u8>, each: &mut dyn FnMut(&Record) -> Result<(), E>) -> Result<(), TableError<E>> {
    // What the closure leaves behind after a panic is dropped by its caller.
    catch_unwind(AssertUnwindSafe(|| rows(file.into(), each)))
        .unwrap_or_else(|_| Err(TableError::Damaged("the decoder failed on what the file holds".into())))
}

fn rows<E>(file: Bytes, each: &mut dyn FnMut(&Record) -> Result<(), E>) -> Result<(), TableError<E>> {
    let damaged =
        |e: &dyn std::fmt::Display| TableError::Damaged(format!("no Parquet that can be read: {e}"));
    // Types as Parquet has them: those that a writer embeds may be of any kind.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, options).map_err(|e| damaged(&e))?;
    let bytes: i64 = reader.metadata().row_groups().iter().map(|g| g.total_byte_size().max(0)).sum();
    if bytes > MAX_BYTES {
        return Err(TableError::Damaged(format!(
            "expected at most {MAX_BYTES} bytes inflated, found {bytes}"
        )));
    }
    let mut number = 0;
    for batch in reader.with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(&e))? {
        let batch = batch.map_err(|e| damaged(&e))?;
        let schema = batch.schema_ref();
        for row in 0..batch.num_rows() {
            number += 1;
            let named = schema.fields().iter().zip(batch.columns());
            let cells = named.map(|(field, array)| (field.name().clone(), cell(array, row))).collect();
            each(&Record { number, line: None, cells }).map_err(TableError::Ended)?;
        }
    }
    Ok(())
}

fn cell(array: &dyn Array, row: usize) -> Cell {
    fn number<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Cell
    where
        T::Native: std::fmt::Display,
    {
        Cell::Text(array.as_primitive::<T>().value(row).to_string())
    }
    let time =
        |micros: Option<i64>| micros.map_or(Cell::Other("a time out of range"), |t| Cell::Time(Timestamp(t)));
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => number::<Int8Type>(array, row),
        DataType::Int16 => number::<Int16Type>(array, row),
        DataType::Int32 => number::<Int32Type>(array, row),
        DataType::Int64 => number::<Int64Type>(array, row),
        DataType::UInt8 => number::<UInt8Type>(array, row),
        DataType::UInt16 => number::<UInt16Type>(array, row),
        DataType::UInt32 => number::<UInt32Type>(array, row),
        DataType::UInt64 => number::<UInt64Type>(array, row),
        DataType::Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            time(days.checked_mul(86_400_000_000))
        }
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => {
                time(array.as_primitive::<TimestampSecondType>().value(row).checked_mul(1_000_000))
            }
            TimeUnit::Millisecond => {
                time(array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(1_000))
            }
            TimeUnit::Microsecond => time(Some(array.as_primitive::<TimestampMicrosecondType>().value(row))),
            TimeUnit::Nanosecond => {
                time(Some(array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000)))
            }
        },
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            match items.as_string_opt::<i32>() {
                Some(texts) => Cell::List(texts.iter().flatten().map(str::to_owned).collect()),
                None => Cell::Other("a list of other than texts"),
            }
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Cell::Other("a fraction"),
        DataType::Binary => Cell::Other("bytes without UTF-8 annotation"),
        _ => Cell::Other("a value of another type"),
    }
}
