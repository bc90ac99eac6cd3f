//! An event source mapping of a stream ("Lambda parameters for Amazon Kinesis Data Streams event source mappings").

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::batch::{Verdict, verdict};
use super::{Envelope, Stream, StreamRecord, shard_id};
use crate::deployed::{response_context, timestamp};
use crate::{Call, Destination, Harness, HarnessError, Invocation, InvokeError, Invoker, limits};

/// How a mapping reads and what it does with failures.
#[derive(Clone, Debug)]
pub struct KinesisMapping {
    /// `BatchSize`: at most so many records, 10 000 on AWS.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`: how long to gather records.
    pub batching_window: Duration,
    /// `ParallelizationFactor`: batches of a shard at a time; records of a key stay in order.
    pub parallelization_factor: usize,
    /// `BisectBatchOnFunctionError`: splits a failed batch, which is no retry.
    pub bisect: bool,
    /// Whether a report whose lowest failure is the first record of its batch splits the batch in two, or leaves it as it
    /// is to be tried again. The documentation can be read both ways; it does not matter without `bisect`.
    pub bisect_reported_first: bool,
    /// `MaximumRetryAttempts`; unset: for ever.
    pub maximum_retry_attempts: Option<u32>,
    /// `MaximumRecordAgeInSeconds`; unset: for ever.
    pub maximum_record_age: Option<Duration>,
    /// `FunctionResponseTypes` has `ReportBatchItemFailures`.
    pub report_batch_item_failures: bool,
    /// Where records of discarded batches go.
    pub on_failure: Option<Destination>,
    /// `StartingPosition`.
    pub starting_position: StartingPosition,
    /// Before a failed or throttled batch is tried again.
    pub retry_delay: Duration,
}

impl Default for KinesisMapping {
    fn default() -> Self {
        Self {
            batch_size: 100,
            batching_window: Duration::ZERO,
            parallelization_factor: 1,
            bisect: false,
            bisect_reported_first: true,
            maximum_retry_attempts: None,
            maximum_record_age: None,
            report_batch_item_failures: false,
            on_failure: None,
            starting_position: StartingPosition::TrimHorizon,
            retry_delay: Duration::from_millis(10),
        }
    }
}

/// Where a mapping begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StartingPosition {
    /// With the oldest record.
    TrimHorizon,
    /// With what is put from now on.
    Latest,
    /// Behind these sequence numbers, one for each shard: what [`KinesisSource::checkpoints`] gave.
    After(Vec<Option<String>>),
}

/// A mapping at work. Dropped, it stops where it is, as a crash would; what was not checkpointed comes again.
pub struct KinesisSource {
    shared: Arc<Shared>,
    handle: Handle,
    stop: watch::Sender<bool>,
    lanes: JoinSet<()>,
}

struct Shared {
    stream: Stream,
    function: String,
    invoker: Invoker,
    mapping: KinesisMapping,
    envelope: Envelope,
    /// For each shard, where each lane is: the index of the first record that it has not done.
    positions: Mutex<Vec<Vec<usize>>>,
    moved: watch::Sender<u64>,
}

impl Harness {
    /// Lets a function read a stream.
    pub fn map_kinesis(
        &self,
        stream: &Stream,
        function: &str,
        mapping: KinesisMapping,
    ) -> Result<KinesisSource, HarnessError> {
        self.function(function)?;
        let settings = self.settings();
        let envelope = Envelope {
            region: settings.region.clone(),
            arn: stream.arn(&settings.region, &settings.account),
            role: format!("arn:aws:iam::{}:role/{function}", settings.account),
        };
        let factor = mapping.parallelization_factor.max(1);
        let lengths = stream.lengths();
        let start = |shard: usize| match &mapping.starting_position {
            StartingPosition::TrimHorizon => 0,
            StartingPosition::Latest => lengths[shard],
            StartingPosition::After(numbers) => match numbers.get(shard) {
                Some(Some(number)) => {
                    let records = stream.shards();
                    records.records[shard].partition_point(|record| record.sequence_number <= *number)
                }
                _ => 0,
            },
        };
        let positions: Vec<Vec<usize>> = (0..lengths.len()).map(|shard| vec![start(shard); factor]).collect();
        let shared = Arc::new(Shared {
            stream: stream.clone(),
            function: function.to_owned(),
            invoker: self.invoker(),
            envelope,
            positions: Mutex::new(positions),
            moved: watch::Sender::new(0),
            mapping,
        });
        let stop = watch::Sender::new(false);
        let mut lanes = JoinSet::new();
        for shard in 0..lengths.len() {
            for lane in 0..factor {
                let lane = Lane { shared: Arc::clone(&shared), shard, lane, factor };
                lanes.spawn_on(lane.run(stop.subscribe()), self.handle());
            }
        }
        Ok(KinesisSource { shared, handle: self.handle().clone(), stop, lanes })
    }
}

