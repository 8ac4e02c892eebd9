//! The broker gives holds up: one, all of a block, what nobody knows of. Other holds on
//! the same address are never touched.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::broker::{Broker, kernel, trouble};
use super::context::Context;
use super::hold::covers;
use super::{Answer, Done, Effect, Record, Refusal, check};
use crate::address;
use crate::conf::grants::BackendName;
use crate::journal::{Debt, Hold, Owner};

impl Broker {
    pub(super) fn unblock(&mut self, context: &Context, asked: IpNet) -> Answer {
        let network = check::release(asked, context.grants.firewall.as_ref())?;
        // An observer takes nothing new, but what was taken before it became one goes.
        if context.run.dry_run {
            return Ok(Done::Observed);
        }
        let _lock = self.lock(context.patience())?;
        let name = self.backend_of(&context.grants);
        let (response, key) = (&context.run.response, &context.run.key);
        let hold = self
            .journal()?
            .hold_of(response, key, network, &name.to_string())
            .map_err(trouble)?;
        match hold.filter(is_ours_to_give_up) {
            None => Ok(Done::Unblocked { holds: 0 }),
            Some(hold) => {
                self.give_up(&hold, name, "the response")?;
                Ok(Done::Unblocked { holds: 1 })
            }
        }
    }

    /// The host's own release: every hold of the run's response and key.
    pub(super) fn release_all(&mut self, context: &Context) -> Vec<Record> {
        if context.run.dry_run {
            return Vec::new();
        }
        let run = &context.run;
        let holds = self.journal().and_then(|journal| {
            journal
                .holds_of(&run.response, &run.key, &run.origin)
                .map_err(trouble)
        });
        match holds {
            Ok(holds) if holds.is_empty() => self.release_unjournaled(context),
            Ok(holds) => holds
                .iter()
                .map(|hold| {
                    let patience = context.patience();
                    self.release_within(hold, "the host, on delete", patience, is_ours_to_give_up)
                })
                .collect(),
            Err(refusal) => vec![lost(refusal)],
        }
    }

    /// What was blocked while the journal did not answer is in the kernel alone.
    fn release_unjournaled(&mut self, context: &Context) -> Vec<Record> {
        let Some(address) = context.run.event.srcip else {
            return Vec::new();
        };
        let name = self.backend_of(&context.grants);
        if context.grants.firewall.is_none() || name == BackendName::Record {
            return Vec::new();
        }
        self.release_foreign(address::host(address), name, context.patience())
            .into_iter()
            .collect()
    }

    /// Makes sure that the firewall has no address that nobody holds; whether that is
    /// so now.
    pub fn forget(&mut self, address: IpAddr) -> bool {
        let name = self.world.grants.firewall.backend;
        // A firewall that can't be opened has nothing of ours.
        if name == BackendName::Record || self.backend(name).is_err() {
            return true;
        }
        let removed = self.release_foreign(address::host(address), name, self.world.budget);
        removed.is_none_or(|record| record.answer.is_ok())
    }

    /// Takes a network out of the firewall that no hold is known for; nothing where it
    /// is held, or not there.
    pub fn release_foreign(
        &mut self,
        network: IpNet,
        name: BackendName,
        patience: Duration,
    ) -> Option<Record> {
        let removed = self.lock(patience).and_then(|_lock| {
            let journal = self.journal()?;
            let holds = journal
                .holds_on(network, &name.to_string())
                .map_err(trouble)?;
            let backend = self.backend(name)?;
            let there = match address::only(network) {
                Some(address) => backend.look(address).map_err(kernel)?.is_some(),
                None => covers(backend, network)?,
            };
            if !holds.is_empty() || !there {
                return Ok(false);
            }
            self.set(network, name)?;
            Ok(true)
        });
        let answer = match removed {
            Ok(false) => return None,
            Ok(true) => Ok(Done::Unblocked { holds: 1 }),
            Err(refusal) => Err(refusal),
        };
        Some(Record {
            effect: Effect::Unblock { network },
            answer,
        })
    }

