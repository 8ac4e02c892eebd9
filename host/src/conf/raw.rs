//! `retort.toml` as it is written, value by value. Each value checks itself while it
//! is read, so that an error knows its place.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::executable::Name;
use super::grants::{
    Argument, BackendName, Firewall, FirewallGrant, Grants, Helper, Mode, OnStop, Protected,
    Response, Target,
};
use crate::address;
use crate::event::{Action, Dialect, Expect, Field};
use crate::limits::Limits;

/// Between what is wrong and what to write.
pub(super) const WRITE: &str = "\n  write: ";

/// A helper that does not outlive the invocation is waited for.
const HELPER_WALL: Duration = Duration::from_secs(10);
/// A restart of all daemons takes a minute on a slow machine.
const DETACHED_WALL: Duration = Duration::from_secs(120);
/// The budget of one response.
const PER_MINUTE: u32 = 600;
/// A helper's name.
const LONGEST_HELPER_NAME: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    dialect: Option<Dialect>,
    mode: Option<Mode>,
    on_stop: Option<OnStop>,
    limits: Option<Spanned<RawLimits>>,
    ceilings: Option<RawLimits>,
    firewall: Option<RawFirewall>,
    #[serde(default)]
    response: BTreeMap<Spanned<String>, RawResponse>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    fuel: Option<u64>,
    memory: Option<Size>,
    wall: Option<Span>,
    host_calls: Option<u32>,
    log_bytes: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFirewall {
    backend: Option<Backend>,
    longest: Option<Span>,
    per_minute: Option<Rate>,
    #[serde(default)]
    protect: Vec<RawProtected>,
    #[serde(default)]
    nat64: Vec<Ipv6Net>,
    #[serde(default, rename = "protect_admin_sessions")]
    _protect_admin_sessions: Option<Off>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    sha256: Option<Digest>,
    expect: Option<Expect>,
    #[serde(default)]
    srcip: Vec<String>,
    mode: Option<Mode>,
    limits: Option<Spanned<RawLimits>>,
    firewall: Option<RawGrant>,
    #[serde(default)]
    hostname: bool,
    #[serde(default)]
    process: BTreeMap<HelperName, RawHelper>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    #[serde(default)]
    target: RawTarget,
    #[serde(default)]
    widest: Widest,
    per_minute: Option<Rate>,
    backend: Option<Backend>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Widest {
    ipv4: Option<Prefix<32>>,
    ipv6: Option<Prefix<128>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHelper {
    argv: Argv,
    #[serde(default)]
    detached: bool,
    wall: Option<Span>,
    on: Option<Vec<Action>>,
}

/// Where, and what is wrong there.
type Wrong = (usize, String);

impl File {
    pub(super) fn resolve(self) -> Result<Grants, Wrong> {
        let ceilings = over(Limits::default_ceilings(), self.ceilings.as_ref());
        let limits = within(Limits::default(), self.limits.as_ref(), &ceilings)?;
        let mut responses = BTreeMap::new();
        for (name, response) in self.response {
            let at = name.span().start;
            let name = name.into_inner();
            Name::parse(&name).map_err(|refused| (at, refused.to_string()))?;
            responses.insert(name, response.resolve(limits, &ceilings)?);
        }
        Ok(Grants {
            dialect: self.dialect.unwrap_or(Dialect::Ossec),
            mode: self.mode.unwrap_or(Mode::Enforce),
            on_stop: self.on_stop.unwrap_or(OnStop::Keep),
            limits,
            ceilings,
            firewall: self.firewall.map(RawFirewall::resolve).unwrap_or_default(),
            responses,
        })
    }
}

fn over(below: Limits, raw: Option<&RawLimits>) -> Limits {
    let Some(raw) = raw else { return below };
    Limits {
        fuel: raw.fuel.unwrap_or(below.fuel),
        memory: raw.memory.map_or(below.memory, |size| size.0),
        wall: raw.wall.map_or(below.wall, |span| span.0),
        host_calls: raw.host_calls.unwrap_or(below.host_calls),
        log_bytes: raw.log_bytes.map_or(below.log_bytes, |size| size.0),
    }
}

fn within(
    below: Limits,
    raw: Option<&Spanned<RawLimits>>,
    ceilings: &Limits,
) -> Result<Limits, Wrong> {
    let limits = over(below, raw.map(Spanned::get_ref));
    let at = raw.map_or(0, |raw| raw.span().start);
    let wall = humantime::format_duration;
    let too_high = if limits.fuel > ceilings.fuel {
        Some(("fuel", limits.fuel.to_string(), ceilings.fuel.to_string()))
    } else if limits.memory > ceilings.memory {
        Some((
            "memory",
            format!("\"{} B\"", limits.memory),
            format!("\"{} B\"", ceilings.memory),
        ))
    } else if limits.wall > ceilings.wall {
        Some((
            "wall",
            format!("\"{}\"", wall(limits.wall)),
            format!("\"{}\"", wall(ceilings.wall)),
        ))
    } else if limits.host_calls > ceilings.host_calls {
        Some((
            "host_calls",
            limits.host_calls.to_string(),
            ceilings.host_calls.to_string(),
        ))
    } else if limits.log_bytes > ceilings.log_bytes {
        Some((
            "log_bytes",
            format!("\"{} B\"", limits.log_bytes),
            format!("\"{} B\"", ceilings.log_bytes),
        ))
    } else {
        None
    };
    match too_high {
        None => Ok(limits),
        Some((what, asked, ceiling)) => Err((
            at,
            format!(
                "{what} = {asked} is above the ceiling of {ceiling}{WRITE}[ceilings]\n  {what} = {asked}"
            ),
        )),
    }
}

impl RawFirewall {
    fn resolve(self) -> Firewall {
        let usual = Firewall::default();
        Firewall {
            backend: self.backend.map_or(usual.backend, |backend| backend.0),
            longest: self.longest.map_or(usual.longest, |span| span.0),
            per_minute: self.per_minute.map_or(usual.per_minute, |rate| rate.0),
            protect: self
                .protect
                .into_iter()
                .map(|protected| protected.0)
                .collect(),
            nat64: self.nat64,
        }
    }
}

impl RawResponse {
    fn resolve(self, limits: Limits, ceilings: &Limits) -> Result<Response, Wrong> {
        Ok(Response {
            sha256: self.sha256.map(|digest| digest.0),
            expect: self.expect,
            srcip: self.srcip,
            mode: self.mode,
            limits: within(limits, self.limits.as_ref(), ceilings)?,
            firewall: self.firewall.map(|grant| FirewallGrant {
                target: grant.target.0,
                widest_ipv4: grant.widest.ipv4.map_or(32, |prefix| prefix.0),
                widest_ipv6: grant.widest.ipv6.map_or(128, |prefix| prefix.0),
                per_minute: grant.per_minute.map_or(PER_MINUTE, |rate| rate.0),
                backend: grant.backend.map(|backend| backend.0),
            }),
            hostname: self.hostname,
            process: self
                .process
                .into_iter()
                .map(|(name, helper)| (name.0, helper.resolve()))
                .collect(),
        })
    }
}

impl RawHelper {
    fn resolve(self) -> Helper {
        let usual = if self.detached {
            DETACHED_WALL
        } else {
            HELPER_WALL
        };
        Helper {
            argv: self.argv.0,
            detached: self.detached,
            wall: self.wall.map_or(usual, |span| span.0),
            on: self.on.unwrap_or_else(|| vec![Action::Add]),
        }
    }
}

/// Reads a text and makes something of it, or says what is wrong with it.
fn from_text<'de, D: Deserializer<'de>, T>(
    from: D,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    read(&text).map_err(D::Error::custom)
}

#[derive(Clone, Copy)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| match humantime::parse_duration(text) {
            Ok(span) if span.is_zero() => {
                Err(format!("it has to be longer than nothing{WRITE}\"5 s\""))
            }
            Ok(span) => Ok(Self(span)),
            Err(_) => Err(format!(
                "`{text}` is no duration{WRITE}\"5 s\" (or ms, m, h, d)"
            )),
        })
    }
}

