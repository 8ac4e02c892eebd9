//! The lock under which journal and kernel change together.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{Error, io_error};

/// How often a taken lock is tried again: its holders keep it for a commit or two.
const TRY_EVERY: Duration = Duration::from_micros(500);

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock at `path`, waiting at most `budget`.
///
/// # Errors
/// [`Error::Busy`] when the budget is spent.
pub fn lock(path: &Path, budget: Duration) -> Result<Lock, Error> {
    let started = Instant::now();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(|e| io_error(path, &e))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(Lock { _file: locked }),
            Err((again, Errno::EWOULDBLOCK | Errno::EINTR)) if started.elapsed() < budget => {
                file = again;
                std::thread::sleep(TRY_EVERY);
            }
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                return Err(Error::Busy {
                    path: path.to_owned(),
                    budget,
                });
            }
            Err((_, errno)) => return Err(io_error(path, &std::io::Error::from(errno))),
        }
    }
}
