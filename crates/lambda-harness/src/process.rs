//! A process of an execution environment and what the kernel says of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::api::{Event, Who};

/// A process and its group, killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    ended: Arc<AtomicBool>,
}

impl Process {
    /// Starts the program in a group of its own and tells of its end.
    pub fn spawn(mut command: Command, who: Who, events: mpsc::UnboundedSender<Event>) -> io::Result<Self> {
        let mut child = command.process_group(0).kill_on_drop(true).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without an id"))?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        tokio::spawn(async move {
            let status = child.wait().await;
            flag.store(true, Ordering::SeqCst);
            if let Ok(status) = status {
                drop(events.send(Event::Exited { who, status }));
            }
        });
        Ok(Self { pid, ended })
    }

    pub fn id(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// Signals the process with what it started.
    pub fn signal_group(&self, signal: Signal) {
        if !self.ended() {
            // It may end in between: then there is nobody to tell.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Signals the process alone.
    pub fn signal(&self, signal: Signal) {
        if !self.ended() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Resident memory at its highest, and now.
    pub fn memory(&self) -> Option<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        Some(Memory { peak_bytes: kib("VmHWM:")? << 10, resident_bytes: kib("VmRSS:")? << 10 })
    }

    /// Whether every thread is stopped.
    pub fn stopped(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else { return false };
        threads.flatten().all(|thread| {
            fs::read_to_string(thread.path().join("stat"))
                .is_ok_and(|stat| after_name(&stat).is_some_and(|rest| rest.starts_with('T')))
        })
    }

    /// Processor time so far. The kernel counts nanoseconds of each thread, but forgets those of threads that ended;
    /// of the process it counts ticks of 10 ms.
    pub fn processor(&self) -> Processor {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten() {
            let id: Option<u32> = thread.file_name().to_str().and_then(|name| name.parse().ok());
            let spent = fs::read_to_string(thread.path().join("schedstat")).ok();
            let spent = spent.and_then(|text| text.split(' ').next().and_then(|n| n.parse().ok()));
            threads.extend(id.zip(spent));
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let fields: Vec<&str> = after_name(&stat).unwrap_or_default().split(' ').collect();
        let tick = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        Processor { threads, ticks: tick(11) + tick(12) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
    }
}

/// A name in `stat` may have spaces and parentheses.
fn after_name(stat: &str) -> Option<&str> {
    stat.rsplit_once(") ").map(|(_, rest)| rest)
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub peak_bytes: u64,
    pub resident_bytes: u64,
}

/// A reading of processor time.
#[derive(Clone, Default, Debug)]
pub(crate) struct Processor {
    threads: BTreeMap<u32, u64>,
    ticks: u64,
}

impl Processor {
    /// What was spent since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Duration {
        let of =
            |(id, spent): (&u32, &u64)| spent.saturating_sub(earlier.threads.get(id).copied().unwrap_or(0));
        let threads = Duration::from_nanos(self.threads.iter().map(of).sum());
        let ticks = Duration::from_millis(self.ticks.saturating_sub(earlier.ticks) * 10);
        // Two ticks are what rounding can bring.
        if ticks > threads + Duration::from_millis(20) { ticks } else { threads }
    }
}

/// What the processes of an environment wrote. A file, not a pipe: what they wrote before they asked for the next
/// event is there to be read when the question is.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    read: u64,
}

impl Log {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().create_new(true).append(true).read(true).open(path)?;
        Ok(Self { file, read: 0 })
    }

    /// For a process to write to.
    pub fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What came since the last call.
    pub fn take(&mut self) -> String {
        let end = self.file.metadata().map_or(self.read, |m| m.len());
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(self.read)).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], self.read + filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(n) => filled += n,
            }
        }
        bytes.truncate(filled);
        self.read += filled as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Frees what was read. Only while nobody writes.
    pub fn trim(&mut self) {
        const LARGE: u64 = 1 << 20;
        if self.read > LARGE && self.file.set_len(0).is_ok() {
            self.read = 0;
        }
    }
}
