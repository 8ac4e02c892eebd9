//! The memory of every effect: written before it, completed after it, closed by
//! its undo. SQLite in WAL mode with `synchronous=FULL`: what a call wrote is on
//! the disk when it returns.
//!
//! A *run* is one invocation; a *hold* is one response's claim on a host or network. The
//! same claim asked for again is the same hold, with a new deadline.

mod carry;
mod due;
mod group;
mod history;
mod hold;
mod intent;
mod lock;
mod now;
mod offender;
mod owed;
mod pending;
mod position;
mod schema;
mod standing;
mod tallied;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use due::{Next, Taken};
pub use history::{Effected, Past};
pub use hold::{Hold, State};
pub use intent::{Intended, Intent, Run, SITE};
pub use lock::{Latch, Lock};
pub use now::{Clock, Now, Owner};
pub use offender::lasts;
pub use owed::{Debt, Owed, Slot};
pub use pending::{Door, Entered, Pending, Term};
pub use position::Position;
pub use standing::Standing;
pub use tallied::{Commits, Tallied};

use crate::event::{Dialect, Event};

/// One run, as it is remembered.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The response's name.
    pub response: String,
    /// The component's SHA-256, as hex.
    pub digest: String,
    /// The executable's name in `ar.conf`.
    pub executable: String,
    /// Who spoke.
    pub dialect: Dialect,
    /// The masked event.
    pub event: Event,
    /// With the response's name: what `add` and `delete` of one block share.
    pub key: String,
    /// What they share whatever is expected: [`crate::message::Request::origin`].
    pub origin: String,
    /// The execd that will send the delete.
    pub owner: Option<Owner>,
    /// The process that runs it: with its start, it says which of two runs was asked
    /// for first.
    pub asker: Option<Owner>,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The message, where the executable itself has to get it again for its undo.
    pub message: Option<String>,
}

/// Why the journal did not do it. Each case names what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Someone else has it.
    #[error("{}: it was locked for longer than {}; another run holds it: `retort blocks list` shows what is open", path.display(), humantime::format_duration(*budget))]
    Busy {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        budget: Duration,
    },
    /// No room.
    #[error("{}: the disk is full; make room, then run `retort sweep`", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Not to be written.
    #[error("{}: {what}; run it as root, on a file system that is mounted read-write", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// SQLite's or the system's words.
        what: String,
    },
    /// No journal, or a broken one.
    #[error("{path}: it is no journal ({what}); move it away with `mv {path} {path}.broken`, then run `retort sweep`", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Written by a later version.
    #[error("{}: it was written by a later version of retort (layout {found}, this one knows {known}); install that version again", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The layout in the file.
        found: i64,
        /// The layout of this program.
        known: i64,
    },
    /// Written by a version that was never released.
    #[error("{path}: it was written by an unreleased version of retort (layout {found}, this one knows {known}); move it away with `mv {path} {path}.{found}`, then run `retort sweep`", path = path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// The layout in the file.
        found: i64,
        /// The layout of this program.
        known: i64,
    },
    /// There is none yet.
    #[error("{}: there is no journal yet", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {what}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// SQLite's or the system's words.
        what: String,
    },
}

/// Statements that stay compiled: all that there are.
const STATEMENTS: usize = 128;

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    busy: Duration,
    commits: Commits,
    /// Every write is a part of one transaction, until the group ends.
    grouped: bool,
    /// Somebody was waited for in vain.
    hurried: bool,
    /// The file that was opened, and whether it is of use no more.
    file: Option<(u64, u64)>,
    stale: Cell<bool>,
}

impl Journal {
    /// Opens the journal at `path`, and makes it where there is none. No call waits
    /// longer than `busy` for another process.
    ///
    /// # Errors
    /// See [`Error`]. A link is not followed.
    pub fn open(path: &Path, busy: Duration) -> Result<Self, Error> {
        plain(path)?;
        create(path)?;
        let journal = Self::connect(path, busy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::prepare(&journal)?;
        Ok(journal)
    }

    /// Opens the journal for reading alone.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none.
    pub fn open_read_only(path: &Path, busy: Duration) -> Result<Self, Error> {
        let missing = || Error::Missing {
            path: path.to_owned(),
        };
        match std::fs::symlink_metadata(path) {
            Ok(_) => plain(path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing()),
            Err(e) => return Err(io_error(path, &e)),
        }
        let journal = Self::connect(path, busy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // A file without tables is one that nobody has written yet.
        if schema::known(&journal)? == 0 {
            return Err(missing());
        }
        Ok(journal)
    }

    fn connect(path: &Path, busy: Duration, access: OpenFlags) -> Result<Self, Error> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| wrong(path, busy, e))?;
        let journal = Self {
            connection,
            path: path.to_owned(),
            busy,
            commits: Commits::default(),
            grouped: false,
            hurried: false,
            file: identity(path),
            stale: Cell::new(false),
        };
        journal
            .connection
            .set_prepared_statement_cache_capacity(STATEMENTS);
        journal
            .connection
            .busy_timeout(busy)
            .map_err(|e| journal.wrong(e))?;
        Ok(journal)
    }

    /// One transaction: all of it is on the disk when this returns, or nothing.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        if self.grouped {
            return self.write_in_group(work);
        }
        let started = std::time::Instant::now();
        let connection = &mut self.connection;
        let run = || {
            // Immediate: a lock that is taken late can't be waited for.
            let transaction =
                connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let done = run().map_err(|e| self.wrong(e));
        self.commits.count(started.elapsed(), done.is_ok());
        self.pace(done.as_ref().err());
        done
    }

    /// Who was waited for in vain is not waited for again, until a write went well.
    fn pace(&mut self, trouble: Option<&Error>) {
        let busy = matches!(trouble, Some(Error::Busy { .. }));
        if busy != self.hurried {
            let patience = if busy { lock::HURRY } else { self.busy };
            let paced = self.connection.busy_timeout(patience.min(self.busy));
            self.hurried = busy && paced.is_ok();
        }
    }

    /// Whether it has to be opened again: its file system took nothing or broke, or its
    /// file is another one by now.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.stale.get() || identity(&self.path) != self.file
    }

    fn wrong(&self, error: rusqlite::Error) -> Error {
        let failed = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::ReadOnly
                    | ErrorCode::CannotOpen
                    | ErrorCode::PermissionDenied
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
            )
        );
        self.stale.set(self.stale.get() || failed);
        wrong(&self.path, self.busy, error)
    }
}

/// Which file that is.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// SQLite creates files with the umask; the journal is root's alone from its first
/// byte.
fn create(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error(path, &e)),
    }
}

fn plain(path: &Path) -> Result<(), Error> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.is_file() => Err(Error::Corrupt {
            path: path.to_owned(),
            what: "it is no regular file".into(),
        }),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    use std::io::ErrorKind;
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Full { path },
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Error::ReadOnly {
            path,
            what: error.to_string(),
        },
        _ => Error::Other {
            path,
            what: error.to_string(),
        },
    }
}

fn wrong(path: &Path, budget: Duration, error: rusqlite::Error) -> Error {
    let path = path.to_owned();
    let what = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy { path, budget },
        Some(ErrorCode::DiskFull) => Error::Full { path },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Error::ReadOnly { path, what }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt { path, what },
        _ => Error::Other { path, what },
    }
}
