//! The addresses that one address stands for: an IPv4 host can be reached, and
//! therefore blocked, in several IPv6 spellings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// All networks that `network` stands for, itself first: the IPv4 network inside
/// an IPv4-mapped, IPv4-compatible, NAT64, 6to4 or Teredo one.
///
/// A network so wide that the IPv4 address is not fixed by it stands for all that
/// could be inside.
#[must_use]
pub fn forms(network: IpNet, nat64: &[Ipv6Net]) -> Vec<IpNet> {
    let mut forms = vec![network];
    let IpNet::V6(v6) = network else { return forms };
    let mut inner = |prefix: Ipv6Net, at: &[u32]| {
        if prefix.contains(&v6.network()) || v6.contains(&prefix.network()) {
            forms.extend(embedded(v6, at).map(IpNet::V4));
        }
    };
    // RFC 4291 §2.5.5, RFC 3056, RFC 4380 §4 (the server), RFC 6052 §2.
    inner(net([0, 0, 0, 0, 0, 0xffff], 96), &AT_96);
    inner(net([0, 0, 0, 0, 0, 0], 96), &AT_96);
    inner(net([0x2002, 0, 0, 0, 0, 0], 16), &AT_16);
    inner(net([0x2001, 0, 0, 0, 0, 0], 32), &AT_32_PLAIN);
    inner(net([0x64, 0xff9b, 0, 0, 0, 0], 96), &AT_96);
    for prefix in nat64 {
        if let Some(at) = rfc6052(prefix.prefix_len()) {
            inner(*prefix, at);
        }
    }
    let teredo = net([0x2001, 0, 0, 0, 0, 0], 32);
    if teredo.contains(&v6.network()) || v6.contains(&teredo.network()) {
        forms.extend(embedded(flipped(v6), &AT_96).map(IpNet::V4));
    }
    forms
}

/// Where the four octets of the IPv4 address begin, in bits.
const AT_16: [u32; 4] = [16, 24, 32, 40];
const AT_32_PLAIN: [u32; 4] = [32, 40, 48, 56];
const AT_96: [u32; 4] = [96, 104, 112, 120];

/// RFC 6052 leaves bits 64 to 71 out.
fn rfc6052(prefix: u8) -> Option<&'static [u32; 4]> {
    match prefix {
        32 => Some(&[32, 40, 48, 56]),
        40 => Some(&[40, 48, 56, 72]),
        48 => Some(&[48, 56, 72, 80]),
        56 => Some(&[56, 72, 80, 88]),
        64 => Some(&[72, 80, 88, 96]),
        96 => Some(&AT_96),
        _ => None,
    }
}

fn net(head: [u16; 6], length: u8) -> Ipv6Net {
    let [a, b, c, d, e, f] = head;
    Ipv6Net::new(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), length).unwrap_or_default()
}

/// The IPv4 network whose octets stand at those bits; bits behind the prefix of
/// `network` are not fixed.
fn embedded(network: Ipv6Net, at: &[u32]) -> Option<ipnet::Ipv4Net> {
    let bits = u128::from(network.network());
    let mut address = 0_u32;
    let mut fixed = 0_u8;
    let mut open = false;
    for begin in at {
        let shift = 120_u32.checked_sub(*begin)?;
        let octet = u32::try_from(bits.checked_shr(shift)? & 0xff).ok()?;
        address = address.checked_shl(8)? | octet;
        let known = u32::from(network.prefix_len())
            .saturating_sub(*begin)
            .min(8);
        if !open {
            fixed = fixed.saturating_add(u8::try_from(known).ok()?);
        }
        open |= known < 8;
    }
    ipnet::Ipv4Net::new(Ipv4Addr::from(address), fixed)
        .ok()
        .map(|n| n.trunc())
}

/// A Teredo client's address is stored with its bits flipped.
fn flipped(network: Ipv6Net) -> Ipv6Net {
    let address = Ipv6Addr::from(!u128::from(network.network()));
    Ipv6Net::new(address, network.prefix_len()).unwrap_or(network)
}

/// Whether one of the two holds the other.
#[must_use]
pub fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Whether the address is one that no packet from outside may be judged by.
#[must_use]
pub fn special(network: IpNet) -> Option<&'static str> {
    let v4 = |text: &str| text.parse::<IpNet>().ok();
    let table: [(&str, &str); 9] = [
        ("127.0.0.0/8", "loopback"),
        ("0.0.0.0/8", "unspecified"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("::1/128", "loopback"),
        ("::/128", "unspecified"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    ];
    table
        .into_iter()
        .find(|(text, _)| v4(text).is_some_and(|special| overlap(special, network)))
        .map(|(_, name)| name)
}

/// The network of one address.
#[must_use]
pub fn one(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(text: &str, nat64: &[&str]) -> Vec<String> {
        let nat64: Vec<Ipv6Net> = nat64.iter().map(|n| n.parse().unwrap()).collect();
        let network = text
            .parse::<IpAddr>()
            .map(IpNet::from)
            .or_else(|_| text.parse())
            .unwrap();
        forms(network, &nat64)
            .into_iter()
            .skip(1)
            .map(|n| n.to_string())
            .collect()
    }

    #[test]
    fn an_ipv4_host_is_found_in_every_spelling() {
        assert_eq!(inner("::ffff:10.0.0.1", &[]), ["10.0.0.1/32"]);
        assert_eq!(inner("::10.0.0.1", &[]), ["10.0.0.1/32"]);
        assert_eq!(inner("64:ff9b::10.0.0.1", &[]), ["10.0.0.1/32"]);
        assert_eq!(inner("2002:a00:1::", &[]), ["10.0.0.1/32"]);
        assert_eq!(inner("2002:a00:1::abcd", &[]), ["10.0.0.1/32"]);
        // RFC 4380: server 65.54.227.120, client 192.0.2.45.
        assert_eq!(
            inner("2001:0:4136:e378:8000:63bf:3fff:fdd2", &[]),
            ["65.54.227.120/32", "192.0.2.45/32"]
        );
        assert!(inner("2001:db8::1", &[]).is_empty());
        assert!(inner("10.0.0.1", &[]).is_empty());
    }

    #[test]
    fn configured_nat64_prefixes_follow_rfc_6052() {
        // The examples of RFC 6052 §2.4.
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            assert_eq!(inner(address, &[prefix]), ["192.0.2.33/32"], "{prefix}");
        }
    }

    #[test]
    fn a_wide_network_stands_for_all_inside() {
        assert!(inner("::/0", &[]).contains(&"0.0.0.0/0".to_owned()));
        assert_eq!(inner("2002:a00::/32", &[]), ["10.0.0.0/16"]);
    }
}
