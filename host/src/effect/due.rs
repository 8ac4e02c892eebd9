//! The blocks that this host's own daemon answers for, at their time.

use super::broker::{Broker, trouble};
use super::release::is_ours_to_give_up;
use super::{Kind, Refusal};
use crate::journal::{Next, Pending, Taken};

impl Broker {
    /// What is due and was not taken before, at most `limit` blocks, the oldest first.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn take_due(&mut self, limit: u32) -> Result<Vec<Pending>, Refusal> {
        let (now, taken) = (self.now()?, self.taken);
        let due = self.journal()?.due_pending(&now, taken, limit);
        let due = due.map_err(trouble)?;
        if let Some(last) = due.last() {
            self.taken = last.taken();
        }
        Ok(due)
    }

    /// Everything that is pending is due from now on, and was not taken.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn all_due(&mut self) -> Result<(), Refusal> {
        let now = self.now()?;
        let _lock = self.lock(self.world.budget)?;
        self.journal()?.all_due(&now).map_err(trouble)?;
        self.taken = Taken::default();
        Ok(())
    }

    /// The undo of a block begins; not where it was renewed since, or is begun already.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn start_undo(&mut self, pending: i64) -> Result<bool, Refusal> {
        let _lock = self.lock(self.world.budget)?;
        let now = self.now()?;
        self.journal()?.start_undo(&now, pending).map_err(trouble)
    }

    /// A block is undone: what it holds in spite of that goes now. A firewall that does
    /// not answer is the sweep's.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn undone(&mut self, pending: &Pending) -> Result<(), Refusal> {
        let holds = self
            .journal()?
            .holds_of(&pending.response, &pending.key, &pending.origin)
            .map_err(trouble)?;
        for hold in &holds {
            let record = self.release_if(hold, "the host, on delete", is_ours_to_give_up);
            match record.answer {
                Err(refusal) if refusal.kind == Kind::Unavailable => return Err(refusal),
                _ => {}
            }
        }
        let _lock = self.lock(self.world.budget)?;
        self.journal()?.undone(pending.id).map_err(trouble)
    }

    /// How long until something is due that was not taken.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn next_due(&mut self) -> Result<Next, Refusal> {
        let (now, taken) = (self.now()?, self.taken);
        self.journal()?.next_due(&now, taken).map_err(trouble)
    }

    /// Takes over what the process before left.
    ///
    /// # Errors
    /// When the journal does not answer.
    pub fn take_over(&mut self) -> Result<(), Refusal> {
        self.journal()?.stays_open().map_err(trouble)?;
        let now = self.now()?;
        let _lock = self.lock(self.world.budget)?;
        self.journal()?.take_over(&now).map_err(trouble)
    }
}
