//! Whether an effect is within its grant. Pure: the world is not asked here, and
//! whatever passes has still to pass the protect list.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Refusal;
use crate::address;
use crate::conf::grants::{FirewallGrant, Target};
use crate::event::Action;

/// The longest helper name that is worth looking up; longer ones are not names.
const LONGEST_HELPER_NAME: usize = 64;

/// The network in canonical form, if it is one at all.
///
/// # Errors
/// `invalid` when bits behind the prefix are set.
pub fn network(asked: IpNet) -> Result<IpNet, Refusal> {
    if asked.addr() != asked.network() {
        return Err(Refusal::invalid(format!(
            "{asked} has bits set behind its prefix; {} is the network",
            asked.trunc()
        )));
    }
    Ok(address::canonical_network(asked))
}

/// Whether a block of `asked` is within the grant and touches nothing protected.
///
/// # Errors
/// `invalid` for what is no network, `denied` for the rest.
pub fn block(
    asked: IpNet,
    action: Action,
    grant: Option<&FirewallGrant>,
    srcip: Option<IpAddr>,
    protects: impl FnOnce(IpNet) -> Result<Option<String>, Refusal>,
) -> Result<IpNet, Refusal> {
    if action == Action::Delete {
        return Err(Refusal::denied("a response can only release during delete"));
    }
    let network = network(asked)?;
    let grant = granted(grant)?;
    let widest = match network {
        IpNet::V4(_) => grant.widest_ipv4,
        IpNet::V6(_) => grant.widest_ipv6,
    };
    if network.prefix_len() < widest {
        return Err(Refusal::denied(format!(
            "{network} is wider than /{widest}, the widest that is granted"
        )));
    }
    target(network, grant, srcip)?;
    if let Some(refusal) = protects(network)? {
        return Err(Refusal::denied(format!(
            "{network} is protected: {refusal}"
        )));
    }
    Ok(network)
}

/// Whether the response may ask about `asked` or give it up.
///
/// # Errors
/// `invalid` for what is no network, `denied` without a grant.
pub fn release(asked: IpNet, grant: Option<&FirewallGrant>) -> Result<IpNet, Refusal> {
    granted(grant)?;
    network(asked)
}

/// Whether the response may ask if `asked` is blocked.
///
/// # Errors
/// As [`release`], and `denied` where it is not the granted target.
pub fn look(
    asked: IpNet,
    grant: Option<&FirewallGrant>,
    srcip: Option<IpAddr>,
) -> Result<IpNet, Refusal> {
    let network = network(asked)?;
    target(network, granted(grant)?, srcip)?;
    Ok(network)
}

/// A helper name as it may stand in the grants.
///
/// # Errors
/// `invalid` for anything that can't be one.
pub fn helper_name(name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > LONGEST_HELPER_NAME || !name.chars().all(plain) {
        return Err(Refusal::invalid(
            "a helper name has 1 to 64 letters, digits, `-`, `_` and `.`",
        ));
    }
    Ok(())
}

fn granted(grant: Option<&FirewallGrant>) -> Result<&FirewallGrant, Refusal> {
    grant.ok_or_else(|| Refusal::denied("no `firewall` grant"))
}

fn target(network: IpNet, grant: &FirewallGrant, srcip: Option<IpAddr>) -> Result<(), Refusal> {
    let inside = match &grant.target {
        Target::Any => true,
        Target::Srcip => srcip.is_some_and(|source| network.contains(&source)),
        Target::Networks(networks) => networks.iter().any(|n| n.contains(&network)),
    };
    if inside {
        return Ok(());
    }
    Err(Refusal::denied(match (&grant.target, srcip) {
        (Target::Srcip, Some(source)) => {
            format!("{network} is not the srcip of this event ({source}), which alone is granted")
        }
        (Target::Srcip, None) => "this event has no srcip, which alone is granted".to_owned(),
        _ => format!("{network} is in none of the granted networks"),
    }))
}
