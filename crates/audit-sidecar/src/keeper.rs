//! A process that keeps connections of the Unix device open while the one that works is started anew.
//!
//! A writer of lines over a Unix socket hears no answer: it goes on once its line is in the socket's buffer. When
//! the only process that has the socket dies, the buffer goes with it, and lines of calls that succeeded are
//! lost. So this process, which does nothing that could fail, accepts the connections, keeps them, and hands
//! them to the worker; the worker takes a line from the buffer only once it is durable. A worker that is killed
//! is started anew and given the same connections, with what they hold.
//!
//! What it is not: safe against the end of both processes, or of the machine. In: connections. Out: their
//! descriptors, over a socket that is the worker's standard input.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::server::{bind, is_own};
use crate::service::Failure;

/// A worker that ends earlier than this after its start has a reason that a new one will have, too.
const SETTLED: Duration = Duration::from_millis(50);

/// So many workers may end early, one after the other.
const EARLY_ENDS: u32 = 10;

/// Connections, and where they go.
#[derive(Default)]
struct Kept {
    next: u64,
    connections: BTreeMap<u64, OwnedFd>,
    worker: Option<OwnedFd>,
    pid: Option<Pid>,
    stops: bool,
}

type Shared = Arc<Mutex<Kept>>;

fn lock(kept: &Shared) -> MutexGuard<'_, Kept> {
    // Nothing panics while it holds the lock; what is kept is sound in any case.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs workers until one ends by itself; gives its exit code.
pub fn run(config: &Path, socket: &Path) -> Result<u8, Failure> {
    let system = |what: &str, e: &io::Error| Failure::Fatal(format!("{what}: {e}"));
    let listener = bind(socket)
        .map_err(|e| Failure::Configuration(format!("cannot listen on `{}`: {e}", socket.display())))?;
    let program = std::env::current_exe().map_err(|e| system("cannot find the program", &e))?;
    let kept = Shared::default();
    forward_signals(&kept).map_err(|e| system("cannot wait for signals", &e))?;
    let accepting = Arc::clone(&kept);
    std::thread::spawn(move || accept(&listener, &accepting));
    let mut early = 0;
    loop {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| system("cannot make a socket", &e.into()))?;
        let started = Instant::now();
        let mut worker = Command::new(&program)
            .args(["run", "--worker", "--config"])
            .arg(config)
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(|e| system("cannot start the worker", &e))?;
        hand_over(&kept, ours, i32::try_from(worker.id()).ok().and_then(Pid::from_raw))
            .map_err(|e| system("cannot hand connections over", &e))?;
        let ended = worker.wait().map_err(|e| system("cannot wait for the worker", &e))?;
        let stops = {
            let mut kept = lock(&kept);
            (kept.worker, kept.pid) = (None, None);
            kept.stops
        };
        if let Some(code) = ended.code() {
            return Ok(u8::try_from(code).unwrap_or(70));
        }
        let signal = ended.signal().unwrap_or_default();
        early = if started.elapsed() < SETTLED { early + 1 } else { 0 };
        if stops || early > EARLY_ENDS {
            return Err(Failure::Fatal(format!("the worker was ended by signal {signal}")));
        }
        tracing::error!(
            code = "Fatal.Worker",
            signal,
            "the worker was ended by a signal, and is started anew"
        );
    }
}

/// Asks the worker to end when this process is asked to.
fn forward_signals(kept: &Shared) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            let mut kept = lock(&kept);
            kept.stops = true;
            if let Some(pid) = kept.pid {
                // It may have ended by itself.
                let _gone = kill_process(pid, Signal::TERM);
            }
        }
    });
    Ok(())
}

fn accept(listener: &UnixListener, kept: &Shared) {
    loop {
        match listener.accept() {
            Ok((stream, _)) if is_own(&stream) => keep(kept, stream),
            Ok(_) => tracing::warn!(code = "Rejected.Peer", "a peer of another user was refused"),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn keep(kept: &Shared, stream: UnixStream) {
    let mut kept = lock(kept);
    let (id, stream) = (kept.next, OwnedFd::from(stream));
    kept.next += 1;
    if let Some(worker) = &kept.worker {
        // One that is gone gets a successor, which gets all of them.
        let _gone = send(worker, id, &stream);
    }
    kept.connections.insert(id, stream);
}

/// Gives a new worker all connections, and listens which of them it is done with.
fn hand_over(kept: &Shared, ours: OwnedFd, pid: Option<Pid>) -> io::Result<()> {
    let reader = ours.try_clone()?;
    {
        let mut kept = lock(kept);
        for (id, stream) in &kept.connections {
            send(&ours, *id, stream)?;
        }
        (kept.worker, kept.pid) = (Some(ours), pid);
        if let (true, Some(pid)) = (kept.stops, pid) {
            let _gone = kill_process(pid, Signal::TERM);
        }
    }
    let kept = Arc::clone(kept);
    std::thread::spawn(move || {
        let mut id = [0; 8];
        while let Ok((_, 8)) = recv(&reader, &mut id, RecvFlags::empty()) {
            lock(&kept).connections.remove(&u64::from_le_bytes(id));
        }
    });
    Ok(())
}

fn send(worker: &OwnedFd, id: u64, stream: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stream.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    sendmsg(worker, &[IoSlice::new(&id.to_le_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
