//! `retort explain` and `retort protect`: why an address is blocked, or is not; what
//! an alert would start, and what not.

mod alert;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use ipnet::IpNet;
use serde::Serialize;

use super::Output;
use super::blocks::{self, Listed, PATIENCE};
use crate::address;
use crate::backend::{self, Backend, Seen};
use crate::conf::grants::BackendName;
use crate::effect::Refusal;
use crate::journal::{self, Journal, Now, Past};
use crate::report;
use crate::root::Root;

/// Runs that are shown of one address.
const SHOWN: u32 = 50;

#[derive(Serialize)]
struct Explained {
    /// A host, or a network with its prefix.
    address: String,
    /// Why it is never blocked, if it is not.
    protected: Option<String>,
    /// Seconds that the firewall keeps it; 0 for ever.
    in_firewall: Option<u64>,
    /// The network in the firewall that it is blocked with, if there is one.
    in_network: Option<String>,
    /// Those on it and on the networks around it.
    holds: Vec<Listed>,
    history: Vec<Past>,
}

/// An address, a network, or the file of an alert.
pub(super) fn explain(root: &Root, what: &str) -> anyhow::Result<Output> {
    match address::parse_network(what) {
        Some(network) => explain_network(root, network),
        None if Path::new(what).exists() => alert::explain(root, Path::new(what)),
        None => bail!(
            "`{}` is neither an IP address or network nor a file with an alert",
            report::escape(what, 64)
        ),
    }
}

/// Everything that is known of one host or network.
fn explain_network(root: &Root, network: IpNet) -> anyhow::Result<Output> {
    let mut broker = blocks::broker(root)?;
    let protected = broker
        .protect_list()
        .map_err(blocks::anyhow_of)?
        .refuses(network);
    let seen = broker
        .backend(BackendName::Nftables)
        .and_then(|backend| in_firewall(backend, network).map_err(|e| failed(&e)));
    let now = Now::read()?;
    let (holds, history) = match Journal::open_read_only(&root.journal(), PATIENCE) {
        Ok(journal) => (
            {
                let mut holds = blocks::holds_on(&journal, network)?;
                holds.extend(blocks::holds_around(&journal, network)?);
                holds
            },
            journal.history(SHOWN, Some(network))?,
        ),
        Err(journal::Error::Missing { .. }) => (Vec::new(), Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let address = address::spell(network);
    let mut human = format!("{address}\n");
    let _ = match &protected {
        Some(why) => writeln!(human, "  it is never blocked: {why}"),
        None => writeln!(human, "  it may be blocked: nothing protects it"),
    };
    let _ = match &seen {
        Ok((Some(Seen { expires_in, .. }), _)) => {
            let seconds = |left: Duration| Duration::from_secs(left.as_secs());
            let left = expires_in.map(|left| humantime::format_duration(seconds(left)));
            let until = left.map_or_else(String::new, |left| format!(", for {left}"));
            writeln!(human, "  it is in the firewall{until}")
        }
        Ok((None, Some(wide))) => {
            let wide = address::spell(*wide);
            writeln!(human, "  it is in the firewall, blocked with {wide}")
        }
        Ok((None, None)) => writeln!(human, "  it is not in the firewall"),
        Err(refusal) => writeln!(human, "  the firewall does not say: {}", refusal.reason),
    };
    let holds: Vec<Listed> = holds.iter().map(|hold| Listed::of(hold, &now)).collect();
    for hold in &holds {
        let of = if hold.address == address {
            String::new()
        } else {
            format!(" with {}", hold.address)
        };
        let _ = writeln!(human, "  held{of} by {}", hold.claim());
    }
    if history.is_empty() {
        human.push_str("  no response has seen it");
    } else {
        human.push_str(&blocks::in_words(&history)?);
    }
    let (seen, wide) = seen.unwrap_or_default();
    let forever = wide.map(|_| Seen::FOR_EVER);
    let explained = Explained {
        address,
        protected,
        in_firewall: seen
            .or(forever)
            .map(|seen| seen.expires_in.unwrap_or_default().as_secs()),
        in_network: wide.map(address::spell),
        holds,
        history,
    };
    Output::new(human, &explained)
}

/// What the firewall has of it: as a host, and the network that it is blocked with.
fn in_firewall(
    backend: &mut Backend,
    network: IpNet,
) -> Result<(Option<Seen>, Option<IpNet>), backend::Error> {
    let seen = match address::only(network) {
        Some(address) => backend.look(address)?,
        None => None,
    };
    let networks = backend.networks()?;
    let wide = networks.into_iter().find(|wide| wide.contains(&network));
    Ok((seen, wide))
}

fn failed(error: &backend::Error) -> Refusal {
    Refusal::failed(error.to_string())
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Protect {
    /// Lists it.
    List,
    /// Says whether a network may be blocked, and what protects it.
    Check {
        /// An address or a network.
        #[arg(value_parser = super::network)]
        network: IpNet,
    },
}

/// Whether a network may be blocked: exit status 1 where something protects it.
pub(super) fn protects(root: &Root, network: IpNet) -> anyhow::Result<Output> {
    let mut broker = blocks::broker(root)?;
    let list = broker.protect_list().map_err(blocks::anyhow_of)?;
    let why = list.refuses(address::canonical_network(network));
    let spelled = address::spell(network);
    let human = match &why {
        Some(why) => format!("{spelled} is never blocked: {why}"),
        None => format!("{spelled} may be blocked: nothing protects it"),
    };
    let protected = why.is_some();
    Ok(Output::new(
        human,
        &serde_json::json!({ "network": spelled, "protected": why }),
    )?
    .failed_if(protected))
}

#[derive(Serialize)]
struct Protected {
    network: String,
    why: String,
}

/// Everything that is never blocked, besides what no packet comes from.
pub(super) fn protect(root: &Root) -> anyhow::Result<Output> {
    let mut broker = blocks::broker(root)?;
    let list = broker.protect_list().map_err(blocks::anyhow_of)?;
    let entries: Vec<Protected> = list
        .entries()
        .iter()
        .map(|entry| Protected {
            network: entry.network.to_string(),
            why: entry.why.clone(),
        })
        .collect();
    let mut human = String::new();
    for entry in &entries {
        let _ = writeln!(human, "{:<43} {}", entry.network, entry.why);
    }
    human.push_str(
        "and loopback, multicast, link-local and unspecified addresses, and the white list",
    );
    Output::new(human, &entries)
}
