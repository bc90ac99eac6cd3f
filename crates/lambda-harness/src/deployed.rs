//! A deployed function: its environments, who gets which, and its asynchronous events.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::environment::{Environment, InitFailure, Outcome, Reason, Request, Strike};
use crate::error::PlatformError;
use crate::faults::Fault;
use crate::harness::Settings;
use crate::report;
use crate::{Faults, Function, Invocation, InvokeError, limits};

/// A function's log is kept to this size.
const LOG_BYTES: usize = 4 << 20;

/// What an invocation was and what came of it.
#[derive(Clone, Debug)]
pub struct Past {
    /// Invocations of a function count from 1.
    pub number: u64,
    /// Retries and duplicates have the id of the first.
    pub request_id: String,
    /// The event.
    pub payload: Bytes,
    /// What the function answered, or how it failed; an error of the Invoke API if it did not run.
    pub result: Result<Invocation, InvokeError>,
}

pub(crate) struct Deployed {
    pub function: Arc<Function>,
    pub settings: Arc<Settings>,
    faults: Mutex<Faults>,
    pool: Mutex<Pool>,
    history: Mutex<Vec<Past>>,
    log: Mutex<String>,
    started: AtomicU64,
    /// Asynchronous events that are neither done nor given up.
    queued: watch::Sender<usize>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Environment>,
    running: usize,
    invocations: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running environment's place under the limit of concurrency.
struct Slot<'a>(&'a Deployed);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        lock(&self.0.pool).running -= 1;
    }
}

impl Deployed {
    pub fn new(function: Function, settings: Arc<Settings>) -> Self {
        Self {
            faults: Mutex::new(function.faults.clone()),
            function: Arc::new(function),
            settings,
            pool: Mutex::default(),
            history: Mutex::default(),
            log: Mutex::default(),
            started: AtomicU64::new(0),
            queued: watch::Sender::new(0),
        }
    }

    pub fn set_faults(&self, faults: Faults) {
        *lock(&self.faults) = faults;
    }

    pub fn history(&self) -> Vec<Past> {
        lock(&self.history).clone()
    }

    pub fn log(&self) -> String {
        lock(&self.log).clone()
    }

    /// Environments that were started so far.
    pub fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    /// Processes of the idle environments, and whether they are stopped.
    pub fn idle(&self) -> Vec<(Vec<i32>, bool)> {
        lock(&self.pool).idle.iter().map(|e| (e.process_ids(), e.stopped())).collect()
    }

    fn limit(&self) -> usize {
        self.function.reserved_concurrency.unwrap_or(limits::CONCURRENCY)
    }

    /// Starts environments ahead of their first invocation.
    pub async fn warm(&self) -> Result<(), String> {
        match self.start(&self.settings.request_id(), false, self.function.init_limit).await {
            Ok(mut environment) => {
                environment.freeze();
                lock(&self.pool).idle.push(environment);
                Ok(())
            }
            Err(InitFailure::Io(error)) => Err(error.to_string()),
            Err(InitFailure::Function { body, log }) => Err(format!("{body}\n{log}")),
            Err(InitFailure::TimedOut { log }) => Err(format!("init phase timed out\n{log}")),
        }
    }

    /// Shuts idle environments down as Lambda does when it has no use for them.
    pub async fn retire(&self) -> String {
        let idle = std::mem::take(&mut lock(&self.pool).idle);
        let mut log = String::new();
        for mut environment in idle {
            log += &environment.shut_down(Reason::SpinDown).await;
        }
        self.append(&log);
        log
    }

    fn append(&self, text: &str) {
        let mut log = lock(&self.log);
        log.push_str(text);
        if log.len() > LOG_BYTES {
            let mut cut = log.len() - LOG_BYTES / 2;
            while !log.is_char_boundary(cut) {
                cut += 1;
            }
            log.drain(..cut);
        }
    }

