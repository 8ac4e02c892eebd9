//! A helper's run: checked and written down by the broker, run wherever it blocks
//! nobody else, its end noted by the broker again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::broker::{Broker, trouble};
use super::context::{Context, patience};
use super::desk::Reply;
use super::{Answer, Done, Effect, Refusal, check, helper};
use crate::conf::grants::Helper;

/// A helper ends a moment before its run does: its guest hears of it, and the journal.
const BEFORE_THE_GUEST: Duration = Duration::from_millis(100);

/// A helper that is about to be started: it is granted, and written down.
#[derive(Debug)]
pub struct Job {
    id: u64,
    row: i64,
    name: String,
    helper: Helper,
    argv: Vec<String>,
    retort: PathBuf,
    deadline: Instant,
}

/// A helper that has ended, or could not be started.
#[derive(Debug)]
pub struct Ran {
    id: u64,
    row: i64,
    name: String,
    deadline: Instant,
    answer: Answer,
}

impl Job {
    /// Runs it to its end.
    #[must_use]
    pub fn run(self) -> Ran {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = left.saturating_sub(BEFORE_THE_GUEST);
        let answer = if self.helper.detached {
            helper::detach(&self.helper, &self.argv, &self.retort, left)
        } else {
            helper::run(&self.helper, &self.argv, left)
        };
        Ran {
            id: self.id,
            row: self.row,
            name: self.name,
            deadline: self.deadline,
            answer,
        }
    }
}

impl Broker {
    /// The helper of that name, granted and written down; none where nothing is to be
    /// changed.
    pub(super) fn helper(
        &mut self,
        id: u64,
        context: &Context,
        name: &str,
    ) -> Result<Option<Job>, Refusal> {
        check::helper_name(name)?;
        let granted = context
            .grants
            .process
            .get(name)
            .ok_or_else(|| Refusal::denied(format!("no helper `{name}` is granted")))?;
        let action = context.run.event.action;
        if !granted.on.contains(&action) {
            return Err(Refusal::denied(format!(
                "the helper `{name}` is not granted on {action}"
            )));
        }
        let argv = helper::arguments(granted, &context.run.event)?;
        if context.observes {
            return Ok(None);
        }
        let started = self.lock(context.patience()).and_then(|_lock| {
            let now = self.now()?;
            let run = self.journaled(context, &now)?;
            self.journal()?
                .helper_intent(&now, run, name, &argv)
                .map_err(trouble)
        });
        let row = started.map_err(|why| {
            Refusal::unavailable(format!(
                "a helper is not started without the journal: {}",
                why.reason
            ))
        })?;
        Ok(Some(Job {
            id,
            row,
            name: name.to_owned(),
            helper: granted.clone(),
            argv,
            retort: self.world.retort.clone(),
            deadline: context.deadline,
        }))
    }

    /// A helper has ended: what came of it is noted.
    pub fn ran(&mut self, ran: Ran) -> Reply {
        let outcome = match &ran.answer {
            Ok(Done::Exited { code }) => format!("exit code {code}"),
            Ok(_) => "started".to_owned(),
            Err(refusal) => refusal.reason.clone(),
        };
        let noted = self.lock(patience(ran.deadline)).and_then(|_lock| {
            self.journal()?
                .helper_done(ran.row, &outcome)
                .map_err(trouble)
        });
        // It has run, whether that could be noted or not; without it the history says
        // that it was cut off.
        drop(noted);
        let effect = Effect::Run { helper: ran.name };
        self.record(ran.id, effect, ran.answer)
    }

    /// A program outside the vessel is about to be started: it is granted, and written
    /// down.
    pub(super) fn legacy(&mut self, id: u64, argv: &[String]) -> Result<i64, Refusal> {
        let context = self
            .context(id)
            .ok_or_else(|| Refusal::unavailable("this run is over"))?;
        let executable = &context.run.executable;
        if !self.world.grants.legacy.allow.contains(executable) {
            return Err(Refusal::denied(format!(
                "`{executable}` may not be run outside the vessel"
            )));
        }
        if context.observes {
            return Err(Refusal::denied("the mode is `observe`: nothing is run"));
        }
        let _lock = self.lock(context.patience())?;
        let now = self.now()?;
        let run = self.journaled(&context, &now)?;
        self.journal()?
            .helper_intent(&now, run, executable, argv)
            .map_err(trouble)
    }

    /// A program outside the vessel has ended.
    pub fn legacy_ended(&mut self, row: i64, outcome: &str) {
        let noted = self
            .lock(self.world.budget)
            .and_then(|_lock| self.journal()?.helper_done(row, outcome).map_err(trouble));
        // As for a helper: without it the history says that it was cut off.
        drop(noted);
    }
}
