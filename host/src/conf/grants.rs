//! `retort.toml`: what responses may do at most. Nothing is granted unless it
//! stands there; a key that is not known is an error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

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
            responses: BTreeMap::new(),
        }
    }
}

impl Grants {
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
            nat64: Vec::new(),
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
            .map_or((message, None), |(w, f)| (w, Some(f)));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Grants, Box<Problem>> {
        parse(text, Path::new("retort.toml"))
    }

    fn refused(text: &str) -> Problem {
        *read(text).unwrap_err()
    }

    #[test]
    fn the_example_of_the_design_is_read() {
        let grants = read(
            r#"
dialect = "wazuh4"
mode = "observe"
[limits]
fuel = 10_000_000
memory = "16 MiB"
wall = "5 s"
host_calls = 64
log_bytes = "8 KiB"
[firewall]
backend = "nftables"
longest = "7 d"
protect = ["10.0.0.0/8", "vpn.example.org"]
protect_admin_sessions = "off"
[response.firewall-drop]
expect = ["srcip"]
srcip = ["data.srcip"]
firewall = { target = "srcip", widest = { ipv4 = 32, ipv6 = 128 }, per_minute = 600 }
[response.restart-ossec]
process.restart = { argv = ["/var/ossec/bin/ossec-control", "restart"], detached = true, wall = "120 s" }
[response.makelists]
expect = ["hostname", "username"]
hostname = true
process.makelists = { argv = ["/var/ossec/bin/ossec-makelists", "{user}"], on = ["add", "delete"] }
limits = { wall = "30 s" }
"#,
        )
        .unwrap();
        assert_eq!(grants.dialect, Dialect::Wazuh4);
        assert_eq!(grants.mode, Mode::Observe);
        assert_eq!(grants.limits, Limits::default());
        assert_eq!(grants.firewall.protect.len(), 2);
        let drop = grants.response("firewall-drop");
        assert_eq!(drop.firewall.unwrap().target, Target::Srcip);
        let restart = &grants.response("restart-ossec").process["restart"];
        assert!(restart.detached);
        assert_eq!(restart.wall, Duration::from_secs(120));
        assert_eq!(restart.on, [Action::Add]);
        let lists = grants.response("makelists");
        assert_eq!(
            lists.process["makelists"].argv[1],
            Argument::Field(Field::User)
        );
        assert_eq!(lists.limits.wall, Duration::from_secs(30));
        assert_eq!(lists.limits.fuel, Limits::default().fuel);
    }

    #[test]
    fn nothing_is_granted_to_whom_the_file_does_not_name() {
        let grants = read("[limits]\nfuel = 5\n").unwrap();
        let other = grants.response("other");
        assert_eq!(
            other,
            Response {
                limits: grants.limits,
                ..Response::default()
            }
        );
        assert_eq!(other.limits.fuel, 5);
    }

    #[test]
    fn each_mistake_has_its_place_and_its_line_to_write() {
        for (text, line, what, fix) in [
            ("mod = 1", 1, "unknown field `mod`", None),
            ("\n[limits]\nfuel = -1", 3, "invalid value", None),
            (
                "[limits]\nwall = \"5\"",
                2,
                "`5` is no duration",
                Some("\"5 s\""),
            ),
            (
                "[limits]\nwall = \"0 s\"",
                2,
                "longer than nothing",
                Some("\"5 s\""),
            ),
            (
                "[limits]\nmemory = \"much\"",
                2,
                "`much` is no size",
                Some("\"16 MiB\""),
            ),
            (
                "[firewall]\nbackend = \"hosts-deny\"",
                2,
                "`hosts-deny` is no backend",
                Some("\"nftables\" or \"record\""),
            ),
            (
                "[firewall]\nprotect_admin_sessions = \"wheel\"",
                2,
                "does not serve",
                Some("\"off\""),
            ),
            ("[firewall]\nper_minute = 0", 2, "at least 1", None),
            (
                "[firewall]\nprotect = [\"not a name\"]",
                2,
                "`not a name` is no address",
                Some("\"10.0.0.0/8\""),
            ),
            (
                "[response.x]\nfirewall = { target = \"all\" }",
                2,
                "`all` is no target",
                Some("\"srcip\""),
            ),
            (
                "[response.x]\nfirewall = { widest = { ipv4 = 33 } }",
                2,
                "longer than 32",
                None,
            ),
            (
                "[response.x]\nprocess.a = { argv = [\"sh\"] }",
                2,
                "absolute",
                Some("/usr"),
            ),
            (
                "[response.x]\nprocess.a = { argv = [] }",
                2,
                "absolute",
                Some("/usr"),
            ),
            (
                "[response.x]\nprocess.a = { argv = [\"/bin/x\", \"{pid}\"] }",
                2,
                "`{pid}` is no placeholder",
                Some("{user}"),
            ),
            (
                "[response.x]\nprocess.a = { argv = [\"/bin/x\", \"--u={user}\"] }",
                2,
                "whole argument",
                Some("\"{user}\""),
            ),
            (
                "[response.x]\nprocess.\"a b\" = { argv = [\"/bin/x\"] }",
                2,
                "no helper name",
                None,
            ),
            (
                "[response.\"../x\"]\nhostname = true",
                1,
                "holds a path separator",
                None,
            ),
            (
                "[response.x]\nlimits = { fuel = 2_000_000_000 }",
                2,
                "above the ceiling",
                Some("[ceilings]"),
            ),
            ("[response.x]\nsha256 = \"abc\"", 2, "64 hexadecimal", None),
            (
                "[response.x]\nexpect = [\"dstip\"]",
                2,
                "unknown variant `dstip`",
                None,
            ),
        ] {
            let problem = refused(text);
            assert_eq!(problem.line, line, "{text}: {problem}");
            assert!(problem.what.contains(what), "{text}: {problem}");
            if let Some(fix) = fix {
                assert!(
                    problem.fix.as_deref().unwrap_or_default().contains(fix),
                    "{text}: {problem}"
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,400}") {
            let _ = read(&text);
        }
    }
}
