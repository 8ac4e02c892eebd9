//! The configuration of a daemon, read again when somebody changed it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::conf::ar::Entry;
use crate::conf::executable::Name;
use crate::conf::ossec::OssecConf;
use crate::premises::Premises;
use crate::registry::Registry;
use crate::root::Root;

/// See the module.
#[derive(Debug)]
pub struct Settings {
    /// What is configured.
    pub premises: Premises,
    /// Where responses are.
    pub registry: Registry,
    /// The lines of `ar.conf` by their names, in order.
    names: BTreeMap<String, Vec<Entry>>,
    /// The files as they were when they were read.
    stamp: Stamp,
}

/// What tells one version of a file from another; none where there is no file.
type Version = Option<(u64, u64, i64, i64, u64)>;

/// The versions of the three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp([Version; 3]);

impl Stamp {
    /// The files as they are now.
    #[must_use]
    pub fn of(root: &Root) -> Self {
        Self([
            version(&root.grants()),
            version(&root.ossec_conf()),
            version(&root.ar_conf()),
        ])
    }
}

/// The version of a file.
#[must_use]
pub fn version(path: &Path) -> Version {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.mtime(),
        meta.mtime_nsec().wrapping_add(meta.ctime_nsec()),
        meta.size(),
    ))
}

/// Where an executable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A component: it runs in the vessel.
    Component(PathBuf),
    /// A program of the original that the grants allow outside of it.
    Legacy(PathBuf),
    /// A program that nothing allows.
    NotAllowed(PathBuf),
    /// Nothing.
    Missing,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// As [`Premises::read`].
    pub fn read(root: &Root, retort: &Path) -> anyhow::Result<Self> {
        let stamp = Stamp::of(root);
        let premises = Premises::read(root, None)?;
        let registry = Registry::open(root, retort).context("open the responses")?;
        let mut names: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in &premises.ar {
            names
                .entry(entry.name.clone())
                .or_default()
                .push(entry.clone());
        }
        Ok(Self {
            premises,
            registry,
            names,
            stamp,
        })
    }

    /// What was there before and is gone, or empty: somebody is writing it just now, or has
    /// taken it away.
    #[must_use]
    pub fn lost(&self, before: &Self) -> Option<PathBuf> {
        let (root, was) = (&self.premises.root, &before.premises);
        let now = &self.premises;
        if was.conf != OssecConf::default() && now.conf == OssecConf::default() {
            return Some(root.ossec_conf());
        }
        (!was.ar.is_empty() && now.ar.is_empty()).then(|| root.ar_conf())
    }

    /// Whether the files are still those that were read.
    #[must_use]
    pub fn are(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp
    }

    /// The executable and the timeout of a name in `ar.conf`: of several lines the first
    /// whose file is there, with the timeout of the first, as execd has it.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(&str, u32)> {
        let lines = self.names.get(name)?;
        let first = lines.first()?;
        let there = lines
            .iter()
            .find(|line| self.place(&line.executable) != Place::Missing)
            .unwrap_or(first);
        Some((&there.executable, first.timeout))
    }

    /// Where an executable is.
    #[must_use]
    pub fn place(&self, executable: &str) -> Place {
        let Ok(name) = Name::parse(executable) else {
            return Place::Missing;
        };
        let bin = self.premises.root.bin();
        let component = name.components().into_iter().map(|file| bin.join(file));
        if let Some(path) = component.into_iter().find(|path| path.exists()) {
            return Place::Component(path);
        }
        let program = bin.join(name.as_str());
        let ours = std::fs::canonicalize(&program).ok() == std::env::current_exe().ok();
        if ours || !program.exists() {
            return Place::Missing;
        }
        if self.premises.grants.legacy.allow.contains(executable) {
            Place::Legacy(program)
        } else {
            Place::NotAllowed(program)
        }
    }
}
