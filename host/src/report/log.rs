//! The file. Its folder is writable by the group of OSSEC, so the name may lead
//! anywhere: only a plain file with one name is written to.

use std::io::{self, Write as _};

use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, File, MetadataExt as _, OpenOptions, OpenOptionsExt as _};

/// The file's name in `logs/`.
const NAME: &str = "active-responses.log";

/// The log, open for appending.
#[derive(Debug)]
pub struct Log {
    file: File,
}

/// Why the log is not written to.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It leads somewhere else.
    #[error(
        "logs/{NAME} is {0}; nothing is written through it: remove it, the next run makes a new one"
    )]
    NotPlain(&'static str),
    /// It can't be opened.
    #[error("logs/{NAME} can't be opened: {0}")]
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Log {
    /// Opens the log in `logs`, and makes it where there is none.
    ///
    /// # Errors
    /// For a link, a file with several names, or what is no file.
    pub fn open(logs: &Dir) -> Result<Self, Refused> {
        if logs
            .symlink_metadata(NAME)
            .is_ok_and(|meta| meta.is_symlink())
        {
            return Err(Refused::NotPlain("a symbolic link"));
        }
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o660)
            .follow(FollowSymlinks::No)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits());
        let file = logs.open_with(NAME, &options)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(Refused::NotPlain("no regular file"));
        }
        if meta.nlink() != 1 {
            return Err(Refused::NotPlain("a file with several names (hard links)"));
        }
        Ok(Self { file })
    }

    /// Appends one line, in one write, so that lines of several processes do not mix.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}
