//! nftables over netlink. One table of our own, named after the root; nothing else
//! of the machine's rules is read or changed.

mod correct;
mod elements;
mod networks;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use netlink_bindings::nftables as nft;
use nix::libc;
use nix::sys::socket::SockProtocol;
use sha2::{Digest as _, Sha256};

pub use self::networks::union;

use self::networks::Range;
use super::netlink::Netlink;
use super::{Element, Error, Seen};

/// The family that sees IPv4 and IPv6 alike.
const INET: u8 = 1;

/// The longest time that an element gets. The kernel takes more, but no hold is
/// that long.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Elements of one message: well below what a netlink attribute (64 KiB) takes. And
/// of one transaction, where nothing asks for more.
const AT_ONCE: usize = 1000;

/// From here on one dump is cheaper than a look at each.
const WORTH_A_DUMP: usize = 500;

/// How often a transaction is tried again when the kernel's state moved under it:
/// an element expired, or someone else changed a rule.
const TRIES: usize = 5;

/// The table of one root.
#[derive(Debug)]
pub struct Nftables {
    netlink: Netlink,
    table: String,
    budget: Duration,
}

/// What a transaction begins with.
enum Start {
    /// The table as it is.
    Whole,
    /// A new one, empty still, and what the damaged one before it held.
    Anew {
        hosts: Vec<Element>,
        networks: Vec<Range>,
    },
}

/// The table's name: readable, and no two roots share it.
#[must_use]
pub fn table_name(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let digest = hex::encode(Sha256::digest(root.as_os_str().as_bytes()));
    let readable: String = root
        .to_string_lossy()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_'))
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .take(40)
        .collect();
    let readable = readable.trim_matches('_');
    format!("retort_{readable}_{}", digest.get(..8).unwrap_or_default())
}

impl Nftables {
    /// Opens the way to the kernel; the table is made with the first element.
    ///
    /// # Errors
    /// [`Error::NotSupported`] without netlink.
    pub fn open(root: &Path, budget: Duration) -> Result<Self, Error> {
        let netlink =
            Netlink::open(SockProtocol::NetlinkNetFilter, budget).map_err(Error::NotSupported)?;
        Ok(Self {
            netlink,
            table: table_name(root),
            budget,
        })
    }

