//! `stage-objects`: objects that others put into buckets to batches, and starts of the path for them; and what lies below
//! a prefix to a plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lambda_events::s3::S3Event;
use aws_lambda_events::sqs::SqsEvent;
use keytrail_adapters::aws::Aws;
use keytrail_adapters::local::SystemClock;
use keytrail_model::{Fatal, Hash};
use keytrail_pipeline::pending::{Batch, RawObject};
use keytrail_pipeline::staging::{Plan, batches, cost_usd, named, plan};
use keytrail_ports::{Clock, RawObjects, Workflow};
use serde::{Deserialize, Serialize};

use super::stage_records::{Failure, Failures};
use super::{RawStore, to_json};
use crate::{Call, Environment, Handler, Line};

/// The function.
pub struct StageObjects {
    raw: RawStore,
    objects: Arc<dyn RawObjects>,
    workflow: Arc<dyn Workflow>,
    ingest: String,
    backfill: String,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Staged {
    /// By the state machine of back-fills.
    Backfill {
        /// What is to be read.
        backfill: Prefix,
    },
    /// Notifications of S3, through a queue.
    Messages(SqsEvent),
}

/// All objects below a prefix.
#[derive(Debug, Deserialize)]
pub struct Prefix {
    bucket: String,
    #[serde(default)]
    prefix: String,
}

/// What it answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Messages to be delivered again.
    Messages(Failures),
    /// Where the batches of a back-fill are, and what it costs.
    Planned {
        /// Of the list of batches.
        bucket: String,
        /// Its key.
        key: String,
        /// Objects to be read.
        objects: u64,
        /// Their bytes.
        bytes: u64,
        /// Batches.
        batches: u64,
        /// Events, estimated.
        events_estimated: u64,
        /// What it costs, estimated.
        cost_usd: f64,
        /// The same in words.
        line: String,
    },
}

impl StageObjects {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let ingest = environment.text("KEYTRAIL_INGEST", "the ARN of the state machine ingest");
        let backfill = environment.text("KEYTRAIL_BACKFILL", "the ARN of the state machine backfill");
        let raw = RawStore::of(environment, &aws);
        Ok(Self::new(raw, Arc::new(aws.objects()), Arc::new(aws.workflow()), ingest, backfill))
    }

    /// Of these ports.
    pub fn new(
        raw: RawStore,
        objects: Arc<dyn RawObjects>,
        workflow: Arc<dyn Workflow>,
        ingest: String,
        backfill: String,
    ) -> Self {
        Self { raw, objects, workflow, ingest, backfill }
    }

    /// Opens the objects of a message. What is no notification is left to the queue's dead letters.
    fn message(&self, body: &str) -> Result<Vec<RawObject>, Fatal> {
        let wrong = |e: serde_json::Error| Fatal::new("Fatal.Input", format!("no notification of S3: {e}"));
        // S3 says once that it can reach the queue.
        if body.contains("\"s3:TestEvent\"") {
            return Ok(Vec::new());
        }
        let event: S3Event = serde_json::from_str(body).map_err(wrong)?;
        let mut objects = Vec::new();
        for record in event.records {
            let (bucket, object) = (record.s3.bucket, record.s3.object);
            objects.push(RawObject {
                bucket: bucket.name.unwrap_or_default(),
                key: decoded(&object.key.unwrap_or_default()),
                version: object.version_id.filter(|v| !v.is_empty()),
                bytes: object.size.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
            });
        }
        let now = SystemClock.now();
        self.raw.staging().open(&objects, now)?;
        Ok(objects)
    }

    /// Whether an execution was started. The objects are open: where nobody starts on them now, the sweep does.
    fn start(&self, machine: &str, batch: &Batch, line: &mut Line) -> Result<bool, Fatal> {
        let started = self.workflow.start(machine, &batch.batch, &to_json(batch)?);
        if let Err(e) = &started {
            line.field("not_started", e.to_string());
        }
        Ok(started.is_ok())
    }

    fn plan(&self, prefix: &Prefix) -> Result<Answer, Fatal> {
        let plan = plan(&*self.objects, &prefix.bucket, &prefix.prefix)?;
        let Plan { batches, objects, bytes, inflated_bytes } = &plan;
        let json = to_json(batches)?;
        let key = format!("backfill/{}.json", &Hash::of(json.as_bytes()).to_hex()[..32]);
        self.raw.store().put_if_absent(&key, json.as_bytes())?;
        let (bucket, key) = self.raw.place(&key);
        let (events_estimated, cost_usd) = cost_usd(*objects, *inflated_bytes);
        let batches = batches.len() as u64;
        let line = format!(
            "{objects} objects, {bytes} bytes, about {events_estimated} events in {batches} batches: about {cost_usd:.2} USD"
        );
        let (objects, bytes) = (*objects, *bytes);
        Ok(Answer::Planned { bucket, key, objects, bytes, batches, events_estimated, cost_usd, line })
    }
}

/// A key as S3 notifies of it: encoded as in a form (Amazon S3 User Guide, "Event message structure").
fn decoded(key: &str) -> String {
    let hex = |text: &[u8]| u8::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    let (mut bytes, mut rest) = (Vec::new(), key.as_bytes());
    while let [first, others @ ..] = rest {
        let code = if *first == b'%' { others.get(..2).and_then(hex) } else { None };
        bytes.push(code.unwrap_or(if *first == b'+' { b' ' } else { *first }));
        rest = if code.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Handler for StageObjects {
    type Event = Staged;
    type Answer = Answer;

    fn handle(&self, event: Staged, _: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let messages = match event {
            Staged::Backfill { backfill } => return self.plan(&backfill),
            Staged::Messages(event) => event.records,
        };
        let (mut failures, mut all) = (Failures::default(), BTreeMap::new());
        for message in messages {
            let id = message.message_id.unwrap_or_default();
            match self.message(message.body.as_deref().unwrap_or_default()) {
                Ok(objects) => {
                    all.extend(objects.into_iter().map(|o| ((o.bucket.clone(), o.key.clone()), o)))
                }
                Err(fatal) => {
                    line.field("deferred", fatal.to_string());
                    failures.failures.push(Failure { id });
                }
            }
        }
        line.count("ObjectsRead", all.len() as u64);
        line.count("RecordsDeferred", failures.failures.len() as u64);
        let (batches, large) = batches(all.into_values().collect());
        let mut lost = 0;
        for batch in batches {
            lost += u64::from(!self.start(&self.ingest, &batch, line)?);
        }
        for object in large {
            lost += u64::from(!self.start(&self.backfill, &named(vec![object]), line)?);
        }
        line.count("StartsLost", lost);
        Ok(Answer::Messages(failures))
    }
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn keys_are_decoded_as_s3_encodes_them() {
        for (notified, key) in [
            ("a/b-c.gz", "a/b-c.gz"),
            ("red+flower.jpg", "red flower.jpg"),
            ("gateway-1%3D2Fpartition-0/%C3%A9%2B%25", "gateway-1=2Fpartition-0/\u{e9}+%"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
        ] {
            assert_eq!(decoded(notified), key);
        }
    }
}
