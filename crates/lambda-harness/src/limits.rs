//! Quotas of Lambda that a test can run into ("Lambda quotas", "Invoke", "Using the Lambda Extensions API to create
//! extensions").

use std::time::Duration;

/// Largest payload of a synchronous invoke.
pub const SYNC_PAYLOAD_BYTES: usize = 6 << 20;
/// Largest payload of an asynchronous invoke.
pub const ASYNC_PAYLOAD_BYTES: usize = 1 << 20;
/// Largest response that the Runtime API takes.
pub const RESPONSE_BYTES: usize = (6 << 20) + 100;
/// How much of a log `X-Amz-Log-Result` has.
pub const LOG_TAIL_BYTES: usize = 4 << 10;
/// How long the init phase may take.
pub const INIT: Duration = Duration::from_secs(10);
/// How long the shutdown phase may take when an external extension is registered.
pub const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long it may take when only an internal extension is registered.
pub const SHUTDOWN_INTERNAL: Duration = Duration::from_millis(500);
/// What of [`SHUTDOWN`] is the runtime's when there is no internal extension.
pub const SHUTDOWN_RUNTIME: Duration = Duration::from_millis(300);
/// Environments of all functions of an account that run at a time; here of each function without reserved concurrency.
pub const CONCURRENCY: usize = 1000;

/// The runtime's share of the shutdown phase, and the whole of it.
pub(crate) fn shutdown(internal: bool, external: bool) -> (Duration, Duration) {
    match (internal, external) {
        (false, false) => (Duration::ZERO, Duration::ZERO),
        (true, false) => (SHUTDOWN_INTERNAL, SHUTDOWN_INTERNAL),
        (false, true) => (SHUTDOWN_RUNTIME, SHUTDOWN),
        (true, true) => (SHUTDOWN_INTERNAL, SHUTDOWN),
    }
}
