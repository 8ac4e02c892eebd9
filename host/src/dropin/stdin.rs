//! stdin with an end to its patience.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Reads until `deadline`, then gives `TimedOut`.
#[derive(Debug)]
pub(super) struct Stdin {
    deadline: Instant,
}

impl Stdin {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline }
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stdin = io::stdin();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
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
