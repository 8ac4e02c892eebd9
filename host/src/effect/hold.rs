//! The broker's work on holds: take one, give one up, give up all. An address is
//! in the kernel while any hold on it exists, until the last of their deadlines.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::broker::{Broker, Context, kernel, now, trouble};
use super::{Answer, Done, Effect, Record, Refusal, check};
use crate::address;
use crate::backend::Element;
use crate::conf::ar::{self, Longest};
use crate::conf::grants::BackendName;
use crate::journal::{self, Hold, Intent, Lock, Owner, State};

/// A block above the budget: long enough to slow an attacker down, short enough
/// to do no lasting harm where the alerts were made up.
const RATIONED: Duration = Duration::from_secs(60);

/// A block that no journal knows of: the kernel alone will lift it.
const UNJOURNALED: Duration = Duration::from_secs(600);

/// What budgets count in.
const MINUTE: Duration = Duration::from_secs(60);

/// What stands in the journal before an address goes into the kernel.
struct Intended {
    hold: i64,
    renewed: bool,
    warning: Option<String>,
    /// Held until the journal says done.
    _lock: Lock,
}

impl Broker {
    pub(super) fn block(&mut self, context: &Context, asked: IpNet) -> Answer {
        let grant = context.grants.firewall.as_ref();
        let network = check::block(
            asked,
            context.run.event.action,
            grant,
            context.run.event.srcip,
            || self.protect_list(),
        )?;
        if context.observes {
            return Ok(Done::Observed);
        }
        let address = network.addr();
        let name = self.backend_of(&context.grants);
        match self.intend(context, address, name) {
            Ok(intended) => self.carry_out(&intended, address, name),
            Err(trouble) => self.block_unjournaled(address, name, &trouble),
        }
    }

    fn intend(
        &mut self,
        context: &Context,
        address: IpAddr,
        name: BackendName,
    ) -> Result<Intended, Refusal> {
        let lock = self.lock(context.patience())?;
        let now = now()?;
        let (mut lasts, orphan_lasts) = self.lasts(context);
        let global = self.world.grants.firewall.per_minute;
        let own = context
            .grants
            .firewall
            .as_ref()
            .map_or(0, |grant| grant.per_minute);
        let journal = self.journal()?;
        let (response, key) = (&context.run.response, &context.run.key);
        let held = journal
            .hold_of(response, key, address, &name.to_string())
            .map_err(trouble)?
            .is_some();
        let mut warning = None;
        if !held {
            let of_response = journal
                .recent_blocks(&now, Some(response), MINUTE)
                .map_err(trouble)?;
            let of_all = journal.recent_blocks(&now, None, MINUTE).map_err(trouble)?;
            if of_response >= own || of_all >= global {
                lasts = lasts.min(RATIONED);
                warning = Some(format!(
                    "over budget ({of_response} of {own} blocks a minute for {response}, {of_all} of {global} in all): blocked for {} only",
                    humantime::format_duration(lasts)
                ));
            }
        }
        let intent = Intent {
            address,
            backend: name.to_string(),
            lasts,
            orphan_lasts,
        };
        let invocation = context.invocation();
        let run = context
            .journaled
            .get()
            .map_or(journal::Run::New(&invocation), |row| {
                journal::Run::Known(*row)
            });
        let intended = journal.intend(&now, run, &intent).map_err(trouble)?;
        let _ = context.journaled.set(intended.run);
        Ok(Intended {
            hold: intended.hold,
            renewed: intended.renewed,
            warning,
            _lock: lock,
        })
    }

    /// How long a hold lasts, and how long after its start it lasts when the execd
    /// that asked for it is gone.
    fn lasts(&self, context: &Context) -> (Duration, Option<Duration>) {
        let longest = self.world.grants.firewall.longest;
        let named = match ar::longest_timeout(&self.world.ar, &context.run.executable) {
            Longest::After(timeout) => Some(timeout),
            Longest::NotNamed | Longest::Forever => None,
        };
        // Wazuh 5 has no ar.conf: its message says it.
        let by_itself = asked(context).or(named).map_or(longest, |t| t.min(longest));
        if context.run.owner.is_some() {
            (longest, Some(by_itself))
        } else {
            (by_itself, None)
        }
    }

