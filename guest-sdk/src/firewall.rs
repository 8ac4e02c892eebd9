//! The firewall of the host. Grant: `firewall = { target = "srcip" }`.

use crate::{Error, Network};

#[cfg(target_family = "wasm")]
use crate::bindings::retort::response::firewall as host;
#[cfg(not(target_family = "wasm"))]
use crate::testing::firewall as host;

/// Drops everything that comes from the network, established connections included.
///
/// # Errors
/// `denied` where it is not the granted target or protected, and during delete.
pub fn block(network: Network) -> Result<(), Error> {
    host::block(network)
}

/// Gives up this response's own hold on the network. Without one it is ok too.
///
/// # Errors
/// `unavailable` where the firewall does not answer.
pub fn unblock(network: Network) -> Result<(), Error> {
    host::unblock(network)
}

/// Whether the network is blocked now, by whichever hold.
///
/// # Errors
/// `denied` where it is not the granted target.
pub fn is_blocked(network: Network) -> Result<bool, Error> {
    host::is_blocked(network)
}
