//! The messages that start a response, one file per dialect. What arrives tells
//! which: arguments are OSSEC's, a line of JSON is Wazuh's.

pub mod execd;
pub mod json;
pub mod lines;
pub mod ossec;
#[cfg(test)]
mod tests;
pub mod wazuh4;
pub mod wazuh5;

use sha2::{Digest as _, Sha256};

use crate::alert::Alert;
use crate::event::{Action, Dialect};
use json::{Ambiguous, Json};

pub use lines::Lines;

/// One call of an executable, read.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who speaks.
    pub dialect: Dialect,
    /// What is asked.
    pub action: Action,
    /// The alert, not masked yet.
    pub alert: Alert,
    /// The arguments of the configuration.
    pub extra_args: Vec<String>,
    /// Seconds until the undo, where the message says so.
    pub timeout: Option<u32>,
    /// What the log line repeats.
    pub echo: Echo,
}

/// What the original's log line repeats.
#[derive(Debug, Clone)]
pub enum Echo {
    /// The arguments after the program's name.
    Arguments(Vec<String>),
    /// The message.
    Message(Json),
}

impl Request {
    /// The digest of what add and delete of one block have in common, byte for byte,
    /// whatever was expected of the alert: execd sends the first message again with
    /// another command.
    #[must_use]
    pub fn origin(&self, executable: &str) -> String {
        let mut hasher = Sha256::new();
        let mut part = |text: &str| {
            hasher.update(text);
            hasher.update([0]);
        };
        part(executable);
        match &self.echo {
            Echo::Arguments(words) => words.iter().skip(1).for_each(|word| part(word)),
            Echo::Message(Json::Object(members)) => {
                for (name, value) in members {
                    if !name.eq_ignore_ascii_case("command") {
                        part(name);
                        part(&serde_json::to_string(value).unwrap_or_default());
                    }
                }
            }
            Echo::Message(_) => {}
        }
        hex::encode(hasher.finalize())
    }
}

/// What an execd answers to the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Go on.
    Continue,
    /// The block stands already.
    Abort,
}

/// Why a message is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Nothing arrived.
    #[error("nothing arrived on stdin")]
    Empty,
    /// Not JSON, or too deep, or too large.
    #[error("the message is no JSON object: {0}")]
    NotJson(String),
    /// A member is missing or of another type.
    #[error("the message has no usable `{0}`")]
    Member(&'static str),
    /// Two members claim to be the same.
    #[error("the message has more than one `{0}`, so it could mean either; it is refused")]
    Ambiguous(String),
    /// No action of this dialect.
    #[error("`{0}` is no action of this dialect")]
    Action(String),
    /// No arguments and no message.
    #[error("it was called without `add` or `delete`")]
    Arguments,
}

impl From<Ambiguous> for Malformed {
    fn from(ambiguous: Ambiguous) -> Self {
        Self::Ambiguous(ambiguous.0)
    }
}

/// Reads one line of JSON. The `wazuh` object makes it Wazuh 5's.
///
/// # Errors
/// See [`Malformed`]: then nothing is done, and above all nothing is released.
pub fn from_line(line: &[u8]) -> Result<Request, Malformed> {
    let json = json::parse(line)?;
    let request = if json.get("wazuh")?.is_some_and(Json::is_object) {
        wazuh5::read(json)
    } else {
        wazuh4::read(json)
    }?;
    if request.action == Action::Add && line.len() > json::LARGEST {
        return Err(json::too_large());
    }
    Ok(request)
}

/// Reads the execd's answer to the keys.
///
/// # Errors
/// See [`Malformed`].
pub fn reply(line: &[u8], dialect: Dialect) -> Result<Reply, Malformed> {
    let json = json::parse(line)?;
    let command = match dialect {
        Dialect::Wazuh5 => wazuh5::command(&json)?,
        Dialect::Ossec | Dialect::Wazuh4 => wazuh4::command(&json)?,
    };
    match command {
        "continue" => Ok(Reply::Continue),
        "abort" => Ok(Reply::Abort),
        other => Err(Malformed::Action(other.to_owned())),
    }
}
