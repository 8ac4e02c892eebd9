//! `ossec.conf`: commands, active responses, white list and managers. Every other
//! section is somebody else's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::Problem;
use super::active_response::{ActiveResponse, Block};
use super::command::Command;
use super::nearest::nearest;
use super::rules::Sources;
use super::white_list::WhiteList;
use super::xml::{self, Element};
use crate::address;
use crate::event::{Dialect, Expect};

/// The sections of OSSEC. Wazuh has many more, and adds some with each release, so
/// there any name passes.
const SECTIONS: [&str; 15] = [
    "global",
    "rules",
    "syscheck",
    "rootcheck",
    "alerts",
    "email_alerts",
    "database_output",
    "syslog_output",
    "agentless",
    "localfile",
    "remote",
    "client",
    "command",
    "reports",
    "active-response",
];

/// A manager of this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// By its address.
    Ip(IpAddr),
    /// By its name.
    Name(String),
}

/// What `ossec.conf` says about active response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OssecConf {
    /// `<command>` blocks, in order.
    pub commands: Vec<Command>,
    /// `<active-response>` blocks that are not disabled, in order.
    pub responses: Vec<ActiveResponse>,
    /// Those that are: their lines, and the commands that they name.
    pub switched_off: Vec<(u32, String)>,
    /// A block without a command disables this host.
    pub disabled: bool,
    /// Minutes, from whichever block has them.
    pub repeated_offenders: Vec<u32>,
    /// Addresses that are never blocked.
    pub white_list: WhiteList,
    /// The managers of this agent.
    pub servers: Vec<Server>,
    /// Whether agents are listened to: a manager has `<remote>`.
    pub remote: bool,
    /// The files with the rules.
    pub rules: Sources,
    /// What is legal and yet not what its author will have meant.
    pub findings: Vec<Problem>,
}

impl OssecConf {
    /// The commands that run `executable`.
    pub fn commands_of<'a>(&'a self, executable: &'a str) -> impl Iterator<Item = &'a Command> {
        self.commands
            .iter()
            .filter(move |command| command.executable == executable)
    }

    /// What every command with that executable expects: a drop-in can't tell which of
    /// them was meant. None where no command says.
    #[must_use]
    pub fn expect_of(&self, executable: &str) -> Option<Expect> {
        self.commands_of(executable)
            .filter_map(|command| command.expect.clone())
            .reduce(|all, one| all.intersection(&one).copied().collect())
    }
}

/// Reads `ossec.conf`.
///
/// # Errors
/// What the real program refuses, except where the documented options are more
/// generous; `docs/compatibility.md` lists the differences.
pub fn parse(bytes: &[u8], file: &Path, dialect: Dialect) -> Result<OssecConf, Box<Problem>> {
    let roots = xml::parse(bytes, file)?;
    let mut conf = OssecConf::default();
    let mut blocks = Vec::new();
    for root in &roots {
        if root.name != "ossec_config" {
            return Err(unknown(root, file, &["ossec_config"]));
        }
        for section in &root.children {
            known(section, file, dialect)?;
            match section.name.as_str() {
                "command" => {
                    let command = Command::read(section, file, dialect, &mut conf.findings)?;
                    conf.commands.push(command);
                }
                "active-response" => {
                    let block = Block::read(section, file, &mut conf.findings)?;
                    blocks.push((section, block));
                }
                "global" => conf.read_white_list(section, file),
                "client" => conf.read_client(section, file)?,
                "remote" => conf.remote = true,
                "rules" | "ruleset" => conf.rules.read(section),
                _ => {}
            }
        }
    }
    for (section, block) in blocks {
        conf.take(section, block, file)?;
    }
    conf.compare_expects(file);
    Ok(conf)
}

impl OssecConf {
    fn take(&mut self, section: &Element, block: Block, file: &Path) -> Result<(), Box<Problem>> {
        if block.response.is_none() && section.all("command").next().is_none() {
            self.disabled |= block.disabled == Some(true);
        }
        if block.disabled == Some(true) {
            let named = section.all("command").last();
            let named = named.map(|command| (section.line, command.text.clone()));
            self.switched_off.extend(named);
        }
        if self.repeated_offenders.is_empty() {
            self.repeated_offenders = block.repeated_offenders;
        }
        let Some(response) = block.response else {
            return Ok(());
        };
        let command = self
            .commands
            .iter()
            .find(|command| command.name == response.command);
        let Some(command) = command else {
            return Err(Box::new(self.undefined(section, &response.command, file)));
        };
        if response.timeout != 0 && !command.timeout_allowed {
            let what = format!("Timeout not allowed for command: '{}'", command.name);
            let mut problem = section.problem(file, Some(1305), what);
            problem.fix = Some(format!(
                "<timeout_allowed>yes</timeout_allowed> in the command at line {}, or no <timeout> here",
                command.line
            ));
            return Err(Box::new(problem));
        }
        self.responses.push(response);
        Ok(())
    }

