//! Wazuh 5: the event document itself, with a `command` beside it.

use super::json::Json;
use super::{Echo, Malformed, Request};
use crate::alert::Alert;
use crate::event::{Action, Dialect};

pub(super) fn read(json: Json) -> Result<Request, Malformed> {
    let action = match command(&json)? {
        "enable" => Action::Add,
        "disable" => Action::Delete,
        other => return Err(Malformed::Action(other.to_owned())),
    };
    let response = json.at("wazuh.active_response")?;
    let member = |name: &str| match response {
        Some(response) => response.get(name),
        None => Ok(None),
    };
    let stateful = member("type")?.and_then(Json::as_str) == Some("stateful");
    let timeout = match member("stateful_timeout")? {
        Some(Json::Number(number)) if stateful => number.as_f64().map(seconds),
        _ => None,
    };
    let extra_args = match member("extra_arguments")? {
        Some(Json::String(text)) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        Some(array) => array.strings(),
        None => Vec::new(),
    };
    Ok(Request {
        dialect: Dialect::Wazuh5,
        action,
        alert: Alert::Wazuh5(json.clone()),
        extra_args,
        timeout,
        echo: Echo::Message(json),
    })
}

/// The message that execd would have made of this event.
#[must_use]
pub fn enable(mut event: Json) -> Json {
    if let Json::Object(members) = &mut event {
        members.retain(|(name, _)| !name.eq_ignore_ascii_case("command"));
        members.push(("command".to_owned(), Json::String("enable".to_owned())));
    }
    event
}

/// The command of a message; an event that brings a root `command` of its own makes
/// it ambiguous.
pub(super) fn command(json: &Json) -> Result<&str, Malformed> {
    if !json.get("wazuh")?.is_some_and(Json::is_object) {
        return Err(Malformed::Member("wazuh"));
    }
    json.get("command")?
        .and_then(Json::as_str)
        .ok_or(Malformed::Member("command"))
}

/// Whole seconds, as the original reads a number; none of a negative one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, which is what is wanted"
)]
fn seconds(number: f64) -> u32 {
    number as u32
}
