//! The hosts, in the two sets whose elements have a time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use netlink_bindings::nftables::{self as nft, IterableSetelemAttrs, IterableSetelemListAttrs};

use super::table::{Batch, SET4, SET6, comment, missing};
use super::{AT_ONCE, Element, LONGEST, Nftables, Seen, header};

/// The comment of an element that no journal knows of: whoever compares the two must not
/// take it for somebody else's.
const UNJOURNALED: &str = "blocked without the journal";

impl Nftables {
    pub(super) fn look_once(&mut self, address: IpAddr) -> io::Result<Option<Seen>> {
        let mut seen = None;
        let mut request = nft::Request::new().op_getsetelem_do(&header());
        request
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_set_bytes(set_of(address).as_bytes())
            .nested_elements()
            .nested_elem()
            .nested_key()
            .push_value(&octets(address))
            .end_nested()
            .end_nested()
            .end_nested();
        let asked = self.netlink.request(&request, |(_, list)| {
            seen = each(&list)
                .find(|(a, _)| *a == address)
                .map(|(_, seen)| seen);
        });
        Ok(if missing(asked)? { None } else { seen })
    }

    pub(super) fn dump(&mut self) -> io::Result<Vec<(IpAddr, Seen)>> {
        let mut all = Vec::new();
        for set in [SET4, SET6] {
            let mut request = nft::Request::new().op_getsetelem_dump(&header());
            request
                .encode()
                .push_table_bytes(self.table.as_bytes())
                .push_set_bytes(set.as_bytes());
            missing(
                self.netlink
                    .request(&request, |(_, list)| all.extend(each(&list))),
            )?;
        }
        Ok(all)
    }
}

impl Batch {
    pub(super) fn add(&mut self, elements: &[Element]) {
        for (set, elements) in by_set(elements, |element| element.address) {
            let table = self.table.clone();
            let mut message = self.message().set_create().op_newsetelem_do(&header());
            let mut list = message
                .encode()
                .push_table_bytes(table.as_bytes())
                .push_set_bytes(set.as_bytes())
                .nested_elements();
            for element in elements {
                let mut elem = list
                    .nested_elem()
                    .nested_key()
                    .push_value(&octets(element.address))
                    .end_nested()
                    .push_timeout(milliseconds(element.timeout).to_be());
                if element.unjournaled {
                    elem = elem.push_userdata(&comment(UNJOURNALED));
                }
                list = elem.end_nested();
            }
            list.end_nested();
        }
    }

    pub(super) fn remove(&mut self, addresses: &[IpAddr]) {
        for (set, addresses) in by_set(addresses, |address| *address) {
            let table = self.table.clone();
            let mut message = self.message().op_delsetelem_do(&header());
            let mut list = message
                .encode()
                .push_table_bytes(table.as_bytes())
                .push_set_bytes(set.as_bytes())
                .nested_elements();
            for address in addresses {
                list = list
                    .nested_elem()
                    .nested_key()
                    .push_value(&octets(address))
                    .end_nested()
                    .end_nested();
            }
            list.end_nested();
        }
    }
}

/// What goes into each message.
fn by_set<T: Copy>(items: &[T], address: impl Fn(&T) -> IpAddr) -> Vec<(&'static str, Vec<T>)> {
    let (v4, v6): (Vec<T>, Vec<T>) = items.iter().partition(|item| address(item).is_ipv4());
    [(SET4, v4), (SET6, v6)]
        .iter()
        .flat_map(|(set, items)| items.chunks(AT_ONCE).map(|some| (*set, some.to_vec())))
        .collect()
}

fn set_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { SET4 } else { SET6 }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The kernel counts in milliseconds and takes 0 for never.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.min(LONGEST).as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn each<'a>(list: &IterableSetelemListAttrs<'a>) -> impl Iterator<Item = (IpAddr, Seen)> + use<'a> {
    let elements = list.get_elements().ok();
    elements.into_iter().flatten().filter_map(|element| {
        let nft::SetelemListElemAttrs::Elem(element) = element.ok()?;
        Some((address(&element)?, seen(&element)))
    })
}

pub(super) fn address(element: &IterableSetelemAttrs<'_>) -> Option<IpAddr> {
    let key = element.get_key().ok()?.get_value().ok()?;
    if let Ok(v4) = <[u8; 4]>::try_from(key) {
        return Some(IpAddr::V4(Ipv4Addr::from(v4)));
    }
    <[u8; 16]>::try_from(key)
        .ok()
        .map(|v6| IpAddr::V6(Ipv6Addr::from(v6)))
}

/// Times come in network order, which the bindings do not know.
fn seen(element: &IterableSetelemAttrs<'_>) -> Seen {
    let left = element.get_expiration().ok().map(u64::from_be);
    Seen {
        expires_in: left.map(Duration::from_millis),
        unjournaled: element
            .get_userdata()
            .is_ok_and(|data| data == comment(UNJOURNALED).as_slice()),
    }
}
