//! What of an alert is to be done on this host.

use std::time::Instant;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Line;
use super::told::Told;
use crate::alert::Alert;
use crate::conf::Problem;
use crate::decide::bind::{Binder, Block, Bound, Cause, Fired};
use crate::decide::location::Place;
use crate::decide::selectors::Rule;
use crate::escape::escape;
use crate::event::Action;
use crate::message::json;
use crate::message::{self, Echo, Request};
use crate::order::Order;
use crate::premises::Premises;

/// What was heard, and what became of it. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Alerts.
    pub alerts: u64,
    /// Lines that are none.
    pub malformed: u64,
    /// Lines that are too long to be one.
    pub overlong: u64,
    /// Orders for this host.
    pub orders: u64,
    /// Responses that were to run elsewhere, or here although this host is disabled.
    pub undeliverable: u64,
    /// Responses that did not fire although their block selects the rule.
    pub declined: u64,
}

/// What to do, and what to say.
#[derive(Debug, Default)]
pub struct Answer {
    /// In the order of the blocks.
    pub orders: Vec<Order>,
    /// For the log; the same is said once a minute.
    pub said: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Watcher {
    binder: Binder,
    disabled: bool,
    findings: Vec<Problem>,
    counts: Counts,
    told: Told,
}

impl Watcher {
    /// Reads what decides besides `ossec.conf`: rules and agents.
    #[must_use]
    pub fn read(premises: &Premises) -> Self {
        let site = premises.site();
        Self {
            findings: site.findings.clone(),
            binder: Binder::new(&premises.conf, &premises.grants, site),
            disabled: premises.conf.disabled,
            counts: Counts::default(),
            told: Told::default(),
        }
    }

    /// What could not be read, and what that means.
    #[must_use]
    pub fn findings(&self) -> &[Problem] {
        &self.findings
    }

    /// What was heard so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Goes on counting where another left off, after a reload.
    #[must_use]
    pub fn counting_from(mut self, counts: Counts) -> Self {
        self.counts = counts;
        self
    }

    /// A line was too long.
    pub fn skip(&mut self, bytes: u64, now: Instant) -> Option<String> {
        add(&mut self.counts.overlong, 1);
        self.say((None, 0, "overlong"), now, || {
            format!("a line of {bytes} bytes is too long for an alert, and was skipped")
        })
    }

    /// What is to be done about a line.
    pub fn hear(&mut self, line: &Line, now: Instant) -> Answer {
        if line.bytes.iter().all(u8::is_ascii_whitespace) {
            return Answer::default();
        }
        let json = json::parse(&line.bytes).map_err(|why| why.to_string());
        match json.and_then(|json| usable(Alert::of(json))) {
            Ok(alert) => {
                add(&mut self.counts.alerts, 1);
                self.answer(line, &alert, now)
            }
            Err(why) => {
                add(&mut self.counts.malformed, 1);
                let text = escape(&String::from_utf8_lossy(&line.bytes), 80);
                let said = self.say((None, 0, "malformed"), now, || {
                    format!("a line is no alert: {why}: {text}")
                });
                Answer {
                    orders: Vec::new(),
                    said: said.into_iter().collect(),
                }
            }
        }
    }

    fn answer(&mut self, line: &Line, alert: &Alert, now: Instant) -> Answer {
        let mut answer = Answer::default();
        let rule = Rule::of(alert).id;
        let mut news = Vec::new();
        for Bound { block, fate } in self.binder.bind(alert) {
            let at = block.response.line;
            match fate {
                Err(unfired) => {
                    add(&mut self.counts.declined, 1);
                    if let Some(what) = to_be_said(unfired.cause) {
                        news.push(((rule, at, what), head(block, alert) + &unfired.why));
                    }
                }
                Ok(fired) => {
                    for place in &fired.places {
                        if *place == Place::Here && !self.disabled {
                            answer.orders.push(order(line, alert, block, &fired));
                            continue;
                        }
                        add(&mut self.counts.undeliverable, 1);
                        let (what, why) = undeliverable(place);
                        news.push(((rule, at, what), head(block, alert) + &why));
                    }
                }
            }
        }
        let orders = u64::try_from(answer.orders.len()).unwrap_or(u64::MAX);
        add(&mut self.counts.orders, orders);
        let said = news
            .into_iter()
            .filter_map(|(key, text)| self.say(key, now, || text));
        answer.said = said.collect();
        answer
    }

