//! The bounds of one invocation. They are always on: configuration lowers them,
//! or raises them up to the ceilings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one invocation may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Instructions, in wasmtime's fuel.
    pub fuel: u64,
    /// Bytes of linear memory, all memories together.
    pub memory: u64,
    /// Everything: handshake, locks, host calls, guest.
    pub wall: Duration,
    /// Calls of imports that a grant opens (log lines count in bytes alone).
    pub host_calls: u32,
    /// Bytes of log text.
    pub log_bytes: u64,
}

impl Default for Limits {
    /// An ordinary response uses about 1 000 fuel and two host calls.
    fn default() -> Self {
        Self {
            fuel: 10_000_000,
            memory: 16 << 20,
            wall: Duration::from_secs(5),
            host_calls: 64,
            log_bytes: 8 << 10,
        }
    }
}

impl Limits {
    /// What a response may raise its limits to unless `[ceilings]` says otherwise:
    /// about a third of a second of CPU, room for an interpreter, a patient wall.
    #[must_use]
    pub fn default_ceilings() -> Self {
        Self {
            fuel: 1_000_000_000,
            memory: 256 << 20,
            wall: Duration::from_secs(60),
            host_calls: 4096,
            log_bytes: 256 << 10,
        }
    }
}
