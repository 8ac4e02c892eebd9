//! Addresses and networks, in the contract's shape and in std's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bindings::retort::response::types::{IpAddress, IpNetwork};

/// An IP address as an [`Event`](crate::Event) has it.
pub type Address = IpAddress;

/// A block of addresses.
pub type Network = IpNetwork;

impl Network {
    /// The network of one host.
    #[must_use]
    pub fn host(address: Address) -> Self {
        let prefix_length = match address {
            Address::Ipv4(_) => 32,
            Address::Ipv6(_) => 128,
        };
        Self {
            address,
            prefix_length,
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::Ipv4(v4.octets().into()),
            IpAddr::V6(v6) => Self::Ipv6(v6.segments().into()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address {
            Address::Ipv4((a, b, c, d)) => Self::V4(Ipv4Addr::new(a, b, c, d)),
            Address::Ipv6((a, b, c, d, e, f, g, h)) => {
                Self::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for text in ["192.0.2.1", "2001:db8::1:2"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
        assert_eq!(Network::host(Address::Ipv4((1, 2, 3, 4))).prefix_length, 32);
    }
}
