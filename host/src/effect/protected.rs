//! What the broker knows of the addresses that are never blocked: read when it is
//! needed, and kept for a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Refusal;
use super::broker::{Broker, trouble};
use super::protect::{Entry, ProtectList};
use super::sessions::Session;
use super::surroundings::Surroundings;
use crate::address;
use crate::conf::grants::Protected;
use crate::conf::ossec::Server;
use crate::event::Event;

/// How long a protect list stays true without being read again. Longer than a
/// burst of alerts, shorter than anyone needs to change an address and notice.
const PROTECT_FOR: Duration = Duration::from_secs(1);

impl Broker {
    /// The addresses that are never blocked, as they are now.
    ///
    /// # Errors
    /// `unavailable` when the kernel does not say what this host's addresses are:
    /// then nothing is blocked.
    pub fn protect_list(&mut self) -> Result<Arc<ProtectList>, Refusal> {
        if let Some((read, list)) = &self.protect
            && read.elapsed() < PROTECT_FOR
        {
            return Ok(Arc::clone(list));
        }
        let surroundings = Surroundings::read(self.world.budget).map_err(|e| {
            Refusal::unavailable(format!("can't tell what has to be protected: {e}"))
        })?;
        let mut entries = self.entries();
        entries.extend(self.admin_sessions()?);
        let list = Arc::new(ProtectList::new(
            surroundings,
            entries,
            self.world.grants.firewall.nat64.clone(),
            self.world.white_list.clone(),
        ));
        self.protect = Some((Instant::now(), Arc::clone(&list)));
        Ok(list)
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut names = Vec::new();
        for protected in &self.world.grants.firewall.protect {
            match protected {
                Protected::Network(network) => {
                    let why = format!("retort.toml protects {network}");
                    entries.push(Entry::always(*network, why));
                }
                Protected::Name(name) => names.push((name.clone(), "retort.toml protects")),
            }
        }
        for server in &self.world.servers {
            match server {
                Server::Ip(ip) => {
                    let why = format!("the manager {ip}");
                    entries.push(Entry::always(address::host(*ip), why));
                }
                Server::Name(name) => names.push((name.clone(), "the manager")),
            }
        }
        names.extend(
            self.world
                .white_list
                .names()
                .iter()
                .map(|n| (n.clone(), "the white list has")),
        );
        self.unresolved.clear();
        for (name, why) in names {
            let known = self.journal().ok().and_then(|j| j.addresses_of(&name).ok());
            if known.as_ref().is_none_or(Vec::is_empty) {
                self.unresolved.push(name.clone());
            }
            let known = known.unwrap_or_default().into_iter();
            entries
                .extend(known.map(|ip| Entry::always(address::host(ip), format!("{why} {name}"))));
        }
        entries
    }

    /// From where members of the group are logged in, if the grants name one.
    fn admin_sessions(&mut self) -> Result<Vec<Entry>, Refusal> {
        self.unknown_sessions = None;
        let Some(group) = &self.world.grants.firewall.admin_sessions else {
            return Ok(Vec::new());
        };
        let sessions = match self.records.of_group(group, &self.now()?) {
            Ok(sessions) => sessions.into_iter(),
            Err(why) => {
                self.unknown_sessions = Some(format!("no session of {group} is protected: {why}"));
                return Ok(Vec::new());
            }
        };
        let entry = |session: Session| Entry {
            network: address::host(session.from),
            why: format!("{} is logged in from {}", session.user, session.from),
            since: Some(session.since),
        };
        Ok(sessions.map(entry).collect())
    }

    /// Why the network must not be blocked because of what the event says.
    pub(super) fn protects(
        &mut self,
        network: IpNet,
        event: &Event,
    ) -> Result<Option<String>, Refusal> {
        let now = self.now()?.wall;
        let alerted = event.alerted().map_or(now, |alerted| alerted.min(now));
        Ok(self.protect_list()?.refuses_alert(network, alerted))
    }

    /// Addresses, routes or names have changed: what is protected is read again before
    /// the next block.
    pub fn look_around(&mut self) {
        self.protect = None;
    }

    /// What should be said of a block while something that is to be protected is not
    /// known: a name, or who is logged in.
    pub(super) fn unresolved(&self) -> Option<String> {
        let names = (!self.unresolved.is_empty()).then(|| {
            format!(
                "what {} stands for was never looked up, so it is not protected: run `retort check`",
                self.unresolved.join(", ")
            )
        });
        names.or_else(|| self.unknown_sessions.clone())
    }

    /// Why it can't be told who is logged in, if somebody's sessions are to be protected.
    #[must_use]
    pub fn unknown_sessions(&self) -> Option<&str> {
        self.unknown_sessions.as_deref()
    }

    /// Every name that has to be protected: the caller resolves them where waiting
    /// for DNS is allowed, and hands them to [`Broker::remember`].
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let protect = self
            .world
            .grants
            .firewall
            .protect
            .iter()
            .filter_map(|p| match p {
                Protected::Name(name) => Some(name.clone()),
                Protected::Network(_) => None,
            });
        let servers = self.world.servers.iter().filter_map(|s| match s {
            Server::Name(name) => Some(name.clone()),
            Server::Ip(_) => None,
        });
        protect
            .chain(servers)
            .chain(self.world.white_list.names().iter().cloned())
            .collect()
    }

    /// Whether the journal has just these addresses for the name: then it need not be
    /// written again.
    pub fn stands_for(&mut self, name: &str, addresses: &[std::net::IpAddr]) -> bool {
        let known = self.journal().ok().and_then(|j| j.addresses_of(name).ok());
        let sorted = |mut all: Vec<std::net::IpAddr>| {
            all.sort();
            all.dedup();
            all
        };
        known.is_some_and(|known| sorted(known) == sorted(addresses.to_vec()))
    }

    /// Keeps what a name stands for.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn remember(&mut self, name: &str, addresses: &[std::net::IpAddr]) -> Result<(), Refusal> {
        self.look_around();
        let _lock = self.lock(self.world.budget)?;
        let now = self.now()?;
        self.journal()?
            .remember_name(&now, name, addresses)
            .map_err(trouble)
    }
}
