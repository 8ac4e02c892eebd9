//! A netlink socket that never waits longer than its budget.
//!
//! The messages are those of `netlink-bindings`. Its companion's socket can't be
//! given a timeout, and takes a batch of exactly 64 messages as acknowledged before
//! the kernel has spoken, so the socket is ours.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use netlink_bindings::traits::{NetlinkRequest, Protocol};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// One datagram of the kernel: dumps use up to 32 KiB.
pub(super) const DATAGRAM: usize = 64 << 10;

/// A dump of 100 000 elements has some thousand datagrams; more is no answer.
const DATAGRAMS: usize = 100_000;

/// What a socket takes in one piece without being told: about half of the usual
/// `wmem_default`. A larger batch asks for room.
const USUAL: usize = 100 << 10;

/// No batch is larger: some two million elements.
const LARGEST: usize = 64 << 20;

/// Room for the acknowledgements of the messages of a large batch.
const ACKNOWLEDGED: usize = 4 << 20;

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 16;

/// The port of every socket of this process that changes the firewall. Whoever hears
/// of a change knows by it whether it was this process's own.
static OURS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Whether the port is that of a socket of this process that changes the firewall.
pub(super) fn is_ours(port: u32) -> bool {
    let ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
    ours.contains(&port)
}

/// See the module.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    /// In [`OURS`].
    port: Option<u32>,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// A socket for `protocol` whose every wait ends after `budget`.
    ///
    /// # Errors
    /// The system's.
    pub fn open(protocol: SockProtocol, budget: Duration) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        let seconds = i64::try_from(budget.as_secs()).unwrap_or(i64::MAX);
        // A zero timeout would mean to wait for ever.
        let micros = i64::from(budget.subsec_micros()).max(i64::from(seconds == 0));
        let timeout = TimeVal::new(seconds, micros);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
        let mut port = None;
        if protocol == SockProtocol::NetlinkNetFilter {
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let own = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
            let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
            ours.insert(own);
            port = Some(own);
        }
        Ok(Self {
            socket,
            port,
            buffer: vec![0; DATAGRAM],
            sequence: 1,
        })
    }

    /// The next `count` sequence numbers.
    pub fn reserve(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(count).max(1);
        first
    }

    /// Sends one request; gives each answer to `each`, until the kernel is done.
    ///
    /// # Errors
    /// The kernel's, or `TimedOut`. `Interrupted` for a dump that changed under it.
    pub fn request<R: NetlinkRequest>(
        &mut self,
        request: &R,
        mut each: impl FnMut(R::ReplyType<'_>),
    ) -> io::Result<()> {
        let Protocol::Raw { request_type, .. } = request.protocol() else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let sequence = self.reserve(1);
        let length = HEADER.saturating_add(request.payload().len());
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        message.extend(request_type.to_ne_bytes());
        message.extend((request.flags() | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend(sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(request.payload());
        self.send(&message)?;
        let mut torn = false;
        for _ in 0..DATAGRAMS {
            let mut over = None;
            self.receive(MsgFlags::empty(), |header, body| {
                if header.sequence != sequence || over.is_some() {
                    return;
                }
                torn |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.kind {
                    NLMSG_ERROR | NLMSG_DONE => over = Some(verdict(body)),
                    _ => each(R::decode_reply(body)),
                }
            })?;
            match over {
                Some(Ok(())) if torn => return Err(io::ErrorKind::Interrupted.into()),
                Some(result) => return result,
                None => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends a batch, all or nothing, whose last acknowledged message has the number
    /// `last`. The kernel works on it before `send` returns, so every answer is there
    /// already.
    ///
    /// # Errors
    /// The first that the kernel names; nothing was changed then.
    pub fn batch(&mut self, messages: &[u8], last: u32) -> io::Result<()> {
        if messages.len() > LARGEST {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if messages.len() > USUAL {
            let room = messages.len().saturating_add(USUAL);
            setsockopt(&self.socket, sockopt::SndBufForce, &room)?;
            setsockopt(&self.socket, sockopt::RcvBufForce, &ACKNOWLEDGED)?;
        }
        self.send(messages)?;
        let mut first = None;
        let mut acknowledged = false;
        loop {
            let received = self.receive(MsgFlags::MSG_DONTWAIT, |header, body| {
                if header.kind != NLMSG_ERROR {
                    return;
                }
                match verdict(body) {
                    Ok(()) => acknowledged |= header.sequence == last,
                    Err(error) => first = first.take().or(Some(error)),
                }
            });
            match received {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => break,
                Err(e) => return Err(e),
            }
        }
        match first {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), message, MsgFlags::empty()) {
                Ok(sent) if sent == message.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive(&mut self, flags: MsgFlags, each: impl FnMut(&Header, &[u8])) -> io::Result<()> {
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(errno) => return Err(errno.into()),
            }
        };
        messages(self.buffer.get(..length).unwrap_or_default(), each)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            let mut ours = OURS.lock().unwrap_or_else(PoisonError::into_inner);
            ours.remove(&port);
        }
    }
}

/// Gives the messages of a datagram to `each`.
///
/// # Errors
/// `InvalidData` for one that is cut off.
pub(super) fn messages(mut rest: &[u8], mut each: impl FnMut(&Header, &[u8])) -> io::Result<()> {
    while let Some(header) = Header::read(rest) {
        let Some(body) = rest.get(HEADER..header.length) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        each(&header, body);
        rest = rest
            .get(header.length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    Ok(())
}

/// What a message begins with.
pub(super) struct Header {
    length: usize,
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// Of the socket that asked for it, or for what it tells of.
    pub(super) port: u32,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let word =
            |at: usize| -> Option<[u8; 4]> { bytes.get(at..at.saturating_add(4))?.try_into().ok() };
        let half =
            |at: usize| -> Option<[u8; 2]> { bytes.get(at..at.saturating_add(2))?.try_into().ok() };
        let length = usize::try_from(u32::from_ne_bytes(word(0)?)).ok()?;
        (length >= HEADER).then_some(())?;
        Some(Self {
            length,
            kind: u16::from_ne_bytes(half(4)?),
            flags: u16::from_ne_bytes(half(6)?),
            sequence: u32::from_ne_bytes(word(8)?),
            port: u32::from_ne_bytes(word(12)?),
        })
    }
}

/// The error number at the front of `NLMSG_ERROR` and `NLMSG_DONE`; 0 is an
/// acknowledgement.
fn verdict(body: &[u8]) -> io::Result<()> {
    let code = body
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code.saturating_neg()))
    }
}
