//! One daemon for an installation: the second one refuses.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::root::Root;

/// Held for as long as the daemon lives.
#[derive(Debug)]
pub struct Alone {
    _file: Flock<File>,
}

impl Alone {
    /// Takes the installation for the daemon called `verb`.
    ///
    /// # Errors
    /// When another one has it; the sentence says which.
    pub fn take(root: &Root, verb: &str) -> anyhow::Result<Self> {
        let path = root.daemon();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .with_context(|| path.display().to_string())?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "retort {verb} (pid {})", std::process::id())?;
                Ok(Self { _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                let mut other = String::new();
                let _ = (&file).take(256).read_to_string(&mut other);
                bail!(
                    "{}: {} serves this installation already; stop it first, one daemon answers for one journal",
                    root.path().display(),
                    if other.trim().is_empty() {
                        "another daemon"
                    } else {
                        other.trim()
                    }
                )
            }
            Err((_, errno)) => Err(errno).with_context(|| path.display().to_string()),
        }
    }
}