#[derive(Clone, Copy)]
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            text.parse::<bytesize::ByteSize>()
                .map(|size| Self(size.0))
                .map_err(|_| format!("`{text}` is no size{WRITE}\"16 MiB\" (or KiB, B)"))
        })
    }
}

struct Rate(u32);

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u32::deserialize(from)? {
            0 => Err(D::Error::custom(format!(
                "a budget is at least 1: above it blocks get short, they do not end{WRITE}per_minute = {PER_MINUTE}"
            ))),
            rate => Ok(Self(rate)),
        }
    }
}

struct Prefix<const LONGEST: u8>(u8);

impl<'de, const LONGEST: u8> Deserialize<'de> for Prefix<LONGEST> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match u8::deserialize(from)? {
            prefix if prefix > LONGEST => Err(D::Error::custom(format!(
                "a prefix is not longer than {LONGEST}{WRITE}{LONGEST}"
            ))),
            prefix => Ok(Self(prefix)),
        }
    }
}

struct Backend(BackendName);

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| match text {
            "nftables" => Ok(Self(BackendName::Nftables)),
            "record" => Ok(Self(BackendName::Record)),
            other => Err(format!(
                "`{other}` is no backend that this version serves{WRITE}\"nftables\" or \"record\""
            )),
        })
    }
}

