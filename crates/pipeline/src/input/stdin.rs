//! Standard input that can be told to stop.

use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Standard input, until it is to stop: a pipe that nobody writes to would hold the process up for ever.
pub(super) struct Stdin<'a> {
    /// Asks to stop.
    pub stop: &'a AtomicBool,
    /// Set when that ended it.
    pub stopped: &'a Cell<bool>,
}

/// How often a wait for standard input looks whether it is to stop.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Read for Stdin<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.stopped.set(true);
                return Ok(0);
            }
            if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&LOOK))? > 0 {
                // Not through the buffer of the library: `poll` does not see what is in it.
                return Ok(rustix::io::read(&stdin, out)?);
            }
        }
    }
}
