//! The broker takes holds and keeps them. A host is in the kernel while any hold on it
//! exists, until the last of their deadlines. Networks are in it as one merged set, for
//! which the journal's deadlines alone count.

use std::time::Duration;

use ipnet::IpNet;

use super::broker::{Broker, kernel, trouble};
use super::context::Context;
use super::release::{backend_named, lost};
use super::{Answer, Done, Effect, Record, Refusal, check};
use crate::address;
use crate::backend::{Backend, Element};
use crate::conf::ar::{self, Longest};
use crate::conf::grants::BackendName;
use crate::journal::{self, Hold, Intent, Lock, State};

/// A block above the budget: long enough to slow an attacker down, short enough
/// to do no lasting harm where the alerts were made up.
const RATIONED: Duration = Duration::from_secs(60);

/// What budgets count in.
const MINUTE: Duration = Duration::from_secs(60);

/// What is about to be blocked.
pub(super) struct Aim {
    /// As it was asked for.
    pub(super) asked: IpNet,
    /// What is held: all that is around it where it is one of a crowd.
    pub(super) network: IpNet,
    pub(super) name: BackendName,
    warning: Option<String>,
}

/// What stands in the journal before a network goes into the kernel.
pub(super) struct Intended {
    hold: i64,
    renewed: bool,
    warning: Option<String>,
    /// Held until the journal says done.
    _lock: Lock,
}

impl Broker {
    pub(super) fn block(&mut self, context: &Context, asked: IpNet) -> Answer {
        let Some(target) = self.may_block(context, asked)? else {
            return Ok(Done::Observed);
        };
        match self.intend(context, &target) {
            Ok(intended) => {
                let set = self.set(target.network, target.name);
                self.carried_out(&intended, set)
            }
            Err(trouble) => self.block_unjournaled(context, target.asked, target.name, &trouble),
        }
    }

    /// What may be blocked, and where; nothing where nothing is to be changed.
    pub(super) fn may_block(
        &mut self,
        context: &Context,
        asked: IpNet,
    ) -> Result<Option<Aim>, Refusal> {
        let grant = context.grants.firewall.as_ref();
        let asked = check::block(
            asked,
            context.run.event.action,
            grant,
            context.run.event.srcip,
            |network| self.protects(network, &context.run.event),
        )?;
        if context.observes {
            return Ok(None);
        }
        let name = self.backend_of(&context.grants);
        let crowd = self.crowd(context, asked, name);
        Ok(Some(Aim {
            asked,
            network: crowd.as_ref().map_or(asked, |crowd| crowd.network),
            name,
            warning: crowd.map(|crowd| crowd.warning),
        }))
    }

