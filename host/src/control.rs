//! How a running daemon is asked: one line of JSON, one line back, over a socket in the
//! folder that is root's alone. Where no daemon answers whoever asks does it himself.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::effect::Record;
use crate::journal::Owner;
use crate::respond::Outcome;
use crate::root::Root;
use crate::status::Status;

/// The longest line: a message of 1 MiB, whose bytes may each become six.
pub const LONGEST: u64 = 8 << 20;

/// A daemon that does not take a question within this is none.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// How it is doing.
    Status,
    /// Every hold on this network goes.
    Unblock {
        /// The network.
        network: IpNet,
    },
    /// A network is blocked by hand.
    Block {
        /// The network.
        network: IpNet,
        /// For how long, in seconds; none for as long as a hold may last.
        seconds: Option<u64>,
    },
    /// What is due goes now.
    Sweep,
    /// An execd has started a link.
    Call(Box<Call>),
    /// What the execd said to the keys of the block.
    Consent {
        /// It said `continue`.
        goes_on: bool,
    },
}

/// A call of a link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Call {
    /// The executable.
    pub executable: String,
    /// OSSEC's words after the program, or Wazuh's line, one character a byte.
    pub words: Vec<String>,
    /// Whether it is a line.
    pub line: bool,
    /// The execd that will send the delete.
    pub owner: Option<Owner>,
}

/// What the daemon says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "told", content = "of", rename_all = "kebab-case")]
pub enum Told {
    /// How it is doing.
    Status(Box<Status>),
    /// What was done.
    Records(Vec<Record>),
    /// It can't be done.
    Refused(String),
    /// The execd has to be asked about these keys; [`Ask::Consent`] is the answer.
    Keys(Vec<String>),
    /// What came of a call.
    Outcome(Box<Outcome>),
    /// A call that did not become a run.
    NotRun {
        /// In words.
        why: String,
        /// It was right not to do it.
        rightly: bool,
    },
}

/// A conversation with the daemon.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<UnixStream>,
}

impl Conversation {
    /// Begins one; none where no daemon serves the installation.
    #[must_use]
    pub fn begin(root: &Root, patience: Duration) -> Option<Self> {
        let stream = UnixStream::connect(root.control()).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        Some(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and hears the answer.
    ///
    /// # Errors
    /// The system's; `TimedOut` when the daemon does not answer in time.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Told> {
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        let mut answer = Vec::new();
        let length = self
            .stream
            .by_ref()
            .take(LONGEST)
            .read_until(b'\n', &mut answer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Asks the daemon one thing; none where there is none.
///
/// # Errors
/// What it refuses, and what keeps it from answering.
pub fn ask(root: &Root, ask: &Ask, patience: Duration) -> Option<anyhow::Result<Told>> {
    let mut conversation = Conversation::begin(root, patience)?;
    Some(match conversation.ask(ask) {
        Ok(Told::Refused(why)) => Err(anyhow::Error::msg(why)),
        Ok(told) => Ok(told),
        Err(e) => Err(anyhow::anyhow!(
            "{}: the daemon does not answer: {e}; stop it, and ask again",
            root.control().display()
        )),
    })
}
