//! The documented columns are those that are written, as readers that know nothing of keytrail see them.

use bytes::Bytes;
use keytrail_archive::{ObjectWriter, schema};
use keytrail_model::{Column, Kind, SCHEMA_VERSION, Timestamp};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ConvertedType};

use crate::rows::{all, day, inputs, partition_of};

fn object() -> Bytes {
    let rows = day(500, 2);
    let mut w = ObjectWriter::new(partition_of(&rows), Vec::new(), 1).unwrap();
    w.append(&all(&rows), Timestamp(5), &inputs()).unwrap();
    w.finish().unwrap().out.into()
}

#[test]
fn files_have_the_documented_columns() {
    let reader = ParquetRecordBatchReaderBuilder::try_new(object()).unwrap();
    let fields = reader.schema().fields();
    assert_eq!(fields.len(), Column::ALL.len());
    for (field, column) in fields.iter().zip(Column::ALL) {
        assert_eq!(field.name(), column.name());
        assert_eq!(field.data_type(), &schema::data_type(column.kind()));
    }
    let file = reader.metadata().file_metadata();
    assert_eq!(file.created_by(), Some("keytrail"));
    let kv = file.key_value_metadata().unwrap();
    assert_eq!((kv[0].key.as_str(), kv[0].value.as_deref()), ("keytrail.schema", Some("1")));
    let group = reader.metadata().row_group(0);
    let sorting = group.sorting_columns().unwrap();
    assert_eq!(sorting[0].column_idx as usize, Column::Timestamp.index());
    for c in Column::ALL {
        let chunk = group.column(c.index());
        assert!(matches!(chunk.compression(), Compression::ZSTD(_)), "{}", c.name());
        if c.kind() == Kind::Text {
            assert_eq!(chunk.column_descr().converted_type(), ConvertedType::UTF8, "{}", c.name());
        }
        let unique = schema::storage(c) == schema::Storage::Unique || c == Column::EventOriginal;
        assert_eq!(chunk.statistics().is_none(), unique, "{}", c.name());
    }
    assert!(group.column(Column::Timestamp.index()).column_index_offset().is_some());
}

/// A path of the project's `schemas/` folder.
fn documented(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name)
}

fn kind_name(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Text => ("text", "BYTE_ARRAY, String"),
        Kind::Int => ("integer", "INT64"),
        Kind::Bool => ("boolean", "BOOLEAN"),
        Kind::Time => ("time", "INT64, Timestamp(microseconds, UTC)"),
        Kind::List => ("list of texts", "List of BYTE_ARRAY, String"),
        Kind::Binary => ("bytes", "BYTE_ARRAY"),
    }
}

fn bound_by(column: Column) -> &'static str {
    match column {
        c if c.derived() => "rows_root",
        Column::KeytrailUid => "rows_root",
        Column::EventHash => "events_root, rows_root",
        Column::EventOriginal => "event_hash",
        _ => "the object's SHA-256",
    }
}

/// The table of `schemas/archive.md`, between its two marks.
fn table() -> String {
    let mut out =
        String::from("| column | field | type | meaning | bound by |\n| --- | --- | --- | --- | --- |\n");
    for c in Column::ALL {
        let (kind, bound) = (kind_name(c.kind()).0, bound_by(c));
        out += &format!("| `{}` | `{}` | {kind} | {} | {bound} |\n", c.name(), c.field(), c.doc());
    }
    out
}

/// `schemas/archive.v1.json`.
fn json() -> String {
    let columns: Vec<String> = Column::ALL
        .iter()
        .map(|c| {
            let (kind, parquet) = kind_name(c.kind());
            format!(
                "    {{\"name\": \"{}\", \"field\": \"{}\", \"type\": \"{kind}\", \"parquet\": \"{parquet}\"}}",
                c.name(),
                c.field()
            )
        })
        .collect();
    format!("{{\n  \"schema\": {SCHEMA_VERSION},\n  \"columns\": [\n{}\n  ]\n}}\n", columns.join(",\n"))
}

const MARKS: (&str, &str) = ("<!-- columns: made from the code, see below -->\n", "<!-- end of columns -->");

/// With `KEYTRAIL_BLESS=1` in the environment the documents are written anew.
#[test]
fn documents_say_what_the_code_does() {
    let md = std::fs::read_to_string(documented("archive.md")).expect("schemas/archive.md");
    let start = md.find(MARKS.0).expect("the first mark") + MARKS.0.len();
    let end = md.find(MARKS.1).expect("the second mark");
    let expected = format!("{}{}{}", &md[..start], table(), &md[end..]);
    let json_path = documented("archive.v1.json");
    if std::env::var_os("KEYTRAIL_BLESS").is_some() {
        std::fs::write(documented("archive.md"), &expected).unwrap();
        std::fs::write(&json_path, json()).unwrap();
    }
    assert!(md == expected, "the columns in schemas/archive.md are out of date: run with KEYTRAIL_BLESS=1");
    assert_eq!(std::fs::read_to_string(json_path).expect("schemas/archive.v1.json"), json());
}