    pub(super) fn intend(&mut self, context: &Context, aim: &Aim) -> Result<Intended, Refusal> {
        let (network, name) = (aim.network, aim.name);
        let lock = self.lock(context.patience())?;
        let now = self.now()?;
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
            .hold_of(response, key, network, &name.to_string())
            .map_err(trouble)?
            .is_some();
        let mut warning = aim.warning.clone();
        if !held {
            let of_response = journal
                .recent_blocks(&now, Some(response), MINUTE)
                .map_err(trouble)?;
            let of_all = journal.recent_blocks(&now, None, MINUTE).map_err(trouble)?;
            if of_response >= own || of_all >= global {
                lasts = lasts.min(RATIONED);
                let spent = format!(
                    "over budget ({of_response} of {own} blocks a minute for {response}, {of_all} of {global} in all): blocked for {} only",
                    humantime::format_duration(lasts)
                );
                // The shorter time is what somebody should look at first.
                warning = Some(warning.map_or(spent.clone(), |crowd| format!("{spent}; {crowd}")));
            }
        }
        let intent = Intent {
            network,
            backend: name.to_string(),
            lasts,
            orphan_lasts,
        };
        let invocation = context.invocation();
        let run = context
            .journaled
            .get()
            .map_or(journal::Run::New(&invocation), |row| {
                journal::Run::Known(row)
            });
        let intended = journal.intend(&now, run, &intent).map_err(trouble)?;
        context.journaled.set(intended.run);
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
        if let Some(term) = &context.run.term {
            let stands = context.stands.get().copied().or(term.lasts);
            return (stands.map_or(longest, |stands| stands.min(longest)), None);
        }
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

    /// Notes what came of an intent.
    pub(super) fn carried_out(
        &mut self,
        intended: &Intended,
        set: Result<Option<Duration>, Refusal>,
    ) -> Answer {
        match set {
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
                let noted = self.now().and_then(|now| {
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

    /// Makes what the kernel has of the network what the journal's holds say, and reads it back.
    pub(super) fn set(
        &mut self,
        network: IpNet,
        name: BackendName,
    ) -> Result<Option<Duration>, Refusal> {
        self.set_without(network, name, None)
    }

    /// As [`Broker::set`], but as if that hold were gone already.
    pub(super) fn set_without(
        &mut self,
        network: IpNet,
        name: BackendName,
        gone: Option<i64>,
    ) -> Result<Option<Duration>, Refusal> {
        let now = self.now()?;
        // What was let go, and the journal could not note it, must not come back by this.
        let owed = self.owed().and_then(|owed| owed.left());
        let owed = owed.unwrap_or_default();
        let stands = |hold: &&Hold| {
            let open = hold.state != State::Releasing && Some(hold.id) != gone;
            let open = open && !owed.iter().any(|(_, debt)| debt.is_for(hold));
            open && !hold.left(&now).is_zero()
        };
        let journal = self.journal()?;
        let holds = journal.holds_on(network, &name.to_string());
        let holds = holds.map_err(trouble)?;
        let longest = holds.iter().filter(stands).map(|hold| hold.left(&now));
        let longest = longest.max();
        let Some(address) = address::only(network) else {
            let wide = journal.holds_on_networks(&name.to_string());
            let wide = wide.map_err(trouble)?;
            let wanted: Vec<IpNet> = wide.iter().filter(stands).map(|h| h.network).collect();
            let backend = self.backend(name)?;
            backend.set_networks(&wanted).map_err(kernel)?;
            return longest.map_or(Ok(None), |left| has(backend, network, left));
        };
        let backend = self.backend(name)?;
        match longest {
            Some(timeout) => put(
                backend,
                Element {
                    address,
                    timeout,
                    unjournaled: false,
                },
            ),
            None => backend.remove(&[address]).map(|()| None).map_err(kernel),
        }
    }

    /// The same block was asked for again: its deadlines start anew.
    pub(super) fn renew_all(&mut self, context: &Context) -> Vec<Record> {
        if context.observes {
            return Vec::new();
        }
        let (lasts, _) = self.lasts(context);
        let renewed = self.lock(context.patience()).and_then(|lock| {
            let now = self.now()?;
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
                let set =
                    backend_named(&hold.backend).and_then(|name| self.set(hold.network, name));
                let intended = Intended {
                    hold: hold.id,
                    renewed: true,
                    warning: None,
                    _lock: Lock::taken(),
                };
                let answer = self.carried_out(&intended, set);
                Record {
                    effect: Effect::Block {
                        network: hold.network,
                    },
                    answer,
                }
            })
            .collect()
    }

    /// Whether all of the network is blocked, by whichever holds.
    pub(super) fn has(&mut self, network: IpNet, name: BackendName) -> Result<bool, Refusal> {
        let backend = self.backend(name)?;
        if backend.has_timeouts() {
            let alone = match address::only(network) {
                Some(address) => backend.look(address).map_err(kernel)?.is_some(),
                None => false,
            };
            return Ok(alone || covers(backend, network)?);
        }
        let journal = self.journal()?;
        let mut holds = journal
            .holds_on(network, &name.to_string())
            .map_err(trouble)?;
        holds.extend(
            journal
                .holds_on_networks(&name.to_string())
                .map_err(trouble)?,
        );
        Ok(holds.iter().any(|hold| hold.network.contains(&network)))
    }

    /// Whether the firewall has what an interrupted run intended; then it counts as
    /// done, and is there for as long as the journal says: a renewal may have been cut off
    /// before the firewall heard of it.
    ///
    /// # Errors
    /// When journal or firewall do not answer.
    pub fn confirm(&mut self, hold: &Hold) -> Result<bool, Refusal> {
        let _lock = self.lock(self.world.budget)?;
        let name = backend_named(&hold.backend)?;
        let backend = self.backend(name)?;
        let there = match address::only(hold.network) {
            // Where there is no firewall the journal's word is all there was to do.
            _ if !backend.has_timeouts() => true,
            Some(address) => backend.look(address).map_err(kernel)?.is_some(),
            None => covers(backend, hold.network)?,
        };
        if !there {
            return Ok(false);
        }
        let expires_in = self.set(hold.network, name)?;
        self.journal()?.done(hold.id, expires_in).map_err(trouble)?;
        Ok(true)
    }
}

/// Puts an address in, and reads it back where the firewall can say what it has.
pub(super) fn put(backend: &mut Backend, element: Element) -> Result<Option<Duration>, Refusal> {
    backend.set(&[element]).map_err(kernel)?;
    if !backend.has_timeouts() {
        return Ok(Some(element.timeout));
    }
    let address = element.address;
    match backend.look(address).map_err(kernel)? {
        Some(seen) => Ok(seen.expires_in),
        None => Err(Refusal::failed(format!(
            "the kernel took {address} and has it not"
        ))),
    }
}

/// Reads a network back that was put in, to be held for `left`.
fn has(backend: &mut Backend, network: IpNet, left: Duration) -> Result<Option<Duration>, Refusal> {
    if !backend.has_timeouts() {
        return Ok(Some(left));
    }
    if covers(backend, network)? {
        return Ok(None);
    }
    Err(Refusal::failed(format!(
        "the kernel took {network} and has it not"
    )))
}

/// Whether the firewall drops all of the network because of a network that it has.
pub(super) fn covers(backend: &mut Backend, network: IpNet) -> Result<bool, Refusal> {
    let networks = backend.networks().map_err(kernel)?;
    Ok(networks.iter().any(|wide| wide.contains(&network)))
}

/// What the event itself says of its time.
fn asked(context: &Context) -> Option<Duration> {
    let seconds = context.run.event.timeout.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.into()))
}
