//! The protected names, looked up where waiting for DNS is allowed.

use std::net::IpAddr;

use crate::address;
use crate::effect::broker::Broker;

/// Looks the protected names up, here where waiting for DNS is allowed. A name that
/// is not found keeps what it stood for.
pub(super) fn refresh(broker: &mut Broker) -> Vec<(String, Result<Vec<IpAddr>, String>)> {
    use std::net::ToSocketAddrs as _;
    let names = broker.names();
    names
        .into_iter()
        .map(|name| {
            let found = (name.as_str(), 0_u16)
                .to_socket_addrs()
                .map_err(|e| e.to_string());
            let found = found.and_then(|addresses| {
                let addresses: Vec<IpAddr> =
                    addresses.map(|a| address::canonical(a.ip())).collect();
                broker
                    .remember(&name, &addresses)
                    .map_err(|refusal| refusal.reason)?;
                Ok(addresses)
            });
            (name, found)
        })
        .collect()
}
