//! The harness as tests hold it: blocking calls over a runtime of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::deployed::{Deployed, Past};
use crate::environment::Request;
use crate::{Faults, Function, HarnessError, InvokeError, front, limits};

/// Where functions are said to run.
#[derive(Debug)]
pub(crate) struct Settings {
    /// For example `eu-central-1`.
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// First part of all request ids.
    run: u64,
    count: AtomicU64,
}

impl Settings {
    fn new(region: &str, account: &str) -> Self {
        // Ids differ from run to run, as those of Lambda do, and count up within one.
        let now = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
        let run = now.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(std::process::id());
        Self { region: region.to_owned(), account: account.to_owned(), run, count: AtomicU64::new(0) }
    }

    pub(crate) fn function_arn(&self, name: &str) -> String {
        format!("arn:aws:lambda:{}:{}:function:{name}", self.region, self.account)
    }

    pub(crate) fn request_id(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.run >> 32, self.run & 0xffff_ffff);
        let (low, middle) = (low >> 16, low & 0x0fff);
        format!("{high:08x}-{low:04x}-4{middle:03x}-8000-{count:012x}")
    }

    fn trace_id(&self) -> String {
        let seconds = jiff::Timestamp::now().as_second();
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!(
            "Root=1-{seconds:08x}-{:012x}{count:012x};Parent={count:016x};Sampled=0",
            self.run & 0xffff_ffff_ffff
        )
    }
}

/// A successful call of the Invoke API: the function answered, or it failed.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Retries of an asynchronous event share it.
    pub request_id: String,
    /// The response, or the error's `{"errorType","errorMessage",...}`.
    pub payload: Bytes,
    /// `Unhandled` if the function failed.
    pub function_error: Option<&'static str>,
    /// What Lambda and the processes wrote.
    pub log: String,
    /// How long the init phase took, if there was one.
    pub init: Option<Duration>,
    /// From the event's delivery until all processes asked for the next.
    pub duration: Duration,
    /// Both of them in whole milliseconds.
    pub billed: Duration,
    /// All that the caller waited for.
    pub total: Duration,
    /// Processor time of the runtime's process; zero if it did not survive.
    pub cpu: Duration,
    /// Peak of resident memory of the environment.
    pub max_memory_bytes: u64,
}

impl Invocation {
    /// The payload as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }

    /// `errorType` of a function that failed.
    pub fn error_type(&self) -> Option<String> {
        self.function_error.and_then(|_| self.json()["errorType"].as_str().map(str::to_owned))
    }

    /// Whether the invocation started its environment.
    pub fn is_cold(&self) -> bool {
        self.init.is_some()
    }
}

/// A call of the Invoke API.
#[derive(Clone, Default, Debug)]
pub struct Call {
    /// The event.
    pub payload: Bytes,
    /// `Lambda-Runtime-Client-Context`: JSON.
    pub client_context: Option<String>,
    /// `Lambda-Runtime-Cognito-Identity`: JSON.
    pub cognito_identity: Option<String>,
    /// `X-Amzn-Trace-Id`; unset: one is made.
    pub trace_id: Option<String>,
}

/// Invokes functions from asynchronous code, of whichever runtime.
#[derive(Clone)]
pub struct Invoker {
    account: Arc<Account>,
    runtime: Handle,
}

pub(crate) struct Account {
    pub settings: Arc<Settings>,
    functions: Mutex<BTreeMap<String, Arc<Deployed>>>,
}

impl Account {
    fn functions(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Deployed>>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Result<Arc<Deployed>, InvokeError> {
        let found = self.functions().get(name).cloned();
        found.ok_or_else(|| InvokeError::ResourceNotFound { arn: self.settings.function_arn(name) })
    }

    fn request(&self, call: Call, limit: usize, kind: &'static str) -> Result<Request, InvokeError> {
        let bytes = call.payload.len();
        if bytes > limit {
            return Err(InvokeError::RequestTooLarge { bytes, kind, limit });
        }
        let payload = if bytes == 0 { Bytes::from_static(b"{}") } else { call.payload };
        if let Err(error) = serde_json::from_slice::<&serde_json::value::RawValue>(&payload) {
            return Err(InvokeError::InvalidRequestContent(error.to_string()));
        }
        Ok(Request {
            id: self.settings.request_id(),
            payload,
            trace_id: call.trace_id.unwrap_or_else(|| self.settings.trace_id()),
            client_context: call.client_context,
            cognito_identity: call.cognito_identity,
        })
    }
}

impl Invoker {
    /// A synchronous invocation, type `RequestResponse`. It goes on when the future is dropped.
    pub async fn invoke(&self, name: &str, call: Call) -> Result<Invocation, InvokeError> {
        let function = self.account.find(name)?;
        let request = self.account.request(call, limits::SYNC_PAYLOAD_BYTES, "RequestResponse")?;
        let running = self.runtime.spawn(async move { function.invoke(request).await });
        running.await.unwrap_or_else(|error| Err(InvokeError::Service(error.to_string())))
    }

    /// An asynchronous one, type `Event`: the request id.
    pub fn invoke_async(&self, name: &str, call: Call) -> Result<String, InvokeError> {
        let function = self.account.find(name)?;
        let request = self.account.request(call, limits::ASYNC_PAYLOAD_BYTES, "Event")?;
        let id = request.id.clone();
        function.enqueue(request, &self.runtime);
        Ok(id)
    }

