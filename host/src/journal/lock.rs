//! The lock under which journal and kernel change together.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{Error, io_error};

/// Held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Option<Flock<File>>,
}

impl Lock {
    /// For whoever works under a lock that is taken already.
    #[must_use]
    pub fn taken() -> Self {
        Self { _file: None }
    }
}

/// Takes the lock at `path`, waiting at most `budget`, and in the order of those who
/// wait: a burst of responses must not starve one of them.
///
/// # Errors
/// [`Error::Busy`] when the budget is spent.
pub fn lock(path: &Path, budget: Duration) -> Result<Lock, Error> {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    // What is there can be locked on a file system that takes nothing more.
    let file = options
        .clone()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .or_else(|e| options.read(true).open(path).map_err(|_| e))
        .map_err(|e| io_error(path, &e))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Lock {
            _file: Some(locked),
        }),
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => queue(file, path, budget),
        Err((_, errno)) => Err(io_error(path, &errno.into())),
    }
}

/// The kernel keeps the order of those who wait for it, but knows no time limit: the
/// wait is on a thread of its own. One that comes too late is given back at once.
fn queue(file: File, path: &Path, budget: Duration) -> Result<Lock, Error> {
    let (to, granted) = mpsc::channel();
    std::thread::Builder::new()
        .name("lock".into())
        .spawn(move || {
            let mut file = file;
            let answer = loop {
                match Flock::lock(file, FlockArg::LockExclusive) {
                    Ok(locked) => break Ok(locked),
                    Err((again, Errno::EINTR)) => file = again,
                    Err((_, errno)) => break Err(errno),
                }
            };
            let _ = to.send(answer);
        })
        .map_err(|e| io_error(path, &e))?;
    match granted.recv_timeout(budget) {
        Ok(Ok(locked)) => Ok(Lock {
            _file: Some(locked),
        }),
        Ok(Err(errno)) => Err(io_error(path, &errno.into())),
        Err(_) => Err(Error::Busy {
            path: path.to_owned(),
            budget,
        }),
    }
}
