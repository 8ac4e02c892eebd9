//! Addresses and networks: one spelling in, one canonical value out.

use std::net::IpAddr;

use ipnet::IpNet;

/// Reads an address that is written as a dotted quad or as RFC 4291 text, and
/// nothing else: no octal or hexadecimal octets, no short forms, no zone id, no
/// brackets, no blank.
#[must_use]
pub fn parse(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(canonical)
}

/// The address as packets carry it: IPv4-mapped (`::ffff:a.b.c.d`) and
/// IPv4-compatible (`::a.b.c.d`) addresses are the IPv4 address inside them.
/// `::` and `::1` stay what they are.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return IpAddr::V4(v4);
    }
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => address,
        [0, 0, 0, 0, 0, 0, ..] => v6.to_ipv4().map_or(address, IpAddr::V4),
        _ => address,
    }
}

/// The network of this one host.
#[must_use]
pub fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The one host that the network is, if it is one.
#[must_use]
pub fn only(network: IpNet) -> Option<IpAddr> {
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The network as people write it: a host without its `/32` or `/128`.
#[must_use]
pub fn spell(network: IpNet) -> String {
    only(network).map_or_else(|| network.to_string(), |address| address.to_string())
}

/// Reads what [`spell`] writes: an address, or a network without bits behind its prefix.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    if let Some(address) = parse(text) {
        return Some(host(address));
    }
    let network: IpNet = text.parse().ok()?;
    (network.addr() == network.network()).then(|| canonical_network(network))
}

/// The network as packets carry its addresses: one of IPv4-mapped addresses alone is
/// the IPv4 network inside it.
#[must_use]
pub fn canonical_network(network: IpNet) -> IpNet {
    match (network.addr(), canonical(network.addr())) {
        (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if network.prefix_len() >= 96 => {
            IpNet::new(v4, network.prefix_len().saturating_sub(96)).unwrap_or(network)
        }
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_spellings_are_addresses() {
        for good in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::1", "::"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "-",
            "10.1",
            "3232235777",
            "0x0a000001",
            "010.0.0.1",
            "fe80::1%lo",
            "[::1]",
            " 192.0.2.1",
            "192.0.2.1/32",
            "192.0.2.1 ",
            "192.0.2.256",
            "localhost",
            "::ffff:1.2.3",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_network_is_read_as_it_is_written() {
        for text in [
            "203.0.113.5",
            "203.0.113.0/24",
            "2001:db8::/64",
            "2001:db8::1",
        ] {
            assert_eq!(parse_network(text).map(spell).as_deref(), Some(text));
        }
        for (text, plain) in [
            ("203.0.113.5/32", "203.0.113.5"),
            ("2001:db8::1/128", "2001:db8::1"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ] {
            assert_eq!(parse_network(text).map(spell).as_deref(), Some(plain));
        }
        for bad in [
            "203.0.113.5/24",
            "203.0.113.0/33",
            "2001:db8::1/64",
            "10.1/16",
            "/8",
            "",
        ] {
            assert!(parse_network(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_the_ipv4_address() {
        let plain: IpAddr = "192.0.2.1".parse().expect("literal");
        assert_eq!(parse("::ffff:192.0.2.1"), Some(plain));
        assert_eq!(parse("::FFFF:c000:201"), Some(plain));
        assert_eq!(parse("::192.0.2.1"), Some(plain));
        assert_eq!(parse("::1"), Some("::1".parse().expect("literal")));
    }
}
