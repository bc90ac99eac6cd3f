//! The sidecar as a whole: what is started, in which order, and how it ends.

use std::fmt;
use std::future::IntoFuture as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::serve::ListenerExt as _;
use keytrail_adapters::local::KeyFile;
use keytrail_ports::Signer as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::journal::{Counts, Journal, Recorder, RecorderSettings};
use crate::server::http_device::Token;
use crate::server::{Guarded, Stop, admin, api, http_device, unix_device};
use crate::ship;
use crate::shipping::{Releaser, Shipper, covered};
use crate::spool::{SpoolError, SpoolReader};
use crate::start::{self, Started};

/// How often the writer is told that time goes on.
const TICK: Duration = Duration::from_millis(250);

/// What ended the sidecar.
#[derive(Debug)]
pub enum Failure {
    /// Something that an operator set, or that a file says.
    Configuration(String),
    /// The spool, the disk or the system.
    Fatal(String),
    /// It may work later.
    Later(String),
}

impl Failure {
    /// Of the process (ARCHITECTURE section 6).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 78,
            Self::Fatal(_) => 70,
            Self::Later(_) => 75,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(m) | Self::Fatal(m) | Self::Later(m) => f.write_str(m),
        }
    }
}

impl From<SpoolError> for Failure {
    fn from(e: SpoolError) -> Self {
        match e {
            SpoolError::Busy(_) | SpoolError::Full(_) => Self::Later(e.to_string()),
            SpoolError::Source { .. } => Self::Configuration(e.to_string()),
            _ => Self::Fatal(e.to_string()),
        }
    }
}

/// Threads that ship and free.
struct Behind {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Behind {
    fn start(config: &Config, reader: &SpoolReader, counts: &Arc<Counts>) -> Result<Self, Failure> {
        let to = ship::open(&config.ship_to, &config.source).map_err(Failure::Configuration)?;
        let shipper = Shipper::new(reader.clone(), to, config.ship_interval, Arc::clone(counts))
            .map_err(Failure::Fatal)?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let mut threads = vec![std::thread::spawn(move || shipper.run(&told))];
        if let Some(releaser) = releaser(config, reader, counts)? {
            let told = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || releaser.run(&told)));
        }
        Ok(Self { stop, threads })
    }

    /// Ships what is left, and ends.
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!(code = "Fatal.Thread", "a thread ended by a mistake of the program");
            }
        }
    }
}

fn releaser(
    config: &Config,
    reader: &SpoolReader,
    counts: &Arc<Counts>,
) -> Result<Option<Releaser>, Failure> {
    let Some(seal) = &config.seal else { return Ok(None) };
    Releaser::new(&config.source, reader.clone(), &seal.data, &seal.keys, Arc::clone(counts))
        .map(Some)
        .map_err(Failure::Configuration)
}

