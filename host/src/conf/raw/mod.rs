//! `retort.toml` as it is written, value by value. Each value checks itself while it
//! is read, so that an error knows its place.

mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::executable::Name;
use super::grants::{
    Execd, Firewall, FirewallGrant, Grants, Helper, Legacy, Mode, OnStop, Response, Watch,
};
use crate::event::{Action, Dialect, Expect};
use crate::limits::Limits;
use values::{
    Absolute, AdminSessions, Argv, Backend, Digest, HelperName, LegacyName, Nat64, PER_MINUTE,
    Prefix, Rate, RawProtected, RawTarget, Size, Span,
};

/// Between what is wrong and what to write.
pub(super) const WRITE: &str = "\n  write: ";

/// A helper that does not outlive the invocation is waited for.
const HELPER_WALL: Duration = Duration::from_secs(10);
/// A restart of all daemons takes a minute on a slow machine.
const DETACHED_WALL: Duration = Duration::from_secs(120);
/// The least memory that a guest can have.
const ONE_PAGE: u64 = 64 << 10;
/// The shortest wall limit: the host keeps a part of it for its own last words, and a
/// busy machine needs some to start a process at all.
const SHORTEST_WALL: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    dialect: Option<Dialect>,
    mode: Option<Mode>,
    on_stop: Option<OnStop>,
    limits: Option<RawLimits>,
    ceilings: Option<RawLimits>,
    firewall: Option<RawFirewall>,
    #[serde(default)]
    execd: RawExecd,
    #[serde(default)]
    legacy: RawLegacy,
    #[serde(default)]
    repeated_offenders: RawOffenders,
    #[serde(default)]
    metrics: RawMetrics,
    #[serde(default)]
    watch: RawWatch,
    #[serde(default)]
    response: BTreeMap<Spanned<String>, RawResponse>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    fuel: Option<Spanned<u64>>,
    memory: Option<Spanned<Size>>,
    wall: Option<Spanned<Span>>,
    host_calls: Option<Spanned<u32>>,
    log_bytes: Option<Spanned<Size>>,
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
    nat64: Vec<Nat64>,
    protect_admin_sessions: Option<AdminSessions>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawExecd {
    #[serde(default)]
    own_queue: bool,
    at_once: Option<Rate>,
    waiting: Option<Rate>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLegacy {
    #[serde(default)]
    allow: Vec<LegacyName>,
    wall: Option<Span>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawOffenders {
    decay: Option<Span>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    textfile: Option<Absolute>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWatch {
    file: Option<Absolute>,
    #[serde(default)]
    exclude_rules: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawResponse {
    sha256: Option<Digest>,
    expect: Option<Expect>,
    #[serde(default)]
    srcip: Vec<String>,
    mode: Option<Mode>,
    limits: Option<RawLimits>,
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
            execd: self.execd.resolve(),
            legacy: self.legacy.resolve(),
            decay: self
                .repeated_offenders
                .decay
                .map_or(Grants::default().decay, |span| span.0),
            textfile: self.metrics.textfile.map(|path| path.0),
            watch: Watch {
                file: self.watch.file.map(|file| file.0),
                exclude_rules: self.watch.exclude_rules,
            },
            responses,
        })
    }
}

fn over(below: Limits, raw: Option<&RawLimits>) -> Limits {
    let Some(raw) = raw else { return below };
    let plain = |written: &Option<Spanned<u64>>| written.as_ref().map(|n| *n.get_ref());
    let size = |written: &Option<Spanned<Size>>| written.as_ref().map(|size| size.get_ref().0);
    let calls = raw.host_calls.as_ref().map(|n| *n.get_ref());
    let wall = raw.wall.as_ref().map(|span| span.get_ref().0);
    Limits {
        fuel: plain(&raw.fuel).unwrap_or(below.fuel),
        memory: size(&raw.memory).unwrap_or(below.memory),
        wall: wall.unwrap_or(below.wall),
        host_calls: calls.unwrap_or(below.host_calls),
        log_bytes: size(&raw.log_bytes).unwrap_or(below.log_bytes),
    }
}

/// The limits as written over those below, none above its ceiling.
fn within(below: Limits, raw: Option<&RawLimits>, top: &Limits) -> Result<Limits, Wrong> {
    let limits = over(below, raw);
    let at = |place: fn(&RawLimits) -> Option<usize>| raw.and_then(place).unwrap_or_default();
    let bytes = |size: u64| format!("\"{size} B\"");
    let span = |wall: Duration| format!("\"{}\"", humantime::format_duration(wall));
    let exceeds = |at: usize, what: &str, asked: String, ceiling: String| {
        let what = format!(
            "{what} = {asked} is above the ceiling of {ceiling}{WRITE}[ceilings]\n  {what} = {asked}"
        );
        Err((at, what))
    };
    if limits.fuel > top.fuel {
        let at = at(|raw| start(&raw.fuel));
        return exceeds(at, "fuel", limits.fuel.to_string(), top.fuel.to_string());
    }
    if limits.memory > top.memory {
        let at = at(|raw| start(&raw.memory));
        return exceeds(at, "memory", bytes(limits.memory), bytes(top.memory));
    }
    if limits.wall > top.wall {
        let at = at(|raw| start(&raw.wall));
        return exceeds(at, "wall", span(limits.wall), span(top.wall));
    }
    if limits.host_calls > top.host_calls {
        let at = at(|raw| start(&raw.host_calls));
        let (asked, ceiling) = (limits.host_calls.to_string(), top.host_calls.to_string());
        return exceeds(at, "host_calls", asked, ceiling);
    }
    if limits.log_bytes > top.log_bytes {
        let at = at(|raw| start(&raw.log_bytes));
        return exceeds(
            at,
            "log_bytes",
            bytes(limits.log_bytes),
            bytes(top.log_bytes),
        );
    }
    if limits.memory < ONE_PAGE {
        let what = format!(
            "memory = {} is less than one page{WRITE}memory = \"16 MiB\"",
            bytes(limits.memory)
        );
        return Err((at(|raw| start(&raw.memory)), what));
    }
    if limits.fuel == 0 || limits.host_calls == 0 {
        let place = at(|raw| start(&raw.fuel).or(start(&raw.host_calls)));
        let what =
            format!("a response needs some of it{WRITE}fuel = 10_000_000\n  host_calls = 64");
        return Err((place, what));
    }
    if limits.wall < SHORTEST_WALL {
        let (asked, least) = (span(limits.wall), span(SHORTEST_WALL));
        let what = format!(
            "wall = {asked} is shorter than the {least} that the host itself may need{WRITE}wall = {least}"
        );
        return Err((at(|raw| start(&raw.wall)), what));
    }
    Ok(limits)
}

fn start<T>(written: &Option<Spanned<T>>) -> Option<usize> {
    written.as_ref().map(|written| written.span().start)
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
            admin_sessions: self.protect_admin_sessions.and_then(|group| group.0),
            nat64: self.nat64.into_iter().map(|prefix| prefix.0).collect(),
        }
    }
}

impl RawExecd {
    fn resolve(self) -> Execd {
        let usual = Execd::default();
        Execd {
            own_queue: self.own_queue,
            at_once: self.at_once.map_or(usual.at_once, |rate| rate.0),
            waiting: self.waiting.map_or(usual.waiting, |rate| rate.0),
        }
    }
}

impl RawLegacy {
    fn resolve(self) -> Legacy {
        Legacy {
            allow: self.allow.into_iter().map(|name| name.0).collect(),
            wall: self.wall.map_or(Legacy::default().wall, |span| span.0),
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
