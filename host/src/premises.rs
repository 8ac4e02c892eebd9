//! An installation as it is configured: grants, `ossec.conf`, `ar.conf`, each
//! trusted as far as its owner is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::conf::grants::{self, Grants};
use crate::conf::keys::{self, Keys};
use crate::conf::ossec::{self, OssecConf};
use crate::conf::rules::Rules;
use crate::conf::{self, Problem, ar, init, trust};
use crate::decide::bind::Site;
use crate::decide::location::Installation;
use crate::effect::broker::World;
use crate::event::Dialect;
use crate::journal::Clock;
use crate::root::Root;

/// What lock, journal and kernel may each take of the wall clock: there are three
/// of them, and the guest wants some too.
const SHARES: u32 = 4;

/// See the module.
#[derive(Debug)]
pub struct Premises {
    /// Where it is.
    pub root: Root,
    /// What responses may do at most.
    pub grants: Grants,
    /// When they are asked for.
    pub conf: OssecConf,
    /// The timeouts that execd knows.
    pub ar: Vec<ar::Entry>,
}

impl Premises {
    /// Reads the installation at `root`. `speaker` is the dialect of the message that
    /// is to be answered: Wazuh's `ossec.conf` has more in it than OSSEC's.
    ///
    /// # Errors
    /// When something is not as it should be; the sentence says what mends it.
    pub fn read(root: &Root, speaker: Option<Dialect>) -> anyhow::Result<Self> {
        let grants = read_grants(root)?;
        let dialect = match speaker {
            Some(Dialect::Ossec) | None => grants.dialect,
            Some(wazuh) => wazuh,
        };
        let conf = read_ossec_conf(root, dialect)?;
        let ar = read_ar_conf(root)?;
        Ok(Self {
            root: root.clone(),
            grants,
            conf,
            ar,
        })
    }

    /// What decides, besides `ossec.conf`, where responses run and which rules start
    /// none. What of it can't be read is a finding: a response that runs once too often
    /// is better than none.
    #[must_use]
    pub fn site(&self) -> Site {
        let mut findings = Vec::new();
        let keys = read_keys(&self.root).unwrap_or_else(|problem| {
            findings.push(problem);
            Keys::default()
        });
        let mut rules = Rules::read(&self.root, &self.conf.rules, self.grants.dialect);
        findings.append(&mut rules.findings);
        let written = written_kind(&self.root);
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        Site {
            installation: Installation::of(written.as_deref(), self.conf.remote, &keys),
            keys,
            rules,
            hostname: hostname.to_string_lossy().into_owned(),
            findings,
        }
    }

    /// An installation of which nothing can be read: nothing is granted, and what is
    /// held can be given up.
    #[must_use]
    pub fn bare(root: &Root) -> Self {
        Self {
            root: root.clone(),
            grants: Grants::default(),
            conf: OssecConf::default(),
            ar: Vec::new(),
        }
    }

    /// What a broker has to know, for calls that take at most `wall`.
    #[must_use]
    pub fn world(&self, retort: &Path, wall: Duration) -> World {
        World {
            root: self.root.clone(),
            grants: self.grants.clone(),
            white_list: self.conf.white_list.clone(),
            servers: self.conf.servers.clone(),
            ar: self.ar.clone(),
            retort: retort.to_owned(),
            budget: wall.checked_div(SHARES).unwrap_or(wall),
            clock: Clock::System,
        }
    }
}

/// Whether there is a folder of ours, and whether it is root's alone.
///
/// # Errors
/// When it is not.
pub fn installed(root: &Root) -> anyhow::Result<()> {
    let own = root.own();
    if let Err(e) = std::fs::symlink_metadata(&own) {
        anyhow::bail!(
            "{}: {e}; nothing is installed here: run `retort --root {} install`",
            own.display(),
            root.path().display()
        );
    }
    trust::check(&own)?;
    Ok(())
}

/// The grants; the folder that they are in has to be root's alone.
///
/// # Errors
/// As [`Premises::read`].
pub fn read_grants(root: &Root) -> anyhow::Result<Grants> {
    let path = root.grants();
    installed(root)?;
    let bytes = match conf::read(&path, conf::RETORT_TOML) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Grants::default()),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    trust::check(&path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let (line, column) = conf::position(&bytes, e.valid_up_to());
        let path = path.display();
        anyhow::anyhow!("{path}:{line}:{column}: this is no UTF-8\n  write: the file in UTF-8")
    })?;
    Ok(grants::parse(text, &path)?)
}

/// `ossec.conf`; an empty one where there is none, as on some agents.
///
/// # Errors
/// As [`Premises::read`].
pub fn read_ossec_conf(root: &Root, dialect: Dialect) -> anyhow::Result<OssecConf> {
    let path = root.ossec_conf();
    match conf::read(&path, conf::OSSEC_CONF) {
        Ok(bytes) => Ok(ossec::parse(&bytes, &path, dialect)?),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(OssecConf::default()),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// `ar.conf`; an empty one where there is none yet.
///
/// # Errors
/// As [`Premises::read`].
pub fn read_ar_conf(root: &Root) -> anyhow::Result<Vec<ar::Entry>> {
    let path = root.ar_conf();
    match conf::read(&path, conf::AR_CONF) {
        Ok(bytes) => Ok(ar::parse(&bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// `client.keys`; without it there are no agents.
fn read_keys(root: &Root) -> Result<Keys, Problem> {
    let path = root.client_keys();
    match conf::read(&path, conf::CLIENT_KEYS) {
        Ok(bytes) => Ok(keys::parse(&bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Keys::default()),
        Err(e) => Err(Problem {
            file: path,
            line: 1,
            column: 1,
            number: None,
            what: format!("{e}; OSSEC's agents are not known by their ids"),
            fix: None,
        }),
    }
}

/// What an installer wrote down about this root. The file of the whole system may be
/// about another one.
fn written_kind(root: &Root) -> Option<String> {
    let [own, system] = root.init();
    let read = |path: &Path| Some(init::parse(&conf::read(path, conf::OSSEC_INIT).ok()?));
    let here = |init: &init::Init| init.directory.as_deref().map(Path::new) == Some(root.path());
    read(&own)
        .and_then(|init| init.kind)
        .or_else(|| read(&system).filter(here)?.kind)
}

/// This program's own file, through whatever link it was started.
///
/// # Errors
/// When the system does not say.
pub fn this_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find the program's own file")
}
