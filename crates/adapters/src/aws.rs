//! Kinesis and S3, by Amazon's own clients.
//!
//! What it is: [`KinesisStream`], a stream, and [`S3Store`], a store of objects. What it is not: it configures nothing
//! by itself. Region, credentials and endpoints come from the environment, as with every program that uses these
//! clients (`AWS_REGION`, `AWS_PROFILE`, `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ENDPOINT_URL` ...). The clients are
//! asynchronous, so the adapter has a thread that drives them: calls must not come from inside another runtime.

mod kinesis;
mod s3;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use keytrail_ports::StoreError;
use tokio::runtime::Runtime;

pub use kinesis::KinesisStream;
pub use s3::S3Store;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// An account, as the environment names it.
#[derive(Clone)]
pub struct Aws {
    config: SdkConfig,
    runtime: Arc<Runtime>,
}

impl Aws {
    /// Reads the environment. Credentials are asked for when they are needed.
    ///
    /// # Errors
    /// There is no region, or no thread.
    pub fn from_environment() -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("aws")
            .enable_all()
            .build()
            .map_err(|e| StoreError::Fatal(format!("cannot start a thread: {e}")))?;
        let config = runtime.block_on(aws_config::load_defaults(BehaviorVersion::latest()));
        if config.region().is_none() {
            let expected = "expected `AWS_REGION`, or a profile that names one";
            return Err(StoreError::Fatal(format!("the AWS region is not known: {expected}")));
        }
        Ok(Self { config, runtime: Arc::new(runtime) })
    }

    /// A stream of the account.
    pub fn stream(&self, name: &str) -> KinesisStream {
        KinesisStream::new(self, name)
    }

    /// A bucket's objects below `prefix` (segments of keys, without a slash at the ends; empty: all of them).
    pub fn store(&self, bucket: &str, prefix: &str) -> S3Store {
        S3Store::new(self, bucket, prefix)
    }

    /// Limits of a client: each attempt may take so long, and there are so many in all.
    fn limits(&self, attempt: Duration, attempts: u32) -> (TimeoutConfig, RetryConfig) {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(attempt)
            .operation_timeout(attempt * attempts)
            .build();
        let retries = RetryConfig::standard()
            .with_max_attempts(attempts)
            .with_initial_backoff(Duration::from_millis(100))
            .with_max_backoff(Duration::from_secs(2));
        (timeouts, retries)
    }
}

/// What a client's error is to a port; `what` was tried.
fn failure<E>(what: &str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let SdkError::ServiceError(answer) = error else {
        let message = format!("cannot {what}: {}", DisplayErrorContext(error));
        // No answer, none in time, or none that could be read.
        return match error {
            SdkError::ConstructionFailure(_) => StoreError::Fatal(message),
            _ => StoreError::Retryable(message),
        };
    };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or_default();
    let said = answer.err().message().unwrap_or_default();
    let message = format!("cannot {what}: status {status} {code}: {said}");
    if passes(status, code) { StoreError::Retryable(message) } else { StoreError::Fatal(message) }
}

/// Whether an answer may be another one later without anybody doing something.
fn passes(status: u16, code: &str) -> bool {
    const CODES: [&str; 12] = [
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalFailure",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    ];
    matches!(status, 408 | 429) || status >= 500 || CODES.contains(&code)
}
