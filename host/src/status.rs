//! How an installation is doing: what stands, what is due, what a daemon has counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::journal::{Commits, Tallied};

/// See the module. Its JSON is stable: members are added, none is renamed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Status {
    /// The daemon that serves it; none where none does.
    pub daemon: Option<Serving>,
    /// What stands in the journal.
    pub journal: Tallied,
}

/// A running daemon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Serving {
    /// Its number.
    pub pid: u32,
    /// For how long it has run, in seconds.
    pub seconds: u64,
    /// Orders that wait for their turn.
    pub waiting: u64,
    /// Orders that run.
    pub running: u64,
    /// What it counted.
    pub counts: Counts,
    /// How long the journal took.
    pub commits: Commits,
    /// What `watch` heard, by name; nothing where execd's queue is served.
    #[serde(default)]
    pub alerts: BTreeMap<String, u64>,
}

/// What a daemon has counted since it started. Never by address: whoever attacks would
/// choose the labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Runs by response and how they ended.
    pub runs: BTreeMap<String, BTreeMap<String, u64>>,
    /// Effects that grants, protect list or action forbade, by response.
    pub denied: BTreeMap<String, u64>,
    /// Blocks above the budget: short ones.
    pub rationed: u64,
    /// Orders that came, good or bad.
    pub received: u64,
    /// Messages that were no order.
    pub malformed: u64,
    /// Orders that found no response.
    pub not_found: u64,
    /// Orders that found their response's queue full.
    pub refused: u64,
    /// Orders that were done before: a restart read them again.
    pub repeated: u64,
    /// Blocks that were undone at their time.
    pub undone: u64,
    /// The latest that one was undone after its deadline, in microseconds.
    pub latest_undo_us: u64,
    /// What was put right in the firewall.
    pub repaired: u64,
    /// Holds that were taken back without a guest: orphans, interrupted runs.
    pub swept: u64,
    /// Times that the queue was somebody else's, once a second.
    #[serde(default)]
    pub lost_queue: u64,
    /// Configurations that could not be read.
    pub misconfigured: u64,
}
