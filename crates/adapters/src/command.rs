//! A program as receiver of notices: it reads the body on standard input, and its exit code 0 is the
//! acknowledgement.
//!
//! The command line is the operator's and is run by `sh -c`, so that it may hold arguments, pipes and
//! variables; nothing of a notice is ever in it, nor in the environment but the notice's id, which is made
//! of letters and digits (`KEYTRAIL_ALERT_ID`). What the program prints is not read.

use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use keytrail_ports::{Notice, Notifier, NotifyError};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is looked whether the program has ended.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command line for each notice.
pub struct CommandNotifier {
    line: String,
    timeout: Duration,
}

impl CommandNotifier {
    /// A notifier that runs this command line.
    pub fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), timeout: TIMEOUT }
    }

    /// As [`new`](Self::new), for programs that may take so long.
    pub fn with_timeout(line: impl Into<String>, timeout: Duration) -> Self {
        Self { line: line.into(), timeout }
    }

    /// Waits for its end; one that takes too long is killed with all that it started.
    fn wait(&self, mut child: Child) -> Result<(), NotifyError> {
        let end = Instant::now() + self.timeout;
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    let why = match status.code() {
                        Some(code) => format!("the command ended with exit code {code}, expected 0"),
                        None => "the command was ended by a signal".into(),
                    };
                    return Err(NotifyError::Retryable(why));
                }
                Ok(None) if Instant::now() < end => thread::sleep(POLL),
                Ok(None) => {
                    let killed = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0))
                        .map(|group| kill_process_group(group, Signal::KILL));
                    // Where the group is gone already, the program may still be there.
                    if !matches!(killed, Some(Ok(()))) {
                        let _gone_as_well = child.kill();
                    }
                    let _reaped = child.wait();
                    return Err(NotifyError::Retryable(format!(
                        "the command did not end within {} s",
                        self.timeout.as_secs()
                    )));
                }
                Err(e) => return Err(NotifyError::Retryable(format!("cannot wait for the command: {e}"))),
            }
        }
    }
}

impl Notifier for CommandNotifier {
    fn notify(&self, notice: &Notice<'_>) -> Result<(), NotifyError> {
        let mut child = Command::new("sh")
            .args(["-c", &self.line])
            .env("KEYTRAIL_ALERT_ID", notice.id)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that it can be ended whole, and Ctrl-C is for keytrail alone.
            .process_group(0)
            .spawn()
            .map_err(|e| NotifyError::Retryable(format!("cannot start `sh`: {e}")))?;
        let (stdin, body) = (child.stdin.take(), notice.body.to_vec());
        let (tell, written) = channel();
        // A program that does not read must not stop the clock, and one that it left behind, which holds the pipe, must
        // not stop the next alert: nobody waits for this thread.
        thread::spawn(move || {
            let done = match stdin {
                Some(mut pipe) => pipe.write_all(&body),
                None => Ok(()),
            };
            let _nobody_asks = tell.send(done);
        });
        self.wait(child)?;
        match written.try_recv() {
            // One that needs no body may end without reading it.
            Ok(Err(e)) if e.kind() != ErrorKind::BrokenPipe => {
                Err(NotifyError::Retryable(format!("cannot write to the command: {e}")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use keytrail_model::Timestamp;

    use super::*;

    fn notice(body: &[u8]) -> Notice<'_> {
        Notice { id: "alert_1", at: Timestamp(0), body }
    }

    #[test]
    fn the_command_line_gets_nothing_of_the_notice() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let line = format!("cat > {0}; printf '%s' \"$KEYTRAIL_ALERT_ID $# $*\" >> {0}", out.display());
        let body = br#"{"actor":"$(touch pwned) `id` '; rm -rf / #"}"#;
        CommandNotifier::new(line).notify(&notice(body)).unwrap();
        let mut expected = body.to_vec();
        expected.extend_from_slice(b"alert_1 0 ");
        assert_eq!(std::fs::read(out).unwrap(), expected);
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let alive = dir.path().join("alive");
        let line = format!("(sleep 30; touch {}) & wait", alive.display());
        let began = Instant::now();
        // More than a pipe holds, which nobody reads.
        let body = vec![b' '; 1 << 20];
        let e = CommandNotifier::with_timeout(line, Duration::from_secs(1)).notify(&notice(&body));
        assert_eq!(e, Err(NotifyError::Retryable("the command did not end within 1 s".into())));
        assert!(began.elapsed() < Duration::from_secs(20), "its child was waited for");
    }

    #[test]
    fn what_it_leaves_behind_with_the_pipe_holds_up_nothing() {
        // A session of its own is not ended with the group.
        let line = "setsid sleep 5 <&0 & exit 0";
        let began = Instant::now();
        CommandNotifier::new(line).notify(&notice(&vec![b' '; 1 << 20])).unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "it was waited for");
    }
}
