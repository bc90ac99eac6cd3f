//! An execution environment: the runtime's process, those of the extensions, and the phases they go through ("Understanding
//! the Lambda execution environment lifecycle").

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};

use crate::api::{Api, Delivery, Event, Who};
use crate::error::PlatformError;
use crate::process::{Log, Process, Processor};
use crate::report::{self, Status};
use crate::{Function, Settings, limits};

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
    /// The init phase. It ends when the runtime and all extensions asked for their first event.
    pub async fn start(
        function: &Arc<Function>,
        settings: &Arc<Settings>,
        request_id: &str,
        crash: bool,
        limit: Duration,
    ) -> Result<Self, InitFailure> {
        let begun = Instant::now();
        let mut environment = Self::prepare(function, settings).await.map_err(InitFailure::Io)?;
        let outcome = timeout(limit, environment.initialize(request_id, crash)).await;
        match outcome {
            Ok(Ok(())) => {
                environment.api.close_registration();
                let log = environment.log.take();
                environment.init = Some((log, begun.elapsed()));
                environment.processor =
                    environment.runtime.as_ref().map(Process::processor).unwrap_or_default();
                environment.alive = true;
                Ok(environment)
            }
            Ok(Err(body)) => {
                let log = environment.shut_down(Reason::Failure).await;
                Err(InitFailure::Function { body, log })
            }
            Err(_) => Err(InitFailure::TimedOut { log: environment.shut_down(Reason::Timeout).await }),
        }
    }

    async fn prepare(function: &Arc<Function>, settings: &Arc<Settings>) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lambda-").tempdir()?;
        std::fs::create_dir(folder.path().join("tmp"))?;
        let log = Log::create(&folder.path().join("log"))?;
        let (sender, events) = mpsc::unbounded_channel();
        let names = function.extensions.iter().map(|path| file_name(path)).collect();
        let api = Api::start(names, &function.name, &function.handler, sender.clone()).await?;
        Ok(Self {
            function: Arc::clone(function),
            settings: Arc::clone(settings),
            events,
            sender,
            api,
            runtime: None,
            extensions: Vec::new(),
            runtime_waits: None,
            extensions_wait: Vec::new(),
            log,
            init: None,
            processor: Processor::default(),
            peak_bytes: 0,
            frozen: false,
            alive: false,
            folder,
        })
    }

    async fn initialize(&mut self, request_id: &str, crash: bool) -> Result<(), String> {
        let function = Arc::clone(&self.function);
        for (index, program) in function.extensions.iter().enumerate() {
            let process = self.spawn(program, &[], Who::Extension(index), request_id)?;
            self.extensions.push(process);
        }
        while self.api.registered().iter().filter(|e| !e.internal).count() < function.extensions.len() {
            self.init_event(request_id).await?;
        }
        let process = self.spawn(&function.bootstrap, &function.arguments, Who::Runtime, request_id)?;
        if crash {
            process.signal_group(Signal::KILL);
        }
        self.runtime = Some(process);
        while !self.ready() {
            self.init_event(request_id).await?;
        }
        Ok(())
    }

    async fn init_event(&mut self, request_id: &str) -> Result<(), String> {
        let event = self.events.recv().await;
        match event.and_then(|event| self.note(event)) {
            Some(Event::Exited { who: Who::Runtime, status }) => {
                Err(PlatformError::exited(request_id, status).to_json())
            }
            Some(Event::Exited { status, .. }) => Err(PlatformError::extension(request_id, status).to_json()),
            Some(Event::InitError { body }) => Err(String::from_utf8_lossy(&body).into_owned()),
            Some(Event::ExtensionError { kind }) => Err(extension_error(request_id, &kind)),
            _ => Ok(()),
        }
    }

    fn spawn(
        &self,
        program: &Path,
        arguments: &[String],
        who: Who,
        request_id: &str,
    ) -> Result<Process, String> {
        let start = || {
            let mut command = Command::new(program);
            command
                .args(arguments)
                .env_clear()
                .envs(self.variables(who))
                .current_dir(self.working_dir())
                .stdin(Stdio::null())
                .stdout(self.log.writer()?)
                .stderr(self.log.writer()?);
            Process::spawn(command, who, self.sender.clone())
        };
        start().map_err(|cause| {
            PlatformError::entrypoint(request_id, &program.display().to_string(), &cause).to_json()
        })
    }

    fn working_dir(&self) -> PathBuf {
        self.function.working_dir.clone().unwrap_or_else(|| self.folder.path().join("tmp"))
    }

    /// "Working with Lambda environment variables"; extensions see fewer of them.
    fn variables(&self, who: Who) -> Vec<(String, String)> {
        let function = &self.function;
        let task_root =
            function.task_root.clone().or_else(|| function.bootstrap.parent().map(Path::to_path_buf));
        let task_root = task_root.unwrap_or_default().display().to_string();
        let temporary = self.folder.path().join("tmp").display().to_string();
        let region = &self.settings.region;
        let mut variables = vec![
            ("AWS_LAMBDA_RUNTIME_API", self.api.address.clone()),
            ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mib.to_string()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_REGION", region.clone()),
            ("AWS_DEFAULT_REGION", region.clone()),
            ("AWS_ACCESS_KEY_ID", "testing".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "testing".to_owned()),
            ("AWS_SESSION_TOKEN", "testing".to_owned()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("TZ", ":UTC".to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin".to_owned()),
            ("LD_LIBRARY_PATH", format!("/lib64:/usr/lib64:{task_root}:{task_root}/lib:/opt/lib")),
            ("TMPDIR", temporary),
        ];
        if who == Who::Runtime {
            variables.extend([
                ("_HANDLER", function.handler.clone()),
                ("LAMBDA_TASK_ROOT", task_root.clone()),
                ("LAMBDA_RUNTIME_DIR", "/var/runtime".to_owned()),
                ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name)),
                ("AWS_LAMBDA_LOG_STREAM_NAME", self.log_stream()),
            ]);
        }
        let mut variables: Vec<(String, String)> =
            variables.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        variables.extend(function.variables.clone());
        variables
    }

    fn log_stream(&self) -> String {
        let folder = file_name(self.folder.path());
        format!("{}/[$LATEST]{folder}", jiff::Timestamp::now().strftime("%Y/%m/%d"))
    }

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

    /// The shutdown phase; gives back what was written in it.
    pub async fn shut_down(&mut self, reason: Reason) -> String {
        let registered = self.api.registered();
        let external = registered.iter().any(|e| !e.internal);
        let (share, whole) = limits::shutdown(registered.iter().any(|e| e.internal), external);
        let begun = Instant::now();
        let end = begun + whole;
        self.alive = false;
        self.thaw();
        if reason == Reason::SpinDown && !whole.is_zero() {
            if let Some(runtime) = &self.runtime {
                runtime.signal(Signal::TERM);
            }
            while self.runtime.as_ref().is_some_and(|runtime| !runtime.ended()) {
                match timeout_at(begun + share, self.events.recv()).await {
                    Ok(Some(event)) => drop(self.note(event)),
                    _ => break,
                }
            }
        }
        self.kill_runtime();
        let event = serde_json::json!({
            "eventType": "SHUTDOWN", "shutdownReason": reason.name(), "deadlineMs": epoch_ms(end),
        });
        let event = event.to_string();
        let mut told = vec![false; registered.len()];
        let mut done = told.clone();
        loop {
            let mut left = false;
            for (index, extension) in registered.iter().enumerate().filter(|(_, e)| e.shutdown) {
                let at = self.function.extensions.iter().position(|path| file_name(path) == extension.name);
                let ended = at.and_then(|at| self.extensions.get(at)).is_none_or(Process::ended);
                if let Some(waiting) = self.extensions_wait.get_mut(index).and_then(Option::take) {
                    // Asking for yet another event, it has done what it wanted.
                    done[index] = told[index];
                    told[index] = true;
                    drop(waiting.send(event.clone()));
                }
                left |= !ended && !done[index];
            }
            if !left {
                break;
            }
            match timeout_at(end, self.events.recv()).await {
                Ok(Some(event)) => drop(self.note(event)),
                _ => break,
            }
        }
        self.processes().for_each(|process| process.signal_group(Signal::KILL));
        self.log.take()
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
