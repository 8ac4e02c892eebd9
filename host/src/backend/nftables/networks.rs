//! The networks: two interval sets without times, which hold the union of what is
//! wanted. The kernel refuses intervals that overlap.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};
use netlink_bindings::nftables::{self as nft, PushSetelemListElemAttrs};
use netlink_bindings::traits::Pusher;

use super::elements::{address, octets};
use super::table::{Batch, NETWORKS4, NETWORKS6, State, missing};
use super::{AT_ONCE, Error, Nftables, Start, header};

/// `NFT_SET_ELEM_INTERVAL_END`: the element is the first address behind an interval.
const INTERVAL_END: u32 = 1;

/// Addresses that follow one another, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// An element of an interval set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    at: IpAddr,
    /// An interval that ends where the next begins ends first.
    begins: bool,
}

impl Nftables {
    /// See [`super::super::Backend::set_networks`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn set_networks(&mut self, wanted: &[IpNet]) -> Result<(), Error> {
        let wanted = merged(wanted);
        self.again("put networks into the set", |nft| {
            nft.set_ranges_once(&wanted)
        })
    }

    fn set_ranges_once(&mut self, wanted: &[Range]) -> io::Result<Result<(), Error>> {
        if wanted.is_empty() && matches!(self.state()?, Ok(State::Missing)) {
            return Ok(Ok(()));
        }
        let (mut batch, start) = match self.begin()? {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        match start {
            Start::Whole => {
                let has = self.dump_ranges()?;
                batch.change_ranges(&has, wanted);
            }
            Start::Anew { hosts, .. } => {
                batch.add(&hosts);
                batch.add_ranges(wanted);
            }
        }
        self.commit(batch).map(Ok)
    }

    /// See [`super::super::Backend::networks`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn networks(&mut self) -> Result<Vec<IpNet>, Error> {
        self.again("list the networks", |nft| match nft.state()? {
            Ok(State::Missing) => Ok(Ok(Vec::new())),
            Ok(_) => Ok(Ok(subnets(&joined(nft.dump_ranges()?)))),
            Err(error) => Ok(Err(error)),
        })
    }

    /// The intervals as the kernel has them, in order.
    pub(super) fn dump_ranges(&mut self) -> io::Result<Vec<Range>> {
        let mut ranges = Vec::new();
        for set in [NETWORKS4, NETWORKS6] {
            let mut request = nft::Request::new().op_getsetelem_dump(&header());
            request
                .encode()
                .push_table_bytes(self.table.as_bytes())
                .push_set_bytes(set.as_bytes());
            let mut edges = Vec::new();
            let asked = self.netlink.request(&request, |(_, list)| {
                let elements = list.get_elements().ok().into_iter().flatten();
                edges.extend(elements.filter_map(|element| {
                    let nft::SetelemListElemAttrs::Elem(element) = element.ok()?;
                    let flags = element.get_flags().unwrap_or_default();
                    let flags = flags.try_into().map_or(0, u32::from_be_bytes);
                    Some(Edge {
                        at: address(&element)?,
                        begins: flags & INTERVAL_END == 0,
                    })
                }));
            });
            missing(asked)?;
            edges.sort_unstable();
            ranges.extend(between(&edges));
        }
        Ok(ranges)
    }
}

impl Batch {
    /// Makes the kernel's ranges the wanted ones.
    pub(super) fn change_ranges(&mut self, has: &[Range], wanted: &[Range]) {
        self.remove_ranges(&without(has, wanted));
        self.add_ranges(&without(wanted, has));
    }

    pub(super) fn add_ranges(&mut self, ranges: &[Range]) {
        for (set, edges) in by_set(ranges) {
            let table = self.table.clone();
            let mut message = self.message().set_create().op_newsetelem_do(&header());
            let list = message
                .encode()
                .push_table_bytes(table.as_bytes())
                .push_set_bytes(set.as_bytes())
                .nested_elements();
            push(list, &edges);
        }
    }

    fn remove_ranges(&mut self, ranges: &[Range]) {
        for (set, edges) in by_set(ranges) {
            let table = self.table.clone();
            let mut message = self.message().op_delsetelem_do(&header());
            let list = message
                .encode()
                .push_table_bytes(table.as_bytes())
                .push_set_bytes(set.as_bytes())
                .nested_elements();
            push(list, &edges);
        }
    }
}

