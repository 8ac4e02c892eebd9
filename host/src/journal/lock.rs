//! The lock under which journal and kernel change together.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

/// How long is waited for somebody who was waited for in vain just before: whatever is
/// to be done can't wait the whole of its time, again and again.
pub(super) const HURRY: Duration = Duration::from_millis(10);

/// Where one process takes the lock. It stands in the kernel's queue once, however often
/// it asks: whoever keeps the lock for long must not fill it with waiting threads.
#[derive(Debug)]
pub struct Latch {
    path: PathBuf,
    waiting: Option<Arc<Waiting>>,
    /// Since when it is waited for in vain.
    kept: Option<Instant>,
}

impl Latch {
    /// Of the lock at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            waiting: None,
            kept: None,
        }
    }

    /// Takes the lock, waiting at most `budget`, and in the order of those who wait: a
    /// burst of responses must not starve one of them. Who has waited in vain waits for a
    /// moment only, until the lock was had once.
    ///
    /// # Errors
    /// [`Error::Busy`] when the budget is spent.
    pub fn take(&mut self, budget: Duration) -> Result<Lock, Error> {
        let since = self.kept.unwrap_or_else(Instant::now);
        let patience = self.kept.map_or(budget, |_| budget.min(HURRY));
        let file = self.open()?;
        let taken = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => self.wait(file, patience)?,
            taken => Some(taken.map_err(|(_, errno)| errno)),
        };
        let Some(taken) = taken else {
            self.kept = Some(since);
            let waited = since.elapsed().as_millis().try_into();
            return Err(Error::Busy {
                path: self.path.clone(),
                budget: Duration::from_millis(waited.unwrap_or(u64::MAX)),
            });
        };
        self.kept = None;
        taken
            .map(|locked| Lock {
                _file: Some(locked),
            })
            .map_err(|errno| io_error(&self.path, &errno.into()))
    }

    /// Waits for whoever stands in the queue already, or for somebody who goes there now;
    /// none when that takes too long.
    fn wait(&mut self, file: File, patience: Duration) -> Result<Option<Waited>, Error> {
        let queued = self.waiting.take().filter(|waiting| waiting.is_wanted());
        let waiting = match queued {
            Some(waiting) => waiting,
            None => queue(file).map_err(|e| io_error(&self.path, &e))?,
        };
        let waited = waiting.listen(patience);
        self.waiting = waited.is_none().then_some(waiting);
        Ok(waited)
    }

    fn open(&self) -> Result<File, Error> {
        let mut options = OpenOptions::new();
        options
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
        // What is there can be locked on a file system that takes nothing more.
        options
            .clone()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .or_else(|e| options.read(true).open(&self.path).map_err(|_| e))
            .map_err(|e| io_error(&self.path, &e))
    }
}

/// What came of a wait.
type Waited = Result<Flock<File>, Errno>;

/// Somebody who stands in the queue.
#[derive(Debug, Default)]
struct Waiting {
    place: Mutex<Place>,
    over: Condvar,
}

/// What he is to do, and what he has.
#[derive(Debug, Default)]
struct Place {
    wanted: bool,
    gave_up: bool,
    came: Option<Waited>,
}

impl Waiting {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wants what he waits for; not where he has had it, and gave it back.
    fn is_wanted(&self) -> bool {
        let mut place = self.place();
        place.wanted = !place.gave_up;
        place.wanted
    }

    /// What he gets within `patience`. What comes later is not wanted.
    fn listen(&self, patience: Duration) -> Option<Waited> {
        let place = self.place();
        let waited = self
            .over
            .wait_timeout_while(place, patience, |place| place.came.is_none());
        let (mut place, _) = waited.unwrap_or_else(PoisonError::into_inner);
        place.wanted = false;
        place.came.take()
    }

    /// Hands over what came, or gives it back where nobody listens.
    fn hand_over(&self, came: Waited) {
        let mut place = self.place();
        if place.wanted {
            place.came = Some(came);
            self.over.notify_one();
        } else {
            place.gave_up = true;
        }
    }
}

/// The kernel keeps the order of those who wait for it, but knows no time limit: the
/// wait is on a thread of its own.
fn queue(file: File) -> std::io::Result<Arc<Waiting>> {
    let waiting = Arc::new(Waiting::default());
    waiting.is_wanted();
    let waits = Arc::clone(&waiting);
    std::thread::Builder::new()
        .name("lock".into())
        .spawn(move || {
            let mut file = file;
            let came = loop {
                match Flock::lock(file, FlockArg::LockExclusive) {
                    Ok(locked) => break Ok(locked),
                    Err((again, Errno::EINTR)) => file = again,
                    Err((_, errno)) => break Err(errno),
                }
            };
            waits.hand_over(came);
        })?;
    Ok(waiting)
}