    /// Takes a network out of the firewall while the journal can't say who holds it; its
    /// holds are given up when it can. Whether it was there.
    ///
    /// # Errors
    /// When that can't be noted, or the firewall does not answer.
    pub fn take_out(&mut self, network: IpNet) -> Result<bool, Refusal> {
        let _lock = self.lock(self.world.budget)?;
        let debt = Debt::of_network(&self.now()?, network);
        let noted = self.owed().and_then(|owed| {
            let debt = debt.ok_or(std::io::ErrorKind::NotFound)?;
            owed.note(&debt)
        });
        let taken = self.backend(BackendName::Nftables)?.take_out(network);
        let taken = taken.map_err(kernel)?;
        noted.map(|_| taken).map_err(|e| {
            Refusal::unavailable(format!(
                "it is out of the firewall, and may be put back: {} can't be written: {e}",
                self.world.root.owed().display()
            ))
        })
    }

    /// Gives up one hold, whoever took it; the record says what became of it.
    pub fn release(&mut self, hold: &Hold, who: &str) -> Record {
        self.release_within(hold, who, self.world.budget, |_| true)
    }

    /// As [`Broker::release`], where it has to go still: between the question and the
    /// lock another process may have renewed it, or given it up.
    pub fn release_if(
        &mut self,
        hold: &Hold,
        who: &str,
        still: impl FnOnce(&Hold) -> bool,
    ) -> Record {
        self.release_within(hold, who, self.world.budget, still)
    }

    fn release_within(
        &mut self,
        hold: &Hold,
        who: &str,
        patience: Duration,
        still: impl FnOnce(&Hold) -> bool,
    ) -> Record {
        let answer = self.lock(patience).and_then(|_lock| {
            let open = self.journal()?.open_hold(hold.id).map_err(trouble)?;
            if !open.as_ref().is_some_and(still) {
                return Ok(Done::Unblocked { holds: 0 });
            }
            self.give_up(hold, backend_named(&hold.backend)?, who)?;
            Ok(Done::Unblocked { holds: 1 })
        });
        Record {
            effect: Effect::Unblock {
                network: hold.network,
            },
            answer,
        }
    }

    fn give_up(&mut self, hold: &Hold, name: BackendName, who: &str) -> Result<(), Refusal> {
        let now = self.now()?;
        if let Err(why) = self.journal()?.releasing(hold.id).map_err(trouble) {
            // A full disk is no reason to keep an address in; what else holds it can
            // still be read. The debt keeps others from putting it back.
            let debt = Debt::of_hold(&now, hold).filter(|_| !hold.left(&now).is_zero());
            let unnoted = debt.and_then(|debt| self.owed().and_then(|o| o.note(&debt)).err());
            self.set_without(hold.network, name, Some(hold.id))?;
            let spelled = address::spell(hold.network);
            let unnoted = unnoted.map_or_else(String::new, |e| {
                format!(
                    ", nor could that be written to {}: {e}",
                    self.world.root.owed().display()
                )
            });
            return Err(Refusal::unavailable(format!(
                "{spelled} is let go, but the journal could not note it: {}{unnoted}",
                why.reason
            )));
        }
        self.set(hold.network, name)?;
        self.journal()?
            .released(&now, hold.id, who)
            .map_err(trouble)
    }
}

/// The backend that a hold was taken in.
pub(super) fn backend_named(name: &str) -> Result<BackendName, Refusal> {
    [BackendName::Nftables, BackendName::Record]
        .into_iter()
        .find(|backend| backend.to_string() == name)
        .ok_or_else(|| Refusal::unavailable(format!("this version has no backend `{name}`")))
}

/// An execd starts a delete and does not wait: the next add of the same attacker may
/// run beside it, and what that one holds is another block.
pub(super) fn is_ours_to_give_up(hold: &Hold) -> bool {
    Owner::this().is_none_or(|this| !hold.is_of_younger(&this))
}

/// A release or renewal that could not even look up what it is about.
pub(super) fn lost(refusal: Refusal) -> Record {
    Record {
        effect: Effect::Release,
        answer: Err(refusal),
    }
}
