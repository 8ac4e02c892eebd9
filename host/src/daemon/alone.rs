//! One daemon for an installation: the second one refuses.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::root::Root;

/// Held for as long as the daemon lives.
#[derive(Debug)]
pub struct Alone {
    _folder: Flock<File>,
}

impl Alone {
    /// Takes the installation for the daemon called `verb`.
    ///
    /// # Errors
    /// When another one has it; the sentence says which.
    pub fn take(root: &Root, verb: &str) -> anyhow::Result<Self> {
        let own = root.own();
        // The folder can be locked on a disk that takes nothing; who serves is written
        // into a file where that goes.
        let folder = File::open(&own).with_context(|| own.display().to_string())?;
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(folder) => {
                if let Err(why) = sign(root, verb) {
                    eprintln!("retort: {}: {why}", root.daemon().display());
                }
                Ok(Self { _folder: folder })
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let other = signed(root).unwrap_or_default();
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
            Err((_, errno)) => Err(errno).with_context(|| own.display().to_string()),
        }
    }
}

fn sign(root: &Root, verb: &str) -> std::io::Result<()> {
    let mut file = options().write(true).create(true).open(root.daemon())?;
    file.set_len(0)?;
    writeln!(file, "retort {verb} (pid {})", std::process::id())
}

/// What the daemon that serves has written.
fn signed(root: &Root) -> std::io::Result<String> {
    let mut other = String::new();
    let file = options().read(true).open(root.daemon())?;
    file.take(256).read_to_string(&mut other)?;
    Ok(other)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    options
}
