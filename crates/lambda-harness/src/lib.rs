//! An AWS Lambda environment for tests and benches: the real program of a function, with everything around it here.
//!
//! What it is: the Runtime API and the Extensions API, execution environments as processes with their phases, the
//! Invoke API with its limits, retries and errors, event source mappings of Kinesis and SQS, and faults that come when
//! a test says so. What it is not: a sandbox. A function sees this machine's file system and network, and its share of
//! the processor does not follow its memory. In: programs that speak the Runtime API, and events. Out: answers, logs,
//! durations, and records at destinations. `README.md` says which page of AWS each rule is from.

mod api;
mod deployed;
mod destination;
mod environment;
mod error;
mod faults;
mod front;
mod function;
mod harness;
mod kinesis;
pub mod limits;
mod process;
mod report;
mod sqs;

pub use deployed::Past;
pub use destination::{Collected, Destination};
pub use error::{HarnessError, InvokeError};
pub use faults::{Fault, Faults};
pub use function::{AsyncPolicy, Function};
pub use harness::{Call, Harness, Invocation, Invoker};
pub use kinesis::{KinesisMapping, KinesisSource, StartingPosition, Stream, StreamRecord, shard_id};
pub use sqs::{Message, Queue, QueueMapping, QueueSource};
