//! The journal against the kernel: what is held is put back, what nobody holds is taken
//! out. Neither is believed alone: what may have been let go while the journal could not
//! note it is left as it is.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;

use super::Refusal;
use super::broker::{Broker, kernel, trouble};
use super::unjournaled::UNJOURNALED;
use crate::address;
use crate::backend::nftables::{LONGEST, union};
use crate::backend::{Corrected, Correction, Element, Found, Seen};
use crate::conf::grants::BackendName;
use crate::journal::Standing;

/// How far the kernel's deadline may be from the journal's: it is counted by another
/// clock, and was set a moment later.
const SLACK: Duration = Duration::from_secs(2);

/// What is over in a moment is not put back: the kernel was a little faster.
const MOMENT: Duration = Duration::from_secs(1);

/// Addresses that are named in one sentence.
const NAMED: usize = 5;

/// What was put right.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repairs {
    /// Hosts and networks that are held, and were not in the firewall.
    pub put_back: usize,
    /// Hosts and networks that were in it, and that nobody holds.
    pub removed: usize,
    /// Hosts whose time was not that of their holds.
    pub retimed: usize,
    /// Tables that were missing, changed or asleep.
    pub tables: usize,
    /// A sentence for each of these kinds.
    pub said: Vec<String>,
}

impl Repairs {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        [self.put_back, self.removed, self.retimed, self.tables]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    fn say(&mut self, what: &str, which: &[IpNet]) -> usize {
        if !which.is_empty() {
            let named = which.iter().take(NAMED).map(|one| address::spell(*one));
            let mut named: Vec<String> = named.collect();
            if which.len() > NAMED {
                named.push("…".to_owned());
            }
            let count = which.len();
            self.said
                .push(format!("{what}: {count} ({})", named.join(", ")));
        }
        which.len()
    }
}

/// What the journal says of one host.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    address: IpAddr,
    /// The longest of its holds; none where each may be gone, or is going.
    at_least: Option<Duration>,
    /// The longest of all, also of those.
    at_most: Duration,
}

/// What the journal says of everything.
struct Books {
    /// In order, each once.
    hosts: Vec<Wanted>,
    networks: Vec<IpNet>,
    /// Networks that may be gone, or are going.
    going: Vec<IpNet>,
    read: Instant,
}

impl Broker {
    /// Compares the journal with the kernel, and repairs both ways what is not as the
    /// holds say.
    ///
    /// # Errors
    /// When the lock, the journal or the firewall do not answer: nothing was changed
    /// then.
    pub fn reconcile(&mut self) -> Result<Repairs, Refusal> {
        let name = BackendName::Nftables;
        let _lock = self.lock(self.world.budget)?;
        let (now, read) = (self.now()?, Instant::now());
        let standing = self.journal()?.standing(&now, &name.to_string());
        let standing = standing.map_err(trouble)?;
        if standing.is_empty() && !self.uses(name) {
            return Ok(Repairs::default());
        }
        let books = Books::of(&standing, &self.perhaps_gone()?, read);
        drop(standing);
        let mut repairs = Repairs::default();
        let backend = self.backend(name)?;
        let corrected = backend.correct(|found| {
            let (correction, judged) = books.judge(found);
            repairs = judged;
            correction
        });
        let table = match corrected.map_err(kernel)?.0 {
            Corrected::Kept => return Ok(repairs),
            Corrected::Made => "the firewall's table was missing, and is made anew",
            Corrected::Rebuilt => "the firewall's table was changed by somebody, and is made anew",
        };
        repairs.tables = 1;
        repairs.said.insert(0, table.to_owned());
        Ok(repairs)
    }

    /// Whether the configuration names that backend.
    fn uses(&self, name: BackendName) -> bool {
        let grants = &self.world.grants;
        let mut own = grants
            .responses
            .values()
            .filter_map(|r| r.firewall.as_ref());
        grants.firewall.backend == name || own.any(|firewall| firewall.backend == Some(name))
    }

    /// The holds whose release is written down and not done: the kernel may have let go
    /// what they are on.
    fn perhaps_gone(&mut self) -> Result<BTreeSet<i64>, Refusal> {
        let debts = self.owed().and_then(|owed| owed.all()).unwrap_or_default();
        if debts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let owed = |hold: &_| debts.iter().any(|(_, debt)| debt.is_for(hold));
        let holds = self.open_holds_that(owed)?;
        Ok(holds.iter().map(|hold| hold.id).collect())
    }
}

