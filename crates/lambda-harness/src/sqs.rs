//! An SQS queue in memory, and event source mappings that read it ("Using Lambda with Amazon SQS").

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{Call, Harness, HarnessError, Invocation, Invoker, limits};

/// A message as a queue keeps it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Shaped as a UUID.
    pub id: String,
    /// What was sent.
    pub body: String,
    /// How often it was received.
    pub receive_count: u32,
    sent_ms: i64,
    first_received_ms: Option<i64>,
    visible_at: Instant,
    receipt: u64,
}

/// A queue; clones are the same one.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    visibility: Duration,
    redrive: Option<(u32, Queue)>,
    messages: Mutex<Messages>,
    changed: watch::Sender<u64>,
}

#[derive(Default, Debug)]
struct Messages {
    held: Vec<Message>,
    sent: u64,
    receipts: u64,
}

impl Queue {
    /// With a visibility timeout.
    pub fn new(name: impl Into<String>, visibility: Duration) -> Self {
        Self::made(name.into(), visibility, None)
    }

    /// The same with a redrive policy: what was received `most` times and is to be received again goes to another queue.
    pub fn with_redrive(
        name: impl Into<String>,
        visibility: Duration,
        most: u32,
        dead_letters: Queue,
    ) -> Self {
        Self::made(name.into(), visibility, Some((most, dead_letters)))
    }

    fn made(name: String, visibility: Duration, redrive: Option<(u32, Queue)>) -> Self {
        let changed = watch::Sender::new(0);
        Self(Arc::new(Inner { name, visibility, redrive, messages: Mutex::default(), changed }))
    }

    fn messages(&self) -> MutexGuard<'_, Messages> {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        self.0.changed.send_modify(|n| *n += 1);
    }

    /// Sends a message: its id.
    pub fn send(&self, body: impl Into<String>) -> String {
        let mut messages = self.messages();
        messages.sent += 1;
        let hash = Md5::digest(self.0.name.as_bytes());
        let prefix: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let id = format!("{prefix}-0000-4000-8000-{:012x}", messages.sent);
        messages.held.push(Message {
            id: id.clone(),
            body: body.into(),
            receive_count: 0,
            sent_ms: jiff::Timestamp::now().as_millisecond(),
            first_received_ms: None,
            visible_at: Instant::now(),
            receipt: 0,
        });
        drop(messages);
        self.change();
        id
    }

    /// All messages that were neither deleted nor moved away, visible or not.
    pub fn all(&self) -> Vec<Message> {
        self.messages().held.clone()
    }

    /// Takes visible messages for the visibility timeout; else says when the next becomes visible.
    fn receive(&self, most: usize) -> (Vec<Message>, Option<Instant>) {
        let now = Instant::now();
        let mut received = Vec::new();
        let mut dead = Vec::new();
        let mut messages = self.messages();
        if let Some((most, _)) = self.0.redrive {
            dead = messages.held.extract_if(.., |m| m.visible_at <= now && m.receive_count >= most).collect();
        }
        let Messages { held, receipts, .. } = &mut *messages;
        for message in held.iter_mut().filter(|m| m.visible_at <= now).take(most) {
            message.receive_count += 1;
            message.first_received_ms.get_or_insert_with(|| jiff::Timestamp::now().as_millisecond());
            message.visible_at = now + self.0.visibility;
            *receipts += 1;
            message.receipt = *receipts;
            received.push(message.clone());
        }
        let next = held.iter().map(|m| m.visible_at).min();
        drop(messages);
        if let (false, Some((_, queue))) = (dead.is_empty(), &self.0.redrive) {
            queue.messages().held.extend(dead.into_iter().map(|m| Message { visible_at: now, ..m }));
            queue.change();
            self.change();
        }
        (received, next)
    }

    /// Deletes by receipt: one that was received again since stays.
    fn delete(&self, done: &[&Message]) {
        self.messages().held.retain(|m| !done.iter().any(|d| d.id == m.id && d.receipt == m.receipt));
        self.change();
    }

    /// Waits until so many messages are held.
    pub fn wait(
        &self,
        harness: &Harness,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<Message>, HarnessError> {
        let mut changed = self.0.changed.subscribe();
        let there = async {
            loop {
                let held = self.all();
                if held.len() == count || changed.changed().await.is_err() {
                    return held;
                }
            }
        };
        harness.handle().block_on(async { timeout(limit, there).await }).map_err(|_| {
            let what = format!("{count} messages in `{}`; it holds {}", self.0.name, self.all().len());
            HarnessError::Timeout { seconds: limit.as_secs(), what }
        })
    }
}

/// How a mapping reads a queue.
#[derive(Clone, Debug)]
pub struct QueueMapping {
    /// `BatchSize`.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`.
    pub batching_window: Duration,
    /// `MaximumConcurrency` of the mapping.
    pub maximum_concurrency: usize,
    /// `FunctionResponseTypes` has `ReportBatchItemFailures`.
    pub report_batch_item_failures: bool,
}

