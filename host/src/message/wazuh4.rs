//! Wazuh 4.2 and later: a line of JSON, and a round trip over keys.

use serde::Serialize;

use super::json::Json;
use super::{Echo, Malformed, Request};
use crate::alert::Alert;
use crate::event::{Action, Dialect};

/// The longest line that execd reads as one.
pub const LONGEST_KEYS: usize = 8190;

pub(super) fn read(json: Json) -> Result<Request, Malformed> {
    let action = match command(&json)? {
        "add" => Action::Add,
        "delete" => Action::Delete,
        other => return Err(Malformed::Action(other.to_owned())),
    };
    let parameters = json
        .get("parameters")?
        .ok_or(Malformed::Member("parameters"))?;
    let alert = parameters
        .get("alert")?
        .cloned()
        .unwrap_or(Json::Object(Vec::new()));
    let extra_args = parameters
        .get("extra_args")?
        .map(Json::strings)
        .unwrap_or_default();
    Ok(Request {
        dialect: Dialect::Wazuh4,
        action,
        alert: Alert::Wazuh4(alert),
        extra_args,
        timeout: None,
        echo: Echo::Message(json),
    })
}

/// The command of a message that has all that the original requires.
pub(super) fn command(json: &Json) -> Result<&str, Malformed> {
    if !matches!(json.get("version")?, Some(Json::Number(_))) {
        return Err(Malformed::Member("version"));
    }
    for member in ["origin", "parameters"] {
        if !json.get(member)?.is_some_and(Json::is_object) {
            return Err(Malformed::Member(if member == "origin" {
                "origin"
            } else {
                "parameters"
            }));
        }
    }
    json.get("command")?
        .and_then(Json::as_str)
        .ok_or(Malformed::Member("command"))
}

/// The message that execd would have passed on for this alert.
#[must_use]
pub fn add(alert: Json, executable: &str, extra_args: &[String]) -> Json {
    let text = |text: &str| Json::String(text.to_owned());
    let object = |members: Vec<(&str, Json)>| {
        Json::Object(
            members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    };
    let node = ["cluster.node", "manager.name"]
        .iter()
        .find_map(|path| alert.at(path).ok()??.text());
    let origin = object(vec![
        ("name", Json::String(node.unwrap_or_default())),
        ("module", text("wazuh-execd")),
    ]);
    let program = format!("active-response/bin/{executable}");
    let parameters = object(vec![
        (
            "extra_args",
            Json::Array(extra_args.iter().map(|word| text(word)).collect()),
        ),
        ("alert", alert),
        ("program", Json::String(program)),
    ]);
    object(vec![
        ("version", Json::Number(1.into())),
        ("origin", origin),
        ("command", text("add")),
        ("parameters", parameters),
    ])
}

/// The line that asks execd about the keys of this block; it ends with a newline.
#[must_use]
pub fn check_keys(executable: &str, keys: &[String]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        version: u8,
        origin: Origin<'a>,
        command: &'a str,
        parameters: Parameters<'a>,
    }
    #[derive(Serialize)]
    struct Origin<'a> {
        name: &'a str,
        module: &'a str,
    }
    #[derive(Serialize)]
    struct Parameters<'a> {
        keys: &'a [String],
    }
    let line = Line {
        version: 1,
        origin: Origin {
            name: executable,
            module: "active-response",
        },
        command: "check_keys",
        parameters: Parameters { keys },
    };
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
