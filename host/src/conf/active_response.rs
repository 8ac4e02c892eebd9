//! `<active-response>`: when a command is run, and where.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::Problem;
use super::ossec::{unknown, yes_or_no};
use super::xml::Element;

/// Entries of `<repeated_offenders>`; more are lost in the original, silently.
const LADDER: usize = 5;

/// The highest rule level of OSSEC.
const HIGHEST_LEVEL: u32 = 20;

/// Where a response runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// The agent that saw the event.
    Local,
    /// The manager.
    Server,
    /// The agent with `agent_id`.
    DefinedAgent,
    /// Every agent.
    All,
}

/// One `<active-response>` block that names a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveResponse {
    /// The command's name.
    pub command: String,
    /// Where it runs.
    pub location: BTreeSet<Location>,
    /// For `defined-agent`.
    pub agent_id: Option<String>,
    /// Rules of this level and above; 0 for no such criterion.
    pub level: u8,
    /// Rules of these groups.
    pub rules_group: Vec<String>,
    /// These rules.
    pub rules_id: Vec<u32>,
    /// Seconds, as `atoi` reads them: the original takes negative ones too.
    pub timeout: i32,
    /// Where it is.
    pub line: u32,
}

/// What one block says.
pub(super) struct Block {
    /// The response; none for a block that only sets options, or is disabled.
    pub(super) response: Option<ActiveResponse>,
    /// `<disabled>`, where there is one.
    pub(super) disabled: Option<bool>,
    /// Minutes.
    pub(super) repeated_offenders: Vec<u32>,
}

/// What may stand in a block.
const OPTIONS: [&str; 9] = [
    "disabled",
    "command",
    "location",
    "agent_id",
    "level",
    "rules_group",
    "rules_id",
    "timeout",
    "repeated_offenders",
];

impl Block {
    pub(super) fn read(
        block: &Element,
        file: &Path,
        findings: &mut Vec<Problem>,
    ) -> Result<Self, Box<Problem>> {
        let mut disabled = None;
        let mut options = Options::default();
        for option in &block.children {
            match option.name.as_str() {
                "disabled" => disabled = Some(yes_or_no(option, file)?),
                "command" => options.command = Some(option),
                "location" => options.location = Some(option),
                "agent_id" => options.agent_id = Some(option),
                "level" => options.level = Some(option),
                "rules_group" => options.rules_group = Some(option),
                "rules_id" => options.rules_id = Some(option),
                "timeout" => options.timeout = Some(option),
                "repeated_offenders" => options.repeated_offenders = Some(option),
                // Wazuh's agents keep their certificates' settings here.
                "ca_store" | "ca_verification" => {}
                _ => return Err(unknown(option, file, &OPTIONS)),
            }
        }
        let repeated_offenders = options
            .repeated_offenders
            .map(|o| ladder(o, file, findings))
            .unwrap_or_default();
        let named = options.command.is_some() || options.location.is_some();
        if disabled == Some(true)
            || (!named && (disabled.is_some() || !repeated_offenders.is_empty()))
        {
            return Ok(Self {
                response: None,
                disabled,
                repeated_offenders,
            });
        }
        let response = options.response(block, file, findings)?;
        Ok(Self {
            response,
            disabled,
            repeated_offenders,
        })
    }
}

#[derive(Default)]
struct Options<'a> {
    command: Option<&'a Element>,
    location: Option<&'a Element>,
    agent_id: Option<&'a Element>,
    level: Option<&'a Element>,
    rules_group: Option<&'a Element>,
    rules_id: Option<&'a Element>,
    timeout: Option<&'a Element>,
    repeated_offenders: Option<&'a Element>,
}

impl Options<'_> {
    fn response(
        &self,
        block: &Element,
        file: &Path,
        findings: &mut Vec<Problem>,
    ) -> Result<Option<ActiveResponse>, Box<Problem>> {
        let (Some(command), Some(location)) = (self.command, self.location) else {
            if self.repeated_offenders.is_some() {
                let what = "this block has repeated_offenders but no command or no location: only the ladder counts";
                findings.push(block.problem(file, None, what.to_owned()));
                return Ok(None);
            }
            let what = "Missing options in the active response configuration: `command` and `location` are required";
            let mut problem = block.problem(file, Some(1281), what.to_owned());
            problem.fix =
                Some("<command>firewall-drop</command><location>local</location>".to_owned());
            return Err(Box::new(problem));
        };
        let location = self::location(location, file)?;
        if location.contains(&Location::DefinedAgent) && self.agent_id.is_none() {
            let mut problem =
                block.problem(file, Some(1304), "No agent defined for response".to_owned());
            problem.fix = Some("<agent_id>001</agent_id>".to_owned());
            return Err(Box::new(problem));
        }
        Ok(Some(ActiveResponse {
            command: command.text.clone(),
            location,
            agent_id: self.agent_id.map(|option| option.text.clone()),
            level: self
                .level
                .map_or(Ok(0), |option| level(option, file, findings))?,
            rules_group: self
                .rules_group
                .map(|o| groups(o, file, findings))
                .unwrap_or_default(),
            rules_id: self
                .rules_id
                .map(|o| ids(o, file, findings))
                .unwrap_or_default(),
            timeout: self.timeout.map_or(0, |o| timeout(o, file, findings)),
            line: block.line,
        }))
    }
}