impl Default for QueueMapping {
    fn default() -> Self {
        Self {
            batch_size: 10,
            batching_window: Duration::ZERO,
            maximum_concurrency: 5,
            report_batch_item_failures: false,
        }
    }
}

/// A mapping at work; dropped, it stops where it is.
pub struct QueueSource {
    handle: Handle,
    stop: watch::Sender<bool>,
    pollers: JoinSet<()>,
}

impl QueueSource {
    /// Stops once the batches that are under way are through.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        let handle = self.handle.clone();
        handle.block_on(async { while self.pollers.join_next().await.is_some() {} });
    }
}

impl Harness {
    /// Lets a function read a queue.
    pub fn map_queue(
        &self,
        queue: &Queue,
        function: &str,
        mapping: QueueMapping,
    ) -> Result<QueueSource, HarnessError> {
        self.function(function)?;
        let settings = self.settings();
        let stop = watch::Sender::new(false);
        let mut pollers = JoinSet::new();
        for _ in 0..mapping.maximum_concurrency.max(1) {
            let poller = Poller {
                queue: queue.clone(),
                function: function.to_owned(),
                invoker: self.invoker(),
                mapping: mapping.clone(),
                region: settings.region.clone(),
                arn: format!("arn:aws:sqs:{}:{}:{}", settings.region, settings.account, queue.0.name),
            };
            pollers.spawn_on(poller.run(stop.subscribe()), self.handle());
        }
        Ok(QueueSource { handle: self.handle().clone(), stop, pollers })
    }
}

struct Poller {
    queue: Queue,
    function: String,
    invoker: Invoker,
    mapping: QueueMapping,
    region: String,
    arn: String,
}

impl Poller {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut changed = self.queue.0.changed.subscribe();
        while !*stop.borrow() {
            changed.mark_unchanged();
            let (mut batch, next) = self.queue.receive(self.mapping.batch_size.max(1));
            if batch.is_empty() {
                let visible = async {
                    match next {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = changed.changed() => if changed.is_err() { return },
                    changed = stop.changed() => if changed.is_err() { return },
                    () = visible => {}
                }
                continue;
            }
            let end = Instant::now() + self.mapping.batching_window;
            while batch.len() < self.mapping.batch_size && !*stop.borrow() {
                tokio::select! {
                    changed = timeout_at(end, changed.changed()) => if !matches!(changed, Ok(Ok(()))) { break },
                    changed = stop.changed() => if changed.is_err() { return },
                }
                batch.extend(self.queue.receive(self.mapping.batch_size - batch.len()).0);
            }
            self.work_off(&batch).await;
        }
    }

    async fn work_off(&self, batch: &[Message]) {
        let mut records: Vec<String> =
            batch.iter().map(|message| self.in_event(message).to_string()).collect();
        let mut bytes = 0;
        let fits = records.iter().take_while(|record| {
            bytes += record.len() + 1;
            bytes + 16 <= limits::SYNC_PAYLOAD_BYTES
        });
        // What does not fit comes again when its visibility timeout ends.
        let fits = fits.count().max(1);
        records.truncate(fits);
        let payload = Bytes::from(format!(r#"{{"Records":[{}]}}"#, records.join(",")));
        match self.invoker.invoke(&self.function, Call { payload, ..Call::default() }).await {
            Ok(invocation) => self.queue.delete(&self.done(&batch[..fits], &invocation)),
            // Throttled: it comes again as well.
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }

    /// The messages of a batch that are done ("Implementing partial batch responses").
    fn done<'a>(&self, batch: &'a [Message], invocation: &Invocation) -> Vec<&'a Message> {
        if invocation.function_error.is_some() {
            return Vec::new();
        }
        if !self.mapping.report_batch_item_failures {
            return batch.iter().collect();
        }
        let Ok(answer) = serde_json::from_slice::<Value>(&invocation.payload) else { return Vec::new() };
        let failures = match &answer["batchItemFailures"] {
            Value::Null => return batch.iter().collect(),
            Value::Array(failures) => failures,
            _ => return Vec::new(),
        };
        let mut failed = Vec::new();
        for failure in failures {
            match failure["itemIdentifier"].as_str() {
                Some(id) if batch.iter().any(|message| message.id == id) => failed.push(id),
                _ => return Vec::new(),
            }
        }
        batch.iter().filter(|message| !failed.contains(&message.id.as_str())).collect()
    }

    fn in_event(&self, message: &Message) -> Value {
        let md5: String =
            Md5::digest(message.body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "messageId": message.id,
            "receiptHandle": format!("receipt-{}", message.receipt),
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": message.receive_count.to_string(),
                "SentTimestamp": message.sent_ms.to_string(),
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": message.first_received_ms.unwrap_or(message.sent_ms).to_string(),
            },
            "messageAttributes": {},
            "md5OfBody": md5,
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn,
            "awsRegion": self.region,
        })
    }
}
