//! Who may talk to the sidecar, and in which protocol.
//!
//! What it is: the socket of the service that fronts the HSM, two audit devices for OpenBao and Vault, and the
//! port of metrics and health. What it is not: it makes no record; it hands entries to the journal and says what
//! became of them. In: requests. Out: answers, each of them a refusal unless the record is durable.

pub mod admin;
pub mod api;
mod guard;
pub mod http_device;
mod reply;
pub mod unix_device;

pub use guard::{Guarded, Stop, bind, is_own};
