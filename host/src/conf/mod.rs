//! What people wrote: `ossec.conf`, `ar.conf` and the rules say when, `retort.toml` says
//! what at most. Parsers are pure; the disk is read with caps.

pub mod active_response;
pub mod ar;
pub mod command;
pub mod executable;
pub mod grants;
pub mod init;
pub mod keys;
mod nearest;
pub mod ossec;
mod raw;
pub mod rules;
pub mod trust;
pub mod white_list;
mod xml;

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The largest `ossec.conf`: a hundred times the largest that was seen.
pub const OSSEC_CONF: u64 = 4 << 20;
/// The largest `ar.conf`: ten thousand lines.
pub const AR_CONF: u64 = 1 << 20;
/// The largest `client.keys`: a hundred thousand agents.
pub const CLIENT_KEYS: u64 = 16 << 20;
/// The largest `ossec-init.conf`: it has four lines.
pub const OSSEC_INIT: u64 = 64 << 10;
/// The largest `retort.toml`.
pub const RETORT_TOML: u64 = 1 << 20;

/// What is wrong with a configuration, where, and what to write instead. Also used
/// for findings: what is legal and yet not what its author will have meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u32,
    /// From 1, in bytes.
    pub column: u32,
    /// The number that the original program gives it.
    pub number: Option<u16>,
    /// One sentence.
    pub what: String,
    /// The line to write.
    pub fix: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if let Some(number) = self.number {
            write!(f, "({number}) ")?;
        }
        f.write_str(&self.what)?;
        match &self.fix {
            Some(fix) => write!(f, "\n  write: {fix}"),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte, both from 1.
#[must_use]
pub fn position(bytes: &[u8], at: usize) -> (u32, u32) {
    let before = bytes.get(..at.min(bytes.len())).unwrap_or_default();
    let line = before.iter().filter(|b| **b == b'\n').count();
    let column = before.iter().rev().take_while(|b| **b != b'\n').count();
    let from_1 = |n: usize| u32::try_from(n.saturating_add(1)).unwrap_or(u32::MAX);
    (from_1(line), from_1(column))
}

/// Reads a regular file of at most `cap` bytes. Never waits on a pipe.
///
/// # Errors
/// The system's, or `InvalidInput` for what is no file, `FileTooLarge` above the cap.
pub fn read(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    let mut bytes = Vec::new();
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > cap {
        let what = format!("it is larger than {} MiB", cap >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}