impl KinesisSource {
    /// Of each shard the last sequence number up to which all records are done or discarded.
    pub fn checkpoints(&self) -> Vec<Option<String>> {
        let shards = self.shared.stream.shards();
        let done =
            self.shared.positions().iter().map(|lanes| lanes.iter().min().copied()).collect::<Vec<_>>();
        done.iter()
            .zip(&shards.records)
            .map(|(done, records)| {
                let last = done.unwrap_or(0).checked_sub(1)?;
                records.get(last).map(|record| record.sequence_number.clone())
            })
            .collect()
    }

    /// Waits until all records that were put are done or discarded.
    pub fn wait(&self, limit: Duration) -> Result<(), HarnessError> {
        let mut moved = self.shared.moved.subscribe();
        let through = async {
            loop {
                let lengths = self.shared.stream.lengths();
                let done =
                    self.shared.positions().iter().zip(&lengths).all(|(l, n)| l.iter().all(|at| at >= n));
                if done || moved.changed().await.is_err() {
                    return;
                }
            }
        };
        if self.handle.block_on(async { timeout(limit, through).await }).is_ok() {
            return Ok(());
        }
        let what = format!(
            "`{}` to read all of the stream; it is at {:?}",
            self.shared.function,
            self.shared.positions()
        );
        Err(HarnessError::Timeout { seconds: limit.as_secs(), what })
    }

    /// Stops once the batches that are under way are through: the checkpoints.
    pub fn stop(mut self) -> Vec<Option<String>> {
        self.stop.send_replace(true);
        let handle = self.handle.clone();
        handle.block_on(async { while self.lanes.join_next().await.is_some() {} });
        self.checkpoints()
    }
}

impl Shared {
    fn positions(&self) -> MutexGuard<'_, Vec<Vec<usize>>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the batches of a shard that may be under way at a time.
struct Lane {
    shared: Arc<Shared>,
    shard: usize,
    lane: usize,
    factor: usize,
}

/// A record with its index in the shard and its JSON in an event.
#[derive(Clone)]
struct Taken {
    index: usize,
    record: Arc<StreamRecord>,
    json: Arc<str>,
}

impl Lane {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut put = self.shared.stream.0.put.subscribe();
        while !*stop.borrow() {
            put.mark_unchanged();
            let (mut batch, mut full) = self.read();
            if !batch.is_empty() && !full && !self.shared.mapping.batching_window.is_zero() {
                let end = Instant::now() + self.shared.mapping.batching_window;
                while !full && !*stop.borrow() {
                    tokio::select! {
                        changed = timeout_at(end, put.changed()) => if !matches!(changed, Ok(Ok(()))) { break },
                        changed = stop.changed() => if changed.is_err() { return },
                    }
                    (batch, full) = self.read();
                }
                if *stop.borrow() {
                    return;
                }
            }
            if batch.is_empty() {
                tokio::select! {
                    changed = put.changed() => if changed.is_err() { return },
                    changed = stop.changed() => if changed.is_err() { return },
                }
                continue;
            }
            self.work_off(batch, &stop).await;
        }
    }

    /// The next batch of this lane and whether no more records fit. Passes over records of other lanes.
    fn read(&self) -> (Vec<Taken>, bool) {
        const FRAME: usize = r#"{"Records":[]}"#.len();
        let (mut batch, mut bytes) = (Vec::new(), FRAME);
        let from = self.shared.positions()[self.shard][self.lane];
        let records: Vec<Arc<StreamRecord>> = {
            let shards = self.shared.stream.shards();
            // More than a batch of this lane is looked at, but not all of a long shard.
            let most = self.shared.mapping.batch_size.saturating_mul(self.factor).saturating_mul(4).max(1000);
            shards.records[self.shard][from..].iter().take(most).cloned().collect()
        };
        let mut passed = from;
        for (index, record) in (from..).zip(records) {
            if self.has(&record.partition_key) {
                let json = record.in_event(self.shard, &self.shared.envelope);
                let room = bytes + json.len() < limits::SYNC_PAYLOAD_BYTES;
                if batch.len() >= self.shared.mapping.batch_size.max(1) || (!room && !batch.is_empty()) {
                    return (batch, true);
                }
                bytes += json.len() + 1;
                batch.push(Taken { index, record, json: Arc::from(json) });
            } else if batch.is_empty() {
                passed = index + 1;
            }
        }
        let full = batch.len() >= self.shared.mapping.batch_size.max(1);
        if passed > from {
            self.move_to(passed);
        }
        (batch, full)
    }

