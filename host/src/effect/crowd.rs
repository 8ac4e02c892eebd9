//! An attacker who has a whole /64, and comes from another of its addresses each time: it
//! is held by its prefix, so that neither the kernel nor the journal fills with it.

use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use super::broker::Broker;
use super::by_hand::BY_HAND;
use super::check;
use super::context::Context;
use crate::address;
use crate::conf::grants::BackendName;
use crate::journal::{Journal, SITE};

/// Hosts of one /64 that one response blocks for themselves within a minute: more than a
/// household or an office has that attack at one time.
const HOSTS: u32 = 64;

/// In which they have to come.
const WINDOW: Duration = Duration::from_secs(60);

/// A network that is held in place of one host of it.
pub(super) struct Crowd {
    pub(super) network: IpNet,
    /// What to say of it.
    pub(super) warning: String,
}

impl Broker {
    /// The /64 that has to be held in place of the host: too many others of it were
    /// blocked just now, the grant is wide enough, and nothing protected is inside.
    pub(super) fn crowd(
        &mut self,
        context: &Context,
        host: IpNet,
        name: BackendName,
    ) -> Option<Crowd> {
        let IpNet::V6(v6) = host else { return None };
        let run = &context.run;
        let grant = context.grants.firewall.as_ref()?;
        let by_response = grant.widest_ipv6 <= SITE && run.response != BY_HAND;
        address::only(host).filter(|_| by_response)?;
        let network = IpNet::V6(Ipv6Net::new(v6.addr(), SITE).ok()?.trunc());
        let now = self.now().ok()?;
        let journal = self.journal().ok()?;
        let name = name.to_string();
        let held = |journal: &Journal, network| {
            let hold = journal.hold_of(&run.response, &run.key, network, &name);
            hold.is_ok_and(|hold| hold.is_some())
        };
        // What stands is renewed as it stands.
        if held(journal, host) {
            return None;
        }
        let hosts = journal.recent_hosts(&now, &run.response, network, WINDOW);
        let hosts = hosts.ok()?;
        if hosts <= HOSTS && !held(journal, network) {
            return None;
        }
        let (action, srcip) = (run.event.action, run.event.srcip);
        let allowed = check::block(network, action, Some(grant), srcip, |network| {
            self.protects(network, &run.event)
        });
        allowed.ok().map(|network| Crowd {
            network,
            warning: format!(
                "{hosts} hosts of {network} were blocked within a minute: all of it is"
            ),
        })
    }
}
