//! What came of a request.

use serde::{Deserialize, Serialize};

use crate::decide::Declined;
use crate::effect::{Effect, Record};
use crate::event::Event;
use crate::registry::{self, Loaded};
use crate::vessel::run::Level;
use crate::vessel::verdict::{Used, Verdict};

/// Why a request did not become a run.
#[derive(Debug, thiserror::Error)]
pub enum NotRun {
    /// There is no such response, or it does not load.
    #[error(transparent)]
    Load(#[from] registry::Error),
    /// The alert lacks what the command expects.
    #[error("{0}")]
    Declined(Declined),
    /// Nothing runs on this host.
    #[error(
        "active response is disabled on this host; write <disabled>no</disabled> in ossec.conf to enable it"
    )]
    Disabled,
    /// The execd's answer did not come, or was none.
    #[error("the execd did not answer to the keys of this block: {0}")]
    NoAnswer(String),
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The response.
    pub response: String,
    /// The component's SHA-256.
    pub digest: String,
    /// What the guest saw.
    pub event: Event,
    /// What the component imports.
    pub imports: Vec<String>,
    /// How the guest ended; none where execd said that the block stands already.
    pub verdict: Option<Verdict>,
    /// What the guest used.
    pub used: Used,
    /// What was asked of the world, and what came of it.
    pub records: Vec<Record>,
    /// What the guest said.
    pub lines: Vec<(Level, String)>,
}

impl Outcome {
    /// Whether everything that was asked for was done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // A guest may shrug at a refused block; whoever asked for it must not.
        let did = |record: &Record| {
            record.answer.is_ok() || matches!(record.effect, Effect::IsBlocked { .. })
        };
        match &self.verdict {
            None => self.records.iter().all(|record| record.answer.is_ok()),
            Some(verdict) => verdict.is_ok() && self.records.iter().all(did),
        }
    }
}

pub(super) fn outcome(
    loaded: &Loaded,
    event: Event,
    verdict: Option<Verdict>,
    used: Used,
    records: Vec<Record>,
    lines: Vec<(Level, String)>,
) -> Outcome {
    Outcome {
        imports: loaded.vessel.shape().imports.clone(),
        response: loaded.name.clone(),
        digest: loaded.digest.clone(),
        event,
        verdict,
        used,
        records,
        lines,
    }
}
