//! Firewalls: what can hold an address, and say that it does. Typed all the way:
//! no shell, no text that a tool would parse again.

pub mod netlink;
pub mod nftables;
pub mod pace;
pub mod watch;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::address;

/// One address, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// The address.
    pub address: IpAddr,
    /// Until the kernel lets it go by itself.
    pub timeout: Duration,
    /// No journal knows of it: the kernel's time alone will end it.
    pub unjournaled: bool,
}

/// An address as the firewall has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Until the kernel lets it go; none for ever.
    pub expires_in: Option<Duration>,
    /// It was put in as one that no journal knows of.
    pub unjournaled: bool,
}

impl Seen {
    /// As networks are.
    pub const FOR_EVER: Self = Self {
        expires_in: None,
        unjournaled: false,
    };
}

/// All that a firewall has of ours.
#[derive(Debug, Default)]
pub struct Found {
    /// The hosts, in order.
    pub hosts: Vec<(IpAddr, Seen)>,
    /// What is blocked by networks, as few of them as can say it, in order.
    pub networks: Vec<IpNet>,
}

/// What a firewall should have, where it has not.
#[derive(Debug, Default)]
pub struct Correction {
    /// Hosts to put in, or to give another time.
    pub set: Vec<Element>,
    /// Hosts to take out.
    pub remove: Vec<IpAddr>,
    /// The networks, where they are others.
    pub networks: Option<Vec<IpNet>>,
}

impl Correction {
    /// Whether all is as it should be.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty() && self.networks.is_none()
    }
}

/// What became of the firewall's table when it was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corrected {
    /// It was whole, or is not needed.
    Kept,
    /// There was none.
    Made,
    /// Somebody had changed it.
    Rebuilt,
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

    /// Makes the networks that are blocked these, and no other; hosts are not meant.
    /// None of them leaves by itself.
    ///
    /// # Errors
    /// See [`Error`]: nothing was changed then.
    pub fn set_networks(&mut self, wanted: &[IpNet]) -> Result<(), Error> {
        match self {
            Self::Nftables(nftables) => nftables.set_networks(wanted),
            Self::Record => Ok(()),
        }
    }

    /// What is blocked by networks, as few of them as can say it, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn networks(&mut self) -> Result<Vec<IpNet>, Error> {
        match self {
            Self::Nftables(nftables) => nftables.networks(),
            Self::Record => Ok(Vec::new()),
        }
    }

    /// Takes a host or network out, whether it went in as such or as a part of a wider
    /// one; whether any of it was in.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn take_out(&mut self, network: IpNet) -> Result<bool, Error> {
        if let Some(address) = address::only(network)
            && self.look(address)?.is_some()
        {
            return self.remove(&[address]).map(|()| true);
        }
        let has = self.networks()?;
        let rest: Vec<IpNet> = has
            .iter()
            .flat_map(|wide| without(*wide, network))
            .collect();
        if rest == has {
            return Ok(false);
        }
        self.set_networks(&rest).map(|()| true)
    }

    /// Looks at everything, and makes it as `judge` says, in one step: what changes
    /// meanwhile is judged again. A table that somebody changed is made anew, with what
    /// it held.
    ///
    /// # Errors
    /// See [`Error`]: nothing was changed then.
    pub fn correct(
        &mut self,
        judge: impl FnMut(&Found) -> Correction,
    ) -> Result<(Corrected, Correction), Error> {
        match self {
            Self::Nftables(nftables) => nftables.correct(judge),
            Self::Record => Ok((Corrected::Kept, Correction::default())),
        }
    }

    /// Every host that the firewall has now.
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

/// What is left of `from` without `gone`.
fn without(from: IpNet, gone: IpNet) -> Vec<IpNet> {
    if gone.contains(&from) {
        return Vec::new();
    }
    let mut left = Vec::new();
    let mut around = from;
    while around != gone && around.contains(&gone) {
        let narrower = around.prefix_len().saturating_add(1);
        let halves = around.subnets(narrower).into_iter().flatten();
        let (hit, free): (Vec<IpNet>, Vec<IpNet>) = halves.partition(|half| half.contains(&gone));
        left.extend(free);
        around = hit.first().copied().unwrap_or(gone);
    }
    if around != gone {
        left.push(around);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_leaves_the_rest() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (from, gone, left) in [
            ("10.0.0.0/8", "11.0.0.0/8", vec!["10.0.0.0/8"]),
            ("10.0.0.0/8", "10.0.0.0/8", vec![]),
            ("10.1.0.0/16", "10.0.0.0/8", vec![]),
            (
                "10.0.0.0/30",
                "10.0.0.2/32",
                vec!["10.0.0.0/31", "10.0.0.3/32"],
            ),
            ("2001:db8::/126", "2001:db8::/127", vec!["2001:db8::2/127"]),
            ("10.0.0.0/8", "2001:db8::/32", vec!["10.0.0.0/8"]),
        ] {
            let left: Vec<IpNet> = left.into_iter().map(net).collect();
            let mut found = without(net(from), net(gone));
            found.sort();
            assert_eq!(found, left, "{from} without {gone}");
        }
    }
}