fn location(option: &Element, file: &Path) -> Result<BTreeSet<Location>, Box<Problem>> {
    let word = |word: &str| match word.to_ascii_lowercase().as_str() {
        "local" => Some(Location::Local),
        "server" | "as" | "analysisd" | "analysis-server" => Some(Location::Server),
        "defined-agent" => Some(Location::DefinedAgent),
        "all" | "any" => Some(Location::All),
        _ => None,
    };
    let words = option
        .text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|w| !w.is_empty());
    let locations: Option<BTreeSet<Location>> = words.map(word).collect();
    match locations {
        Some(locations) if !locations.is_empty() => Ok(locations),
        _ => {
            let what = format!("Invalid active response location: '{}'", option.text);
            let mut problem = option.problem(file, Some(1302), what);
            problem.fix =
                Some("<location>local</location> (or server, defined-agent, all)".to_owned());
            Err(Box::new(problem))
        }
    }
}

fn level(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> Result<u8, Box<Problem>> {
    let text = &option.text;
    let invalid = || {
        let what = format!("Invalid value for element 'level': {text}");
        let mut problem = option.problem(file, Some(1235), what);
        problem.fix = Some("<level>7</level> (0 to 20)".to_owned());
        Box::new(problem)
    };
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let level = wrapping(text);
    if text.len() > 2 || text.is_empty() {
        let what = format!("the original reads the level `{text}` as {level}");
        findings.push(option.problem(file, None, what));
    }
    u8::try_from(level)
        .ok()
        .filter(|l| u32::from(*l) <= HIGHEST_LEVEL)
        .ok_or_else(invalid)
}

/// Decimal digits as `atoi` of the original reads them: modulo 2^32.
fn wrapping(digits: &str) -> u32 {
    digits.bytes().fold(0_u32, |n, b| {
        n.wrapping_mul(10)
            .wrapping_add(u32::from(b.wrapping_sub(b'0')))
    })
}

fn timeout(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> i32 {
    let text = &option.text;
    let timeout = super::ar::atoi(text);
    if text.parse() != Ok(timeout) || timeout < 0 {
        let what = format!("the timeout `{text}` is read as {timeout} seconds");
        let mut finding = option.problem(file, None, what);
        finding.fix = Some("<timeout>600</timeout>".to_owned());
        findings.push(finding);
    }
    timeout
}

fn groups(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> Vec<String> {
    let text = &option.text;
    let what = if text.contains(['^', '$', '\\', '*', '+', '(', ')']) {
        Some("the original reads rules_group as a regular expression, retort as whole group names")
    } else if text.contains(',') {
        Some(
            "the original takes `,` in rules_group as a part of the text, retort as a separator; `|` means the same to both",
        )
    } else {
        None
    };
    findings.extend(what.map(|what| option.problem(file, None, what.to_owned())));
    text.split([',', '|'])
        .map(|g| g.trim().to_owned())
        .filter(|g| !g.is_empty())
        .collect()
}

fn ids(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> Vec<u32> {
    let parts = option
        .text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let mut ids = Vec::new();
    for part in parts {
        match part.parse() {
            Ok(id) => ids.push(id),
            Err(_) => {
                let what = format!("`{part}` in rules_id is no rule number; it is ignored");
                findings.push(option.problem(file, None, what));
            }
        }
    }
    ids
}

fn ladder(option: &Element, file: &Path, findings: &mut Vec<Problem>) -> Vec<u32> {
    let parts: Vec<&str> = option
        .text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let steps: Vec<u32> = parts
        .iter()
        .map_while(|part| u32::try_from(super::ar::atoi(part)).ok().filter(|n| *n > 0))
        .take(LADDER)
        .collect();
    let ascending = steps.is_sorted_by(|a, b| a < b);
    if steps.len() != parts.len() || !ascending {
        let what = format!(
            "repeated_offenders takes at most {LADDER} numbers of minutes, each larger than the one before; this is read as {steps:?}"
        );
        let mut finding = option.problem(file, None, what);
        finding.fix = Some("<repeated_offenders>30,60,120</repeated_offenders>".to_owned());
        findings.push(finding);
    }
    steps
}