fn push<P: Pusher>(mut list: PushSetelemListElemAttrs<P>, edges: &[Edge]) {
    for edge in edges {
        list = list
            .nested_elem()
            .push_flags(&edge.flags())
            .nested_key()
            .push_value(&octets(edge.at))
            .end_nested()
            .end_nested();
    }
    list.end_nested();
}

impl Edge {
    fn flags(self) -> [u8; 4] {
        if self.begins { 0 } else { INTERVAL_END }.to_be_bytes()
    }
}

/// What goes into each message: both edges of an interval into the same. An interval
/// that reaches the last address of all has no end.
fn by_set(ranges: &[Range]) -> Vec<(&'static str, Vec<Edge>)> {
    let (v4, v6): (Vec<Range>, Vec<Range>) = ranges.iter().partition(|r| r.first.is_ipv4());
    let edges = |range: &Range| {
        let begin = Edge {
            at: range.first,
            begins: true,
        };
        let end = after(range.last).map(|at| Edge { at, begins: false });
        std::iter::once(begin).chain(end)
    };
    [(NETWORKS4, v4), (NETWORKS6, v6)]
        .iter()
        .flat_map(|(set, ranges)| {
            ranges
                .chunks(AT_ONCE / 2)
                .map(|some| (*set, some.iter().flat_map(edges).collect()))
        })
        .collect()
}

/// The intervals between edges that are in order and of one family.
fn between(edges: &[Edge]) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut open = None;
    for edge in edges {
        match (edge.begins, open) {
            (true, _) => open = open.or(Some(edge.at)),
            (false, Some(first)) => {
                ranges.extend(before(edge.at).map(|last| Range { first, last }));
                open = None;
            }
            // nft begins a set with an end at the first address of all.
            (false, None) => {}
        }
    }
    ranges.extend(open.map(|first| Range {
        first,
        last: greatest(first),
    }));
    ranges
}

/// The union of the networks, as few ranges as can say it, in order.
pub(super) fn merged(networks: &[IpNet]) -> Vec<Range> {
    let mut ranges: Vec<Range> = networks
        .iter()
        .map(|network| Range {
            first: network.network(),
            last: network.broadcast(),
        })
        .collect();
    ranges.sort_unstable();
    joined(ranges)
}

/// The union of the networks, as few of them as can say it, in order.
#[must_use]
pub fn union(networks: &[IpNet]) -> Vec<IpNet> {
    subnets(&merged(networks))
}

/// Ranges in order, joined where they meet.
pub(super) fn joined(ranges: Vec<Range>) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(before) if before.reaches(range.first) => {
                before.last = before.last.max(range.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

impl Range {
    /// Whether nothing is between its end and `first`, which is not before its start.
    fn reaches(&self, first: IpAddr) -> bool {
        self.last.is_ipv4() == first.is_ipv4()
            && after(self.last).is_none_or(|behind| first <= behind)
    }
}

pub(super) fn subnets(ranges: &[Range]) -> Vec<IpNet> {
    let split = |range: &Range| match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Some(IpSubnets::V4(Ipv4Subnets::new(first, last, 0)))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Some(IpSubnets::V6(Ipv6Subnets::new(first, last, 0)))
        }
        _ => None,
    };
    ranges.iter().filter_map(split).flatten().collect()
}

/// Those of `these` that are not among `others`; both are in order.
fn without(these: &[Range], others: &[Range]) -> Vec<Range> {
    let other = |range: &&Range| others.binary_search(range).is_err();
    these.iter().filter(other).copied().collect()
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(1)
            .map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(1)
            .map(|next| IpAddr::V6(next.into())),
    }
}

fn before(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_sub(1)
            .map(|last| IpAddr::V4(last.into())),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_sub(1)
            .map(|last| IpAddr::V6(last.into())),
    }
}

fn greatest(of_its_family: IpAddr) -> IpAddr {
    match of_its_family {
        IpAddr::V4(_) => Ipv4Addr::BROADCAST.into(),
        IpAddr::V6(_) => Ipv6Addr::from(u128::MAX).into(),
    }
}
