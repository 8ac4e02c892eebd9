//! Hears of changes that others make: to the addresses and routes of this host, to our
//! table in its firewall. It says that something changed and never what: whoever hears
//! it looks for himself.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};

use super::netlink::{DATAGRAM, Header, is_ours, messages};
use super::nftables::table_name;

/// Room for some ten thousand messages. What does not fit is an overrun, and costs a
/// look at everything.
const ROOM: usize = 4 << 20;

/// Datagrams that are read before anyone is told: a storm of messages that mean nothing
/// must not keep the one behind them.
const AT_ONCE: usize = 1024;

/// The groups of `rtnetlink(7)`: `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE` and those of
/// IPv6.
const SURROUNDINGS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// `NFNLGRP_NFTABLES` is the seventh group.
const NFTABLES: u32 = 1 << 6;

/// In every message about a table, or something in it, this attribute is its name.
const TABLE: u16 = 1;

/// The fixed part of a message about the firewall.
const NFGENMSG: usize = 4;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heard {
    /// Nothing, for as long as was waited.
    Nothing,
    /// Somebody else changed something.
    Changed,
    /// So much that some of it is lost.
    Overrun,
}

/// See the module.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Whose changes count; none where every one does.
    table: Option<String>,
}

impl Watch {
    /// Over the addresses and routes of this host.
    ///
    /// # Errors
    /// The system's.
    pub fn surroundings() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, SURROUNDINGS, None)
    }

    /// Over the firewall's table of the installation at `root`. What this process does
    /// to it is not heard.
    ///
    /// # Errors
    /// The system's.
    pub fn table(root: &Path) -> io::Result<Self> {
        let table = Some(table_name(root));
        Self::open(SockProtocol::NetlinkNetFilter, NFTABLES, table)
    }

    fn open(protocol: SockProtocol, groups: u32, table: Option<String>) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            protocol,
        )?;
        // Without the right to, the usual room has to do: an overrun is heard, too.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &ROOM);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self {
            socket,
            buffer: vec![0; DATAGRAM],
            table,
        })
    }

    /// Waits until something is heard, at most for `timeout`. What comes in a burst is
    /// heard once.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Heard> {
        let started = Instant::now();
        loop {
            let heard = self.drain()?;
            let left = timeout.saturating_sub(started.elapsed());
            if heard != Heard::Nothing || left.is_zero() {
                return Ok(heard);
            }
            // A wait of less than a millisecond would be none.
            let left = left.saturating_add(Duration::from_millis(1));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(
                &mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)],
                left,
            ) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads what is there.
    fn drain(&mut self) -> io::Result<Heard> {
        let mut heard = Heard::Nothing;
        for _ in 0..AT_ONCE {
            let flags = MsgFlags::MSG_DONTWAIT;
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    heard = Heard::Overrun;
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            let bytes = self.buffer.get(..length).unwrap_or_default();
            let mut counts = false;
            let whole = messages(bytes, |header, body| {
                counts |= self
                    .table
                    .as_ref()
                    .map_or_else(|| is_surrounding(header), |t| is_about(t, header, body));
            });
            // What can't be read may be about anything.
            if counts || whole.is_err() {
                heard = heard.max(Heard::Changed);
            }
        }
        Ok(heard)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_surrounding(header: &Header) -> bool {
    let kinds = [
        libc::RTM_NEWADDR,
        libc::RTM_DELADDR,
        libc::RTM_NEWROUTE,
        libc::RTM_DELROUTE,
    ];
    kinds.contains(&header.kind)
}

/// Whether somebody else did something to the table.
fn is_about(table: &str, header: &Header, body: &[u8]) -> bool {
    if is_ours(header.port) {
        return false;
    }
    let mut rest = body.get(NFGENMSG..).unwrap_or_default();
    let half = |bytes: &[u8], at: usize| -> Option<u16> {
        let two = bytes.get(at..at.checked_add(2)?)?;
        Some(u16::from_ne_bytes(two.try_into().ok()?))
    };
    while let (Some(length), Some(kind)) = (half(rest, 0), half(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else {
            return false;
        };
        if kind == TABLE {
            return value.strip_suffix(&[0]).unwrap_or(value) == table.as_bytes();
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::nftables::Nftables;
    use super::super::nftables::tests::{element, in_a_namespace, nft};
    use super::*;

    const ROOT: &str = "/var/ossec";
    const SOON: Duration = Duration::from_secs(2);
    const MOMENT: Duration = Duration::from_millis(50);

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.unwrap().success(), "ip {arguments}");
    }

    #[test]
    fn addresses_and_routes_are_heard() {
        in_a_namespace(|| {
            ip("link set lo up");
            ip("link add d0 type veth peer name d1");
            ip("link set d1 up");
            ip("link set d0 up");
            let mut watch = Watch::surroundings().unwrap();
            while watch.wait(Duration::from_millis(300)).unwrap() != Heard::Nothing {}
            for change in [
                "addr add 203.0.113.1/24 dev d0",
                "addr del 203.0.113.1/24 dev d0",
                "addr add 2001:db8::1/64 dev d0 nodad",
                "route add 198.51.100.0/24 dev d0",
                "-6 route add 2001:db8:1::/64 dev d0",
            ] {
                ip(change);
                assert_eq!(watch.wait(SOON).unwrap(), Heard::Changed, "{change}");
                while watch.wait(Duration::from_millis(100)).unwrap() != Heard::Nothing {}
            }
            ip("link set d0 mtu 1400");
            assert_eq!(watch.wait(MOMENT).unwrap(), Heard::Nothing);
        });
    }

    #[test]
    fn what_others_do_to_our_table_is_heard_and_what_we_do_is_not() {
        in_a_namespace(|| {
            let root = Path::new(ROOT);
            let table = table_name(root);
            let mut watch = Watch::table(root).unwrap();
            let mut nftables = Nftables::open(root, SOON).unwrap();
            nftables.set(&[element("203.0.113.7", 600)]).unwrap();
            nftables
                .set_networks(&["203.0.113.0/24".parse().unwrap()])
                .unwrap();
            assert_eq!(watch.wait(MOMENT).unwrap(), Heard::Nothing);
            for others in [
                "add table inet filter".to_owned(),
                "add chain inet filter input { type filter hook input priority 0 ; }".to_owned(),
                "delete table inet filter".to_owned(),
                format!("add table inet {table}2"),
            ] {
                nft(&others);
                assert_eq!(watch.wait(MOMENT).unwrap(), Heard::Nothing, "{others}");
            }
            for harm in [
                format!("delete element inet {table} blocked4 {{ 203.0.113.7 }}"),
                format!("add element inet {table} networks6 {{ 2001:db8::/32 }}"),
                format!("insert rule inet {table} early accept"),
                format!("add table inet {table} {{ flags dormant ; }}"),
                format!("flush table inet {table}"),
                "flush ruleset".to_owned(),
            ] {
                nft(&harm);
                assert_eq!(watch.wait(SOON).unwrap(), Heard::Changed, "{harm}");
                assert_eq!(watch.wait(MOMENT).unwrap(), Heard::Nothing, "{harm}");
            }
        });
    }

    #[test]
    fn what_is_lost_is_an_overrun() {
        in_a_namespace(|| {
            let root = Path::new(ROOT);
            let watch = Watch::table(root).unwrap();
            setsockopt(&watch.socket, sockopt::RcvBuf, &2048).unwrap();
            let mut watch = watch;
            for n in 0..100 {
                nft(&format!("add table inet {}{n}", table_name(root)));
            }
            assert_eq!(watch.wait(SOON).unwrap(), Heard::Overrun);
            assert_eq!(watch.wait(MOMENT).unwrap(), Heard::Nothing);
        });
    }
}