    fn carry_out(&mut self, intended: &Intended, address: IpAddr, name: BackendName) -> Answer {
        match self.set(address, name) {
            Ok(expires_in) => {
                let noted = self
                    .journal()
                    .and_then(|journal| journal.done(intended.hold, expires_in).map_err(trouble));
                let unnoted = noted
                    .err()
                    .map(|e| format!("blocked, but the journal could not note it: {}", e.reason));
                Ok(Done::Blocked {
                    expires_in,
                    renewed: intended.renewed,
                    warning: intended.warning.clone().or(unnoted).or(self.unresolved()),
                })
            }
            Err(refusal) => {
                let noted = now().and_then(|now| {
                    self.journal()?
                        .failed(&now, intended.hold, &refusal.reason)
                        .map_err(trouble)
                });
                // Where even that can't be noted the intent stays open, and the sweep finds it.
                drop(noted);
                Err(refusal)
            }
        }
    }

    /// Makes the kernel's element what the journal's holds say, and reads it back.
    fn set(&mut self, address: IpAddr, name: BackendName) -> Result<Option<Duration>, Refusal> {
        self.set_without(address, name, None)
    }

    /// As [`Broker::set`], but as if that hold were gone already.
    fn set_without(
        &mut self,
        address: IpAddr,
        name: BackendName,
        gone: Option<i64>,
    ) -> Result<Option<Duration>, Refusal> {
        let now = now()?;
        let holds = self
            .journal()?
            .holds_on(address, &name.to_string())
            .map_err(trouble)?;
        let left = holds
            .iter()
            .filter(|hold| hold.state != State::Releasing && Some(hold.id) != gone)
            .map(|hold| hold.left(&now))
            .max()
            .unwrap_or_default();
        let backend = self.backend(name)?;
        if left.is_zero() {
            backend.remove(&[address]).map_err(kernel)?;
            return Ok(None);
        }
        backend
            .set(&[Element {
                address,
                timeout: left,
            }])
            .map_err(kernel)?;
        if !backend.has_timeouts() {
            return Ok(Some(left));
        }
        match backend.look(address).map_err(kernel)? {
            Some(seen) => Ok(seen.expires_in),
            None => Err(Refusal::failed(format!(
                "the kernel took {address} and has it not"
            ))),
        }
    }