    fn say(
        &mut self,
        key: super::told::Key,
        now: Instant,
        text: impl FnOnce() -> String,
    ) -> Option<String> {
        Some(match self.told.say(key, now)? {
            0 => text(),
            more => format!("{} (and {more} more since this was said last)", text()),
        })
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

/// An alert that names no rule selects nothing, so something is wrong with it.
fn usable(alert: Alert) -> Result<Alert, String> {
    let rule = Rule::of(&alert);
    if rule.id.is_none() && rule.level.is_none() && rule.groups.is_empty() {
        return Err("it names no rule".to_owned());
    }
    Ok(alert)
}

fn head(block: &Block, alert: &Alert) -> String {
    let or_none = |text: Option<String>| text.map_or("?".to_owned(), |text| escape(&text, 64));
    format!(
        "rule {}, alert {}: {} (ossec.conf:{}) ",
        or_none(alert.rule_id()),
        or_none(alert.alert_id()),
        escape(&block.command.name, 128),
        block.response.line
    )
}

/// Rules that are to start nothing start nothing, and nobody has to be told.
fn to_be_said(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::Selector | Cause::Level | Cause::Rule | Cause::Excluded | Cause::OwnLog => None,
        Cause::Ambiguous | Cause::WhiteList | Cause::Absent | Cause::Unusable => Some(cause.name()),
    }
}

fn undeliverable(place: &Place) -> (&'static str, String) {
    if *place == Place::Here {
        let why = "does not run: active response is disabled on this host";
        return ("disabled", why.to_owned());
    }
    let why =
        format!("can't be delivered: it is to run {place}, and agents are not reached from here");
    ("away", why)
}

fn order(line: &Line, alert: &Alert, block: &Block, fired: &Fired) -> Order {
    let event = &fired.masked.event;
    let executable = &block.command.executable;
    let extra_args = block.command.extra_args.clone();
    let echo = match (alert, alert.json()) {
        (Alert::Wazuh4(_), Some(json)) => {
            Echo::Message(message::wazuh4::add(json.clone(), executable, &extra_args))
        }
        (Alert::Wazuh5(_), Some(json)) => Echo::Message(message::wazuh5::enable(json.clone())),
        _ => Echo::Arguments(message::ossec::words(event)),
    };
    Order {
        executable: executable.clone(),
        request: Request {
            dialect: alert.dialect(),
            action: Action::Add,
            alert: alert.clone(),
            extra_args,
            timeout: event.timeout,
            echo,
        },
        timeout: block.timeout(),
        expect: block.command.expect.clone(),
        raw: None,
        once: once(line, alert, block),
        ticket: 0,
    }
}

/// The same alert and the same block make the same digest. An alert's id is its
/// writer's; one without is the one that stands at its place, and in a pipe there is no
/// place.
fn once(line: &Line, alert: &Alert, block: &Block) -> Option<String> {
    let which = match (alert.alert_id(), &line.place) {
        (Some(id), _) => format!("id {id}"),
        (None, Some(place)) => {
            let file = &place.behind;
            format!("at {} {} {}", file.device, file.inode, place.begins)
        }
        (None, None) => return None,
    };
    let mut hasher = Sha256::new();
    for part in [which.as_bytes(), block.identity().as_bytes(), &line.bytes] {
        hasher.update(u64::try_from(part.len()).unwrap_or_default().to_le_bytes());
        hasher.update(part);
    }
    Some(hex::encode(hasher.finalize()))
}
