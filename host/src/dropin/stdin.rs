//! stdin with an end to its patience.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::watchdog::Watchdog;
use crate::respond::LAST_WORDS;

/// Reads until the watchdog is about to end the process, then gives `TimedOut`: there
/// is time left to say what did not come.
#[derive(Debug)]
pub(super) struct Stdin<'a> {
    watchdog: &'a Watchdog,
}

impl<'a> Stdin<'a> {
    pub(super) fn under(watchdog: &'a Watchdog) -> Self {
        Self { watchdog }
    }
}

impl Read for Stdin<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            let left = self
                .watchdog
                .deadline()
                .saturating_duration_since(Instant::now())
                .saturating_sub(LAST_WORDS);
            if left.is_zero() {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "no line came within the wall limit",
                ));
            }
            let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut ready, timeout) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(nix::unistd::read(stdin.as_fd(), buffer)?),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
