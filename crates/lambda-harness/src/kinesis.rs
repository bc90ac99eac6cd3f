//! A Kinesis data stream in memory, and event source mappings that read it.

mod batch;
mod mapping;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use tokio::sync::watch;

pub use mapping::{KinesisMapping, KinesisSource, StartingPosition};

/// A record as a stream keeps it.
#[derive(Clone, Debug)]
pub struct StreamRecord {
    /// Records of a key are in one shard and in order.
    pub partition_key: String,
    /// 56 digits that grow along the stream.
    pub sequence_number: String,
    /// What was put.
    pub data: Bytes,
    /// Milliseconds since 1970.
    pub arrival_ms: i64,
}

/// A stream; clones are the same one.
#[derive(Clone, Debug)]
pub struct Stream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    shards: Mutex<Shards>,
    /// How many records there are.
    put: watch::Sender<u64>,
}

#[derive(Debug)]
struct Shards {
    records: Vec<Vec<Arc<StreamRecord>>>,
    count: u64,
}

impl Stream {
    /// With so many shards, at least one.
    pub fn new(name: impl Into<String>, shards: usize) -> Self {
        let records = vec![Vec::new(); shards.max(1)];
        Self(Arc::new(Inner {
            name: name.into(),
            shards: Mutex::new(Shards { records, count: 0 }),
            put: watch::Sender::new(0),
        }))
    }

    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.0.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record where its key belongs: the shard and the sequence number.
    pub fn put(&self, partition_key: impl Into<String>, data: impl Into<Bytes>) -> (usize, String) {
        let key = partition_key.into();
        let shards = self.shards().records.len();
        // The hash keys of the shards divide the range of MD5 evenly.
        let hash = Md5::digest(key.as_bytes());
        let high = hash.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let shard = usize::try_from((u128::from(high) * shards as u128) >> 64).unwrap_or(0);
        (shard, self.put_to(shard, key, data))
    }

    /// Puts a record into a shard, as an explicit hash key does: the sequence number. Panics if there is no such shard.
    pub fn put_to(&self, shard: usize, partition_key: impl Into<String>, data: impl Into<Bytes>) -> String {
        let mut shards = self.shards();
        shards.count += 1;
        let count = shards.count;
        let sequence_number = format!("496543217890123456789012345678901234{count:020}");
        shards.records[shard].push(Arc::new(StreamRecord {
            partition_key: partition_key.into(),
            sequence_number: sequence_number.clone(),
            data: data.into(),
            arrival_ms: jiff::Timestamp::now().as_millisecond(),
        }));
        drop(shards);
        self.0.put.send_replace(count);
        sequence_number
    }

    /// The records of a shard.
    pub fn records(&self, shard: usize) -> Vec<StreamRecord> {
        self.shards().records[shard].iter().map(|record| StreamRecord::clone(record)).collect()
    }

    /// How many records each shard has.
    fn lengths(&self) -> Vec<usize> {
        self.shards().records.iter().map(Vec::len).collect()
    }

    fn arn(&self, region: &str, account: &str) -> String {
        format!("arn:aws:kinesis:{region}:{account}:stream/{}", self.0.name)
    }
}

/// Id of a shard by its number.
pub fn shard_id(shard: usize) -> String {
    format!("shardId-{shard:012}")
}

/// What is the same in all records of a mapping's events.
#[derive(Debug)]
struct Envelope {
    region: String,
    arn: String,
    role: String,
}

impl StreamRecord {
    /// The record in an event ("Using Lambda to process records from Amazon Kinesis Data Streams").
    fn in_event(&self, shard: usize, envelope: &Envelope) -> String {
        let Envelope { region, arn, role } = envelope;
        let Self { partition_key, sequence_number, data, arrival_ms } = self;
        let key = serde_json::Value::from(partition_key.as_str());
        let (shard, data) = (shard_id(shard), STANDARD.encode(data));
        let (seconds, thousandths) = (arrival_ms.div_euclid(1000), arrival_ms.rem_euclid(1000));
        format!(
            r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":{key},"sequenceNumber":"{sequence_number}","data":"{data}","approximateArrivalTimestamp":{seconds}.{thousandths:03}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"{shard}:{sequence_number}","eventName":"aws:kinesis:record","invokeIdentityArn":"{role}","awsRegion":"{region}","eventSourceARN":"{arn}"}}"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_grow_and_have_56_digits() {
        let stream = Stream::new("s", 3);
        let numbers: Vec<String> = (0..100).map(|n| stream.put(format!("key-{n}"), "x").1).collect();
        assert!(numbers.iter().all(|n| n.len() == 56 && n.bytes().all(|b| b.is_ascii_digit())));
        assert!(numbers.is_sorted());
        assert!(stream.lengths().iter().all(|n| *n > 10), "{:?}", stream.lengths());
    }

    #[test]
    fn a_record_has_the_published_fields() {
        let envelope = Envelope { region: "r".to_owned(), arn: "a".to_owned(), role: "i".to_owned() };
        let record = StreamRecord {
            partition_key: "a \"key\"".to_owned(),
            sequence_number: "7".to_owned(),
            data: Bytes::from_static(b"Hello, this is a test."),
            arrival_ms: 1_545_084_650_007,
        };
        let event: serde_json::Value = serde_json::from_str(&record.in_event(6, &envelope)).unwrap();
        let expected = serde_json::json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "a \"key\"", "sequenceNumber": "7",
                "data": "SGVsbG8sIHRoaXMgaXMgYSB0ZXN0Lg==", "approximateArrivalTimestamp": 1_545_084_650.007,
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": "shardId-000000000006:7",
            "eventName": "aws:kinesis:record", "invokeIdentityArn": "i", "awsRegion": "r", "eventSourceARN": "a",
        });
        assert_eq!(event, expected);
    }
}