    /// One invocation with what goes wrong with it.
    pub async fn invoke(&self, request: Request) -> Result<Invocation, InvokeError> {
        let number = {
            let mut pool = lock(&self.pool);
            pool.invocations += 1;
            pool.invocations
        };
        let faults = lock(&self.faults).of(number);
        let mut strike = Strike::default();
        let (mut throttled, mut twice) = (false, None);
        for fault in faults {
            match fault {
                Fault::KillAtStart => strike.kill_at_start = true,
                Fault::KillAfter(after) => strike.kill_after = Some(after),
                Fault::KillBeforeResponse => strike.kill_before_response = true,
                Fault::Throttle => throttled = true,
                Fault::Delay(delay) => sleep(delay).await,
                Fault::Duplicate { at_once } => twice = Some(at_once),
                Fault::CrashAtInit => strike.crash_at_init = true,
                Fault::Respond(instead) => strike.respond = Some(instead),
            }
        }
        let result = if throttled {
            Err(InvokeError::TooManyRequests)
        } else {
            match twice {
                None => self.attempt(&request, &strike).await,
                Some(true) => {
                    let plain = Strike::default();
                    tokio::join!(self.attempt(&request, &strike), self.attempt(&request, &plain)).0
                }
                Some(false) => {
                    let first = self.attempt(&request, &strike).await;
                    // The caller hears of the first alone; the log and the history have both.
                    drop(self.attempt(&request, &Strike::default()).await);
                    first
                }
            }
        };
        if self.function.keep_history {
            let (request_id, payload) = (request.id, request.payload);
            lock(&self.history).push(Past { number, request_id, payload, result: result.clone() });
        }
        result
    }

    async fn attempt(&self, request: &Request, strike: &Strike) -> Result<Invocation, InvokeError> {
        let (idle, _slot) = {
            let mut pool = lock(&self.pool);
            if pool.running >= self.limit() {
                return Err(InvokeError::TooManyRequests);
            }
            pool.running += 1;
            (if strike.crash_at_init { None } else { pool.take() }, Slot(self))
        };
        let begun = Instant::now();
        let (mut environment, init_log, used) = match idle {
            Some(environment) => (environment, String::new(), Duration::ZERO),
            None => match self.cold(request, strike).await? {
                Ok((environment, log, used)) => (environment, log, used),
                Err(failed) => {
                    self.append(&failed.log);
                    return Ok(failed);
                }
            },
        };
        let outcome = environment.invoke(request, strike, used).await;
        if environment.alive() {
            lock(&self.pool).idle.push(environment);
        }
        let Outcome { result, log, duration, init, billed, processor, peak_bytes } = outcome;
        let log = init_log + &log;
        self.append(&log);
        let (payload, function_error) = match result {
            Ok(payload) => (payload, None),
            Err(payload) => (payload, Some("Unhandled")),
        };
        Ok(Invocation {
            request_id: request.id.clone(),
            payload,
            function_error,
            log,
            init,
            duration,
            billed,
            total: begun.elapsed(),
            cpu: processor,
            max_memory_bytes: peak_bytes,
        })
    }

    async fn start(&self, id: &str, crash: bool, limit: Duration) -> Result<Environment, InitFailure> {
        self.started.fetch_add(1, Ordering::SeqCst);
        Environment::start(&self.function, &self.settings, id, crash, limit).await
    }

    /// A new environment. An init phase that fails is done once more, then as part of the invocation and within its
    /// timeout.
    async fn cold(
        &self,
        request: &Request,
        strike: &Strike,
    ) -> Result<Result<(Environment, String, Duration), Invocation>, InvokeError> {
        let crash = strike.crash_at_init;
        let begun = Instant::now();
        let service = |error: std::io::Error| InvokeError::Service(error.to_string());
        let mut log = match self.start(&request.id, crash, self.function.init_limit).await {
            Ok(environment) => return Ok(Ok((environment, String::new(), Duration::ZERO))),
            Err(InitFailure::Io(error)) => return Err(service(error)),
            Err(InitFailure::Function { body, log }) => {
                let kind = report::error_type(&Bytes::from(body));
                report::ended(&log) + &report::init_report(begun.elapsed(), "init", "error", &kind)
            }
            Err(InitFailure::TimedOut { log }) => {
                report::ended(&log) + &report::init_report(begun.elapsed(), "init", "timeout", "")
            }
        };
        let begun = Instant::now();
        log += &format!("START RequestId: {} Version: $LATEST\n", request.id);
        let (body, output, status) = match self.start(&request.id, crash, self.function.timeout).await {
            Ok(environment) => return Ok(Ok((environment, log, begun.elapsed()))),
            Err(InitFailure::Io(error)) => return Err(service(error)),
            Err(InitFailure::Function { body, log }) => (body, log, report::Status::Failure),
            Err(InitFailure::TimedOut { log }) => {
                let error = PlatformError::timed_out(&request.id, self.function.timeout);
                (error.to_json(), log, report::Status::Timeout)
            }
        };
        let duration = begun.elapsed();
        let payload = Bytes::from(body);
        let name = if status == report::Status::Timeout { "timeout" } else { "error" };
        log += &report::ended(&output);
        log += &report::init_report(duration, "invoke", name, &report::error_type(&payload));
        let billed = report::billed(duration, None);
        log += &report::Report {
            request_id: &request.id,
            duration,
            billed,
            memory_mib: self.function.memory_mib,
            peak_bytes: 0,
            init: None,
            status,
            error: Some(&payload),
            timeout: self.function.timeout,
        }
        .last_lines();
        Ok(Err(Invocation {
            request_id: request.id.clone(),
            payload,
            function_error: Some("Unhandled"),
            log,
            init: None,
            duration,
            billed,
            total: duration,
            cpu: Duration::ZERO,
            max_memory_bytes: 0,
        }))
    }

