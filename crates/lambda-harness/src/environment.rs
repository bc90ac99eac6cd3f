//! An execution environment: the runtime's process, those of the extensions, and the phases they go through ("Understanding
//! the Lambda execution environment lifecycle").

mod init;
mod shutdown;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::Function;
use crate::api::{Api, Delivery, Event, Who};
use crate::error::PlatformError;
use crate::harness::Settings;
use crate::process::{Log, Process, Processor};
use crate::report::{self, Status};

/// How often resident memory is looked at while a function runs. There is nothing to wait on for it.
const MEMORY_INTERVAL: Duration = Duration::from_millis(10);

/// An invocation as the environment gets it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub id: String,
    pub payload: Bytes,
    pub trace_id: String,
    pub client_context: Option<String>,
    pub cognito_identity: Option<String>,
}

/// Faults that the environment brings about.
#[derive(Clone, Default, Debug)]
pub(crate) struct Strike {
    pub kill_at_start: bool,
    pub kill_after: Option<Duration>,
    pub kill_before_response: bool,
    pub crash_at_init: bool,
    pub respond: Option<Bytes>,
}

/// What came of an invocation.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The response, or the body of the function's error.
    pub result: Result<Bytes, Bytes>,
    pub log: String,
    pub duration: Duration,
    pub init: Option<Duration>,
    pub billed: Duration,
    pub processor: Duration,
    pub peak_bytes: u64,
}

/// Why an environment did not come up.
pub(crate) enum InitFailure {
    /// The harness could not have what it needs.
    Io(io::Error),
    /// The runtime or an extension failed; what Lambda would answer.
    Function { body: String, log: String },
    /// The phase took too long.
    TimedOut { log: String },
}

/// Why an environment is shut down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    SpinDown,
    Timeout,
    Failure,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::SpinDown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

pub(crate) struct Environment {
    function: Arc<Function>,
    settings: Arc<Settings>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: mpsc::UnboundedSender<Event>,
    api: Api,
    runtime: Option<Process>,
    extensions: Vec<Process>,
    runtime_waits: Option<oneshot::Sender<Delivery>>,
    extensions_wait: Vec<Option<oneshot::Sender<String>>>,
    log: Log,
    /// What the init phase wrote and took, until the first invocation reports it.
    init: Option<(String, Duration)>,
    processor: Processor,
    peak_bytes: u64,
    frozen: bool,
    alive: bool,
    /// Removed last.
    folder: TempDir,
}

impl Environment {
    /// Whether all asked for their next event.
    fn ready(&self) -> bool {
        let registered = self.api.registered();
        self.runtime_waits.is_some()
            && (0..registered.len()).all(|index| self.extensions_wait.get(index).is_some_and(Option::is_some))
    }

