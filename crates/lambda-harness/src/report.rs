//! The lines that Lambda writes to a function's log.

use std::time::Duration;

use bytes::Bytes;

/// How an invocation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    Success,
    /// The function reported an error and lives on.
    Error,
    /// A process ended or was killed.
    Failure,
    Timeout,
}

/// What the last line of an invocation tells.
pub(crate) struct Report<'a> {
    pub request_id: &'a str,
    pub duration: Duration,
    pub billed: Duration,
    pub memory_mib: u64,
    pub peak_bytes: u64,
    pub init: Option<Duration>,
    pub status: Status,
    pub error: Option<&'a Bytes>,
    pub timeout: Duration,
}

/// Whole milliseconds, the init phase included.
pub(crate) fn billed(duration: Duration, init: Option<Duration>) -> Duration {
    let micros = (duration + init.unwrap_or_default()).as_micros();
    Duration::from_millis(u64::try_from(micros.div_ceil(1000)).unwrap_or(u64::MAX))
}

pub(crate) fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

impl Report<'_> {
    /// All of an invocation's log.
    pub fn lines(&self, init_output: Option<&str>, output: &str) -> String {
        let id = self.request_id;
        let mut log = String::new();
        if let Some(init) = init_output {
            log += "INIT_START Runtime Version: provided:al2023\n";
            log += &ended(init);
        }
        log += &format!("START RequestId: {id} Version: $LATEST\n{}", ended(output));
        log + &self.last_lines()
    }

    /// What comes once the function is through.
    pub fn last_lines(&self) -> String {
        let id = self.request_id;
        let mut log = String::new();
        if self.status == Status::Timeout {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
            log += &format!("{now} {id} Task timed out after {:.2} seconds\n", self.timeout.as_secs_f64());
        }
        log += &format!(
            "END RequestId: {id}\nREPORT RequestId: {id}\tDuration: {}\tBilled Duration: {} ms\tMemory Size: {} MB\tMax Memory Used: {} MB\t",
            milliseconds(self.duration),
            self.billed.as_millis(),
            self.memory_mib,
            self.peak_bytes.div_ceil(1 << 20),
        );
        if let Some(init) = self.init {
            log += &format!("Init Duration: {}\t", milliseconds(init));
        }
        match self.status {
            Status::Success | Status::Error => {}
            Status::Timeout => log += "Status: timeout\t",
            Status::Failure => {
                log += &format!(
                    "Status: error\tError Type: {}\t",
                    self.error.map_or_else(String::new, error_type)
                );
            }
        }
        log + "\n"
    }
}

/// The `errorType` of an error's body.
pub(crate) fn error_type(body: &Bytes) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    value["errorType"].as_str().unwrap_or("Runtime.Unknown").to_owned()
}

/// Of an init phase that failed.
pub(crate) fn init_report(took: Duration, phase: &str, status: &str, error: &str) -> String {
    let error = if error.is_empty() { String::new() } else { format!("\tError Type: {error}") };
    format!("INIT_REPORT Init Duration: {}\tPhase: {phase}\tStatus: {status}{error}\n", milliseconds(took))
}

/// With a line end, unless it is empty.
pub(crate) fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}
