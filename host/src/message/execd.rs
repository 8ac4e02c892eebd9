//! What comes through an execd's queue: one datagram, one order. OSSEC's is text, Wazuh's
//! a JSON object.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::json::{self, Json};
use super::{Malformed, Request, ossec, wazuh4, wazuh5};
use crate::event::Dialect;

/// The longest datagram that is read. Wazuh's execd reads 65 535 bytes, OSSEC's 6 143; a
/// longer one is cut there, and then is no order.
pub const LONGEST: usize = 65_535;

/// OSSEC's longest; what is behind it is lost.
const LONGEST_TEXT: usize = 6143;

/// Fields of OSSEC's text; more are dropped.
const FIELDS: usize = 29;

/// How a name is marked that stands for a file and not for a line of `ar.conf`.
const CUSTOM: char = '!';

/// What a datagram asks for.
#[derive(Debug, Clone)]
pub struct Called {
    /// Which line of `ar.conf`, or which file.
    pub name: Wanted,
    /// With what.
    pub body: Body,
    /// Who speaks: JSON is Wazuh's, whatever is configured.
    pub dialect: Dialect,
}

/// What is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A name in `ar.conf`.
    Named(String),
    /// A file in `active-response/bin`, without an end.
    Custom(String),
    /// The daemons themselves: `restart-wazuh`.
    Restart,
}

/// What the response is told.
#[derive(Debug, Clone)]
pub enum Body {
    /// OSSEC's fields: user, address, alert id, rule id, location, file name.
    Fields(Vec<OsString>),
    /// Wazuh's message.
    Message(Json),
}

/// Why a datagram is no order; with the number that the original gives it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No blank in a text.
    #[error("(1310): Invalid active response (execd) message '{0}'")]
    NoFields(String),
    /// Fewer than two fields.
    #[error("Invalid number of arguments ({0})")]
    TooFew(String),
    /// No JSON object.
    #[error("(1315): Invalid JSON message: {0}")]
    NotJson(Malformed),
    /// A JSON object that orders nothing.
    #[error("(1316): Invalid AR command: {0}")]
    NoCommand(Malformed),
    /// Nothing at all.
    #[error("(1310): an empty message")]
    Empty,
}

/// Reads a datagram as the execd of that dialect does.
///
/// # Errors
/// See [`Refused`].
pub fn read(datagram: &[u8], dialect: Dialect) -> Result<Called, Refused> {
    let text = datagram.split(|byte| *byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Err(Refused::Empty);
    }
    if dialect == Dialect::Ossec && text.first() != Some(&b'{') {
        return text_order(text.get(..LONGEST_TEXT).unwrap_or(text));
    }
    let json = json::parse(text).map_err(Refused::NotJson)?;
    let event = json
        .get("wazuh")
        .is_ok_and(|wazuh| wazuh.is_some_and(Json::is_object));
    if !event && dialect != Dialect::Wazuh5 {
        let name = member(&json, "command")?;
        return Ok(Called {
            name: wanted(&name),
            body: Body::Message(json),
            dialect: Dialect::Wazuh4,
        });
    }
    // execd puts its own beside it: an event that brings one chooses.
    if !matches!(json.get("command"), Ok(None)) {
        let twice = Malformed::Ambiguous("command".to_owned());
        return Err(Refused::NoCommand(twice));
    }
    let name = member(&json, "wazuh.active_response.executable")?;
    Ok(Called {
        name: Wanted::Custom(name),
        body: Body::Message(json),
        dialect: Dialect::Wazuh5,
    })
}

fn text_order(text: &[u8]) -> Result<Called, Refused> {
    let mut words = text.split(|byte| *byte == b' ');
    let name = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    let fields: Vec<OsString> = words
        .take(FIELDS)
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect();
    // A file that is named as such may go without.
    match fields.len() {
        0 if !name.starts_with(CUSTOM) => Err(Refused::NoFields(name)),
        1 if !name.starts_with(CUSTOM) => Err(Refused::TooFew(name)),
        _ => Ok(Called {
            name: wanted(&name),
            body: Body::Fields(fields),
            dialect: Dialect::Ossec,
        }),
    }
}

