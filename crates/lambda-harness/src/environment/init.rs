//! The init phase: processes are started, extensions first, and become ready.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Environment, InitFailure, Reason, extension_error, file_name};
use crate::Function;
use crate::api::{Api, Event, Who};
use crate::error::PlatformError;
use crate::harness::Settings;
use crate::process::{Log, Process, Processor};

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
        // One that is to crash may have been quicker than the signal.
        while crash || !self.ready() {
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
}
