//! Every active response that an alert could start: fired, or why not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::address;
use crate::alert::Alert;
use crate::cli::{Output, blocks, dialect_name};
use crate::conf::active_response::{ActiveResponse, Location};
use crate::conf::{self, ossec::OssecConf};
use crate::decide;
use crate::decide::bind::{Binder, Block, Bound, Cause, Fired};
use crate::decide::location::Place;
use crate::decide::selectors::Rule;
use crate::effect::broker::Broker;
use crate::event::{Dialect, Field};
use crate::journal;
use crate::message::json;
use crate::premises::Premises;
use crate::report;
use crate::respond;
use crate::root::Root;

/// One block, and what becomes of it. Stable: members are added, and none is taken away.
#[derive(Serialize)]
struct Considered {
    command: String,
    line: u32,
    executable: String,
    /// It selects the rule.
    fires: bool,
    /// What selected it, or why nothing did.
    why: String,
    location: Vec<String>,
    timeout: i32,
    /// What stands in the way although it fires.
    obstacles: Vec<String>,
    /// What keeps it from firing: a word that programs can compare.
    cause: Option<&'static str>,
    /// Where its location is for this alert, in this installation.
    places: Vec<String>,
    /// The expected fields, as the command is shown them.
    fields: BTreeMap<Field, String>,
}

pub(super) fn explain(root: &Root, file: &Path) -> anyhow::Result<Output> {
    let text =
        conf::read(file, json::LARGEST as u64).with_context(|| file.display().to_string())?;
    let alert = Alert::of(json::parse(&text).with_context(|| file.display().to_string())?);
    let premises = Premises::read(root, None)?;
    let mut broker = blocks::broker(root)?;
    let site = premises.site();
    let findings = site.findings.clone();
    let binder = Binder::new(&premises.conf, &premises.grants, site);
    let mut all: Vec<Considered> = binder
        .explain(&alert)
        .into_iter()
        .map(|bound| considered(&premises, &mut broker, bound))
        .collect();
    let disabled = premises.conf.switched_off.iter();
    all.extend(disabled.map(|(line, command)| switched_off(&premises.conf, *line, command)));
    all.sort_by_key(|one| one.line);

    let mut human = heading(&premises, &Rule::of(&alert));
    for finding in findings {
        let _ = writeln!(human, "not looked at: {finding}");
    }
    for one in &all {
        let _ = writeln!(human, "{}", in_words(one, &premises.conf));
    }
    if all.is_empty() {
        human.push_str("ossec.conf has no <active-response> that names a command");
    }
    Output::new(human, &all)
}

fn heading(premises: &Premises, rule: &Rule) -> String {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    let mut text = format!(
        "rule {}, level {}, groups {}\n",
        or_none(rule.id.map(|id| id.to_string())),
        or_none(rule.level.map(|level| level.to_string())),
        report::escape(&rule.groups.join(" "), 512),
    );
    let dialect = premises.grants.dialect;
    let combine = match dialect {
        Dialect::Ossec => "level, group and id each fire",
        Dialect::Wazuh4 | Dialect::Wazuh5 => "level and group fire together, or id",
    };
    let _ = writeln!(text, "in the dialect {}: {combine}", dialect_name(dialect));
    if premises.conf.disabled {
        text.push_str("active response is disabled on this host: nothing runs here\n");
    }
    text
}

fn considered(premises: &Premises, broker: &mut Broker, bound: Bound<'_>) -> Considered {
    let Bound { block, fate } = bound;
    let mut one = Considered {
        command: block.command.name.clone(),
        line: block.response.line,
        executable: block.command.executable.clone(),
        fires: true,
        why: String::new(),
        location: locations(&block.response),
        timeout: block.response.timeout,
        obstacles: Vec::new(),
        cause: None,
        places: Vec::new(),
        fields: BTreeMap::new(),
    };
    match fate {
        Ok(fired) => {
            one.places = fired.places.iter().map(ToString::to_string).collect();
            one.obstacles = obstacles(premises, broker, block, &fired);
            let keys = fired.masked.keys.iter().cloned();
            one.fields = block.expect.iter().copied().zip(keys).collect();
            one.why = fired.why;
        }
        Err(unfired) => {
            one.fires = unfired.cause != Cause::Selector;
            one.cause = Some(unfired.cause.name());
            if one.fires {
                one.why = "it selects the rule".to_owned();
                one.obstacles.push(unfired.why);
            } else {
                one.why = unfired.why;
            }
        }
    }
    one
}

fn switched_off(conf: &OssecConf, line: u32, command: &str) -> Considered {
    let named = conf.commands.iter().find(|c| c.name == command);
    Considered {
        command: command.to_owned(),
        line,
        executable: named.map(|c| c.executable.clone()).unwrap_or_default(),
        fires: false,
        why: "it is disabled".to_owned(),
        location: Vec::new(),
        timeout: 0,
        obstacles: Vec::new(),
        cause: Some("disabled"),
        places: Vec::new(),
        fields: BTreeMap::new(),
    }
}

