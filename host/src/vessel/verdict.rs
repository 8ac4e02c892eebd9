//! How a run ended. A verdict says nothing about the world: what changed there
//! stands in the journal.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::Kind;

/// How a run ended, and by which bound if by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// The guest returned ok.
    Ok,
    /// The guest returned an error of its own.
    Error {
        /// The case.
        kind: Kind,
        /// The guest's text: show it escaped.
        reason: String,
    },
    /// All fuel was burnt.
    OutOfFuel,
    /// The epoch deadline came before the fuel was burnt.
    CpuTime,
    /// The wall-clock limit of the whole invocation.
    Wall,
    /// More linear memory than allowed.
    Memory,
    /// More table elements, tables, memories or instances than allowed.
    Table,
    /// Recursion past the stack.
    Stack,
    /// More host calls than allowed.
    HostCalls,
    /// More bytes in one host call than the host takes.
    HostBytes,
    /// More log text than allowed.
    LogBytes,
    /// More component handles than allowed.
    Handles,
    /// `wasi:cli/exit`.
    Exit {
        /// 0 for success.
        status: i32,
    },
    /// A trap: a panic, a bad access, an explicit `unreachable`.
    Trapped {
        /// The trap in wasmtime's words.
        what: String,
    },
    /// The guest was not started.
    NotRun {
        /// Why.
        what: String,
    },
    /// The host itself could not run the guest.
    Host {
        /// Why.
        what: String,
    },
}

impl Verdict {
    /// The short name that logs and journal use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error { .. } => "error",
            Self::OutOfFuel => "out-of-fuel",
            Self::CpuTime => "cpu-time",
            Self::Wall => "wall",
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Stack => "stack",
            Self::HostCalls => "host-calls",
            Self::HostBytes => "host-bytes",
            Self::LogBytes => "log-bytes",
            Self::Handles => "handles",
            Self::Exit { .. } => "exit",
            Self::Trapped { .. } => "trapped",
            Self::NotRun { .. } => "not-run",
            Self::Host { .. } => "host",
        }
    }

    /// Whether the guest says that it did its work.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok | Self::Exit { status: 0 })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { kind, reason } => write!(f, "error ({kind}: {reason})"),
            Self::Exit { status } => write!(f, "exit ({status})"),
            Self::Trapped { what } => write!(f, "trapped ({what})"),
            Self::NotRun { what } => write!(f, "not run ({what})"),
            Self::Host { what } => write!(f, "host ({what})"),
            plain => f.write_str(plain.name()),
        }
    }
}

/// What a run used of its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Fuel burnt.
    pub fuel: u64,
    /// The most bytes of linear memory at one time.
    pub memory: u64,
    /// Host calls that a grant opens.
    pub host_calls: u32,
    /// Bytes of log text.
    pub log_bytes: u64,
    /// Wall-clock time in the guest and its host calls.
    pub wall: Duration,
}

/// A bound that was hit inside a host call or the limiter: travels through
/// wasmtime as an error and comes out as its verdict.
#[derive(Debug, Clone, thiserror::Error)]
#[error("stopped: {0}")]
pub(super) struct Stop(pub(super) Verdict);
