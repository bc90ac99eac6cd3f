//! keytrail's AWS Lambda functions: events of AWS to calls of the pipeline.
//!
//! What it is: a handler for each function (`handlers`), which takes its event apart, calls one function of the pipeline
//! and says what came of it; a binary for each of them (`bin`); and what they share: the environment, the trail's ports,
//! the log line. What it is not: a second pipeline: the stages are those of the one-machine path. No handler calls AWS but
//! by a port.
//! In: events, environment variables (`infra/aws/README.md`). Out: answers of counts and references, errors with a type of
//! [`errors`].

pub mod call;
pub mod environment;
pub mod errors;
pub mod handlers;
pub mod line;
pub mod serve;
pub mod trail;

pub use call::Call;
pub use environment::Environment;
pub use line::Line;
pub use serve::{Handler, serve};
pub use trail::TrailPorts;