/// Sessions are not looked at yet; to accept a group here would promise it.
#[derive(Default)]
struct Off;

impl<'de> Deserialize<'de> for Off {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| match text {
            "off" => Ok(Self),
            other => Err(format!(
                "this version does not serve sessions of `{other}`{WRITE}\"off\""
            )),
        })
    }
}

struct RawProtected(Protected);

impl<'de> Deserialize<'de> for RawProtected {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            if let Some(network) = network(text) {
                return Ok(Self(Protected::Network(network)));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if text.chars().all(plain) && text.chars().any(|c| c.is_ascii_alphabetic()) {
                return Ok(Self(Protected::Name(text.to_owned())));
            }
            Err(format!(
                "`{text}` is no address, network or host name{WRITE}\"10.0.0.0/8\""
            ))
        })
    }
}

fn network(text: &str) -> Option<IpNet> {
    address::parse(text)
        .map(address::host)
        .or_else(|| text.parse().ok())
        .map(|n: IpNet| n.trunc())
}

struct RawTarget(Target);

impl Default for RawTarget {
    fn default() -> Self {
        Self(Target::Srcip)
    }
}

impl<'de> Deserialize<'de> for RawTarget {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a target is \"srcip\", \"any\" or a list of networks"
        )]
        enum Written {
            Word(String),
            List(Vec<String>),
        }
        let wrong = |text: &str| {
            D::Error::custom(format!(
                "`{text}` is no target{WRITE}\"srcip\" (or \"any\", or [\"192.0.2.0/24\"])"
            ))
        };
        match Written::deserialize(from)? {
            Written::Word(word) if word == "srcip" => Ok(Self(Target::Srcip)),
            Written::Word(word) if word == "any" => Ok(Self(Target::Any)),
            Written::Word(word) => Err(wrong(&word)),
            Written::List(list) => list
                .iter()
                .map(|text| network(text).ok_or_else(|| wrong(text)))
                .collect::<Result<_, _>>()
                .map(|networks| Self(Target::Networks(networks))),
        }
    }
}

struct Digest([u8; 32]);

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest)
                .map(|()| Self(digest))
                .map_err(|_| {
                    "a sha256 has 64 hexadecimal digits; `retort inspect` prints it".to_owned()
                })
        })
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct HelperName(String);

impl<'de> Deserialize<'de> for HelperName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from_text(from, |text| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if text.is_empty() || text.len() > LONGEST_HELPER_NAME || !text.chars().all(plain) {
                return Err(format!(
                    "`{text}` is no helper name: 1 to 64 letters, digits, `-`, `_`, `.`"
                ));
            }
            Ok(Self(text.to_owned()))
        })
    }
}

struct Argv(Vec<Argument>);

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = Vec::<String>::deserialize(from)?;
        if !written
            .first()
            .is_some_and(|program| program.starts_with('/'))
        {
            return Err(D::Error::custom(format!(
                "a helper's program is an absolute path: there is no PATH{WRITE}argv = [\"/usr/bin/program\"]"
            )));
        }
        if written.iter().any(|text| text.contains('\0')) {
            return Err(D::Error::custom("an argument can't hold a NUL byte"));
        }
        written
            .iter()
            .map(|text| argument(text))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

fn argument(text: &str) -> Result<Argument, String> {
    let fields = [Field::Srcip, Field::User, Field::Hostname, Field::Filename];
    if let Some(field) = fields
        .into_iter()
        .find(|field| text == format!("{{{field}}}"))
    {
        return Ok(Argument::Field(field));
    }
    if let Some(field) = fields
        .into_iter()
        .find(|field| text.contains(&format!("{{{field}}}")))
    {
        return Err(format!(
            "a placeholder is a whole argument, not a part of `{text}`{WRITE}\"{{{field}}}\""
        ));
    }
    if text.starts_with('{') && text.ends_with('}') {
        return Err(format!(
            "`{text}` is no placeholder{WRITE}\"{{srcip}}\", \"{{user}}\", \"{{hostname}}\" or \"{{filename}}\""
        ));
    }
    Ok(Argument::Fixed(text.to_owned()))
}