    /// Whether it could be invoked, type `DryRun`.
    pub fn dry_run(&self, name: &str) -> Result<(), InvokeError> {
        self.account.find(name).map(drop)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.account.settings
    }
}

/// An account with functions. Dropped, it kills all environments.
///
/// Its calls block: they panic inside of asynchronous code, which has [`Harness::invoker`].
pub struct Harness {
    account: Arc<Account>,
    front: Mutex<Option<SocketAddr>>,
    // Last: what runs on it goes first.
    runtime: Runtime,
}

impl Harness {
    /// In `us-east-1` of account 123456789012.
    pub fn new() -> Result<Self, HarnessError> {
        Self::at("us-east-1", "123456789012")
    }

    /// In a region of an account.
    pub fn at(region: &str, account: &str) -> Result<Self, HarnessError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(2).thread_name("lambda").enable_all().build()?;
        let settings = Arc::new(Settings::new(region, account));
        let account = Arc::new(Account { settings, functions: Mutex::default() });
        Ok(Self { account, front: Mutex::default(), runtime })
    }

    /// Adds a function.
    pub fn deploy(&self, function: Function) -> Result<(), HarnessError> {
        let mut functions = self.account.functions();
        if functions.contains_key(&function.name) {
            return Err(HarnessError::Deployed(function.name));
        }
        let name = function.name.clone();
        functions.insert(name, Arc::new(Deployed::new(function, Arc::clone(&self.account.settings))));
        Ok(())
    }

    /// Puts another configuration in a function's place; what runs, ends as it began.
    pub fn redeploy(&self, function: Function) {
        let name = function.name.clone();
        let deployed = Arc::new(Deployed::new(function, Arc::clone(&self.account.settings)));
        self.account.functions().insert(name, deployed);
    }

    pub(crate) fn function(&self, name: &str) -> Result<Arc<Deployed>, HarnessError> {
        self.account.functions().get(name).cloned().ok_or_else(|| HarnessError::Unknown(name.to_owned()))
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.account.settings
    }

    /// For code that is asynchronous itself.
    pub fn invoker(&self) -> Invoker {
        Invoker { account: Arc::clone(&self.account), runtime: self.runtime.handle().clone() }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Invokes a function and waits for its answer.
    pub fn invoke(&self, name: &str, payload: impl Into<Bytes>) -> Result<Invocation, InvokeError> {
        self.invoke_with(name, Call { payload: payload.into(), ..Call::default() })
    }

    /// The same with more than an event.
    pub fn invoke_with(&self, name: &str, call: Call) -> Result<Invocation, InvokeError> {
        let function = self.account.find(name)?;
        let request = self.account.request(call, limits::SYNC_PAYLOAD_BYTES, "RequestResponse")?;
        self.runtime.block_on(function.invoke(request))
    }

    /// Leaves an event to Lambda: its request id.
    pub fn invoke_async(&self, name: &str, payload: impl Into<Bytes>) -> Result<String, InvokeError> {
        let call = Call { payload: payload.into(), ..Call::default() };
        self.invoker().invoke_async(name, call)
    }

    /// Waits until a function has no asynchronous events left.
    pub fn settle(&self, name: &str, limit: Duration) -> Result<(), HarnessError> {
        let function = self.function(name)?;
        if self.runtime.block_on(function.settled(limit)) {
            return Ok(());
        }
        let what = format!("the events of `{name}` to be worked off");
        Err(HarnessError::Timeout { seconds: limit.as_secs(), what })
    }

    /// Starts environments ahead of their first invocation.
    pub fn warm(&self, name: &str, environments: usize) -> Result<(), HarnessError> {
        let function = self.function(name)?;
        for _ in 0..environments {
            let started = self.runtime.block_on(function.warm());
            started.map_err(|error| HarnessError::Init { function: name.to_owned(), error })?;
        }
        Ok(())
    }

    /// Shuts a function's idle environments down: what was written in the phase.
    pub fn retire(&self, name: &str) -> Result<String, HarnessError> {
        let function = self.function(name)?;
        Ok(self.runtime.block_on(function.retire()))
    }

    /// Changes what goes wrong; the numbers of invocations go on.
    pub fn set_faults(&self, name: &str, faults: Faults) -> Result<(), HarnessError> {
        self.function(name)?.set_faults(faults);
        Ok(())
    }

    /// All invocations of a function that keeps them.
    pub fn history(&self, name: &str) -> Result<Vec<Past>, HarnessError> {
        Ok(self.function(name)?.history())
    }

    /// The last few MiB of a function's log.
    pub fn log(&self, name: &str) -> Result<String, HarnessError> {
        Ok(self.function(name)?.log())
    }

    /// Environments of a function that were started so far.
    pub fn started(&self, name: &str) -> Result<u64, HarnessError> {
        Ok(self.function(name)?.started())
    }

    /// Idle environments of a function: the ids of their processes, the runtime's first, and whether all are stopped.
    pub fn idle(&self, name: &str) -> Result<Vec<(Vec<i32>, bool)>, HarnessError> {
        Ok(self.function(name)?.idle())
    }

    /// Serves the Invoke API; a client of an SDK takes `http://` and this as its endpoint.
    pub fn front(&self) -> Result<SocketAddr, HarnessError> {
        let mut front = self.front.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = *front {
            return Ok(address);
        }
        let address = self.runtime.block_on(front::start(self.invoker()))?;
        *front = Some(address);
        Ok(address)
    }
}
