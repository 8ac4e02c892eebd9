//! OSSEC, and Wazuh up to 4.1: arguments.
//!
//! `PROGRAM add|delete user ip alert-id rule-id location… filename`. execd splits
//! its message at every single blank, so a location or a file name may arrive in
//! several pieces.

use std::ffi::OsString;

use super::{Echo, Malformed, Request};
use crate::alert::Alert;
use crate::event::{Action, Dialect, Event};

/// Where the location begins.
const LOCATION: usize = 6;

/// The characters before which the original puts a backslash.
const ESCAPED: &str = "\\\"' \t;`><|#*[]{}&$!:()";

/// Reads the arguments, the program's name first.
///
/// # Errors
/// Without `add` or `delete`.
pub fn from_argv(argv: &[OsString]) -> Result<Request, Malformed> {
    let words: Vec<String> = argv
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let action = match words.get(1).map(String::as_str) {
        Some("add") => Action::Add,
        Some("delete") => Action::Delete,
        Some(other) => return Err(Malformed::Action(other.to_owned())),
        None => return Err(Malformed::Arguments),
    };
    let field = |at: usize| words.get(at).and_then(|word| present(word));
    let (location, filename) = tail(words.get(LOCATION..).unwrap_or_default());
    Ok(Request {
        dialect: Dialect::Ossec,
        action,
        alert: Alert::Arguments {
            user: field(2),
            srcip: field(3),
            alert_id: field(4),
            rule_id: field(5),
            location,
            filename,
        },
        extra_args: Vec::new(),
        timeout: None,
        echo: Echo::Arguments(words.get(1..).unwrap_or_default().to_vec()),
    })
}

/// A field that is not expected is `-`; toward agents a file name is `(null)`.
fn present(word: &str) -> Option<String> {
    (!matches!(word, "" | "-" | "(null)")).then(|| word.to_owned())
}

/// The last word is the file name; the words before it whose blank was escaped
/// belong to it. The rest is the location.
fn tail(words: &[String]) -> (Option<String>, Option<String>) {
    let Some((last, mut location)) = words.split_last() else {
        return (None, None);
    };
    if location.is_empty() {
        return (present(last), None);
    }
    let mut filename = last.clone();
    while let Some((word, rest)) = location.split_last() {
        let backslashes = word.bytes().rev().take_while(|b| *b == b'\\').count();
        if backslashes.checked_rem(2) != Some(1) || rest.is_empty() {
            break;
        }
        filename = format!("{word} {filename}");
        location = rest;
    }
    (
        present(&location.join(" ")),
        present(&filename).map(|name| unescape(&name)),
    )
}

/// What execd would have started a program with for this event: the arguments after
/// its name. A field that the program is not shown is `-`.
#[must_use]
pub fn words(event: &Event) -> Vec<String> {
    let text = |field: Option<String>| field.unwrap_or_else(|| "-".to_owned());
    let message = [
        event.action.to_string(),
        text(event.user.clone()),
        text(event.srcip.map(|ip| ip.to_string())),
        text(event.alert_id.clone()),
        text(event.rule_id.clone()),
        text(event.location.clone()),
        text(event.filename.as_deref().map(escape)),
    ];
    message.join(" ").split(' ').map(str::to_owned).collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if ESCAPED.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match chars.peek() {
            Some(next) if c == '\\' && ESCAPED.contains(*next) => {
                plain.push(*next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}
