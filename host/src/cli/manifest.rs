//! What `install` put where, and what was there before: written before anything is
//! moved, so that a crash in the middle loses nothing.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::conf;
use crate::root::Root;

/// A line for every file of `active-response/bin`.
const LARGEST: u64 = 1 << 20;

/// What we put into `active-response/bin`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) placed: Vec<Placed>,
}

/// One file of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placed {
    /// Its name in `active-response/bin`.
    pub(super) name: String,
    /// Whether it is a link to this program, or a component.
    pub(super) kind: Kind,
    /// Something was there before, and is kept in `retort/replaced/<name>`.
    pub(super) replaced: bool,
    /// What we put there: the target of a link, the SHA-256 of a component. Anything
    /// else that stands there is somebody's.
    pub(super) content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Link,
    Component,
}

impl Manifest {
    fn path(root: &Root) -> PathBuf {
        root.own().join("installed.json")
    }

    /// The manifest; an empty one where nothing was installed yet.
    pub(super) fn read(root: &Root) -> anyhow::Result<Self> {
        let path = Self::path(root);
        match conf::read(&path, LARGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                let path = path.display();
                format!("{path}: move it away with `mv {path} {path}.broken`, then run `retort install`, which writes a new one")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// Writes it beside and renames it: there is always a whole one.
    pub(super) fn write(&self, root: &Root) -> anyhow::Result<()> {
        let path = Self::path(root);
        let draft = path.with_extension("draft");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &path).with_context(|| path.display().to_string())
    }

    pub(super) fn find(&self, name: &str) -> Option<&Placed> {
        self.placed.iter().find(|placed| placed.name == name)
    }

    pub(super) fn put(&mut self, placed: Placed) {
        self.placed.retain(|other| other.name != placed.name);
        self.placed.push(placed);
    }
}
