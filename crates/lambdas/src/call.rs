//! One invocation: whose it is, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// An invocation.
#[derive(Clone, Debug)]
pub struct Call {
    /// Lambda's id of the request.
    pub request_id: String,
    /// X-Ray's header, where there is one.
    pub trace: Option<String>,
    /// When Lambda ends it.
    pub deadline: Instant,
    /// It is the first one of this process.
    pub cold: bool,
}

/// A flag that is raised when time runs short; dropping it ends its thread.
pub struct Stop {
    flag: Arc<AtomicBool>,
    _done: Sender<()>,
}

impl Stop {
    /// The flag.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }
}

impl Call {
    /// A flag that is raised when a quarter of the time is left, or ten seconds: what was begun then has to be made
    /// durable, and answered.
    pub fn stop(&self) -> Stop {
        self.stop_within(Duration::MAX)
    }

    /// How much time is left.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// As [`stop`](Self::stop), for a caller who waits no longer than this.
    pub fn stop_within(&self, patience: Duration) -> Stop {
        let left = self.left().min(patience);
        let reserve = (left / 4).min(Duration::from_secs(10));
        let flag = Arc::new(AtomicBool::new(false));
        let (done, wait) = channel();
        let raised = Arc::clone(&flag);
        thread::spawn(move || {
            if wait.recv_timeout(left.saturating_sub(reserve)) == Err(RecvTimeoutError::Timeout) {
                raised.store(true, Ordering::Relaxed);
            }
        });
        Stop { flag, _done: done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_raised_before_the_deadline() {
        let call = Call {
            request_id: "r".into(),
            trace: None,
            deadline: Instant::now() + Duration::from_millis(400),
            cold: true,
        };
        let stop = call.stop();
        assert!(!stop.flag().load(Ordering::Relaxed));
        while !stop.flag().load(Ordering::Relaxed) {
            assert!(Instant::now() < call.deadline + Duration::from_secs(5));
            thread::yield_now();
        }
    }
}
