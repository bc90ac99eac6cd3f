//! `stage-records`: records of Kinesis to raw objects, and a start of the path for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lambda_events::kinesis::{KinesisEvent, KinesisEventRecord};
use keytrail_adapters::aws::Aws;
use keytrail_adapters::local::SystemClock;
use keytrail_model::{Fatal, Timestamp};
use keytrail_pipeline::staging::{StreamRecord, named};
use keytrail_ports::{Clock, Workflow};
use serde::Serialize;

use super::{RawStore, to_json};
use crate::line::Unit;
use crate::{Call, Environment, Handler, Line};

/// The function.
pub struct StageRecords {
    raw: RawStore,
    workflow: Arc<dyn Workflow>,
    ingest: String,
}

/// What is to be delivered again.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub struct Failures {
    /// The first record of each shard that is not durable, or the messages that are not.
    #[serde(rename = "batchItemFailures")]
    pub failures: Vec<Failure>,
}

/// A record or message.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Failure {
    /// Its sequence number or message id.
    #[serde(rename = "itemIdentifier")]
    pub id: String,
}

impl StageRecords {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let ingest = environment.text("KEYTRAIL_INGEST", "the ARN of the state machine ingest");
        Ok(Self::new(RawStore::of(environment, &aws), Arc::new(aws.workflow()), ingest))
    }

    /// Of these ports.
    pub fn new(raw: RawStore, workflow: Arc<dyn Workflow>, ingest: String) -> Self {
        Self { raw, workflow, ingest }
    }
}

impl Handler for StageRecords {
    type Event = KinesisEvent;
    type Answer = Failures;

    fn handle(&self, event: KinesisEvent, _: &Call, line: &mut Line) -> Result<Failures, Fatal> {
        let mut shards: BTreeMap<&str, Vec<&KinesisEventRecord>> = BTreeMap::new();
        for record in &event.records {
            // `shardId-000000000006:49590338271490256608559692538361571095921575989136588898`
            let id = record.event_id.as_deref().unwrap_or_default();
            shards.entry(id.split(':').next().unwrap_or_default()).or_default().push(record);
        }
        let (mut failures, mut bytes, mut lost) = (Failures::default(), 0, 0);
        for (shard, records) in shards {
            let of = |r: &'_ KinesisEventRecord| {
                Timestamp(r.kinesis.approximate_arrival_timestamp.timestamp_micros())
            };
            let staged: Vec<StreamRecord<'_>> = records
                .iter()
                .map(|r| StreamRecord {
                    sequence: &r.kinesis.sequence_number,
                    arrived: of(r),
                    data: &r.kinesis.data.0,
                })
                .collect();
            bytes += staged.iter().map(|r| r.data.len()).sum::<usize>();
            match self.raw.staging().stage(shard, &staged, SystemClock.now()) {
                Ok(objects) => {
                    let batch = named(objects);
                    // The records are durable, and open: where nobody starts on them now, the sweep does.
                    if let Err(e) = self.workflow.start(&self.ingest, &batch.batch, &to_json(&batch)?) {
                        line.field("not_started", e.to_string());
                        lost += 1;
                    }
                }
                Err(fatal) if fatal.code.starts_with("Retryable.") => {
                    line.field("deferred", fatal.to_string());
                    let id = staged.first().map(|r| r.sequence.to_owned()).unwrap_or_default();
                    failures.failures.push(Failure { id });
                }
                Err(fatal) => return Err(fatal),
            }
        }
        line.count("RecordsRead", event.records.len() as u64);
        line.count("RecordsDeferred", failures.failures.len() as u64);
        line.count("StartsLost", lost);
        line.metric("BytesRead", Unit::Bytes, bytes as f64);
        Ok(failures)
    }
}