impl Books {
    fn of(standing: &[Standing], perhaps_gone: &BTreeSet<i64>, read: Instant) -> Self {
        let (mut hosts, mut networks, mut going) = (Vec::new(), Vec::new(), Vec::new());
        for hold in standing {
            let stands =
                !hold.releasing && !hold.left.is_zero() && !perhaps_gone.contains(&hold.hold);
            match address::only(hold.network) {
                Some(address) => hosts.push(Wanted {
                    address,
                    at_least: stands.then_some(hold.left),
                    at_most: hold.left,
                }),
                None if stands => networks.push(hold.network),
                None => going.push(hold.network),
            }
        }
        hosts.sort_unstable_by_key(|wanted| wanted.address);
        hosts.dedup_by(|next, first| {
            let same = next.address == first.address;
            if same {
                first.at_least = first.at_least.max(next.at_least);
                first.at_most = first.at_most.max(next.at_most);
            }
            same
        });
        Self {
            hosts,
            networks,
            going,
            read,
        }
    }

    fn judge(&self, found: &Found) -> (Correction, Repairs) {
        let passed = self.read.elapsed();
        let (mut lost, mut foreign, mut late) = (Vec::new(), Vec::new(), Vec::new());
        let mut correction = Correction::default();
        let mut set = |wanted: &Wanted, at_least: Duration| {
            correction.set.push(Element {
                address: wanted.address,
                timeout: at_least,
                unjournaled: false,
            });
            address::host(wanted.address)
        };
        let mut there = found.hosts.iter().peekable();
        for wanted in &self.hosts {
            while let Some((address, seen)) = there.next_if(|(a, _)| *a < wanted.address) {
                foreign.extend(is_foreign(seen).then_some(*address));
            }
            let seen = there.next_if(|(address, _)| *address == wanted.address);
            let at_least = wanted.at_least.map(|left| left.saturating_sub(passed));
            let at_most = wanted.at_most.saturating_sub(passed);
            match (at_least.filter(|left| *left > MOMENT), seen) {
                (Some(left), None) => lost.push(set(wanted, left)),
                (Some(left), Some((_, seen))) if seen.is_off(left, at_most) => {
                    late.push(set(wanted, left));
                }
                _ => {}
            }
        }
        for (address, seen) in there {
            foreign.extend(is_foreign(seen).then_some(*address));
        }
        let mut networks = self.networks.clone();
        let there = |network: &&IpNet| covers(&found.networks, **network);
        networks.extend(self.going.iter().filter(there));
        let networks = union(&networks);
        correction.remove.clone_from(&foreign);
        let mut foreign: Vec<IpNet> = foreign.into_iter().map(address::host).collect();
        if networks != found.networks {
            let more = |networks: &[IpNet], than: &[IpNet]| -> Vec<IpNet> {
                let more = networks.iter().filter(|network| !covers(than, **network));
                more.copied().collect()
            };
            lost.extend(more(&networks, &found.networks));
            foreign.extend(more(&found.networks, &networks));
            correction.networks = Some(networks);
        }
        let mut repairs = Repairs::default();
        repairs.put_back = repairs.say(
            "held, and were not in the firewall; they are put back",
            &lost,
        );
        repairs.removed = repairs.say(
            "in the firewall, and held by nobody; they are taken out",
            &foreign,
        );
        repairs.retimed = repairs.say(
            "in the firewall for another time than they are held; it is set right",
            &late,
        );
        (correction, repairs)
    }
}

/// Whether one of the networks, which are in order and apart, is around this one.
fn covers(networks: &[IpNet], network: IpNet) -> bool {
    let behind = networks.partition_point(|other| other.network() <= network.network());
    let before = behind.checked_sub(1).and_then(|at| networks.get(at));
    before.is_some_and(|wide| wide.contains(&network))
}

/// An element of a host that nobody holds. One that was put in without the journal says
/// so, and ends by itself.
fn is_foreign(seen: &Seen) -> bool {
    let ends = seen
        .expires_in
        .is_some_and(|left| left <= UNJOURNALED.saturating_add(SLACK));
    !(seen.unjournaled && ends)
}

impl Seen {
    /// Whether the kernel keeps it for another time than its holds say.
    fn is_off(&self, at_least: Duration, at_most: Duration) -> bool {
        let Some(left) = self.expires_in else {
            return true;
        };
        let short = left.saturating_add(SLACK) < at_least.min(LONGEST);
        // What was blocked without the journal besides lasts as long as it was to.
        let long = left > at_most.saturating_add(SLACK) && is_foreign(self);
        short || long
    }
}

#[cfg(test)]
mod tests;
