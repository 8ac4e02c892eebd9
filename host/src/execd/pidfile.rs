//! A pid file under the original's name: its control program then takes the original
//! for running, and does not start it again.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use nix::fcntl::OFlag;

use crate::event::Dialect;
use crate::root::Root;

/// Removed when it is dropped.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes it.
    ///
    /// # Errors
    /// The system's. A file that is there already is not touched: others may write its
    /// folder.
    pub(super) fn write(root: &Root, dialect: Dialect) -> std::io::Result<Self> {
        let pid = std::process::id();
        let path = root.run().join(format!("{}-{pid}.pid", name(dialect)));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o640)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)?;
        writeln!(file, "{pid}")?;
        Ok(Self { path })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The original's name.
pub(super) fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Ossec => "ossec-execd",
        Dialect::Wazuh4 | Dialect::Wazuh5 => "wazuh-execd",
    }
}
