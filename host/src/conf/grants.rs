//! `retort.toml`: what responses may do at most. Nothing is granted unless it
//! stands there; a key that is not known is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::executable::Name;
use super::nearest::nearest;
use super::{Problem, position, raw};
use crate::event::{Action, Dialect, Expect, Field};
use crate::limits::Limits;

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Grants {
    /// How selectors combine, and how `ossec.conf` is read.
    pub dialect: Dialect,
    /// Whether anything is changed at all.
    pub mode: Mode,
    /// What a daemon that stops does with its blocks.
    pub on_stop: OnStop,
    /// Limits of a response that has none of its own.
    pub limits: Limits,
    /// What a response may raise them to.
    pub ceilings: Limits,
    /// What holds for all blocks.
    pub firewall: Firewall,
    /// How a daemon takes orders.
    pub execd: Execd,
    /// What is run outside the vessel.
    pub legacy: Legacy,
    /// An offender who was quiet for that long begins the ladder anew.
    pub decay: Duration,
    /// Where the daemon writes its numbers for the node exporter.
    pub textfile: Option<PathBuf>,
    /// What `retort watch` follows.
    pub watch: Watch,
    /// By the component's file name without `.wasm`.
    pub responses: BTreeMap<String, Response>,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            dialect: Dialect::Ossec,
            mode: Mode::Enforce,
            on_stop: OnStop::Keep,
            limits: Limits::default(),
            ceilings: Limits::default_ceilings(),
            firewall: Firewall::default(),
            execd: Execd::default(),
            legacy: Legacy::default(),
            decay: Duration::from_secs(30 * 24 * 3600),
            textfile: None,
            watch: Watch::default(),
            responses: BTreeMap::new(),
        }
    }
}

impl Grants {
    /// What the response of `executable` may do, before anybody looked which of its
    /// components is there: the first that the file names.
    #[must_use]
    pub fn of_executable(&self, executable: &str) -> Response {
        let components = Name::parse(executable).map(|name| name.components());
        let components = components.unwrap_or_default();
        let mut names = components.iter().filter_map(|c| c.strip_suffix(".wasm"));
        let named = names.find(|name| self.responses.contains_key(*name));
        self.response(named.unwrap_or(executable))
    }

    /// What `response` may do: nothing, where the file does not name it.
    #[must_use]
    pub fn response(&self, response: &str) -> Response {
        self.responses
            .get(response)
            .cloned()
            .unwrap_or_else(|| Response {
                limits: self.limits,
                ..Response::default()
            })
    }
}

/// What `retort watch` follows, and what it leaves alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watch {
    /// The file with the alerts; none for the usual one.
    pub file: Option<PathBuf>,
    /// Rules whose alerts start no response.
    pub exclude_rules: Vec<u32>,
}

/// Whether effects happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They do.
    Enforce,
    /// They are written down and do not happen.
    Observe,
}

/// What a daemon that stops does with its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They stay until their deadline.
    Keep,
    /// They go, as ossec-execd's do.
    Release,
}

/// What holds for all blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Firewall {
    /// Where addresses are blocked.
    pub backend: BackendName,
    /// No hold lasts longer.
    pub longest: Duration,
    /// New blocks a minute, of all responses together; more are short ones.
    pub per_minute: u32,
    /// Never blocked.
    pub protect: Vec<Protected>,
    /// The group whose members are not blocked where they are logged in from.
    pub admin_sessions: Option<String>,
    /// NAT64 prefixes of this network, besides the well-known one.
    pub nat64: Vec<Ipv6Net>,
}

impl Default for Firewall {
    /// The budget of all is ten times that of one: a burst of one response does not
    /// ration the others.
    fn default() -> Self {
        Self {
            backend: BackendName::Nftables,
            longest: Duration::from_secs(7 * 24 * 3600),
            per_minute: 6000,
            protect: Vec::new(),
            admin_sessions: None,
            nat64: Vec::new(),
        }
    }
}

/// How a daemon takes orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execd {
    /// The queue's socket is taken from an original daemon that serves it.
    pub own_queue: bool,
    /// Runs of one response at one time.
    pub at_once: u32,
    /// Orders of one response that wait for their turn; more are refused.
    pub waiting: u32,
}

