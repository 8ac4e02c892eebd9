//! Firewalls: what can hold an address, and say that it does. Typed all the way:
//! no shell, no text that a tool would parse again.

pub mod netlink;
pub mod nftables;

use std::net::IpAddr;
use std::time::Duration;

/// One address, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The address.
    pub address: IpAddr,
    /// Until the kernel lets it go by itself.
    pub timeout: Duration,
}

/// An address as the firewall has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Until the kernel lets it go; none for ever.
    pub expires_in: Option<Duration>,
}

/// Why a firewall did not do it. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No nftables in this kernel.
    #[error(
        "this kernel has no nf_tables ({0}); load the module nf_tables, or write backend = \"record\" under [firewall] in retort.toml"
    )]
    NotSupported(std::io::Error),
    /// Not the right to.
    #[error("no right to change the firewall (CAP_NET_ADMIN is missing): run it as root")]
    NotPermitted,
    /// A table of our name that is not ours.
    #[error(
        "the nftables table `inet {table}` is there and was not made by retort; look at it with `nft list table inet {table}`, and remove it if it can go"
    )]
    Foreign {
        /// Its name.
        table: String,
    },
    /// The kernel did not answer.
    #[error("the kernel did not answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The kernel said no.
    #[error("{what}: {error}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        error: std::io::Error,
    },
    /// The kernel's answer made no sense.
    #[error("{what}: the kernel's answer can't be read")]
    Unreadable {
        /// What was asked of it.
        what: &'static str,
    },
}

/// A firewall.
#[derive(Debug)]
pub enum Backend {
    /// The kernel's, with timeouts of its own.
    Nftables(nftables::Nftables),
    /// None: the journal alone knows.
    Record,
}

impl Backend {
    /// Puts the elements in, each for its time from now on, whether it was in
    /// before or not.
    ///
    /// # Errors
    /// See [`Error`]: none was put in then.
    pub fn set(&mut self, elements: &[Element]) -> Result<(), Error> {
        match self {
            Self::Nftables(nftables) => nftables.set(elements),
            Self::Record => Ok(()),
        }
    }

    /// Takes the addresses out. One that is not in is no error.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn remove(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        match self {
            Self::Nftables(nftables) => nftables.remove(addresses),
            Self::Record => Ok(()),
        }
    }

    /// The address as the firewall has it now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn look(&mut self, address: IpAddr) -> Result<Option<Seen>, Error> {
        match self {
            Self::Nftables(nftables) => nftables.look(address),
            Self::Record => Ok(None),
        }
    }

    /// Makes it as it has to be, where somebody changed it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn mend(&mut self) -> Result<bool, Error> {
        match self {
            Self::Nftables(nftables) => nftables.mend(),
            Self::Record => Ok(false),
        }
    }

    /// Every address that the firewall has now.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list(&mut self) -> Result<Vec<(IpAddr, Seen)>, Error> {
        match self {
            Self::Nftables(nftables) => nftables.list(),
            Self::Record => Ok(Vec::new()),
        }
    }

    /// Whether the firewall lets go by itself, and can say what it has.
    #[must_use]
    pub fn has_timeouts(&self) -> bool {
        matches!(self, Self::Nftables(_))
    }
}