    /// An attacker who fills the disk does not switch the response off; but what
    /// nothing would undo is not done.
    fn block_unjournaled(&mut self, address: IpAddr, name: BackendName, why: &Refusal) -> Answer {
        let backend = self.backend(name)?;
        if !backend.has_timeouts() {
            return Err(Refusal::unavailable(format!(
                "nothing was done: {}",
                why.reason
            )));
        }
        let before = backend.look(address).map_err(kernel)?;
        let expires_in = match before.map(|seen| seen.expires_in) {
            Some(None) => None,
            Some(Some(left)) if left >= UNJOURNALED => Some(left),
            _ => {
                backend
                    .set(&[Element {
                        address,
                        timeout: UNJOURNALED,
                    }])
                    .map_err(kernel)?;
                let seen = backend.look(address).map_err(kernel)?;
                seen.ok_or_else(|| {
                    Refusal::failed(format!("the kernel took {address} and has it not"))
                })?
                .expires_in
            }
        };
        Ok(Done::Blocked {
            expires_in,
            renewed: before.is_some(),
            warning: Some(format!(
                "blocked without the journal, by the kernel's clock alone: {}",
                why.reason
            )),
        })
    }

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
            .hold_of(response, key, network.addr(), &name.to_string())
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
        self.release_foreign(address, name, context.patience())
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
        let removed = self.release_foreign(address, name, self.world.budget);
        removed.is_none_or(|record| record.answer.is_ok())
    }

    /// Takes an address out of the firewall that no hold is known for; nothing where
    /// it is held, or not there.
    pub fn release_foreign(
        &mut self,
        address: IpAddr,
        name: BackendName,
        patience: Duration,
    ) -> Option<Record> {
        let removed = self.lock(patience).and_then(|_lock| {
            let holds = self
                .journal()?
                .holds_on(address, &name.to_string())
                .map_err(trouble)?;
            let backend = self.backend(name)?;
            if !holds.is_empty() || backend.look(address).map_err(kernel)?.is_none() {
                return Ok(false);
            }
            backend.remove(&[address]).map_err(kernel)?;
            Ok(true)
        });
        let answer = match removed {
            Ok(false) => return None,
            Ok(true) => Ok(Done::Unblocked { holds: 1 }),
            Err(refusal) => Err(refusal),
        };
        let network = address::host(address);
        Some(Record {
            effect: Effect::Unblock { network },
            answer,
        })
    }

    /// The same block was asked for again: its deadlines start anew.
    pub(super) fn renew_all(&mut self, context: &Context) -> Vec<Record> {
        if context.observes {
            return Vec::new();
        }
        let (lasts, _) = self.lasts(context);
        let renewed = self.lock(context.patience()).and_then(|lock| {
            let now = now()?;
            let (response, key) = (&context.run.response, &context.run.key);
            let holds = self
                .journal()?
                .renew(&now, response, key, lasts)
                .map_err(trouble)?;
            Ok((lock, holds))
        });
        let (_lock, holds) = match renewed {
            Ok(renewed) => renewed,
            Err(refusal) => return vec![lost(refusal)],
        };
        holds
            .iter()
            .map(|hold| {
                let answer = backend_named(&hold.backend)
                    .and_then(|name| self.set(hold.address, name))
                    .map(|expires_in| Done::Blocked {
                        expires_in,
                        renewed: true,
                        warning: None,
                    });
                Record {
                    effect: Effect::Block {
                        network: address::host(hold.address),
                    },
                    answer,
                }
            })
            .collect()
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
                network: address::host(hold.address),
            },
            answer,
        }
    }

    /// Mends the firewall's table; the addresses that it has then.
    ///
    /// # Errors
    /// When the firewall does not answer.
    pub fn mended(&mut self, name: BackendName) -> Result<BTreeSet<IpAddr>, Refusal> {
        let _lock = self.lock(self.world.budget)?;
        let backend = self.backend(name)?;
        backend.mend().map_err(kernel)?;
        let there = backend.list().map_err(kernel)?;
        Ok(there.into_iter().map(|(address, _)| address).collect())
    }

    /// Makes the firewall have what the journal says of an address.
    pub fn put_back(&mut self, hold: &Hold) -> Record {
        let answer = self.lock(self.world.budget).and_then(|_lock| {
            let expires_in = self.set(hold.address, backend_named(&hold.backend)?)?;
            Ok(Done::Blocked {
                expires_in,
                renewed: false,
                warning: Some("somebody had taken it out of the firewall".to_owned()),
            })
        });
        let network = address::host(hold.address);
        Record {
            effect: Effect::Block { network },
            answer,
        }
    }

    /// Whether the firewall has what an interrupted run intended; then it counts as
    /// done.
    ///
    /// # Errors
    /// When journal or firewall do not answer.
    pub fn confirm(&mut self, hold: &Hold) -> Result<bool, Refusal> {
        let _lock = self.lock(self.world.budget)?;
        let backend = self.backend(backend_named(&hold.backend)?)?;
        let Some(seen) = backend.look(hold.address).map_err(kernel)? else {
            return Ok(false);
        };
        self.journal()?
            .done(hold.id, seen.expires_in)
            .map_err(trouble)?;
        Ok(true)
    }

    fn give_up(&mut self, hold: &Hold, name: BackendName, who: &str) -> Result<(), Refusal> {
        let now = now()?;
        if let Err(why) = self.journal()?.releasing(hold.id).map_err(trouble) {
            // A full disk is no reason to keep an address in; what else holds it can
            // still be read.
            self.set_without(hold.address, name, Some(hold.id))?;
            return Err(Refusal::unavailable(format!(
                "{} is let go, but the journal could not note it: {}",
                hold.address, why.reason
            )));
        }
        self.set(hold.address, name)?;
        self.journal()?
            .released(&now, hold.id, who)
            .map_err(trouble)
    }
}

/// The backend that a hold was taken in.
fn backend_named(name: &str) -> Result<BackendName, Refusal> {
    [BackendName::Nftables, BackendName::Record]
        .into_iter()
        .find(|backend| backend.to_string() == name)
        .ok_or_else(|| Refusal::unavailable(format!("this version has no backend `{name}`")))
}

/// An execd starts a delete and does not wait: the next add of the same attacker may
/// run beside it, and what that one holds is another block.
fn is_ours_to_give_up(hold: &Hold) -> bool {
    Owner::this().is_none_or(|this| !hold.is_younger_than(&this, hold.since))
}

/// What the event itself says of its time.
fn asked(context: &Context) -> Option<Duration> {
    let seconds = context.run.event.timeout.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.into()))
}

/// A release or renewal that could not even look up what it is about.
fn lost(refusal: Refusal) -> Record {
    Record {
        effect: Effect::Release,
        answer: Err(refusal),
    }
}