    fn undefined(&self, section: &Element, name: &str, file: &Path) -> Problem {
        let at = section.all("command").last().unwrap_or(section);
        let what =
            format!("Invalid command '{name}' in the active response: no <command> has that name");
        let mut problem = at.problem(file, Some(1303), what);
        let names = self.commands.iter().map(|command| command.name.as_str());
        problem.fix = Some(match nearest(name, names) {
            Some(nearest) => format!("<command>{nearest}</command>"),
            None => format!("a <command> block with <name>{name}</name> first"),
        });
        problem
    }

    fn read_white_list(&mut self, section: &Element, file: &Path) {
        let entries = section
            .children
            .iter()
            .filter(|o| matches!(o.name.as_str(), "white_list" | "allow_list"));
        for entry in entries {
            if !self.white_list.push(&entry.text) {
                let what = format!(
                    "`{}` is no address, network or host name: it protects nothing",
                    entry.text
                );
                let mut finding = entry.problem(file, None, what);
                finding.fix = Some("<white_list>10.0.0.0/8</white_list>".to_owned());
                self.findings.push(finding);
            }
        }
    }

    fn read_client(&mut self, section: &Element, file: &Path) -> Result<(), Box<Problem>> {
        for option in &section.children {
            match option.name.as_str() {
                "server-ip" | "server-hostname" => self.add_server(&option.text),
                "server" => option
                    .all("address")
                    .for_each(|address| self.add_server(&address.text)),
                "disable-active-response" => self.disabled |= yes_or_no(option, file)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn add_server(&mut self, text: &str) {
        let text = text.trim();
        if let Some(ip) = address::parse(text) {
            self.servers.push(Server::Ip(ip));
        } else if !text.is_empty() {
            self.servers.push(Server::Name(text.to_owned()));
        }
    }

    fn compare_expects(&mut self, file: &Path) {
        let executables: BTreeSet<&str> = self
            .commands
            .iter()
            .map(|c| c.executable.as_str())
            .collect();
        let mut findings = Vec::new();
        for executable in executables {
            let mut commands = self.commands_of(executable);
            let Some(first) = commands.next() else {
                continue;
            };
            if let Some(other) = commands.find(|other| other.expect != first.expect) {
                findings.push(Problem {
                    file: file.to_owned(),
                    line: other.line,
                    column: 1,
                    number: None,
                    what: format!(
                        "`{}` and `{}` run the same executable `{executable}` with different <expect>; it sees only what both expect",
                        first.name, other.name
                    ),
                    fix: None,
                });
            }
        }
        self.findings.extend(findings);
    }
}

fn known(section: &Element, file: &Path, dialect: Dialect) -> Result<(), Box<Problem>> {
    let name = section.name.as_str();
    let ours = matches!(name, "command" | "active-response");
    if dialect == Dialect::Ossec && !SECTIONS.contains(&name) {
        return Err(unknown(section, file, &SECTIONS));
    }
    if ours && section.children.is_empty() {
        let mut problem = *unknown(section, file, &[]);
        problem.fix = Some(format!("the options of <{name}>, or not even <{name}>"));
        return Err(Box::new(problem));
    }
    Ok(())
}

/// An element that is none of those which may stand there.
pub(super) fn unknown(element: &Element, file: &Path, known: &[&str]) -> Box<Problem> {
    let name = &element.name;
    let what = format!("Invalid element in the configuration: '{name}'");
    let mut problem = element.problem(file, Some(1230), what);
    problem.fix = nearest(name, known.iter().copied()).map(|nearest| format!("<{nearest}>"));
    Box::new(problem)
}

pub(super) fn yes_or_no(option: &Element, file: &Path) -> Result<bool, Box<Problem>> {
    match option.text.as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => {
            let what = format!("Invalid value for element '{}': {other}", option.name);
            let mut problem = option.problem(file, Some(1235), what);
            problem.fix = Some(format!("<{0}>yes</{0}> or <{0}>no</{0}>", option.name));
            Err(Box::new(problem))
        }
    }
}

#[cfg(test)]
mod tests;
