//! `redrive-batches`: parked batches back into the path.

use std::sync::Arc;

use keytrail_adapters::aws::Aws;
use keytrail_adapters::local::SystemClock;
use keytrail_model::{Fatal, Hash, Timestamp};
use keytrail_ports::{Clock, Queue, Workflow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Call, Environment, Handler, Line};

/// Messages that are taken at once.
const AT_ONCE: usize = 10;

/// Messages of one call, without another word.
const MOST: u64 = 100;

/// The function.
pub struct RedriveBatches {
    parked: Arc<dyn Queue>,
    workflow: Arc<dyn Workflow>,
    ingest: String,
    backfill: String,
}

/// What it is called with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// By whoever began it.
    #[serde(default)]
    input: Limits,
    /// When the execution of the state machine began (RFC 3339): what was parked since waits for another one.
    #[serde(default)]
    started: Option<String>,
}

/// How much of it.
#[derive(Debug, Default, Deserialize)]
struct Limits {
    #[serde(default)]
    max: Option<u64>,
}

/// A parked batch.
#[derive(Deserialize)]
struct Parked<'a> {
    machine: &'a str,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// What was started.
#[derive(Debug, Serialize)]
pub struct Answer {
    redriven: u64,
    /// Messages that say nothing that can be started: they stay, for a person.
    unreadable: u64,
    /// Messages that were parked since it began: what was redriven fails again.
    newer: u64,
    more: bool,
}

impl RedriveBatches {
    /// Of the environment.
    pub fn of(environment: &mut Environment<'_>) -> Result<Self, Fatal> {
        let aws = Aws::from_environment()?;
        let queue = environment.text("KEYTRAIL_PARKED", "the URL of the queue of parked batches");
        Ok(Self {
            parked: Arc::new(aws.queue(&queue)),
            workflow: Arc::new(aws.workflow()),
            ingest: environment.text("KEYTRAIL_INGEST", "the ARN of the state machine ingest"),
            backfill: environment.text("KEYTRAIL_BACKFILL", "the ARN of the state machine backfill"),
        })
    }
}

impl Handler for RedriveBatches {
    type Event = Wanted;
    type Answer = Answer;

    fn handle(&self, wanted: Wanted, call: &Call, line: &mut Line) -> Result<Answer, Fatal> {
        let most = wanted.input.max.unwrap_or(MOST);
        let wrong = |text| Fatal::new("Fatal.Input", format!("`started` is no time: `{text}`"));
        let started = match wanted.started {
            Some(text) => Timestamp::parse(&text).ok_or_else(|| wrong(text))?,
            None => SystemClock.now(),
        };
        let (mut redriven, mut unreadable, mut newer, mut more) = (0, 0, 0, true);
        while redriven + unreadable < most && more {
            let messages = self.parked.receive(AT_ONCE)?;
            more = messages.iter().any(|message| message.sent < started);
            for message in messages {
                if message.sent >= started {
                    newer += 1;
                    continue;
                }
                let machine = match serde_json::from_str::<Parked<'_>>(&message.body) {
                    Ok(parked) if parked.machine == "ingest" => Some((&self.ingest, parked.input)),
                    Ok(parked) if parked.machine == "backfill" => Some((&self.backfill, parked.input)),
                    _ => None,
                };
                let Some((machine, input)) = machine else {
                    unreadable += 1;
                    continue;
                };
                // Each attempt has a name of its own.
                let unique = format!("{}{}{}", call.request_id, message.receipt, input.get());
                let name = format!("redrive-{}", &Hash::of(unique.as_bytes()).to_hex()[..32]);
                self.workflow
                    .start(machine, &name, input.get())
                    .map_err(|e| Fatal::new("Retryable.Workflow", e.to_string()))?;
                self.parked.done(&message.receipt)?;
                redriven += 1;
            }
        }
        line.count("Redriven", redriven);
        line.count("BatchesUnreadable", unreadable);
        Ok(Answer { redriven, unreadable, newer, more })
    }
}
