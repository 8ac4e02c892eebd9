//! A run, as the broker keeps it from its first word to its last.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::desk::Run;
use crate::conf::grants::Response;
use crate::journal::{Invocation, Owner};

/// What does not change during a run.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) run: Run,
    pub(super) grants: Response,
    pub(super) observes: bool,
    pub(super) deadline: Instant,
    /// Its row in the journal, from its first effect on.
    pub(super) journaled: OnceLock<i64>,
    /// How long its block stands, once it was entered.
    pub(super) stands: OnceLock<Duration>,
}

/// How long the lock may be waited for by whoever has until `deadline`: what comes
/// after it needs some of what is left.
pub(super) fn patience(deadline: Instant) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    left.checked_div(4).unwrap_or_default().saturating_mul(3)
}

impl Context {
    /// A run that has until `deadline`.
    pub(super) fn new(run: Run, grants: Response, observes: bool, deadline: Instant) -> Self {
        Self {
            run,
            grants,
            observes,
            deadline,
            journaled: OnceLock::new(),
            stands: OnceLock::new(),
        }
    }

    /// How long its next lock may be waited for.
    pub(super) fn patience(&self) -> Duration {
        patience(self.deadline)
    }

    pub(super) fn invocation(&self) -> Invocation {
        let run = &self.run;
        Invocation {
            response: run.response.clone(),
            digest: run.digest.clone(),
            executable: run.executable.clone(),
            dialect: run.dialect,
            event: run.event.clone(),
            key: run.key.clone(),
            origin: run.origin.clone(),
            owner: run.owner.clone(),
            asker: Owner::this(),
            dry_run: self.observes,
            message: run.message.clone(),
        }
    }
}
