//! The shutdown phase: who is told, how long it takes, and who is killed.

use rustix::process::Signal;
use tokio::time::{Instant, timeout_at};

use super::{Environment, Reason, epoch_ms, file_name};
use crate::limits;
use crate::process::Process;

impl Environment {
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
