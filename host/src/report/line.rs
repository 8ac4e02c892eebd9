//! The lines.

use std::fmt::Write as _;

use jiff::ZonedDateTime;
use jiff::tz::TimeZone;

use crate::escape::{escape, is_hostile};
use crate::event::Dialect;
use crate::journal::Pending;
use crate::message::json::{self, Json};
use crate::message::{Echo, Request};

/// Words of OSSEC's line after the program: action, user, ip, alert id, rule id.
const WORDS: usize = 5;

/// The longest word or reason in a line.
const LONGEST_WORD: usize = 1024;

/// The folder that the decoders of both look for.
const BIN: &str = "active-response/bin";

/// The lines that the original writes when it starts.
#[must_use]
pub fn started(request: &Request, program: &str, now: &ZonedDateTime) -> Vec<String> {
    match &request.echo {
        Echo::Arguments(words) => {
            let mut line = format!("{} {}", date(now), word(program));
            for at in 0..WORDS {
                line.push(' ');
                line.push_str(&words.get(at).map(|w| word(w)).unwrap_or_default());
            }
            vec![line]
        }
        Echo::Message(json) => vec![
            wazuh_line(program, "Starting", now),
            wazuh_line(program, &echo(json, program, request.dialect), now),
        ],
    }
}

/// The lines that the original writes when it takes a block back at its time. The alert
/// is gone by then; what its rules look at is kept.
#[must_use]
pub fn undone(pending: &Pending, program: &str, now: &ZonedDateTime) -> Vec<String> {
    if pending.executable.is_empty() {
        return Vec::new();
    }
    let event = &pending.event;
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    if pending.dialect == Dialect::Ossec {
        let srcip = event.srcip.map(|ip| ip.to_string());
        let words = [
            "delete".to_owned(),
            or_none(&event.user),
            or_none(&srcip),
            or_none(&event.alert_id),
            or_none(&event.rule_id),
        ];
        let mut line = format!("{} {}", date(now), word(program));
        for text in words {
            line.push(' ');
            line.push_str(&word(&text));
        }
        return vec![line];
    }
    let json = serde_json::json!({
        "version": 1,
        "origin": { "name": "", "module": "wazuh-execd" },
        "command": "delete",
        "parameters": {
            "extra_args": event.extra_args,
            "alert": {
                "id": event.alert_id,
                "rule": { "id": event.rule_id, "level": event.rule_level },
                "data": { "srcip": event.srcip, "dstuser": event.user },
            },
        },
    });
    let message = json::parse(json.to_string().as_bytes());
    let told = message.map(|json| echo(&json, program, Dialect::Wazuh4));
    told.map(|text| wazuh_line(program, &text, now))
        .into_iter()
        .collect()
}

/// A line in the form of Wazuh's programs. `text` is escaped already.
#[must_use]
pub fn wazuh_line(program: &str, text: &str, now: &ZonedDateTime) -> String {
    let name = program.rsplit('/').next().unwrap_or(program);
    format!(
        "{} {BIN}/{}: {text}",
        now.strftime("%Y/%m/%d %H:%M:%S"),
        word(name)
    )
}

/// The message on one line, as JSON that means the same. In Wazuh 4 rules look at
/// `parameters.program`: it is ours, whatever the sender wrote.
#[must_use]
pub fn echo(json: &Json, program: &str, dialect: Dialect) -> String {
    let mut json = json.clone();
    let name = program.rsplit('/').next().unwrap_or(program);
    if dialect == Dialect::Wazuh4
        && let Json::Object(members) = &mut json
    {
        for (key, value) in members {
            if let (true, Json::Object(parameters)) =
                (key.eq_ignore_ascii_case("parameters"), value)
            {
                parameters.retain(|(key, _)| !key.eq_ignore_ascii_case("program"));
                parameters.push(("program".to_owned(), Json::String(format!("{BIN}/{name}"))));
            }
        }
    }
    let text = serde_json::to_string(&json).unwrap_or_default();
    // JSON's own escapes are left alone; what it lets through is put in its form.
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line
}

/// The date as `date` prints it in the C locale, which is what OSSEC's decoder
/// takes. It takes alphabetic zones alone: `+03` becomes UTC.
#[must_use]
pub fn date(now: &ZonedDateTime) -> String {
    let zone = now.strftime("%Z").to_string();
    let alphabetic = !zone.is_empty() && zone.chars().all(|c| c.is_ascii_alphabetic());
    let now = if alphabetic {
        now.clone()
    } else {
        now.with_time_zone(TimeZone::UTC)
    };
    now.strftime("%a %b %e %H:%M:%S %Z %Y").to_string()
}

/// How a call ended, for one line.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The response, or the executable where there is none.
    pub response: String,
    /// `add` or `delete`.
    pub action: String,
    /// How it ended.
    pub verdict: String,
    /// What was asked of the world, and what came of it.
    pub effects: Vec<String>,
    /// What was used.
    pub used: String,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// Our own line. It begins with an ISO date, which neither decoder takes.
#[must_use]
pub fn outcome_line(outcome: &Outcome, now: &ZonedDateTime) -> String {
    let mut line = format!(
        "{} retort: {} {}: {}",
        now.strftime("%Y-%m-%dT%H:%M:%S%:z"),
        word(&outcome.response),
        word(&outcome.action),
        escape(&outcome.verdict, LONGEST_WORD)
    );
    for effect in &outcome.effects {
        let _ = write!(line, "; {}", escape(effect, LONGEST_WORD));
    }
    for warning in &outcome.warnings {
        let _ = write!(line, "; WARNING: {}", escape(warning, LONGEST_WORD));
    }
    if !outcome.used.is_empty() {
        let _ = write!(line, " ({})", escape(&outcome.used, LONGEST_WORD));
    }
    line
}

/// One word: also its blanks are escaped, so that it stays one.
fn word(text: &str) -> String {
    escape(text, LONGEST_WORD).replace(' ', "\\x20")
}