fn wanted(name: &str) -> Wanted {
    match name.strip_prefix(CUSTOM) {
        Some(file) => Wanted::Custom(file.to_owned()),
        None if name == "restart-wazuh" => Wanted::Restart,
        None => Wanted::Named(name.to_owned()),
    }
}

fn member(json: &Json, path: &'static str) -> Result<String, Refused> {
    let found = json.at(path).map_err(|e| Refused::NoCommand(e.into()))?;
    found
        .and_then(Json::as_str)
        .map(str::to_owned)
        .ok_or(Refused::NoCommand(Malformed::Member(path)))
}

impl Body {
    /// What the response is asked, the action being `add`.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn request(&self, program: &str, dialect: Dialect) -> Result<Request, Malformed> {
        match self {
            Self::Fields(fields) => ossec::from_argv(&argv(program, "add", fields)),
            Self::Message(json) if dialect == Dialect::Wazuh5 => {
                wazuh5::read(commanded(json, "enable"))
            }
            Self::Message(json) => wazuh4::read(forwarded(json, program, "add")),
        }
    }
}

/// The arguments of OSSEC's executable, the program first.
#[must_use]
pub fn argv(program: &str, action: &str, fields: &[OsString]) -> Vec<OsString> {
    [program.into(), action.into()]
        .into_iter()
        .chain(fields.iter().cloned())
        .collect()
}

/// The message as Wazuh's execd hands it on: another command, its own module, and the
/// program's name. What the sender wrote there is not believed.
#[must_use]
pub fn forwarded(json: &Json, program: &str, command: &str) -> Json {
    let mut json = commanded(json, command);
    if let Json::Object(members) = &mut json {
        for (name, value) in members {
            let Json::Object(inside) = value else {
                continue;
            };
            let (key, text) = match name.as_str() {
                "origin" => ("module", "wazuh-execd"),
                "parameters" => ("program", program),
                _ => continue,
            };
            let text = Json::String(text.to_owned());
            match inside.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) if key == "module" => *old = text,
                _ => {
                    inside.retain(|(name, _)| name != key);
                    inside.push((key.to_owned(), text));
                }
            }
        }
    }
    json
}

/// The message with another command: in its place, or behind everything.
#[must_use]
pub fn commanded(json: &Json, command: &str) -> Json {
    let mut json = json.clone();
    if let Json::Object(members) = &mut json {
        let text = Json::String(command.to_owned());
        match members.iter_mut().find(|(name, _)| name == "command") {
            Some((_, old)) => *old = text,
            None => members.push(("command".to_owned(), text)),
        }
    }
    json
}

/// The body as the journal keeps it.
#[must_use]
pub fn keep(body: &Body) -> String {
    match body {
        Body::Fields(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| text(field.as_bytes())).collect();
            serde_json::to_string(&fields).unwrap_or_default()
        }
        Body::Message(json) => serde_json::to_string(json).unwrap_or_default(),
    }
}

/// What [`keep`] kept.
///
/// # Errors
/// For what no [`keep`] wrote.
pub fn kept(text: &str) -> Result<Body, Malformed> {
    if text.starts_with('[') {
        let fields: Vec<String> =
            serde_json::from_str(text).map_err(|e| Malformed::NotJson(e.to_string()))?;
        let fields = fields.iter().map(|field| bytes(field)).collect();
        return Ok(Body::Fields(fields));
    }
    json::parse(text.as_bytes()).map(Body::Message)
}

/// Bytes as a text of one character for each: they come back as they were.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| char::from(*b)).collect()
}

/// The bytes of such a [`text`].
#[must_use]
pub fn bytes(text: &str) -> OsString {
    OsString::from_vec(text.chars().filter_map(|c| u8::try_from(c).ok()).collect())
}
