//! Every active response that an alert could start: fired, or why not.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::address;
use crate::alert::Alert;
use crate::cli::{Output, blocks};
use crate::conf::active_response::ActiveResponse;
use crate::conf::command::Command;
use crate::conf::{self, ossec::OssecConf};
use crate::decide::{self, selectors};
use crate::effect::broker::Broker;
use crate::event::{Action, Dialect};
use crate::message::{Echo, Request, json};
use crate::premises::Premises;
use crate::report;
use crate::respond;
use crate::root::Root;

/// One block, and what becomes of it.
#[derive(Serialize)]
struct Considered {
    command: String,
    line: u32,
    executable: String,
    fires: bool,
    why: String,
    location: Vec<String>,
    timeout: i32,
    /// What stands in the way although it fires.
    obstacles: Vec<String>,
}

pub(super) fn explain(root: &Root, file: &Path) -> anyhow::Result<Output> {
    let text =
        conf::read(file, json::LARGEST as u64).with_context(|| file.display().to_string())?;
    let json = json::parse(&text).with_context(|| file.display().to_string())?;
    let premises = Premises::read(root, None)?;
    let mut broker = blocks::broker(root)?;
    let request = Request {
        dialect: Dialect::Wazuh4,
        action: Action::Add,
        alert: Alert::of(json.clone()),
        extra_args: Vec::new(),
        timeout: None,
        echo: Echo::Message(json),
    };
    let rule = selectors::Rule::of(&request.alert);
    let mut human = format!(
        "rule {}, level {}, groups {}\n",
        rule.id.map_or_else(|| "?".to_owned(), |id| id.to_string()),
        rule.level
            .map_or_else(|| "?".to_owned(), |level| level.to_string()),
        report::escape(&rule.groups.join(" "), 512),
    );
    if premises.conf.disabled {
        human.push_str("active response is disabled on this host: nothing below runs\n");
    }
    let mut all = Vec::new();
    for block in &premises.conf.responses {
        let commands = &premises.conf.commands;
        let Some(command) = commands.iter().find(|c| c.name == block.command) else {
            continue;
        };
        let chosen = selectors::select(block, &rule, premises.grants.dialect);
        let obstacles = match chosen {
            Ok(_) => obstacles(&premises, &mut broker, command, &request),
            Err(_) => Vec::new(),
        };
        all.push(considered(block, command, chosen, obstacles));
    }
    for (line, command) in &premises.conf.switched_off {
        let command = report::escape(command, 128);
        let _ = writeln!(
            human,
            "ossec.conf:{line} {command}\n  does not fire: it is disabled"
        );
    }
    for one in &all {
        let _ = writeln!(human, "{}", in_words(one, &premises.conf));
    }
    if all.is_empty() && premises.conf.switched_off.is_empty() {
        human.push_str("ossec.conf has no <active-response> that names a command");
    }
    Output::new(human, &all)
}

fn considered(
    block: &ActiveResponse,
    command: &Command,
    chosen: Result<String, String>,
    obstacles: Vec<String>,
) -> Considered {
    let fires = chosen.is_ok();
    let location = block.location.iter().map(|place| match place {
        conf::active_response::Location::Local => "where the event was seen".to_owned(),
        conf::active_response::Location::Server => "on the manager".to_owned(),
        conf::active_response::Location::DefinedAgent => {
            format!("on agent {}", block.agent_id.as_deref().unwrap_or("?"))
        }
        conf::active_response::Location::All => "on every agent".to_owned(),
    });
    Considered {
        command: block.command.clone(),
        line: block.line,
        executable: command.executable.clone(),
        fires,
        why: chosen.unwrap_or_else(|why| why),
        location: location.collect(),
        timeout: block.timeout,
        obstacles,
    }
}

/// What would keep this host from doing it.
fn obstacles(
    premises: &Premises,
    broker: &mut Broker,
    command: &Command,
    request: &Request,
) -> Vec<String> {
    let mut obstacles = Vec::new();
    let files = conf::executable::Name::parse(&command.executable)
        .map(|name| name.components())
        .unwrap_or_default();
    let bin = premises.root.bin();
    let Some(file) = files.iter().find(|file| bin.join(file).exists()) else {
        obstacles.push(format!("there is no component for {}", command.executable));
        return obstacles;
    };
    let response = file.strip_suffix(".wasm").unwrap_or(file);
    let grants = premises.grants.response(response);
    let expect = respond::expects(&premises.conf, &command.executable, grants.expect.as_ref());
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    match decide::mask(request, &expect, &grants.srcip, &hostname.to_string_lossy()) {
        Err(declined) => obstacles.push(declined.to_string()),
        Ok(masked) => {
            let Some(srcip) = masked.event.srcip.filter(|_| grants.firewall.is_some()) else {
                return obstacles;
            };
            match broker.protect_list() {
                Ok(list) => obstacles.extend(
                    list.refuses(address::host(srcip))
                        .map(|why| format!("{srcip} is never blocked: {why}")),
                ),
                Err(refusal) => obstacles.push(refusal.reason),
            }
            let key = respond::key(&command.executable, &masked.event);
            let held = broker
                .journal()
                .ok()
                .and_then(|j| j.holds_of(response, &key, "").ok());
            if held.is_some_and(|holds| !holds.is_empty()) {
                obstacles.push(format!("{srcip} is held already: its deadline starts anew"));
            }
        }
    }
    obstacles
}

fn in_words(one: &Considered, conf: &OssecConf) -> String {
    let head = format!(
        "ossec.conf:{} {} ({})",
        one.line, one.command, one.executable
    );
    if !one.fires {
        return format!("{head}\n  does not fire: {}", report::escape(&one.why, 512));
    }
    let mut text = format!(
        "{head}\n  fires: {}\n  runs {}",
        report::escape(&one.why, 512),
        one.location.join(" and ")
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
    for obstacle in &one.obstacles {
        let _ = write!(text, "\n  but {}", report::escape(obstacle, 512));
    }
    text
}
