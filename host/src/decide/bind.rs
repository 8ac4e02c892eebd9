//! What becomes of each `<active-response>` block when an alert comes: where it runs,
//! with which fields, for how long; or why it does not run.
//!
//! This is what analysisd does before it tells an execd. What it looks at and
//! `alerts.json` does not carry is in `docs/watch.md`.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::index::Index;
use super::location::{self, Installation, Origin, Place};
use super::selectors::{self, Rule};
use super::{Declined, Masked, OWN_LOG};
use crate::address;
use crate::alert::Alert;
use crate::conf::Problem;
use crate::conf::active_response::ActiveResponse;
use crate::conf::command::Command;
use crate::conf::grants::Grants;
use crate::conf::keys::Keys;
use crate::conf::ossec::OssecConf;
use crate::conf::rules::Rules;
use crate::conf::white_list::WhiteList;
use crate::escape::escape;
use crate::event::{Action, Dialect, Event, Expect, Field};

/// What of an installation is not in `ossec.conf`.
#[derive(Debug, Clone)]
pub struct Site {
    /// What is installed.
    pub installation: Installation,
    /// Its agents.
    pub keys: Keys,
    /// Its rules.
    pub rules: Rules,
    /// This host's own name.
    pub hostname: String,
    /// What of it could not be read, and what that means.
    pub findings: Vec<Problem>,
}

/// A block that names a command, with all that is known of it before an alert comes.
#[derive(Debug, Clone)]
pub struct Block {
    /// What is written.
    pub response: ActiveResponse,
    /// The command that it names.
    pub command: Command,
    /// The fields that an alert must have: the command's, or those of the grants where
    /// a command of Wazuh does not say.
    pub expect: Expect,
    /// Where the grants look for the srcip.
    srcip: Vec<String>,
    identity: String,
}

impl Block {
    /// After that it is taken back; none where nobody asked for an end. What is to end
    /// before it began ends at once.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.response.timeout).unwrap_or_default();
        (self.response.timeout != 0).then(|| Duration::from_secs(seconds))
    }

    /// The same for the same block, wherever it stands in the file.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

/// One block, and what becomes of it.
#[derive(Debug)]
pub struct Bound<'a> {
    /// The block.
    pub block: &'a Block,
    /// It fires, or it does not.
    pub fate: Result<Fired, Unfired>,
}

/// A block that fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fired {
    /// The criteria that decided it, in words.
    pub why: String,
    /// What the command is shown.
    pub masked: Masked,
    /// Where it runs.
    pub places: Vec<Place>,
}

/// A block that does not fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfired {
    /// What kept it from it.
    pub cause: Cause,
    /// In words.
    pub why: String,
}

/// What keeps a block from firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It does not select the rule.
    Selector,
    /// The rule's level is 0.
    Level,
    /// The rule starts no response.
    Rule,
    /// `retort.toml` excludes the rule.
    Excluded,
    /// The alert comes from the log of the responses.
    OwnLog,
    /// The alert says two things, and nobody can tell where it comes from.
    Ambiguous,
    /// The alert's address is on the white list.
    WhiteList,
    /// The alert does not have what is expected.
    Absent,
    /// The alert has it, and it can't be what it is taken for.
    Unusable,
}

impl Cause {
    /// One word, for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Selector => "selector",
            Self::Level => "level",
            Self::Rule => "rule",
            Self::Excluded => "excluded",
            Self::OwnLog => "own-log",
            Self::Ambiguous => "ambiguous",
            Self::WhiteList => "white-list",
            Self::Absent => "absent",
            Self::Unusable => "unusable",
        }
    }
}

impl fmt::Display for Unfired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

fn unfired(cause: Cause, why: impl Into<String>) -> Unfired {
    let why = why.into();
    Unfired { cause, why }
}

/// See the module. Made once, asked for every alert.
#[derive(Debug)]
pub struct Binder {
    blocks: Vec<Block>,
    index: Index,
    dialect: Dialect,
    white_list: WhiteList,
    excluded: Vec<u32>,
    site: Site,
}

impl Binder {
    /// For these blocks, in this installation.
    #[must_use]
    pub fn new(conf: &OssecConf, grants: &Grants, site: Site) -> Self {
        let mut twins: HashMap<String, u32> = HashMap::new();
        let mut blocks: Vec<Block> = Vec::new();
        for response in &conf.responses {
            let Some(command) = conf.commands.iter().find(|c| c.name == response.command) else {
                continue;
            };
            let granted = grants.of_executable(&command.executable);
            let text = identity(response);
            let twin = twins.entry(text.clone()).or_default();
            blocks.push(Block {
                response: response.clone(),
                command: command.clone(),
                expect: command
                    .expect
                    .clone()
                    .or(granted.expect)
                    .unwrap_or_default(),
                srcip: granted.srcip,
                identity: format!("{text}{twin}"),
            });
            *twin = twin.saturating_add(1);
        }
        Self {
            index: Index::new(blocks.iter().map(|b| &b.response), grants.dialect),
            blocks,
            dialect: grants.dialect,
            white_list: conf.white_list.clone(),
            excluded: grants.watch.exclude_rules.clone(),
            site,
        }
    }

    /// The numbers of the blocks that select the rule, in order.
    #[must_use]
    pub fn select(&self, rule: &Rule) -> Vec<usize> {
        self.index.select(rule)
    }