    /// See [`super::Backend::set`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn set(&mut self, elements: &[Element]) -> Result<(), Error> {
        for elements in elements.chunks(AT_ONCE) {
            self.again("put addresses into the set", |nft| nft.set_once(elements))?;
        }
        Ok(())
    }

    fn set_once(&mut self, elements: &[Element]) -> io::Result<Result<(), Error>> {
        let addresses: BTreeSet<IpAddr> = elements.iter().map(|e| e.address).collect();
        let (mut batch, start) = match self.begin()? {
            Ok(begun) => begun,
            Err(error) => return Ok(Err(error)),
        };
        match start {
            Start::Whole => batch.remove(&self.present(&addresses)?),
            Start::Anew {
                mut hosts,
                networks,
            } => {
                hosts.retain(|element| !addresses.contains(&element.address));
                batch.add(&hosts);
                batch.add_ranges(&networks);
            }
        }
        batch.add(elements);
        self.commit(batch).map(Ok)
    }

    /// A transaction on a table that is whole, or is made with it. The kernel's
    /// generation is read first: what is found after it is still so when the
    /// transaction counts.
    fn begin(&mut self) -> io::Result<Result<(table::Batch, Start), Error>> {
        let mut batch = self.batch()?;
        let state = match self.state()? {
            Ok(state) => state,
            Err(error) => return Ok(Err(error)),
        };
        if state == table::State::Whole {
            return Ok(Ok((batch, Start::Whole)));
        }
        let (mut hosts, mut networks) = (Vec::new(), Vec::new());
        if state == table::State::Damaged {
            hosts = self.dump()?;
            networks = self.dump_ranges()?;
            batch.delete_table();
        }
        batch.create_table();
        let hosts = hosts
            .into_iter()
            .map(|(address, seen)| Element {
                address,
                timeout: seen.expires_in.unwrap_or(LONGEST),
                unjournaled: seen.unjournaled,
            })
            .collect();
        Ok(Ok((batch, Start::Anew { hosts, networks })))
    }

    /// See [`super::Backend::remove`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remove(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        for addresses in addresses.chunks(AT_ONCE) {
            self.again("take addresses out of the set", |nft| {
                let mut batch = nft.batch()?;
                match nft.state()? {
                    Ok(table::State::Missing) => return Ok(Ok(())),
                    Ok(_) => {}
                    Err(error) => return Ok(Err(error)),
                }
                let present = nft.present(&addresses.iter().copied().collect())?;
                if present.is_empty() {
                    return Ok(Ok(()));
                }
                batch.remove(&present);
                nft.commit(batch).map(Ok)
            })?;
        }
        Ok(())
    }

    /// See [`super::Backend::look`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn look(&mut self, address: IpAddr) -> Result<Option<Seen>, Error> {
        self.again("look for an address in the set", |nft| {
            nft.look_once(address).map(Ok)
        })
    }

    /// See [`super::Backend::list`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list(&mut self) -> Result<Vec<(IpAddr, Seen)>, Error> {
        self.again("list the set", |nft| match nft.state()? {
            Ok(table::State::Missing) => Ok(Ok(Vec::new())),
            Ok(_) => nft.dump().map(Ok),
            Err(error) => Ok(Err(error)),
        })
    }

    /// Whether the table is as we made it, or not there because nothing is blocked.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn is_whole(&mut self) -> Result<bool, Error> {
        self.again("look at the table", |nft| match nft.state()? {
            Ok(state) => Ok(Ok(state != table::State::Damaged)),
            Err(error) => Ok(Err(error)),
        })
    }

    /// Removes the table, if it is ours; whether there was one.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn drop_table(&mut self) -> Result<bool, Error> {
        self.again("remove the table", |nft| match nft.state()? {
            Ok(table::State::Missing) => Ok(Ok(false)),
            Ok(_) => {
                let mut batch = nft.batch()?;
                batch.delete_table();
                nft.commit(batch).map(|()| Ok(true))
            }
            Err(error) => Ok(Err(error)),
        })
    }

    /// The addresses among `addresses` that are in the set.
    fn present(&mut self, addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<IpAddr>> {
        if addresses.len() >= WORTH_A_DUMP {
            let all = self.dump()?.into_iter().map(|(address, _)| address);
            return Ok(all.filter(|address| addresses.contains(address)).collect());
        }
        let mut present = Vec::new();
        for address in addresses {
            if self.look_once(*address)?.is_some() {
                present.push(*address);
            }
        }
        Ok(present)
    }

    /// Does `work`, and does it again when the kernel's state moved under it.
    fn again<T>(
        &mut self,
        what: &'static str,
        mut work: impl FnMut(&mut Self) -> io::Result<Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut tries = 0_usize;
        loop {
            let error = match work(self) {
                Ok(done) => return done,
                Err(error) => error,
            };
            tries = tries.saturating_add(1);
            let moved = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ERESTART))
                || error.kind() == io::ErrorKind::Interrupted;
            if !moved || tries >= TRIES {
                return Err(self.named(what, error));
            }
        }
    }

    fn named(&self, what: &'static str, error: io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NotPermitted,
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL)
                if !table::kernel_has_nf_tables() =>
            {
                Error::NotSupported(error)
            }
            _ if error.kind() == io::ErrorKind::TimedOut => Error::Timeout(self.budget),
            _ => Error::Kernel { what, error },
        }
    }
}

fn header() -> nft::Nfgenmsg {
    nft::Nfgenmsg {
        nfgen_family: INET,
        ..Default::default()
    }
}