/// Takes entries until SIGTERM or SIGINT, until the spool fails, or until the keeper of the Unix device's
/// connections is gone.
pub fn run(config: &Config, keeper: Option<OwnedFd>) -> Result<(), Failure> {
    let token = read_token(config)?;
    let audit = KeyFile::open_or_create(&config.audit_key, &config.key_name())
        .map_err(|e| Failure::Configuration(e.to_string()))?
        .0;
    let (spool, recovered) = start::open(config)?;
    let reader = spool.reader();
    let limits = config.seal.is_some().then_some((config.alarm_after, config.deny_after));
    let counts = Arc::new(Counts::new(limits));
    let mut known = covered(&reader).map_err(Failure::Fatal)?;
    if let Some(mut releaser) = releaser(config, &reader, &counts)? {
        match releaser.release() {
            Ok(_) => known = releaser.covered().clone(),
            Err(error) => tracing::error!(code = "Fatal.Log", %error, "what is sealed is not proven"),
        }
    }
    for damage in &recovered.damaged {
        tracing::error!(code = "Fatal.SpoolDamaged", %damage, "the spool is damaged");
    }
    if let Some(cut) = &recovered.truncated {
        let (epoch, seq, bytes) = (cut.epoch, cut.expected_seq, cut.dropped_bytes);
        tracing::warn!(
            epoch,
            seq,
            bytes,
            "the end of the spool was not whole, and was cut: nobody was answered"
        );
    }
    let Started { chain, spool, recent, unknown, .. } =
        start::begin(config, spool, recovered, &known, &audit).map_err(Failure::Fatal)?;
    let (source, epoch) = (chain.source().to_owned(), chain.epoch());
    tracing::info!(source, epoch, unknown, audit_key = audit.name(), "an epoch began");
    let settings = RecorderSettings { mode: config.mode, operation_timeout: config.operation_timeout };
    let recorder = Recorder::new(chain, recent, Arc::clone(&counts), settings);
    let (journal, writer) = Journal::start(recorder, spool, Arc::clone(&counts), config.answer_timeout)
        .map_err(|e| Failure::Fatal(format!("cannot start a thread: {e}")))?;
    let behind = Behind::start(config, &reader, &counts)?;
    // The writer has a core to itself, and so has the service that is waited for: connections need little, and each
    // thread more is one more that has to be woken.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, 4))
        .enable_all()
        .build()
        .map_err(|e| Failure::Fatal(format!("cannot start threads: {e}")))?;
    let ended = runtime.block_on(serve(config, journal, token, keeper, &counts, &reader));
    // With it the last journal goes, and with that the writer ends.
    drop(runtime);
    let closed = writer.join();
    behind.end();
    ended?;
    closed.map_err(Failure::Fatal)?;
    tracing::info!(source, epoch, "the epoch ended");
    Ok(())
}

/// Serves until the end, and closes the epoch.
async fn serve(
    config: &Config,
    journal: Journal,
    token: Option<Token>,
    keeper: Option<OwnedFd>,
    counts: &Arc<Counts>,
    reader: &SpoolReader,
) -> Result<(), Failure> {
    let system = |what: &str, e: std::io::Error| Failure::Configuration(format!("{what}: {e}"));
    let at = |path: &Path, e| system(&format!("cannot listen on `{}`", path.display()), e);
    let (stopping, stop) = Stop::new();
    let mut servers = JoinSet::new();
    // Metrics answer until the end.
    let mut admin_server = JoinSet::new();
    if let Some(path) = &config.api {
        let listener = Guarded::bind(path).map_err(|e| at(path, e))?;
        let router = api::router(journal.clone());
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().wait());
        servers.spawn(served.into_future());
    }
    if let (Some(device), Some(token)) = (&config.http_device, token) {
        let listener = TcpListener::bind(device.listen)
            .await
            .map_err(|e| system(&format!("cannot listen on `{}`", device.listen), e))?
            .tap_io(|stream| {
                let _slower_without = stream.set_nodelay(true);
            });
        let router = http_device::router(journal.clone(), token);
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().wait());
        servers.spawn(served.into_future());
    }
    let keeper_is_gone = keeper.map(|keeper| {
        let (serving, ended) = tokio::sync::oneshot::channel::<()>();
        let (journal, stop) = (journal.clone(), stop.clone());
        servers.spawn(async move {
            let served = unix_device::serve(keeper, journal, stop).await;
            drop(serving);
            served
        });
        ended
    });
    let keeper_is_gone = async {
        match keeper_is_gone {
            Some(ended) => drop(ended.await),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(keeper_is_gone);
    if let Some(listen) = config.admin {
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|e| system(&format!("cannot listen on `{listen}`"), e))?;
        let router = admin::router(journal.clone());
        admin_server.spawn(async move { axum::serve(listener, router).await });
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| system("cannot wait for signals", e))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| system("cannot wait for signals", e))?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut alarm = Alarm::default();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = &mut keeper_is_gone => break,
            _ = ticks.tick() => {
                journal.tick();
                let written = reader.counts();
                counts.written(written.commits, written.syncing);
                alarm.look(counts, config.alarm_after);
                if let Some(poison) = reader.poison() {
                    counts.poisoned();
                    return Err(Failure::Fatal(poison.to_string()));
                }
            }
        }
    }
    counts.stopping();
    let _all_ended = stopping.send(true);
    let all = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(config.answer_timeout + Duration::from_secs(1), all).await.is_err() {
        tracing::warn!("connections that did not end were cut off");
    }
    drop(servers);
    journal.close("the sidecar was told to stop").await.map_err(|e| Failure::Fatal(e.to_string()))
}

