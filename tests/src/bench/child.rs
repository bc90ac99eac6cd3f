//! Runs a command and says what it cost: CPU time and peak memory, as Linux counts them.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Failure;

/// What a command cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system time of all its threads, in seconds (ticks of 10 ms).
    pub cpu_seconds: f64,
    /// Peak resident memory in bytes (`VmHWM`, looked at every 2 ms).
    pub peak_bytes: u64,
}

/// Ticks of a second in `/proc/self/stat` (`USER_HZ`, 100 on every Linux that runs this).
const TICKS: f64 = 100.0;

/// Runs the command, and gives its stdout and cost. Anything but exit 0 is a failure.
pub fn measure(mut command: Command) -> Result<(String, Cost), Failure> {
    let before = children_seconds()?;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start {command:?}: {e}"))?;
    let pid = child.id();
    let watcher = thread::spawn(move || peak_bytes(pid));
    let output = child.wait_with_output()?;
    let peak_bytes = watcher.join().map_err(|_| "the watcher of the command's memory died")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {}", output.status, stderr.trim_end()).into());
    }
    let cost = Cost { cpu_seconds: children_seconds()? - before, peak_bytes };
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), cost))
}

/// CPU time of all children that were waited for (`cutime` and `cstime`).
fn children_seconds() -> Result<f64, Failure> {
    seconds("self", 13)
}

/// CPU time of this process so far (`utime` and `stime`), in seconds.
pub fn own_seconds() -> Result<f64, Failure> {
    seconds_of("self")
}

/// CPU time of a process so far, in seconds.
pub fn seconds_of(process: &str) -> Result<f64, Failure> {
    seconds(process, 11)
}

/// Two neighbouring counts of ticks, by the number of the first after the command's name (proc_pid_stat(5)).
fn seconds(process: &str, field: usize) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name is the only field with spaces; it stands in parentheses.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| -> Result<f64, Failure> { Ok(fields.get(i).ok_or("short stat")?.parse()?) };
    Ok((ticks(field)? + ticks(field + 1)?) / TICKS)
}

/// Watches a process until it ends.
fn peak_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let mut peak = 0;
    while let Ok(status) = fs::read_to_string(&path) {
        let Some(line) = status.lines().find(|l| l.starts_with("VmHWM:")) else { break };
        let kib = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        peak = peak.max(kib * 1024);
        thread::sleep(Duration::from_millis(2));
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_measured() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done"]);
        let (stdout, cost) = measure(command).expect("sh runs");
        assert_eq!(stdout, "done\n");
        assert!(cost.cpu_seconds > 0.0 && cost.peak_bytes > 100_000, "{cost:?}");
    }

    #[test]
    fn a_failing_command_is_a_failure() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = measure(command).expect_err("exit 3").to_string();
        assert!(error.ends_with("exit status: 3: why"), "{error}");
    }
}