    /// Takes an event into the queue.
    pub fn enqueue(self: Arc<Self>, request: Request, runtime: &Handle) {
        self.queued.send_modify(|n| *n += 1);
        runtime.spawn(async move {
            self.work_off(request).await;
            self.queued.send_modify(|n| *n -= 1);
        });
    }

    /// Waits until no event is queued.
    pub async fn settled(&self, limit: Duration) -> bool {
        let mut queued = self.queued.subscribe();
        timeout(limit, queued.wait_for(|n| *n == 0)).await.is_ok()
    }

    async fn work_off(&self, request: Request) {
        let policy = &self.function.asynchronous;
        let end = Instant::now() + policy.max_age;
        let mut throttle_delay = policy.throttle_delay;
        let (mut attempts, mut last) = (0u32, None);
        let condition = loop {
            let delay = match self.invoke(request.clone()).await {
                Ok(invocation) => {
                    attempts += 1;
                    let failed = invocation.function_error.is_some();
                    last = Some(invocation);
                    if !failed {
                        break "Success";
                    }
                    if attempts > policy.retries {
                        break "RetriesExhausted";
                    }
                    let index = usize::try_from(attempts - 1).unwrap_or(usize::MAX);
                    policy.retry_delays.get(index).or(policy.retry_delays.last()).copied().unwrap_or_default()
                }
                Err(_) => {
                    let delay = throttle_delay;
                    throttle_delay = (throttle_delay * 2).min(Duration::from_secs(300));
                    delay
                }
            };
            if Instant::now() + delay > end {
                break "EventAgeExceeded";
            }
            sleep(delay).await;
        };
        let destination = if condition == "Success" { &policy.on_success } else { &policy.on_failure };
        if let Some(destination) = destination {
            destination.send(self.record(&request, condition, attempts, last.as_ref()));
        }
    }

    /// "Capturing records of Lambda asynchronous invocations".
    fn record(&self, request: &Request, condition: &str, attempts: u32, last: Option<&Invocation>) -> Value {
        let parsed = |bytes: &Bytes| -> Value { serde_json::from_slice(bytes).unwrap_or(Value::Null) };
        let mut record = json!({
            "version": "1.0",
            "timestamp": timestamp(),
            "requestContext": {
                "requestId": request.id,
                "functionArn": format!("{}:$LATEST", self.settings.function_arn(&self.function.name)),
                "condition": condition,
                "approximateInvokeCount": attempts,
            },
            "requestPayload": parsed(&request.payload),
        });
        if let Some(last) = last {
            record["responseContext"] = response_context(last);
            record["responsePayload"] = parsed(&last.payload);
        }
        record
    }
}

impl Pool {
    fn take(&mut self) -> Option<Environment> {
        while let Some(mut environment) = self.idle.pop() {
            if environment.alive() {
                return Some(environment);
            }
        }
        None
    }
}

/// As records have it.
pub(crate) fn timestamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(crate) fn response_context(invocation: &Invocation) -> Value {
    let mut context = json!({"statusCode": 200, "executedVersion": "$LATEST"});
    if let Some(error) = invocation.function_error {
        context["functionError"] = json!(error);
    }
    context
}
