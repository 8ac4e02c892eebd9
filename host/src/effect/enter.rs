//! The blocks that this host's own daemon answers for: called for and renewed.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::broker::{Broker, trouble};
use super::context::Context;
use super::{Record, Refusal};
use crate::journal::{Door, Entered, Position};

/// Whether a response has to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entrance", rename_all = "kebab-case")]
pub enum Entrance {
    /// It has: its block is new, or nobody holds it any more.
    Run {
        /// How long it will stand; none without an end.
        lasts: Option<Duration>,
        /// The step of the ladder; 0 for the first time.
        step: u32,
    },
    /// Its block stands, and its deadline starts anew.
    Stands {
        /// How long it stands from now on.
        lasts: Option<Duration>,
        /// The step of the ladder.
        step: u32,
        /// What was renewed in the firewall.
        records: Vec<Record>,
    },
    /// It is being undone just now: ask again in a moment.
    Undoing,
}

impl Broker {
    /// The run's block is called for.
    pub(super) fn enter(
        &mut self,
        context: &Context,
        key: Option<String>,
    ) -> Result<Entrance, Refusal> {
        let door = self.knock(context, key)?;
        Ok(self.let_in(context, door))
    }

    /// Writes the call down; whether the block stands already.
    pub(super) fn knock(
        &mut self,
        context: &Context,
        key: Option<String>,
    ) -> Result<Door, Refusal> {
        let Some(term) = context.run.term.as_ref().filter(|_| !context.observes) else {
            return Ok(Door::Open(Entered {
                renewed: false,
                lasts: None,
                step: 0,
            }));
        };
        // The response itself still needs most of the time, whoever keeps the lock.
        let _lock = self.lock(context.patience().min(self.world.budget))?;
        let now = self.now()?;
        let known = context.journaled.get();
        let mut invocation = context.invocation();
        invocation.key = key.unwrap_or(invocation.key);
        let (run, door) = self
            .journal()?
            .enter(&now, &invocation, known, term)
            .map_err(trouble)?;
        context.journaled.set(run);
        Ok(door)
    }

    /// Renews what stands already.
    pub(super) fn let_in(&mut self, context: &Context, door: Door) -> Entrance {
        let Door::Open(Entered {
            renewed,
            lasts,
            step,
        }) = door
        else {
            return Entrance::Undoing;
        };
        let longest = self.world.grants.firewall.longest;
        let stands = lasts.map_or(longest, |lasts| lasts.min(longest));
        if context.run.term.is_some() {
            let _ = context.stands.set(stands);
        }
        if renewed {
            let records = self.renew_all(context);
            // What stood and nobody holds was taken out by hand: it is done again. So is
            // what could not be renewed.
            let renewed = records.iter().any(|record| record.answer.is_ok());
            let held = renewed || context.grants.firewall.is_none();
            if held {
                return Entrance::Stands {
                    lasts,
                    step,
                    records,
                };
            }
        }
        Entrance::Run { lasts, step }
    }

    /// Keeps how far the alerts of a file were answered.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn keep_position(&mut self, file: &Path, position: &Position) -> Result<(), Refusal> {
        let _lock = self.lock(self.world.budget)?;
        self.journal()?
            .keep_position(file, position)
            .map_err(trouble)
    }
}