fn locations(response: &ActiveResponse) -> Vec<String> {
    let words = response.location.iter().map(|place| match place {
        Location::Local => "where the event was seen".to_owned(),
        Location::Server => "on the manager".to_owned(),
        Location::DefinedAgent => {
            format!("on agent {}", response.agent_id.as_deref().unwrap_or("?"))
        }
        Location::All => "on every agent".to_owned(),
    });
    words.collect()
}

/// What would keep this host from doing it.
fn obstacles(
    premises: &Premises,
    broker: &mut Broker,
    block: &Block,
    fired: &Fired,
) -> Vec<String> {
    let away = fired.places.iter().filter(|place| **place != Place::Here);
    let mut obstacles: Vec<String> = away
        .map(|place| format!("it can't be delivered {place}: agents are not reached from here"))
        .collect();
    if !fired.places.contains(&Place::Here) {
        return obstacles;
    }
    let executable = &block.command.executable;
    let files = conf::executable::Name::parse(executable)
        .map(|name| name.components())
        .unwrap_or_default();
    let bin = premises.root.bin();
    let Some(file) = files.iter().find(|file| bin.join(file).exists()) else {
        obstacles.push(format!("there is no component for {executable}"));
        return obstacles;
    };
    let response = file.strip_suffix(".wasm").unwrap_or(file);
    let grants = premises.grants.response(response);
    let expect = respond::expects(&premises.conf, executable, grants.expect.as_ref());
    let event = match decide::narrow(fired.masked.event.clone(), &expect, "") {
        Ok(event) => event,
        Err(declined) => {
            obstacles.push(declined.to_string());
            return obstacles;
        }
    };
    let Some(srcip) = event.srcip.filter(|_| grants.firewall.is_some()) else {
        return obstacles;
    };
    match broker.protect_list() {
        Ok(list) => obstacles.extend(
            list.refuses(address::host(srcip))
                .map(|why| format!("{srcip} is never blocked: {why}")),
        ),
        Err(refusal) => obstacles.push(refusal.reason),
    }
    let key = respond::key(executable, &event);
    let held = broker
        .journal()
        .ok()
        .and_then(|j| j.holds_of(response, &key, "").ok());
    if held.is_some_and(|holds| !holds.is_empty()) {
        obstacles.push(format!("{srcip} is held already: its deadline starts anew"));
    }
    let told = [
        offender(premises, broker, block, response, &key),
        budget(premises, broker, response),
    ];
    obstacles.extend(told.into_iter().flatten());
    obstacles
}

/// The step of the ladder that this would be.
fn offender(
    premises: &Premises,
    broker: &mut Broker,
    block: &Block,
    response: &str,
    key: &str,
) -> Option<String> {
    let ladder = &premises.conf.repeated_offenders;
    let timeout = block.timeout().filter(|_| !ladder.is_empty())?;
    let now = broker.now().ok()?;
    let journal = broker.journal().ok()?;
    let step = journal
        .next_step(&now, response, key, premises.grants.decay)
        .ok()?;
    let lasts = humantime::format_duration(journal::lasts(timeout, ladder, step));
    (step > 0)
        .then(|| format!("it is a repeated offender, on step {step} of the ladder: for {lasts}"))
}

/// What is spent of the budgets.
fn budget(premises: &Premises, broker: &mut Broker, response: &str) -> Option<String> {
    let grants = premises.grants.response(response);
    let (own, global) = (
        grants.firewall?.per_minute,
        premises.grants.firewall.per_minute,
    );
    let now = broker.now().ok()?;
    let journal = broker.journal().ok()?;
    let minute = std::time::Duration::from_secs(60);
    let of_response = journal.recent_blocks(&now, Some(response), minute).ok()?;
    let of_all = journal.recent_blocks(&now, None, minute).ok()?;
    (of_response >= own || of_all >= global).then(|| {
        format!(
            "the budget is spent ({of_response} of {own} blocks a minute for {response}, {of_all} of {global} in all): it would be blocked for 60 s only"
        )
    })
}

fn in_words(one: &Considered, conf: &OssecConf) -> String {
    let line = |text: &str| report::escape(text, 512);
    let mut text = format!("ossec.conf:{} {}", one.line, line(&one.command));
    if one.cause != Some("disabled") {
        let _ = write!(text, " ({})", line(&one.executable));
    }
    if !one.fires {
        let _ = write!(text, "\n  does not fire: {}", line(&one.why));
        return text;
    }
    let _ = write!(
        text,
        "\n  fires: {}\n  runs {}",
        line(&one.why),
        line(&one.location.join(" and "))
    );
    if one.timeout > 0 {
        let _ = write!(text, ", for {} s", one.timeout);
        if !conf.repeated_offenders.is_empty() {
            let minutes: Vec<String> = conf
                .repeated_offenders
                .iter()
                .map(ToString::to_string)
                .collect();
            let _ = write!(text, ", again for {} minutes", minutes.join(", "));
        }
    }
    if !one.places.is_empty() {
        let _ = write!(text, "\n  that is {}", line(&one.places.join(" and ")));
    }
    for (field, value) in &one.fields {
        let _ = write!(text, "\n  sees {field} {}", line(value));
    }
    for obstacle in &one.obstacles {
        let _ = write!(text, "\n  but {}", line(obstacle));
    }
    text
}
