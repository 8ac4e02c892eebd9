//! What the broker knows of the addresses that are never blocked: read when it is
//! needed, and kept for a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Refusal;
use super::broker::{Broker, trouble};
use super::protect::{Entry, ProtectList};
use super::surroundings::Surroundings;
use crate::address;
use crate::conf::grants::Protected;
use crate::conf::ossec::Server;

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
        let list = Arc::new(ProtectList::new(
            surroundings,
            self.entries(),
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
                Protected::Network(network) => entries.push(Entry {
                    network: *network,
                    why: format!("retort.toml protects {network}"),
                }),
                Protected::Name(name) => names.push((name.clone(), "retort.toml protects")),
            }
        }
        for server in &self.world.servers {
            match server {
                Server::Ip(ip) => {
                    entries.push(Entry {
                        network: address::host(*ip),
                        why: format!("the manager {ip}"),
                    });
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
            entries.extend(known.unwrap_or_default().into_iter().map(|ip| Entry {
                network: address::host(ip),
                why: format!("{why} {name}"),
            }));
        }
        entries
    }

    /// What should be said of a block while a protected name is not known.
    pub(super) fn unresolved(&self) -> Option<String> {
        (!self.unresolved.is_empty()).then(|| {
            format!(
                "what {} stands for was never looked up, so it is not protected: run `retort check`",
                self.unresolved.join(", ")
            )
        })
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

    /// Keeps what a name stands for.
    ///
    /// # Errors
    /// When the journal does not take it.
    pub fn remember(&mut self, name: &str, addresses: &[std::net::IpAddr]) -> Result<(), Refusal> {
        self.protect = None;
        let _lock = self.lock(self.world.budget)?;
        let now = self.now()?;
        self.journal()?
            .remember_name(&now, name, addresses)
            .map_err(trouble)
    }
}