    fn has(&self, partition_key: &str) -> bool {
        let hash = Md5::digest(partition_key.as_bytes());
        // Other bytes than those that choose the shard: these alone would leave lanes empty.
        let low = hash.iter().skip(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        usize::try_from(low % self.factor as u64).is_ok_and(|lane| lane == self.lane)
    }

    fn move_to(&self, index: usize) {
        self.shared.positions()[self.shard][self.lane] = index;
        self.shared.moved.send_modify(|n| *n += 1);
    }

    /// Tries a batch, and what it is split into, until all of it is done or discarded.
    async fn work_off(&self, batch: Vec<Taken>, stop: &watch::Receiver<bool>) {
        let mapping = &self.shared.mapping;
        let end = batch.last().map_or(0, |taken| taken.index + 1);
        let mut parts = VecDeque::from([(batch, 0u32)]);
        while let Some((mut batch, mut tries)) = parts.pop_front() {
            let Some(first) = batch.first() else { continue };
            self.move_to(first.index);
            if *stop.borrow() && tries > 0 {
                return;
            }
            if let Some(age) = mapping.maximum_record_age {
                let limit = jiff::Timestamp::now().as_millisecond()
                    - i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                let old = batch.iter().take_while(|taken| taken.record.arrival_ms < limit).count();
                if old > 0 {
                    let rest = batch.split_off(old);
                    self.discard(&batch, "RecordAgeExceeded", tries, None);
                    parts.push_front((rest, tries));
                    continue;
                }
            }
            let invocation = match self.invoke(&batch).await {
                Ok(invocation) => invocation,
                Err(_) if *stop.borrow() => return,
                // Throttling is no attempt; it ends with the records' age alone.
                Err(_) => {
                    sleep(mapping.retry_delay).await;
                    parts.push_front((batch, tries));
                    continue;
                }
            };
            let verdict = if invocation.function_error.is_some() {
                Verdict::Failure
            } else if mapping.report_batch_item_failures {
                let at = |number: &str| batch.iter().position(|taken| taken.record.sequence_number == number);
                verdict(&invocation.payload, at)
            } else {
                Verdict::Success
            };
            let split = match verdict {
                Verdict::Success => continue,
                // The checkpoint moves, and what is left is a batch that was not tried from its first record on.
                Verdict::From(at) if at > 0 => {
                    parts.push_front((batch.split_off(at), 0));
                    continue;
                }
                Verdict::From(_) => mapping.bisect_reported_first,
                Verdict::Failure => true,
            };
            if mapping.bisect && split && batch.len() > 1 {
                let second = batch.split_off(batch.len() / 2);
                parts.push_front((second, tries));
                parts.push_front((batch, tries));
                continue;
            }
            tries += 1;
            if mapping.maximum_retry_attempts.is_some_and(|most| tries > most) {
                self.discard(&batch, "RetryAttemptsExhausted", tries, Some(&invocation));
            } else {
                sleep(mapping.retry_delay).await;
                parts.push_front((batch, tries));
            }
        }
        self.move_to(end);
    }

    async fn invoke(&self, batch: &[Taken]) -> Result<Invocation, InvokeError> {
        let records: Vec<&str> = batch.iter().map(|taken| &*taken.json).collect();
        let payload = Bytes::from(format!(r#"{{"Records":[{}]}}"#, records.join(",")));
        self.shared.invoker.invoke(&self.shared.function, Call { payload, ..Call::default() }).await
    }

    /// "Retain discarded batch records for a Kinesis Data Streams event source in Lambda".
    fn discard(&self, batch: &[Taken], condition: &str, tries: u32, last: Option<&Invocation>) {
        let (Some(destination), Some(first), Some(end)) =
            (&self.shared.mapping.on_failure, batch.first(), batch.last())
        else {
            return;
        };
        let settings = self.shared.invoker.settings();
        let arrival = |taken: &Taken| {
            let at = jiff::Timestamp::from_millisecond(taken.record.arrival_ms).unwrap_or_default();
            at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
        };
        let id = last.map_or_else(|| settings.request_id(), |invocation| invocation.request_id.clone());
        let mut record = json!({
            "requestContext": {
                "requestId": id,
                "functionArn": settings.function_arn(&self.shared.function),
                "condition": condition,
                "approximateInvokeCount": tries,
            },
            "version": "1.0",
            "timestamp": timestamp(),
            "KinesisBatchInfo": {
                "shardId": shard_id(self.shard),
                "startSequenceNumber": first.record.sequence_number,
                "endSequenceNumber": end.record.sequence_number,
                "approximateArrivalOfFirstRecord": arrival(first),
                "approximateArrivalOfLastRecord": arrival(end),
                "batchSize": batch.len(),
                "streamArn": self.shared.envelope.arn,
            },
        });
        if let Some(last) = last {
            record["responseContext"] = response_context(last);
        }
        destination.send(record);
    }
}