    /// What becomes of the blocks that select the alert's rule, in order.
    #[must_use]
    pub fn bind(&self, alert: &Alert) -> Vec<Bound<'_>> {
        let rule = Rule::of(alert);
        let selected = self.select(&rule).into_iter();
        self.fates(selected.filter_map(|n| self.blocks.get(n)), alert, &rule)
    }

    /// What becomes of every block, in order, for people.
    #[must_use]
    pub fn explain(&self, alert: &Alert) -> Vec<Bound<'_>> {
        self.fates(self.blocks.iter(), alert, &Rule::of(alert))
    }

    fn fates<'a>(
        &self,
        blocks: impl Iterator<Item = &'a Block>,
        alert: &Alert,
        rule: &Rule,
    ) -> Vec<Bound<'a>> {
        let mut origin = None;
        let bound = blocks.map(|block| Bound {
            block,
            fate: selectors::select(&block.response, rule, self.dialect)
                .map_err(|why| unfired(Cause::Selector, why))
                .and_then(|why| {
                    let origin = origin.get_or_insert_with(|| self.admit(alert, rule));
                    self.fire(block, alert, why, origin.as_ref().map_err(Clone::clone)?)
                }),
        });
        bound.collect()
    }

    /// What holds for the alert whatever the block: where it comes from, or why it
    /// starts no response at all.
    fn admit(&self, alert: &Alert, rule: &Rule) -> Result<Origin, Unfired> {
        if rule.level == Some(0) {
            return Err(unfired(Cause::Level, "the level of the rule is 0"));
        }
        if let Some(id) = rule.id {
            if self.excluded.contains(&id) {
                let why = format!("retort.toml excludes rule {id} ([watch] exclude_rules)");
                return Err(unfired(Cause::Excluded, why));
            }
            if let Some(silent) = self.site.rules.silent(id) {
                let why = format!("rule {id} starts no response: {silent}");
                return Err(unfired(Cause::Rule, why));
            }
        }
        let origin = location::origin(alert, &self.site.keys)
            .map_err(|why| unfired(Cause::Ambiguous, why))?;
        if super::is_own(alert) {
            let why = format!("the alert comes from {OWN_LOG} itself");
            return Err(unfired(Cause::OwnLog, why));
        }
        // One that can't be read is said by whoever expects it.
        if let Ok(Some(text)) = alert.srcip_text(&[]) {
            self.spare(&text)?;
        }
        Ok(origin)
    }

    /// The white list, whether the address is expected or not.
    fn spare(&self, srcip: &str) -> Result<(), Unfired> {
        let refusal = match address::parse(srcip) {
            Some(address) => self.white_list.refuses(address::host(address)),
            None => self.white_list.refuses_name(srcip),
        };
        match refusal {
            Some(why) => Err(unfired(
                Cause::WhiteList,
                format!("{}: {why}", escape(srcip, 64)),
            )),
            None => Ok(()),
        }
    }

    fn fire(
        &self,
        block: &Block,
        alert: &Alert,
        why: String,
        origin: &Origin,
    ) -> Result<Fired, Unfired> {
        for field in &block.expect {
            spelling(*field, alert, &block.srcip)?;
        }
        let timeout = block.response.timeout;
        let event = Event {
            extra_args: block.command.extra_args.clone(),
            timeout: u32::try_from(timeout).ok().filter(|seconds| *seconds > 0),
            ..super::bare(alert, Action::Add)
        };
        let hostname = &self.site.hostname;
        let masked = super::show(event, alert, &block.expect, &block.srcip, hostname)
            .map_err(|declined| because(&declined, alert, &block.srcip))?;
        if let Some(srcip) = masked.event.srcip {
            self.spare(&srcip.to_string())?;
        }
        Ok(Fired {
            why,
            masked,
            places: location::places(&block.response, origin, self.site.installation),
        })
    }
}

/// The criteria of a block and what it starts, in one text.
fn identity(response: &ActiveResponse) -> String {
    let nowhere = ActiveResponse {
        line: 0,
        ..response.clone()
    };
    serde_json::to_string(&nowhere).unwrap_or_default()
}

/// What analysisd lets through of a user name and of an address; the numbers are those
/// of its warnings.
fn spelling(field: Field, alert: &Alert, srcip: &[String]) -> Result<(), Unfired> {
    let (number, text, besides) = match field {
        Field::Srcip => (1271, alert.srcip_text(srcip), ".:_-"),
        Field::User => (1272, alert.user(), "._@?-"),
        Field::Hostname | Field::Filename => return Ok(()),
    };
    match text {
        Ok(Some(text))
            if !text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || besides.contains(c)) =>
        {
            let text = escape(&text, 64);
            let why = format!(
                "({number}) `{text}` can't be the {field}: possibly an attack by way of the log"
            );
            Err(unfired(Cause::Unusable, why))
        }
        _ => Ok(()),
    }
}

fn because(declined: &Declined, alert: &Alert, srcip: &[String]) -> Unfired {
    let absent = match declined.field {
        Some(Field::Srcip) => alert.srcip_text(srcip) == Ok(None),
        Some(Field::User) => alert.user() == Ok(None),
        Some(Field::Filename) => alert.filename() == Ok(None),
        Some(Field::Hostname) | None => false,
    };
    let cause = if absent {
        Cause::Absent
    } else {
        Cause::Unusable
    };
    unfired(cause, declined.to_string())
}

#[cfg(test)]
mod tests;
