//! What an invoke is refused with, and what a function fails with.

use std::process::ExitStatus;
use std::time::Duration;

/// Why a function was not invoked, as the Invoke API says it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvokeError {
    /// 404: no function of that name was deployed.
    #[error("Function not found: {arn}")]
    ResourceNotFound {
        /// What it would be named by.
        arn: String,
    },
    /// 413: the payload is over the limit of its invocation type.
    #[error("{bytes} byte payload is too large for the {kind} invocation type (limit {limit} bytes)")]
    RequestTooLarge {
        /// Of the payload.
        bytes: usize,
        /// `RequestResponse` or `Event`.
        kind: &'static str,
        /// Of that type.
        limit: usize,
    },
    /// 429: as many environments run as may.
    #[error("Rate Exceeded.")]
    TooManyRequests,
    /// 400: the payload is not JSON.
    #[error("Could not parse request body into json: {0}")]
    InvalidRequestContent(String),
    /// 400: a parameter has a value that there is not.
    #[error("{0}")]
    InvalidParameterValue(String),
    /// 500: the harness itself could not start an environment.
    #[error("an execution environment could not be started: {0}")]
    Service(String),
}

impl InvokeError {
    /// Status of HTTP.
    pub fn status(&self) -> u16 {
        match self {
            Self::ResourceNotFound { .. } => 404,
            Self::RequestTooLarge { .. } => 413,
            Self::TooManyRequests => 429,
            Self::InvalidRequestContent(_) | Self::InvalidParameterValue(_) => 400,
            Self::Service(_) => 500,
        }
    }

    /// Name of the exception, as in `x-amzn-ErrorType`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ResourceNotFound { .. } => "ResourceNotFoundException",
            Self::RequestTooLarge { .. } => "RequestTooLargeException",
            Self::TooManyRequests => "TooManyRequestsException",
            Self::InvalidRequestContent(_) => "InvalidRequestContentException",
            Self::InvalidParameterValue(_) => "InvalidParameterValueException",
            Self::Service(_) => "ServiceException",
        }
    }

    /// The body that goes with it.
    pub fn body(&self) -> String {
        let message = self.to_string();
        let value = match self {
            Self::ResourceNotFound { .. } | Self::Service(_) => {
                serde_json::json!({"Type": if self.status() == 500 { "Server" } else { "User" }, "Message": message})
            }
            Self::TooManyRequests => serde_json::json!({
                "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "Type": "User", "message": message,
            }),
            _ => serde_json::json!({"Type": "User", "message": message}),
        };
        value.to_string()
    }
}

/// What Lambda answers in a function's place when the function cannot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PlatformError {
    /// For example `Sandbox.Timedout`.
    error_type: String,
    /// What a caller reads.
    error_message: String,
}

impl PlatformError {
    fn new(kind: &str, message: String) -> Self {
        Self { error_type: kind.to_owned(), error_message: message }
    }

    pub(crate) fn timed_out(request_id: &str, limit: Duration) -> Self {
        let message =
            format!("RequestId: {request_id} Error: Task timed out after {:.2} seconds", limit.as_secs_f64());
        Self::new("Sandbox.Timedout", message)
    }

    pub(crate) fn exited(request_id: &str, status: ExitStatus) -> Self {
        let message = match reason(status) {
            Some(reason) => format!("RequestId: {request_id} Error: Runtime exited with error: {reason}"),
            None => format!("RequestId: {request_id} Error: Runtime exited without providing a reason"),
        };
        Self::new("Runtime.ExitError", message)
    }

    pub(crate) fn extension(request_id: &str, status: ExitStatus) -> Self {
        let reason = reason(status).unwrap_or_else(|| "exit code 0".to_owned());
        Self::new("Extension.Crash", format!("RequestId: {request_id} Error: {reason}"))
    }

    pub(crate) fn entrypoint(request_id: &str, path: &str, cause: &std::io::Error) -> Self {
        let message =
            format!("RequestId: {request_id} Error: Couldn't find valid bootstrap(s): [{path}] ({cause})");
        Self::new("Runtime.InvalidEntrypoint", message)
    }

    pub(crate) fn response_too_large() -> Self {
        let limit = crate::limits::RESPONSE_BYTES;
        let message = format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
        Self::new("Function.ResponseSizeTooLarge", message)
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::json!({"errorType": self.error_type, "errorMessage": self.error_message}).to_string()
    }
}

/// As Go says it, which is what Lambda is written in.
fn reason(status: ExitStatus) -> Option<String> {
    use std::os::unix::process::ExitStatusExt as _;
    if let Some(signal) = status.signal() {
        let name = match signal {
            1 => "hangup".to_owned(),
            2 => "interrupt".to_owned(),
            4 => "illegal instruction".to_owned(),
            6 => "aborted".to_owned(),
            7 => "bus error".to_owned(),
            8 => "floating point exception".to_owned(),
            9 => "killed".to_owned(),
            11 => "segmentation fault".to_owned(),
            13 => "broken pipe".to_owned(),
            15 => "terminated".to_owned(),
            other => other.to_string(),
        };
        let core = if status.core_dumped() { " (core dumped)" } else { "" };
        return Some(format!("signal: {name}{core}"));
    }
    status.code().filter(|code| *code != 0).map(|code| format!("exit status {code}"))
}

/// Why the harness could not do what a test asked for.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// A folder, a socket or a thread could not be had.
    #[error("the harness needs what the system refused: {0}")]
    Io(#[from] std::io::Error),
    /// There is a function of this name already.
    #[error("a function `{0}` was deployed before; expected a name that is free")]
    Deployed(String),
    /// There is none.
    #[error("there is no function `{0}`; expected one that was deployed")]
    Unknown(String),
    /// The init phase failed.
    #[error("an environment of `{function}` did not come up: {error}")]
    Init {
        /// Whose.
        function: String,
        /// What Lambda would answer.
        error: String,
    },
    /// What was waited for did not come.
    #[error("waited {seconds} s for {what}")]
    Timeout {
        /// How long.
        seconds: u64,
        /// For what.
        what: String,
    },
}
