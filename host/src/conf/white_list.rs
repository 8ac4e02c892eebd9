//! `<white_list>` and `<allow_list>`: addresses that are never blocked.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::address;

/// The entries in the order of the file: the first that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WhiteList {
    networks: Vec<Entry>,
    names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    network: IpNet,
    negated: bool,
    text: String,
}

impl WhiteList {
    /// Adds an entry as it is written. False where it is neither an address nor a
    /// name that could be looked up.
    pub fn push(&mut self, text: &str) -> bool {
        let (negated, rest) = text
            .strip_prefix('!')
            .map_or((false, text), |rest| (true, rest));
        let networks = networks(rest);
        if !networks.is_empty() {
            self.networks
                .extend(networks.into_iter().map(|network| Entry {
                    network,
                    negated,
                    text: text.to_owned(),
                }));
            return true;
        }
        // Wazuh's default list has `^localhost.localdomain$`.
        let name = rest.trim_start_matches('^').trim_end_matches('$');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if negated || name.is_empty() || !name.chars().all(plain) || looks_numeric(name) {
            return false;
        }
        self.names.push(name.to_owned());
        true
    }

    /// The entry that forbids to block `network`, if one does.
    #[must_use]
    pub fn refuses(&self, network: IpNet) -> Option<String> {
        for entry in &self.networks {
            if entry.negated {
                if entry.network.contains(&network) {
                    return None;
                }
            } else if entry.network.contains(&network) || network.contains(&entry.network) {
                return Some(format!("the white list has {}", entry.text));
            }
        }
        None
    }

    /// The entry that is this name, whatever its case; a beginning of one is none.
    #[must_use]
    pub fn refuses_name(&self, name: &str) -> Option<String> {
        let entry = self.names.iter().find(|n| n.eq_ignore_ascii_case(name))?;
        Some(format!("the white list has {entry}"))
    }

    /// Entries that are names: somebody has to look them up.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

fn networks(text: &str) -> Vec<IpNet> {
    if text == "any" {
        return ["0.0.0.0/0", "::/0"]
            .iter()
            .filter_map(|n| n.parse().ok())
            .collect();
    }
    let (host, prefix) = text
        .split_once('/')
        .map_or((text, None), |(h, p)| (h, Some(p)));
    let Some(address) = host.parse().ok().or_else(|| aton(host)) else {
        return Vec::new();
    };
    let network = match prefix {
        None => Some(address::host(address::canonical(address))),
        Some(prefix) => prefix
            .parse()
            .ok()
            .and_then(|prefix| IpNet::new(address, prefix).ok())
            .map(|network| address::canonical_network(network.trunc())),
    };
    network.into_iter().collect()
}

/// What `inet_aton` takes besides dotted quads: one to four parts, decimal, octal
/// or hexadecimal. The original accepts them here, and to lose one would be to
/// lose a protection.
fn aton(text: &str) -> Option<IpAddr> {
    let parts: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, heads) = parts.split_last()?;
    if heads.len() > 3 || heads.iter().any(|head| *head > 255) {
        return None;
    }
    let free = 32_u32.saturating_sub(u32::try_from(heads.len()).ok()?.saturating_mul(8));
    if free < 32 && last.checked_shr(free)? != 0 {
        return None;
    }
    let high = heads.iter().fold(0_u32, |n, head| n.wrapping_shl(8) | head);
    let high = if heads.is_empty() {
        0
    } else {
        high.checked_shl(free).unwrap_or(0)
    };
    Some(IpAddr::V4(Ipv4Addr::from(high | last)))
}

fn number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u32::from_str_radix(hex, 16).ok();
    }
    let (digits, radix) = if text.len() > 1 && text.starts_with('0') {
        (text, 8)
    } else {
        (text, 10)
    };
    digits.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    u32::from_str_radix(digits, radix).ok()
}

/// Nothing but digits, dots and a hyphen: an address or a range gone wrong.
fn looks_numeric(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> WhiteList {
        let mut list = WhiteList::default();
        for entry in entries {
            list.push(entry);
        }
        list
    }

    fn has(list: &WhiteList, network: &str) -> bool {
        list.refuses(network.parse().unwrap()).is_some()
    }

    #[test]
    fn the_first_match_decides() {
        let list = list(&["!10.0.0.5", "10.0.0.0/8", "192.0.2.7"]);
        assert!(!has(&list, "10.0.0.5/32"));
        assert!(has(&list, "10.0.0.6/32"));
        assert!(has(&list, "192.0.2.7/32"));
        assert!(!has(&list, "192.0.2.8/32"));
        assert!(has(&list, "192.0.2.0/24"), "a network around an entry");
        assert!(has(&list, "10.0.0.4/30"), "more than what is excepted");
    }

    #[test]
    fn a_trailing_negation_lets_nothing_else_in() {
        let list = list(&["10.0.0.1", "!10.0.0.2"]);
        assert!(!has(&list, "203.0.113.1/32"));
    }

    #[test]
    fn every_spelling_that_the_original_takes_protects() {
        for spelling in [
            "10.0.0.1",
            "10.1",
            "167772161",
            "0x0a000001",
            "012.0.0.1",
            "::ffff:10.0.0.1",
        ] {
            assert!(has(&list(&[spelling]), "10.0.0.1/32"), "{spelling}");
        }
        assert!(has(&list(&["any"]), "2001:db8::1/128"));
        assert!(has(&list(&["10.9.8.7/8"]), "10.0.0.1/32"));
        assert!(has(&list(&["::ffff:10.0.0.0/104"]), "10.0.0.1/32"));
        assert!(!WhiteList::default().push("10.0.0.1-10.0.0.9"));
        assert!(!list(&["10.0.0.0/255.0.0.0"]).networks.iter().any(|_| true));
    }

    #[test]
    fn names_are_kept_for_whoever_may_ask_dns() {
        let list = list(&[
            "good.example.com",
            "^localhost.localdomain$",
            "10.0.0.0/33",
            "",
        ]);
        assert_eq!(list.names(), ["good.example.com", "localhost.localdomain"]);
    }
}