/// Says that records wait too long to be sealed, once a minute.
#[derive(Default)]
struct Alarm(Option<Instant>);

impl Alarm {
    fn look(&mut self, counts: &Counts, after: Duration) {
        let waits = counts.unsealed_for();
        if waits > after && self.0.is_none_or(|at| at.elapsed() >= Duration::from_secs(60)) {
            self.0 = Some(Instant::now());
            tracing::error!(
                code = "Retryable.Unsealed",
                seconds = waits.as_secs(),
                "records wait too long to be sealed"
            );
        }
    }
}

fn read_token(config: &Config) -> Result<Option<Token>, Failure> {
    let Some(device) = &config.http_device else { return Ok(None) };
    let path = device.token_file.display();
    let unreadable = |e: std::io::Error| Failure::Configuration(format!("cannot read `{path}`: {e}"));
    let metadata = std::fs::metadata(&device.token_file).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if is_open(mode, metadata.uid() == rustix::process::geteuid().as_raw()) {
        return Err(Failure::Configuration(format!(
            "`{path}` is open to others (mode {mode:04o}): expected 0600, as `chmod 600 {path}` sets it"
        )));
    }
    let text = std::fs::read_to_string(&device.token_file).map_err(unreadable)?;
    let text = text.trim_end();
    if text.len() < 16 {
        return Err(Failure::Configuration(format!("`{path}`: expected a token of at least 16 characters")));
    }
    Ok(Some(Token::of(text)))
}

/// Whether a secret's file is open to others. One that is another's, as Kubernetes mounts them, can be read by a group
/// alone, that of the pod; nobody but its owner may write to it in any case.
fn is_open(mode: u32, is_own: bool) -> bool {
    mode & if is_own { 0o077 } else { 0o037 } != 0
}

/// Ships what is there, and waits until all of it is sealed and freed.
pub fn drain(config: &Config, within: Duration) -> Result<(), Failure> {
    let (spool, _) = start::open(config)?;
    let reader = spool.reader();
    let counts = Arc::new(Counts::new(None));
    let to = ship::open(&config.ship_to, &config.source).map_err(Failure::Configuration)?;
    Shipper::new(reader.clone(), to, config.ship_interval, Arc::clone(&counts))
        .and_then(|mut shipper| shipper.ship_all())
        .map_err(Failure::Later)?;
    let Some(mut releaser) = releaser(config, &reader, &counts)? else {
        eprintln!("all records are shipped; `[seal]` does not say where to see that they are sealed");
        return Ok(());
    };
    let until = Instant::now() + within;
    loop {
        releaser.release().map_err(Failure::Fatal)?;
        let left = reader.segments().len();
        if left == 0 {
            eprintln!("all records are sealed; the spool is empty");
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Failure::Later(format!("{left} segments are shipped and not sealed yet")));
        }
        eprintln!("{left} segments wait to be sealed");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_owners_or_the_groups_of_a_pod() {
        for (mode, own, anothers) in [
            (0o600, false, false),
            (0o400, false, false),
            (0o640, true, false),
            (0o440, true, false),
            (0o460, true, true),
            (0o444, true, true),
            (0o604, true, true),
        ] {
            assert_eq!((is_open(mode, true), is_open(mode, false)), (own, anothers), "{mode:04o}");
        }
    }
}
