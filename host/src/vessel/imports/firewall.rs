//! `retort:response/firewall`: turns the guest's network into an effect. What is
//! allowed is decided where the grants are, in the broker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use wasmtime::component::{HasData, Linker};

use super::bindings::retort::response::firewall::{self, IpNetwork};
use super::bindings::retort::response::types::{Error, IpAddress};
use super::{Calls, State};
use crate::effect::{Done, Effect};

struct Firewall<'a>(&'a mut Calls);
struct HasFirewall;

impl HasData for HasFirewall {
    type Data<'a> = Firewall<'a>;
}

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    firewall::add_to_linker::<State, HasFirewall>(linker, |state| Firewall(&mut state.calls))
}

impl firewall::Host for Firewall<'_> {
    async fn block(&mut self, network: IpNetwork) -> wasmtime::Result<Result<(), Error>> {
        let effect = match network_of(&network) {
            Ok(network) => Effect::Block { network },
            Err(error) => return self.0.count().map(|()| Err(error)),
        };
        Ok(self.0.perform(effect).await?.map(drop).map_err(Into::into))
    }

    async fn unblock(&mut self, network: IpNetwork) -> wasmtime::Result<Result<(), Error>> {
        let effect = match network_of(&network) {
            Ok(network) => Effect::Unblock { network },
            Err(error) => return self.0.count().map(|()| Err(error)),
        };
        Ok(self.0.perform(effect).await?.map(drop).map_err(Into::into))
    }

    async fn is_blocked(&mut self, network: IpNetwork) -> wasmtime::Result<Result<bool, Error>> {
        let effect = match network_of(&network) {
            Ok(network) => Effect::IsBlocked { network },
            Err(error) => return self.0.count().map(|()| Err(error)),
        };
        let answer = self.0.perform(effect).await?;
        Ok(answer
            .map(|done| matches!(done, Done::IsBlocked { blocked: true }))
            .map_err(Into::into))
    }
}

fn network_of(network: &IpNetwork) -> Result<IpNet, Error> {
    let address = address_of(&network.address);
    IpNet::new(address, network.prefix_length).map_err(|_| {
        Error::Invalid(format!(
            "/{} is too long for {address}",
            network.prefix_length
        ))
    })
}

fn address_of(address: &IpAddress) -> IpAddr {
    match *address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => {
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
        }
    }
}

/// The address in the contract's shape.
pub(in crate::vessel) fn contract_address(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(v4) => IpAddress::Ipv4(v4.octets().into()),
        IpAddr::V6(v6) => IpAddress::Ipv6(v6.segments().into()),
    }
}
