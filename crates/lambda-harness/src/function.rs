//! What a function is configured with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::limits;
use crate::{Destination, Faults};

/// A function: a program that speaks the Runtime API, and what Lambda knows of it.
#[derive(Clone, Debug)]
pub struct Function {
    /// At most 64 characters of `[a-zA-Z0-9-_]`.
    pub name: String,
    /// The program of the runtime.
    pub bootstrap: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Programs of external extensions; each registers with the name of its file.
    pub extensions: Vec<PathBuf>,
    /// `LAMBDA_TASK_ROOT`; unset: the folder of the bootstrap.
    pub task_root: Option<PathBuf>,
    /// Where the processes start; unset: the environment's own temporary folder.
    pub working_dir: Option<PathBuf>,
    /// Environment variables besides those that Lambda sets; these win.
    pub variables: BTreeMap<String, String>,
    /// `_HANDLER`.
    pub handler: String,
    /// How long an invocation may take.
    pub timeout: Duration,
    /// Memory of an environment, enforced on resident memory.
    pub memory_mib: u64,
    /// Environments that may run at a time.
    pub reserved_concurrency: Option<usize>,
    /// How long the init phase may take.
    pub init_limit: Duration,
    /// Whether an environment is stopped between invocations. Off, a bench saves two signals.
    pub freeze: bool,
    /// What happens to asynchronous events.
    pub asynchronous: AsyncPolicy,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether [`crate::Harness::history`] keeps each invocation with its payload.
    pub keep_history: bool,
}

impl Function {
    /// With Lambda's defaults: 3 s, 128 MiB.
    pub fn new(name: impl Into<String>, bootstrap: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            bootstrap: bootstrap.into(),
            arguments: Vec::new(),
            extensions: Vec::new(),
            task_root: None,
            working_dir: None,
            variables: BTreeMap::new(),
            handler: "bootstrap".to_owned(),
            timeout: Duration::from_secs(3),
            memory_mib: 128,
            reserved_concurrency: None,
            init_limit: limits::INIT,
            freeze: true,
            asynchronous: AsyncPolicy::default(),
            faults: Faults::none(),
            keep_history: false,
        }
    }

    /// The function of a container image whose layers lie unpacked under `root`: `entrypoint` is a path inside it,
    /// `/var/runtime/bootstrap` if there is none. The program still sees the file system of this machine.
    pub fn from_root(name: impl Into<String>, root: &Path, entrypoint: Option<&str>) -> Self {
        let inside = |path: &str| root.join(path.trim_start_matches('/'));
        let task_root = inside("var/task");
        Self {
            working_dir: task_root.is_dir().then(|| task_root.clone()),
            task_root: Some(task_root),
            ..Self::new(name, inside(entrypoint.unwrap_or("/var/runtime/bootstrap")))
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Adds an external extension.
    #[must_use]
    pub fn extension(mut self, program: impl Into<PathBuf>) -> Self {
        self.extensions.push(program.into());
        self
    }

    /// Sets the timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the memory.
    #[must_use]
    pub fn memory_mib(mut self, memory: u64) -> Self {
        self.memory_mib = memory;
        self
    }

    /// Sets the reserved concurrency.
    #[must_use]
    pub fn reserved_concurrency(mut self, environments: usize) -> Self {
        self.reserved_concurrency = Some(environments);
        self
    }

    /// Sets what happens to asynchronous events.
    #[must_use]
    pub fn asynchronous(mut self, policy: AsyncPolicy) -> Self {
        self.asynchronous = policy;
        self
    }

    /// Sets what goes wrong.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Keeps each invocation with its payload.
    #[must_use]
    pub fn keep_history(mut self) -> Self {
        self.keep_history = true;
        self
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_mib.saturating_mul(1 << 20)
    }
}

/// What happens to asynchronous events ("How Lambda handles errors and retries with asynchronous invocation").
#[derive(Clone, Debug)]
pub struct AsyncPolicy {
    /// How often a failed event is tried again, 0 to 2.
    pub retries: u32,
    /// How long before the first and the second retry; the last one serves for all that follow.
    pub retry_delays: Vec<Duration>,
    /// How long after the first throttled attempt; doubles to five minutes.
    pub throttle_delay: Duration,
    /// How old an event gets.
    pub max_age: Duration,
    /// Where records of events that succeeded go.
    pub on_success: Option<Destination>,
    /// Where records of events that were given up go.
    pub on_failure: Option<Destination>,
}

impl Default for AsyncPolicy {
    fn default() -> Self {
        Self {
            retries: 2,
            retry_delays: vec![Duration::from_secs(60), Duration::from_secs(120)],
            throttle_delay: Duration::from_secs(1),
            max_age: Duration::from_secs(6 * 3600),
            on_success: None,
            on_failure: None,
        }
    }
}

impl AsyncPolicy {
    /// The same, but nothing is waited for longer than a millisecond: for tests.
    pub fn quick() -> Self {
        let delay = Duration::from_millis(1);
        Self { retry_delays: vec![delay], throttle_delay: delay, ..Self::default() }
    }
}