    /// Keeps who waits for an event; gives back what needs a decision.
    fn note(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Next(sender) => self.runtime_waits = Some(sender),
            Event::ExtensionNext { index, event } => {
                if self.extensions_wait.len() <= index {
                    self.extensions_wait.resize_with(index + 1, || None);
                }
                self.extensions_wait[index] = Some(event);
            }
            Event::Registered => {}
            other => return Some(other),
        }
        None
    }

    /// Whether it can take an invocation; notes processes that ended since the last one.
    pub fn alive(&mut self) -> bool {
        while let Ok(event) = self.events.try_recv() {
            if let Some(Event::Exited { .. } | Event::ExtensionError { .. }) = self.note(event) {
                self.alive = false;
            }
        }
        self.alive
    }

    fn processes(&self) -> impl Iterator<Item = &Process> {
        self.runtime.iter().chain(&self.extensions)
    }

    /// Ids of its processes, the runtime's first.
    pub fn process_ids(&self) -> Vec<i32> {
        self.processes().map(Process::id).collect()
    }

    /// Whether all of its processes are stopped by now.
    pub fn stopped(&self) -> bool {
        self.frozen && self.processes().all(Process::stopped)
    }

    /// Stops all processes until the next event.
    pub fn freeze(&mut self) {
        if self.function.freeze && !self.frozen {
            self.processes().for_each(|process| process.signal_group(Signal::STOP));
            self.frozen = true;
        }
    }

    fn thaw(&mut self) {
        if self.frozen {
            self.processes().for_each(|process| process.signal_group(Signal::CONT));
            self.frozen = false;
        }
    }

    fn kill_runtime(&self) {
        if let Some(runtime) = &self.runtime {
            runtime.signal_group(Signal::KILL);
        }
    }

    /// The invoke phase. It ends when the function answered and the runtime and all extensions asked for the next
    /// event, or when something went wrong. `used` is what a second init phase took of the timeout.
    pub async fn invoke(&mut self, request: &Request, strike: &Strike, used: Duration) -> Outcome {
        self.thaw();
        let begun = Instant::now();
        let limit = self.function.timeout;
        let deadline = begun + limit.saturating_sub(used);
        if strike.kill_at_start {
            self.kill_runtime();
        } else {
            self.deliver(request, deadline);
        }
        let (answer, status) = self.phase(request, strike, begun, deadline).await;
        let duration = begun.elapsed() + used;
        self.api.expect_none();
        let (answer, status) = self.account(request, answer, status);
        let mut output = self.log.take();
        match status {
            Status::Success | Status::Error => {}
            Status::Timeout => output += &self.shut_down(Reason::Timeout).await,
            Status::Failure => output += &self.shut_down(Reason::Failure).await,
        }
        let processor = match self.runtime.as_ref().filter(|runtime| !runtime.ended()) {
            Some(runtime) => {
                let now = runtime.processor();
                let spent = now.since(&self.processor);
                self.processor = now;
                spent
            }
            None => Duration::ZERO,
        };
        if self.alive {
            self.freeze();
            if self.frozen {
                self.log.trim();
            }
        }
        let (init_output, init) = self.init.take().unzip();
        let billed = report::billed(duration, init);
        let report = report::Report {
            request_id: &request.id,
            duration,
            billed,
            memory_mib: self.function.memory_mib,
            peak_bytes: self.peak_bytes,
            init,
            status,
            error: answer.as_ref().err(),
            timeout: limit,
        };
        let log = report.lines(init_output.as_deref(), &output);
        let result = match (&strike.respond, answer) {
            (Some(instead), Ok(_)) => Ok(instead.clone()),
            (_, answer) => answer,
        };
        Outcome { result, log, duration, init, billed, processor, peak_bytes: self.peak_bytes }
    }

    fn deliver(&mut self, request: &Request, deadline: Instant) {
        let function_arn = self.settings.function_arn(&self.function.name);
        let deadline_ms = epoch_ms(deadline);
        self.api.expect(&request.id);
        for (index, _) in self.api.registered().iter().enumerate().filter(|(_, e)| e.invoke) {
            let event = serde_json::json!({
                "eventType": "INVOKE", "deadlineMs": deadline_ms, "requestId": request.id,
                "invokedFunctionArn": function_arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": request.trace_id},
            });
            if let Some(waiting) = self.extensions_wait.get_mut(index).and_then(Option::take) {
                drop(waiting.send(event.to_string()));
            }
        }
        let delivery = Delivery {
            payload: request.payload.clone(),
            request_id: request.id.clone(),
            deadline_ms,
            function_arn,
            trace_id: request.trace_id.clone(),
            client_context: request.client_context.clone(),
            cognito_identity: request.cognito_identity.clone(),
        };
        // Whoever asked may have died since: then its end is the next event.
        if let Some(waiting) = self.runtime_waits.take() {
            drop(waiting.send(delivery));
        }
    }

    async fn phase(
        &mut self,
        request: &Request,
        strike: &Strike,
        begun: Instant,
        deadline: Instant,
    ) -> (Result<Bytes, Bytes>, Status) {
        let mut answer = None;
        let failed =
            |answer: Option<_>, error: String| (answer.unwrap_or(Err(Bytes::from(error))), Status::Failure);
        let kill_at = strike.kill_after.map(|after| begun + after);
        let mut to_kill = kill_at.is_some();
        let mut memory = interval_at(begun + MEMORY_INTERVAL, MEMORY_INTERVAL);
        memory.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.ready() {
                match answer {
                    Some(answer @ Ok(_)) => return (answer, Status::Success),
                    Some(answer @ Err(_)) => return (answer, Status::Error),
                    None => {}
                }
            }
            tokio::select! {
                biased;
                event = self.events.recv() => match event.and_then(|event| self.note(event)) {
                    Some(Event::Response { body, taken }) => {
                        if strike.kill_before_response {
                            self.kill_runtime();
                        } else {
                            answer = Some(Ok(body));
                            let _ = taken.send(());
                        }
                    }
                    Some(Event::Failure { body, taken }) => {
                        if strike.kill_before_response {
                            self.kill_runtime();
                        } else {
                            answer = Some(Err(body));
                            let _ = taken.send(());
                        }
                    }
                    Some(Event::ResponseTooLarge) => {
                        answer = Some(Err(Bytes::from(PlatformError::response_too_large().to_json())));
                    }
                    Some(Event::Exited { who, status }) => {
                        self.alive = false;
                        let error = match who {
                            Who::Runtime => PlatformError::exited(&request.id, status),
                            Who::Extension(_) => PlatformError::extension(&request.id, status),
                        };
                        return failed(answer, error.to_json());
                    }
                    Some(Event::ExtensionError { kind }) => {
                        self.alive = false;
                        return failed(answer, extension_error(&request.id, &kind));
                    }
                    _ => {}
                },
                () = sleep_until(deadline) => {
                    self.alive = false;
                    self.observe();
                    self.kill_runtime();
                    let error = PlatformError::timed_out(&request.id, self.function.timeout).to_json();
                    return (answer.unwrap_or(Err(Bytes::from(error))), Status::Timeout);
                }
                () = sleep_until(kill_at.unwrap_or(deadline)), if to_kill => {
                    to_kill = false;
                    self.kill_runtime();
                }
                _ = memory.tick() => {
                    if self.observe() > self.function.memory_bytes() {
                        self.kill_runtime();
                    }
                }
            }
        }
    }

    /// Reads the memory of all processes: the peak is kept, what is resident now is returned.
    fn observe(&mut self) -> u64 {
        let memory: Vec<_> = self.processes().filter(|p| !p.ended()).filter_map(Process::memory).collect();
        self.peak_bytes = self.peak_bytes.max(memory.iter().map(|m| m.peak_bytes).sum());
        memory.iter().map(|m| m.resident_bytes).sum()
    }

    /// A peak between two looks at memory kills as well.
    fn account(
        &mut self,
        request: &Request,
        answer: Result<Bytes, Bytes>,
        status: Status,
    ) -> (Result<Bytes, Bytes>, Status) {
        self.observe();
        if !self.alive || self.peak_bytes <= self.function.memory_bytes() {
            return (answer, status);
        }
        use std::os::unix::process::ExitStatusExt as _;
        self.alive = false;
        self.kill_runtime();
        let killed = std::process::ExitStatus::from_raw(Signal::KILL.as_raw());
        let error = PlatformError::exited(&request.id, killed).to_json();
        (Err(Bytes::from(error)), Status::Failure)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn extension_error(request_id: &str, kind: &str) -> String {
    serde_json::json!({"errorType": kind, "errorMessage": format!("RequestId: {request_id} Error: exit status 1")})
        .to_string()
}

fn epoch_ms(at: Instant) -> u64 {
    let left = at.saturating_duration_since(Instant::now());
    let now = jiff::Timestamp::now().as_millisecond();
    u64::try_from(now).unwrap_or(0) + u64::try_from(left.as_millis()).unwrap_or(0)
}
