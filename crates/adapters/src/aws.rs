//! Services of AWS, by Amazon's own clients.
//!
//! What it is: [`S3Store`], a store of objects, and what stands beside it ([`S3Checkpoint`], [`S3Objects`]);
//! [`KinesisStream`], a stream; [`StateMachines`], [`SqsQueue`] and [`SnsTopic`]; secrets. What it is not: it configures
//! nothing by itself. Region, credentials and endpoints come from the environment, as with every program that uses these
//! clients (`AWS_REGION`, `AWS_PROFILE`, `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ENDPOINT_URL` ...). The clients are
//! asynchronous, so the adapter has a thread that drives them: a call blocks the thread that it comes from.

mod kinesis;
mod s3;
mod secrets;
mod sfn;
mod sns;
mod sqs;

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{HttpClient, SharedHttpClient, http_client_fn};
use keytrail_ports::StoreError;
use tokio::runtime::Runtime;

pub use kinesis::KinesisStream;
pub use s3::{Lock, LockMode, Removal, Retention, S3Checkpoint, S3Objects, S3Store, Version};
pub use sfn::StateMachines;
pub use sns::SnsTopic;
pub use sqs::SqsQueue;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);

/// How long an attempt of a small request may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// Attempts of a call.
const ATTEMPTS: u32 = 3;

/// An account, as the environment names it. Copies share connections.
#[derive(Clone)]
pub struct Aws {
    config: SdkConfig,
    runtime: Driver,
    s3: Arc<OnceLock<aws_sdk_s3::Client>>,
}

impl Aws {
    /// Reads the environment. Credentials are asked for, and certificates are read, when they are needed.
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
        let runtime = Driver(Arc::new(runtime));
        let loading = aws_config::defaults(BehaviorVersion::latest()).http_client(connections()).load();
        let config = runtime.block_on(loading);
        if config.region().is_none() {
            let expected = "expected `AWS_REGION`, or a profile that names one";
            return Err(StoreError::Fatal(format!("the AWS region is not known: {expected}")));
        }
        Ok(Self { config, runtime, s3: Arc::default() })
    }

    /// A stream of the account.
    pub fn stream(&self, name: &str) -> KinesisStream {
        KinesisStream::new(self, name)
    }

    /// A bucket's objects below `prefix` (segments of keys, without a slash at the ends; empty: all of them).
    pub fn store(&self, bucket: &str, prefix: &str) -> S3Store {
        S3Store::new(self, bucket, prefix)
    }

    /// An object as a small value that several writers may race for.
    pub fn checkpoint(&self, bucket: &str, key: &str) -> S3Checkpoint {
        S3Checkpoint::new(self, bucket, key)
    }

    /// Objects of any bucket.
    pub fn objects(&self) -> S3Objects {
        S3Objects::new(self)
    }

    /// State machines of the account.
    pub fn workflow(&self) -> StateMachines {
        StateMachines::new(self)
    }

    /// The queue of that URL.
    pub fn queue(&self, url: &str) -> SqsQueue {
        SqsQueue::new(self, url)
    }

    /// The topic of that ARN.
    pub fn topic(&self, arn: &str) -> SnsTopic {
        SnsTopic::new(self, arn)
    }

    /// The text of a secret (its ARN or name), or `None`.
    ///
    /// # Errors
    /// It cannot be read, or is no text. The message says nothing of what it holds.
    pub fn secret(&self, id: &str) -> Result<Option<String>, StoreError> {
        secrets::read(self, id)
    }

    /// Makes a bucket that keeps versions and can lock them.
    #[cfg(feature = "conformance")]
    pub fn make_bucket(&self, name: &str) -> Result<(), StoreError> {
        let request = self.s3().create_bucket().bucket(name).object_lock_enabled_for_bucket(true);
        let made = self.runtime.block_on(request.send());
        made.map(|_| ()).map_err(|e| failure(&format!("make the bucket `{name}`"), &e))
    }

    /// Puts an object under any key, with tags as a query string.
    #[cfg(feature = "conformance")]
    pub fn put_any(&self, bucket: &str, key: &str, bytes: &[u8], tags: &str) -> Result<(), StoreError> {
        let request =
            self.s3().put_object().bucket(bucket).key(key).tagging(tags).body(bytes.to_vec().into());
        self.runtime.block_on(request.send()).map(|_| ()).map_err(|e| failure("put", &e))
    }

    /// Tags of an object, in the order of their names.
    #[cfg(feature = "conformance")]
    pub fn tags(&self, bucket: &str, key: &str) -> Result<Vec<(String, String)>, StoreError> {
        let request = self.s3().get_object_tagging().bucket(bucket).key(key);
        let tags = self.runtime.block_on(request.send()).map_err(|e| failure("read tags", &e))?.tag_set;
        let mut tags: Vec<_> = tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
        tags.sort();
        Ok(tags)
    }

    fn s3(&self) -> aws_sdk_s3::Client {
        self.s3.get_or_init(|| s3::client(self)).clone()
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

/// What drives the clients.
#[derive(Clone)]
struct Driver(Arc<Runtime>);

impl Driver {
    /// Waits for what a client does.
    fn block_on<F>(&self, call: F) -> F::Output
    where
        F: Future<Output: Send> + Send,
    {
        if tokio::runtime::Handle::try_current().is_err() {
            return self.0.block_on(call);
        }
        // A thread of another runtime, as SQL has them, may not wait for this one.
        std::thread::scope(|scope| match scope.spawn(|| self.0.block_on(call)).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// What the clients would make for themselves, but one for all, and reading the system's certificates with the first
/// request: that is most of what making a client takes, and the clients would do it for each of them.
fn connections() -> SharedHttpClient {
    let client = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = ConnectorBuilder::default().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        connector.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            connector.set_sleep_impl(components.sleep_impl());
        }
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    http_client_fn(move |settings, components| client.http_connector(settings, components))
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

/// Status and code of an answer that is an error.
fn answered<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<(u16, &str)> {
    match error {
        SdkError::ServiceError(answer) => {
            Some((answer.raw().status().as_u16(), answer.err().code().unwrap_or_default()))
        }
        _ => None,
    }
}

/// Whether an answer may be another one later without anybody doing something.
fn passes(status: u16, code: &str) -> bool {
    const CODES: [&str; 14] = [
        "ConditionalRequestConflict",
        "ExecutionLimitExceeded",
        "ExpiredToken",
        "ExpiredTokenException",
        "InternalFailure",
        "KMSThrottlingException",
        "KmsThrottlingException",
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
