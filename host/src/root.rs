//! Where an installation keeps its files. One value, made once, so that no other
//! room spells a path.

use std::path::{Path, PathBuf};

/// The folder of an OSSEC or Wazuh installation, `/var/ossec` unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// Where OSSEC and Wazuh install themselves.
    pub const DEFAULT: &'static str = "/var/ossec";

    /// The installation at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration of the original: says when, never what at most.
    #[must_use]
    pub fn ossec_conf(&self) -> PathBuf {
        self.path.join("etc/ossec.conf")
    }

    /// Names, executables and timeouts, as the manager hands them out.
    #[must_use]
    pub fn ar_conf(&self) -> PathBuf {
        self.path.join("etc/shared/ar.conf")
    }

    /// The agents of a manager.
    #[must_use]
    pub fn client_keys(&self) -> PathBuf {
        self.path.join("etc/client.keys")
    }

    /// Where installers wrote down what they installed, best first.
    #[must_use]
    pub fn init(&self) -> [PathBuf; 2] {
        [
            self.path.join("etc/ossec-init.conf"),
            PathBuf::from("/etc/ossec-init.conf"),
        ]
    }

    /// The alerts, one object of JSON a line.
    #[must_use]
    pub fn alerts(&self) -> PathBuf {
        self.path.join("logs/alerts/alerts.json")
    }

    /// Links and components, side by side.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.path.join("active-response/bin")
    }

    /// Where `active-responses.log` is.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// All that Retort trusts or remembers: `root:root`, 0700.
    #[must_use]
    pub fn own(&self) -> PathBuf {
        self.path.join("retort")
    }

    /// What responses may do at most.
    #[must_use]
    pub fn grants(&self) -> PathBuf {
        self.own().join("retort.toml")
    }

    /// What was done, and how it is undone.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.own().join("journal.db")
    }

    /// Held while journal and kernel change together.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }

    /// Releases that were begun and perhaps not done.
    #[must_use]
    pub fn owed(&self) -> PathBuf {
        self.own().join("owed")
    }

    /// Which daemon serves the installation: its name and number.
    #[must_use]
    pub fn daemon(&self) -> PathBuf {
        self.own().join("daemon")
    }

    /// Where the daemon is asked.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.own().join("control.sock")
    }

    /// The queue of OSSEC's and Wazuh 4's execd.
    #[must_use]
    pub fn execq(&self) -> PathBuf {
        self.path.join("queue/alerts/execq")
    }

    /// The queue of Wazuh 5's.
    #[must_use]
    pub fn execq5(&self) -> PathBuf {
        self.path.join("queue/sockets/execq")
    }

    /// Where the original's control program looks for running daemons.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.path.join("var/run")
    }

    /// Compiled components.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.own().join("cache")
    }

    /// What `install` replaced, byte for byte.
    #[must_use]
    pub fn replaced(&self) -> PathBuf {
        self.own().join("replaced")
    }
}