impl Default for Execd {
    /// Sixty-four at a time share a commit, and keep a slow helper from stopping its own response. An order takes
    /// about 1 KiB: the queue of a response at its fullest 16 MiB.
    fn default() -> Self {
        Self {
            own_queue: false,
            at_once: 64,
            waiting: 16_384,
        }
    }
}

/// What is run outside the vessel: programs of the original that have no component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Their names in `active-response/bin`.
    pub allow: BTreeSet<String>,
    /// Each is ended after that.
    pub wall: Duration,
}

impl Default for Legacy {
    /// A program that waits for a lock of its own takes half a minute.
    fn default() -> Self {
        Self {
            allow: BTreeSet::new(),
            wall: Duration::from_secs(60),
        }
    }
}

/// A firewall that this version serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendName {
    /// The kernel's.
    Nftables,
    /// The journal alone.
    Record,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nftables => "nftables",
            Self::Record => "record",
        })
    }
}

/// Something that is never blocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protected {
    /// A network.
    Network(IpNet),
    /// A host by its name.
    Name(String),
}

/// What one response may do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Response {
    /// No other file is loaded.
    pub sha256: Option<[u8; 32]>,
    /// What it sees at most; all of it where no `<command>` is in reach.
    pub expect: Option<Expect>,
    /// The alert fields that may be the srcip, in order; none for the usual ones.
    pub srcip: Vec<String>,
    /// Its own mode.
    pub mode: Option<Mode>,
    /// Its limits, below the ceilings.
    pub limits: Limits,
    /// Whether and what it may block.
    pub firewall: Option<FirewallGrant>,
    /// Whether it may ask for this host's name.
    pub hostname: bool,
    /// The helpers that it may start.
    pub process: BTreeMap<String, Helper>,
}

/// What a response may block.
#[derive(Debug, Clone, PartialEq)]
pub struct FirewallGrant {
    /// Which addresses.
    pub target: Target,
    /// The shortest prefix, IPv4.
    pub widest_ipv4: u8,
    /// The shortest prefix, IPv6.
    pub widest_ipv6: u8,
    /// New blocks a minute; more are short ones.
    pub per_minute: u32,
    /// Another backend than the usual one.
    pub backend: Option<BackendName>,
}

/// Which addresses a response may block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The one in its own event.
    Srcip,
    /// Any that is not protected.
    Any,
    /// Those in these networks.
    Networks(Vec<IpNet>),
}

/// A program that a response may start by its name here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// The program and its arguments.
    pub argv: Vec<Argument>,
    /// It outlives the invocation.
    pub detached: bool,
    /// It is ended after that.
    pub wall: Duration,
    /// The actions on which it may be started.
    pub on: Vec<Action>,
}

/// One argument of a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// As it stands.
    Fixed(String),
    /// The value of an expected field.
    Field(Field),
}

/// Reads `retort.toml`.
///
/// # Errors
/// What is not known or can't be honoured, with its place and the line to write.
pub fn parse(text: &str, file: &Path) -> Result<Grants, Box<Problem>> {
    let problem = |at: usize, message: &str| {
        let (line, column) = position(text.as_bytes(), at);
        let (what, fix) = message
            .split_once(raw::WRITE)
            .map_or((message, meant(message)), |(w, f)| (w, Some(f)));
        Box::new(Problem {
            file: file.to_owned(),
            line,
            column,
            number: None,
            what: what.trim().to_owned(),
            fix: fix.map(|fix| fix.trim().to_owned()),
        })
    };
    let raw: raw::File = toml::from_str(text)
        .map_err(|e| problem(e.span().map_or(0, |span| span.start), e.message()))?;
    raw.resolve().map_err(|(at, message)| problem(at, &message))
}

/// What somebody will have meant by a word that is none of those expected.
fn meant(message: &str) -> Option<&str> {
    let (unknown, known) = message.split_once(", expected ")?;
    let word = unknown.split('`').nth(1)?;
    nearest(word, known.split('`').skip(1).step_by(2))
}

#[cfg(test)]
mod tests;
