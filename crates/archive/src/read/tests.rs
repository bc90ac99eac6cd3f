use std::sync::Arc;

use keytrail_model::digest;
use keytrail_model::row::{Content, Provenance, columns, encode, text};
use keytrail_model::{AuditEvent, Day, Partition, RowBuffer, Value};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::*;
use crate::ObjectWriter;

/// Columns that no version had, so to say: before and behind others, one before the times.
const LACKING: [Column; 3] = [Column::CloudAccountId, Column::RelatedIp, Column::UserName];

fn rows() -> RowBuffer {
    let mut rows = RowBuffer::new();
    for i in 0..500u64 {
        let mut e = AuditEvent::new("aws.cloudtrail", "aws");
        e.at(Timestamp::parse("2023-07-10T11:42:20Z").map(|t| Timestamp(t.0 + i as i64)));
        e.text(Column::CloudAccountId, "111122223333");
        e.text(Column::EventAction, format!("Action{i}"));
        e.add(Column::RelatedIp, "192.0.2.7");
        e.text(Column::UserName, format!("user {i}"));
        let original = format!("{{\"n\":{i}}}");
        rows.push(&e, original.as_bytes(), Content::AsIs, Provenance { input: 0, offset: i });
    }
    rows
}

fn whole() -> Vec<u8> {
    let partition = Partition { dataset: "aws.cloudtrail".into(), day: Day::parse("2023-07-10").unwrap() };
    let mut writer = ObjectWriter::new(partition, Vec::new(), 1).unwrap();
    let rows = rows();
    writer.append(&rows.rows().collect::<Vec<_>>(), Timestamp(1), &["in".to_owned()]).unwrap();
    writer.finish().unwrap().out
}

/// The object as a version without these columns would have written it.
fn older() -> Vec<u8> {
    let batches = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(whole())).unwrap().build().unwrap();
    let kept: Vec<usize> = Column::ALL.iter().filter(|c| !LACKING.contains(c)).map(|c| c.index()).collect();
    let version = KeyValue::new(schema::SCHEMA_KEY.into(), "1".to_owned());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![version])).build();
    let fields = Arc::new(schema::arrow().project(&kept).unwrap());
    let mut writer = ArrowWriter::try_new(Vec::new(), fields, Some(properties)).unwrap();
    for batch in batches {
        writer.write(&batch.unwrap().project(&kept).unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}

fn had() -> Vec<Column> {
    Column::ALL.into_iter().filter(|c| !LACKING.contains(c)).collect()
}

fn open(object: Vec<u8>) -> Result<ObjectReader, ReadError> {
    let source = Source { size: object.len() as u64, bytes: Stored::InMemory(object.into()) };
    ObjectReader::checked(source, |metadata| check_columns(metadata, 1, had()))
}

/// Columns are only added: what an older version did not have is null, and digests skip nulls.
#[test]
fn an_object_of_fewer_columns_reads_as_one_without_their_values() {
    let (reader, whole, rows) = (open(older()).unwrap(), ObjectReader::in_memory(whole()).unwrap(), rows());
    let mut row = 0;
    let mut digests = crate::Digests::default();
    for batch in reader.batches(&Projection::All, Selection::All) {
        let batch = batch.unwrap();
        for (leaf, stored) in batch.leaves(&mut digests).zip(batch.rows()) {
            let expected = rows.row(row);
            assert_eq!(stored.original, Some(expected.original));
            assert!(text(stored.columns, Column::UserName).is_none());
            let left = columns(expected.columns).filter(|(c, _)| !LACKING.contains(c));
            let left: Vec<_> = left.map(|(c, _)| c).collect();
            assert_eq!(columns(stored.columns).map(|(c, _)| c).collect::<Vec<_>>(), left);
            assert_eq!(leaf.digest, digest::of_row(&leaf.uid, &leaf.hash, stored.columns));
            assert_eq!((leaf.time, leaf.dataset), (expected.head.time, Some("aws.cloudtrail")));
            row += 1;
        }
    }
    assert_eq!(row, 500);
    // Parts of it: by columns, by row, by time.
    let some = Projection::Columns(vec![Column::UserName, Column::EventAction]);
    for (reader, name) in [(&reader, None), (&whole, Some("user 7"))] {
        let batch = reader.batches(&some, Selection::Row(7)).next().unwrap().unwrap();
        let row = batch.rows().next().unwrap();
        assert_eq!(
            (text(row.columns, Column::EventAction), text(row.columns, Column::UserName)),
            (Some("Action7"), name)
        );
        let day = Timestamp::parse("2023-07-10T00:00:00Z").unwrap();
        let in_range = |from, to| reader.batches(&some, Selection::Time { from, to }).count();
        assert_eq!(in_range(Timestamp(0), day), 0);
        assert!(in_range(day, Timestamp(i64::MAX)) > 0);
    }
}

#[test]
fn columns_have_to_be_those_of_the_version() {
    let lacks = ObjectReader::in_memory(older()).err().unwrap();
    assert!(lacks.to_string().contains("not those of schema 1: `cloud_account_id` is missing"), "{lacks}");
    let has_more = open(whole()).err().unwrap();
    assert!(has_more.to_string().contains("not those of schema 1: "), "{has_more}");
}

/// What a reader of the encoding does with a column that is null: nothing.
#[test]
fn a_null_is_no_part_of_a_row() {
    let mut rows = Vec::new();
    encode(&mut rows, [(Column::EventAction, Value::Text("a".into()))].into_iter());
    assert_eq!(columns(&rows).count(), 1);
    assert_eq!(
        schema::columns(1).unwrap().len(),
        Column::ALL.len() - schema::ADDED.iter().map(|(_, c)| c.len()).sum::<usize>()
    );
    assert!(schema::columns(0).is_none() && schema::columns(SCHEMA_VERSION + 1).is_none());
}
