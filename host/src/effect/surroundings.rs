//! What this host needs to stay a host on its network: its own addresses, its
//! gateways, its resolvers. Read from the kernel and `resolv.conf`.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use netlink_bindings::{rt_addr, rt_route};
use nix::sys::socket::SockProtocol;

use crate::address;
use crate::backend::netlink::Netlink;

/// A `resolv.conf` has at most a few kilobytes.
const RESOLV_CONF: u64 = 64 << 10;

/// Where systemd-resolved keeps the servers behind its stub.
const RESOLV_CONFS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// A dump that changed under us is read again that often.
const TRIES: usize = 3;

/// `RTA_GATEWAY` inside a next hop of a multipath route.
const RTA_GATEWAY: u16 = 5;

/// The fixed part of a `struct rtnexthop`.
const NEXTHOP: usize = 8;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// This host's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The next hops of its routes, in all tables.
    pub gateways: Vec<IpAddr>,
    /// Its name servers.
    pub resolvers: Vec<IpAddr>,
}

impl Surroundings {
    /// Reads them. No wait is longer than `budget`.
    ///
    /// # Errors
    /// When the kernel does not say; a missing `resolv.conf` is an empty one.
    pub fn read(budget: Duration) -> io::Result<Self> {
        let mut netlink = Netlink::open(SockProtocol::NetlinkRoute, budget)?;
        Ok(Self {
            addresses: again(|| addresses(&mut netlink))?,
            gateways: again(|| gateways(&mut netlink))?,
            resolvers: resolvers(),
        })
    }
}

fn again<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..TRIES {
        match read() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
    read()
}

fn addresses(netlink: &mut Netlink) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    let request = rt_addr::Request::new().op_getaddr_dump(&rt_addr::Ifaddrmsg::new());
    netlink.request(&request, |(_, attributes)| {
        // On a point-to-point link `address` is the other end; both have to stay.
        addresses.extend(attributes.get_local().ok().map(address::canonical));
        addresses.extend(attributes.get_address().ok().map(address::canonical));
    })?;
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

fn gateways(netlink: &mut Netlink) -> io::Result<Vec<IpAddr>> {
    let mut gateways = Vec::new();
    let request = rt_route::Request::new().op_getroute_dump(&rt_route::Rtmsg::new());
    netlink.request(&request, |(_, attributes)| {
        gateways.extend(attributes.get_gateway().ok().map(address::canonical));
        if let Ok(hops) = attributes.get_multipath() {
            gateways.extend(next_hops(hops).into_iter().map(address::canonical));
        }
    })?;
    gateways.sort();
    gateways.dedup();
    Ok(gateways)
}

/// The gateways of a list of `struct rtnexthop`, each followed by its attributes.
fn next_hops(mut rest: &[u8]) -> Vec<IpAddr> {
    let mut gateways = Vec::new();
    while let Some(length) = short(rest, 0).filter(|length| *length >= NEXTHOP) {
        let Some(mut attributes) = rest.get(NEXTHOP..length) else {
            break;
        };
        while let Some(size) = short(attributes, 0).filter(|size| *size >= 4) {
            let kind = short(attributes, 2).unwrap_or_default();
            let value = attributes.get(4..size).unwrap_or_default();
            if kind == usize::from(RTA_GATEWAY) {
                gateways.extend(<[u8; 4]>::try_from(value).ok().map(IpAddr::from));
                gateways.extend(<[u8; 16]>::try_from(value).ok().map(IpAddr::from));
            }
            attributes = attributes
                .get(size.next_multiple_of(4)..)
                .unwrap_or_default();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    gateways
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at.saturating_add(2))?;
    Some(usize::from(u16::from_ne_bytes(two.try_into().ok()?)))
}

fn resolvers() -> Vec<IpAddr> {
    let mut resolvers: Vec<IpAddr> = RESOLV_CONFS
        .iter()
        .filter_map(|path| {
            let mut text = String::new();
            std::fs::File::open(path)
                .ok()?
                .take(RESOLV_CONF)
                .read_to_string(&mut text)
                .ok()?;
            Some(name_servers(&text))
        })
        .flatten()
        .collect();
    resolvers.sort();
    resolvers.dedup();
    resolvers
}

fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            let address = words.next()?;
            // A zone is this host's business, not the packet's.
            address::parse(address.split('%').next().unwrap_or(address))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nnameserver 9.9.9.9\nnameserver\tfe80::1%eth0\nsearch x\nnameserver bad\n";
        let expected: Vec<IpAddr> = vec!["9.9.9.9".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }

    #[test]
    fn every_hop_of_a_multipath_route_is_a_gateway() {
        let mut bytes = Vec::new();
        for gateway in [[10, 0, 0, 1], [10, 0, 0, 2]] {
            bytes.extend([16, 0, 0, 0, 2, 0, 0, 0, 8, 0, 5, 0]);
            bytes.extend(gateway);
        }
        let expected: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        assert_eq!(next_hops(&bytes), expected);
        assert!(next_hops(&bytes[..10]).is_empty());
    }

    #[test]
    fn this_host_has_its_loopback_address() {
        let surroundings = Surroundings::read(Duration::from_secs(1)).unwrap();
        assert!(
            surroundings
                .addresses
                .contains(&"127.0.0.1".parse().unwrap()),
            "{surroundings:?}"
        );
    }
}
