//! `ar.conf`: the list that the manager writes and every execd reads.

use std::time::Duration;

use super::active_response::ActiveResponse;
use super::ossec::OssecConf;

/// The two lines that are always there.
const RESTART: &str =
    "restart-ossec0 - restart-ossec.sh - 0\nrestart-ossec0 - restart-ossec.cmd - 0\n";

/// The original cuts a name here.
const LONGEST_NAME: usize = 255;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The command's name with its timeout behind it.
    pub name: String,
    /// The file in `active-response/bin`.
    pub executable: String,
    /// Seconds; 0 for never.
    pub timeout: u32,
}

/// The longest timeout that an executable has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Longest {
    /// No line names it.
    NotNamed,
    /// One of its lines is never undone.
    Forever,
    /// The longest.
    After(Duration),
}

/// Reads the lines. One without both separators is skipped, as execd does.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Entry> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(line)
        .collect()
}

fn line(line: &str) -> Option<Entry> {
    let (name, rest) = line.split_once(" - ")?;
    let (executable, timeout) = rest.split_once(" - ")?;
    Some(Entry {
        name: cut(name).to_owned(),
        executable: executable.to_owned(),
        timeout: u32::try_from(atoi(timeout)).unwrap_or(0),
    })
}

/// The file as the manager of OSSEC writes it.
#[must_use]
pub fn render(conf: &OssecConf) -> String {
    let line = |response: &ActiveResponse| {
        let command = conf
            .commands
            .iter()
            .find(|command| command.name == response.command)?;
        let name = format!("{}{}", command.name, response.timeout);
        Some(format!(
            "{} - {} - {}\n",
            cut(&name),
            command.executable,
            response.timeout
        ))
    };
    let lines = conf.responses.iter().filter_map(line);
    std::iter::once(RESTART.to_owned()).chain(lines).collect()
}

/// The longest timeout of `executable` in the list.
#[must_use]
pub fn longest_timeout(entries: &[Entry], executable: &str) -> Longest {
    let timeouts = entries
        .iter()
        .filter(|e| e.executable == executable)
        .map(|e| e.timeout);
    timeouts.fold(Longest::NotNamed, |longest, timeout| {
        match (longest, timeout) {
            (Longest::Forever, _) | (_, 0) => Longest::Forever,
            (Longest::After(before), now) => Longest::After(before.max(seconds(now))),
            (Longest::NotNamed, now) => Longest::After(seconds(now)),
        }
    })
}

fn seconds(n: u32) -> Duration {
    Duration::from_secs(n.into())
}

fn cut(name: &str) -> &str {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    name.get(..end).unwrap_or(name)
}

/// C's `atoi`: blanks, a sign, digits; whatever follows is ignored. Bounded where
/// C's is undefined.
pub(super) fn atoi(text: &str) -> i32 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = digits
        .bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0_i32, |n, b| {
            n.saturating_mul(10)
                .saturating_add(i32::from(b.wrapping_sub(b'0')))
        });
    if negative {
        value.saturating_neg()
    } else {
        value
    }
}
