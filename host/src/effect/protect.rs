//! The addresses that are never blocked, whoever asks.

use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use super::clothes::{self, forms, overlap};
use super::surroundings::Surroundings;
use crate::conf::white_list::WhiteList;

/// A network that has to stay reachable, and whose wish that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The network.
    pub network: IpNet,
    /// A few words: "the manager 192.0.2.1".
    pub why: String,
    /// Since when, since the epoch, where it did nothing against older alerts.
    pub since: Option<Duration>,
}

impl Entry {
    /// One that always has to.
    #[must_use]
    pub fn always(network: IpNet, why: String) -> Self {
        Self {
            network,
            why,
            since: None,
        }
    }
}

/// See the module. A snapshot: read it again when addresses or routes may have
/// changed.
#[derive(Debug)]
pub struct ProtectList {
    entries: Vec<Entry>,
    /// Each entry in all its spellings, by its place.
    forms: Vec<(IpNet, usize)>,
    nat64: Vec<Ipv6Net>,
    white_list: WhiteList,
}

impl ProtectList {
    /// The list for a host with these surroundings.
    #[must_use]
    pub fn new(
        surroundings: Surroundings,
        configured: Vec<Entry>,
        nat64: Vec<Ipv6Net>,
        white_list: WhiteList,
    ) -> Self {
        let entry =
            |address, what: &str| Entry::always(clothes::one(address), format!("{what} {address}"));
        let mut entries = configured;
        entries.extend(
            surroundings
                .addresses
                .iter()
                .map(|a| entry(*a, "this host's own address")),
        );
        entries.extend(
            surroundings
                .gateways
                .iter()
                .map(|a| entry(*a, "the gateway")),
        );
        entries.extend(
            surroundings
                .resolvers
                .iter()
                .map(|a| entry(*a, "the resolver")),
        );
        let spelled = entries.iter().enumerate().flat_map(|(at, entry)| {
            forms(entry.network, &nat64)
                .into_iter()
                .map(move |form| (form, at))
        });
        Self {
            forms: spelled.collect(),
            entries,
            nat64,
            white_list,
        }
    }

    /// Why `network` must not be blocked: it overlaps something protected, in
    /// whatever spelling.
    #[must_use]
    pub fn refuses(&self, network: IpNet) -> Option<String> {
        self.refuses_alert(network, Duration::MAX)
    }

    /// As [`ProtectList::refuses`], for an alert of that time since the epoch: what
    /// has to stay reachable since then or later does nothing against it.
    #[must_use]
    pub fn refuses_alert(&self, network: IpNet, alerted: Duration) -> Option<String> {
        let older = |entry: &Entry| entry.since.is_none_or(|since| since < alerted);
        for form in forms(network, &self.nat64) {
            if let Some(special) = clothes::special(form) {
                return Some(special.to_owned());
            }
            let mut hit = self.forms.iter().filter(|(other, _)| overlap(*other, form));
            let entry = hit.find_map(|(_, at)| self.entries.get(*at).filter(|e| older(e)));
            if let Some(entry) = entry {
                return Some(entry.why.clone());
            }
            if let Some(why) = self.white_list.refuses(form) {
                return Some(why);
            }
        }
        None
    }

    /// What is on the list, for people.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ProtectList {
        let surroundings = Surroundings {
            addresses: vec![
                "192.0.2.10".parse().unwrap(),
                "2001:db8::10".parse().unwrap(),
            ],
            gateways: vec!["10.0.0.1".parse().unwrap()],
            resolvers: vec!["9.9.9.9".parse().unwrap()],
        };
        let manager = Entry::always(
            "198.51.100.7/32".parse().unwrap(),
            "the manager 198.51.100.7".into(),
        );
        let session = Entry {
            network: "198.51.100.8/32".parse().unwrap(),
            why: "the session of alice".into(),
            since: Some(Duration::from_secs(1000)),
        };
        ProtectList::new(
            surroundings,
            vec![manager, session],
            Vec::new(),
            WhiteList::default(),
        )
    }

    #[test]
    fn the_gateway_is_protected_in_every_spelling() {
        for spelling in [
            "10.0.0.1/32",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::ffff:10.0.0.1/128",
            "64:ff9b::a00:1/128",
            "2002:a00:1::1/128",
            "2002:a00:1::/48",
            "::/0",
            "2001:0:a00:1::/64",
            "2001::f5ff:fffe/128",
        ] {
            let refusal = list().refuses(spelling.parse().unwrap());
            assert!(refusal.is_some(), "{spelling}");
        }
        assert_eq!(
            list().refuses("2002:a00:1::/48".parse().unwrap()).unwrap(),
            "the gateway 10.0.0.1"
        );
    }

    #[test]
    fn each_protected_thing_says_what_it_is() {
        for (network, words) in [
            ("127.0.0.1/32", "loopback"),
            ("::1/128", "loopback"),
            ("0.0.0.0/32", "unspecified"),
            ("224.0.0.251/32", "multicast"),
            ("fe80::1/128", "link-local"),
            ("169.254.169.254/32", "link-local"),
            ("255.255.255.255/32", "broadcast"),
            ("192.0.2.10/32", "this host's own address 192.0.2.10"),
            ("2001:db8::10/128", "this host's own address 2001:db8::10"),
            ("9.9.9.9/32", "the resolver 9.9.9.9"),
            ("198.51.100.7/32", "the manager 198.51.100.7"),
        ] {
            assert_eq!(
                list().refuses(network.parse().unwrap()).as_deref(),
                Some(words),
                "{network}"
            );
        }
    }

    #[test]
    fn a_session_is_protected_against_what_came_after_it() {
        for network in ["198.51.100.8/32", "198.51.100.8/29", "2002:c633:6408::/48"] {
            let network = network.parse().unwrap();
            let at = |second| list().refuses_alert(network, Duration::from_secs(second));
            assert_eq!((at(999), at(1000)), (None, None), "{network}");
            assert_eq!(at(1001).as_deref(), Some("the session of alice"));
            assert_eq!(list().refuses(network), at(1001));
        }
        let manager = "198.51.100.7/32".parse().unwrap();
        assert!(list().refuses_alert(manager, Duration::ZERO).is_some());
    }

    #[test]
    fn an_attacker_is_not_protected() {
        for network in ["203.0.113.5/32", "2001:db8:bad::1/128", "192.0.2.11/32"] {
            assert_eq!(list().refuses(network.parse().unwrap()), None, "{network}");
        }
    }
}
